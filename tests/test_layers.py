"""Imports go down only; nothing reads a clock, a host name or a global generator; heavy engines load when used."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "imgsynth"
LAYERS = [
    {"errors", "version", "seeding", "sobol", "color", "geometry", "lens", "interrupts"},
    {"yamlfile", "below", "distributions", "finisharrays", "batch", "frame"},
    {
        "leaves",
        "layoutspec",
        "shapespec",
        "materialspec",
        "motionspec",
        "cameraspec",
        "backdropspec",
        "sensorspec",
        "scene",
        "plan",
        "scenefile",
        "widen",
        "assetset",
        "lightspec",
    },
    {
        "shapes",
        "textures",
        "placement",
        "layout",
        "matter",
        "decor",
        "viewing",
        "cameras",
        "surroundings",
        "named_points",
        "environments",
        "sky",
        "exposures",
        "compose",
        "render",
        "sensor",
    },
    {"annotate", "splice", "rules", "dataset", "formats", "keypoints", "maps", "samples"},
    {"generate", "learn", "evaluate", "report", "assetlist", "torch", "diffusion", "gate"},
    {"study", "probe", "augment", "console", "analyses", "refining", "diffusing", "cli"},
]
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
FILES = sorted(ROOT.rglob("*.py"))
ENGINES = {
    "torch": {"learn", "study", "torch", "diffusion"},
    "torchvision": {"learn", "dataset"},
    "warp": {"render"},
    "albumentations": {"sensor"},
    "mitsuba": {"render"},
    "drjit": {"render"},
    "bpy": {"render"},
    "matplotlib": {"report"},
    "diffusers": {"diffusion"},
    "accelerate": {"diffusion"},
    "transformers": {"diffusion"},
}
# Reading any of these would make a frame or a file depend on more than (spec, seed, index).
FORBIDDEN = {"time", "datetime", "random", "socket", "uuid", "secrets", "getpass", "pickle"}
CLOCK_ALLOWED = {
    "study/progress.py",
    "study/workers.py",
    "render/raster.py",
}  # time left, waiting for processes, stage times for the bench


def module(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST, top_only: bool = False):
    nodes = tree.body if top_only and isinstance(tree, ast.Module) else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_has_a_layer():
    assert {module(f) for f in FILES} - {"__init__"} == set(LAYER)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_go_down(file):
    here = module(file)
    if here == "__init__":
        return
    for name in imports(ast.parse(file.read_text())):
        parts = name.split(".")
        if parts[0] == "imgsynth" and len(parts) > 1 and parts[1] in LAYER:
            assert LAYER[parts[1]] <= LAYER[here], f"{file.name} imports {name}, which stands above it"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_engines_stay_in_their_rooms_and_nothing_reads_a_clock(file):
    tree = ast.parse(file.read_text())
    for name in imports(tree):
        root = name.split(".")[0]
        assert module(file) in ENGINES.get(root, {module(file)}), (
            f"{name} is imported outside {ENGINES[root]}"
        )
        if str(file.relative_to(ROOT)) not in CLOCK_ALLOWED:
            assert root not in FORBIDDEN, f"{name}: a frame must not depend on it"
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Attribute)
            and ast.unparse(node.value) in ("np.random", "numpy.random")
        ):
            assert node.attr in ("default_rng", "Generator", "SeedSequence", "Philox", "PCG64"), (
                f"np.random.{node.attr} is global state"
            )


def test_import_is_light_and_help_needs_no_engine():
    code = "import sys, imgsynth, imgsynth.cli; print(sorted({'torch', 'warp', 'matplotlib', 'sklearn', 'scipy', 'numpy'} & set(sys.modules)))"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
