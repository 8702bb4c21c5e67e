"""Folders of meshes: parts that never change, classes from folders, picks as leaves, licences, sheets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
import yaml

from imgsynth import assetset, generate, scenefile
from imgsynth.compose import compose
from imgsynth.errors import SceneError
from imgsynth.scene import SceneSpec
from imgsynth.shapespec import AssetsSpec
from tests.meshwriting import Glb


def box(path: Path, size: float = 0.1, color: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mesh = trimesh.creation.box((size, size, size))
    if color:
        (path.parent / f"{path.stem}.mtl").write_text(f"newmtl paint\nKd {color}\n")
        faces = "\n".join("f {} {} {}".format(*(f + 1)) for f in mesh.faces)
        points = "\n".join("v {} {} {}".format(*v) for v in mesh.vertices)
        path.write_text(f"mtllib {path.stem}.mtl\n{points}\nusemtl paint\n{faces}\n")
    else:
        mesh.export(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("mug/a.obj", "mug/b.obj", "bowl/c.obj"):
        box(tmp_path / "assets" / name, color="1 0 0" if name.startswith("mug") else "0 0 1")
    return tmp_path


def scene(home: Path, /, **assets: Any) -> Path:
    spec = {
        "name": "things",
        "classes": ["mug", "bowl"],
        "image": {"size": [32, 32]},
        "light": {"sun": None, "ambient": {"radiance": 1.0}},
        "background": {"flat": "black"},
        "objects": {"thing": {"count": 2, "shape": {"assets": {"folder": "assets", **assets}}}},
    }
    spec["objects"]["thing"]["place"] = {"position": [{"uniform": [-0.2, 0.2]}, 0, 0]}
    (home / "scene.yaml").write_text(yaml.safe_dump(spec))
    return home / "scene.yaml"


def test_the_parts_hold_every_asset_once_and_stay_when_others_come() -> None:
    names = [f"{c}/{k:03d}.glb" for c in ("mug", "bowl") for k in range(500)]
    test = {n for n in names if assetset.is_test(n, 0.2)}
    assert 160 <= len(test) <= 240  # 200 ± 3 standard deviations
    # The name alone decides: nothing else is asked. A larger share only adds.
    assert test <= {n for n in names if assetset.is_test(n, 0.4)}
    assert not {n for n in names if assetset.is_test(n, 0.0)}
    assert set(names) == {n for n in names if assetset.is_test(n, 1.0)}
    assert all(assetset.is_test(n.replace(".glb", ".b.obj"), 0.2) == (n in test) for n in names)


def test_known_names_are_where_they_have_always_been() -> None:
    """Fixed for good: a release that moved them would mix test assets into training."""
    names = [f"mug/{k}.glb" for k in range(40)]
    assert [k for k, n in enumerate(names) if assetset.is_test(n, 0.2)] == KNOWN


KNOWN = [7, 14, 16, 18, 21, 22, 29, 32, 34, 38, 39]


def test_train_and_test_part_the_folder(folder: Path) -> None:
    for k in range(30):
        box(folder / "assets" / "mug" / f"m{k}.stl")
    train, test, whole = (
        assetset.part(AssetsSpec(folder="assets", split=split), folder) for split in ("train", "test", "all")
    )
    assert sorted(train + test) == whole and len(whole) == 33 and test


def test_the_pick_is_a_leaf_and_names_the_asset(folder: Path) -> None:
    loaded = scenefile.load(scene(folder, classes="folder"))
    batch = generate.frames(loaded, 0, range(24))
    picks = np.concatenate([batch.values[f"objects.thing[{k}].shape.assets.pick"] for k in range(2)])
    assert set(picks) == {"mug/a.obj", "mug/b.obj", "bowl/c.obj"}
    rows = batch.instances
    for k in range(len(rows)):
        pick = batch.values[f"{rows.path[k]}.shape.assets.pick"][rows.frame[k]]
        assert batch.classes[rows.class_id[k] - 1] == pick.split("/")[0]
        # Red mugs, blue bowls: the file's own material is drawn.
        seen = batch.buffers.color[rows.frame[k], ::2, ::2][
            batch.buffers.instance[rows.frame[k]] == rows.id[k]
        ]
        if len(seen) > 20:
            channel = 0 if pick.startswith("mug") else 2
            assert np.median(seen[:, channel]) > 0.3 and np.median(seen[:, 2 - channel]) < 0.05


def test_a_frame_is_the_same_alone_and_in_a_batch(folder: Path) -> None:
    loaded = scenefile.load(scene(folder))
    batch = generate.frames(loaded, 5, range(6))
    for i in range(6):
        alone = generate.frames(loaded, 5, [i])
        assert np.array_equal(alone.images[0], batch.images[i])
        assert np.array_equal(alone.buffers.instance[0], batch.buffers.instance[i])


def test_folders_as_often_or_by_weight(folder: Path) -> None:
    spec = AssetsSpec(folder="assets", balance="folders")
    assert assetset.law(spec, folder)["choice"] == {
        "values": ["bowl/c.obj", "mug/a.obj", "mug/b.obj"],
        "weights": [1.0, 0.5, 0.5],
    }
    law = assetset.law(AssetsSpec(folder="assets", balance={"mug": 3.0, "bowl": 0.0}), folder)
    assert law["choice"]["weights"] == [0.0, 1.5, 1.5]
    with pytest.raises(SceneError, match=r"balance names 'mugs'.*did you mean 'mug'"):
        assetset.law(AssetsSpec(folder="assets", balance={"mugs": 1.0}), folder)


def test_sets_may_change_the_part_of_a_loaded_scene(folder: Path) -> None:
    for k in range(30):
        box(folder / "assets" / "mug" / f"m{k}.stl")
    train = scenefile.load(scene(folder, split="train"))
    test = scenefile.load(train, sets=["objects.thing.shape.assets.split=test"])
    again = scenefile.load(SceneSpec.model_validate(train.spec.canonical()))

    def picks(loaded: scenefile.Scene) -> set[str]:
        pick = loaded.spec.objects["thing"].shape.assets.pick  # type: ignore[union-attr]
        return set(pick.support())  # type: ignore[union-attr]

    assert picks(train) and picks(test) and not picks(train) & picks(test)
    box(folder / "assets" / "mug" / "later.stl")
    assert picks(again) == picks(train)  # a spec with its listing makes the same frames again
    one = scenefile.load(train, sets=["objects.thing[0].shape.assets.pick=bowl/c.obj"])
    values = generate.frames(one, 0, range(4)).values["objects.thing[0].shape.assets.pick"]
    assert set(values) == {"bowl/c.obj"}


@pytest.mark.parametrize(
    ("assets", "message"),
    [
        ({"folder": "gone"}, "gone: no such folder"),
        ({"split": "test", "test_share": 0.0}, "none of the 3 assets"),
        ({"pick": "mug/z.obj"}, "'mug/z.obj' is not in"),
        ({"split": "both"}, "split"),
        ({"unit": "km"}, "expected m, cm, mm, inch, ft or a number"),
        ({"unit": "mm", "size_m": 1.0}, "unit and size_m"),
        ({"fodler": "x"}, "did you mean 'folder'"),
    ],
)
def test_mistakes_are_one_line_with_file_and_path(folder: Path, assets: dict[str, Any], message: str) -> None:
    with pytest.raises(SceneError) as caught:
        scenefile.load(scene(folder, **assets))
    text = str(caught.value)
    assert message in text and "scene.yaml:" in text and "objects.thing" in text and "\n" not in text


def test_class_and_classes_cannot_both_name_the_class(folder: Path) -> None:
    path = scene(folder, classes="folder")
    path.write_text(path.read_text().replace("count: 2", "count: 2\n    class: mug"))
    with pytest.raises(SceneError, match="one thing to name the class"):
        scenefile.load(path)


def test_an_asset_in_no_sub_folder_has_no_class(folder: Path) -> None:
    box(folder / "assets" / "loose.obj")
    with pytest.raises(SceneError, match=r"'loose\.obj' is in no sub-folder"):
        generate.frames(scenefile.load(scene(folder, classes="folder", pick="loose.obj")), 0, [0])


def test_hidden_files_links_out_and_other_files_are_left_out(folder: Path, tmp_path: Path) -> None:
    box(folder / "assets" / ".hidden" / "x.obj")
    (folder / "assets" / "readme.txt").write_text("hello")
    outside = folder / "outside.obj"
    box(outside)
    (folder / "assets" / "link.obj").symlink_to(outside)
    assert assetset.find(folder / "assets") == ["bowl/c.obj", "mug/a.obj", "mug/b.obj"]


def test_licences_go_into_the_scene(folder: Path) -> None:
    (folder / "assets" / "LICENSE").write_text("\n# CC0 1.0 Universal\n\nmore words\n")
    assert scenefile.load(scene(folder)).spec.licences == {"assets": "CC0 1.0 Universal"}
    (folder / "assets" / "asset.yaml").write_text("licence: CC-BY-4.0\nsource: https://example.org\n")
    assert scenefile.load(scene(folder)).spec.licences == {"assets": "CC-BY-4.0"}


def test_sheets_give_unit_and_keypoints_nearest_first(folder: Path) -> None:
    (folder / "assets" / "asset.yaml").write_text("unit: mm\nup_axis: y\n")
    (folder / "assets" / "mug" / "asset.yaml").write_text("unit: cm\n")
    (folder / "assets" / "mug" / "a.keypoints.yaml").write_text("keypoints: {handle: [0.05, 0, 0.01]}\n")
    said = assetset.sheet(folder / "assets" / "mug" / "a.obj", folder / "assets")
    assert (said.unit, said.up_axis) == ("cm", "y")
    assert said.keypoints == {"handle": (0.05, 0.0, 0.01)}
    assert assetset.sheet(folder / "assets" / "bowl" / "c.obj", folder / "assets").unit == "mm"
    assert assetset.reading(AssetsSpec(folder="x", size_m=0.3), said)["unit"] is None
    assert assetset.reading(AssetsSpec(folder="x", up_axis="z"), said)["up_axis"] == "z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("units: mm\n", "asset.yaml:1: units: unknown key; did you mean 'unit'"),
        ("keypoints:\n  tip: [0, 0]\n", "asset.yaml:2: keypoints.tip"),
        ("unit: [", "not valid YAML"),
        ("keypoints: {tip: [0, 0, .nan]}\n", "asset.yaml:1"),
    ],
)
def test_sheets_are_strict(folder: Path, text: str, message: str) -> None:
    (folder / "assets" / "mug" / "asset.yaml").write_text(text)
    with pytest.raises(SceneError) as caught:
        generate.frames(scenefile.load(scene(folder, pick="mug/a.obj")), 0, [0])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def shown(folder: Path, light: Any = None, **thing: Any) -> Any:
    """One frame of one object that fills the view, with no light but what is around, unless given."""
    spec = {
        "name": "one",
        "classes": ["thing"],
        "image": {"size": [32, 32]},
        "camera": {"distance": 1.0, "elevation_deg": 90, "fov_deg": 30},
        "light": light or {"sun": None, "ambient": {"radiance": 1.0}},
        "background": {"flat": "black"},
        "objects": {"thing": {"class": "thing", **thing}},
    }
    (folder / "scene.yaml").write_text(yaml.safe_dump(spec))
    return generate.frames(scenefile.load(folder / "scene.yaml"), 0, [0])


def halves(folder: Path) -> None:
    """Two squares side by side, red and blue, seen from above."""
    (folder / "h.mtl").write_text("newmtl left\nKd 1 0 0\nPr 1\nnewmtl right\nKd 0 0 1\nPr 1\n")
    (folder / "h.obj").write_text(
        "mtllib h.mtl\nv -1 -1 0\nv 0 -1 0\nv 0 1 0\nv -1 1 0\nv 1 -1 0\nv 1 1 0\n"
        "usemtl left\nf 1 2 3 4\nusemtl right\nf 2 5 6 3\n"
    )


@pytest.mark.parametrize(
    ("more", "left", "right"),
    [
        ({}, "r", "b"),
        ({"material": {"roughness": 0.9}}, "r", "b"),  # a key that the file's colours do not fear
        ({"material": {"color": "#00ff00"}}, "g", "g"),
        ({"parts": {"right": {"color": "#00ff00"}}}, "r", "g"),
        ({"parts": {"left": {"color": "#00ff00"}}}, "g", "b"),
        ({"material": {"color": "#00ff00"}, "parts": {"left": {"roughness": 1}}}, "r", "g"),
    ],
)
def test_the_scene_overrides_a_files_materials_key_by_key(
    folder: Path, more: dict[str, Any], left: str, right: str
) -> None:
    halves(folder)
    image = shown(folder, shape={"mesh": {"file": "h.obj"}}, **more).images[0]
    row = image[16].astype(int)
    # Azimuth -90°, from above: x to the right.
    assert "rgb"[row[4].argmax()] == left and "rgb"[row[27].argmax()] == right


def test_a_files_materials_may_be_left_aside(folder: Path) -> None:
    halves(folder)
    image = shown(folder, shape={"mesh": {"file": "h.obj", "materials": "scene"}}).images[0]
    assert (np.ptp(image[16].astype(int), axis=-1) == 0).all()
    with pytest.raises(SceneError, match=r"no part 'middle' \(it has left, right\)"):
        shown(folder, shape={"mesh": {"file": "h.obj"}}, parts={"middle": {}})


def composed(path: Path, n: int) -> tuple[Any, Any]:
    loaded = scenefile.load(path)
    draws = loaded.plan().sample(0, range(n))
    return compose(loaded.plan(), draws, folder=loaded.folder), draws


@pytest.mark.parametrize(("azimuth", "tilt"), [(0, (1, 0)), (90, (0, 1)), (180, (-1, 0)), (270, (0, -1))])
def test_a_files_normal_map_leans_along_u_and_up_along_v(
    folder: Path, azimuth: float, tilt: tuple[int, int]
) -> None:
    """A map that leans to the sun by 45° makes a floor as bright as a sheet that faces it: √2 times the floor's."""
    light = {
        "sun": {"azimuth_deg": azimuth, "elevation_deg": 45, "shadows": False},
        "ambient": {"radiance": 0.0},
    }
    found = []
    for lean in (0.0, 1.0):
        g = Glb()
        normal = np.array([tilt[0] * lean, tilt[1] * lean, 1.0])
        texel = np.rint(128 + 127 * normal / np.linalg.norm(normal))
        own = g.material(
            normalTexture=g.texture(np.tile(texel, (4, 4, 1))),
            pbrMetallicRoughness={"metallicFactor": 0.0, "roughnessFactor": 1.0, "baseColorFactor": [0.5, 0.5, 0.5, 1]},
        )  # fmt: skip
        g.node(mesh=g.mesh(g.quad(own)))
        g.glb(folder / "n.glb")
        frame = shown(
            folder,
            light=light,
            shape={"mesh": {"file": "n.glb", "up_axis": "z", "center": "box", "size_m": 2}},
        )
        found.append(float(frame.buffers.color[0, 30:34, 30:34].mean()))
    assert found[1] / found[0] == pytest.approx(np.sqrt(2), rel=0.03)


