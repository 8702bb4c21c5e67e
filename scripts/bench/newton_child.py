"""Run by rivals.py in Newton's Python: `python newton_child.py JOB.npz` draws frames with SensorTiledCamera.

It imports nothing of imgsynth. Says `ready` after everything is built and compiled; then, for each line it
reads, draws all frames once and prints milliseconds of processor time a frame; `ids PATH` writes what each pixel shows instead.
Timed are the refit of the shapes' tree and the sensor's update: colour with shadows, forward depth, normals, ids.
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np

warnings.simplefilter("ignore")
import newton  # noqa: E402
import warp as wp  # noqa: E402
from newton.sensors import SensorTiledCamera  # noqa: E402


def rotation(m: np.ndarray) -> wp.quat:
    """Quaternion of a rotation matrix."""
    return wp.quat_from_matrix(wp.mat33(*m.astype(np.float32).ravel().tolist()))


def build(job: np.lib.npyio.NpzFile) -> newton.Model:
    """A world a frame: the objects of the frame; the ground is in all of them."""
    builder = newton.ModelBuilder(up_axis=newton.Axis.Z)
    meshes = []
    for k in range(int(job["meshes"])):
        meshes.append(
            newton.Mesh(
                job[f"vertices{k}"].astype(np.float32),
                job[f"faces{k}"].astype(np.int32).ravel(),
                normals=job[f"normals{k}"].astype(np.float32),
                compute_inertia=False,
            )
        )
    hue = job["hue"].tolist()
    builder.add_ground_plane(color=tuple(hue[-1]))
    for poses, scales in zip(job["poses"], job["scales"], strict=True):
        builder.begin_world()
        for j, (kind, pose, scale) in enumerate(zip(job["kinds"], poses, scales, strict=True)):
            place = wp.transform(wp.vec3(*pose[:3, 3].tolist()), rotation(pose[:3, :3]))
            builder.add_shape_mesh(
                -1, xform=place, mesh=meshes[kind], scale=wp.vec3(*scale.tolist()), color=tuple(hue[j])
            )
        builder.end_world()
    return builder.finalize(device="cpu")


def main(source: str) -> None:
    wp.config.quiet = True
    wp.set_device("cpu")
    job = np.load(source, allow_pickle=False)
    size, frames = int(job["size"]), len(job["poses"])
    model = build(job)
    state = model.state()
    config = SensorTiledCamera.RenderConfig(
        enable_shadows=True,
        render_order=getattr(
            SensorTiledCamera.RenderOrder, sys.argv[2] if len(sys.argv) > 2 else "VIEW_PRIORITY"
        ),
    )
    sensor = SensorTiledCamera(model, default_render_config=config, load_textures=False)
    sun = -job["sun"] / np.linalg.norm(job["sun"])
    sensor.utils.create_default_light(enable_shadows=True, direction=wp.vec3(*sun.tolist()))
    rays = sensor.utils.compute_camera_rays_pinhole(size, size, camera_fovs=float(np.deg2rad(job["fov"])))
    flip = np.diag([1.0, -1.0, -1.0])  # it looks along -z, y up
    cameras = [wp.transform(wp.vec3(*c[:3, 3].tolist()), rotation(c[:3, :3] @ flip)) for c in job["cameras"]]
    transforms = wp.array([cameras], dtype=wp.transformf)
    make = sensor.utils
    out = {
        "color_image": make.create_color_image_output(size, size),
        "forward_depth_image": make.create_forward_depth_image_output(size, size),
        "normal_image": make.create_normal_image_output(size, size),
        "shape_index_image": make.create_shape_index_image_output(size, size),
    }

    def draw() -> None:
        model.bvh_refit_shapes(state)
        sensor.update(state, transforms, rays, **out)

    draw()
    print("ready", flush=True)
    for line in sys.stdin:
        word, _, path = line.strip().partition(" ")
        if word == "ids":
            shape = out["shape_index_image"].numpy().reshape(frames, size, size).astype(np.int64)
            start = np.arange(frames)[:, None, None] * len(job["kinds"])
            # Shape 0 is the ground, those of world w begin at 1 + 10·w; ids count from 1 in each frame.
            ids = np.where((shape > 0) & (shape < 1 + model.shape_count), shape - start, 0)
            np.savez(
                path, ids=ids, color=out["color_image"].numpy(), depth=out["forward_depth_image"].numpy()
            )
            print("written", flush=True)
        else:
            start_s = time.process_time()
            draw()
            print((time.process_time() - start_s) / frames * 1e3, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
