"""Materials and textures of a batch, collected as shapes, ground and background ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth import decor
from imgsynth.batch import F64, I32, U8, Layers, Materials, Patterns, TexturePool
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError, SceneError
from imgsynth.materialspec import LayerSpec, MaterialSpec, NoiseTextureSpec, TextureSpec
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.textures import Chain, Role, build_mips, list_images, load_chain, noise_texture, pool
from imgsynth.yamlfile import nearest

Read = Callable[[str], NDArray[Any]]


@contextmanager
def asset(path: str) -> Iterator[None]:
    """Say of an asset that cannot be read where the scene asks for it."""
    try:
        yield
    except DataError as error:
        raise SceneError(str(error), path=path) from None


class TextureTable:
    """The textures of one batch: each file once, each noise texture once per row. Paths are relative to
    `folder`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._chains: list[U8 | Chain] = []
        self._files: dict[tuple[Path, tuple[int, int], Role], int] = {}
        self._held: dict[int, int] = {}  # id of a chain in _chains, which keeps it alive → its place

    def rows(self, spec: TextureSpec, read: Read, m: int, role: Role = "color") -> I32:
        """Texture ids (m,) for the rows of a material."""
        if spec.folder is not None:
            named = None if spec.file is None else read("file").astype(str)
            return self.pick(spec.folder, read("pick"), spec.svg_size, named, role)
        if spec.noise is not None:
            return self._noise(spec.noise, lambda name: read(f"noise.{name}"), m, role)
        path = self.folder / str(spec.image or spec.svg)
        return np.full(m, self.file(path, spec.svg_size, role), np.int32)

    def pick(
        self,
        folder: str,
        u: NDArray[Any],
        svg_size: tuple[int, int] = (256, 256),
        named: NDArray[Any] | None = None,
        role: Role = "color",
    ) -> I32:
        """Ids (m,) of the image of the folder that each u in [0, 1] picks, in the order of their names; of
        those `named` (m,) where given: NAME.svg, NAME.b.svg … are variants of one name.

        Raises:
            DataError: no such folder, or no image of that name in it.
        """
        files = list_images(self.folder / folder, svg=True)
        names = np.array([path.name.partition(".")[0] for path in files])
        out = np.empty(len(u), np.int32)
        for name in [None] if named is None else np.unique(named).tolist():
            among = np.arange(len(files)) if name is None else np.flatnonzero(names == name)
            if len(among) == 0:
                near = nearest(str(name), names.tolist())
                raise DataError(f"{self.folder / folder}: no image is named {name!r}{near}")
            rows = np.arange(len(u)) if named is None else np.flatnonzero(named == name)
            which = among[np.minimum((u[rows] * len(among)).astype(int), len(among) - 1)]
            for k in np.unique(which):
                out[rows[which == k]] = self.file(files[k], svg_size, role)
        return out

    def file(self, path: Path, svg_size: tuple[int, int], role: Role = "color") -> int:
        """The id of an image file's texture."""
        key = (path, svg_size, role)
        if key not in self._files:
            self._files[key] = len(self._chains)
            self._chains.append(load_chain(path, svg_size=svg_size, role=role))
        return self._files[key]

    def image(self, chain: Chain) -> int:
        """The id of a texture at hand, by its mip chain; the same one again has the same id."""
        if id(chain) not in self._held:
            self._held[id(chain)] = len(self._chains)
            self._chains.append(chain)
        return self._held[id(chain)]

    def sizes(self, index: I32) -> F64:
        """(m, 2) height and width of the textures."""
        first = [c if isinstance(c, np.ndarray) else c[0] for c in self._chains]
        return np.array([first[k].shape[:2] for k in index], np.float64).reshape(-1, 2)

    def pool(self) -> TexturePool:
        """All textures with their mip chains."""
        return pool(self._chains) if self._chains else TexturePool.empty()

    def _noise(self, spec: NoiseTextureSpec, read: Read, m: int, role: Role = "color") -> I32:
        """One texture for each distinct set of parameters."""
        kinds, kind = np.unique(read("kind").astype(str), return_inverse=True)
        parameters = np.concatenate(
            [kind[:, None], read("seed")[:, None], read("cells")[:, None], read("a"), read("b")], 1
        )
        distinct, where = np.unique(parameters, axis=0, return_inverse=True)
        ids = np.empty(len(distinct), np.int32)
        for k, name in enumerate(kinds):
            here = np.flatnonzero(distinct[:, 0] == k)
            a, b = srgb_to_linear(distinct[here, 3:6]), srgb_to_linear(distinct[here, 6:9])
            made = noise_texture(
                distinct[here, 1].astype(np.uint64),
                a,
                b,
                kind=str(name),
                cells=distinct[here, 2],
                size=spec.size,
            )
            ids[here] = np.arange(len(here)) + len(self._chains)
            chains = made if role == "color" else [tuple(build_mips(image, role)) for image in made]
            self._chains.extend(chains)
        return ids[where.reshape(m)]


