# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
"""The structs that the Warp kernels share, and how numpy fills arrays of them.

What a kernel reads per row, frame or material is one struct, loaded once into registers: separate arrays
would be fetched again after every store, as a compiler cannot know that they do not overlap.
"""

from __future__ import annotations

import re

import numpy as np
import warp as wp

from imgsynth.render.lightarrays import Lighting

OPTIONS = {"enable_backward": False, "fuse_fp": False, "default_grid_stride": False, "max_unroll": 4}
"""Options of every kernel module. No contraction: edge functions must change sign exactly, and the same frame
must give the same bytes on processors with and without fused multiply-add."""

INLINED = {
    **OPTIONS,
    "cpu_compiler_flags": re.sub(
        r"(-inline[a-z-]*-threshold)=\d+", r"\1=100000", wp.config.cpu_compiler_flags or ""
    ),
}
"""Options of shading kernels: all in one function. A call copies its arguments, a kilobyte of `Geometry`."""

mat23 = wp.types.matrix(shape=(2, 3), dtype=wp.float32)


@wp.struct
class Row:
    """An instance, or (rows R .. R + n) the ground of a frame."""

    first_vertex: wp.int32  # into vertices
    first_face: wp.int32  # into faces
    first_out: wp.int32  # into projected vertices
    first_id: wp.int32  # triangles of the frame's earlier instances
    two_sided: wp.int32
    cutout: wp.int32  # 1 where some material has an alpha cut-off
    id: wp.int32
    near: wp.float64
    flip: wp.float64  # -1 where the scale mirrors
    linear: wp.mat33d  # K·A: object to homogeneous image point
    offset: wp.vec3d
    ray: wp.mat33  # object-frame ray of camera depth 1 = ray · (x, y, 1)
    origin: wp.vec3d  # the eye, object frame
    light: wp.mat33d  # object point to (x, y, height towards the sun), metres
    light_offset: wp.vec3d
    normal: wp.mat33  # object normal to camera
    scale: wp.vec3  # of the object


@wp.struct
class Material:
    """A metallic-roughness material."""

    base_color: wp.vec3
    emission: wp.vec3
    uv_scale: wp.vec2
    metallic: wp.float32
    roughness: wp.float32
    alpha_cutoff: wp.float32
    texture: wp.int32  # -1 = none
    needs: wp.int32  # NEEDS_UV, NEEDS_POINT, NEEDS_SLOPE added up


NEEDS_UV, NEEDS_POINT, NEEDS_SLOPE = 1, 2, 4
"""What a material wants to know of a surface point: texture coordinates; the point in its object's frame; the
directions in which the texture coordinates grow."""


@wp.struct
class Finish:
    """What a material has beyond constants and a base-colour texture."""

    normal_texture: wp.int32  # -1 = none, as of all textures
    surface_texture: wp.int32
    emission_texture: wp.int32
    pattern: wp.int32
    first_layer: wp.int32
    last_layer: wp.int32
    normal_scale: wp.float32
    coat: wp.float32
    coat_rough: wp.float32


@wp.struct
class PatternRow:
    """A procedural pattern; see `batch.Patterns`."""

    frame: wp.mat33  # object metres, or texture coordinates, to the pattern's own units
    offset: wp.vec3
    color_a: wp.vec3
    color_b: wp.vec3
    kind: wp.int32
    mapped: wp.int32  # 1 = over texture coordinates
    octaves: wp.int32
    seed: wp.uint32
    gain: wp.float32
    contrast: wp.float32
    warp: wp.float32
    mortar: wp.float32
    variation: wp.float32


@wp.struct
class LayerRow:
    """A layer over a material; see `batch.Layers`."""

    place: mat23
    color_a: wp.vec3
    color_b: wp.vec3
    kind: wp.int32
    mapped: wp.int32
    texture: wp.int32
    seed: wp.uint32
    coverage: wp.float32
    strength: wp.float32
    roughness: wp.float32
    metallic: wp.float32
    scale: wp.float32
    width: wp.float32
    length: wp.float32
    softness: wp.float32
    threshold: wp.float32  # dirt, fading: of noise in standard deviations, so that `coverage` exceeds it
    spacing: wp.float32  # scratches: metres from sheet to sheet
    chance: wp.float32  # stickers: that a cell holds one


