"""Run by rivals.py in Blender's Python: `python cycles_child.py JOB.npz` draws a frame with Cycles.

JOB is what imgsynth writes for its own Cycles renderer, whose driver builds the scene. Says `ready`, then draws
once for each line it reads and prints milliseconds; `ids PATH` writes what each pixel shows instead. Timed is the
render operator alone: colour, depth, normals and ids at JOB's samples in one go, no file written.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from pathlib import Path

# By its path: beside it lies a module named as Blender's own `cycles`.
DRIVER = Path(__file__).resolve().parents[2] / "imgsynth" / "render" / "cycles_driver.py"
# Blender prints what it does on descriptor 1: our words go elsewhere.
told = os.fdopen(os.dup(1), "w")
os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

import bpy  # noqa: E402
import numpy as np  # noqa: E402

spec = importlib.util.spec_from_file_location("cycles_driver", DRIVER)
assert spec and spec.loader
cycles_driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(cycles_driver)


def main(source: str) -> None:
    job = np.load(source, allow_pickle=False)
    text = json.loads(bytes(job["json"]).decode())
    frame = text["frames"][0]
    for material in frame["materials"].values():
        material["two_sided"] = True  # spared: how the oracle hides the insides of closed meshes
    cycles_driver.build(job, frame)
    height, width = text["size"]
    seen = cycles_driver.draw(
        (height, width), text["samples"], frame["seed"], text["max_depth"], True, text["threads"]
    )
    print("ready", file=told, flush=True)
    for line in sys.stdin:
        word, _, path = line.strip().partition(" ")
        if word == "ids":
            index = next(name for name in seen if name.startswith(("IndexOB", "Object Index")))
            np.savez(path, ids=np.rint(seen[index]).astype(np.int64))
            print("written", file=told, flush=True)
        else:
            start = time.perf_counter()
            bpy.ops.render.render(write_still=False)
            print((time.perf_counter() - start) * 1e3, file=told, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
