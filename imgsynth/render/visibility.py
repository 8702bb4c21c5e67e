# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102, RUF046
"""Vertex stage and visibility buffer: Warp kernels, one source for CPU and CUDA.

Every target (colour samples, pixel-centre labels, shadow maps, off-screen silhouettes) is filled by the same
kernel, `rasterize`. A vertex is (x, y, w) in double precision: image coordinates, and a `w` that is linear
over the image and grows towards the eye (1/z for a pinhole, height towards the sun for a shadow map).

No cracks and no double hits along edges: the three coefficients of an edge function change sign exactly,
bit for bit, when the edge is walked the other way, so a sample lies strictly on one side of a shared edge,
or exactly on it, and there the signs of the coefficients decide. A mesh corner that falls on a sample to
the last bits is the exception: rounding may leave it to no face.
"""

from __future__ import annotations

import warp as wp

from imgsynth.render.arrays import OPTIONS, Geometry, Placement, Row, Target
from imgsynth.render.clipping import Polygon, clip_near, homogeneous

wp.set_module_options(OPTIONS)

COLOR, LABEL, SHADOW, SILHOUETTE = 0, 1, 2, 3
"""Passes: keys · keys and amodal marks · height towards the sun · marks outside the frame."""

MODE_LABEL = wp.constant(LABEL)
MODE_SHADOW = wp.constant(SHADOW)
MODE_SILHOUETTE = wp.constant(SILHOUETTE)
TINY = wp.constant(wp.float64(1e-300))
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))
FAR = wp.constant(wp.float64(1e300))
WIDE = wp.constant(8)  # columns from which narrowing rows to their spans pays


@wp.struct
class Edge:
    """E(x, y) = a·x + b·y + k, inside where E ≥ least."""

    a: wp.float64
    b: wp.float64
    k: wp.float64
    least: wp.float64


@wp.kernel
def project(
    geo: Geometry,
    items: wp.array(dtype=wp.vec3i),
    perspective: wp.int32,
    out: wp.array(dtype=wp.vec3d),
    box: wp.array2d(dtype=wp.float64),
    behind: wp.array(dtype=wp.int32),
):
    """Object vertices of `items` (row, first, last) to (x, y, w), and each row's bounds.

    A pinhole vertex closer than near gets w = -1, sets `behind[row]` and stays out of the bounds.
    """
    item = items[wp.tid()]
    row = geo.rows[item[0]]
    m = row.linear
    t = row.offset
    if perspective == 0:
        m = row.light
        t = row.light_offset
    lo_x = wp.float64(FAR)
    lo_y = wp.float64(FAR)
    hi_x = wp.float64(-FAR)
    hi_y = wp.float64(-FAR)
    i = int(item[1])
    while i < item[2]:
        h = homogeneous(m, t, geo.vertices[row.first_vertex + i])
        if perspective == 1 and h[2] < row.near:
            behind[item[0]] = 1
            out[row.first_out + i] = wp.vec3d(ZERO, ZERO, -ONE)
        else:
            if perspective == 1:
                w = ONE / h[2]
                h = wp.vec3d(h[0] * w, h[1] * w, w)
            out[row.first_out + i] = h
            lo_x = wp.min(lo_x, h[0])
            lo_y = wp.min(lo_y, h[1])
            hi_x = wp.max(hi_x, h[0])
            hi_y = wp.max(hi_y, h[1])
        i += 1
    wp.atomic_min(box, item[0], 0, lo_x)
    wp.atomic_min(box, item[0], 1, lo_y)
    wp.atomic_max(box, item[0], 2, hi_x)
    wp.atomic_max(box, item[0], 3, hi_y)


@wp.func
def alpha_at(geo: Geometry, texture: int, uv: wp.vec2) -> float:
    """Bilinear alpha, 0..1, of the finest level of a texture, repeated; v grows upwards."""
    level = geo.first_level[texture]
    size = geo.level_size[level]
    x = (uv[0] - wp.floor(uv[0])) * float(size[1]) - 0.5
    y = (1.0 - (uv[1] - wp.floor(uv[1]))) * float(size[0]) - 0.5
    fx = x - wp.floor(x)
    fy = y - wp.floor(y)
    total = float(0.0)
    for i in range(4):
        tx = (int(wp.floor(x)) + i % 2 + size[1]) % size[1]
        ty = (int(wp.floor(y)) + i / 2 + size[0]) % size[0]
        texel = geo.texels[geo.level_start[level] + wp.int64(ty * size[1] + tx)]
        total += (
            wp.where(i % 2 == 0, 1.0 - fx, fx)
            * wp.where(i / 2 == 0, 1.0 - fy, fy)
            * float(texel >> wp.uint32(24))
        )
    return total / 255.0


