"""A batch of frames as structs of arrays: what composing a scene yields and every renderer takes.

Nothing here knows about distributions or files; nothing here renders. Lengths in metres, colours in linear
RGB, float32 unless said otherwise. `n` frames, `I` instances over all frames, `M` meshes, `V` vertices, `F`
triangles, `S` material slots, `A` materials, `T` textures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Meshes:
    """`m` meshes of one topology: what a shape makes of its (vectorized) parameters.

    Triangles wind counter-clockwise seen from outside. `slots` gives each triangle's material slot (0 is the
    object's own material; a shape names the others in `slot_names`). `directions` names directions in the
    object's frame (a die's numbers, a box's sides), so that a class can be read off the pose. `keypoints`
    names points on or in the object, before the instance's scale.
    """

    vertices: F32  # (m, v, 3) object frame, metres
    normals: F32  # (m, v, 3) unit shading normals
    uv: F32  # (v, 2) or (m, v, 2); v grows upwards as in OBJ
    faces: I32  # (f, 3) indices into v
    slots: I32  # (f,)
    slot_names: tuple[str, ...] = ("main",)
    two_sided: bool = False
    directions: Mapping[str, F32] = field(default_factory=dict)  # name → (3,) unit, or (m, 3) by mesh
    keypoints: Mapping[str, F32] = field(default_factory=dict)  # name → (3,) object frame, or (m, 3) by mesh

    def __len__(self) -> int:
        return len(self.vertices)


@dataclass(frozen=True)
class MeshKeypoints:
    """The keypoints that a scene asks to have labelled, of all meshes of a batch, end to end.

    Mesh k owns rows [start[k], start[k+1]).
    """

    name: NDArray[np.object_]  # (P,)
    position: F32  # (P, 3) object frame, before the instance's scale
    start: I64  # (M + 1,)


@dataclass(frozen=True)
class MeshPool:
    """All meshes of a batch, flattened. Mesh k owns vertices [vertex_start[k], vertex_start[k+1]), faces
    likewise.
    """

    vertices: F32  # (V, 3)
    normals: F32  # (V, 3)
    uv: F32  # (V, 2)
    faces: I32  # (F, 3) local to the mesh: add vertex_start
    slots: I32  # (F,)
    vertex_start: I64  # (M + 1,)
    face_start: I64  # (M + 1,)
    two_sided: NDArray[np.bool_]  # (M,)
    keypoints: MeshKeypoints | None = None  # None where no object has any labelled


@dataclass(frozen=True)
class TexturePool:
    """RGBA textures, sRGB-encoded 8 bit, straight alpha, with their mip chains (2×2 box in linear light).

    Texture t has levels first_level[t] .. first_level[t+1]-1; level l is `level_size[l]` (height, width)
    texels starting at `level_start[l]`, row 0 at the top (v = 1). Level 0 is the image itself.

    Textures that a material uses for data are not sRGB: `surface_texture` holds values / 255, averaged as
    they are; `normal_texture` holds unit normals as 128 + 127 · (x, y, z), and in alpha 255 · (1 - s), where
    s² is the variance of slopes that averaging took away (Toksvig, "Mipmapping normal maps", 2005).
    """

    texels: U8  # (texels, 4)
    first_level: I32  # (T + 1,)
    level_start: I64  # (L,)
    level_size: I32  # (L, 2)

    def __len__(self) -> int:
        return len(self.first_level) - 1

    @staticmethod
    def empty() -> TexturePool:
        """No textures."""
        return TexturePool(
            np.zeros((1, 4), np.uint8),
            np.zeros(1, np.int32),
            np.zeros(1, np.int64),
            np.ones((1, 2), np.int32),
        )


PATTERN_KINDS = ("fbm", "worley", "checker", "stripes", "wood", "marble", "brick", "gradient")
FBM, WORLEY, CHECKER, STRIPES, WOOD, MARBLE, BRICK, RAMP = range(8)


@dataclass(frozen=True)
class Patterns:
    """`p` procedural patterns of two colours, worked out by the renderer at the points it sees.

    The pattern's own point is `frame` · x + `offset`, x the point in the object's frame, its scale applied
    (metres; of the ground: world), or (u, v, 0) in repeats of the texture where `mapped`. What each kind
    makes of it: `imgsynth.render.patterns`; columns that a kind has no use for are ignored.
    """

    kind: I32  # (p,) index into PATTERN_KINDS
    mapped: NDArray[np.bool_]  # (p,)
    frame: F32  # (p, 3, 3)
    offset: F32  # (p, 3)
    color_a: F32  # (p, 3)
    color_b: F32  # (p, 3)
    seed: NDArray[np.uint32]  # (p,)
    octaves: I32  # (p,)
    gain: F32  # (p,) of an octave's amplitude on the last's
    contrast: F32  # (p,) fbm
    warp: F32  # (p,) wood, marble
    mortar: F32  # (p,) brick: share of a course's height
    variation: F32  # (p,) brick: how much brighter or darker single bricks are

    def __len__(self) -> int:
        return len(self.kind)


LAYER_KINDS = ("dirt", "fading", "scratches", "stickers", "decal")
DIRT, FADING, SCRATCHES, STICKERS, DECAL = range(5)


@dataclass(frozen=True)
class Layers:
    """`l` layers that lie over materials: each changes colour, roughness and metal where it covers.

    `imgsynth.render.layers` says what each kind makes of its columns; those it has no use for are ignored.
    """

    kind: I32  # (l,) index into LAYER_KINDS
    mapped: NDArray[np.bool_]  # (l,) over texture coordinates, not in the object's frame
    color_a: F32  # (l, 3)
    color_b: F32  # (l, 3) stickers: each has a colour of its own between the two
    coverage: F32  # (l,) share of the surface
    strength: F32  # (l,) 0..1: how much of what is below it hides
    roughness: F32  # (l,) perceptual
    metallic: F32  # (l,)
    scale: F32  # (l,) dirt, fading: a blotch; stickers: the cell that holds one: metres or units of uv
    width: F32  # (l,) scratches
    length: F32  # (l,)
    softness: F32  # (l,) dirt, fading: of the edges, in standard deviations of the noise
    seed: NDArray[np.uint32]  # (l,)
    texture: I32  # (l,) decal, stickers; -1 = none
    place: F32  # (l, 2, 3) decal: (u, v, 1) to coordinates of its picture, 0..1, downwards

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Materials:
    """Metallic-roughness materials (glTF 2.0 §3.9): base colour is multiplied by the texture where there is
    one, and by the pattern.

    What stands after `alpha_cutoff` may be left out: no such texture, no coat, no pattern. Textures named in
    `normal_texture` and `surface_texture` hold data, not colours; see `TexturePool`.
    """

    base_color: F32  # (A, 3)
    metallic: F32  # (A,)
    roughness: F32  # (A,) perceptual, 0..1
    emission: F32  # (A, 3) radiance
    texture: I32  # (A,) -1 = none
    uv_scale: F32  # (A, 2) texture repeats per unit of uv
    alpha_cutoff: F32  # (A,) texture alpha below it is not there, for colour and labels alike; 0 = opaque
    normal_texture: I32 = None  # type: ignore[assignment]  # (A,) tangent space, +y along v
    normal_scale: F32 = None  # type: ignore[assignment]  # (A,) of its x and y
    surface_texture: I32 = None  # type: ignore[assignment]  # (A,) green · roughness, blue · metallic
    emission_texture: I32 = None  # type: ignore[assignment]  # (A,) · emission
    clearcoat: F32 = None  # type: ignore[assignment]  # (A,) KHR_materials_clearcoat: weight, 0 = none
    clearcoat_roughness: F32 = None  # type: ignore[assignment]  # (A,) perceptual
    pattern: I32 = None  # type: ignore[assignment]  # (A,) row of `patterns`, -1 = none
    patterns: Patterns | None = None
    layer_range: I32 = None  # type: ignore[assignment]  # (A, 2) first and last + 1 row of `layers`, in order
    layers: Layers | None = None

    def __post_init__(self) -> None:
        count = len(self.metallic)
        for names, value in (
            (("normal_texture", "surface_texture", "emission_texture", "pattern"), np.int32(-1)),
            (("clearcoat", "clearcoat_roughness"), np.float32(0)),
            (("normal_scale",), np.float32(1)),
        ):
            for name in names:
                if getattr(self, name) is None:
                    object.__setattr__(self, name, np.full(count, value))
        if self.layer_range is None:
            object.__setattr__(self, "layer_range", np.zeros((count, 2), np.int32))

    @property
    def plain(self) -> bool:
        """Whether all are constants and at most a base-colour texture."""
        textures = (self.normal_texture, self.surface_texture, self.emission_texture, self.pattern)
        layered = np.any(self.layer_range[:, 1] > self.layer_range[:, 0])
        return not (layered or np.any(self.clearcoat > 0) or any(np.any(t >= 0) for t in textures))


@dataclass(frozen=True)
class Lens:
    """How the cameras' lenses bend what a pinhole sees: models and fields as in `imgsynth.lens`."""

    kind: I32  # (n,) 0 pinhole, 1 Brown–Conrady, 2 Kannala–Brandt
    coefficients: F64  # (n, 8) in OpenCV's order


