"""Stages of one update, held against the update itself on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError, WriteError

from lazymig.rules.showing.shown import shown_update
from lazymig.rules.showing.stages import MARK, stages_of

Raw = dict[str, Any]

_RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)


class Outcome(NamedTuple):
    """How many documents came out, how many of these MongoDB refused, and how many were named.

    `differ`: of each that came out differently what it was, what it is stored as, what was shown.
    """

    documents: int
    refused: int
    unknown: int
    differ: list[tuple[Raw, Raw, Raw]]


def outcome(
    database: Database[Raw],
    documents: Sequence[Mapping[str, Any]],
    update: Any,
    array_filters: list[Raw] | None = None,
) -> Outcome:
    """Show documents, update each on its own, and compare them byte for byte, key order aside.

    :param documents: without `_id`.
    :raises CannotShow: the update is not known as stages.
    """
    stages = stages_of([shown_update("rule", {}, update, array_filters)], marks=True)
    database.t.delete_many({})
    database.t.insert_many({**one, "_id": number} for number, one in enumerate(documents))
    raw = database.t.with_options(_RAW)
    shown = {one["_id"]: bson.decode(one.raw) for one in raw.aggregate(stages)}
    refused = 0
    try:
        database.t.bulk_write(
            [
                UpdateOne({"_id": number}, update, array_filters=array_filters)
                for number in range(len(documents))
            ],
            ordered=False,
        )
    except BulkWriteError as error:
        refused = len(error.details["writeErrors"])
    stored = {one["_id"]: bson.decode(one.raw) for one in raw.find()}
    known = [number for number, one in shown.items() if MARK not in one]
    differ = [
        (dict(documents[number]), stored[number], shown[number])
        for number in known
        if _bytes(stored[number]) != _bytes(shown[number])
    ]
    return Outcome(len(stored), refused, len(stored) - len(known), differ)


def left_by(
    database: Database[Raw], document: Raw, update: Any, array_filters: list[Raw] | None = None
) -> tuple[Raw, Raw]:
    """Return what an update leaves of one document, as stored and as shown, without `_id`."""
    stages = stages_of([shown_update("rule", {}, update, array_filters)])
    database.t.insert_one({**document, "_id": 0})
    (shown,) = database.t.aggregate([*stages, {"$unset": "_id"}])
    # A refusal leaves the document as it is.
    with suppress(WriteError):
        database.t.update_one({}, update, array_filters=array_filters)
    (stored,) = database.t.find({}, {"_id": 0})
    return stored, shown


def _bytes(document: Raw) -> bytes:
    ordered = _ordered(document)
    assert isinstance(ordered, dict)
    return bson.encode(ordered)


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _ordered(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_ordered(one) for one in value]
    return value
