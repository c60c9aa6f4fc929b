"""Documents in hand, sent through stages: whole, in as many commands as they need."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.engines.loads.in_hand import Answer, Staged, read_through, send_through
from lazymig.engines.store import Store
from tests.support.commands import CommandLog


def in_hand(document: dict[str, Any]) -> RawBSONDocument:
    """A document as it is left as bytes."""
    return RawBSONDocument(bson.encode(document))


def documents_of(answer: Answer) -> dict[Any, Any]:
    """What came back, decoded."""
    return {key: each.document for key, each in answer.found.items()}


@pytest.fixture
def store(database: Database[dict[str, Any]]) -> Store:
    """The store of a collection with one document, which is none of those in hand."""
    database.held.insert_one({"_id": "stored"})
    return Store(database.held)


def test_each_part_has_stages_of_its_own(store: Store) -> None:
    """A document goes through the stages of its part, then through those for all."""
    parts = [
        Staged([in_hand({"_id": n, "n": n})], [{"$set": {"n": {"$add": ["$n", n]}}}])
        for n in range(900)
    ]

    answer = send_through(store, parts, [{"$set": {"m": {"$add": ["$n", 1]}}}])

    assert [each["m"] for each in documents_of(answer).values()] == [2 * n + 1 for n in range(900)]
    assert not answer.errors


def test_large_documents_are_sent_in_several_commands(
    command_log: CommandLog, database: Database[dict[str, Any]]
) -> None:
    """No command is larger than MongoDB takes, however many documents a part has."""
    database.held.insert_one({"_id": "stored"})
    store = Store(command_log.client[database.name].held)
    large = [in_hand({"_id": n, "x": "x" * (7 << 20)}) for n in range(3)]

    answer = send_through(store, [Staged(large)], [{"$set": {"x": {"$strLenBytes": "$x"}}}])

    assert [each["x"] for each in documents_of(answer).values()] == [7 << 20] * 3
    assert command_log.names == ["aggregate"] * 3


def test_what_is_in_hand_comes_back_as_it_was(store: Store) -> None:
    """Names with dots and dollars, empty documents and dates beyond Python's pass unchanged."""
    odd = {"_id": 1, "$a": {"b.c": "$d", "": {}}, "e": [None, {"$literal": 1}], "f.g": "$$ROOT"}

    answer = send_through(store, [Staged([in_hand(odd)])])

    (found,) = answer.found.values()
    assert bytes(found.data.raw) == bson.encode(odd)


@pytest.mark.parametrize("number", [1, 3])
def test_one_document_that_is_refused_stops_no_other(store: Store, number: int) -> None:
    """A document for which a stage raises is an error of its own, in hand or stored."""
    raw = [{"_id": n, "n": n or "text"} for n in range(number)]
    stages = [{"$set": {"n": {"$add": ["$n", 1]}}}]

    sent = send_through(store, [Staged([in_hand(each) for each in raw])], stages)
    store.collection.insert_many(raw)
    read = read_through(store, list(range(number)), stages)

    for answer in (sent, read):
        assert [each["n"] for each in documents_of(answer).values()] == list(range(2, number + 1))
        ((document_id, error),) = answer.errors.values()
        assert document_id == 0
        assert isinstance(error, OperationFailure)


def test_an_emptied_collection_gives_nothing_back(database: Database[dict[str, Any]]) -> None:
    """Where nothing is stored any more, what is in hand is gone as well."""
    assert not send_through(Store(database.held), [Staged([in_hand({"_id": 1})])]).found
