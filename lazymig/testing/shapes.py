"""The differences of two raw documents for a test: what counts as equal, and the lines on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from lazymig.characters import cut
from lazymig.raw.differences import Difference, Path, differences
from lazymig.raw.values import MISSING, TYPE_NAMES, is_array, type_code

__all__ = ["compared", "described"]

_LONGEST_VALUE: Final = 200
_MOST_PATHS: Final = 20


def compared(
    first: Mapping[str, Any],
    second: Mapping[str, Any],
    codec_options: CodecOptions[Any],
    *,
    apart: timedelta = timedelta(0),
) -> list[Difference]:
    """Compare two raw documents as MongoDB stores them; the order of fields does not count.

    Types count: 1, 1.0, "1" and True are four values. Only `int` and `long` are one type, as they
    are in Python. A value of `first` that is no BSON, such as `unittest.mock.ANY`, is compared by
    `==`.

    :param codec_options: how the values are encoded.
    :param apart: dates that are no further apart count as equal.
    """

    def same(one: Any, other: Any) -> bool:
        if _is_integer(one) and _is_integer(other):
            return bool(one == other)
        try:
            ours = bson.encode({"": one}, codec_options=codec_options)
            theirs = bson.encode({"": other}, codec_options=codec_options)
        except (BSONError, OverflowError, TypeError, ValueError):
            return bool(one == other)
        return ours == theirs or _are_close(bson.decode(ours)[""], bson.decode(theirs)[""], apart)

    return list(differences(first, second, same))


def _are_close(one: Any, other: Any, apart: timedelta) -> bool:
    return isinstance(one, datetime) and isinstance(other, datetime) and abs(one - other) <= apart


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def described(
    found: Sequence[Difference], labels: tuple[str, str], before: Mapping[str, Any] | None = None
) -> str:
    """Lines that describe each difference: its path, and after the labels what is there.

    :param before: a document of which the values at the same paths are described as well.
    """
    width = max(len(label) for label in (*labels, "before")) + 1
    lines: list[str] = []
    for difference in found[:_MOST_PATHS]:
        values = list(zip(labels, (difference.first, difference.second), strict=True))
        if before is not None:
            values.insert(0, ("before", _at(before, difference.path)))
        lines.append("  " + ".".join(map(str, difference.path)))
        lines.extend(f"    {label + ':':<{width}} {_with_type(value)}" for label, value in values)
    if len(found) > _MOST_PATHS:
        lines.append(f"  and {len(found) - _MOST_PATHS} more")
    return "\n".join(lines)


def _at(document: Any, path: Path) -> Any:
    for part in path:
        if isinstance(document, Mapping) or (is_array(document) and isinstance(part, int)):
            try:
                document = document[part]
            except (KeyError, IndexError):
                return MISSING
        else:
            return MISSING
    return document


def _with_type(value: Any) -> str:
    if value is MISSING:
        return "missing"
    code = type_code(value)
    name = type(value).__name__ if code is None else TYPE_NAMES[code]
    return f"{cut(repr(value), _LONGEST_VALUE)} ({name})"
