"""The scene traffic_signs: 43 classes whose faces are what their labels say, cut out as GTSRB cuts them out; and what it needs."""

import os
from pathlib import Path

import numpy as np
import pytest

from imgsynth import generate, scenefile
from imgsynth.errors import ImgsynthError, SceneError
from imgsynth.textures import rasterize_svg

SCENE = Path(__file__).parents[1] / "scenes" / "traffic_signs"
CLASSES = tuple(f"{k:05d}" for k in range(43))
REAL = Path(os.environ.get("IMGSYNTH_REAL", Path(__file__).parents[2] / "shared" / "real"))
# Straight on, evenly lit, nothing in front or behind, a large crop: faces as they are drawn.
PLAIN = [
    "variables.crop=4.8", "variables.yaw=0", "camera.elevation_deg=0", "camera.roll_deg=0", "camera.framing.margin_x=0",
    "camera.framing.margin_y=0", "camera.framing.shift_x=0", "camera.framing.shift_y=0", "light.sun.irradiance=0",
    "light.ambient.radiance=1", "light.ambient.color=white", "background.weights={flat: 1, gradient: 0, noise: 0}",
    "objects.pole.count=0", "objects.neighbour.count=0", "objects.board.count=0", "objects.clutter.count=0",
    "objects.shade.count=0", "objects.trees.count=0", "objects.spot.count=0", "objects.sign.material.color=white", "sensor={}",
]  # fmt: skip


def shown(batch):
    """Class number of each frame's one labelled instance."""
    labelled = batch.instances.class_id > 0
    assert np.bincount(batch.instances.frame[labelled]).tolist() == [1] * len(batch.images)
    return batch.instances.class_id[labelled] - 1


def test_all_classes_come_and_are_named_as_gtsrb_names_its_folders():
    scene = scenefile.load("traffic_signs")
    assert scene.spec.classes == CLASSES
    batch = generate.frames(scene, 0, range(450))
    assert batch.images.shape == (450, 32, 32, 3)
    label = shown(batch)
    chosen = batch.values["objects.sign[0].material.texture.file"].astype(int)
    assert (label == chosen).all()
    assert len(np.unique(label)) == 43


def test_the_face_seen_is_the_class_named():
    """Of all faces drawn, that of the label fits the picture best."""
    scene = scenefile.load("traffic_signs", sets=PLAIN)
    batch = generate.frames(scene, 3, range(300))
    label = shown(batch)
    names, faces = [], []
    for path in sorted((SCENE / "faces").glob("*.svg")):
        drawn = rasterize_svg(path, (256, 256))
        rows, columns = (np.flatnonzero((drawn[..., 3] > 127).any(axis=a)) for a in (1, 0))
        part = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
        y, x = (np.linspace(0, n - 1, 32).round().astype(int) for n in part.shape[:2])
        faces.append(part[y][:, x])
        names.append(int(path.name[:5]))
    error = np.stack(
        [
            ((batch.images - f[..., :3]) ** 2 * (f[..., 3:] > 250)).sum(axis=(1, 2, 3))
            / (f[..., 3] > 250).sum()
            for f in faces
        ],
        1,
    )
    assert (np.array(names)[error.argmin(axis=1)] == label).mean() > 0.97


def test_the_crop_leaves_what_gtsrb_leaves():
    """The sign's box in the picture: the margin on each side, whatever the sign's outline."""
    sets = [s for s in PLAIN if "margin" not in s]
    sets += ["camera.framing.margin_x=0.15", "camera.framing.margin_y=0.1"]
    batch = generate.frames(scenefile.load("traffic_signs", sets=sets), 5, range(120))
    semantic = batch.semantic > 0
    for k in range(120):
        rows, columns = (np.flatnonzero(semantic[k].any(axis=a)) for a in (1, 0))
        assert abs(columns[0] - 4.8) <= 1 and abs(columns[-1] + 1 - 27.2) <= 1, k
        assert abs(rows[0] - 3.2) <= 1 and abs(rows[-1] + 1 - 28.8) <= 1, k


def test_frames_are_the_same_alone_and_in_a_batch():
    scene = scenefile.load("traffic_signs")
    whole = generate.frames(scene, 9, range(20)).images
    for i in (0, 7, 19):
        assert (generate.frames(scene, 9, [i]).images[0] == whole[i]).all()


def tiny(tmp_path, file, variants=("a.svg", "a.b.svg", "c.svg")):
    (tmp_path / "art").mkdir()
    for k, name in enumerate(variants):
        color = ("#ff0000", "#00ff00", "#0000ff")[k]
        (tmp_path / "art" / name).write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 4 4"><rect width="4" height="4" fill="{color}"/></svg>'
        )
    text = f"""
name: tiny
classes: [a, c, cc]
image: {{size: [8, 8]}}
camera: {{elevation_deg: 90, distance: 1}}
light: {{sun: null, ambient: {{radiance: 1}}}}
objects:
  sheet:
    class: {{expr: material.texture.file}}
    shape: {{quad: {{width: 4, height: 4}}}}
    material: {{texture: {{folder: art, file: {file}}}}}
"""
    (tmp_path / "scene.yaml").write_text(text)
    return tmp_path / "scene.yaml"


def test_a_file_is_chosen_by_name_and_its_variants_by_pick(tmp_path):
    batch = generate.frames(scenefile.load(tiny(tmp_path, "{choice: [a, c]}")), 0, range(200))
    chosen = batch.values["objects.sheet[0].material.texture.file"]
    color = batch.images[:, 4, 4].argmax(axis=1)
    assert set(color[chosen == "a"]) == {0, 1} and set(color[chosen == "c"]) == {2}
    assert abs(np.mean(color[chosen == "a"]) - 0.5) < 0.15
    assert (np.array(["a", "c"])[shown(batch)] == chosen).all()


def test_a_name_without_a_file_is_said_with_the_nearest(tmp_path):
    with pytest.raises(
        SceneError, match=r"scene.yaml:\d+: objects.sheet.material.texture: .*no image is named 'cc'.*'c'"
    ):
        generate.frames(scenefile.load(tiny(tmp_path, "cc")), 0, range(2))


def test_file_without_folder_is_refused():
    with pytest.raises(ImgsynthError, match="give folder too"):
        scenefile.load(
            "traffic_signs", sets=["objects.sign.material.texture={svg: faces/00000.svg, file: a}"]
        )


@pytest.mark.real
@pytest.mark.skipif(not (REAL / "gtsrb").is_dir(), reason=f"no GTSRB at {REAL}")
def test_looks_are_near_the_real_ones():
    """Light, contrast, sharpness and colour of rendered signs against GTSRB's training tracks."""
    from imgsynth.dataset.labelled import LabelledImages
    from imgsynth.dataset.sources import load
    from imgsynth.evaluate.statistics import statistics

    batch = generate.frames(scenefile.load("traffic_signs"), 1, range(1200))
    made = LabelledImages(batch.images, shown(batch).astype(np.int64), CLASSES, None, "traffic_signs")
    found = statistics(made, load(f"torchvision:GTSRB:{REAL / 'gtsrb'}#train"))
    near = {g.figure: g for g in found.gaps}
    for figure in ("luminance", "contrast", "sharpness", "slope", "noise", "saturation", "centre"):
        assert abs(near[figure].shift) < 0.6 and 0.6 < near[figure].spread < 1.7, figure
