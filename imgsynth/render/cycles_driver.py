"""Run inside Blender's Python: `python cycles_driver.py JOB.npz RESULT.npz` draws frames with Cycles.

It imports nothing of the package, so that Blender's environment needs none of it. JOB holds arrays and a
JSON text (`imgsynth.render.cycles` writes it), RESULT the passes. Coordinates come in OpenCV camera axes;
Blender's camera looks along -z with y up, so y and z change sign.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix
from mathutils.bvhtree import BVHTree

FLIP = np.array([1.0, -1.0, -1.0])
SENSOR = 36.0
BEYOND = 1e-5
SPOT, RECTANGLE = 1, 2  # kinds of lamps, as in imgsynth.batch
MOST_LAYERS = 64


def read_exr(path: Path) -> dict[str, Any]:
    """Channels (h, w) of an uncompressed 32-bit scanline OpenEXR file with one part."""
    data = path.read_bytes()
    at, channels, box = 8, [], (0, 0, 0, 0)

    def text(at: int) -> tuple[str, int]:
        end = data.index(b"\0", at)
        return data[at:end].decode(), end + 1

    while data[at]:
        name, at = text(at)
        _, at = text(at)
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if name == "channels":
            spot = at
            while data[spot]:
                channel, spot = text(spot)
                channels.append(channel)
                spot += 16
        elif name == "dataWindow":
            box = tuple(np.frombuffer(data, "<i4", 4, at).tolist())
        at += size
    width, height = box[2] - box[0] + 1, box[3] - box[1] + 1
    offsets = np.frombuffer(data, "<u8", height, at + 1)
    out = {name: np.empty((height, width), np.float32) for name in channels}
    for start in offsets.tolist():
        y = int(np.frombuffer(data, "<i4", 1, start)[0]) - box[1]
        line = np.frombuffer(data, "<f4", width * len(channels), start + 8).reshape(len(channels), width)
        for name, values in zip(channels, line, strict=True):
            out[name][y] = values
    return out


def image(name: str, pixels: Any) -> Any:
    """A float image of linear values (h, w, 3), row 0 at the top."""
    h, w, _ = pixels.shape
    made = bpy.data.images.new(name, w, h, alpha=False, float_buffer=True, is_data=True)
    rgba = np.ones((h, w, 4), np.float32)
    rgba[..., :3] = pixels[::-1]
    made.pixels.foreach_set(rgba.ravel())
    made.update()
    return made


def material(job: Any, name: str, spec: dict[str, Any], bare: bool) -> Any:
    """A principled material; closed meshes vanish for camera rays that come from inside.

    A bare one shines with its base colour and does nothing else.
    """
    made = bpy.data.materials.new(name)
    made.use_nodes = True
    nodes, links = made.node_tree.nodes, made.node_tree.links
    bsdf = next(n for n in nodes if n.bl_idname == "ShaderNodeBsdfPrincipled")
    bsdf.distribution = "MULTI_GGX"

    def textured(key: str, interpolation: str = "Linear") -> Any:
        node = nodes.new("ShaderNodeTexImage")
        node.image, node.interpolation = image(f"{name}.{key}", job[spec[key]]), interpolation
        return node.outputs["Color"]

    def put(key: str, socket: str) -> None:
        if isinstance(spec[key], str):
            links.new(textured(key), bsdf.inputs[socket])
        else:
            value = spec[key]
            bsdf.inputs[socket].default_value = (*value, 1.0) if isinstance(value, list) else value

    bsdf.inputs["Emission Strength"].default_value = 1.0
    if bare:
        put("albedo", "Emission Color")
        bsdf.inputs["Base Color"].default_value = (0.0, 0.0, 0.0, 1.0)
        bsdf.inputs["Specular IOR Level"].default_value = 0.0
    else:
        bsdf.inputs["IOR"].default_value = bsdf.inputs["Coat IOR"].default_value = 1.5
        bsdf.inputs["Coat Roughness"].default_value = spec["coat_roughness"]
        for key, socket in (("albedo", "Base Color"), ("metallic", "Metallic"), ("roughness", "Roughness"),
                            ("emission", "Emission Color"), ("coat", "Coat Weight")):  # fmt: skip
            put(key, socket)
        if spec["normal"]:
            bumps = nodes.new("ShaderNodeNormalMap")
            bumps.uv_map = "uv"
            links.new(textured("normal"), bumps.inputs["Color"])
            links.new(bumps.outputs["Normal"], bsdf.inputs["Normal"])
    alpha = textured("opacity", "Closest") if spec["opacity"] else None
    if not spec["two_sided"]:
        alpha = _unseen_from_inside(nodes, links, alpha)
    if alpha is not None:
        links.new(alpha, bsdf.inputs["Alpha"])
    return made


def _unseen_from_inside(nodes: Any, links: Any, alpha: Any) -> Any:
    """`alpha` (None is 1), but 0 for camera rays that meet the back."""
    geometry, path = nodes.new("ShaderNodeNewGeometry"), nodes.new("ShaderNodeLightPath")
    both = _math(nodes, links, "MULTIPLY", geometry.outputs["Backfacing"], path.outputs["Is Camera Ray"])
    seen = _math(nodes, links, "SUBTRACT", 1.0, both)
    return seen if alpha is None else _math(nodes, links, "MULTIPLY", alpha, seen)


def _math(nodes: Any, links: Any, operation: str, *values: Any) -> Any:
    """The output of a node that calculates with numbers or other nodes' outputs."""
    node = nodes.new("ShaderNodeMath")
    node.operation = operation
    for socket, value in zip(node.inputs, values, strict=False):
        if isinstance(value, float):
            socket.default_value = value
        else:
            links.new(value, socket)
    return node.outputs[0]


