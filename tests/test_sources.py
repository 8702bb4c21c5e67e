import io
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from drawn import draw, header
from PIL import Image

from imgsynth.dataset import Dataset, commit, create, write_part
from imgsynth.dataset.labelled import LabelledImages, concat, nested_order, recolor, resize
from imgsynth.dataset.sources import load
from imgsynth.errors import DataError


def made(n=40, k=4, size=(6, 5), channels=1, classes=None, groups=None, name="made", seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % k
    images = rng.integers(0, 256, (n, *size, channels), dtype=np.uint8)
    return LabelledImages(images, labels, classes or tuple("abcdefgh"[:k]), groups, name)


# LabelledImages


def test_take_is_nested_stratified_and_fixed_by_its_seed():
    labels = np.repeat([0, 1, 2, 3], [400, 200, 100, 20])
    data = LabelledImages(np.zeros((720, 2, 2, 1), np.uint8), labels, tuple("abcd"), np.arange(720), "x")
    sizes = (5, 36, 72, 360, 720)
    drawn = [data.take(n, 3).groups for n in sizes]
    for small, large in pairwise(drawn):
        assert np.array_equal(small, large[: len(small)])
    assert len(set(drawn[-1])) == 720
    for n, rows in zip(sizes, drawn, strict=True):
        assert (
            np.abs(np.bincount(labels[rows], minlength=4) - n * np.array([400, 200, 100, 20]) / 720).max()
            <= 1
        )
    assert np.array_equal(data.take(36, 3).groups, drawn[1])
    assert not np.array_equal(data.take(36, 4).groups, drawn[1])


def test_every_row_has_the_same_chance_to_be_taken():
    # χ² over 12 rows of one class and 4000 seeds, 3 drawn each: 11 degrees of freedom, 99.9 % quantile 31.3.
    counts = np.zeros(12)
    for seed in range(4000):
        counts[nested_order(np.zeros(12, int), seed)[:3]] += 1
    # Draws without replacement vary less than multinomial ones by (1 − 3/12)·12/11.
    assert ((counts - 1000) ** 2 / 1000).sum() / (0.75 * 12 / 11) < 31.3


def test_take_refuses_more_than_there_is():
    with pytest.raises(DataError, match="made: 41 images wanted, it has 40"):
        made().take(41, 0)


def test_digest_sees_pixels_labels_classes_and_groups():
    data = made()
    pixels = data.images.copy()
    pixels[3, 2, 1, 0] ^= 1
    others = [
        LabelledImages(pixels, data.labels, data.classes, None, "made"),
        LabelledImages(data.images, (data.labels + 1) % 4, data.classes, None, "made"),
        LabelledImages(data.images, data.labels, ("a", "b", "c", "z"), None, "made"),
        LabelledImages(data.images, data.labels, data.classes, data.labels, "made"),
        LabelledImages(data.images.reshape(40, 5, 6, 1), data.labels, data.classes, None, "made"),
    ]
    digests = {d.digest() for d in others} | {data.digest()}
    assert len(digests) == 6
    renamed = LabelledImages(data.images, data.labels.astype(np.int32), data.classes, None, "another name")
    assert renamed.digest() == data.digest()


def test_concat_matches_classes_by_name_and_keeps_groups_apart():
    a = made(8, 2, classes=("cat", "dog"), groups=np.repeat([0, 1], 4), name="a")
    b = made(6, 3, classes=("dog", "eel", "cat"), groups=np.zeros(6, int), name="b", seed=1)
    both = concat(a, b)
    assert both.classes == ("cat", "dog", "eel") and both.name == "a + b"
    assert [both.classes[i] for i in both.labels] == ["cat", "dog"] * 4 + ["dog", "eel", "cat"] * 2
    assert len(set(both.groups)) == 3
    assert np.array_equal(both.images[8:], b.images)


def test_concat_brings_the_second_to_the_form_of_the_first():
    a, b = made(4, size=(8, 8), channels=3), made(4, size=(16, 16))
    both = concat(a, b)
    assert both.images.shape == (8, 8, 8, 3)
    block_means = b.images.reshape(4, 8, 2, 8, 2).mean(axis=(2, 4))
    assert np.abs(both.images[4:, ..., 0].astype(float) - block_means).max() <= 0.5
    assert np.array_equal(both.images[4:, ..., 0], both.images[4:, ..., 2])


def test_where_one_side_has_groups_each_row_of_the_other_is_its_own():
    both = concat(made(6, 2, groups=np.zeros(6, int)), made(5, 2))
    assert len(set(both.groups[:6])) == 1 and len(set(both.groups[6:])) == 5


def test_luma_of_pure_colours():
    pure = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], np.uint8)[:, None, None]
    assert recolor(pure, 1).ravel().tolist() == [76, 150, 29, 255]


