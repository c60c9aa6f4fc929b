"""Texts of reports: lines for people, numbers of documents, durations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from lazymig.characters import LONGEST_TEXT, shown

__all__ = ["Line", "Readable", "applications", "documents", "duration"]


class Line(NamedTuple):
    """A line of a report.

    :ivar indent: blanks before it.
    :ivar style: how a terminal shows it: a colour, `"bold"` or `"dim"`; empty for plain text.
    """

    text: str
    indent: int = 0
    style: str = ""


class Readable:
    """A report that has lines for people."""

    __slots__ = ()

    def lines(self) -> Iterator[Line]:
        """The report, line by line."""
        raise NotImplementedError

    def format(self) -> str:
        """The report in plain text, without what a terminal would obey."""
        return "\n".join(
            f"{' ' * each.indent}{shown(each.text, LONGEST_TEXT)}" for each in self.lines()
        )

    def __str__(self) -> str:
        return self.format()


def documents(count: int) -> str:
    """A number of documents in words."""
    return "1 document" if count == 1 else f"{count:,} documents"


def applications(count: int) -> str:
    """How often rules have changed a document, in words: each document once for each rule."""
    return "1 application of a rule" if count == 1 else f"{count:,} applications of rules"


def duration(seconds: float) -> str:
    """Seconds in the two largest units that there are."""
    if seconds < 10:
        return f"{seconds:.{2 if 0 < seconds < 1 else 1}f} s"
    rest = round(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count} {unit}" for count, unit in parts[:2] if count)