@wp.func
def there(geo: Geometry, row: Row, index: int, triangle: int, c: wp.vec3) -> bool:
    """Whether the texture leaves anything at barycentric coordinates c of a triangle of row `index`."""
    face = row.first_face + triangle
    slot = geo.slot_materials[index, geo.slots[face]]
    if slot < 0:
        return True
    material = geo.materials[slot]
    if material.texture < 0 or material.alpha_cutoff <= 0.0:
        return True
    corner = geo.faces[face]
    first = row.first_vertex
    uv = (
        c[0] * geo.uv[first + corner[0]] + c[1] * geo.uv[first + corner[1]] + c[2] * geo.uv[first + corner[2]]
    )
    return alpha_at(geo, material.texture, wp.cw_mul(uv, material.uv_scale)) >= material.alpha_cutoff


@wp.func
def pack(w: wp.float32, triangle: int) -> wp.uint64:
    """Key that orders by depth (near first), then by triangle: positive floats sort as their bits do."""
    return (wp.uint64(~wp.cast(w, wp.uint32)) << wp.uint64(32)) | wp.uint64(wp.uint32(triangle))


@wp.func
def emit(target: Target, place: Placement, at: wp.int64, id: int, x: int, y: int, w: wp.float64):
    """Write one covered sample at offset `at`."""
    if target.mode == MODE_SHADOW:
        wp.atomic_max(target.height, at, wp.float32(w))
        return
    window = place.window
    if target.mode == MODE_SILHOUETTE:
        if x < window[0] or y < window[1] or x >= window[2] or y >= window[3]:
            target.marks[at] = wp.uint8(1)
        return
    wp.atomic_min(target.keys, at, pack(wp.float32(w), id))
    if target.mode == MODE_LABEL:
        cell = (y - window[1]) * (window[2] - window[0]) + x - window[0]
        target.marks[place.window_start + wp.int64(cell)] = wp.uint8(1)


@wp.func
def smaller(a: wp.float64, b: wp.float64) -> wp.float64:
    """The smaller of two numbers, in one instruction: `wp.min` minds NaNs."""
    return wp.where(a < b, a, b)


@wp.func
def larger(a: wp.float64, b: wp.float64) -> wp.float64:
    """The larger of two numbers."""
    return wp.where(a > b, a, b)


@wp.func
def edge(xa: wp.float64, ya: wp.float64, xb: wp.float64, yb: wp.float64, s: wp.float64) -> Edge:
    """Edge function of a → b times s (±1); samples exactly on it are owned by one of its two sides."""
    e = Edge()
    e.a = s * (ya - yb)
    e.b = s * (xb - xa)
    e.k = s * (xa * yb - xb * ya)
    e.least = ZERO
    if e.a < ZERO or (e.a == ZERO and e.b <= ZERO):
        e.least = TINY
    return e


@wp.func
def narrow(e: Edge, level: wp.float64, span: wp.vec2d) -> wp.vec2d:
    """Cut the columns of a row to the side of an edge, a sample generous: the edge function still decides."""
    if e.a > ZERO:
        span[0] = larger(span[0], -level / e.a - ONE - HALF)
    if e.a < ZERO:
        span[1] = smaller(span[1], -level / e.a + HALF)
    return span


