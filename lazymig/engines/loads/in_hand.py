"""Documents in hand: bytes of a batch, sent through stages of MongoDB's, and back.

MongoDB computes what a rule makes of a document that is not stored anywhere: the document itself is
part of the command. So what comes back is of the moment at which it was read, whoever writes
meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from pymongo.errors import DocumentTooLarge, OperationFailure

from lazymig.engines.access import Raw, bounded, by_ids, key_of
from lazymig.engines.driver_errors import is_away, is_transient, waited_too_long
from lazymig.engines.reading.decoding import decode
from lazymig.engines.store import Store

__all__ = ["Answer", "InHand", "Staged", "read_through", "send_through"]

# What one command holds at most: MongoDB takes pipelines of up to 1,000 stages, and commands of
# 48 MB, of which an array may have 16.
_MOST_PARTS: Final = 400
_MOST_BYTES: Final = 12 << 20

# Unauthorized, AuthenticationFailed.
_OF_THE_USER: Final = frozenset({13, 18})

Stages: TypeAlias = Sequence[Raw]


@dataclass(frozen=True, slots=True)
class Staged:
    """Documents in hand, and the stages for them alone.

    :param documents: as they are left as bytes.
    """

    documents: Sequence[Any]
    stages: Stages = ()


@dataclass(frozen=True, slots=True)
class InHand:
    """A document in hand: as it is left as bytes, and decoded."""

    data: Any
    document: Raw


@dataclass(slots=True)
class Answer:
    """What came back, by the key of the `_id`.

    `errors` are those of documents that MongoDB refused, each with the `_id`.
    """

    found: dict[Any, InHand] = field(default_factory=dict)
    errors: dict[Any, tuple[Any, Exception]] = field(default_factory=dict)

    def take(self, documents: Iterable[Any], options: Any) -> None:
        """Add documents of a cursor."""
        for data in documents:
            document = decode(data, options)
            self.found[key_of(document["_id"])] = InHand(data, document)


def read_through(store: Store, document_ids: Sequence[Any], stages: Stages) -> Answer:
    """What stages make of stored documents; one that MongoDB refuses stops no other.

    :raises pymongo.errors.PyMongoError: the connection, the rights.
    """
    answer = Answer()
    pipeline = [{"$match": by_ids(document_ids)}, *stages]
    try:
        answer.take(store.aggregate(pipeline, len(document_ids)), store.collection.codec_options)
    except (OperationFailure, DocumentTooLarge) as exc:
        _raise_unless_document(exc)
        if len(document_ids) == 1:
            return Answer(errors={key_of(document_ids[0]): (document_ids[0], exc)})
        answer = Answer()
        for document_id in document_ids:
            alone = read_through(store, [document_id], stages)
            answer.found.update(alone.found)
            answer.errors.update(alone.errors)
    return answer


def send_through(store: Store, parts: Sequence[Staged], stages: Stages = ()) -> Answer:
    """What stages make of documents in hand: those of their part, then those for all.

    A stage may leave documents out, and may change all of them but for the `_id`.

    :raises pymongo.errors.PyMongoError: the connection, the rights.
    """
    answer = Answer()
    for command in _commands(parts):
        _send(store, command, stages, answer)
    return answer


def _send(store: Store, parts: Sequence[Staged], stages: Stages, answer: Answer) -> None:
    first, *others = (_pipeline_of(part) for part in parts)
    unions = [
        {"$unionWith": {"coll": store.collection.name, "pipeline": other}} for other in others
    ]
    most = sum(len(part.documents) for part in parts)
    options = store.collection.codec_options
    found = Answer()
    try:
        found.take(store.aggregate([*first, *unions, *stages], most), options)
    except (OperationFailure, DocumentTooLarge) as exc:
        _raise_unless_document(exc)
        if most == 1:
            (document,) = parts[0].documents
            document_id = decode(document, options)["_id"]
            answer.errors[key_of(document_id)] = document_id, exc
            return
        for part in parts:
            for document in part.documents:
                _send(store, [Staged([document], part.stages)], stages, answer)
        return
    answer.found.update(found.found)


def _pipeline_of(part: Staged) -> list[Raw]:
    # Whatever the collection holds: one document of it stands for those in hand.
    return [
        {"$limit": 1},
        {"$replaceWith": {"in_hand": {"$literal": list(part.documents)}}},
        {"$unwind": "$in_hand"},
        {"$replaceWith": "$in_hand"},
        *part.stages,
    ]


def _commands(parts: Sequence[Staged]) -> Iterator[list[Staged]]:
    """The parts in as many commands as they need; one with more bytes than it takes is cut."""
    cut = (
        Staged(some, part.stages)
        for part in parts
        for some in bounded(part.documents, _size_of, most=sys.maxsize, most_bytes=_MOST_BYTES)
    )
    yield from bounded(
        cut,
        lambda part: sum(map(_size_of, part.documents)),
        most=_MOST_PARTS,
        most_bytes=_MOST_BYTES,
    )


def _size_of(document: Any) -> int:
    return len(document.raw)


def _raise_unless_document(error: OperationFailure | DocumentTooLarge) -> None:
    """Raise what is not the trouble of a document with a stage."""
    if isinstance(error, OperationFailure) and (
        waited_too_long(error)
        or is_away(error)
        or is_transient(error)
        or error.code in _OF_THE_USER
    ):
        raise error
