"""Restores of what no codec can decode: every document is put back byte for byte, or named."""

from __future__ import annotations

from contextlib import suppress

import pytest
from bson import Binary
from bson.datetime_ms import DatetimeMS
from bson.errors import InvalidBSON
from bson.json_util import dumps
from pymongo import MongoClient

from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from lazymig.raw.elements import RawDocument, condition, id_element
from tests.support import oddities
from tests.support.backups import CHANGED, DELETED, change, counts, run
from tests.support.commands import CommandLog
from tests.support.oddities import stored
from tests.support.server import CLIENT_OPTIONS


def store(collection, documents):
    """Store documents exactly; the answer to an insert of an odd `_id` cannot be decoded."""
    for document in documents:
        update = [{"$replaceWith": {"$literal": RawDocument(document)}}]
        with suppress(InvalidBSON):
            query = {"_id": condition("$eq", id_element(document))}
            collection.update_one(query, update, upsert=True)


def expected(documents):
    """What is to be stored, by the `_id`s."""
    return {id_element(document): document for document in documents}


@pytest.mark.parametrize("shard_key", [(), ("sub.s", "t", "d1", "missing.x")])
def test_a_thousand_odd_documents_are_put_back_byte_for_byte(database, tmp_path, shard_key):
    """Dates beyond Python's, strings that are not UTF-8, keys that come twice: all as before."""
    documents = oddities.documents(1000)
    database.post.insert_many([RawDocument(document) for document in documents])
    assert stored(database.post) == expected(documents)
    run(tmp_path, database.post, shard_key=shard_key)
    assert stored(database.post) != expected(documents)
    assert counts(restore(tmp_path, database)) == (1000, 0, 0)
    assert stored(database.post) == expected(documents)
    assert counts(restore(tmp_path, database)) == (0, 1000, 0)


def test_conflicts_of_odd_documents_are_named(database, tmp_path):
    """Each `_id` is in the report, as far as Python can say it, and in the terms of JSON."""
    documents = [
        oddities.document(each, oddities.FIELDS["string"]) for each in oddities.ids(7).values()
    ]
    database.post.insert_many([RawDocument(document) for document in documents])
    run(tmp_path, database.post)
    database.post.update_many({}, {"$set": {"by": "app"}})
    report = restore(tmp_path, database)
    assert {conflict.reason for conflict in report.conflicts} == {CHANGED}
    *named, last = (conflict.document_id for conflict in report.conflicts)
    assert named == [
        7,
        DatetimeMS(oddities.FAR + 7),
        "caf\\xe9000007",
        {"s": "caf\\xe9000007", "d": DatetimeMS(oddities.FAR + 7)},
        {"t": 7},
    ]
    # Some versions of PyMongo decode no UUID of another length; then it is the bytes of the value.
    assert isinstance(last, Binary)
    assert last.endswith(b"000007")
    assert all(dumps(conflict.document_id) for conflict in report.conflicts)


@pytest.mark.parametrize("deleted", [False, True])
def test_odd_documents_that_an_insert_would_alter(database, tmp_path, deleted):
    """They are exact as well, and where the answers of the server cannot be decoded."""
    documents = oddities.documents(120, strange=True)
    store(database.post, documents)
    assert stored(database.post) == expected(documents)
    run(tmp_path, database.post)
    if deleted:
        database.post.delete_many({})
        report = restore(tmp_path, database)
        assert report.conflict_count == 120
        assert {conflict.reason for conflict in report.conflicts} == {DELETED}
    assert counts(restore(tmp_path, database, force=deleted)) == (120, 0, 0)
    assert stored(database.post) == expected(documents)


@pytest.mark.parametrize("kind", ["late date", "string"])
def test_a_refusal_that_cannot_be_decoded_is_one_documents(database, tmp_path, kind):
    """A unique index refuses a value that its error quotes; the neighbours are put back."""
    field = oddities.FIELDS[kind]
    name = field[1 : field.index(b"\x00")].decode()
    numbers = [oddities.ids(number)["number"] for number in range(4)]
    documents = [oddities.document(number) for number in numbers]
    documents[1] = oddities.document(numbers[1], field)
    database.post.insert_many([RawDocument(document) for document in documents])
    run(tmp_path, database.post, {}, {"$unset": {name: 1}, "$set": {"new": True}})
    database.post.insert_one(RawDocument(oddities.document(oddities.ids(9)["number"], field)))
    database.post.create_index(name, unique=True, sparse=True)
    report = restore(tmp_path, database)
    assert counts(report) == (3, 0, 1)
    (conflict,) = report.conflicts
    assert conflict.document_id == 1
    assert conflict.reason.startswith("MongoDB refused it")
    now = stored(database.post)
    assert [now[numbers[index]] == documents[index] for index in range(4)] == [
        True,
        False,
        True,
        True,
    ]


def test_odd_documents_beside_a_listener(server_uri, database, tmp_path):
    """Who listens to the driver's commands does not make it decode them."""
    documents = oddities.documents(50)
    database.post.insert_many([RawDocument(document) for document in documents])
    with MongoClient(server_uri, event_listeners=[CommandLog()], **CLIENT_OPTIONS) as client:
        run(tmp_path, client[database.name].post)
        assert counts(restore(tmp_path, client[database.name])) == (50, 0, 0)
    assert stored(database.post) == expected(documents)


def test_an_odd_chain_is_undone(database, tmp_path):
    """A doubt about odd documents is settled by what is stored, and several rules are one chain."""
    documents = oddities.documents(60)
    database.post.insert_many([RawDocument(document) for document in documents])
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        change(writer, database.post)
        change(writer, database.post, {}, {"$inc": {"n": 1}}, "migration02__n")
        writer.begin("migration03__m")
        with database.client.start_session() as session, session.start_transaction():
            writer.save({}, session)
            database.post.update_many({}, {"$inc": {"m": 1}}, session=session)
            writer.seal(session)
    run(tmp_path, database.post, {}, {"$inc": {"k": 1}})
    assert counts(restore(tmp_path, database)) == (60, 0, 0)
    assert stored(database.post) == expected(documents)
