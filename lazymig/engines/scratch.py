"""A scratch collection beside a collection: made like it, filled with copies, dropped afterwards.

Its name says when it was made, so that one which a dead process has left is dropped by the next.
"""

from __future__ import annotations

import calendar
import logging
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from lazymig.engines.access import Description, client_options, on_primary, read_raw
from lazymig.engines.store import Store
from lazymig.redaction import excerpt

__all__ = ["ScratchCollection", "scratch_like"]

logger = logging.getLogger(__name__)

_PREFIX = "lazymig_preview_"
_NAME = re.compile(rf"{_PREFIX}(?P<made>[0-9a-f]{{8}})[0-9a-f]{{16}}")

# Seconds. Copies of a sample are worked on for seconds at most.
_LEFT_OVER = 3600

_UNAUTHORIZED = 13

# What decides how a write to the collection goes, and what a query finds.
_COPIED_OPTIONS = ("collation", "validator", "validationLevel", "validationAction")

# An index that expires documents would take the copies of old ones away.
_INDEX_OPTIONS_LEFT_OUT = ("background", "expireAfterSeconds", "hidden", "ns")


@dataclass(frozen=True, slots=True)
class ScratchCollection:
    """A scratch collection, and in which way it is not like the collection it stands for."""

    collection: Collection[Any]
    problems: list[str] = field(default_factory=list)


@contextmanager
def scratch_like(
    collection: Collection[Any], description: Description, documents: Sequence[Any]
) -> Iterator[ScratchCollection]:
    """Make a scratch collection in the same database, with copies; drop it when the block ends.

    It has the collation, the validator and the indexes of the collection, so that MongoDB refuses
    there what it would refuse here. On mongomock it has none of them.

    :param documents: what `read_raw` has read; their validity is not asked for.
    :raises pymongo.errors.OperationFailure: MongoDB refuses to make it; nothing is left over.
    """
    database = collection.database
    now = _now(database)
    _drop_left_over(database, now)
    name = f"{_PREFIX}{now:08x}{secrets.token_hex(8)}"
    scratch = ScratchCollection(_like(collection, name))
    made = True
    try:
        if Store(collection).is_imitation:
            scratch.collection.insert_many(documents)
        else:
            try:
                _create(database, name, description.options)
            except OperationFailure:
                made = False
                raise
            _fill(collection, scratch, description, documents)
        yield scratch
    finally:
        if made:
            _drop(scratch)


def _like(collection: Collection[Any], name: str) -> Collection[Any]:
    scratch = collection.database[name]
    if Store(collection).is_imitation:
        return scratch
    return on_primary(scratch).with_options(
        codec_options=collection.codec_options, write_concern=WriteConcern(w=1)
    )


def _create(database: Database[Any], name: str, options: Mapping[str, Any]) -> None:
    copied = {key: options[key] for key in _COPIED_OPTIONS if key in options}
    database.command({"create": name, **copied})


def _fill(
    collection: Collection[Any],
    scratch: ScratchCollection,
    description: Description,
    documents: Sequence[Any],
) -> None:
    """Copy the indexes, then the documents, past the validator that old ones may break."""
    _copy_indexes(collection, scratch)
    if "validator" not in description.options:
        _insert(scratch, documents, bypass=None)
        return
    try:
        _insert(scratch, documents, bypass=True)
    except OperationFailure as exc:
        if exc.code != _UNAUTHORIZED:
            raise
        # Most users may write, but not past a validator.
        scratch.problems.append(
            "the collection's validator was left out on the copies, because the user has no "
            "privilege to bypassDocumentValidation"
        )
        database, name = collection.database, scratch.collection.name
        scratch.collection.drop()
        without = {key: value for key, value in description.options.items() if key == "collation"}
        _create(database, name, without)
        _copy_indexes(collection, scratch)
        _insert(scratch, documents, bypass=None)


def _insert(scratch: ScratchCollection, documents: Sequence[Any], bypass: bool | None) -> None:
    try:
        read_raw(scratch.collection).insert_many(
            documents, ordered=False, bypass_document_validation=bypass
        )
    except BulkWriteError as exc:
        errors = exc.details.get("writeErrors") or []
        if not errors:
            raise
        scratch.problems.append(
            f"{len(errors)} of {len(documents)} sampled documents could not be copied: "
            f"{excerpt(exc)}"
        )


def _copy_indexes(collection: Collection[Any], scratch: ScratchCollection) -> None:
    try:
        specs = [
            _index_like(index) for index in collection.list_indexes() if not _is_own_index(index)
        ]
        if specs:
            collection.database.command("createIndexes", scratch.collection.name, indexes=specs)
    except OperationFailure as exc:
        scratch.problems.append(
            f"the collection's indexes were left out on the copies, so what they refuse is not "
            f"seen: {excerpt(exc)}"
        )


def _is_own_index(index: Mapping[str, Any]) -> bool:
    return bool(index.get("clustered")) or list(index["key"].items()) == [("_id", 1)]


def _index_like(index: Mapping[str, Any]) -> dict[str, Any]:
    spec = {key: value for key, value in index.items() if key not in _INDEX_OPTIONS_LEFT_OUT}
    # An index with the simple collation does not name it, and would get the collection's.
    return {"collation": {"locale": "simple"}, **spec}


def _drop(scratch: ScratchCollection) -> None:
    """Drop it; what fails here hides neither a result nor another error."""
    try:
        scratch.collection.drop()
    except PyMongoError as exc:
        logger.warning("%s could not be dropped: %s", scratch.collection.full_name, excerpt(exc))
        scratch.problems.append(
            f"the scratch collection {scratch.collection.full_name} could not be dropped: "
            f"{excerpt(exc)}"
        )


def _drop_left_over(database: Database[Any], now: int) -> None:
    """Drop what dead processes have left, as far as the user may."""
    try:
        names = database.list_collection_names(filter={"name": {"$regex": f"^{_PREFIX}"}})
        for name in names:
            match = _NAME.fullmatch(name)
            if match is not None and now - int(match["made"], 16) > _LEFT_OVER:
                logger.info("dropping %s.%s, left over by a preview", database.name, name)
                database.drop_collection(name)
    except OperationFailure as exc:
        logger.debug("left-over scratch collections of %s stay: %s", database.name, excerpt(exc))


def _now(database: Database[Any]) -> int:
    """Seconds since 1970 by the server's clock, which is one for all clients."""
    if client_options(database) is None:
        return int(time.time())
    return calendar.timegm(database.client.admin.command("hello")["localTime"].utctimetuple())