def test_keypoints_of_a_sheet_reach_the_renderer_in_metres(folder: Path) -> None:
    halves(folder)
    (folder / "h.keypoints.yaml").write_text("keypoints: {corner: [-1, 1, 0], middle: [0, 0, 0]}\n")
    shown(folder, shape={"mesh": {"file": "h.obj", "unit": "cm"}}, keypoints=["middle", "corner"])
    points = composed(folder / "scene.yaml", 1)[0].meshes.keypoints
    assert points.name.tolist() == ["middle", "corner"]
    assert np.allclose(points.position, [[0, 0, 0], [-0.01, 0.01, 0]])


def test_assets_have_keypoints_of_their_own(folder: Path) -> None:
    want = {"mug/a.obj": 0.01, "mug/b.obj": 0.02, "bowl/c.obj": 0.03}
    for name, x in want.items():
        sheet = (folder / "assets" / name).with_suffix(".keypoints.yaml")
        sheet.write_text(f"keypoints: {{tip: [{x}, 0, 0]}}\n")
    path = scene(folder, classes="folder")
    path.write_text(path.read_text().replace("count: 2", "count: 2\n    keypoints: [tip]"))
    batch, draws = composed(path, 8)
    picks = draws["objects.thing.shape.assets.pick"]
    points = batch.meshes.keypoints
    for k in range(len(batch.instances)):
        slot = int(batch.instances.path[k][-2])
        point = points.position[points.start[batch.instances.mesh[k]]]
        assert point.tolist() == pytest.approx([want[picks[batch.instances.frame[k], slot]], 0, 0])