@dataclass(frozen=True)
class Cameras:
    """Cameras, OpenCV axes. `k` in pixels of the output image (pixel (0,0) covers [0,1)²).

    With a `lens`, K takes *bent* normalized points to pixels, as OpenCV's camera matrix does.
    """

    k: F64  # (n, 3, 3)
    world_from_camera: F64  # (n, 4, 4) rigid
    near: F64  # (n,) metres; nothing closer along z is seen
    lens: Lens | None = None  # None: pinholes all


POINT, SPOT, RECTANGLE = 0, 1, 2


@dataclass(frozen=True)
class Lamps:
    """The lamps of all frames, sorted by frame; they shine and are not seen. World frame, metres, radians.

    POINT: `radiant` is the intensity (W/sr). SPOT: that times 1 within half the `cone`'s first angle of the
    axis `direction`, 0 beyond half its second, linear in the angle between. RECTANGLE: `radiant` is the
    radiance (W/(m²·sr)) on the side that `direction` points to; `size` is its extent along `across` (width)
    and along direction × across (height). `size[:, 0]` of the others is a radius that softens shadows and
    widens highlights.
    """

    frame: I32  # (m,) position in the batch
    kind: I32  # (m,)
    position: F64  # (m, 3) the middle
    direction: F64  # (m, 3) unit
    across: F64  # (m, 3) unit, across direction
    size: F32  # (m, 2)
    cone: F32  # (m, 2) full angles
    radiant: F32  # (m, 3)
    shadows: NDArray[np.bool_]  # (m,)
    mapped: NDArray[np.bool_] | None = None  # (m,) shadows by maps, of points and spots; None: by rays all

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Environments:
    """Light from all around: equirectangular maps of radiance, and the one that each frame has.

    A map's middle looks along +x, azimuth (counter-clockwise from above) grows to its left, its top row is
    +z. A frame's is turned by `turn` radians counter-clockwise about +z and multiplied by `scale`.
    """

    maps: tuple[F32, ...]  # each (h, 2h, 3)
    index: I32  # (n,) -1 = none
    turn: F64  # (n,)
    scale: F32  # (n,)
    visible: NDArray[np.bool_]  # (n,) whether it is the background


