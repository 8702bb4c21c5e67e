# Kernels are a language of their own inside Python: typed literals and nested tests mean something there.
# mypy: ignore-errors
# ruff: noqa: UP018, SIM102
"""The visibility buffer of a lens that bends: straight triangles, sampled where the lens's samples look.

Triangles, their edge functions and depths are those of `visibility`, in the straight image; only the sample
points are others, from a table. So labels are exact, and no crack opens between triangles. A triangle visits
the samples near its bent image: the box of its bent corners, grown by how far its edges can bulge.
"""

from __future__ import annotations

import warp as wp

from imgsynth.lens import STEPS
from imgsynth.render.arrays import OPTIONS, Geometry, Placement, Row, Target
from imgsynth.render.bending import LensData, bend
from imgsynth.render.clipping import Polygon, clip_near
from imgsynth.render.visibility import LABEL, SHADOW, edge, emit, there

wp.set_module_options(OPTIONS)

MODE_LABEL = wp.constant(LABEL)
MODE_SHADOW = wp.constant(SHADOW)
RADII = wp.constant(STEPS)
RADII_F64 = wp.constant(wp.float64(STEPS))
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))
EIGHTH = wp.constant(wp.float64(0.125))
MARGIN = wp.constant(wp.float64(0.02))  # pixels, for what rounding does to a bent corner


@wp.struct
class Bent:
    """The lenses of a pass's rows, and what their samples see."""

    lenses: wp.array(dtype=LensData)
    lens_of: wp.array(dtype=wp.int32)  # by row
    start: wp.array(dtype=wp.int64)  # by row: the first point of its samples
    bounds: wp.array2d(dtype=wp.float64)  # by row: xyxy of these points
    points: wp.array(dtype=wp.vec2d)  # straight image points, pixels
    bulge: wp.array2d(dtype=wp.float64)  # by lens: see `imgsynth.lens.bulge`


@wp.func
def straight(lens: LensData, p: wp.vec3d) -> wp.vec2d:
    """The normalized point of a projected vertex."""
    n = lens.inverse_k * wp.vec3d(p[0], p[1], ONE)
    return wp.vec2d(n[0], n[1])


@wp.func
def bent_box(bent: Bent, index: int, piece: Polygon) -> wp.vec4d:
    """xyxy in pixels that holds the bent triangle p0 p1 p2; everything where a corner lies in no field."""
    lens = bent.lenses[bent.lens_of[index]]
    n0 = straight(lens, piece.p0)
    n1 = straight(lens, piece.p1)
    n2 = straight(lens, piece.p2)
    far = wp.max(wp.dot(n0, n0), wp.max(wp.dot(n1, n1), wp.dot(n2, n2)))
    if not (far <= lens.reach * lens.reach):
        return wp.vec4d(wp.float64(-1e300), wp.float64(-1e300), wp.float64(1e300), wp.float64(1e300))
    step = int(wp.ceil(wp.sqrt(far) / lens.reach * RADII_F64))
    long = wp.max(wp.dot(n1 - n0, n1 - n0), wp.max(wp.dot(n2 - n1, n2 - n1), wp.dot(n0 - n2, n0 - n2)))
    bulge = long * EIGHTH * bent.bulge[bent.lens_of[index], wp.min(step, RADII)]
    d0 = bend(lens, n0)
    d1 = bend(lens, n1)
    d2 = bend(lens, n2)
    x0 = lens.k[0, 0] * d0[0] + lens.k[0, 1] * d0[1] + lens.k[0, 2]
    x1 = lens.k[0, 0] * d1[0] + lens.k[0, 1] * d1[1] + lens.k[0, 2]
    x2 = lens.k[0, 0] * d2[0] + lens.k[0, 1] * d2[1] + lens.k[0, 2]
    y0 = lens.k[1, 0] * d0[0] + lens.k[1, 1] * d0[1] + lens.k[1, 2]
    y1 = lens.k[1, 0] * d1[0] + lens.k[1, 1] * d1[1] + lens.k[1, 2]
    y2 = lens.k[1, 0] * d2[0] + lens.k[1, 1] * d2[1] + lens.k[1, 2]
    over = MARGIN + bulge * (wp.abs(lens.k[0, 0]) + wp.abs(lens.k[0, 1]))
    down = MARGIN + bulge * (wp.abs(lens.k[1, 0]) + wp.abs(lens.k[1, 1]))
    return wp.vec4d(
        wp.min(x0, wp.min(x1, x2)) - over,
        wp.min(y0, wp.min(y1, y2)) - down,
        wp.max(x0, wp.max(x1, x2)) + over,
        wp.max(y0, wp.max(y1, y2)) + down,
    )


