"""`imgsynth evaluate …` as users call it: help that teaches, JSON on stdout, one-line errors, pages."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import typer
from planted import PlantedLearner, real_images, setting
from typer.testing import CliRunner

from imgsynth import analyses, generate
from imgsynth.errors import DataError, ImgsynthError
from imgsynth.report.analysis import Grid, Page, Row, Section, heads, render_page

NAMES = [
    "ablate",
    "knob",
    "tune",
    "errors",
    "statistics",
    "corruptions",
    "memorization",
    "distance",
    "scaling",
    "worth",
]
runner = CliRunner()


def call(*arguments):
    return runner.invoke(analyses.app, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def planted(monkeypatch, tmp_path):
    """The scene of `planted` with its learner in place of the real one."""
    import yaml
    from planted import SCENE

    (tmp_path / "scene.yaml").write_text(yaml.safe_dump(SCENE))
    monkeypatch.setattr(
        "imgsynth.probe.learner.learner_of", lambda task, net=None, steps=None: PlantedLearner(costs=0.1)
    )
    return tmp_path


# ---- help and errors ----


@pytest.mark.parametrize("name", NAMES)
def test_help_teaches(name):
    said = call(name, "--help")
    assert said.exit_code == 0
    assert len(said.stdout.split("Options:")[0]) > 200  # says what it does, not only how it is called
    assert "--json" in said.stdout


def test_help_loads_no_engine():
    code = (
        "import sys; from imgsynth import analyses\n"
        "print(sorted({'torch', 'warp', 'matplotlib', 'sklearn', 'scipy', 'numpy', 'optuna'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_errors_are_one_line_with_exit_code_2(tmp_path):
    command = [sys.executable, "-m", "imgsynth.cli", "evaluate", "scaling", "nothing.csv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("imgsynth: nothing.csv: No such file")
    for arguments, said in (
        (["ablate", "digits", "--real", "sklearn:digits:test", "-o", tmp_path / "out"], "test split"),
        (["errors", "model", "nowhere"], "no such dataset folder"),
        (["ablate", "digits", "--real", "x", "-o", tmp_path / "out", "--task", "sing"], "--task: expected"),
    ):
        with pytest.raises(ImgsynthError, match=said) as error:
            call(*arguments)
        assert "\n" not in str(error.value) and error.value.exit_code == 2
    assert not (tmp_path / "out").exists()


# ---- experiments on a scene ----


def test_ablate_writes_figures_and_a_page(planted):
    real = real_images(planted / "real.npz", 200)
    arguments = [
        "ablate", planted / "scene.yaml", "--real", real, "-o", planted / "out", "--count", 30, "--seeds", 2,
        "--workers", 1, "--bootstrap", 200,
    ]  # fmt: skip
    results = json.loads(call(*arguments, "--json").stdout)
    assert results == json.loads((planted / "out/results.json").read_text())
    assert results["randomizers"][0]["path"] == "light"
    assert results["what"]["command"].startswith("imgsynth evaluate ablate ")
    page = (planted / "out/report.html").read_text()
    _whole(page)
    assert "light" in page and results["verdict"][0] in page
    said = call(*arguments).stdout
    assert re.search(r"light +−\d+\.\d points", said) and said.endswith("report.html\n")


def test_knob_and_tune_write_theirs(planted):
    real = real_images(planted / "real.npz", 200)
    common = [
        planted / "scene.yaml",
        "--real",
        real,
        "--count",
        30,
        "--seeds",
        2,
        "--workers",
        1,
        "--bootstrap",
        200,
    ]
    knob = json.loads(call("knob", *common, "-o", planted / "knob", "--epsilon", 0, "--json").stdout)
    assert [p["epsilon"] for p in knob["points"]] == [0, 1]
    _whole((planted / "knob/report.html").read_text())
    pytest.importorskip("optuna")
    arguments = ["tune", *common, "-o", planted / "tune", "--trials", 3, "--vary", "light"]
    tune = json.loads(call(*arguments, "--json").stdout)
    assert len(tune["trials"]) == 3 and tune["moved"][0]["path"] == "light.ambient.radiance"
    _whole((planted / "tune/report.html").read_text())
    assert {p.name for p in (planted / "tune").iterdir()} >= {"tuned.txt", "tuned.yaml", "trials.jsonl"}


# ---- images and models ----


@pytest.mark.slow
def test_errors_with_a_real_model(tmp_path):
    from imgsynth.learn.run import learn

    for seed in (1, 2):
        generate.render("digits", 40, tmp_path / f"set{seed}", seed=seed, workers=1)
    learn([str(tmp_path / "set1")], out=tmp_path / "model", steps=3)
    arguments = ["errors", tmp_path / "model", tmp_path / "set2", "-o", tmp_path / "out"]
    results = json.loads(call(*arguments, "--json").stdout)
    (table,) = results["tables"]
    assert table["of"] == "frames" and table["n"] == 40 and table["error"] > 0.2
    names = [f["name"] for f in table["findings"]]
    assert "objects.digit[0].shape.strokes.width" in names and "class" in names
    _whole((tmp_path / "out/report.html").read_text())
    assert call(*arguments).stdout.startswith("40 frames, mistakes ")
    some = [
        "--corruption",
        "fog",
        "--corruption",
        "shot_noise",
        "--severity",
        1,
        "--severity",
        5,
        "--bootstrap",
        100,
    ]
    arguments = ["corruptions", tmp_path / "model", tmp_path / "set2", *some, "-o", tmp_path / "worn"]
    results = json.loads(call(*arguments, "--json").stdout)
    assert set(results["corruptions"]) == {"fog", "shot_noise"} and results["verdict"][0].startswith(
        "On clean"
    )
    _whole((tmp_path / "worn/report.html").read_text())


def test_statistics(tmp_path):
    generate.render("digits", 60, tmp_path / "set", workers=1)
    arguments = ["statistics", tmp_path / "set", "sklearn:digits#train", "-o", tmp_path / "out"]
    results = json.loads(call(*arguments, "--json").stdout)
    assert {g["figure"] for g in results["figures"]} >= {"luminance", "contrast", "sharpness"}
    _whole((tmp_path / "out/report.html").read_text())


# ---- laws ----


def law(path, alpha=0.4, c=0.2, d=3.0):
    rng = np.random.default_rng(0)
    rows = ["n,error,seed"]
    for n in 250 * 2 ** np.arange(9):
        rows += [f"{n},{d * n**-alpha + c + rng.normal(0, 0.002):.5f},{s}" for s in range(3)]
    path.write_text("\n".join(rows))
    return path


def test_scaling_recovers_a_planted_law_and_draws_it(tmp_path):
    results = json.loads(call("scaling", law(tmp_path / "s.csv"), "-o", tmp_path / "out", "--json").stdout)
    assert results["fit"]["alpha"] == pytest.approx(0.4, abs=0.02)
    assert results["fit"]["C"] == pytest.approx(0.2, abs=0.005)
    assert results["advice"]["action"] == "change the synthesis" and results["holdout"]["passed"]
    assert results["verdict"][0].startswith("Change the synthesis")
    _whole((tmp_path / "out/report.html").read_text())
    study = {"scaling": {"sizes": results["sizes"], "errors_per_seed": results["errors"]}}
    (tmp_path / "results.json").write_text(json.dumps(study))
    again = json.loads(call("scaling", tmp_path / "results.json", "--json").stdout)
    assert again["fit"] == results["fit"]


def test_scaling_of_two_numbers(tmp_path):
    rows = ["s,n,error"] + [
        f"{s},{n},{0.8 * (0.3 + n**-0.4) * s**-0.2:.6f}"
        for n in (250, 1000, 4000, 16000, 64000)
        for s in (10, 100, 1000, 10000)
    ]
    (tmp_path / "s.csv").write_text("\n".join(rows))
    results = json.loads(call("scaling", tmp_path / "s.csv", "-o", tmp_path / "out", "--json").stdout)
    assert results["surface"]["beta"] == pytest.approx(0.2, abs=0.01)
    assert "one more real image is worth" in results["verdict"][0]
    _whole((tmp_path / "out/report.html").read_text())
    with pytest.raises(DataError, match="--D"):
        call("scaling", tmp_path / "s.csv", "--D", 0.48)


def test_worth_reads_the_real_only_curve(tmp_path):
    rows = ["real,synthetic,error"]
    rows += [
        f"{n},0,{2 * n**-0.5 + e:.5f}" for n in (50, 100, 200, 400, 800, 1600) for e in (-0.002, 0, 0.002)
    ]
    rows += [f"100,5000,{2 * 500**-0.5 + e:.5f}" for e in (-0.002, 0, 0.002)]
    (tmp_path / "w.csv").write_text("\n".join(rows))
    results = json.loads(call("worth", tmp_path / "w.csv", "-o", tmp_path / "out", "--json").stdout)
    assert results["sets"][0]["effective"]["value"] == pytest.approx(400, rel=0.03)
    assert results["sets"][0]["rate"]["value"] == pytest.approx(12.5, rel=0.03)
    _whole((tmp_path / "out/report.html").read_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "found none"),
        ("n,loss\n1,2", "expected columns n, error, found n, loss"),
        ("n,error\n", "no rows"),
        ("n,error\n100,.5\n200,much", r":3: error: expected a number, got 'much'"),
        ("n,error\n100,nan", "finite number"),
        ("n,error\n100", "got None"),
        ("n,error\n100,.5\n200,.4", "at least 3 sizes"),
    ],
)
def test_tables_that_are_wrong_are_said(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ImgsynthError, match=said):
        call("scaling", tmp_path / "t.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not text in UTF-8"):
        call("scaling", tmp_path / "bytes.csv")
    (tmp_path / "r.json").write_text("[1]")
    with pytest.raises(DataError, match=r"not the results\.json of a study"):
        call("scaling", tmp_path / "r.json")


# ---- the page ----


def test_a_page_escapes_what_it_is_given_and_stands_alone():
    evil = "</script><script>alert(1)</script>"
    table = Grid(heads("leaf", "n|n"), [Row([evil, "1"], faint=True)])
    page = render_page(Page("an analysis", evil, [evil], [Section(evil, table=table)], evil, [], {"x": evil}))
    _whole(page)
    assert "<script>alert" not in page
    assert page == render_page(
        Page("an analysis", evil, [evil], [Section(evil, table=table)], evil, [], {"x": evil})
    )


def _whole(page):
    assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
    assert "default-src 'none'" in page
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", page)
    held = re.search(r'<script type="application/json" id="results">(.*?)</script>', page, re.S)
    json.loads(held[1])


def test_settings_of_experiments_are_typer_commands():
    names = [c.name or c.callback.__name__ for c in analyses.app.registered_commands]
    assert names == NAMES and isinstance(analyses.app, typer.Typer)
    assert setting(PlantedLearner()).seeds == (0, 1, 2)