def test_resize_keeps_a_constant_and_the_mean():
    images = np.full((2, 12, 20, 3), 77, np.uint8)
    assert np.all(resize(images, (5, 7)) == 77) and resize(images, (24, 40)).shape == (2, 24, 40, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((4, 3, 3), np.uint8)}, "images: expected uint8"),
        ({"images": np.zeros((4, 3, 3, 1))}, "images: expected uint8"),
        ({"labels": np.array([0, 1, 2, 0])}, "expected 0 to 1, got 2 at row 2"),
        ({"labels": np.array([0, -1, 1, 0])}, "got -1 at row 1"),
        ({"labels": np.zeros(3, int)}, "labels: expected shape"),
        ({"labels": np.zeros(4)}, "whole numbers"),
        ({"groups": np.zeros(5)}, "groups: expected shape"),
        ({"classes": ("a", "a")}, "'a' stands twice"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, message):
    whole = {
        "images": np.zeros((4, 3, 3, 1), np.uint8),
        "labels": np.array([0, 1, 1, 0]),
        "classes": ("a", "b"),
        "groups": None,
        "name": "x",
    }
    with pytest.raises(DataError, match=message):
        LabelledImages(**(whole | change))


# sklearn


def test_digits_are_the_real_ones_and_their_parts_share_nothing():
    parts = {p: load(f"sklearn:digits:{p}") for p in ("train", "validation", "test", "all")}
    assert {p: len(d) for p, d in parts.items()} == {
        "train": 829,
        "validation": 138,
        "test": 830,
        "all": 1797,
    }
    whole = load("sklearn:digits")
    assert whole.images.shape == (1797, 8, 8, 1) and whole.classes == tuple("0123456789")
    assert set(np.unique(whole.images)) == {round(c * 255 / 16) for c in range(17)}
    assert not set(parts["train"].groups) & (set(parts["validation"].groups) | set(parts["test"].groups))
    assert load("sklearn:digits#train").digest() == parts["train"].digest()
    for bad in ("sklearn:iris", "sklearn:digits:half", "sklearn:"):
        with pytest.raises(DataError, match=r"expected sklearn:digits\["):
            load(bad)


# npz


def test_npz_with_and_without_names(tmp_path):
    images = np.arange(6 * 4 * 4, dtype=np.uint8).reshape(6, 4, 4)
    np.savez(tmp_path / "a.npz", images=images, labels=np.array([3, 7, 7, 3, 9, 9], np.uint8))
    data = load(str(tmp_path / "a.npz"))
    assert data.classes == ("3", "7", "9") and data.labels.tolist() == [0, 1, 1, 0, 2, 2]
    assert data.images.shape == (6, 4, 4, 1) and np.array_equal(data.images[..., 0], images)
    rgb = np.zeros((3, 4, 4, 3), np.uint8)
    np.savez_compressed(
        tmp_path / "b.npz", images=rgb, labels=[1, 0, 1], classes=["no", "yes"], groups=["s", "s", "t"]
    )
    data = load(str(tmp_path / "b.npz"))
    assert data.classes == ("no", "yes") and data.groups.tolist() == ["s", "s", "t"] and data.channels == 3