def add_part(job: Any, key: str, spec: dict[str, Any], made: Any) -> None:
    """A mesh object; its pass index is the instance's id."""
    vertices, faces = job[f"{key}.vertices"] * FLIP, job[f"{key}.faces"].astype(np.int32)
    mesh = bpy.data.meshes.new(key)
    mesh.vertices.add(len(vertices))
    mesh.vertices.foreach_set("co", vertices.astype(np.float32).ravel())
    mesh.loops.add(faces.size)
    mesh.loops.foreach_set("vertex_index", faces.ravel())
    mesh.polygons.add(len(faces))
    mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 3, dtype=np.int32))
    mesh.polygons.foreach_set("use_smooth", np.ones(len(faces), bool))
    layer = mesh.uv_layers.new(name="uv")
    uv = job[f"{key}.uv"][faces.ravel()].astype(np.float32)
    uv[:, 1] = 1.0 - uv[:, 1]
    layer.data.foreach_set("uv", uv.ravel())
    mesh.update(calc_edges=True)
    mesh.normals_split_custom_set_from_vertices((job[f"{key}.normals"] * FLIP).astype(np.float32))
    mesh.materials.append(made)
    thing = bpy.data.objects.new(key, mesh)
    thing.pass_index = spec["id"]
    bpy.context.scene.collection.objects.link(thing)


def surround(job: Any, frame: dict[str, Any]) -> None:
    """The light from all around: a colour, or a map."""
    world = bpy.data.worlds.new("world")
    bpy.context.scene.world = world
    world.use_nodes = True
    nodes, links = world.node_tree.nodes, world.node_tree.links
    sky = next(n for n in nodes if n.bl_idname == "ShaderNodeBackground")
    sky.inputs["Color"].default_value = (*frame["ambient"], 1.0)
    sky.inputs["Strength"].default_value = 1.0
    if frame["map"]:
        place, turn = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeMapping")
        picture = nodes.new("ShaderNodeTexEnvironment")
        picture.image, picture.interpolation = image("map", job[frame["map"]]), "Linear"
        matrix = Matrix((np.array(frame["map_turn"]) * FLIP).tolist())
        turn.inputs["Rotation"].default_value = matrix.to_euler("XYZ")
        links.new(place.outputs["Generated"], turn.inputs["Vector"])
        links.new(turn.outputs["Vector"], picture.inputs["Vector"])
        links.new(picture.outputs["Color"], sky.inputs["Color"])


def shine(frame: dict[str, Any]) -> None:
    """The sun and the lamps."""
    if any(frame["sun"]):
        light = bpy.data.lights.new("sun", "SUN")
        light.energy, light.angle = max(frame["sun"]), 2 * frame["sun_radius"]
        light.color = [v / light.energy for v in frame["sun"]]
        set_up(light, np.zeros(3), -np.array(frame["sun_direction"]))
    for lamp in frame["lamps"]:
        radiant = max(lamp["radiant"])
        if radiant <= 0:
            continue
        flat = lamp["kind"] == RECTANGLE
        light = bpy.data.lights.new("lamp", "AREA" if flat else "POINT")
        light.color = [v / radiant for v in lamp["radiant"]]
        if flat:
            light.shape, (light.size, light.size_y) = "RECTANGLE", lamp["size"]
            light.energy = radiant * np.pi * light.size * light.size_y
        else:
            light.shadow_soft_size = lamp["size"][0]
            light.energy = radiant * frame["unit"] ** 2 * 4 * np.pi
        if lamp["kind"] == SPOT:
            narrow(light, *lamp["cone"])
        set_up(light, np.array(lamp["place"]), np.array(lamp["along"]), np.array(lamp["across"]))


