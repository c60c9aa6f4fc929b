"""The figures as a page of the documentation: tables, and plots beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.machine import Circumstances
from benchmarks.measure import Plot, Row
from benchmarks.plots import plotted

__all__ = ["Measurement", "Section", "write_page"]

# The headings of the modules that measure; another one is called by its name.
_HEADINGS = {
    "bulk": "Bulk runs",
    "curves": "Size, and the share of old documents",
    "importing": "Imports",
    "loading": "Loads",
    "loops": "Bulk runs and loops",
    "pending": "Pending rules",
    "queries": "Queries",
    "runs": "Safe runs",
    "shown": "Reads that are shown",
}


_ABOUT = """\
Written by `make bench-all`, which measures and replaces this page. A *ratio* is the time of the
work with lazymig over that of the same work without it, as the table says: 1.00 is as fast, 1.20
takes a fifth longer. The sides take turns in a random order; ratio and times are medians, *best*
is the ratio of the fastest turns. A ratio above its *limit* is in bold; a row without a limit is a
point of a plot. [What a pending rule costs](guides/costs.md) says what the figures come from."""
_SMALLER = """\
**Measured at a scale of {scale:g}: collections have that share of the documents of a full run, and
ratios of short times are less exact.**"""


@dataclass(frozen=True)
class Section:
    """What one benchmark has measured.

    :ivar module: the name of the module that it comes from.
    :ivar about: what it measures, in a sentence.
    """

    name: str
    module: str
    about: str
    rows: Sequence[Row]
    plot: Plot | None


@dataclass(frozen=True)
class Measurement:
    """What all of them have: the machine, how it was measured, and what came out.

    :ivar scale: the share of the documents.
    :ivar turns: the most that were timed.
    :ivar seconds: how long all of it took.
    """

    around: Circumstances
    seed: int
    scale: float
    turns: int
    seconds: float
    sections: Sequence[Section]


def write_page(page: Path, measurement: Measurement) -> None:
    """Write the page, and its plots into a folder `images` beside it."""
    images = page.parent / "images"
    for section in measurement.sections:
        if section.plot is not None:
            images.mkdir(exist_ok=True)
            image = images / _image_of(section)
            image.write_text(plotted(section.plot, section.rows), encoding="utf-8")
    page.write_text("\n".join(_lines(measurement)), encoding="utf-8")


def _image_of(section: Section) -> str:
    return f"benchmark-{section.name}.svg"


def _lines(measurement: Measurement) -> Iterator[str]:
    yield from ("# Benchmarks", "")
    yield from (_ABOUT, "")
    yield from _circumstances(measurement)
    by_module: dict[str, list[Section]] = {}
    for section in measurement.sections:
        by_module.setdefault(section.module, []).append(section)
    for module, sections in by_module.items():
        yield from (f"## {_HEADINGS.get(module, module.capitalize())}", "")
        yield from (_paragraph(module), "")
        for section in sections:
            yield from _section(section)


def _circumstances(measurement: Measurement) -> Iterator[str]:
    machine, versions = measurement.around.lines()
    if measurement.scale != 1:
        yield from (_SMALLER.format(scale=measurement.scale), "")
    rows = {
        "measured": f"{date.today():%Y-%m-%d}, in {measurement.seconds / 60:.0f} minutes",  # noqa: DTZ011
        "machine": f"{machine} before the start; client and server beside each other",
        "versions": versions,
        "turns": f"at most {measurement.turns} of each, seed {measurement.seed}",
        "verdict": _judged(measurement),
    }
    yield from ("| | |", "|---|---|")
    yield from (f"| {name} | {_cell(value)} |" for name, value in rows.items())
    yield ""


def _judged(measurement: Measurement) -> str:
    """How many rows are over their limit; the table has them in bold."""
    rows = [row for section in measurement.sections for row in section.rows if row.verdict]
    over = sum(row.verdict == "over" for row in rows)
    return f"{len(rows) - over} of {len(rows)} rows with a limit are within it"


def _paragraph(module: str) -> str:
    """The first line of the docstring of the module, as a sentence."""
    return str(sys.modules[f"benchmarks.{module}"].__doc__).splitlines()[0]


def _section(section: Section) -> Iterator[str]:
    yield from (f"### {section.name}", "", section.about, "")
    if section.plot is not None:
        yield from (f"![{section.plot.title}](images/{_image_of(section)})", "")
    yield "| what | against | ratio | best | limit | times, ms |"
    yield "|---|---|---|---|---|---|"
    for row in section.rows:
        ratio = f"{row.ratio:.2f}"
        limit = "" if row.limit is None else f"{row.limit:.2f}"
        cells = (
            row.what,
            row.against,
            f"**{ratio}**" if row.verdict == "over" else ratio,
            f"{row.best:.2f}",
            limit,
            f"{row.seconds * 1000:.1f} / {row.seconds_against * 1000:.1f}",
        )
        yield f"| {' | '.join(map(_cell, cells))} |"
    yield ""


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("_id", "\\_id")