@wp.struct
class FrameData:
    """What shading needs to know of a frame."""

    ground: wp.vec3d  # inverse depth of the ground = ground · (x, y, 1); 0 = none
    ground_height: wp.float64
    shadow_base: wp.int64  # -1 = none
    number: wp.int32  # of the frame in its run
    first_row: wp.int32
    last_row: wp.int32
    inverse_near: wp.float32
    camera_ray: wp.mat33  # K⁻¹
    light_from_camera: wp.mat33
    light_eye: wp.vec3  # the camera in light space
    sun: wp.vec3  # camera frame, towards the sun
    irradiance: wp.vec3
    ambient: wp.vec3
    shadow_map: wp.vec4  # (ax, bx, ay, by): light-space metres to texels
    texel: wp.vec2  # metres
    lens: wp.int32  # -1 = pinhole; else which table of `View.points`
    background: wp.int32
    picture: wp.mat33  # image point to the picture's that the background is
    picture_size: wp.vec2  # (width, height)
    photo: wp.int32
    noise_seed: wp.uint32
    noise_scale: wp.float32
    color_a: wp.vec3
    color_b: wp.vec3
    photo_window: wp.vec4


@wp.struct
class Geometry:
    """Meshes, instances, materials and textures."""

    vertices: wp.array(dtype=wp.vec3)  # object frame, unscaled
    normals: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    faces: wp.array(dtype=wp.vec3i)  # local to the mesh
    slots: wp.array(dtype=wp.int32)
    rows: wp.array(dtype=Row)
    slot_materials: wp.array2d(dtype=wp.int32)  # (rows, slots)
    materials: wp.array(dtype=Material)
    finishes: wp.array(dtype=Finish)  # per material, where some material needs it
    patterns: wp.array(dtype=PatternRow)
    layers: wp.array(dtype=LayerRow)
    texels: wp.array(dtype=wp.uint32)  # R, G, B, A from the lowest byte
    first_level: wp.array(dtype=wp.int32)  # per texture
    level_start: wp.array(dtype=wp.int64)
    level_size: wp.array(dtype=wp.vec2i)  # (height, width)
    srgb: wp.array(dtype=wp.float32)  # (256,) decoding table


@wp.struct
class Placement:
    """Where a row's samples go: sample (x, y) is the image point ((x + 0.5 - b) / a) on each axis."""

    map: wp.vec4d  # (ax, bx, ay, by)
    base: wp.int64  # offset of its first sample; -1 skips the row
    columns: wp.int32
    lines: wp.int32
    window: wp.vec4i  # LABEL: the amodal window; SILHOUETTE: the cells inside the frame
    window_start: wp.int64  # LABEL: offset of the window's bytes


@wp.struct
class Target:
    """What a pass draws into."""

    mode: wp.int32
    perspective: wp.int32
    places: wp.array(dtype=Placement)
    keys: wp.array(dtype=wp.uint64)  # COLOR, LABEL: depth and triangle, packed
    height: wp.array(dtype=wp.float32)  # SHADOW: greatest height towards the sun
    marks: wp.array(dtype=wp.uint8)  # LABEL: amodal windows; SILHOUETTE: cells outside the frame


@wp.struct
class View:
    """What a shading pass reads beside the geometry."""

    width: wp.int32
    height: wp.int32
    samples: wp.int32  # per shading cell and axis
    detail: wp.int32  # shading cells per pixel and axis
    rows: wp.int32  # instances; row rows + i is the ground of frame i
    shadow_size: wp.int32
    frames: wp.array(dtype=FrameData)
    heights: wp.array(dtype=wp.float32)  # shadow maps
    tiles: wp.array(dtype=wp.float32)  # their greatest heights by tile
    keys: wp.array(dtype=wp.uint64)
    lighting: Lighting  # empty where a sun and ambient radiance are all
    per_frame: wp.int64  # samples
    points: wp.array(dtype=wp.vec2d)  # straight image points of the samples, lens after lens


def pack(struct, **fields):
    """Numpy array of a Warp struct from equally long arrays, one per field."""
    out = np.zeros(len(next(iter(fields.values()))), struct.numpy_dtype())
    for name, values in fields.items():
        out[name] = values
    return out
