"""How the engines reach a collection: keys for `_id`s, read and write options, kinds of errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import ObjectId
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import (
    BulkWriteError,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)
from pymongo.mongo_client import MongoClient
from pymongo.read_concern import ReadConcern

from lazymig.engines.outages import is_away
from lazymig.query.joining import all_of
from lazymig.raw.elements import (
    StoredValue,
    condition,
    element_of,
    faithful,
    id_element,
    in_condition,
)
from lazymig.raw.encoding import ANY_UUID

__all__ = [
    "Positional",
    "Raw",
    "Written",
    "all_of",
    "as_bytes",
    "by_ids",
    "compared",
    "decoded_each",
    "ids_matching",
    "ids_of",
    "in_one_answer",
    "is_document_error",
    "is_mongomock",
    "key_of",
    "located",
    "location_fields",
    "not_by_ids",
    "on_primary",
    "tolerant",
    "unhurried",
    "waited_too_long",
    "writable",
    "write_each",
]

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Positional:
    """The filter by which MongoDB finds the array elements of a positional projection."""

    query: Raw
    collation: Any = None


_PYMONGO = (Collection, Database, MongoClient)

_MAX_TIME_EXPIRED = 50
_NOT_SUPPORTED_ON_VIEW = 166
_INVALID_OPTIONS = 72

# Where a collection keeps itself with documents that are left as bytes.
_AS_BYTES = "_lazymig_as_bytes"

# A command that has no room for a document's update, or for what has become of the document.
_TOO_LARGE = frozenset({10334, 17419, 17420})


def key_of(document_id: Any) -> Any:
    """A hashable key for an `_id` of any BSON type; distinct where MongoDB distinguishes."""
    if type(document_id) in (ObjectId, str):
        return document_id
    return bson.encode({"_id": document_id}, codec_options=ANY_UUID)


def is_mongomock(place: Any) -> bool:
    """Return whether a collection, database or client imitates PyMongo's, as mongomock's do.

    An imitation is counted on for no more than mongomock can do: it has no server, so no sessions
    and no transactions. Whatever wraps one of PyMongo's leads to another one by its attributes.
    """
    return not isinstance(place, _PYMONGO) and not isinstance(
        getattr(place, "database", None), _PYMONGO
    )


def on_primary(collection: Collection[Any]) -> Collection[Any]:
    """The collection with reads from the primary, which have seen the engine's own writes."""
    return collection.with_options(
        read_preference=ReadPreference.PRIMARY, read_concern=ReadConcern("local")
    )


def writable(collection: Collection[Any]) -> Collection[Any]:
    """The collection with acknowledged writes: an engine must know what was written."""
    if collection.write_concern.acknowledged:
        return collection
    return collection.with_options(write_concern=WriteConcern(w=1))


def unhurried(collection: Collection[Any]) -> Collection[Any]:
    """The collection with writes that wait for the primary alone, if it has no concern of its own.

    For writes behind which a write to the majority is noted: that is acknowledged only when all
    before it are with the majority as well, so to wait for each would say nothing more.
    """
    if is_mongomock(collection) or collection.write_concern.document:
        return collection
    return collection.with_options(write_concern=WriteConcern(w=1))


def compared(operator: str, document_id: Any) -> Raw:
    """The condition that compares with an `_id`, whatever BSON has it as."""
    if isinstance(document_id, StoredValue):
        return condition(operator, document_id.element)
    return {operator: document_id}


def by_ids(document_ids: Sequence[Any]) -> dict[str, Any]:
    """The query for these `_id`s."""
    if len(document_ids) == 1:
        return {"_id": compared("$eq", document_ids[0])}
    return {"_id": _among(document_ids)}


def not_by_ids(document_ids: Sequence[Any]) -> dict[str, Any]:
    """The query for all but these `_id`s."""
    return {"_id": _among(document_ids, "$nin")}


def _among(document_ids: Sequence[Any], operator: str = "$in") -> Raw:
    if any(isinstance(each, StoredValue) for each in document_ids):
        return in_condition([element_of(each, ANY_UUID) for each in document_ids], operator)
    return {operator: list(document_ids)}


def tolerant(collection: Collection[Any]) -> Collection[Any]:
    """The collection with documents that name what Python cannot hold.

    For reports, and for reads of `_id`s alone, of which none stops the others; not for writes. A
    date beyond Python's is a `DatetimeMS`, and names its document. A byte that is no UTF-8 is
    escaped; such an `_id` names none.
    """
    if is_mongomock(collection):
        return collection
    lenient = collection.codec_options.with_options(
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        unicode_decode_error_handler="backslashreplace",
    )
    return collection.with_options(codec_options=lenient)


def as_bytes(collection: Collection[Any]) -> Collection[Any]:
    """The collection with documents that are left as bytes; mongomock has none."""
    # A model keeps its collection: made for each query, this would cost as much as the query.
    known: Collection[Any] | None = collection.__dict__.get(_AS_BYTES)
    if known is not None:
        return known
    if is_mongomock(collection):
        return collection
    made = collection.with_options(
        codec_options=collection.codec_options.with_options(document_class=RawBSONDocument)
    )
    collection.__dict__[_AS_BYTES] = made
    return made