def test_parts_of_an_npz_share_no_image_and_no_group(tmp_path):
    labels, groups = np.arange(300) % 3, np.arange(300) // 10
    images = np.zeros((300, 4, 4), np.uint8)
    images[:, 0, 0], images[:, 0, 1] = np.arange(300) % 256, np.arange(300) // 256
    np.savez(tmp_path / "a.npz", images=images, labels=labels, groups=groups)
    parts = [load(f"{tmp_path}/a.npz#{p}") for p in ("train", "validation", "test")]
    assert sum(len(p) for p in parts) == 300
    held = [set(p.groups) for p in parts]
    assert not (held[0] & held[1] or held[0] & held[2] or held[1] & held[2])
    assert parts[1].name.endswith("a.npz#validation")
    with pytest.raises(DataError, match="unknown part 'valid'; expected #train"):
        load(f"{tmp_path}/a.npz#valid")


class Hostile:
    """Runs code when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def npz_of(path, **members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def npy_header(shape, descr):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"shape": shape, "fortran_order": False, "descr": descr})
    return buffer.getvalue()


def test_npz_of_python_objects_is_refused_unread(tmp_path):
    hostile = np.empty(2, object)
    hostile[:] = [Hostile(tmp_path / "was-here"), 0]
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 4, 4), np.uint8), labels=hostile)
    with pytest.raises(DataError, match="labels: holds Python objects"):
        load(str(tmp_path / "a.npz"))
    assert not (tmp_path / "was-here").exists()


def test_npz_that_claims_more_than_memory_is_refused_from_its_header(tmp_path):
    npz_of(tmp_path / "a.npz", images=npy_header((10**9, 64, 64), "|u1"), labels=npy_header((10**9,), "<i8"))
    with pytest.raises(DataError, match="3815 GiB of data"):
        load(str(tmp_path / "a.npz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((2, 4, 4), np.float32), "labels": [0, 1]}, "images: expected uint8"),
        ({"images": np.zeros((2, 4, 4, 2), np.uint8), "labels": [0, 1]}, "images: expected uint8"),
        ({"images": np.zeros((0, 4, 4), np.uint8), "labels": np.zeros(0, int)}, "images: expected uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0.0, 1.0]}, "labels: expected 2 whole numbers"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1, 2]}, "labels: expected 2 whole numbers"),
        ({"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, -1]}, "labels: expected numbers from 0"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, "expected arrays `images` and `labels`, found images"),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 2], "classes": ["a", "b"]},
            "labels: expected 0 to 1, got 2 at row 1",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1], "classes": ["a", "b", "c"]},
            "class 'c' has no image",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1], "classes": [1, 2]},
            "classes: expected names",
        ),
        (
            {"images": np.zeros((2, 4, 4), np.uint8), "labels": [0, 1], "groups": [1]},
            "groups: expected shape",
        ),
    ],
)
def test_npz_that_is_not_classification_data_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message) as caught:
        load(str(tmp_path / "a.npz"))
    assert "a.npz" in str(caught.value)


def test_npz_that_is_damaged_is_refused(tmp_path):
    good = tmp_path / "good.npz"
    np.savez_compressed(
        good, images=np.random.default_rng(0).integers(0, 9, (50, 8, 8), np.uint8), labels=[0, 1] * 25
    )
    whole = good.read_bytes()
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0xFF
    for name, data in {
        "cut": whole[: len(whole) // 2],
        "flipped": bytes(broken),
        "text": b"hello",
        "none": b"",
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"not a readable \.npz file"):
            load(str(path))


# imgsynth's own


def test_a_dataset_of_imgsynth_and_an_unfinished_one(tmp_path):
    head = header(count=9, part_size=4)
    root = tmp_path / "set"
    for part in create(root, head):
        write_part(
            root, head, part, draw(np.arange(part.start, part.start + part.count), head.size, lone=True)
        )
    with pytest.raises(DataError, match="unfinished dataset"):
        load(str(root))
    commit(root, head)
    data, whole = load(str(root)), Dataset(root)
    assert data.classes == head.classes and data.images.shape == (9, *head.size, 3)
    for i in range(9):
        (row,) = whole.instances_of(i).to_pylist()
        assert data.labels[i] == row["class_id"] - 1
        assert np.array_equal(data.images[i], whole.image(i))


# folders


def write(path, array, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **how)


def test_image_folder_of_one_size_is_read_as_it_is(tmp_path):
    rng = np.random.default_rng(0)
    held = {}
    for name in ("cat", "dog"):
        for i in range(3):
            held[f"{name}/{i}.png"] = rng.integers(0, 256, (9, 7, 3), np.uint8)
            write(tmp_path / name / f"{i}.png", held[f"{name}/{i}.png"])
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden").mkdir()
    data = load(str(tmp_path))
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0, 0, 0, 1, 1, 1] and data.notes == ""
    assert data.names.tolist() == sorted(held)
    assert all(np.array_equal(data.images[i], held[n]) for i, n in enumerate(data.names))


def test_images_of_many_sizes_get_one_and_it_is_said(tmp_path):
    for i, side in enumerate((16, 33, 90)):
        write(tmp_path / "a" / f"{i}.png", np.full((side, side + 4), 100, np.uint8))
    write(tmp_path / "b" / "0.png", np.full((31, 40), 100, np.uint8))
    data = load(str(tmp_path))
    assert data.images.shape == (4, 32, 32, 1) and np.all(data.images == 100)
    assert data.notes.startswith("stretched to 32×32") and "16 to 94" in data.notes


def test_odd_kinds_of_images(tmp_path):
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    write(tmp_path / "a" / "0.png", ramp)
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[..., 0] = 255  # red, wholly transparent
    write(tmp_path / "a" / "1.png", clear)
    turned = np.zeros((16, 16, 3), np.uint8)
    turned[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise: the top comes to the right
    write(tmp_path / "b" / "0.png", turned, exif=exif)
    data = load(str(tmp_path))
    assert np.array_equal(data.images[0, ..., 1], (ramp >> 8).astype(np.uint8))
    assert np.all(data.images[1] == 0)
    assert np.all(data.images[2, :, 8:] == 255) and np.all(data.images[2, :, :8] == 0)


def test_gtsrb_names_give_tracks_that_are_never_cut(tmp_path):
    for c in range(2):
        for track in range(10):
            for frame in range(3):
                pixels = np.full((8, 8, 3), 10 * track + frame, np.uint8)
                write(tmp_path / f"{c:05d}" / f"{track:05d}_{frame:05d}.ppm", pixels)
    data = load(str(tmp_path))
    assert len(set(data.groups)) == 20 and data.groups[0] == "00000_00000"
    parts = [set(load(f"{tmp_path}#{p}").groups) for p in ("train", "validation", "test")]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20


def test_gtsrb_in_torchvisions_layout(tmp_path):
    home = tmp_path / "gtsrb" / "GTSRB" / "Training"
    for c in (0, 1):
        lines = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        for i in range(4):
            name = f"{i // 2:05d}_{i % 2:05d}.ppm"
            write(home / f"{c:05d}" / name, np.full((32, 32, 3), 50 * c + i, np.uint8))
            lines.append(f"{name};29;30;5;6;24;25;{c}")
        (home / f"{c:05d}" / f"GT-{c:05d}.csv").write_text("\n".join(lines) + "\n")
    for root in (tmp_path, tmp_path / "gtsrb", home):
        data = load(f"torchvision:GTSRB:{root}")
        assert data.classes == ("00000", "00001") and data.images.shape == (8, 32, 32, 3)
        assert data.groups.tolist() == [f"0000{c}_0000{t}" for c in (0, 1) for t in (0, 0, 1, 1)]
        assert data.images[5, 0, 0].tolist() == [51, 51, 51]
    with pytest.raises(DataError, match=r"not found; looked for .*GT-final_test\.csv"):
        load(f"torchvision:GTSRB:{tmp_path}:test")
    table = home / "00001" / "GT-00001.csv"
    table.write_text(table.read_text().replace("00001_00001.ppm", "../../secret.ppm"))
    with pytest.raises(DataError, match=r"GT-00001\.csv:5: not a file name"):
        load(f"torchvision:GTSRB:{tmp_path}:train")


HEAD = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


def final_test(root, table="GTSRB/GT-final_test.csv", images="GTSRB/Final_Test/Images", ending="ppm", bom=""):
    """Six test images of classes 33, 1 and 12, whose first pixel counts them."""
    rows = [HEAD]
    for i, c in enumerate((33, 1, 12, 1, 33, 12)):
        write(root / images / f"{i:05d}.{ending}", np.full((32, 32, 3), 10 * i, np.uint8))
        rows.append(f"{i:05d}.{ending};53;54;6;5;48;49;{c}")
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_text(bom + "\r\n".join(rows) + "\r\n", encoding="utf-8")
    return root


@pytest.mark.parametrize(
    ("table", "images", "specs"),
    [
        (
            "GTSRB/GT-final_test.csv",
            "GTSRB/Final_Test/Images",
            (
                "GTSRB",
                "GTSRB/Final_Test",
                "GTSRB/Final_Test/Images",
                "GTSRB/GT-final_test.csv",
                "torchvision:GTSRB:{}:test",
                "torchvision:GTSRB:{}/GTSRB:test",
            ),
        ),
        (
            "GTSRB/Final_Test/Images/GT-final_test.csv",
            "GTSRB/Final_Test/Images",
            ("", "GTSRB", "GTSRB/Final_Test/Images", "torchvision:GTSRB:{}:test"),
        ),
        (
            "gtsrb/GT-final_test.csv",
            "gtsrb/GTSRB/Final_Test/Images",
            (
                "gtsrb",
                "gtsrb/GTSRB",
                "gtsrb/GT-final_test.csv",
                "gtsrb/GTSRB/Final_Test/Images",
                "torchvision:GTSRB:{}:test",
                "torchvision:GTSRB:{}/gtsrb:test",
            ),
        ),
        ("GT-final_test.csv", "Images", ("", "Images", "GT-final_test.csv")),
        ("signs/truth.csv", "signs", ("signs", "signs/truth.csv")),
        ("signs.csv", "signs", ("signs.csv",)),
    ],
)
def test_gtsrbs_official_test_layout(table, images, specs, tmp_path):
    final_test(tmp_path, table, images, bom="\ufeff" if "truth" in table else "")
    for spec in specs:
        data = load(spec.format(tmp_path) if ":" in spec else str(tmp_path / spec))
        assert data.classes == ("00001", "00012", "00033") and data.groups is None, spec
        assert data.labels.tolist() == [2, 0, 1, 0, 2, 1] and data.names[5] == "00005.ppm"
        assert data.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    whole = data.aligned([f"{c:05d}" for c in range(43)])  # as a model of all signs has them
    assert whole.labels.tolist() == [33, 1, 12, 1, 33, 12]


def test_the_test_table_is_not_taken_for_a_training_folders(tmp_path):
    final_test(tmp_path)
    training = tmp_path / "GTSRB" / "Training"
    for c in (0, 1):
        for i in range(4):
            write(training / f"{c:05d}" / f"{i // 2:05d}_{i % 2:05d}.ppm", np.full((32, 32, 3), i, np.uint8))
        rows = [f"{i // 2:05d}_{i % 2:05d}.ppm;29;30;5;6;24;25;{c}" for i in range(4)]
        (training / f"{c:05d}" / f"GT-{c:05d}.csv").write_text("\n".join([HEAD, *rows]) + "\n")
    data = load(str(training))
    assert data.classes == ("00000", "00001") and len(set(data.groups)) == 4
    one = load(str(training / "00001"))
    assert one.classes == ("00001",) and one.groups.tolist() == ["00001_00000"] * 2 + ["00001_00001"] * 2
    with pytest.raises(
        DataError, match=r"holds GTSRB's training and test set; name one: .*Training, or .*Images"
    ):
        load(str(tmp_path / "GTSRB"))
    assert len(load(f"torchvision:GTSRB:{tmp_path}:all")) == 14


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("../../secret.ppm;53;54;6;5;48;49;1", r"GT-final_test\.csv:3: not a file name"),
        ("C:\\a.ppm;53;54;6;5;48;49;1", r"GT-final_test\.csv:3: not a file name"),
        ("00001.ppm;53;54;6;5;48;49;-1", r"GT-final_test\.csv:3: not a file name and a class"),
        ("00001.ppm;53;54;6;5;48;49;x", r"GT-final_test\.csv:3: expected columns Filename and ClassId"),
        ("00001.ppm;53", r"GT-final_test\.csv:3: expected columns Filename and ClassId"),
        ("00000.ppm;53;54;6;5;48;49;1", r"GT-final_test\.csv: 00000\.ppm stands twice"),
        ("gone.ppm;53;54;6;5;48;49;1", r"gone\.ppm: not a readable image"),
    ],
)
def test_faults_of_a_table_name_its_line(line, message, tmp_path):
    table = final_test(tmp_path) / "GTSRB" / "GT-final_test.csv"
    rows = table.read_text().split("\n")
    table.write_text("\n".join([*rows[:2], line, *rows[3:]]))
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "GTSRB"))


def test_tables_that_say_no_class(tmp_path):
    final_test(tmp_path, table="GTSRB/Final_Test/Images/GT-final_test.test.csv")
    table = tmp_path / "GTSRB/Final_Test/Images/GT-final_test.test.csv"
    rows = [r.rpartition(";")[0] for r in table.read_text().split()]
    table.write_text("\n".join(rows))
    with pytest.raises(DataError, match=r"has no column ClassId .*; put GT-final_test.csv beside it"):
        load(str(tmp_path / "GTSRB" / "Final_Test" / "Images"))
    with pytest.raises(
        DataError, match="expected a table with `;` between columns Filename and ClassId, got"
    ):
        load(str(table))
    table.unlink()
    with pytest.raises(
        DataError, match=r"or images and GTSRB's table of classes \(it holds images, but nothing"
    ):
        load(str(tmp_path / "GTSRB" / "Final_Test" / "Images"))
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "a.csv").write_text(HEAD + "\n")
    with pytest.raises(DataError, match=r"a\.csv: no images; looked in"):
        load(str(tmp_path / "far" / "a.csv"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("torchvision:MNIST:{}", "torchvision:MNIST:.*not found as torchvision keeps it"),
        ("torchvision:USPS:{}", "torchvision:USPS:.*not found as torchvision keeps it"),
        ("torchvision:SVHN:{}:test", "torchvision:SVHN:.*test: not found"),
        ("torchvision:GTSRB:{}", "not found; looked for .*Training/00000/GT-00000.csv"),
        ("torchvision:Nothing:{}", "expected torchvision:NAME:ROOT"),
        ("torchvision:MNIST", "expected torchvision:NAME:ROOT"),
        ("torchvision:MNIST:{}/gone", "no such folder"),
        ("{}", "not a known data set: expected dataset.json"),
        ("{}/gone", "no such file or folder"),
        ("{}/gone.npz#train", "no such file or folder"),
    ],
)
def test_what_is_not_there_is_said(tmp_path, spec, message):
    with pytest.raises(DataError, match=message):
        load(spec.format(tmp_path))


def test_mnist_files_are_read_by_torchvision(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
    for stem in ("train", "t10k"):
        head = b"\x00\x00\x08\x03" + b"".join(int(v).to_bytes(4, "big") for v in pixels.shape)
        (raw / f"{stem}-images-idx3-ubyte").write_bytes(head + pixels.tobytes())
        (raw / f"{stem}-labels-idx1-ubyte").write_bytes(
            b"\x00\x00\x08\x01\x00\x00\x00\x05" + bytes([1, 2, 3, 9, 0])
        )
    data = load(f"torchvision:mnist:{tmp_path}:all")
    assert len(data) == 10 and np.array_equal(data.images[5:, ..., 0], pixels)
    assert data.labels[:5].tolist() == [1, 2, 3, 9, 0] and data.classes == tuple("0123456789")


def test_folder_faults_name_the_file(tmp_path):
    write(tmp_path / "a" / "0.png", np.zeros((8, 8), np.uint8))
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="b: class 'b' has no image"):
        load(str(tmp_path))
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "b" / "bad.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        load(str(tmp_path))
    (tmp_path / "b" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"bad\.png: not a readable image"):
        load(str(tmp_path))
    (tmp_path / "plain.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected a \.npz file or a folder, got a \.txt file"):
        load(str(tmp_path / "plain.txt"))


@pytest.mark.parametrize("kind", ["EPS", "GIF", "PDF", "ICO"])
def test_only_the_named_kinds_of_images_are_opened_whatever_they_are_called(kind, tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / "a" / "0.png", format=kind)
    with pytest.raises(DataError, match=r"0\.png: not a readable image: cannot identify"):
        load(str(tmp_path))


def test_an_image_too_large_is_refused_by_its_header(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.ppm").write_bytes(b"P6\n9000 8000\n255\n")
    with pytest.raises(DataError, match=r"0\.ppm: 9000×8000 pixels; at most 64 million"):
        load(str(tmp_path))


def test_reading_data_loads_neither_torch_nor_warp():
    code = (
        "import sys; from imgsynth.dataset.sources import load; load('sklearn:digits:train');"
        "sys.exit(bool({'torch', 'warp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("mark", "kind"), [("annotations.json", "COCO"), ("data.yaml", "YOLO")])
def test_detection_folders_are_named_not_misread(mark, kind, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / mark).write_text("{}")
    with pytest.raises(DataError, match=f"looks like {kind}"):
        load(str(tmp_path))


def idx_bytes(array):
    return (
        bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


def test_idx_files_as_they_are_distributed(tmp_path):
    import gzip

    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    labels = np.array([3, 9], np.uint8)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
    data = load(f"torchvision:FashionMNIST:{tmp_path}")
    np.testing.assert_array_equal(data.images[..., 0], images)
    assert [data.classes[k] for k in data.labels] == ["Dress", "Ankle boot"]
    assert load(f"torchvision:MNIST:{tmp_path}:train").classes[9] == "9"
    with pytest.raises(DataError, match="not found as torchvision keeps it"):
        load(f"torchvision:MNIST:{tmp_path}:test")
    for harm, said in (
        (gzip.compress(idx_bytes(images)[:-1]), "expected 1568 bytes of values, got 1567"),
        (gzip.compress(idx_bytes(images) + b"x"), "got more"),
        (gzip.compress(idx_bytes(images))[:-9], "not a readable IDX file"),
        (gzip.compress(b"\0\0\x0d\3" + bytes(12)), "of unsigned bytes"),
        (gzip.compress(b"\0\0\x08\3" + b"\xff" * 12), "at most"),
        (b"plain", "not a readable IDX file"),
    ):
        (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(harm)
        with pytest.raises(DataError, match=said):
            load(f"torchvision:MNIST:{tmp_path}")
