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

from imgsynth.finisharrays import (  # noqa: F401 (handed on)
    BRICK,
    CHECKER,
    DECAL,
    DIRT,
    FADING,
    FBM,
    LAYER_KINDS,
    MARBLE,
    PATTERN_KINDS,
    RAMP,
    SCRATCHES,
    STICKERS,
    STRIPES,
    WOOD,
    WORLEY,
    Layers,
    Materials,
    Patterns,
    TexturePool,
)

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