def set_up(light: Any, place: Any, along: Any, across: Any = None) -> None:
    """Put a light where it belongs: it shines along `along`, unseen by the camera."""
    toward = -along * FLIP  # lamps shine along -z
    if across is None:
        across = np.cross([0.0, 1.0, 0.0] if abs(toward[1]) < 0.9 else [1.0, 0.0, 0.0], toward)
        side = across / np.linalg.norm(across)
    else:
        side = across * FLIP
    pose = np.eye(4)
    pose[:3, :3] = np.stack([side, np.cross(toward, side), toward], 1)
    pose[:3, 3] = place * FLIP
    thing = bpy.data.objects.new("light", light)
    thing.matrix_world = Matrix(pose.tolist())
    thing.visible_camera = False
    bpy.context.scene.collection.objects.link(thing)


def narrow(light: Any, inner: float, outer: float) -> None:
    """A point lamp whose light falls off, linear in the angle, between two cones of full angles."""
    light.use_nodes = True
    nodes, links = light.node_tree.nodes, light.node_tree.links
    emission = next(n for n in nodes if n.bl_idname == "ShaderNodeEmission")
    place, parts = nodes.new("ShaderNodeTexCoord"), nodes.new("ShaderNodeSeparateXYZ")
    links.new(place.outputs["Normal"], parts.inputs[0])
    angle = _math(nodes, links, "ARCCOSINE", _math(nodes, links, "MULTIPLY", parts.outputs["Z"], -1.0))
    beyond = _math(nodes, links, "SUBTRACT", outer / 2, angle)
    share = _math(nodes, links, "DIVIDE", beyond, max((outer - inner) / 2, 1e-6))
    share = _math(nodes, links, "MINIMUM", _math(nodes, links, "MAXIMUM", share, 0.0), 1.0)
    links.new(share, emission.inputs["Strength"])