def ids_of(collection: Collection[Any], query: Raw, **options: Any) -> Iterator[Any]:
    """The `_id`s of the documents that a query finds.

    One that Python cannot hold as it is stored is a `StoredValue`.

    :param options: those of PyMongo's `find`.
    """
    if is_mongomock(collection):
        # Stand-ins answer at once, and may refuse the size of a batch.
        options.pop("batch_size", None)
        for document in collection.find(query, {"_id": 1}, **options):
            yield document["_id"]
        return
    for content in _contents(collection, query, {"_id": 1}, options):
        yield faithful(id_element(content), collection.codec_options)


def decoded_each(
    collection: Collection[Any], query: Raw, **options: Any
) -> Iterator[tuple[Any, Raw | None]]:
    """The documents that a query finds, each with its `_id`, as from `ids_of`.

    One that cannot be decoded is `None`, and costs no other one.

    :param options: those of PyMongo's `find`.
    """
    if is_mongomock(collection):
        for document in collection.find(query, **options):
            yield document["_id"], document
        return
    codec = collection.codec_options
    for content in _contents(collection, query, None, options):
        document_id = faithful(id_element(content), codec)
        try:
            decoded: Raw | None = bson.decode(content, codec_options=codec)
        except Exception:
            # A decoder of the application may raise anything.
            decoded = None
        yield document_id, decoded


def _contents(
    collection: Collection[Any], query: Raw, fields: Any, options: Mapping[str, Any]
) -> Iterator[bytes]:
    with as_bytes(collection).find(query, fields, **options) as cursor:
        for found in cursor:
            yield bytes(found.raw)


def located(document: Raw, shard_key: Sequence[str]) -> dict[str, Any]:
    """The query for one document, which names its shard, so that no other shard is asked.

    :param document: a raw document with `_id` and the fields of the shard key.
    :param shard_key: the dotted paths of the shard key, `_id` left out.
    """
    query = {"_id": {"$eq": document["_id"]}}
    for path in shard_key:
        query[path] = {"$eq": _value_at(document, path)}
    return query


def location_fields(shard_key: Sequence[str]) -> dict[str, Any]:
    """The projection to the fields that `located` needs."""
    return dict.fromkeys(("_id", *shard_key), 1)


def _value_at(document: Raw, path: str) -> Any:
    """What is stored at a path; MongoDB takes nothing for null in a shard key."""
    value: Any = document
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def ids_matching(collection: Collection[Any], queries: Sequence[Raw], count: int) -> set[Any]:
    """The keys of the documents, at most `count`, that one of the queries finds on the primary."""
    query = queries[0] if len(queries) == 1 else {"$or": list(queries)}
    found = in_one_answer(tolerant(on_primary(collection)).find(query, {"_id": 1}), count)
    return {key_of(document["_id"]) for document in found}


def in_one_answer(cursor: Any, count: int) -> Any:
    """A cursor over at most `count` documents, told to send them all at once.

    The server's own first answer holds 101 documents; one that is exactly full leaves the cursor
    open, at the price of one more round trip.
    """
    return cursor if is_mongomock(cursor.collection) else cursor.batch_size(count + 1)


def waited_too_long(error: PyMongoError) -> bool:
    """Whether the time limit ended an operation on a server that was there."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    if isinstance(error, BulkWriteError):
        errors = error.details.get("writeErrors") or []
        return any(entry.get("code") == _MAX_TIME_EXPIRED for entry in errors)
    if isinstance(error, OperationFailure):
        return error.code == _MAX_TIME_EXPIRED
    return bool(error.timeout)


def is_document_error(error: PyMongoError | DocumentTooLarge) -> bool:
    """Whether the update of documents was refused, not the whole operation.

    A view and a time-series collection refuse every update by `_id`: their documents cannot be
    migrated, whoever asks.
    """
    if isinstance(error, DocumentTooLarge):
        return True
    if waited_too_long(error) or error.has_error_label("TransientTransactionError"):
        return False
    if is_away(error):
        return False
    if isinstance(error, BulkWriteError):
        return bool(error.details.get("writeErrors"))
    return isinstance(error, WriteError) or getattr(error, "code", None) in (
        _NOT_SUPPORTED_ON_VIEW,
        _INVALID_OPTIONS,
        *_TOO_LARGE,
    )


@dataclass(slots=True)
class Written:
    """What single updates did: documents matched and modified; refusals, by position."""

    matched: int = 0
    modified: int = 0
    refused: dict[int, tuple[Any, Exception]] = field(default_factory=dict)


def write_each(
    collection: Collection[Any], queries: Sequence[Raw], update: Any, array_filters: Any
) -> Written:
    """Apply an update to the first document of each query; a refused one stops no other.

    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit.
    """
    written = Written()
    if is_mongomock(collection):
        for index, query in enumerate(queries):
            try:
                done = collection.update_one(query, update, array_filters=array_filters)
            except OperationFailure as exc:
                if not is_document_error(exc):
                    raise
                written.refused[index] = exc, exc
                continue
            written.matched += done.matched_count
            written.modified += done.modified_count
        return written
    operations = [UpdateOne(query, update, array_filters=array_filters) for query in queries]
    try:
        result: Any = collection.bulk_write(operations, ordered=False).bulk_api_result
    except BulkWriteError as exc:
        if not is_document_error(exc):
            raise
        result = exc.details
        for entry in result.get("writeErrors") or []:
            written.refused[entry["index"]] = entry.get("errmsg"), exc
    written.matched, written.modified = result["nMatched"], result["nModified"]
    return written
