"""The scenes in docs/camera.md load and render."""

import re
from pathlib import Path

import pytest
import yaml

from imgsynth import generate
from imgsynth.scene import SceneSpec
from imgsynth.scenefile import Scene

TEXT = (Path(__file__).parents[1] / "docs" / "camera.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.S)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.split("\n")[1].strip()[:30])
def test_each_example_renders(block):
    if "effects:" in block:
        pytest.importorskip("albumentations")
    thing = {"class": "thing", "shape": {"box": {"size": 0.4}}}
    size = [720, 1280] if "cx: 670" in block else [36, 64]
    spec = {"name": "doc", "classes": ["thing"], "image": {"size": size}, "objects": {"box": thing}}
    spec["renderer"] = {"samples": 1}
    made = generate.frames(
        Scene(SceneSpec.model_validate(spec | yaml.safe_load(block)), Path()).plan(), 0, [0]
    )
    assert made.images.shape == (1, *size, 3)


def test_the_tests_that_it_names_exist():
    sources = "".join(f.read_text() for f in Path(__file__).parent.glob("test_*.py"))
    named = set(re.findall(r"`(?:test_\w+\.py::)?(test_\w+)`", TEXT))
    assert len(named) >= 8
    assert [n for n in named if f"def {n}(" not in sources] == []
