"""Cameras of a frame as Mitsuba sensors, lenses included: at the origin, OpenCV axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from imgsynth import lens as models
from imgsynth.batch import F64, Cameras
from imgsynth.render.reference import Cells

FAR = 1e7
NOWHERE = -1e9


def sensor(
    mi: Any, cameras: Cameras, frame: int, cells: Cells, near: float, samples: int = 1, centred: bool = True
) -> Any:
    """A sensor whose film has the given cells.

    Mitsuba's own perspective camera where pixels are square and nothing bends, else one of ours in Python,
    which is slower.

    Args:
        mi: Mitsuba.
        cameras: of the batch.
        frame: which of them.
        cells: the film.
        near: distance along z of the nearest thing seen.
        samples: light paths a cell.
        centred: the one sample of a cell lies in its middle.
    """
    kind = {"type": "stratified", "sample_count": 1, "jitter": False} if centred else {
        "type": "multijitter", "sample_count": samples}  # fmt: skip
    film = {
        "type": "hdrfilm", "width": cells.width, "height": cells.height, "rfilter": {"type": "box"},
        "pixel_format": "rgba", "component_format": "float32",
    }  # fmt: skip
    common = {"film": film, "sampler": kind}
    own = cells.intrinsics(cameras.k[frame])
    bent = cameras.lens is not None and cameras.lens.kind[frame] != models.PINHOLE
    if not bent and abs(own[0, 0] - own[1, 1]) <= 1e-9 * own[0, 0] and own[0, 1] == 0:
        return mi.load_dict({
            "type": "perspective", "near_clip": near, "far_clip": FAR, "fov_axis": "x",
            "fov": float(np.degrees(2 * np.arctan(cells.width / (2 * own[0, 0])))),
            "principal_point_offset_x": float(0.5 - own[0, 2] / cells.width),
            "principal_point_offset_y": float(0.5 - own[1, 2] / cells.height),
            "to_world": mi.ScalarTransform4f(np.diag([-1.0, -1.0, 1.0, 1.0])), **common,
        })  # fmt: skip
    _register(mi)
    _given[:] = [looked_at(cameras, frame, cells).tolist()]
    return mi.load_dict({"type": "imgsynth_rays", "near": near, **common})


def looked_at(cameras: Cameras, frame: int, cells: Cells) -> F64:
    """(height, width, 6) what cells see: the straight point (x, y) of the middle, and its change over a cell.

    The change to the right comes first; the point is NaN outside of a lens's field. Where half of a cell lies
    outside, the change is that of its other half.
    """
    kind, coefficients = models.PINHOLE, np.zeros(8)
    if cameras.lens is not None:
        kind, coefficients = int(cameras.lens.kind[frame]), cameras.lens.coefficients[frame]
    reach, k = models.reach(kind, coefficients), cameras.k[frame]

    def straight(shift: tuple[float, float]) -> F64:
        bent = models.normalized(k, cells.points() + cells.step * np.array(shift))
        return models.straighten(kind, coefficients, bent, reach)

    middle = straight((0, 0))

    def change(ahead: F64, behind: F64) -> F64:
        ahead = np.where(np.isfinite(ahead), ahead, 2 * middle - behind)
        behind = np.where(np.isfinite(behind), behind, 2 * middle - ahead)
        return np.nan_to_num(ahead - behind)

    right, left, down, up = (straight(s) for s in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)))
    return np.concatenate([middle, change(right, left), change(down, up)], -1)


_registered: list[str] = []
_given: list[list[list[list[float]]]] = []  # what the next sensor sees: plugins take numbers only


def _register(mi: Any) -> None:
    """Make the sensor known to Mitsuba, once."""
    if _registered:
        return

    class Rays(mi.Sensor):
        """Rays through film points by a table of what each of its cells sees."""

        def __init__(self, props: Any) -> None:
            super().__init__(props)
            self.near, self.table = float(props["near"]), _given[0]
            self.rows, self.columns = len(self.table), len(self.table[0])

        def sample_ray_differential(
            self, time: Any, wavelength: Any, at: Any, aperture: Any, active: Any = True
        ) -> Any:
            u, v = at.x * self.columns, at.y * self.rows
            j, i = min(int(u), self.columns - 1), min(int(v), self.rows - 1)
            x, y, a, b, c, d = self.table[i][j]
            u, v = u - j - 0.5, v - i - 0.5
            x, y = x + a * u + c * v, y + b * u + d * v
            if not x - x == 0.0 == y - y:  # no number: outside of the lens's field
                away = mi.Point3f(0.0, 0.0, NOWHERE), mi.Vector3f(0.0, 0.0, -1.0)
                return mi.RayDifferential3f(*away), mi.Color3f(1.0)
            s = 1.0 / (x * x + y * y + 1.0) ** 0.5
            start = mi.Point3f(x * self.near, y * self.near, self.near)
            return mi.RayDifferential3f(start, mi.Vector3f(x * s, y * s, s)), mi.Color3f(1.0)

        def to_string(self) -> str:
            return "imgsynth_rays"

    mi.register_sensor("imgsynth_rays", Rays)
    _registered.append("imgsynth_rays")