@wp.func
def draw_bent(
    geo: Geometry,
    target: Target,
    bent: Bent,
    row: Row,
    place: Placement,
    index: int,
    triangle: int,
    piece: Polygon,
):
    """Scan the triangle p0 p1 p2 of a polygon cut from a mesh triangle of row `index`."""
    x0 = piece.p0[0]
    x1 = piece.p1[0]
    x2 = piece.p2[0]
    y0 = piece.p0[1]
    y1 = piece.p1[1]
    y2 = piece.p2[1]
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    if area == ZERO:
        return
    if row.two_sided == 0:
        if area * row.flip >= ZERO:
            return
    if (
        wp.max(x0, wp.max(x1, x2)) < bent.bounds[index, 0]
        or wp.min(x0, wp.min(x1, x2)) > bent.bounds[index, 2]
    ):
        return
    if (
        wp.max(y0, wp.max(y1, y2)) < bent.bounds[index, 1]
        or wp.min(y0, wp.min(y1, y2)) > bent.bounds[index, 3]
    ):
        return
    box = bent_box(bent, index, piece)
    affine = place.map
    left = wp.float64(0.0)
    top = wp.float64(0.0)
    right = wp.float64(place.columns - 1)
    bottom = wp.float64(place.lines - 1)
    if target.mode == MODE_LABEL:
        left = wp.float64(place.window[0])
        top = wp.float64(place.window[1])
        right = wp.float64(place.window[2] - 1)
        bottom = wp.float64(place.window[3] - 1)
    x_lo = wp.ceil(wp.max(box[0] * affine[0] + affine[1] - HALF, left))
    x_hi = wp.floor(wp.min(box[2] * affine[0] + affine[1] - HALF, right))
    y_lo = wp.ceil(wp.max(box[1] * affine[2] + affine[3] - HALF, top))
    y_hi = wp.floor(wp.min(box[3] * affine[2] + affine[3] - HALF, bottom))
    if not (x_lo <= x_hi and y_lo <= y_hi):
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
    w_least = wp.min(w0, wp.min(w1, w2))
    w_most = wp.max(w0, wp.max(w1, w2))
    for y in range(int(y_lo), int(y_hi) + 1):
        line = wp.int64(y) * wp.int64(place.columns)
        for x in range(int(x_lo), int(x_hi) + 1):
            p = bent.points[bent.start[index] + line + wp.int64(x)]
            a = ea.a * p[0] + (ea.b * p[1] + ea.k)
            b = eb.a * p[0] + (eb.b * p[1] + eb.k)
            c = ec.a * p[0] + (ec.b * p[1] + ec.k)
            if a >= ea.least and b >= eb.least and c >= ec.least:
                hit = bool(True)
                if row.cutout == 1:
                    wa = a * w0
                    wb = b * w1
                    wc = c * w2
                    sum = wa + wb + wc
                    at = wp.float32(wa / sum) * piece.c0
                    at = at + wp.float32(wb / sum) * piece.c1 + wp.float32(wc / sum) * piece.c2
                    hit = there(geo, row, index, triangle, at)
                if hit:
                    w = (a * w0 + b * w1 + c * w2) * scale
                    w = wp.where(w < w_least, w_least, w)
                    w = wp.where(w > w_most, w_most, w)
                    emit(target, place, place.base + line + wp.int64(x), row.first_id + triangle, x, y, w)


@wp.kernel
def rasterize_bent(
    geo: Geometry,
    target: Target,
    bent: Bent,
    items: wp.array(dtype=wp.vec3i),
    projected: wp.array(dtype=wp.vec3d),
):
    """Draw the triangle ranges `items` (row, first, last) into a target, through the rows' lenses."""
    item = items[wp.tid()]
    place = target.places[item[0]]
    row = geo.rows[item[0]]
    for triangle in range(item[1], item[2]):
        face = geo.faces[row.first_face + triangle]
        shape = Polygon()
        shape.p0 = projected[row.first_out + face[0]]
        shape.p1 = projected[row.first_out + face[1]]
        shape.p2 = projected[row.first_out + face[2]]
        shape.c0 = wp.vec3(1.0, 0.0, 0.0)
        shape.c1 = wp.vec3(0.0, 1.0, 0.0)
        shape.c2 = wp.vec3(0.0, 0.0, 1.0)
        shape.count = 3
        if shape.p0[2] < ZERO or shape.p1[2] < ZERO or shape.p2[2] < ZERO:
            shape = clip_near(geo, row, face)
        for piece in range(shape.count - 2):
            if piece == 1:
                shape.p1 = shape.p2
                shape.p2 = shape.p3
                shape.c1 = shape.c2
                shape.c2 = shape.c3
            draw_bent(geo, target, bent, row, place, item[0], triangle, shape)
