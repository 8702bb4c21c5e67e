"""Labelled frames on disk: written by parts, committed as one, read lazily, verified."""

from imgsynth.dataset.manifest import Header, Part
from imgsynth.dataset.reader import Dataset, Sample
from imgsynth.dataset.writer import commit, create, write_part

__all__ = ["Dataset", "Header", "Part", "Sample", "commit", "create", "write_part"]
