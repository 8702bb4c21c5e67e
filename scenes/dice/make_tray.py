"""Makes tray.obj: four walls, 0.24 × 0.20 m inside, 35 mm high, floor left to the ground plane."""

from pathlib import Path

import trimesh

INSIDE, WALL, HEIGHT = (0.24, 0.20), 0.009, 0.035


def main() -> None:
    x, y = (side / 2 + WALL / 2 for side in INSIDE)
    long, short = INSIDE[0] + 2 * WALL, INSIDE[1]
    walls = [((long, WALL, HEIGHT), (0, s * y, HEIGHT / 2)) for s in (-1, 1)]
    walls += [((WALL, short, HEIGHT), (s * x, 0, HEIGHT / 2)) for s in (-1, 1)]
    parts = []
    for extents, centre in walls:
        part = trimesh.creation.box(extents)
        part.apply_translation(centre)
        parts.append(part)
    trimesh.util.concatenate(parts).export(
        Path(__file__).with_name("tray.obj"), include_normals=False, header=None
    )


if __name__ == "__main__":
    main()
