"""Renderers: a `SceneBatch` in, `Buffers` out.

Importing this package loads no engine; `renderer("raster")` does.
"""

from __future__ import annotations

from imgsynth.errors import ImgsynthError
from imgsynth.render.base import Renderer

RENDERERS = ("raster",)


def renderer(name: str = "raster", device: str = "cpu") -> Renderer:
    """The renderer of that name, on `device` ("cpu", "cuda" or "cuda:1").

    Raises:
        ImgsynthError: no such renderer, or no such device here.
    """
    if name != "raster":
        raise ImgsynthError(f"renderer: expected one of {', '.join(RENDERERS)}, got {name!r}")
    from imgsynth.render.raster import RasterRenderer

    return RasterRenderer(device=device)


__all__ = ["RENDERERS", "Renderer", "renderer"]
