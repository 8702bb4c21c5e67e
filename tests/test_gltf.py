"""glTF: what the specification says of materials, transforms, accessors and keypoints comes through."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from imgsynth.errors import DataError
from imgsynth.shapes.meshfile import load_mesh
from imgsynth.shapes.surface import volume
from tests.meshwriting import Glb, png

RED = np.full((2, 2, 3), [255, 0, 0])


def two_materials() -> Glb:
    g = Glb()
    wood = g.material(
        name="wood", doubleSided=True,
        pbrMetallicRoughness={
            "baseColorTexture": g.texture(RED), "baseColorFactor": [1, 0.5, 0.25, 1],
            "metallicFactor": 0.0, "roughnessFactor": 0.8,
        },
    )  # fmt: skip
    steel = g.material(
        name="steel", emissiveFactor=[0, 1, 0.5],
        extensions={"KHR_materials_emissive_strength": {"emissiveStrength": 4.0}},
        pbrMetallicRoughness={"baseColorFactor": [0.2, 0.4, 0.6, 1]},
    )  # fmt: skip
    mesh = g.mesh(g.quad(wood), g.quad(steel, z=1))
    g.node(mesh=mesh)
    return g


def test_two_materials_are_two_slots(tmp_path: Path) -> None:
    loaded = load_mesh(two_materials().glb(tmp_path / "a.glb"), up_axis="z")
    wood, steel = loaded.materials
    assert loaded.meshes.slot_names == ("wood", "steel")
    assert np.bincount(loaded.meshes.slots).tolist() == [2, 2]
    assert np.allclose(wood.color, [1, 0.5, 0.25]) and (wood.metallic, wood.roughness) == (0.0, 0.8)
    assert wood.texture is not None and (wood.texture[0] == [255, 0, 0, 255]).all()
    # The specification's defaults: metal, rough; factors are linear and not quantized.
    assert np.allclose(steel.color, [0.2, 0.4, 0.6], atol=0) and (steel.metallic, steel.roughness) == (
        1.0,
        1.0,
    )
    assert np.allclose(steel.emission, [0, 4, 2]) and wood.emission is None
    assert loaded.meshes.two_sided  # open


def test_every_texture_of_a_material_is_handed_over_in_its_role(tmp_path: Path) -> None:
    g = Glb()
    tilted, rough, glow = (
        np.full((2, 2, 3), [128, 191, 239]),
        np.full((2, 2, 3), [0, 51, 204]),
        np.full((2, 2, 3), 9),
    )
    own = g.material(
        normalTexture={**g.texture(tilted), "scale": 0.5}, emissiveTexture=g.texture(glow), emissiveFactor=[1, 2, 3],
        pbrMetallicRoughness={"metallicRoughnessTexture": g.texture(rough), "roughnessFactor": 0.5},
        extensions={"KHR_materials_clearcoat": {"clearcoatFactor": 0.75, "clearcoatRoughnessFactor": 0.25}},
    )  # fmt: skip
    g.node(mesh=g.mesh(g.quad(own)))
    (made,) = load_mesh(g.glb(tmp_path / "a.glb")).materials
    assert made.texture is None and made.normal is not None and made.surface is not None
    assert made.normal[0][0, 0, :3].tolist() == [128, 191, 239] and made.normal_scale == 0.5
    assert made.surface[-1][0, 0, 1:3].tolist() == [51, 204]  # not averaged as colours
    assert (made.metallic, made.roughness) == (1.0, 0.5)
    assert made.emission_texture is not None and np.allclose(made.emission, [1, 2, 3])
    assert (made.clearcoat, made.clearcoat_roughness) == (0.75, 0.25)


def test_a_texture_with_coordinates_of_its_own_is_left_out(tmp_path: Path) -> None:
    g = Glb()
    own = g.material(
        name="odd", normalTexture={**g.texture(RED), "texCoord": 1},
        pbrMetallicRoughness={"baseColorTexture": g.texture(RED)},
    )  # fmt: skip
    g.node(mesh=g.mesh(g.quad(own)))
    loaded = load_mesh(g.glb(tmp_path / "a.glb"))
    assert loaded.materials[0].normal is None and any("'odd': its normal texture" in n for n in loaded.notes)


def test_gltf_with_its_files_beside_it_is_the_glb(tmp_path: Path) -> None:
    g = two_materials()
    whole, parts = load_mesh(g.glb(tmp_path / "a.glb")), load_mesh(g.gltf(tmp_path / "a.gltf"))
    inline = load_mesh(
        g.gltf(
            tmp_path / "b.gltf", "data:application/octet-stream;base64," + base64.b64encode(g.data).decode()
        )
    )
    for other in (parts, inline):
        assert np.array_equal(whole.meshes.vertices, other.meshes.vertices)
        assert np.array_equal(whole.meshes.uv, other.meshes.uv)
        assert [m.name for m in other.materials] == ["wood", "steel"]


@pytest.mark.parametrize(
    "uri", ["../secret.bin", "/etc/passwd", "%2e%2e/secret.bin", "https://example.org/x.bin"]
)
def test_buffers_outside_the_folder_are_refused(tmp_path: Path, uri: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    g = two_materials()
    (tmp_path / "secret.bin").write_bytes(g.data)
    with pytest.raises(DataError, match=r"outside its folder|nothing is fetched"):
        load_mesh(g.gltf(home / "a.gltf", uri))


def test_y_is_up_and_metres(tmp_path: Path) -> None:
    g = Glb()
    g.node(mesh=g.mesh(g.quad()), translation=[0, 2, 0])
    v = load_mesh(g.glb(tmp_path / "a.glb")).meshes.vertices[0]
    assert v.min(0).tolist() == [0, 0, 2] and v.max(0).tolist() == [1, 0, 3]


def test_node_transforms_multiply_down_the_tree(tmp_path: Path) -> None:
    g = Glb()
    half = np.sqrt(0.5)
    child = g.node(root=False, mesh=g.mesh(g.quad()), scale=[2, 3, 1], translation=[1, 0, 0])
    g.node(children=[child], rotation=[0, 0, half, half], translation=[0, 0, 5])  # 90° about z
    v = load_mesh(g.glb(tmp_path / "a.glb"), up_axis="z").meshes.vertices[0]
    expected = [(-y * 3, x * 2 + 1, 5) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    assert np.allclose(sorted(map(tuple, v)), sorted(expected), atol=1e-6)


def test_a_matrix_is_read_by_columns(tmp_path: Path) -> None:
    g = Glb()
    matrix = np.eye(4)
    matrix[:3, 3] = [7, 8, 9]
    g.node(mesh=g.mesh(g.quad()), matrix=matrix.T.ravel().tolist())
    assert load_mesh(g.glb(tmp_path / "a.glb"), up_axis="z").meshes.vertices[0].min(0).tolist() == [7, 8, 9]


def test_a_mirrored_box_is_right_side_out(tmp_path: Path) -> None:
    import trimesh

    box = trimesh.creation.box((1, 2, 3))
    g = Glb()
    mesh = g.mesh({
        "attributes": {"POSITION": g.accessor(box.vertices)},
        "indices": g.accessor(box.faces.ravel(), "<u4"),
    })  # fmt: skip
    g.node(mesh=mesh, scale=[-1, 1, 1])
    loaded = load_mesh(g.glb(tmp_path / "a.glb"))
    m = loaded.meshes
    assert volume(m.vertices[0].astype(float), m.faces.astype(np.int64)) == pytest.approx(6)
    assert not any("inside out" in note for note in loaded.notes)


@pytest.mark.parametrize(("mode", "indices"), [(5, [0, 1, 3, 2]), (6, [0, 1, 2, 3])])
def test_strips_and_fans(tmp_path: Path, mode: int, indices: list[int]) -> None:
    g = Glb()
    primitive = {**g.quad(), "mode": mode, "indices": g.accessor(indices, "<u1")}
    g.node(mesh=g.mesh(primitive))
    m = load_mesh(g.glb(tmp_path / "a.glb"), up_axis="z").meshes
    corner = m.vertices[0].astype(float)[m.faces]
    area = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, 2] / 2
    assert np.allclose(area, 0.5)  # both face +z


def test_interleaved_normalized_and_sparse_accessors(tmp_path: Path) -> None:
    g = Glb()
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "<f4")
    uv = np.array([[0, 0], [65535, 0], [65535, 65535], [0, 32768]], "<u2")
    rows = b"".join(p.tobytes() + t.tobytes() for p, t in zip(square, uv, strict=True))
    view = g.view(rows, byteStride=16)
    where, what = g.view(np.array([2], "<u2").tobytes()), g.view(np.array([[1, 1, 5]], "<f4").tobytes())
    sparse = {
        "count": 1,
        "indices": {"bufferView": where, "componentType": 5123},
        "values": {"bufferView": what},
    }
    g.tree["accessors"] += [
        {"bufferView": view, "componentType": 5126, "count": 4, "type": "VEC3", "sparse": sparse},
        {
            "bufferView": view,
            "byteOffset": 12,
            "componentType": 5123,
            "normalized": True,
            "count": 4,
            "type": "VEC2",
        },
    ]
    attributes = {"POSITION": 0, "TEXCOORD_0": 1}
    g.node(mesh=g.mesh({"attributes": attributes, "indices": g.accessor([0, 1, 2, 0, 2, 3], "<u1")}))
    m = load_mesh(g.glb(tmp_path / "a.glb"), up_axis="z").meshes
    table = {tuple(v): tuple(t) for v, t in zip(m.vertices[0].tolist(), m.uv.tolist(), strict=True)}
    assert table[(1.0, 1.0, 5.0)] == (1.0, 0.0) and table[(0.0, 0.0, 0.0)] == (0.0, 1.0)
    assert table[(0.0, 1.0, 0.0)][1] == pytest.approx(1 - 32768 / 65535)


def test_texture_transform_turns_uv_counter_clockwise(tmp_path: Path) -> None:
    g = Glb()
    said = {"offset": [0.25, 0.5], "rotation": np.pi / 2, "scale": [2, 3]}
    texture = {**g.texture(RED), "extensions": {"KHR_texture_transform": said}}
    g.node(mesh=g.mesh(g.quad(g.material(pbrMetallicRoughness={"baseColorTexture": texture}))))
    m = load_mesh(g.glb(tmp_path / "a.glb"), up_axis="z").meshes
    for vertex, uv in zip(m.vertices[0], m.uv, strict=True):
        u, v = vertex[0] * 2, (1 - vertex[1]) * 3  # v downwards, as the file counts
        assert np.allclose(uv, [v + 0.25, 1 - (-u + 0.5)], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "factor", "cutoff", "expected", "noted"),
    [
        ("OPAQUE", 1.0, None, 0.0, False),
        ("MASK", 1.0, 0.3, 0.3, False),
        ("MASK", 0.5, 0.3, 0.6, False),  # the factor counts, too
        ("BLEND", 1.0, None, 0.5, True),
    ],
)
def test_alpha_modes(
    tmp_path: Path, mode: str, factor: float, cutoff: float | None, expected: float, noted: bool
) -> None:
    g = Glb()
    pixels = np.full((4, 4, 4), [255, 255, 255, 100])
    entry = {
        "alphaMode": mode,
        "pbrMetallicRoughness": {"baseColorTexture": g.texture(pixels), "baseColorFactor": [1, 1, 1, factor]},
    }
    g.node(mesh=g.mesh(g.quad(g.material(**entry, **({"alphaCutoff": cutoff} if cutoff else {})))))
    loaded = load_mesh(g.glb(tmp_path / "a.glb"))
    (own,) = loaded.materials
    assert own.alpha_cutoff == pytest.approx(expected) and own.texture is not None
    assert own.texture[0][0, 0, 3] == (255 if mode == "OPAQUE" else 100)
    assert any("blending" in note for note in loaded.notes) == noted


def test_vertex_colours_are_linear_and_white_ones_are_none(tmp_path: Path) -> None:
    g = Glb()
    colors = [[0.25, 0.5, 1.0]] * 4
    g.node(mesh=g.mesh(g.quad(None, COLOR_0=g.accessor(colors))))
    assert np.allclose(load_mesh(g.glb(tmp_path / "a.glb")).materials[0].color, colors[0])
    g = Glb()
    g.node(mesh=g.mesh(g.quad(None, COLOR_0=g.accessor(np.full((4, 4), 255), "<u1", normalized=True))))
    assert load_mesh(g.glb(tmp_path / "b.glb")).materials[0].color is None


def test_empty_nodes_are_keypoints(tmp_path: Path) -> None:
    g = Glb()
    inner = g.node(root=False, name="kp_tip", translation=[0, 1, 0])
    g.node(name="arm", children=[inner], translation=[1, 0, 0], scale=[2, 2, 2])
    g.node(name="keypoint:base", translation=[0, 0, 3])
    g.node(mesh=g.mesh(g.quad()), name="kp_drawn")
    points = load_mesh(g.glb(tmp_path / "a.glb")).meshes.keypoints
    assert set(points) == {"tip", "base"}
    assert np.allclose(points["tip"], [1, 0, 2]) and np.allclose(points["base"], [0, -3, 0])


def broken(change) -> Glb:  # type: ignore[no-untyped-def]
    g = two_materials()
    change(g)
    return g


def put(path: str, value: object):  # type: ignore[no-untyped-def]
    def change(g: Glb) -> None:
        node, *keys = [g.tree, *(int(k) if k.isdigit() else k for k in path.split("."))]
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("accessors.0.count", 10**12), "triangles"),
        (put("accessors.0.count", 5), "truncated"),
        (put("accessors.0.count", -1), "triangles"),
        (put("accessors.0.componentType", 7), "broken"),
        (put("bufferViews.0.byteLength", 10**9), "truncated"),
        (put("bufferViews.0.byteOffset", -4), "truncated"),
        (put("bufferViews.1.byteStride", -12), "truncated"),
        (put("nodes.0.mesh", 9), r"meshes\[9\] does not exist"),
        (put("nodes.0.children", [0]), "twice"),
        (put("nodes.0.matrix", [1, 2]), "broken"),
        (put("nodes.0.scale", [0, 0, 0]), "area"),
        (put("nodes.0.translation", [float("nan"), 0, 0]), "finite"),
        (put("materials.0", "wood"), "no object"),
        (put("materials.0.pbrMetallicRoughness.baseColorFactor", [1, 1]), "broken"),
        (put("images.0.bufferView", 1), "expected an image"),
        (put("asset.version", "1.0"), "version 2"),
        (put("extensionsRequired", ["KHR_draco_mesh_compression"]), "export it without"),
        (put("meshes.0.primitives.0.mode", 1), None),
        (put("scenes", []), None),
    ],
)
def test_broken_trees_are_one_line(tmp_path: Path, change, message: str | None) -> None:  # type: ignore[no-untyped-def]
    path = broken(change).glb(tmp_path / "a.glb")
    if message is None:
        assert len(load_mesh(path).meshes.faces)
        return
    with pytest.raises(DataError, match=message) as caught:
        load_mesh(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    data = two_materials().glb(tmp_path / "a.glb").read_bytes()
    for size in [*range(0, 64, 7), *range(64, len(data), 401), len(data) - 1]:
        (tmp_path / "cut.glb").write_bytes(data[:size])
        with pytest.raises(DataError):
            load_mesh(tmp_path / "cut.glb")


def test_json_that_is_no_gltf(tmp_path: Path) -> None:
    for k, text in enumerate(("[]", "{}", "{", '{"asset": 3}', json.dumps({"asset": {"version": "2.0"}}))):
        path = tmp_path / f"{k}.gltf"
        path.write_text(text)
        with pytest.raises(DataError, match=r"glTF|triangles"):
            load_mesh(path)


def test_png_helper_writes_what_it_is_given() -> None:
    assert png(RED)[:4] == b"\x89PNG"
