"""Two raw documents side by side: at which paths they differ, and how to say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import bson
from bson.codec_options import CodecOptions
from bson.errors import BSONError

from lazymig.raw.values import MISSING, TYPE_ALIASES, is_array, type_code

__all__ = ["Difference", "differences", "told"]

Path: TypeAlias = "tuple[str | int, ...]"

_TYPE_NAMES: Final = {code: name for name, code in TYPE_ALIASES.items()}
_LONGEST_VALUE: Final = 200
_MOST_PATHS: Final = 20


@dataclass(frozen=True, slots=True)
class Difference:
    """One path at which two documents differ, and what each has there, or `MISSING`."""

    path: Path
    first: Any
    second: Any


def differences(
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
    same = _Sameness(codec_options, apart)
    return list(_compare((), first, second, same))


def _compare(path: Path, first: Any, second: Any, same: _Sameness) -> Iterator[Difference]:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in dict.fromkeys((*first, *second)):
            here = first.get(name, MISSING), second.get(name, MISSING)
            yield from _compare((*path, name), *here, same)
    elif is_array(first) and is_array(second):
        for index in range(max(len(first), len(second))):
            inner = [one[index] if index < len(one) else MISSING for one in (first, second)]
            yield from _compare((*path, index), inner[0], inner[1], same)
    elif not same(first, second):
        yield Difference(path, first, second)


@dataclass(frozen=True, slots=True)
class _Sameness:
    """Whether two values that are not both documents, nor both arrays, are stored alike."""

    codec_options: CodecOptions[Any]
    apart: timedelta

    def __call__(self, first: Any, second: Any) -> bool:
        if first is MISSING or second is MISSING:
            return first is second
        if _is_integer(first) and _is_integer(second):
            return bool(first == second)
        try:
            stored = [
                bson.encode({"": value}, codec_options=self.codec_options)
                for value in (first, second)
            ]
        except (BSONError, OverflowError, TypeError, ValueError):
            return bool(first == second)
        return stored[0] == stored[1] or self._are_close(*map(bson.decode, stored))

    def _are_close(self, first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
        one, other = first[""], second[""]
        if not (isinstance(one, datetime) and isinstance(other, datetime)):
            return False
        return abs(one - other) <= self.apart


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def told(
    found: Sequence[Difference], labels: tuple[str, str], before: Mapping[str, Any] | None = None
) -> str:
    """Lines that tell each difference: its path, and behind the labels what is there.

    :param before: a document of which the values at the same paths are told as well.
    """
    width = max(len(label) for label in (*labels, "before")) + 1
    lines: list[str] = []
    for difference in found[:_MOST_PATHS]:
        values = list(zip(labels, (difference.first, difference.second), strict=True))
        if before is not None:
            values.insert(0, ("before", _at(before, difference.path)))
        lines.append("  " + ".".join(map(str, difference.path)))
        lines.extend(f"    {label + ':':<{width}} {_described(value)}" for label, value in values)
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


def _described(value: Any) -> str:
    if value is MISSING:
        return "missing"
    code = type_code(value)
    name = type(value).__name__ if code is None else _TYPE_NAMES[code]
    text = repr(value)
    if len(text) > _LONGEST_VALUE:
        text = f"{text[:_LONGEST_VALUE]}..."
    return f"{text} ({name})"
