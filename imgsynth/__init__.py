"""Labelled images whose labels come out of the generation, and what they are worth on real photographs."""

from imgsynth.version import __version__

__all__ = ["__version__"]
