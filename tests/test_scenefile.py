import jsonschema
import pytest
import yaml

from imgsynth import scenefile
from imgsynth.errors import SceneError

GOOD = """
name: t
classes: [a]
objects:
  x:
    class: a
    shape: {sphere: {radius: 0.1}}
"""

VALIDATOR = jsonschema.Draft202012Validator(scenefile.schema())


def write(tmp_path, text):
    (tmp_path / "scene.yaml").write_text(text)
    return tmp_path


def refused(tmp_path, text, **options):
    with pytest.raises(SceneError) as caught:
        scenefile.load(write(tmp_path, text), **options)
    line = str(caught.value)
    assert "\n" not in line
    return line.replace(str(tmp_path) + "/", "")


@pytest.mark.parametrize("name", sorted(scenefile.shipped()))
def test_shipped_scenes_load_and_fit_the_schema(name):
    loaded = scenefile.load(name)
    assert loaded.spec.name == name
    assert loaded.spec.description
    VALIDATOR.validate(yaml.safe_load((loaded.folder / "scene.yaml").read_text()))


def test_schema_is_valid_and_refuses_what_the_parser_refuses():
    jsonschema.Draft202012Validator.check_schema(VALIDATOR.schema)
    good = yaml.safe_load(GOOD)
    VALIDATOR.validate(good)
    for wrong in (
        {"nmae": "x"},
        {"camera": {"fov_deg": "wide"}},
        {"camera": {"fov_deg": {"uniform": [1]}}},
        {"image": {"size": [0, 4]}},
    ):
        assert not VALIDATOR.is_valid({**good, **wrong})


def test_by_name_folder_and_file(tmp_path):
    write(tmp_path, GOOD)
    assert scenefile.load(tmp_path).spec == scenefile.load(tmp_path / "scene.yaml").spec
    assert scenefile.load("dice").folder.name == "dice"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            GOOD.replace("radius: 0.1", "radius: -1"),
            "scene.yaml:7: objects.x.shape.sphere.radius: expected a number or distribution > 0, got -1",
        ),
        (
            GOOD.replace("radius: 0.1", "radius: 10cm"),
            "scene.yaml:7: objects.x.shape.sphere.radius: expected a number or distribution > 0, got 10cm (write a bare number: lengths are metres",
        ),
        (GOOD.replace("radius: 0.1", "radius: {unifrom: [1, 2]}"), "did you mean"),
        (
            GOOD.replace("radius: 0.1", "radius: {uniform: [2, 1]}"),
            "scene.yaml:7: objects.x.shape.sphere.radius",
        ),
        (
            GOOD.replace("sphere:", "spere:"),
            "scene.yaml:7: objects.x.shape.spere: unknown key; did you mean 'sphere'?",
        ),
        (
            GOOD.replace("{sphere: {radius: 0.1}}", "{}"),
            "scene.yaml:7: objects.x.shape: expected exactly one of sphere",
        ),
        (GOOD + "camera: {fov: 30}\n", "scene.yaml:8: camera.fov: unknown key; did you mean 'fov_deg'?"),
        (GOOD + "image: {size: [64]}\n", "scene.yaml:8: image.size"),
        (GOOD + "renderer: {samples: 3}\n", "scene.yaml:8: renderer.samples: expected 1, 4, 9"),
        (GOOD + "classes: [b]\n", "key 'classes' stands twice"),
        (GOOD.replace("[a]", "[a, a]"), "a class name stands twice"),
        (GOOD.replace("[a]", "[0, 1]"), "quote numbers"),
        (GOOD.replace("  x:", "  x-y:"), "x-y"),
        (GOOD + "light: {sun: {color: rde}}\n", "scene.yaml:8: light.sun.color"),
        ("name: t\nobjects: []\n", "scene.yaml:2: objects: expected a mapping"),
        ("", "scene.yaml: expected a mapping"),
    ],
)
def test_every_mistake_is_one_line_with_its_place(text, expected, tmp_path):
    assert expected in refused(tmp_path, text)


def test_unknown_scene_lists_what_ships(tmp_path):
    with pytest.raises(SceneError, match="did you mean 'dice'"):
        scenefile.load("dise")
    with pytest.raises(SceneError, match=r"has no scene\.yaml"):
        scenefile.load(tmp_path)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("camera.fov_deg", "--set expects PATH=VALUE"),
        ("camera.fov=3", "--set camera.fov=3: camera.fov: unknown key"),
        (
            "camera.fov_deg=900",
            "--set camera.fov_deg=900: camera.fov_deg: expected a number or distribution within (0, 175), got 900",
        ),
        ("objects.x.shape.sphere.radius.big=3", "is a single value, nothing stands below it"),
        ("objects.y.count=3", "--set objects.y.count: no such group"),
        ("name=[", "--set name: not valid YAML"),
    ],
)
def test_a_wrong_set_is_blamed_on_the_option(setting, expected, tmp_path):
    assert expected in refused(tmp_path, GOOD, sets=[setting])