class MaterialTable:
    """The materials of one batch, one for each row that asks."""

    def __init__(self, textures: TextureTable) -> None:
        self._textures = textures
        self._parts: list[Materials] = []
        self._count = 0

    def add(self, spec: MaterialSpec, read: Read, m: int, *, own: FileMaterial | None = None) -> I32:
        """Material ids (m,) for m rows. `own` is a mesh file's, for what the scene does not give."""
        own = own or FileMaterial()

        def value(name: str, given: Any = None) -> NDArray[Any]:
            """The scene's values, or the file's where it has one and the scene is silent."""
            if given is None or name in spec.model_fields_set:
                return srgb_to_linear(read(name)) if name == "color" else read(name)
            return np.broadcast_to(given, (m, *np.shape(given)))

        def textures(name: str, role: Role, given: Chain | None) -> I32:
            wanted: TextureSpec | None = getattr(spec, name)
            if wanted is not None:
                return self._textures.rows(wanted, lambda leaf: read(f"{name}.{leaf}"), m, role)
            return np.full(m, -1 if given is None else self._textures.image(given), np.int32)

        base = value("color", own.color)
        glow = own.emission if "emission" not in spec.model_fields_set else None
        if glow is None:
            lit = spec.emission_texture is None and own.emission_texture is None
            emission = read("emission")[:, None] * (base if lit else np.ones(3))
        else:
            emission = value("emission", glow)
        pattern = spec.pattern
        part = Materials(
            decor.f32(base), decor.f32(value("metallic", own.metallic)),
            decor.f32(value("roughness", own.roughness)), decor.f32(emission),
            textures("texture", "color", own.texture),
            decor.f32(np.repeat(read("repeat")[:, None], 2, 1)),
            decor.f32(value("alpha_cutoff", None if spec.texture is not None else own.alpha_cutoff)),
            normal_texture=textures("normal", "normal", own.normal),
            normal_scale=decor.f32(value("normal_scale", own.normal_scale)),
            surface_texture=textures("surface", "data", own.surface),
            emission_texture=textures("emission_texture", "color", own.emission_texture),
            clearcoat=decor.f32(value("clearcoat", own.clearcoat)),
            clearcoat_roughness=decor.f32(value("clearcoat_roughness", own.clearcoat_roughness)),
            pattern=np.arange(m, dtype=np.int32) if pattern else np.full(m, -1, np.int32),
            patterns=decor.patterns(pattern, lambda leaf: read(f"pattern.{leaf}"), m) if pattern else None,
            layer_range=len(spec.layers) * (np.arange(m)[:, None] + np.arange(2)).astype(np.int32),
            layers=self._layers(spec.layers, read, m) if spec.layers else None,
        )  # fmt: skip
        self._parts.append(part)
        self._count += m
        return np.arange(self._count - m, self._count, dtype=np.int32)

    def _layers(self, specs: Mapping[str, LayerSpec], read: Read, m: int) -> Layers:
        """The layers of m rows, those of one row side by side."""
        parts = []
        for name, spec in specs.items():

            def below(leaf: str, at: str = f"layers.{name}") -> NDArray[Any]:
                return read(f"{at}.{leaf}")

            kind = spec.kind
            picture: TextureSpec | None = getattr(getattr(spec, kind), "texture", None)
            texture = np.full(m, -1, np.int32)
            if picture is not None:
                texture = self._textures.rows(
                    picture, lambda leaf, at=f"{kind}.texture", of=below: of(f"{at}.{leaf}"), m  # type: ignore[misc]
                )  # fmt: skip
            parts.append(decor.layers(spec, below, m, texture))
        every = decor.joined(Layers, parts)
        order = np.arange(len(parts) * m).reshape(len(parts), m).T.reshape(-1)
        return Layers(*(getattr(every, f.name)[order] for f in fields(Layers)))

    def table(self) -> Materials:
        """All materials so far; one grey one where nobody asked, so that there is always a row 0."""
        if not self._count:
            one = np.ones(1, np.float32)
            return Materials(
                0.5 * np.ones((1, 3), np.float32), 0 * one, one, np.zeros((1, 3), np.float32),
                np.full(1, -1, np.int32), np.ones((1, 2), np.float32), 0 * one,
            )  # fmt: skip
        patterns = [part.patterns for part in self._parts if part.patterns is not None]
        layers = [part.layers for part in self._parts if part.layers is not None]
        every = decor.joined(Materials, [replace(part, patterns=_NONE, layers=_NONE) for part in self._parts])
        return replace(
            every,
            pattern=np.concatenate(
                [
                    np.where(part.pattern >= 0, part.pattern + first, -1)
                    for part, first in zip(
                        self._parts, _first([p.patterns for p in self._parts]), strict=True
                    )
                ]
            ).astype(np.int32),
            patterns=decor.joined(Patterns, patterns) if patterns else None,
            layer_range=np.concatenate(
                [
                    part.layer_range + (first if part.layers is not None else 0)
                    for part, first in zip(self._parts, _first([p.layers for p in self._parts]), strict=True)
                ]
            ).astype(np.int32),
            layers=decor.joined(Layers, layers) if layers else None,
        )


_NONE: Any = np.zeros(0)


def _first(tables: Sequence[Patterns | Layers | None]) -> list[int]:
    """Where each table starts once they are put end to end."""
    sizes = [0 if table is None else len(table) for table in tables]
    return [sum(sizes[:k]) for k in range(len(sizes))]
