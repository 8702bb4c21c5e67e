# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""The structs of arrays that the Warp kernels share."""

from __future__ import annotations

import warp as wp

OPTIONS = {"enable_backward": False, "fuse_fp": False, "default_grid_stride": False, "max_unroll": 4}
"""Options of every kernel module. No contraction: edge functions must change sign exactly, and the same frame
must give the same bytes on processors with and without fused multiply-add."""


@wp.struct
class Geometry:
    """Meshes, instances and textures. Rows are instances; the frames' ground planes follow as rows I .. I+n."""

    vertices: wp.array(dtype=wp.vec3)  # object frame, unscaled
    normals: wp.array(dtype=wp.vec3)
    uv: wp.array(dtype=wp.vec2)
    faces: wp.array(dtype=wp.vec3i)  # local to the mesh
    slots: wp.array(dtype=wp.int32)
    first_vertex: wp.array(dtype=wp.int32)  # per row, into vertices
    first_face: wp.array(dtype=wp.int32)  # per row, into faces
    first_out: wp.array(dtype=wp.int32)  # per row, into projected vertices
    first_id: wp.array(dtype=wp.int32)  # per row: triangles of the frame's earlier instances
    near: wp.array(dtype=wp.float64)  # per row
    flip: wp.array(dtype=wp.float64)  # per row: -1 where the scale mirrors
    two_sided: wp.array(dtype=wp.int32)  # per row
    cutout: wp.array(dtype=wp.int32)  # per row: 1 where some material has an alpha cut-off
    materials: wp.array2d(dtype=wp.int32)  # (rows, slots)
    base_color: wp.array(dtype=wp.vec3)  # per material
    emission: wp.array(dtype=wp.vec3)
    metallic: wp.array(dtype=wp.float32)
    roughness: wp.array(dtype=wp.float32)
    texture: wp.array(dtype=wp.int32)
    uv_scale: wp.array(dtype=wp.vec2)
    alpha_cutoff: wp.array(dtype=wp.float32)
    texels: wp.array(dtype=wp.uint32)  # R, G, B, A from the lowest byte
    first_level: wp.array(dtype=wp.int32)  # per texture
    level_start: wp.array(dtype=wp.int64)
    level_size: wp.array(dtype=wp.vec2i)  # (height, width)
    srgb: wp.array(dtype=wp.float32)  # (256,) decoding table


@wp.struct
class Target:
    """Where a pass draws: sample (x, y) of a row is the image point ((x + 0.5 - b) / a) on each axis."""

    mode: wp.int32
    perspective: wp.int32
    map: wp.array(dtype=wp.vec4d)  # per row (ax, bx, ay, by)
    base: wp.array(dtype=wp.int64)  # per row: offset of its first sample; -1 skips the row
    extent: wp.array(dtype=wp.vec2i)  # per row (columns, rows)
    keys: wp.array(dtype=wp.uint64)  # COLOR, LABEL: depth and triangle, packed
    height: wp.array(dtype=wp.float32)  # SHADOW: greatest height towards the sun
    marks: wp.array(dtype=wp.uint8)  # LABEL: amodal windows; SILHOUETTE: cells outside the frame
    window: wp.array(dtype=wp.vec4i)  # LABEL, per row; SILHOUETTE, per row: the frame's cells
    window_start: wp.array(dtype=wp.int64)  # LABEL, per row


@wp.struct
class View:
    """Per frame (or per row, where said) what shading needs beside the geometry."""

    size: wp.vec2i  # (width, height) in pixels
    samples: wp.int32  # per pixel and axis
    rows: wp.int32  # instances; row rows + i is the ground of frame i
    first_row: wp.array(dtype=wp.int32)  # (n + 1,)
    origin: wp.array(dtype=wp.vec3d)  # per row: eye, object frame
    ray: wp.array(dtype=wp.mat33d)  # per row: object-frame ray of camera depth 1 = ray · (x, y, 1)
    normal: wp.array(dtype=wp.mat33)  # per row: object normal to camera
    light: wp.array(dtype=wp.mat33d)  # per row: object point to (x, y, height) of the shadow map
    light_offset: wp.array(dtype=wp.vec3d)
    camera_ray: wp.array(dtype=wp.mat33)  # K⁻¹
    ground: wp.array(dtype=wp.vec3d)  # inverse depth of the ground = ground · (x, y, 1); 0 = none
    ground_height: wp.array(dtype=wp.float64)
    inverse_near: wp.array(dtype=wp.float32)
    sun: wp.array(dtype=wp.vec3)  # camera frame, towards the sun
    irradiance: wp.array(dtype=wp.vec3)
    ambient: wp.array(dtype=wp.vec3)
    light_from_camera: wp.array(dtype=wp.mat33)
    shadow_base: wp.array(dtype=wp.int64)  # -1 = none
    shadow_map: wp.array(dtype=wp.vec4)  # (ax, bx, ay, by): light-space metres to texels
    shadow_size: wp.int32
    height: wp.array(dtype=wp.float32)
    keys: wp.array(dtype=wp.uint64)
    background: wp.array(dtype=wp.int32)
    color_a: wp.array(dtype=wp.vec3)
    color_b: wp.array(dtype=wp.vec3)
    noise_scale: wp.array(dtype=wp.float32)
    noise_seed: wp.array(dtype=wp.uint32)
    photo: wp.array(dtype=wp.int32)
    photo_window: wp.array(dtype=wp.vec4)
