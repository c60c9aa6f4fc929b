"""The picture of what happens: to a document that is loaded, and to a query."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from frontpage.svg import line, lines_of_code, picture, rectangle, text

__all__ = ["ANSWER", "FILTER", "QUESTION", "overview"]

# What the tests hold the library against.
FILTER = ('{"$or": [', '  {"enabled": {"$exists": false}},', '  {"enabled": true}]}')
QUESTION, ANSWER = "User.objects(enabled=True).count()", "2"

_WIDTH, _COLUMN, _GAP, _MARGIN = 360, 328, 56, 16


class _Box(NamedTuple):
    """What there is, what it looks like, and what leads to the next one."""

    heading: str
    lines: Sequence[str]
    colour: str
    then: str = ""


_LOAD = (
    _Box(
        "stored: the old shape",
        ['{"name": "Jane Doe"}'],
        "old",
        'User.objects.get(name="Jane Doe")',
    ),
    _Box(
        "the rule: a query and an update",
        ['{"enabled": {"$exists": false}}', '{"$set": {"enabled": true}}'],
        "accent",
        "MongoDB updates the document",
    ),
    _Box(
        "stored: the new shape",
        ['{"name": "Jane Doe", "enabled": true}'],
        "new",
        "MongoEngine builds the object",
    ),
    _Box("loaded", ['<User name="Jane Doe" enabled=True>'], "ink"),
)
_QUERY = (
    _Box("asked", [QUESTION], "ink", "seen through the same rule"),
    _Box("sent to MongoDB", FILTER, "accent", "each branch can use an index"),
    _Box("answered: old and new documents", [ANSWER], "new"),
    _Box(
        "stored, as before: nothing was written",
        ['{"name": "John Doe"}', '{"name": "Jane Doe", "enabled": true}'],
        "ink",
    ),
)


def overview() -> dict[str, str]:
    """The two halves of the picture, by the names of their files; they stand side by side."""
    left, left_ends = _flow(_MARGIN, "A document is loaded", _LOAD)
    right, right_ends = _flow(_MARGIN, "A query is asked", _QUERY)
    height = int(max(left_ends, right_ends)) + _MARGIN
    about_left = (
        "A document of the old shape is updated in MongoDB by its rule while it is loaded;"
        " MongoEngine builds the object from the new shape."
    )
    about_right = (
        "A query on the new field is sent as an $or that finds documents of both shapes; nothing is"
        " written."
    )
    return {
        "overview-load.svg": picture(_WIDTH, height, about_left, left),
        "overview-query.svg": picture(_WIDTH, height, about_right, right),
    }


def _flow(x: float, heading: str, boxes: Sequence[_Box]) -> tuple[list[str], float]:
    """A column of boxes with arrows between them, and where it ends."""
    parts = [text(x, 40, heading, "bold ink")]
    y = 56.0
    for box in boxes:
        height = 34 + 18 * len(box.lines)
        parts += [
            rectangle(x, y, _COLUMN, height, "panel"),
            text(x + 12, y + 20, box.heading, "soft"),
            *lines_of_code(x + 12, y + 42, box.lines, box.colour),
        ]
        y += height
        if box is not boxes[-1]:
            parts += _arrow(x + 24, y, box.then)
            y += _GAP if box.then else 16
    return parts, y


def _arrow(x: float, y: float, words: str) -> Iterator[str]:
    if words:
        yield line([(x, y + 4), (x, y + _GAP - 6)], "soft")
        yield line([(x - 5, y + _GAP - 12), (x, y + _GAP - 5), (x + 5, y + _GAP - 12)], "soft")
        yield text(x + 16, y + _GAP / 2 + 5, words, "soft")
