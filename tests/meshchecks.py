"""What every mesh of every shape must be: checks shared by the tests of shapes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgsynth.batch import F64, Meshes
from imgsynth.shapes.surface import face_normals, is_closed, volume


def exact(m: Meshes, k: int = 0) -> tuple[F64, NDArray[np.int64]]:
    return m.vertices[k].astype(np.float64), m.faces.astype(np.int64)


def assert_sound(m: Meshes, closed: bool = True, normals_within_deg: float = 60.0) -> None:
    """What the protocol promises of every mesh of every shape."""
    count, v = m.vertices.shape[:2]
    assert m.vertices.dtype == m.normals.dtype == m.uv.dtype == np.float32
    assert m.faces.dtype == m.slots.dtype == np.int32
    assert m.normals.shape == (count, v, 3) and m.uv.shape in {(v, 2), (count, v, 2)}
    assert m.faces.shape == (len(m.slots), 3) and m.slots.max() == len(m.slot_names) - 1
    assert np.array_equal(np.unique(m.faces), np.arange(v))
    assert np.isfinite(m.vertices).all() and np.isfinite(m.uv).all()
    assert m.uv.min() >= 0 and m.uv.max() <= 1
    assert np.allclose(np.linalg.norm(m.normals, axis=-1), 1, atol=1e-6)
    for k in range(count):
        vertices, faces = exact(m, k)
        twice_area = face_normals(vertices, faces)
        size = np.linalg.norm(twice_area, axis=1)
        real = size > 1e-9 * np.ptp(vertices, axis=0).max() ** 2
        unit = twice_area[real] / size[real, None]
        cosine = (unit[:, None] * m.normals[k][m.faces[real]]).sum(-1)
        assert cosine.min() > np.cos(np.radians(normals_within_deg))
        if closed:
            # By exact position, as bits: float32 values, with -0 made 0.
            position = np.unique(m.vertices[k] + np.float32(0), axis=0, return_inverse=True)[1].ravel()
            at = position[m.faces]
            whole = (at[:, 0] != at[:, 1]) & (at[:, 1] != at[:, 2]) & (at[:, 2] != at[:, 0])
            assert is_closed(at[whole].astype(np.int64))
            assert volume(vertices, faces) > 0
