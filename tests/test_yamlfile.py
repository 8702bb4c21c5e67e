import pytest

from imgsynth.errors import SceneError
from imgsynth.yamlfile import MAX_NODES, Spec, parse_yaml, read_yaml, validate


class Inner(Spec):
    width: float
    height: float = 1.0


class Outer(Spec):
    radius: float = 1.0
    inner: Inner | None = None
    items: dict[str, Inner] = {}


def message(text, tmp_path):
    file = tmp_path / "scene.yaml"
    file.write_text(text)
    with pytest.raises(SceneError) as caught:
        validate(Outer, read_yaml(file))
    return str(caught.value).replace(str(tmp_path) + "/", "")


def test_valid_document():
    outer = validate(Outer, parse_yaml("radius: 1e-3\nitems: {a: {width: 2}}"))
    assert outer.radius == 1e-3
    assert outer.items["a"].width == 2.0


def test_words_stay_words():
    assert parse_yaml("[yes, no, on, off, y, 2026-01-01, 012, 0x10]").data == [
        "yes",
        "no",
        "on",
        "off",
        "y",
        "2026-01-01",
        "012",
        "0x10",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("radius: x\n", "scene.yaml:1: radius: expected a number, got x"),
        (
            "\nradus: 1\n",
            "scene.yaml:2: radus: unknown key; did you mean 'radius'? (valid: radius, inner, items)",
        ),
        (
            "items:\n  a:\n    widht: 1\n",
            "scene.yaml:3: items.a.widht: unknown key; did you mean 'width'? (valid: width, height)",
        ),
        ("items:\n  a: {}\n", "scene.yaml:2: items.a.width: is missing"),
        ("inner: 3\n", "scene.yaml:1: inner: expected a mapping with keys width, height, got 3"),
        ("radius: 1\nradius: 2\n", "scene.yaml:2: key 'radius' stands twice"),
    ],
)
def test_one_line_says_where_and_what(text, expected, tmp_path):
    got = message(text, tmp_path)
    assert got.startswith(expected), got
    assert "\n" not in got


def test_first_mistake_in_file_order_and_a_count_of_the_rest(tmp_path):
    assert message("radus: 1\ninner: {widht: 1}\n", tmp_path).startswith("scene.yaml:1: radus")


@pytest.mark.parametrize(
    "text", ["a: [", "a: !!python/object/apply:os.system [ls]", "\tx", "a: &b [*b]", "a: \a"]
)
def test_hostile_or_broken_yaml_is_one_line(text, tmp_path):
    assert "\n" not in message(text, tmp_path)


def test_exploding_aliases_are_refused():
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{i}: &a{i} [" + ", ".join([f"*a{i - 1}"] * 10) + "]" for i in range(1, 9)]
    with pytest.raises(SceneError, match=f"more than {MAX_NODES} values"):
        parse_yaml("\n".join(levels))


def test_missing_file_and_not_text(tmp_path):
    with pytest.raises(SceneError, match="no such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SceneError, match="not UTF-8"):
        read_yaml(tmp_path / "b.yaml")
