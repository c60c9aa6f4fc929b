"""The access of the engines to a collection: keys for `_id`s, read and write options."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import bson
from bson import ObjectId
from bson.codec_options import DatetimeConversion
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference, WriteConcern
from pymongo.client_options import ClientOptions
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.mongo_client import MongoClient
from pymongo.read_concern import ReadConcern

from lazymig.engines.driver_errors import is_away
from lazymig.query.indexable import branched, indexable
from lazymig.query.joining import all_of
from lazymig.raw.elements import (
    StoredValue,
    condition,
    element_of,
    faithful,
    id_element,
    in_condition,
    tolerant_options,
    tolerantly_decoded,
)
from lazymig.raw.encoding import ANY_UUID
from lazymig.redaction import excerpt

__all__ = [
    "Description",
    "Positional",
    "Raw",
    "all_of",
    "as_bytes",
    "bounded",
    "by_ids",
    "client_options",
    "compared",
    "decoded_each",
    "describe",
    "id_of_raw",
    "ids_of",
    "indexable_in",
    "is_mongomock",
    "key_of",
    "not_by_ids",
    "on_primary",
    "read_raw",
    "readable",
    "recast",
    "tolerant",
    "unhurried",
    "writable",
]

logger = logging.getLogger(__name__)

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Positional:
    """The filter by which MongoDB finds the array elements of a positional projection."""

    query: Raw
    collation: Any = None


@dataclass(frozen=True, slots=True)
class Description:
    """What a collection is: `"collection"`, `"view"` or `"timeseries"`; and its options."""

    kind: str
    options: Mapping[str, Any]


_Kind = TypeVar("_Kind", bound=Collection[Any])
_Item = TypeVar("_Item")

_PYMONGO = (Collection, Database, MongoClient)

# Where a collection keeps itself with documents that are left as bytes.
_AS_BYTES = "_lazymig_as_bytes"


def bounded(
    items: Iterable[_Item], size_of: Callable[[_Item], int], *, most: int, most_bytes: int
) -> Iterator[list[_Item]]:
    """Items in lists of at most so many, and of at most so many bytes unless one alone has more."""
    some: list[_Item] = []
    size = 0
    for item in items:
        more = size_of(item)
        if some and (len(some) == most or size + more > most_bytes):
            yield some
            some, size = [], 0
        some.append(item)
        size += more
    if some:
        yield some


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


def client_options(database: Database[Any]) -> ClientOptions | None:
    """The options of a database's client; an imitation has none."""
    return None if is_mongomock(database) else database.client.options


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
    """The collection with writes that wait for the primary alone, if it has none of its own.

    For writes after which a write to the majority is noted: that is acknowledged only when all
    before it are with the majority as well, so to wait for each would say nothing more.
    """
    if is_mongomock(collection) or collection.write_concern.document:
        return collection
    return collection.with_options(write_concern=WriteConcern(w=1))


def recast(collection: Collection[Any], kind: type[_Kind]) -> _Kind:
    """The same collection with the same options, as one of a class that derives from PyMongo's."""
    return kind(
        collection.database,
        collection.name,
        codec_options=collection.codec_options,
        read_preference=collection.read_preference,
        write_concern=collection.write_concern,
        read_concern=collection.read_concern,
    )


def indexable_in(collection: Collection[Any], query: Raw) -> Raw:
    """A query that finds the same in a collection, worded for the indexes of the rules."""
    return branched(indexable(query, types=not is_mongomock(collection)))


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


def describe(collection: Collection[Any]) -> Description | None:
    """Ask what a collection is; `None` where there is none, or MongoDB does not say.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    if is_mongomock(collection):
        return Description("collection", {})
    try:
        found = list(collection.database.list_collections(filter={"name": collection.name}))
    except OperationFailure as exc:
        if is_away(exc):
            raise
        logger.debug("%s is not described: %s", collection.full_name, excerpt(exc))
        return None
    if not found:
        return None
    return Description(found[0].get("type", "collection"), found[0].get("options", {}))


def read_raw(collection: Collection[Any]) -> Collection[Any]:
    """The collection with documents as MongoDB sends them, not decoded, from the primary.

    On mongomock they are plain documents.
    """
    if is_mongomock(collection):
        return collection
    options = tolerant_options(collection.codec_options)
    options = options.with_options(document_class=RawBSONDocument)
    return on_primary(collection).with_options(codec_options=options)


def id_of_raw(raw: Any, collection: Collection[Any]) -> Any:
    """The `_id` of a document of `read_raw`, as from `ids_of`."""
    if not isinstance(raw, RawBSONDocument):
        return raw["_id"]
    return faithful(id_element(bytes(raw.raw)), collection.codec_options)


def readable(raw: Any, collection: Collection[Any], *, as_is: bool = False) -> dict[str, Any]:
    """Decode a document of `read_raw`; what comes back belongs to the caller.

    :param as_is: as `collection` decodes it; otherwise in the types of the `bson` package alone,
        and so that a value which Python cannot hold raises nothing.
    :raises bson.errors.BSONError: with `as_is`, the document cannot be decoded.
    """
    if not isinstance(raw, RawBSONDocument):
        return dict(copy.deepcopy(raw))
    content = bytes(raw.raw)
    if as_is:
        return dict(bson.decode(content, codec_options=collection.codec_options))
    return tolerantly_decoded(content, collection.codec_options)
