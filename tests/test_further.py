"""Generators that stand beside the main one: drawn by name only, told apart in results, refused at their place."""

import pytest
from study_for_tests import blobs, run, save, write

from imgsynth.errors import SceneError
from imgsynth.study.spec import load_study


@pytest.fixture
def folder(tmp_path):
    save(blobs(300, 1), tmp_path / "synthetic.npz")
    save(blobs(120, 2, shift=2.0), tmp_path / "far.npz")
    for k, part in enumerate(("train", "validation", "test")):
        save(blobs(90, 10 + k), tmp_path / f"{part}.npz")
    return tmp_path


FAR = {"far": {"data": "far.npz"}}


def test_only_an_arm_that_names_it_draws_from_it(folder):
    write(folder, arms=["real", "synthetic", "both"], scaling=None)
    before = run(folder, "before")["arms"]
    write(folder, arms=["real", "synthetic", "both", "synthetic:far", "both:far"], further=FAR, scaling=None)
    results = run(folder)
    for arm in ("real", "synthetic", "both"):
        assert results["arms"][arm] == before[arm]
    assert results["arms"]["synthetic:far"]["accuracy"]["mean"] < before["synthetic"]["accuracy"]["mean"]
    assert results["what"]["images"]["synthetic far"] == 120
    assert results["what"]["images"]["synthetic"] == 300


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"further": {"far": {"data": "no.npz"}}}, r"further\.far\.data: no\.npz"),
        ({"further": {"mix": {"data": "far.npz"}}}, r"further: the name of a generator"),
        ({"further": {"far": {"data": "far.npz", "zap": 1}}}, r"further\.far\.zap: unknown key"),
        (
            {"further": FAR, "arms": ["real", "synthetic:fra"]},
            r"arms\[1\]: no generator .*did you mean 'far'",
        ),
        ({"further": FAR, "synthetic": {"far": {"data": "far.npz"}}}, "further: far is the name of another"),
    ],
)
def test_misuse_is_one_line(folder, changes, message):
    write(folder, **changes)
    with pytest.raises(SceneError, match=message) as error:
        run(folder)
    assert "\n" not in str(error.value)


def test_without_it_a_study_is_what_it_was(folder):
    spec = load_study(write(folder)).spec
    assert "further" not in spec.canonical() and list(spec.sources()) == ["synthetic"]
