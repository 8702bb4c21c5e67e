"""Which triangles of a surface wind against their neighbours, and which closed surfaces are inside out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, I64
from imgsynth.shapes.surface import face_normals

Bools = NDArray[np.bool_]


def consistent(corners: I64) -> tuple[Bools, NDArray[np.int32], Bools]:
    """Of triangles by the numbers of their corners' places (f, 3): those to turn so that neighbours across an
    edge of two triangles walk it in opposite ways; each one's surface (connected across such edges); and, by
    surface, whether it is closed and can be wound consistently.

    A surface keeps the way that most of its triangles wind. One that cannot be wound consistently (a Möbius
    strip) is left as it is.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    count = len(corners)
    a, b, against, lone = _neighbours(corners)
    # A root that touches every surface makes one search of them all.
    links = coo_array((np.ones(len(a)), (a, b)), shape=(count, count))
    surfaces, label = connected_components(links, directed=False)
    first = np.full(surfaces, count, np.int64)
    np.minimum.at(first, label, np.arange(count))
    rows, cols = np.concatenate([a, np.full(surfaces, count)]), np.concatenate([b, first])
    tree = coo_array((np.ones(len(rows)), (rows, cols)), shape=(count + 1, count + 1)).tocsr()
    above = breadth_first_order(tree, count, directed=False)[1][:count].astype(np.int64)
    flip = _parity(above, _edge_sign(a, b, against, above, count))
    good = np.ones(surfaces, bool)
    np.logical_and.at(good, label[a], (flip[a] ^ flip[b]) == against)
    # The majority of each surface stays.
    turned = np.bincount(label, flip, surfaces) * 2 > np.bincount(label, minlength=surfaces)
    flip = (flip ^ turned[label]) & good[label]
    closed = good.copy()
    np.logical_and.at(closed, label[lone], False)
    return flip, label.astype(np.int32), closed


def _neighbours(corners: I64) -> tuple[I64, I64, Bools, I64]:
    """Pairs of triangles that share an edge no third one has, whether both walk it the same way, and the
    triangles with an edge that is not of two.
    """
    edges = corners[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    ordered = np.sort(edges, axis=1)
    forward = edges[:, 0] == ordered[:, 0]
    face = np.repeat(np.arange(len(corners)), 3)
    order = np.lexsort(ordered.T)
    ordered, forward, face = ordered[order], forward[order], face[order]
    new = np.concatenate([[True], (ordered[1:] != ordered[:-1]).any(1)])
    start = np.flatnonzero(new)
    size = np.diff(np.append(start, len(face)))
    two = start[size == 2]
    lone = face[np.repeat(size != 2, size)]
    a, b = face[two], face[two + 1]
    real = a != b
    return a[real], b[real], (forward[two] == forward[two + 1])[real], lone


def _edge_sign(a: I64, b: I64, against: Bools, above: I64, count: int) -> Bools:
    """(f,) whether a triangle winds against the one above it in the search tree."""
    out = np.zeros(count, bool)
    for child, parent in ((a, b), (b, a)):
        tree = above[child] == parent
        out[child[tree]] = against[tree]
    return out


def _parity(above: I64, sign: Bools) -> Bools:
    """Whether the signs from each triangle up to its root are odd in number, by pointer doubling."""
    count = len(above)
    pointer, odd = np.append(above, count), np.append(sign, False)
    pointer = np.where(pointer < 0, count, pointer)
    while (pointer != count).any():
        odd = odd ^ odd[pointer]
        pointer = pointer[pointer]
    return odd[:count]


def outward(vertices: F64, faces: I64, label: NDArray[np.int32], closed: Bools) -> Bools:
    """(f,) triangles of closed surfaces that enclose a negative volume (divergence theorem).

    One that lies within the box of a larger closed one is taken for the wall of a hollow and left as it is.
    """
    surfaces = len(closed)
    corner = vertices[faces]
    low, high = np.full((surfaces, 3), np.inf), np.full((surfaces, 3), -np.inf)
    np.minimum.at(low, label, corner.min(1))
    np.maximum.at(high, label, corner.max(1))
    centred = vertices[faces[:, 0]] - ((low + high) / 2)[label]
    volume = np.bincount(label, (centred * face_normals(vertices, faces)).sum(1) / 6, surfaces)
    inverted = closed & (volume < 0)
    shells = np.flatnonzero(closed)
    if len(shells) <= 2000:
        for k in np.flatnonzero(inverted):
            around = shells[(low[shells] < low[k]).all(1) & (high[shells] > high[k]).all(1)]
            inverted[k] = len(around) == 0
    return inverted[label]