def test_the_command_lists_assets_and_says_what_is_broken(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgsynth import cli

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["imgsynth", *words])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    code, out, err = run("assets", str(folder / "assets"))
    assert code == 0 and "mug/a.obj: " in out and "12 triangles, 0.1 × 0.1 × 0.1 m, materials paint" in out
    (folder / "assets" / "bad.stl").write_bytes(b"solid nothing")
    code, out, err = run("assets", str(folder / "assets"), "--json")
    listed = {entry["name"]: entry for entry in json.loads(out)}
    assert code == 1 and "truncated" in listed["bad.stl"]["error"] and listed["bowl/c.obj"]["triangles"] == 12
    assert err.strip().endswith("1 of 4 meshes cannot be used") and "\n" not in err.strip()
    code, out, err = run("assets", str(folder / "nothing"))
    assert (code, out) == (2, "") and "no such file or folder" in err


def test_what_changes_a_mesh_is_said_on_stderr_once(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from imgsynth import cli

    halves(folder)
    (folder / "h.obj").write_text((folder / "h.obj").read_text() + "f 1 1 2\n")
    shown(folder, shape={"mesh": {"file": "h.obj", "unit": 0.5}})  # writes the scene
    (folder / "h.obj").write_text((folder / "h.obj").read_text() + "f 2 2 3\n")  # not the one at hand
    monkeypatch.setattr(
        "sys.argv", ["imgsynth", "render", str(folder / "scene.yaml"), "-n", "3", "-o", str(folder / "out")]
    )
    with pytest.raises(SystemExit):
        cli.main()
    assert capsys.readouterr().err.count("h.obj: 2 triangles without area dropped") == 1
