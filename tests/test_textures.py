"""Textures: mip chains keep light, pools keep order, noise tiles, files and vector art are read safely."""

from __future__ import annotations

import base64
import io
import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from imgsynth.batch import U8
from imgsynth.color import srgb_to_linear
from imgsynth.errors import DataError, SceneError
from imgsynth.textures import (
    KINDS,
    build_mips,
    image_size,
    list_images,
    load_chain,
    noise_texture,
    pool,
    rasterize_svg,
    read_image,
)

SVG = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
HALVES = (
    f'<svg {SVG} viewBox="0 0 100 50">'
    "<style>.a { fill: #ff0000 } rect.b { fill: #00f; fill-opacity: 0.5 }</style>"
    '<rect class="a" width="50" height="50"/><rect class="b" x="50" width="50" height="50"/></svg>'
)


def linear_mean(image: U8) -> np.ndarray:
    """Mean of premultiplied linear colour and of alpha."""
    alpha = image[..., 3:] / 255
    premultiplied = srgb_to_linear(image[..., :3] / 255) * alpha
    return np.concatenate([premultiplied, alpha], -1).reshape(-1, 4).mean(0)


IMAGES = st.tuples(st.integers(1, 13), st.integers(1, 13)).flatmap(lambda hw: arrays(np.uint8, (*hw, 4)))