def build(job: Any, frame: dict[str, Any], bare: bool = False) -> None:
    """The frame as a Blender scene; a bare one has no light, its materials shine with their base colour."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.engine = "CYCLES"
    made: dict[str, Any] = {}
    for part in frame["parts"]:
        name = part["material"]
        if name not in made:
            made[name] = material(job, name, frame["materials"][name], bare)
        add_part(job, part["key"], part, made[name])
    if not bare:
        surround(job, frame)
        shine(frame)
    lens = bpy.data.cameras.new("camera")
    fx, fy, cx, cy, width, height = frame["lens"]
    lens.sensor_fit, lens.sensor_width = "HORIZONTAL", SENSOR
    lens.lens = fx * SENSOR / width
    lens.clip_start, lens.clip_end = frame["near"], 1e7
    scene.render.pixel_aspect_x = max(1.0, fy / fx)
    scene.render.pixel_aspect_y = max(1.0, fx / fy)
    lens.shift_x = 0.5 - cx / width
    lens.shift_y = (cy / height - 0.5) * (height * fx / fy) / width
    camera = bpy.data.objects.new("camera", lens)
    scene.collection.objects.link(camera)
    scene.camera = camera


def draw(size: tuple[int, int], samples: int, seed: int, depth: int, labels: bool, threads: int) -> Any:
    """Render what is built; channels by name."""
    scene = bpy.context.scene
    render, cycles, layer = scene.render, scene.cycles, scene.view_layers[0]
    render.resolution_y, render.resolution_x, render.resolution_percentage = size[0], size[1], 100
    render.film_transparent, render.threads_mode, render.threads = True, "FIXED", threads
    cycles.device, cycles.samples, cycles.seed = "CPU", samples, seed % (2**31 - 1)
    cycles.use_adaptive_sampling = cycles.use_denoising = False
    cycles.pixel_filter_type, cycles.filter_width = "BOX", 0.01 if labels else 1.0
    cycles.max_bounces = cycles.diffuse_bounces = cycles.glossy_bounces = max(0, depth - 2)
    cycles.transparent_max_bounces = MOST_LAYERS
    cycles.sample_clamp_direct = cycles.sample_clamp_indirect = 0.0
    cycles.blur_glossy, cycles.caustics_reflective = 0.0, True
    layer.use_pass_z = layer.use_pass_normal = layer.use_pass_object_index = labels
    layer.pass_alpha_threshold = 0.5
    settings = render.image_settings
    settings.media_type = "MULTI_LAYER_IMAGE"
    settings.file_format, settings.exr_codec, settings.color_depth = "OPEN_EXR_MULTILAYER", "NONE", "32"
    settings.use_exr_interleave = True
    with tempfile.TemporaryDirectory() as folder:
        render.filepath = str(Path(folder) / "out.exr")
        bpy.ops.render.render(write_still=True)
        passes = read_exr(Path(render.filepath))
    return {name.split(".", 1)[1] if name.startswith("ViewLayer.") else name: v for name, v in passes.items()}


def silhouette(job: Any, frame: dict[str, Any], request: dict[str, Any]) -> Any:
    """(h, w) whether rays through the cells of a request meet one instance, seen alone."""
    trees = []
    for part in frame["parts"]:
        if part["row"] == request["row"]:
            key = part["key"]
            vertices, faces = job[f"{key}.vertices"], job[f"{key}.faces"]
            opacity = frame["materials"][part["material"]]["opacity"]
            trees.append((BVHTree.FromPolygons(vertices.tolist(), faces.tolist()), vertices, faces,
                          job[f"{key}.uv"], job[opacity][..., 0] if opacity else None,
                          part["two_sided"]))  # fmt: skip
    h, w = request["height"], request["width"]
    points = np.stack(np.meshgrid(request["x"] + (np.arange(w) + 0.5) * request["step"],
                                  request["y"] + (np.arange(h) + 0.5) * request["step"]), -1)  # fmt: skip
    rays = np.concatenate([points, np.ones((h, w, 1))], -1) @ np.array(frame["inverse_k"]).T
    out = np.zeros((h, w), np.uint8)
    for i in range(h):
        for j in range(w):
            out[i, j] = any(meets(*tree, rays[i, j], frame["near"]) for tree in trees)
    return out


def meets(
    tree: Any, vertices: Any, faces: Any, uv: Any, opacity: Any, both: bool, ray: Any, near: float
) -> bool:
    """Whether a ray meets a mesh: not in a texture's hole, not a closed mesh from inside."""
    start, direction = ray * near, ray.tolist()
    for _ in range(MOST_LAYERS):
        at, normal, face, _ = tree.ray_cast(start.tolist(), direction)
        if at is None:
            return False
        if both or normal.dot(direction) <= 0:
            if opacity is None:
                return True
            a, b, c = vertices[faces[face]]
            weights = np.linalg.lstsq(np.stack([b - a, c - a], 1), np.array(at) - a, rcond=None)[0]
            u, v = uv[faces[face][0]] + weights @ (uv[faces[face][1:]] - uv[faces[face][0]])
            rows, columns = opacity.shape
            if opacity[int(np.floor(v * rows)) % rows, int(np.floor(u * columns)) % columns] > 0.5:
                return True
        start = np.array(at) * (1 + BEYOND)
    return False


def main(source: str, target: str) -> None:
    """Draw every frame of a job."""
    job = np.load(source, allow_pickle=False)
    text = json.loads(bytes(job["json"]).decode())
    out: dict[str, Any] = {"frames": np.array(len(text["frames"]))}
    for n, frame in enumerate(text["frames"]):
        if frame["parts"]:
            build(job, frame)
            h, w = text["size"]
            if text["samples"]:
                k, depth = text["k"], text["max_depth"]
                seen = draw((h * k, w * k), text["samples"], frame["seed"], depth, False, text["threads"])
                out[f"{n}.color"] = np.stack([seen[f"Combined.{c}"] for c in "RGBA"], -1)
            seen = draw((h, w), 1, 0, 2, True, text["threads"])
            out[f"{n}.depth"] = seen["Depth.Z"] if "Depth.Z" in seen else seen["Depth.V"]
            index = [name for name in seen if name.startswith(("IndexOB", "Object Index"))]
            out[f"{n}.id"] = seen[index[0]]
            out[f"{n}.normal"] = np.stack([seen[f"Normal.{c}"] for c in "XYZ"], -1) * FLIP
            out[f"{n}.alpha"] = seen["Combined.A"]
            if text["albedo"]:
                build(job, frame, bare=True)
                seen = draw((h, w), 1, 0, 2, True, text["threads"])
                out[f"{n}.albedo"] = np.stack([seen[f"Combined.{c}"] for c in "RGB"], -1)
    for n, request in enumerate(text["silhouettes"]):
        out[f"silhouette.{n}"] = silhouette(job, text["frames"][request["frame"]], request)
    np.savez(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:3])