@dataclass(frozen=True)
class Lights:
    """One sun and one constant ambient radiance a frame, any lamps, and an environment map at most.

    `samples` shadow rays a pixel go to what is not a point, and around for `occlusion`; `seed` (n,) makes
    their pattern. `occlusion` says how much of the light from around (ambient, environment) is held back
    where objects or the ground stand before it, 0 (none) to 1 (all).
    """

    sun_direction: F32  # (n, 3) unit, from the scene towards the sun
    sun_irradiance: F32  # (n, 3) on a surface facing the sun; 0 = no sun
    ambient: F32  # (n, 3) radiance from everywhere
    shadows: NDArray[np.bool_]  # (n,)
    lamps: Lamps | None = None
    samples: int = 16
    seed: NDArray[np.uint32] | None = None  # (n,)
    environments: Environments | None = None
    occlusion: F32 | None = None  # (n,) 0 … 1
    sun_radius: F32 | None = None  # (n,) radians, half the angle that the sun fills


@dataclass(frozen=True)
class Ground:
    """An infinite plane z = height a frame, facing up; background for the labels (instance 0)."""

    present: NDArray[np.bool_]  # (n,)
    height: F32  # (n,)
    material: I32  # (n,); uv = world xy in metres


FLAT, GRADIENT, NOISE, PHOTO = 0, 1, 2, 3


