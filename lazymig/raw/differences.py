"""The differences between two raw documents, field by field. Knows no database.

Values are compared as MongoDB stores them: by their BSON, not by Python's `==`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, NamedTuple, TypeAlias, TypedDict

from bson import Int64, json_util
from bson.json_util import CANONICAL_JSON_OPTIONS

from lazymig.characters import cut
from lazymig.raw.elements import StoredValue
from lazymig.raw.encoding import ANY_UUID, stored_bytes
from lazymig.raw.values import MISSING, is_array

__all__ = ["MISSING", "Change", "Difference", "diff_documents", "differences", "extended_json"]

Path: TypeAlias = "tuple[str | int, ...]"

_JSON = CANONICAL_JSON_OPTIONS.with_options(uuid_representation=ANY_UUID.uuid_representation)

# Of a value in a line for the terminal.
_LONGEST_TEXT = 100


class Difference(NamedTuple):
    """One path at which two values differ, and what each has there, or `MISSING`."""

    path: Path
    first: Any
    second: Any


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
    found = sorted(differences(before, after, _same), key=lambda one: one.path)
    return tuple(Change(".".join(map(str, path)), *values) for path, *values in found)


def extended_json(value: Any) -> Any:
    """A BSON value in JSON's types: canonical Extended JSON, in which no type is lost."""
    named = value.named if isinstance(value, StoredValue) else value
    return json.loads(json_util.dumps(named, json_options=_JSON))


def differences(
    first: Any, second: Any, same: Callable[[Any, Any], bool], path: Path = ()
) -> Iterator[Difference]:
    """Yield the paths at which two values differ, in the order of the names of the first.

    :param same: whether two values are equal that are not both documents, nor both arrays, and of
        which none is missing.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for name in dict.fromkeys((*first, *second)):
            here = first.get(name, MISSING), second.get(name, MISSING)
            yield from differences(*here, same, (*path, name))
    elif is_array(first) and is_array(second):
        for index, here in enumerate(zip_longest(first, second, fillvalue=MISSING)):
            yield from differences(*here, same, (*path, index))
    elif first is MISSING or second is MISSING or not same(first, second):
        yield Difference(path, first, second)


def _same(before: Any, after: Any) -> bool:
    return stored_bytes(before) == stored_bytes(after)


def _text(value: Any) -> str:
    return cut(_whole_text(value), _LONGEST_TEXT)


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