@given(IMAGES)
@settings(max_examples=80, deadline=None)
def test_mips_halve_down_to_one_texel_and_keep_the_mean(image: U8) -> None:
    levels = build_mips(image)
    assert levels[0] is image and levels[-1].shape == (1, 1, 4)
    for above, below in itertools.pairwise(levels):
        assert below.shape[:2] == tuple(max(1, n // 2) for n in above.shape[:2])
    # The last texel is one rounding away from the whole image's mean.
    want, last = linear_mean(image), levels[-1][0, 0]
    assert abs(last[3] / 255 - want[3]) <= 0.5 / 255 + 1e-6
    if want[3] > 0:
        low = srgb_to_linear(np.maximum(last[:3] - 0.53, 0) / 255)
        high = srgb_to_linear(np.minimum(last[:3] + 0.53, 255) / 255)
        colour = want[:3] / want[3]
        assert (colour >= low - 1e-5).all() and (colour <= high + 1e-5).all()


def test_mips_average_light_not_codes() -> None:
    checker = np.full((2, 2, 4), 255, np.uint8)
    checker[0, 0, :3] = checker[1, 1, :3] = 0
    assert build_mips(checker)[1][0, 0].tolist() == [188, 188, 188, 255]


def test_transparent_texels_lend_no_colour() -> None:
    image = np.zeros((2, 2, 4), np.uint8)
    image[0] = [255, 0, 0, 255]
    image[1] = [0, 255, 0, 0]
    assert build_mips(image)[1][0, 0].tolist() == [255, 0, 0, 128]


def test_mips_of_odd_sides_weigh_by_area() -> None:
    ramp = np.full((1, 3, 4), 255, np.uint8)
    ramp[0, :, :3] = np.array([0, 255, 0])[:, None]
    assert build_mips(ramp)[1][0, 0, 0] == round(255 * (1.055 * (1 / 3) ** (1 / 2.4) - 0.055))
    five = np.full((1, 5, 4), 255, np.uint8)
    five[0, :, :3] = np.array([255, 0, 0, 0, 0])[:, None]  # all in the first half: 1 of 2.5 texels
    assert build_mips(five)[1][0, :, 0].tolist() == [round(255 * (1.055 * 0.4 ** (1 / 2.4) - 0.055)), 0]


def test_mips_of_a_stack_are_those_of_each() -> None:
    stack = np.random.default_rng(0).integers(0, 256, (5, 7, 12, 4), np.uint8)
    levels = build_mips(stack)
    for k in range(5):
        assert all(np.array_equal(a[k], b) for a, b in zip(levels, build_mips(stack[k]), strict=True))


def test_mips_want_rgba() -> None:
    for shape, kind in (((2, 2, 3), np.uint8), ((2, 2, 4), np.float32), ((0, 2, 4), np.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            build_mips(np.zeros(shape, kind))


def test_pool_keeps_order_and_levels() -> None:
    rng = np.random.default_rng(1)
    images = [rng.integers(0, 256, (*hw, 4), np.uint8) for hw in ((4, 4), (3, 5), (4, 4), (1, 1))]
    textures = [images[0], tuple(build_mips(images[1])), images[2], images[3]]
    packed = pool(textures)
    assert len(packed) == 4
    assert packed.first_level.tolist() == [0, 3, 6, 9, 10]
    for t, image in enumerate(images):
        for n, level in enumerate(build_mips(image)):
            at = packed.first_level[t] + n
            assert tuple(packed.level_size[at]) == level.shape[:2]
            begin = packed.level_start[at]
            texels = packed.texels[begin : begin + level.shape[0] * level.shape[1]]
            assert np.array_equal(texels.reshape(level.shape), level)
    assert packed.texels.dtype == np.uint8 and packed.level_start.dtype == np.int64
    assert packed.first_level.dtype == packed.level_size.dtype == np.int32
    assert len(pool([])) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_noise_tiles_varies_and_is_the_same_alone(kind: str) -> None:
    seed = np.array([3, 4, 2**63], np.uint64)
    a, b = np.array([[0.9, 0.8, 0.7]] * 3), np.array([0.1, 0.0, 0.3])
    batch = noise_texture(seed, a, b, kind=kind, cells=[2, 4, 4], size=64)
    assert batch.shape == (3, 64, 64, 4) and batch.dtype == np.uint8 and (batch[..., 3] == 255).all()
    for k in range(3):
        alone = noise_texture(seed[k : k + 1], a[k], b, kind=kind, cells=[2, 4, 4][k], size=64)
        assert np.array_equal(alone[0], batch[k])
    if kind != "checker":
        assert not np.array_equal(batch[1], batch[2])
    # Both colours nearly reached; never beyond.
    codes = batch[..., 0].astype(int)
    assert codes.min() >= 89 and codes.max() <= 243 and np.ptp(codes[1]) > 100
    # The step over the seam is like any other step inside.
    for axis in (1, 2):
        inside = np.abs(np.diff(codes, axis=axis)).mean()
        seam = np.abs(np.take(codes, 0, axis) - np.take(codes, -1, axis)).mean()
        lines = [np.abs(np.take(codes, j, axis) - np.take(codes, j - 1, axis)).mean() for j in range(1, 64)]
        assert seam <= max(*lines, inside) + 1e-9


def test_noise_repeats_with_its_cells() -> None:
    board = noise_texture([1], [0, 0, 0], [1, 1, 1], kind="checker", cells=4, size=64)[0]
    assert np.array_equal(np.roll(board, 16, 0), board)
    assert np.array_equal(np.roll(board, 16, 1), board)
    assert np.array_equal(np.roll(board, 8, 0)[..., 0], 255 - board[..., 0])


def test_noise_is_unbiased() -> None:
    grey = noise_texture(np.arange(200), [0, 0, 0], [1, 1, 1], kind="noise", cells=8, size=32)
    level = srgb_to_linear(grey[..., 0] / 255).reshape(200, -1).mean(1)
    assert abs(level.mean() - 0.5) < 4 * level.std() / np.sqrt(200)


@pytest.mark.parametrize(
    ("values", "match"),
    [({"kind": "marble"}, "kind"), ({"cells": 0}, "cells"), ({"size": 4}, "size"), ({"cells": 65}, "cells")],
)
def test_noise_parameters_are_checked(values: dict, match: str) -> None:
    with pytest.raises(SceneError, match=match):
        noise_texture([1], [0, 0, 0], [1, 1, 1], **values)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.ppm"])
def test_formats_are_read(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (6, 4), (200, 100, 50)).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (4, 6, 4) and image_size(tmp_path / name) == (4, 6)
    assert np.abs(image.astype(int) - [200, 100, 50, 255]).max() <= 4


def test_modes_and_orientation(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 3), 0x80FF, np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png")[0, 0].tolist() == [128, 128, 128, 255]
    Image.new("RGBA", (2, 2), (1, 2, 3, 4)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png")[0, 0].tolist() == [1, 2, 3, 4]
    Image.new("P", (2, 2)).save(tmp_path / "palette.png")
    assert read_image(tmp_path / "palette.png").shape == (2, 2, 4)
    photo = Image.new("RGB", (6, 4))
    exif = photo.getexif()
    exif[0x0112] = 6  # the camera was on its side
    photo.save(tmp_path / "side.jpg", exif=exif)
    assert read_image(tmp_path / "side.jpg").shape == (6, 4, 4) and image_size(tmp_path / "side.jpg") == (
        6,
        4,
    )


def png_claiming(width: int, height: int) -> bytes:
    """A tiny PNG whose header claims a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.filterwarnings("error")
def test_broken_and_hostile_images_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("not a picture")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.jpg", quality=95)
    Image.effect_noise((64, 64), 50).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:600])
    Image.new("RGB", (4, 4)).save(tmp_path / "other.gif")
    for side, name in ((9000, "big.png"), (12000, "bigger.png"), (60000, "bomb.png")):
        (tmp_path / name).write_bytes(png_claiming(side, side))
        with pytest.raises(DataError, match=rf"{name}: expected at most 64000000 pixels"):
            read_image(tmp_path / name)
    for name, match in (
        ("words.png", "expected an image"),
        ("cut.png", "broken"),
        ("other.gif", "expected an image"),
    ):
        with pytest.raises(DataError, match=match):
            read_image(tmp_path / name)
    with pytest.raises(DataError, match="no such file"):
        read_image(tmp_path / "gone.png")
    with pytest.raises(DataError, match="cannot be read"):
        read_image(tmp_path)
    with pytest.raises(DataError, match="at most 100 pixels"):
        read_image(tmp_path / "whole.jpg", max_pixels=100)


def test_list_images(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "deeper").mkdir(parents=True)
    (home / ".git").mkdir()
    for name in ("b.png", "a.JPG", "C.jpeg", ".hidden.png", "deeper/x.png", "deeper/a.png", ".git/y.png"):
        Image.new("RGB", (2, 2)).save(home / name)
    (home / "notes.txt").write_text("no")
    (home / "sign.svg").write_text(HALVES)
    Image.new("RGB", (2, 2)).save(tmp_path / "outside.png")
    (home / "escape.png").symlink_to(tmp_path / "outside.png")
    (home / "inside.png").symlink_to(home / "b.png")
    (home / "deeper" / "escape.png").symlink_to(tmp_path / "outside.png")
    (home / "elsewhere").symlink_to(tmp_path)
    found = [p.relative_to(home).as_posix() for p in list_images(home)]
    assert found == ["C.jpeg", "a.JPG", "b.png", "deeper/a.png", "deeper/x.png", "inside.png"]
    assert [p.name for p in list_images(home, svg=True)][-1] == "sign.svg"
    with pytest.raises(DataError, match="nowhere: no such folder"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected a folder"):
        list_images(tmp_path / "outside.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: .*found none"):
        list_images(tmp_path / "empty")


def test_load_chain_caches_until_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), (255, 0, 0)).save(path)
    first = load_chain(path)
    assert load_chain(str(path)) is first and len(first) == 3
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0] = 0
    Image.new("RGB", (4, 4), (0, 255, 0)).save(path)
    os.utime(path, ns=(1, 1))
    assert load_chain(path)[0][0, 0].tolist() == [0, 255, 0, 255]
    (tmp_path / "s.svg").write_text(HALVES)
    assert load_chain(tmp_path / "s.svg", svg_size=(8, 4))[0].shape == (8, 4, 4)
    assert load_chain(tmp_path / "s.svg", svg_size=(4, 8))[0].shape == (4, 8, 4)
    with pytest.raises(DataError, match="no such file"):
        load_chain(tmp_path / "none.png")


@pytest.mark.parametrize("size", [(50, 100), (64, 64), (31, 200)])
def test_svg_colours_and_size(size: tuple[int, int]) -> None:
    image = rasterize_svg(HALVES, size)
    assert image.shape == (*size, 4)
    for row in (1, size[0] - 2):  # stretched over the whole height
        assert image[row, 2].tolist() == [255, 0, 0, 255]
        assert image[row, -3].tolist() == [0, 0, 255, 128]


def test_svg_files_units_and_text(tmp_path: Path) -> None:
    body = '<rect width="10" height="20" fill="lime"/>'
    (tmp_path / "a.svg").write_text(
        f'<?xml version="1.0"?><svg {SVG} width="10px" height="20">{body}</svg>', "utf-8-sig"
    )
    assert (rasterize_svg(tmp_path / "a.svg", (8, 8)) == [0, 255, 0, 255]).all()
    text = (
        f'<svg {SVG} viewBox="0 0 40 40"><text x="5" y="35" font-size="40" font-family="Arial">7</text></svg>'
    )
    ink = rasterize_svg(text, (40, 40))[..., 3] / 255
    assert 0.05 < ink.mean() < 0.4
    doctype = (
        '<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">'
    )
    assert rasterize_svg(doctype + HALVES, (4, 8))[0, 0].tolist() == [255, 0, 0, 255]


def test_svg_may_embed_pictures() -> None:
    data = io.BytesIO()
    Image.new("RGB", (2, 2), (255, 0, 255)).save(data, "PNG")
    encoded = base64.b64encode(data.getvalue()).decode()
    picture = f'<image width="4" height="4" xlink:href="data:image/png;base64,{encoded}"/>'
    assert rasterize_svg(f'<svg {SVG} viewBox="0 0 4 4">{picture}</svg>', (4, 4))[2, 2].tolist() == [
        255,
        0,
        255,
        255,
    ]


BOMB = base64.b64encode(png_claiming(60000, 60000)).decode()
HOSTILE = {
    "file": '<image width="4" height="4" href="/etc/hostname.png"/>',
    "relative": '<image width="4" height="4" xlink:href="secret.png"/>',
    "network": '<image width="4" height="4" href="http://example.org/a.png"/>',
    "use": '<use href="other.svg#a"/>',
    "effect": '<filter id="f"><feImage href="secret.png"/></filter>',
    "attribute": '<rect width="4" height="4" fill="url(other.svg#g)"/>',
    "inline style": '<rect width="4" height="4" style="fill: url( &quot;http://a.org/a.svg#g&quot; )"/>',
    "style": "<style>@import url(http://example.org/a.css);</style>",
    "nested": '<image width="4" height="4" href="data:image/svg+xml;base64,PHN2Zy8+"/>',
    "bomb": f'<image width="4" height="4" href="data:image/png;base64,{BOMB}"/>',
    "junk": '<image width="4" height="4" href="data:image/png;base64,AAAA"/>',
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_svg_that_refers_outside_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (4, 4), (0, 128, 0)).save(tmp_path / "secret.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.svg").write_text(f'<svg {SVG} viewBox="0 0 4 4">{HOSTILE[name]}</svg>')
    with pytest.raises(DataError, match=r"a\.svg: .*(outside|embedded)"):
        rasterize_svg(tmp_path / "a.svg", (4, 4))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("<svg", "broken XML"),
        ("<html/>", "expected an <svg>"),
        (f"<svg {SVG}/>", "viewBox"),
        (f'<svg {SVG} viewBox="0 0 0 0"/>', "viewBox"),
        (f'<svg {SVG} viewBox="0 0 4"/>', "viewBox"),
        ('<!DOCTYPE svg [<!ENTITY a "b">]><svg>&a;</svg>', "entity"),
    ],
)
def test_broken_svg_is_one_clear_line(text: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        rasterize_svg(text, (4, 4))


def test_svg_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        rasterize_svg(tmp_path / "none.svg", (4, 4))
    (tmp_path / "latin.svg").write_bytes(b"<svg>\xff</svg>")
    with pytest.raises(DataError, match="UTF-8"):
        rasterize_svg(tmp_path / "latin.svg", (4, 4))
    with pytest.raises(DataError, match="size"):
        rasterize_svg(HALVES, (0, 4))
    with pytest.raises(DataError, match="size"):
        rasterize_svg(HALVES, (100_000, 100_000))