@dataclass(frozen=True)
class Backgrounds:
    """What is seen where nothing is hit, in screen space.

    FLAT: color_a. GRADIENT: color_a at the top to color_b at the bottom. NOISE: smooth noise between the two,
    `scale` cells across the image's width, from `seed`. PHOTO: texture `texture`, its part `window` (x0, y0,
    x1, y1 as fractions) stretched over the frame, times color_a.
    """

    kind: I32  # (n,)
    color_a: F32  # (n, 3)
    color_b: F32  # (n, 3)
    scale: F32  # (n,)
    seed: NDArray[np.uint32]  # (n,)
    texture: I32  # (n,) -1 = none
    window: F32  # (n, 4)
    # Where the image is a part of another picture, or looks elsewhere: homographies that take its pixels to
    # those of the picture that is meant above, and that picture's (height, width). None: the image is it.
    to_picture: F64 | None = None  # (n, 3, 3)
    picture_size: tuple[int, int] | None = None


@dataclass(frozen=True)
class InstanceTable:
    """The objects of all frames, sorted by frame; ids count 1.. within a frame.

    `class_id` 0 marks an unlabelled object (a prop): it occludes, casts shadows and owns an instance id, yet
    semantic maps and annotations leave it out.
    """

    frame: I32  # (I,) position in the batch
    id: I32  # (I,)
    class_id: I32  # (I,)
    mesh: I32  # (I,)
    materials: I32  # (I, S) material per slot, -1 where the mesh has no such slot
    world_from_object: F64  # (I, 4, 4) rotation and translation, no scale
    scale: F64  # (I, 3) applied to vertices before the pose
    path: NDArray[np.object_]  # (I,) "objects.die[3]"
    group: NDArray[np.object_]  # (I,) "die"

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class Exposure:
    """How long and through what each frame is seen, and what moves meanwhile; see `imgsynth.render.motion`.

    The batch's poses are those at time 0, the middle of the shutter; with a readout, that of the image's
    middle line. An object's origin moves along a straight line while it turns about it, both in world axes;
    a camera's velocity and spin are constant in its own axes (right, down, forward), so that it may go round
    a bend.
    """

    shutter: F64  # (n,) seconds that a point of the image is exposed for
    readout: F64  # (n,) seconds from the first line's exposure to the last one's; 0 = all lines at once
    interval: F64  # (n,) seconds to the next frame, for flow
    aperture_radius: F64  # (n,) metres, of the entrance pupil; 0 = a pinhole
    focus: F64  # (n,) metres along camera z to the plane that is in focus
    camera_velocity: F64  # (n, 3) metres a second
    camera_spin_deg: F64  # (n, 3) degrees a second about the axis that it points along
    velocity: F64  # (I, 3) of the instances
    spin_deg: F64  # (I, 3)
    carrier: I64 | None = (
        None  # (I,) the instance whose motion carries each rigidly along; None: all their own
    )


@dataclass(frozen=True)
class SceneBatch:
    """Everything a renderer needs to draw `n` frames.

    `outputs` names the buffers wanted beside those that every renderer always gives, as `SceneSpec.outputs`
    does: one that a renderer can make (albedo, flow_forward, flow_backward) it makes where it stands there.
    """

    indices: I64  # (n,) frame numbers
    size: tuple[int, int]  # (height, width)
    classes: tuple[str, ...]  # class id c is classes[c - 1]
    cameras: Cameras
    lights: Lights
    ground: Ground
    backgrounds: Backgrounds
    materials: Materials
    textures: TexturePool
    meshes: MeshPool
    instances: InstanceTable
    outputs: tuple[str, ...] = ()
    report: Mapping[str, I32] = field(default_factory=dict)  # (n,) what placing has to say of each frame
    exposure: Exposure | None = None  # None where the scene says nothing of motion, shutter or lens

    def __len__(self) -> int:
        return len(self.indices)
