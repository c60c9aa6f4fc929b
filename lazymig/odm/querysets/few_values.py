"""The distinct values of a path where a few documents are old, by an index if there is one.

Three commands, the third only if need be: the values of the few, as they are stored and as they
are shown, in one; the plain `distinct` of all documents; and which of the values that are doubtful
some other document holds. Doubtful is a value that one of the few is stored with and none is shown
with: the plain command has it from there, or from another document, or from both.

Whatever is migrated in between: one of the few is migrated before the plain command, which has a
value from it that it was shown with, or afterwards, which has a value that it was stored with. A
value that is there all the time is in the answer, and each value of the answer was there at some
time: no more can be said of the plain command alone.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cmp_to_key
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from bson import Binary, Int64, ObjectId
from bson.codec_options import TypeRegistry

from lazymig.engines.access import all_of
from lazymig.query.distinct import distinct_stages
from lazymig.raw.values import Unjudgeable, bracket, compare

if TYPE_CHECKING:
    from lazymig.odm.querysets.stages_first import Front

__all__ = ["distinct_apart"]

# More doubtful values are not asked for one by one.
_MOST_DOUBTFUL: Final = 1_000

# What the server and Python compare alike, once the type is known.
_ALIKE: Final = frozenset({type(None), bool, str, ObjectId, datetime, bytes, Binary, UUID})

# The key of null, and the type of what is not there.
_NULL: Final = (type(None), None)
_NOTHING: Final = "missing"

_NO_TYPES: Final = TypeRegistry()


def distinct_apart(
    collection: Any,
    path: str,
    front: Front,
    send: Callable[..., Any],
    plain: Callable[..., list[Any]],
) -> list[Any]:
    """Return the distinct values of a path over all documents, as the few old ones are shown.

    :param collection: that of the documents.
    :param send: runs a pipeline as it is.
    :param plain: gives the distinct values of stored documents; it is handed a `query`.
    :raises Unjudgeable: Python does not tell which of the values are equal to the server, or other
        documents than these may be old by now.
    """
    if collection.codec_options.type_registry != _NO_TYPES or path.startswith("$"):
        raise Unjudgeable
    few = _values_of_few(collection.name, path, front, send)
    found = _by_key(plain(**_asking(front.query)))
    if few.lacked and _NULL in found and not _is_null_for_certain(path, front, few, send):
        del found[_NULL]
    doubtful = {key: value for key, value in few.doubtful.items() if key in found}
    if len(doubtful) > _MOST_DOUBTFUL:
        raise Unjudgeable
    held: dict[Any, Any] = {}
    if doubtful:
        held = _by_key(plain(query=all_of(front.others, {path: {"$in": list(doubtful.values())}})))
    values = []
    for key, value in found.items():
        if key not in doubtful:
            values.append(value)
        elif key in held or key in few.shown:
            values.append(held[key] if key in held else few.shown[key])
    for key, value in few.shown.items():
        if key not in found:
            # An index gives them in their order.
            insort(values, value, key=cmp_to_key(_compared))
    return values


def _asking(query: Mapping[str, Any]) -> dict[str, Any]:
    return {"query": query} if query else {}


@dataclass(frozen=True, slots=True, eq=False)
class _Few:
    """The values of the few, by their keys.

    :param shown: those that they are shown with.
    :param doubtful: those that they are stored with, and not shown. Equal numbers of another type
        are, too: one of them is going to stand for all.
    :param had_null: one is stored with a null; `lacked`: with no value at all; `lacks`: one is
        shown with none.
    """

    shown: Mapping[Any, Any]
    doubtful: Mapping[Any, Any]
    had_null: bool
    lacked: bool
    lacks: bool


def _values_of_few(name: str, path: str, front: Front, send: Callable[..., Any]) -> _Few:
    def values(front: Front, *, trapped: bool) -> Any:
        if not front.few:
            # Something had to be settled, so that they may be others now.
            raise Unjudgeable
        before = [{"$match": front.old}, *front.showing(trapped=trapped), *_typed(path)]
        after = {"coll": name, "pipeline": [{"$match": front.old}, *_typed(path)]}
        return list(send([*before, {"$set": {"shown": True}}, {"$unionWith": after}]))

    shown: dict[Any, Any] = {}
    stored: list[tuple[Any, Any, Any]] = []
    known: set[tuple[Any, Any]] = set()
    for one in front.tried(values):
        value, kind = one["_id"].get("value"), one["_id"]["type"]
        key = kind if kind == _NOTHING else _key(value)
        if one.get("shown"):
            shown.setdefault(key, value)
            known.add((key, kind))
        else:
            stored.append((key, kind, value))
    lacks = _NOTHING in shown
    shown.pop(_NOTHING, None)
    keys = {key for key, _, _ in stored}
    return _Few(
        shown,
        {k: value for k, kind, value in stored if k != _NOTHING and (k, kind) not in known},
        _NULL in keys,
        _NOTHING in keys,
        lacks,
    )


def _is_null_for_certain(path: str, front: Front, few: _Few, send: Callable[..., Any]) -> bool:
    """Return whether the plain command gives a null if the few are migrated, as it gives one now.

    By an index it gives one for a document that has no value.

    :raises Unjudgeable: it is not known whether it went by an index.
    """
    if few.lacks or _NULL in few.shown:
        return True
    if few.had_null:
        raise Unjudgeable
    others = {"$match": all_of(front.others, {path: None})}
    return bool(list(send([others, {"$limit": 1}, {"$project": {"_id": 1}}])))


def _typed(path: str) -> list[dict[str, Any]]:
    """Stages that give the distinct values of a path, each type by itself; that of none, too."""
    project, unwind, *_ = distinct_stages(path)
    key = {"value": "$value", "type": {"$type": "$value"}}
    every = {"$unwind": {"path": unwind["$unwind"], "preserveNullAndEmptyArrays": True}}
    return [project, every, {"$group": {"_id": key}}]


def _by_key(values: Sequence[Any]) -> dict[Any, Any]:
    found = {_key(value): value for value in values}
    if len(found) < len(values):
        # The server has told some of them apart.
        raise Unjudgeable
    return found


def _key(value: Any) -> Any:
    """What is equal for two values that are equal to the server, and for no others."""
    kind = type(value)
    if kind in _ALIKE:
        return kind, value
    if kind in (int, Int64, float):
        return float, "nan" if value != value else value  # noqa: PLR0124 - NaN alone
    if kind is dict and not any(name.startswith("$") for name in value):
        return kind, tuple((name, _key(one)) for name, one in value.items())
    if kind is list:
        return kind, tuple(map(_key, value))
    raise Unjudgeable


def _compared(left: Any, right: Any) -> int:
    places = bracket(left), bracket(right)
    if None in places:
        raise Unjudgeable
    if places[0] != places[1]:
        return -1 if places[0] < places[1] else 1  # type: ignore[operator]
    return compare(left, right)
