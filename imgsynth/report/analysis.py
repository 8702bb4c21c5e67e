"""The page of one analysis: sentences, figures, tables and how to run it again, in one file of HTML."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from imgsynth.dataset.disk import disk_errors, replace
from imgsynth.version import __version__


class Picture(NamedTuple):
    """A figure: data URI, what it shows in words, what stands below it."""

    uri: str
    alt: str
    caption: str = ""


class Head(NamedTuple):
    """A column: its heading, whether it holds numbers, whether a telephone leaves it out."""

    text: str
    number: bool = False
    wide: bool = False


def heads(*columns: str) -> list[Head]:
    """Columns of a table: `text`, `text|n` for numbers, `text|w` where a telephone leaves it out, or both."""
    return [Head(text, "n" in how, "w" in how) for text, _, how in (c.partition("|") for c in columns)]


class Row(NamedTuple):
    """Cells as text, one a column; a faint row is one that nothing stands on."""

    cells: Sequence[str]
    faint: bool = False


@dataclass(frozen=True)
class Grid:
    """A table."""

    heads: Sequence[Head]
    rows: Sequence[Row]


@dataclass(frozen=True)
class Section:
    """A heading with what belongs under it; whatever is empty is left out."""

    title: str
    text: str = ""
    figures: Sequence[Picture] = ()
    table: Grid | None = None
    note: str = ""
    wide: bool = True  # figures one below the other, or small ones side by side


@dataclass(frozen=True)
class Page:
    """One analysis: `sentences` are the verdict, `facts` describe the run, `results` is the JSON document."""

    overline: str
    title: str
    sentences: Sequence[str]
    sections: Sequence[Section]
    command: str
    facts: Sequence[tuple[str, str]] = ()
    results: Mapping[str, Any] = field(default_factory=dict)


def render_page(page: Page) -> str:
    """The page as text; the same content gives the same text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is None or name.endswith(".j2"),  # the style sheet stays as it is
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("analysis.html.j2").render(page=page, version=__version__)


def write_page(page: Page, out: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        ImgsynthError: the file cannot be written.
    """
    text = render_page(page)
    with disk_errors(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        replace(out, text.encode(), draft=out.with_name(f".{out.name}.{os.getpid()}.tmp"))
