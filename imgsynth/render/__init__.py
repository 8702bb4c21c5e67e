"""Renderers: a `SceneBatch` in, `Buffers` out.

Importing this package loads no engine; `renderer("raster")` does.
"""

from __future__ import annotations

from imgsynth.errors import ImgsynthError
from imgsynth.render.base import Renderer

RENDERERS = ("raster", "mitsuba", "cycles")


def renderer(name: str = "raster", device: str = "cpu", paths: int = 64, max_depth: int = 6) -> Renderer:
    """The renderer of that name.

    Args:
        name: "raster", or a path-traced reference, "mitsuba" or "cycles" (docs/renderers.md says how to
            install them).
        device: "cpu", "cuda" or "cuda:1"; references draw on the CPU.
        paths: light paths a pixel, of a reference.
        max_depth: most segments of a light path, of a reference.

    Raises:
        ImgsynthError: no such renderer, or no such device here.
    """
    known(name)
    if name == "raster":
        from imgsynth.render.raster import RasterRenderer

        return RasterRenderer(device=device)
    if device != "cpu":
        raise ImgsynthError(f"--renderer {name} draws on the CPU only, got --device {device}")
    if name == "cycles":
        from imgsynth.render.cycles import CyclesRenderer

        return CyclesRenderer(paths, max_depth)
    from imgsynth.render.mitsuba import MitsubaRenderer

    return MitsubaRenderer(paths, max_depth)


def known(name: str) -> None:
    """Refuse the name of a renderer that there is not.

    Raises:
        ImgsynthError: no such renderer.
    """
    if name not in RENDERERS:
        raise ImgsynthError(f"renderer: expected one of {', '.join(RENDERERS)}, got {name!r}")


__all__ = ["RENDERERS", "Renderer", "known", "renderer"]
