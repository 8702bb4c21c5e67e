"""Materials and textures of a batch, collected as shapes, ground and background ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I32, U8, Materials, TexturePool
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError, SceneError
from imgsynth.materialspec import MaterialSpec, NoiseTextureSpec, TextureSpec
from imgsynth.shapes.filematerial import FileMaterial
from imgsynth.textures import Chain, list_images, load_chain, noise_texture, pool
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
        self._files: dict[tuple[Path, tuple[int, int]], int] = {}
        self._held: dict[int, int] = {}  # id of a chain in _chains, which keeps it alive → its place

    def rows(self, spec: TextureSpec, read: Read, m: int) -> I32:
        """Texture ids (m,) for the rows of a material."""
        if spec.folder is not None:
            named = None if spec.file is None else read("file").astype(str)
            return self.pick(spec.folder, read("pick"), spec.svg_size, named)
        if spec.noise is not None:
            return self._noise(spec.noise, lambda name: read(f"noise.{name}"), m)
        return np.full(m, self.file(self.folder / str(spec.image or spec.svg), spec.svg_size), np.int32)

    def pick(
        self,
        folder: str,
        u: NDArray[Any],
        svg_size: tuple[int, int] = (256, 256),
        named: NDArray[Any] | None = None,
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
                out[rows[which == k]] = self.file(files[k], svg_size)
        return out

    def file(self, path: Path, svg_size: tuple[int, int]) -> int:
        """The id of an image file's texture."""
        key = (path, svg_size)
        if key not in self._files:
            self._files[key] = len(self._chains)
            self._chains.append(load_chain(path, svg_size=svg_size))
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

    def _noise(self, spec: NoiseTextureSpec, read: Read, m: int) -> I32:
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
            self._chains.extend(made)
        return ids[where.reshape(m)]


class MaterialTable:
    """The materials of one batch, one for each row that asks."""

    def __init__(self, textures: TextureTable) -> None:
        self._textures = textures
        self._columns: list[tuple[NDArray[Any], ...]] = []
        self._count = 0

    def add(self, spec: MaterialSpec, read: Read, m: int, *, own: FileMaterial | None = None) -> I32:
        """Material ids (m,) for m rows. `own` is a mesh file's, for what the scene does not give."""

        def value(name: str, given: Any) -> NDArray[Any]:
            """The scene's values, or the file's where it has one and the scene is silent."""
            if given is None or name in spec.model_fields_set:
                return srgb_to_linear(read(name)) if name == "color" else read(name)
            return np.broadcast_to(given, (m, *np.shape(given)))

        own = own or FileMaterial()
        base = value("color", own.color)
        if spec.texture is not None:
            textures = self._textures.rows(spec.texture, lambda name: read(f"texture.{name}"), m)
        else:
            textures = np.full(m, -1 if own.texture is None else self._textures.image(own.texture), np.int32)
        repeat = np.repeat(read("repeat")[:, None], 2, 1)
        glows = own.emission is not None and "emission" not in spec.model_fields_set
        emission = value("emission", own.emission) if glows else read("emission")[:, None] * base
        cutoff = value("alpha_cutoff", None if spec.texture is not None else own.alpha_cutoff)
        metallic, roughness = value("metallic", own.metallic), value("roughness", own.roughness)
        self._columns.append((base, metallic, roughness, emission, textures, repeat, cutoff))
        self._count += m
        return np.arange(self._count - m, self._count, dtype=np.int32)

    def table(self) -> Materials:
        """All materials so far; one grey one where nobody asked, so that there is always a row 0."""
        columns = (
            self._columns
            if self._count
            else [
                (
                    np.full((1, 3), 0.5),
                    np.zeros(1),
                    np.ones(1),
                    np.zeros((1, 3)),
                    np.full(1, -1),
                    np.ones((1, 2)),
                    np.zeros(1),
                )
            ]
        )
        color, metallic, roughness, emission, texture, repeat, cutoff = (
            np.concatenate(c) for c in zip(*columns, strict=True)
        )
        f32 = np.float32
        return Materials(
            color.astype(f32), metallic.astype(f32), roughness.astype(f32), emission.astype(f32),
            texture.astype(np.int32), repeat.astype(f32), cutoff.astype(f32),
        )  # fmt: skip
