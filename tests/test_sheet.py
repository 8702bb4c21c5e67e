"""What contact sheets draw of keypoints, and the order of environment maps below a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgsynth import generate
from imgsynth.environments import list_environments
from imgsynth.errors import DataError
from imgsynth.plan import Plan
from imgsynth.report.sheet import class_color, contact_sheet, draw_frame
from imgsynth.scene import SceneSpec

DICE = {
    "name": "t",
    "classes": ["box"],
    "image": {"size": [160, 160]},
    "camera": {"distance": 1, "elevation_deg": 35},
    "objects": {"box": {"class": "box", "shape": {"box": {"size": [0.4, 0.4, 0.4]}}, "keypoints": "all"}},
}


def test_keypoints_are_discs_and_rings() -> None:
    """A visible one's middle has its class's colour, a hidden one's what was there; those outside nothing."""
    made = generate.frames(Plan(SceneSpec.model_validate(DICE)), 1, range(1))
    points = made.instances.keypoints
    assert points is not None and set(points.visibility) == {1, 2}
    frame = next(iter(made))
    drawn = draw_frame(frame)
    bare = draw_frame(next(iter(replace(made, instances=replace(made.instances, keypoints=None)))))
    color = class_color(1)
    for xy, seen in zip(points.xy, points.visibility, strict=True):
        x, y = (int(v) for v in xy)
        near = drawn[y - 2 : y + 3, x - 2 : x + 3].reshape(-1, 3)
        assert (near == color).all(1).any() and (drawn[y - 4 : y + 5, x - 4 : x + 5] == 0).all(-1).any()
        np.testing.assert_array_equal(drawn[y, x], color if seen == 2 else bare[y, x])
    gone = replace(points, visibility=np.zeros_like(points.visibility))
    without = replace(made, instances=replace(made.instances, keypoints=gone))
    np.testing.assert_array_equal(contact_sheet(without), contact_sheet(replace(made, instances=replace(made.instances, keypoints=None))))  # fmt: skip


def test_environment_maps_of_sub_folders_are_found(tmp_path: Path) -> None:
    (tmp_path / "in" / "sky").mkdir(parents=True)
    for name in ("in/b.hdr", "in/sky/a.exr", "in/sky/.c.hdr", "out.hdr"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "in" / "sky" / "z.hdr").symlink_to(tmp_path / "out.hdr")
    found = [p.relative_to(tmp_path / "in").as_posix() for p in list_environments(tmp_path / "in")]
    assert found == ["b.hdr", "sky/a.exr"]
    with pytest.raises(DataError, match="expected a folder, got a file"):
        list_environments(tmp_path / "out.hdr")
