"""Updates of many documents as one, in which each document finds what was computed for it.

A write of a thousand single updates costs the server twice as much, because each is planned by
itself. So updates that set the same top-level fields are sent as one `update_many` with a pipeline:
the values lie in tables, in the order of the `_id`s, and so does what the rule has read.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import bson
from bson import Decimal128, Int64, ObjectId

from lazymig.engines.access import Raw, all_of
from lazymig.engines.reading.decoding import Undecoded
from lazymig.engines.store import Store
from lazymig.raw.elements import KeptDocument
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.document import ReadDocument
from lazymig.rules.rule import Evaluation

__all__ = ["FEWEST", "Fold", "Form", "fold", "form_of"]

FEWEST: Final = 3
"""Fewer updates of one form than these are not worth a command of their own."""

# Bytes of the tables of a fold; MongoDB holds them while it writes.
_MOST_BYTES: Final = 8 << 20

# How deep a value may lie in others, which the tables put deeper still.
_DEEPEST: Final = 20

# Types that an expression gives as they are, wherever the value lies.
_SCALARS: Final = frozenset(
    {str, int, Int64, float, bool, bytes, datetime, uuid.UUID, ObjectId, Decimal128, type(None)}
)

# Those of an `_id` that names its document in a table as it does in a query.
_NAMES: Final = frozenset({ObjectId, str, int, Int64, uuid.UUID, bytes})


@dataclass(frozen=True, slots=True)
class Form:
    """What updates of one fold have in common: top-level fields.

    `sets` and `unsets` are written. `present` and `missing` are those that the rule has looked at,
    which the document had and had not.
    """

    sets: tuple[str, ...]
    unsets: tuple[str, ...]
    present: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fold:
    """Some updates as one: filter, pipeline, and the variables of the command.

    `written` are the stages that find, with the same variables, what it has written.
    """

    query: Raw
    update: Sequence[Raw]
    variables: Mapping[str, Any]
    written: Sequence[Raw]


def form_of(document: Raw, evaluation: Evaluation, reading: ReadDocument | None) -> Form | None:
    """The form of an update, or `None` where a pipeline might not do the very same.

    :param reading: what has to be unchanged when the update is written.
    """
    update = evaluation.update
    if (
        type(update) is not dict
        or evaluation.array_filters
        or isinstance(document, (KeptDocument, Undecoded))
    ):
        return None
    if type(document["_id"]) not in _NAMES:
        return None
    sets, unsets = update.get("$set", {}), update.get("$unset", {})
    if len(update) != ("$set" in update) + ("$unset" in update) or not (sets or unsets):
        return None
    names = sorted(sets)
    if not all(map(_is_name, names)) or not all(map(_is_plain, sets.values())):
        return None
    if unsets and not (all(map(_is_name, unsets)) and sets.keys().isdisjoint(unsets)):
        return None
    present: list[str] = []
    missing: list[str] = []
    if reading is not None:
        if reading.read_whole:
            return None
        for key in sorted(reading.keys_read):
            if key == "_id":
                continue
            if not _is_name(key):
                return None
            (present if key in reading.raw else missing).append(key)
    return Form(tuple(names), tuple(sorted(unsets)), tuple(present), tuple(missing))


def fold(
    store: Store,
    rule: BoundRule,
    form: Form,
    updates: Sequence[tuple[Evaluation, Raw]],
) -> Fold | None:
    """One update for documents whose updates are of one form.

    :param updates: what the rule has set for each, with what was read of it.
    :return: `None` if they are too large for one, or have a value that cannot be encoded.
    """
    table = _ValueTable([document["_id"] for _, document in updates])
    unchanged: list[Any] = [{"$eq": [{"$type": f"${name}"}, "missing"]} for name in form.missing]
    unchanged.extend(
        {"$eq": [f"${name}", table.of([read[name] for _, read in updates])]}
        for name in form.present
    )
    stage: dict[str, Any] = {}
    written: list[Any] = []
    for name in form.sets:
        value = table.of([each.update["$set"][name] for each, _ in updates])
        stage[name] = table.looked_up(value)
        written.append({"$eq": [f"${name}", value]})
    for name in form.unsets:
        stage[name] = "$$REMOVE"
        written.append({"$eq": [{"$type": f"${name}"}, "missing"]})
    try:
        size = len(bson.encode(table.variables, codec_options=store.collection.codec_options))
    except Exception:
        # The update that has it is refused when it is sent by itself.
        return None
    if size > _MOST_BYTES:
        return None
    own = {"_id": {"$in": table.ids}}
    guard = {"$expr": table.looked_up({"$and": unchanged})} if unchanged else None
    return Fold(
        all_of(own, store.class_filter, rule.target, guard),
        [{"$set": stage}],
        table.variables,
        [
            {"$match": own},
            {"$match": {"$expr": table.looked_up({"$and": written})}},
            {"$project": {"_id": 1}},
        ],
    )


class _ValueTable:
    """Columns of values, one for each `_id`, as variables of a command."""

    def __init__(self, ids: Sequence[Any]) -> None:
        self.ids = ids
        self.variables: dict[str, Any] = {"ids": {"$literal": ids}}

    def of(self, values: Sequence[Any]) -> dict[str, Any]:
        """The expression, for `looked_up`, that gives the value of the document at hand."""
        name = f"column{len(self.variables)}"
        self.variables[name] = {"$literal": values}
        return {"$arrayElemAt": [f"$${name}", "$$at"]}

    def looked_up(self, expression: Any) -> dict[str, Any]:
        """The expression with the place of the document, which is looked up once."""
        # MongoDB makes a map of an array that is constant.
        at = {"$indexOfArray": ["$$ids", "$_id"]}
        return {"$let": {"vars": {"at": at}, "in": expression}}


def _is_name(key: Any) -> bool:
    """Return whether a key is that of a top-level field, which an expression can name."""
    return type(key) is str and key not in ("", "_id") and "." not in key and key[0] != "$"


def _is_plain(value: Any, depth: int = 0) -> bool:
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth == _DEEPEST:
        return False
    if kind is list:
        return all(_is_plain(item, depth + 1) for item in value)
    if kind is dict:
        return all(
            type(key) is str and "." not in key and key[:1] != "$" and _is_plain(item, depth + 1)
            for key, item in value.items()
        )
    return False