@wp.func
def draw(
    geo: Geometry, target: Target, row: Row, place: Placement, index: int, triangle: int, piece: Polygon
):
    """Scan the triangle p0 p1 p2 of a polygon cut from a mesh triangle of row `index`."""
    affine = place.map
    x0 = piece.p0[0] * affine[0] + affine[1]
    x1 = piece.p1[0] * affine[0] + affine[1]
    x2 = piece.p2[0] * affine[0] + affine[1]
    y0 = piece.p0[1] * affine[2] + affine[3]
    y1 = piece.p1[1] * affine[2] + affine[3]
    y2 = piece.p2[1] * affine[2] + affine[3]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area == ZERO:
        return
    if row.two_sided == 0:
        # y points down, so what winds counter-clockwise to the eye has a negative area. Shadows are cast by
        # the faces turned away from the sun: a lit face then never shadows itself.
        if (area * row.flip < ZERO) == (target.mode == MODE_SHADOW):
            return
    x_lo = wp.ceil(larger(smaller(x0, smaller(x1, x2)) - HALF, ZERO))
    x_hi = wp.floor(smaller(larger(x0, larger(x1, x2)) - HALF, wp.float64(place.columns - 1)))
    if not (x_lo <= x_hi):
        return
    y_lo = wp.ceil(larger(smaller(y0, smaller(y1, y2)) - HALF, ZERO))
    y_hi = wp.floor(smaller(larger(y0, larger(y1, y2)) - HALF, wp.float64(place.lines - 1)))
    if not (y_lo <= y_hi):
        return
    s = wp.where(area > ZERO, ONE, -ONE)
    ea = edge(x1, y1, x2, y2, s)
    eb = edge(x2, y2, x0, y0, s)
    ec = edge(x0, y0, x1, y1, s)
    w0 = piece.p0[2]
    w1 = piece.p1[2]
    w2 = piece.p2[2]
    # w is linear over the triangle; rounding could carry it off on slivers, so it stays between the corners'.
    scale = ONE / (area * s)
    w_step = (ea.a * w0 + eb.a * w1 + ec.a * w2) * scale
    w_least = smaller(w0, smaller(w1, w2))
    w_most = larger(w0, larger(w1, w2))
    wide = x_hi - x_lo >= wp.float64(WIDE)
    y = int(y_lo)
    bottom = int(y_hi)
    while y <= bottom:
        py = wp.float64(y) + HALF
        ra = ea.b * py + ea.k
        rb = eb.b * py + eb.k
        rc = ec.b * py + ec.k
        w_row = (ra * w0 + rb * w1 + rc * w2) * scale
        line = place.base + wp.int64(y) * wp.int64(place.columns)
        span = wp.vec2d(x_lo, x_hi)
        if wide:
            span = narrow(ea, ra, narrow(eb, rb, narrow(ec, rc, span)))
        if span[0] <= span[1]:
            first = int(span[0])
            px = wp.float64(first) + HALF
            x = int(first)
            last = int(span[1])
            while x <= last:
                a = ea.a * px + ra
                b = eb.a * px + rb
                c = ec.a * px + rc
                # One branch for all three: which of them fails cannot be foretold.
                if int(a >= ea.least) + int(b >= eb.least) + int(c >= ec.least) == 3:
                    hit = bool(True)
                    if row.cutout == 1:
                        wa = a
                        wb = b
                        wc = c
                        if target.perspective == 1:
                            wa = a * w0
                            wb = b * w1
                            wc = c * w2
                        sum = wa + wb + wc
                        at = wp.float32(wa / sum) * piece.c0
                        at = at + wp.float32(wb / sum) * piece.c1 + wp.float32(wc / sum) * piece.c2
                        hit = there(geo, row, index, triangle, at)
                    if hit:
                        w = w_step * px + w_row
                        w = wp.where(w < w_least, w_least, w)
                        w = wp.where(w > w_most, w_most, w)
                        emit(target, place, line + wp.int64(x), row.first_id + triangle, x, y, w)
                px += ONE
                x += 1
        y += 1


@wp.kernel
def rasterize(
    geo: Geometry, target: Target, items: wp.array(dtype=wp.vec3i), projected: wp.array(dtype=wp.vec3d)
):
    """Draw the triangle ranges `items` (row, first, last) into a target."""
    item = items[wp.tid()]
    place = target.places[item[0]]
    row = geo.rows[item[0]]
    if place.base < wp.int64(0):
        return
    triangle = int(item[1])
    while triangle < item[2]:
        face = geo.faces[row.first_face + triangle]
        shape = Polygon()
        shape.p0 = projected[row.first_out + face[0]]
        shape.p1 = projected[row.first_out + face[1]]
        shape.p2 = projected[row.first_out + face[2]]
        shape.c0 = wp.vec3(1.0, 0.0, 0.0)
        shape.c1 = wp.vec3(0.0, 1.0, 0.0)
        shape.c2 = wp.vec3(0.0, 0.0, 1.0)
        shape.count = 3
        if target.perspective == 1:
            if shape.p0[2] < ZERO or shape.p1[2] < ZERO or shape.p2[2] < ZERO:
                shape = clip_near(geo, row, face)
        piece = int(0)
        while piece < shape.count - 2:
            if piece == 1:
                shape.p1 = shape.p2
                shape.p2 = shape.p3
                shape.c1 = shape.c2
                shape.c2 = shape.c3
            draw(geo, target, row, place, item[0], triangle, shape)
            piece += 1
        triangle += 1
