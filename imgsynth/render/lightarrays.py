# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""The structs of light beyond a sun and ambient radiance; all places and directions in the camera's frame."""

from __future__ import annotations

import warp as wp


@wp.struct
class Lamp:
    """A lamp; see `batch.Lamps`."""

    kind: wp.int32
    shadows: wp.int32
    first_map: wp.int32  # into `Lighting.maps`; last_map as first_map: rays
    last_map: wp.int32
    position: wp.vec3
    direction: wp.vec3
    across: wp.vec3
    upward: wp.vec3  # direction × across
    half: wp.vec2  # rectangle: half its sides; else (radius, 0)
    cone: wp.vec2  # half angles, radians
    radiant: wp.vec3


@wp.struct
class LampMap:
    """A shadow map seen from a lamp, as by a pinhole: 1/z of the nearest casters."""

    right: wp.vec3  # its axes
    down: wp.vec3
    forward: wp.vec3
    scale: wp.vec4  # (ax, bx, ay, by): x/z and y/z to texels
    base: wp.int64  # of its first texel; -1: nothing casts a shadow there
    size: wp.int32  # texels a side


@wp.struct
class Occluder:
    """An instance as shadow rays meet it."""

    mesh: wp.uint64  # a wp.Mesh of object coordinates
    matrix: wp.mat33  # from the camera's frame to the object's
    origin: wp.vec3  # the camera there
    center: wp.vec3  # of a bounding sphere, camera frame
    radius: wp.float32


@wp.struct
class FrameLight:
    """What lighting needs to know of a frame beside `FrameData`."""

    first_lamp: wp.int32
    last_lamp: wp.int32
    seed: wp.uint32
    up: wp.vec3  # the world's z
    eye_height: wp.float32  # above the ground
    ground: wp.int32  # whether there is one
    far: wp.float32  # metres: beyond all objects, from anywhere among them
    occlusion: wp.float32
    sun_radius: wp.float32  # of its disc at distance 1
    sun_shadows: wp.int32
    environment: wp.int32  # -1 = none
    environment_scale: wp.float32
    visible: wp.int32
    map_from_camera: wp.mat33


@wp.struct
class Lighting:
    """Lamps, occluders (one a row) and frames."""

    samples: wp.int32  # shadow rays to what is not a point
    frames: wp.array(dtype=FrameLight)
    lamps: wp.array(dtype=Lamp)
    maps: wp.array(dtype=LampMap)
    occluders: wp.array(dtype=Occluder)
    environments: wp.array(dtype=wp.vec3)  # texels of all maps and levels
    levels: wp.array(dtype=wp.vec3i)  # (start, height, width): of each map, see `environment`
    shades: wp.array(dtype=wp.vec2)
