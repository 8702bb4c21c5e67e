"""What mesh files hold and what had to be repaired: the inventory that `imgsynth assets` prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from imgsynth import assetset
from imgsynth.errors import DataError, SceneError
from imgsynth.shapes.meshfile import load_mesh
from imgsynth.shapespec import AssetsSpec


@dataclass(frozen=True)
class Asset:
    """One mesh file: its name below the folder, what it holds, or why it cannot be read."""

    name: str
    part: str  # train or test
    triangles: int = 0
    size_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    materials: tuple[str, ...] = ()
    keypoints: tuple[str, ...] = ()
    closed: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""

    def lines(self) -> list[str]:
        """For people: a line of figures, then one for each note."""
        if self.error:
            return [f"{self.name}: cannot be used", f"    {self.error}"]
        size = " × ".join(f"{side:.3g}" for side in self.size_m)
        points = f", keypoints {', '.join(self.keypoints)}" if self.keypoints else ""
        text = f"{self.name}: {self.part}, {self.triangles} triangles, {size} m, materials "
        return [text + ", ".join(self.materials) + points, *(f"    {note}" for note in self.notes)]

    def to_json(self) -> dict[str, object]:
        """As plain values."""
        return asdict(self)


def inventory(path: Path, test_share: float) -> list[Asset]:
    """Every mesh file of a folder, or the one at hand, read as a scene with default settings would.

    Raises:
        SceneError: no such file or folder, or no mesh in it.
    """
    if path.is_dir():
        return [_asset(path, name, test_share) for name in assetset.find(path)]
    if not path.is_file():
        raise SceneError(f"{path}: no such file or folder")
    return [_asset(path.parent, path.name, test_share)]


def _asset(home: Path, name: str, test_share: float) -> Asset:
    part = "test" if assetset.is_test(name, test_share) else "train"
    try:
        sheet = assetset.sheet(home / name, home)
        reading = assetset.reading(AssetsSpec(folder="."), sheet)
        loaded = load_mesh(home / name, **reading, keypoints=sheet.keypoints)
    except (DataError, SceneError) as error:
        return Asset(name, part, error=str(error))
    mesh = loaded.meshes
    size = np.ptp(mesh.vertices[0], axis=0).astype(np.float64).tolist()
    return Asset(
        name, part, len(mesh.faces), (size[0], size[1], size[2]), mesh.slot_names, tuple(mesh.keypoints),
        loaded.closed, loaded.notes,
    )  # fmt: skip
