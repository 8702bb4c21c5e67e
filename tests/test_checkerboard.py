"""The camera against photographs of a board: scripts/proof/checkerboard.py on some of them. Run with ``-m real``."""

import importlib.util
import os
import sys
from pathlib import Path

import pytest

REAL = Path(os.environ.get("IMGSYNTH_REAL", Path(__file__).parents[2] / "shared" / "real")) / "checkerboard"
pytestmark = [pytest.mark.real, pytest.mark.skipif(not REAL.is_dir(), reason=f"no photographs at {REAL}")]


def test_corners_of_rendered_boards_are_where_opencv_projects_them():
    file = Path(__file__).parents[1] / "scripts" / "proof" / "checkerboard.py"
    spec = importlib.util.spec_from_file_location("checkerboard", file)
    proof = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = proof  # its dataclasses look themselves up there
    spec.loader.exec_module(proof)
    found = proof.calibrate(REAL)
    assert len(found.files) == 15
    figures, _ = proof.measure(found, (0, 4, 8, 12))
    assert figures["corners"] == 4 * 54
    assert figures["rendered_to_projection_median"] < 0.1
    assert abs(figures["mean_shift_x"]) < 0.02  # half a pixel, were the first pixel's centre misplaced
    assert abs(figures["mean_shift_y"]) < 0.02
    assert figures["rendered_to_photographed_rms"] < figures["calibration_residual_rms"] + 0.03
