"""A frame of a `SceneBatch` as Mitsuba objects: its parts with their matter, and the light on them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from imgsynth.errors import ImgsynthError
from imgsynth.render.dress import Dresser, Worn
from imgsynth.render.mitsuba_lights import emitters
from imgsynth.render.mitsuba_matter import description, image
from imgsynth.render.parts import FrameParts, Part
from imgsynth.render.skins import Skin, on_one_grid

APART = 1e-5  # units from a glowing sheet's middle to each of its sides


def engine() -> Any:
    """Mitsuba with its scalar RGB variant, one thread.

    Raises:
        ImgsynthError: it is not installed.
    """
    try:
        import drjit
        import mitsuba
    except ImportError as error:
        raise ImgsynthError(f"--renderer mitsuba: pip install 'imgsynth[mitsuba]' ({error})") from None
    mitsuba.set_variant("scalar_rgb")
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    drjit.set_thread_count(1)
    return mitsuba


def mesh_object(mi: Any, name: str, part: Part, bsdf: Any = None, emitter: Any = None) -> Any:
    """A Mitsuba mesh of a part's triangles."""
    props = mi.Properties()
    if bsdf is not None:
        props["bsdf"] = bsdf
    if emitter is not None:
        props["emitter"] = emitter
    mesh = mi.Mesh(name, len(part.vertices), len(part.faces), has_vertex_normals=True,
                   has_vertex_texcoords=True, props=props)  # fmt: skip
    values = mi.traverse(mesh)
    values["vertex_positions"] = np.ascontiguousarray(part.vertices, np.float32).ravel()
    values["vertex_normals"] = np.ascontiguousarray(part.normals, np.float32).ravel()
    values["vertex_texcoords"] = np.ascontiguousarray(part.uv, np.float32).ravel()
    values["faces"] = np.ascontiguousarray(part.faces, np.uint32).ravel()
    values.update()
    return mesh


@dataclass
class FrameScene(FrameParts):
    """One frame's parts, and the Mitsuba objects made of them.

    Args:
        batch: the frames.
        frame: which of them.
        mi: Mitsuba.
        dresser: of the batch.
        bsdfs: scattering laws made so far, kept for the batch's other frames.
    """

    mi: Any
    dresser: Dresser
    bsdfs: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def bare(self) -> list[Any]:
        """A mesh for each part, without material: what label rays meet."""
        return [mesh_object(self.mi, f"part{i}", part) for i, part in enumerate(self.parts)]

    def geometry(self, row: int | None = None) -> Any:
        """A Mitsuba scene of the bare parts: of all, or of one instance alone."""
        chosen = {f"part{i}": m for i, m in enumerate(self.bare) if row is None or self.parts[i].row == row}
        return self.mi.load_dict({"type": "scene", **chosen}, optimize=False)

    @cached_property
    def dressed(self) -> list[Worn]:
        """The parts as light meets them, and what they are made of."""
        return self.dresser.dress(self)

    @property
    def glows(self) -> bool:
        """Whether some part shines."""
        return any(worn.skin.glows for worn in self.dressed)

    def lit(self) -> Any:
        """The scene under all light but what its parts shine with."""
        made = {
            f"part{i}": mesh_object(self.mi, f"part{i}", worn.part, self.bsdf(worn))
            for i, worn in enumerate(self.dressed)
        }
        return self.mi.load_dict({"type": "scene", **made, **emitters(self.mi, self)}, optimize=False)

    def aglow(self) -> Any:
        """The scene in the light of its own parts only."""
        made = {}
        for i, worn in enumerate(self.dressed):
            part, sides = worn.part, [worn.part]
            if worn.skin.glows and part.two_sided:  # an emitter has one side
                shift = part.normals * APART
                behind = replace(part, normals=-part.normals, faces=part.faces[:, ::-1])
                sides = [
                    replace(part, vertices=part.vertices + shift),
                    replace(behind, vertices=part.vertices - shift),
                ]
            for j, side in enumerate(sides):
                name = f"part{i}side{j}"
                made[name] = mesh_object(self.mi, name, side, self.bsdf(worn), self.glow(worn.skin))
        return self.mi.load_dict({"type": "scene", **made}, optimize=False)

    def glow(self, matter: Skin) -> Any:
        """The emitter of a part that shines, or None; a texture's holes are dark."""
        if not matter.glows:
            return None
        there = np.ones((1, 1)) if matter.opacity is None else matter.opacity
        emission, there = on_one_grid(matter.emission, there)
        return self.mi.load_dict({"type": "area", "radiance": image(self.mi, emission * there[..., None])})

    def bsdf(self, worn: Worn) -> Any:
        """The scattering law of a part."""
        key = (worn.part.material, worn.part.mirrored)
        if key in self.bsdfs and not worn.tailored:
            return self.bsdfs[key]
        matter = worn.skin
        if worn.part.mirrored and matter.normal is not None:
            matter = replace(matter, normal=matter.normal * [1.0, -1.0, 1.0])
        made = self.mi.load_dict(description(self.mi, matter))
        if not worn.tailored:
            self.bsdfs[key] = made
        return made
