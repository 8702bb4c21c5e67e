"""Scenes whose art is made by a script: the files are what the script draws, and the labels say what is shown."""

import importlib.util

import numpy as np
import pytest

from imgsynth import generate, scenefile


def script(scene: str, name: str):
    path = scenefile.shipped()[scene] / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"{scene}_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_cards_are_what_their_script_draws():
    faces = script("cards", "make_faces")
    folder = scenefile.shipped()["cards"] / "faces"
    drawn = {f"{rank}/{suit}.svg": faces.face(rank, suit) for rank in faces.RANKS for suit in faces.SUITS}
    assert {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*.svg")} == drawn


@pytest.mark.parametrize(("rank", "pips"), [("nine", 9), ("ten", 10), ("ace", 1)])
def test_a_card_has_as_many_pips_as_its_rank(rank, pips):
    """Counted on the drawing, two small ones in the corners aside."""
    import cv2

    from imgsynth.textures.svg import rasterize_svg

    image = rasterize_svg(scenefile.shipped()["cards"] / "faces" / rank / "diamonds.svg", (880, 630))
    ink = (image[..., 3] > 128) & (image[..., 1] < 128)
    inner = ink[:, 110:520].astype(np.uint8)  # between the indices
    assert cv2.connectedComponents(inner)[0] - 1 == pips


@pytest.mark.parametrize(
    ("scene", "classes"), [("cards", {"nine", "ten", "jack", "queen", "king", "ace"}), ("jenga", {"block"})]
)
def test_every_class_is_drawn_and_labelled(scene, classes):
    batch = generate.frames(scene_loaded := scenefile.load(scene, sets=["image.size=[96, 72]"]), 3, range(24))
    rows = batch.instances
    seen = rows.class_id[(rows.class_id > 0) & (rows.area_visible > 0)]
    assert {scene_loaded.spec.classes[c - 1] for c in seen} == classes
    boxes = rows.box_visible[(rows.class_id > 0) & (rows.area_visible > 0)]
    assert np.all(boxes[:, :2] >= 0) and np.all(boxes[:, 2:] <= [72, 96])
