"""The light from all around a frame as one map, for the references: environment, sky, ambient radiance."""

from __future__ import annotations

import cv2
import numpy as np

from imgsynth.batch import F32, F64, SceneBatch


def around(batch: SceneBatch, frame: int) -> F32:
    """(h, 2·h, 3) radiance from all directions, equirectangular as `batch.Environments` has it.

    1 × 2 where it is the same from everywhere.
    """
    lights = batch.lights
    ambient = lights.ambient[frame].astype(np.float32)
    maps = lights.environments
    if maps is None or maps.index[frame] < 0:
        return np.broadcast_to(ambient, (1, 2, 3)).copy()
    return maps.maps[int(maps.index[frame])] * np.float32(maps.scale[frame]) + ambient


def map_from_camera(batch: SceneBatch, frame: int) -> F64:
    """(3, 3) rotation from the camera's frame to that of the frame's map."""
    maps = batch.lights.environments
    turn = 0.0 if maps is None else float(maps.turn[frame])
    cos, sin = np.cos(turn), np.sin(turn)
    back = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
    out: F64 = back @ batch.cameras.world_from_camera[frame][:3, :3]
    return out


def at_edges(image: F32) -> F32:
    """(2·h + 1, w, 3) the rows of a map at its poles and at each half row between, bilinear.

    A program that puts its first and last row at the very poles, and reads bilinearly, then sees what one
    that puts texels in the middles of their rows sees of `image`.
    """
    far = np.roll(image, image.shape[1] // 2, axis=1)  # what lies beyond the poles
    over = np.concatenate([far[:1], image, far[-1:]])
    out = np.empty((2 * len(image) + 1, *image.shape[1:]), np.float32)
    out[1::2] = image
    out[::2] = (over[:-1] + over[1:]) / 2
    return out


def finer(image: F32, least: int) -> F32:
    """The same map in at least so many rows, bilinear, going on over its poles."""
    times = -(-least // len(image))
    if times <= 1:
        return image
    far = np.roll(image, image.shape[1] // 2, axis=1)
    wide = np.concatenate([far[:1], image, far[-1:]])
    wide = np.concatenate([wide[:, -1:], wide, wide[:, :1]], axis=1)
    y, x = ((np.arange(n * times, dtype=np.float32) + 0.5) / times + 0.5 for n in image.shape[:2])
    at_x, at_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    return cv2.remap(wide, at_x, at_y, cv2.INTER_LINEAR).astype(np.float32)


def looking(image: F32, direction: F64) -> F64:
    """(3,) radiance of a map's texel in a direction of the map's frame."""
    h, w = image.shape[:2]
    azimuth, polar = np.arctan2(direction[1], direction[0]), np.arccos(np.clip(direction[2], -1, 1))
    row = min(int(polar / np.pi * h), h - 1)
    out: F64 = image[row, int((0.5 - azimuth / (2 * np.pi)) * w) % w].astype(np.float64)
    return out
