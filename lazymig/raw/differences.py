"""What differs between two raw documents, field by field. Knows no database.

Values are told apart as MongoDB stores them: by their BSON, not by Python's `==`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, TypedDict

import bson
from bson import Int64, json_util
from bson.json_util import CANONICAL_JSON_OPTIONS

from lazymig.raw.elements import StoredValue
from lazymig.raw.encoding import ANY_UUID
from lazymig.raw.values import is_array

__all__ = ["MISSING", "Change", "Missing", "diff_documents", "extended_json"]

_JSON = CANONICAL_JSON_OPTIONS.with_options(uuid_representation=ANY_UUID.uuid_representation)

# Of a value in a line for the terminal.
_LONGEST_TEXT = 100


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing.MISSING
"""Stands in a `Change` for a value that is not there; null is a value."""


class _ValuesInJson(TypedDict, total=False):
    before: Any
    after: Any


class ChangeInJson(_ValuesInJson):
    """A `Change` in JSON's types; a value that is missing is left out."""

    path: str


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: a dotted path, and what was there `before` and `after`, or `MISSING`."""

    path: str
    before: Any
    after: Any

    def to_dict(self) -> ChangeInJson:
        """The change in JSON's types; `before` or `after` is left out where it is missing.

        Values are in canonical Extended JSON, which `bson.json_util.loads` reads.
        """
        change: ChangeInJson = {"path": self.path}
        if self.before is not MISSING:
            change["before"] = extended_json(self.before)
        if self.after is not MISSING:
            change["after"] = extended_json(self.after)
        return change

    @property
    def texts(self) -> tuple[str, str]:
        """What was there before and after, for a line on the terminal: long values are cut."""
        return _text(self.before), _text(self.after)

    def __str__(self) -> str:
        before, after = self.texts
        return f"{self.path}: {before} -> {after}"


def diff_documents(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """Compare two documents, value by value.

    Sub-documents are compared key by key, whatever the order of the keys, and arrays index by
    index; what is there in one document alone is one change, however deep it is. A value of
    another BSON type is another value: 1, 1.0, "1" and `Int64(1)` are four.

    :param before: a raw document.
    :param after: a raw document.
    :return: the changes, sorted by key at each level and by index in arrays.
    :raises bson.errors.BSONError: a value that BSON does not know.
    """
    return tuple(_changes((), before, after))


def extended_json(value: Any) -> Any:
    """A BSON value in JSON's types: canonical Extended JSON, in which no type is lost."""
    named = value.named if isinstance(value, StoredValue) else value
    return json.loads(json_util.dumps(named, json_options=_JSON))


def _changes(place: tuple[str, ...], before: Any, after: Any) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted(before.keys() | after.keys()):
            inner = before.get(name, MISSING), after.get(name, MISSING)
            yield from _changes((*place, name), *inner)
    elif is_array(before) and is_array(after):
        for index in range(max(len(before), len(after))):
            inner = _item(before, index), _item(after, index)
            yield from _changes((*place, str(index)), *inner)
    elif not _same(before, after):
        yield Change(".".join(place), before, after)


def _item(array: Any, index: int) -> Any:
    return array[index] if index < len(array) else MISSING


def _same(before: Any, after: Any) -> bool:
    if before is MISSING or after is MISSING:
        return False
    return _stored(before) == _stored(after)


def _stored(value: Any) -> bytes:
    return bson.encode({"": value}, codec_options=ANY_UUID)


def _text(value: Any) -> str:
    text = _whole_text(value)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def _whole_text(value: Any) -> str:
    if value is MISSING:
        return "(missing)"
    if isinstance(value, Mapping):
        pairs = (f"{name!r}: {_whole_text(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if is_array(value):
        return f"[{', '.join(map(_whole_text, value))}]"
    if isinstance(value, Int64):
        # Its own repr is that of an int.
        return f"Int64({int(value)})"
    return repr(value)
