"""The journal as a runner writes it: runs, checkpoints, quarantine, samples, retention."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import bson
import pytest
from bson import Binary, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.binary import UuidRepresentation
from pymongo.errors import OperationFailure

from lazymig import errors
from lazymig.errors import MigrationConflict, MigrationFailed
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Control, NewRun, RunEntry
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.retention import forget, prune
from tests.support.commands import CommandLog

URI = "mongodb+srv://ada:secret@db.example.org/blog?w=1"

# What goes through an update as it is, or not at all.
IDS: dict[str, Any] = {
    "null": None,
    "int": 7,
    "long": Int64(7),
    "double": 7.5,
    "nan": float("nan"),
    "decimal": Decimal128("7.50"),
    "text": "$name.part",
    "empty text": "",
    "bytes": b"\x00\xff",
    "object id": ObjectId(),
    "uuid": UUID(int=7),
    "bool": False,
    "date": datetime(2010, 5, 1),
    "timestamp": Timestamp(7, 1),
    "min": MinKey(),
    "max": MaxKey(),
    "compound": {"b.c": "$x", "a": {"d": [1, "$$NOW"]}},
    "literal": {"literal": {"$literal": 1}},
}

# mongomock writes these only without the BSON types of its own.
MOCKED = ("null", "int", "text", "object id", "bool", "date", "compound")


REPRESENTATIONS = {
    "standard": UuidRepresentation.STANDARD,
    "unspecified": UuidRepresentation.UNSPECIFIED,
    "legacy": UuidRepresentation.PYTHON_LEGACY,
}


@pytest.fixture
def journal(any_db: Any) -> Journal:
    """A journal on each backend in turn."""
    return Journal(any_db)


@pytest.fixture
def server_journal(database: Any) -> Journal:
    """A journal on the real server."""
    return Journal(database)


def _new(**changes: Any) -> NewRun:
    given: dict[str, Any] = {
        "model": "Post",
        "collection": "post",
        "handler": "PostMigration",
        "scope": "lazy",
        "rules": (("migration01__a", "d1"), ("migration02__b", "d2")),
        **changes,
    }
    return NewRun(**given)


def _note(
    journal: Journal,
    run: RunEntry,
    position: int = 0,
    *,
    waited: Mapping[str, float] | None = None,
    session: Any = None,
    **changes: Any,
) -> Control:
    """Note that a rule is at work, and has come so far."""
    state = replace(run.rules[position], **{"state": "running", **changes})
    return journal.checkpoint(run, position, state, waited=waited or {}, session=session)


def _stored(journal: Journal, run_id: Any) -> Any:
    return journal.collection.find_one({"_id": run_id})


def _failure(document_id: Any, text: str = "refused") -> MigrationFailed:
    return MigrationFailed(text, model="Post", rule="migration01__a", document_id=document_id)


def _now(journal: Journal) -> datetime:
    (answer,) = journal.collection.database.aggregate([{"$documents": [{"now": "$$NOW"}]}])
    now: datetime = answer["now"]
    return now


def _age(journal: Journal, run_id: Any, key: str, age: timedelta) -> None:
    journal.collection.update_one({"_id": run_id}, {"$set": {key: client_now() - age}})


# Runs


def test_a_new_run_says_what_and_who(journal: Journal) -> None:
    """A run's entry has its model, rules, options, note, process, and every rule pending."""
    options = {"max_rate": 100.0, "chunk_size": None, "a.b": "$x"}
    run = journal.begin(_new(options=options, note="$$ROOT", lease=3.0))
    stored = _stored(journal, run.id)
    keys = ("kind", "format", "model", "collection", "handler", "scope")
    assert {key: stored[key] for key in keys} == {
        "kind": "run",
        "format": 1,
        "model": "Post",
        "collection": "post",
        "handler": "PostMigration",
        "scope": "lazy",
    }
    assert (stored["options"], stored["note"], stored["lease"]) == (options, "$$ROOT", 3.0)
    assert (stored["state"], stored["ended"], stored["error"]) == ("running", None, None)
    assert (stored["host"], stored["pid"]) == (socket.gethostname(), os.getpid())
    assert [(step.name, step.digest, step.state, step.at) for step in run.rules] == [
        ("migration01__a", "d1", "pending", None),
        ("migration02__b", "d2", "pending", None),
    ]
    assert [rule.to_bson() for rule in run.rules] == stored["rules"]
    assert run.control == Control("run", {}, None)


def test_times_are_the_servers(server_journal: Journal) -> None:
    """Start, sign of life, session and end are the server's time, not this machine's."""
    before = _now(server_journal)
    run = server_journal.begin(_new())
    server_journal.finish(run, "finished")
    after = _now(server_journal)
    stored = _stored(server_journal, run.id)
    for moment in (
        stored["started"],
        stored["heartbeat"],
        stored["ended"],
        stored["sessions"][0]["at"],
    ):
        assert before <= moment <= after


def test_the_clients_clock_is_not_asked(
    server_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server nothing reads this machine's clock, which may be wrong."""

    def never() -> datetime:
        raise AssertionError

    monkeypatch.setattr("lazymig.operations.journal.collection.client_now", never)
    run = server_journal.begin(_new())
    _note(server_journal, run)
    server_journal.sample("Post", "post", {"a": 1})
    server_journal.finish(run, "stopped")
    assert server_journal.resume("Post", "post", "lazy") is not None


PLACES = ("options", "note", "error", "quarantine", "beat", "reason", "checkpoint")


@pytest.mark.parametrize("place", PLACES)
def test_no_entry_holds_a_connection_string(journal: Journal, place: str) -> None:
    """A URI with its password is cut down, wherever it is given to the journal."""
    given: dict[str, Any] = {"options": {"to": [{"uri": URI}]}} if place == "options" else {}
    if place == "note":
        given = {"note": f"to {URI}"}
    run = journal.begin(_new(**given))
    if place == "error":
        journal.finish(run, "failed", f"ServerSelectionTimeoutError: {URI}: refused")
    if place == "quarantine":
        journal.quarantine.add(run, "migration01__a", [_failure(1, f"could not reach {URI}")])
    if place == "beat":
        journal.beat(run, waiting=f"{URI} is slow", waited={})
    if place == "reason":
        journal.beat(run, waiting=None, waited={f"{URI} is slow": 1.0})
    if place == "checkpoint":
        _note(journal, run, waited={URI: 1.0})
    kept = str(list(journal.collection.find()))
    assert "mongodb+srv://..." in kept
    assert "secret" not in kept
    assert "example.org" not in kept


def test_reasons_that_differ_in_secrets_alone_add_up(journal: Journal) -> None:
    """Reasons that read the same without their connection strings are one, with all its seconds."""
    run = journal.begin(_new())
    waited = {"mongodb://a:1@h/ is slow": 1.5, "mongodb://b:2@h/ is slow": 2.0, "nice": 0.5}
    journal.beat(run, waiting=None, waited=waited)
    assert _stored(journal, run.id)["waited"] == {"mongodb://... is slow": 3.5, "nice": 0.5}


def test_writes_are_known_to_the_majority(server_journal: Journal) -> None:
    """Every write of the journal waits for the majority: a failover takes none of them back."""
    assert server_journal.collection.write_concern.document == {"w": "majority"}


def test_an_entry_reads_the_same_whatever_the_databases_options(database: Any) -> None:
    """A database that gives aware dates or raw documents makes no difference to a run."""
    options = database.codec_options.with_options(
        tz_aware=True, document_class=bson.raw_bson.RawBSONDocument
    )
    journal = Journal(database.with_options(codec_options=options))
    run = journal.begin(_new())
    _note(journal, run, at={"_id": {"a": 1}})
    again = journal.resume("Post", "post", "lazy")
    assert again is not None
    assert _stored(journal, run.id)["started"].tzinfo is None
    assert again.rules[0].at == {"_id": {"a": 1}}


# Checkpoints


@pytest.mark.parametrize("backend", ["mongoengine_db", "mock_db"], ids=["server", "mongomock"])
def test_a_checkpoint_keeps_any_id(request: pytest.FixtureRequest, backend: str) -> None:
    """The `_id` in a checkpoint comes back as it was, of the same type; none is told from null."""
    journal = Journal(request.getfixturevalue(backend))
    run = journal.begin(_new())
    for name, value in IDS.items():
        if backend == "mock_db" and name not in MOCKED:
            continue
        at = {"_id": value, "begun": True}
        _note(journal, run, 1, at=at)
        assert repr(journal.read(run.id, run.collection).rules[1].at) == repr(at), name
    again = journal.resume("Post", "post", "lazy")
    assert again is not None
    assert again.rules[0].at is None
    assert again.rules[1].at == at


@pytest.mark.parametrize("of_documents", REPRESENTATIONS)
@pytest.mark.parametrize("of_database", REPRESENTATIONS)
def test_a_uuid_is_noted_as_the_collection_stores_it(
    database: Any, of_database: str, of_documents: str
) -> None:
    """With the collection's options a UUID keeps its subtype, and comes back as it is read there.

    That is so for checkpoints and for the quarantine, whatever the database's representation is.
    """
    options = database.codec_options
    source = database.with_options(
        options.with_options(uuid_representation=REPRESENTATIONS[of_database])
    )
    documents = source.get_collection(
        "post", options.with_options(uuid_representation=REPRESENTATIONS[of_documents])
    )
    raw = database.client.get_database(database.name, options.with_options(uuid_representation=0))
    raw.post.insert_many({"_id": Binary(UUID(int=7).bytes, subtype)} for subtype in (3, 4))
    journal = Journal(source, codec_options=documents.codec_options)
    run = journal.begin(_new())
    keys = [found["_id"] for found in documents.find().sort("_id", 1)]
    for key in keys:
        _note(journal, run, at={"_id": key})
        assert repr(journal.read(run.id, "post").rules[0].at) == repr({"_id": key})
    journal.quarantine.add(run, "migration01__a", [_failure(key) for key in keys])
    assert journal.quarantine.by_rule(run.id) == {"migration01__a": keys}
    assert journal.quarantine.ids(run.id, {"_id": {"$gt": keys[0]}}) == keys[1:]
    entries = raw[JOURNAL].find({"kind": "quarantine"}).sort("document_id", 1)
    stored = [found["_id"] for found in raw.post.find().sort("_id", 1)]
    assert [entry["document_id"] for entry in entries] == stored
    journal.quarantine.release(run.id, "migration01__a", keys)
    assert journal.quarantine.ids(run.id) == []


def test_a_checkpoint_sets_what_it_is_given(journal: Journal) -> None:
    """A checkpoint changes its own rule alone, and writing it twice changes nothing more."""
    run = journal.begin(_new())
    state = replace(
        run.rules[1],
        state="running",
        at={"_id": 9},
        done=10,
        matched=8,
        modified=7,
        quarantined=1,
        passes=2,
        repeatable=False,
        seconds=1.5,
        total=20,
        exact=True,
    )
    waited = {"max_replication_lag": 2.0, "flag /tmp/wait.here": 1.0}
    for _ in range(2):
        journal.checkpoint(run, 1, state, waited=waited)
        stored = _stored(journal, run.id)
        assert stored["rules"] == [run.rules[0].to_bson(), state.to_bson()]
        assert (stored["waiting"], stored["waited"]) == (None, waited)
    assert journal.read(run.id, run.collection).rules == [run.rules[0], state]


def test_a_checkpoint_is_one_round_trip(
    server_journal: Journal, command_log: CommandLog, database: Any
) -> None:
    """A checkpoint, and a beat, is one command, whose answer is small."""
    run = server_journal.begin(_new())
    watched = Journal(command_log.client[database.name])
    _note(watched, run)
    watched.beat(run, waiting="paused", waited={})
    assert command_log.names == ["findAndModify", "findAndModify"]
    for _, command in command_log.commands:
        assert command["fields"] == {"control": 1, "_id": 0}


def test_a_checkpoint_brings_back_what_is_asked(journal: Journal) -> None:
    """The answer to a checkpoint and to a beat has the request that stands in the entry."""
    run = journal.begin(_new())
    asked = {"action": "pause", "limits": {"max_rate": 5.0}, "by": "ada", "at": client_now()}
    journal.collection.update_one({"_id": run.id}, {"$set": {"control": asked}})
    expected = Control("pause", {"max_rate": 5.0}, "ada")
    assert _note(journal, run) == expected
    assert journal.beat(run, waiting="paused by ada", waited={"paused": 1.0}) == expected
    stored = _stored(journal, run.id)
    assert (stored["waiting"], stored["waited"]) == ("paused by ada", {"paused": 1.0})


def test_a_beat_is_a_sign_of_life(journal: Journal) -> None:
    """A beat and a checkpoint move the heartbeat."""
    run = journal.begin(_new())
    for write in (
        lambda: journal.beat(run, waiting=None, waited={}),
        lambda: _note(journal, run),
    ):
        _age(journal, run.id, "heartbeat", timedelta(days=1))
        write()
        age = client_now() - _stored(journal, run.id)["heartbeat"]
        assert age < timedelta(hours=1)


def test_an_aborted_transaction_takes_its_checkpoint_back(
    server_journal: Journal, client: Any
) -> None:
    """A checkpoint and a quarantine in a session belong to that session's transaction."""
    run = server_journal.begin(_new())
    for commit in (False, True):
        with client.start_session() as session:
            session.start_transaction()
            _note(server_journal, run, done=5, session=session)
            server_journal.quarantine.add(run, "migration01__a", [_failure(1)], session=session)
            if commit:
                session.commit_transaction()
            else:
                session.abort_transaction()
        assert server_journal.read(run.id, run.collection).rules[0].done == (5 if commit else 0)
        assert server_journal.quarantine.ids(run.id) == ([1] if commit else [])


def test_an_edited_rule_begins_anew(journal: Journal) -> None:
    """An edited rule has its new digest and no checkpoint; what it did so far stays counted."""
    run = journal.begin(_new())
    _note(journal, run, 1, at={"_id": 9}, done=10, matched=8, modified=7, seconds=2.0, total=20)
    done = journal.read(run.id, run.collection).rules[1]
    journal.checkpoint(run, 1, done.begun_anew("d3"), waited={})
    step = journal.read(run.id, run.collection).rules[1]
    assert (step.digest, step.state, step.at, step.edited) == ("d3", "pending", None, True)
    assert (step.done, step.total, step.passes) == (0, None, 0)
    assert (step.matched, step.modified, step.seconds) == (8, 7, 2.0)
    assert journal.read(run.id, run.collection).rules[0].edited is False


# Going on


@pytest.mark.parametrize("state", ["stopped", "failed", None])
def test_an_unfinished_run_is_gone_on_with(journal: Journal, state: str | None) -> None:
    """A run that was stopped, failed or was killed comes back with its rules, as running."""
    run = journal.begin(_new(note="n"))
    started = _stored(journal, run.id)["started"]
    _note(journal, run, at={"_id": 4}, done=5, waited={"nice": 1.0})
    if state is not None:
        journal.finish(run, state, "why")
    again = journal.resume("Post", "post", "lazy")
    assert again is not None
    assert (again.id, again.waited) == (run.id, {"nice": 1.0})
    assert again.rules[0].at == {"_id": 4}
    stored = _stored(journal, run.id)
    assert (stored["state"], stored["ended"], stored["error"]) == ("running", None, None)
    assert (stored["note"], stored["started"]) == ("n", started)
    assert [(part["host"], part["pid"]) for part in stored["sessions"]] == [
        (socket.gethostname(), os.getpid())
    ] * 2


def test_going_on_with_other_options_is_noted(journal: Journal) -> None:
    """The entry tells options, note and lease of the newest session; each session keeps its own."""
    first, second = {"backup": "/b", "max_rate": None}, {"backup": None, "max_rate": 5.0}
    run = journal.begin(_new(options=first, note="first", lease=15.0))
    assert run.former_options == ()
    again = journal.resume(
        "Post", "post", "lazy", options=second, note=f"second, from {URI}", lease=120.0
    )
    assert again is not None
    assert again.former_options == (first,)
    assert _stored(journal, run.id)["options"] == second
    third = journal.resume("Post", "post", "lazy", run.id, options={}, note=None, lease=30.0)
    assert third is not None
    assert third.former_options == (first, second)
    stored = _stored(journal, run.id)
    note = "second, from mongodb+srv://..."
    assert (stored["options"], stored["note"], stored["lease"]) == ({}, note, 30.0)
    assert [(part["options"], part["note"]) for part in stored["sessions"]] == [
        (first, "first"),
        (second, note),
        ({}, None),
    ]
    assert journal.read(run.id, "post").former_options == (first, second)


def test_going_on_without_options_keeps_them(journal: Journal) -> None:
    """Whoever resumes a run without naming options, note or lease leaves them as they are."""
    run = journal.begin(_new(options={"nice": 1.0}, note="$n", lease=3.0))
    again = journal.resume("Post", "post", "lazy")
    assert again is not None
    assert again.former_options == ({"nice": 1.0},)
    stored = _stored(journal, run.id)
    assert (stored["options"], stored["note"], stored["lease"]) == ({"nice": 1.0}, "$n", 3.0)


def test_the_note_of_a_session_is_cut(journal: Journal) -> None:
    """The note of a session is cut at 2,000 characters: a run may have many sessions."""
    run = journal.begin(_new(note="n" * 5000))
    stored = _stored(journal, run.id)
    assert stored["note"] == "n" * 5000
    assert stored["sessions"][0]["note"] == "n" * 1997 + "..."


def test_what_was_asked_before_is_forgotten(journal: Journal) -> None:
    """A run that was stopped from outside does not stop again when it is resumed."""
    run = journal.begin(_new())
    journal.collection.update_one(
        {"_id": run.id},
        {"$set": {"control": {"action": "stop", "limits": {"max_rate": 1.0}, "by": "ada"}}},
    )
    again = journal.resume("Post", "post", "lazy")
    assert again is not None
    assert again.control == Control()


@pytest.mark.parametrize("write", ["checkpoint", "beat", "finish", "reopen"])
@pytest.mark.parametrize("how", ["taken over", "deleted"])
def test_the_former_owner_writes_nothing(journal: Journal, write: str, how: str) -> None:
    """Once a run is another process's, or deleted, its former owner gets RunTakenOver."""
    run = journal.begin(_new())
    if how == "deleted":
        forget(journal.collection, run.id)
    else:
        journal.resume("Post", "post", "lazy")
    before = _stored(journal, run.id)
    calls: dict[str, Any] = {
        "checkpoint": lambda: _note(journal, run, done=1),
        "beat": lambda: journal.beat(run, waiting="x", waited={}),
        "finish": lambda: journal.finish(run, "finished"),
        "reopen": lambda: journal.reopen(run, ["migration01__a"]),
    }
    reason = "deleted" if how == "deleted" else rf"pid {os.getpid()}"
    with pytest.raises(errors.RunTakenOver, match=reason) as caught:
        calls[write]()
    assert (caught.value.run, caught.value.collection) == (
        run.id,
        f"{journal.collection.database.name}.post",
    )
    assert _stored(journal, run.id) == before


@pytest.mark.parametrize(
    "other", [{"model": "User"}, {"collection": "user"}, {"scope": "bulk"}], ids=str
)
def test_another_model_collection_or_scope_is_another_run(journal: Journal, other: Any) -> None:
    """A run is resumed by its own model, collection and scope alone."""
    run = journal.begin(_new(**other))
    assert journal.resume("Post", "post", "lazy") is None
    with pytest.raises(errors.RunNotFound, match=str(run.id)):
        journal.resume("Post", "post", "lazy", run.id)


def test_reading_a_run_takes_nothing_over(journal: Journal) -> None:
    """A run can be read as it is noted, by its collection; it stays its runner's."""
    run = journal.begin(_new())
    _note(journal, run, at={"_id": 4})
    assert journal.read(run.id, "post").rules[0].at == {"_id": 4}
    with pytest.raises(errors.RunNotFound, match="over user"):
        journal.read(run.id, "user")
    journal.beat(run, waiting=None, waited={})


def test_a_finished_run_is_not_gone_on_with(journal: Journal) -> None:
    """A finished run is no unfinished one, and asking for it by its id says so."""
    run = journal.begin(_new())
    journal.finish(run, "finished")
    assert journal.resume("Post", "post", "lazy") is None
    with pytest.raises(errors.RunNotActive, match="has finished"):
        journal.resume("Post", "post", "lazy", run.id)


def test_the_latest_unfinished_run_is_taken(journal: Journal) -> None:
    """Of several unfinished runs the newest is resumed, or the one whose id is given."""
    old, new = journal.begin(_new()), journal.begin(_new())
    _age(journal, old.id, "started", timedelta(hours=1))
    latest = journal.resume("Post", "post", "lazy")
    named = journal.resume("Post", "post", "lazy", old.id)
    assert latest is not None
    assert named is not None
    assert (latest.id, named.id) == (new.id, old.id)


def test_a_later_finished_run_makes_an_unfinished_one_needless(journal: Journal) -> None:
    """An old stopped run is left alone once a later run has finished with all of its rules."""
    old = journal.begin(_new())
    _age(journal, old.id, "started", timedelta(hours=1))
    journal.finish(journal.begin(_new(rules=(("migration01__a", "d1"),))), "finished")
    assert journal.resume("Post", "post", "lazy") is not None
    journal.finish(journal.begin(_new()), "finished")
    assert journal.resume("Post", "post", "lazy") is None


def test_two_that_go_on_at_once(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that take over the same run from the same state one is refused."""
    run = journal.begin(_new())
    find = journal._latest_unfinished

    def find_and_be_overtaken(mine: Any) -> Any:
        found = find(mine)
        monkeypatch.undo()
        assert journal.resume("Post", "post", "lazy", run.id) is not None
        return found

    monkeypatch.setattr(journal, "_latest_unfinished", find_and_be_overtaken)
    with pytest.raises(errors.RunTakenOver):
        journal.resume("Post", "post", "lazy")


def test_sessions_are_bounded(journal: Journal) -> None:
    """A run that is interrupted again and again keeps its 100 newest sessions."""
    run = journal.begin(_new())
    rest = {"host": "h", "at": client_now(), "options": {}, "note": None}
    earlier = [{**rest, "pid": number} for number in range(100)]
    journal.collection.update_one({"_id": run.id}, {"$set": {"sessions": earlier}})
    journal.resume("Post", "post", "lazy")
    sessions = _stored(journal, run.id)["sessions"]
    assert [session["pid"] for session in sessions] == [*range(1, 100), os.getpid()]


# Quarantine


def test_quarantine_keeps_the_error(journal: Journal) -> None:
    """A document in quarantine has its run, rule, `_id`, the error's text and type, and a time."""
    run = journal.begin(_new())
    conflict = MigrationConflict("busy", model="Post", rule="migration01__a", document_id={"a": 1})
    journal.quarantine.add(run, "migration01__a", [conflict])
    entry = journal.collection.find_one({"kind": "quarantine"}, {"_id": 0})
    assert isinstance(entry.pop("at"), datetime)
    assert entry == {
        "kind": "quarantine",
        "format": 1,
        "run": run.id,
        "collection": "post",
        "rule": "migration01__a",
        "document_id": {"a": 1},
        "error": "busy",
        "type": "MigrationConflict",
    }


def test_a_document_is_quarantined_once(journal: Journal) -> None:
    """The same document, rule and run is one entry, with the newest error; others are their own."""
    run, other = journal.begin(_new()), journal.begin(_new())
    journal.quarantine.add(run, "migration01__a", [_failure(1), _failure(2)])
    journal.quarantine.add(run, "migration01__a", [_failure(1, "refused again")])
    journal.quarantine.add(run, "migration02__b", [_failure(1)])
    journal.quarantine.add(other, "migration01__a", [_failure(1)])
    journal.quarantine.add(run, "migration01__a", [])
    assert journal.collection.count_documents({"kind": "quarantine"}) == 4
    assert journal.quarantine.ids(run.id) == [1, 1, 2]
    query = {"run": run.id, "rule": "migration01__a", "document_id": 1}
    assert journal.collection.find_one(query)["error"] == "refused again"


def test_quarantine_takes_any_id(mongoengine_db: Any) -> None:
    """A document of any `_id` is found again in quarantine, by the comparison of the server."""
    journal = Journal(mongoengine_db)
    run = journal.begin(_new())
    for name, value in IDS.items():
        if name != "literal":  # No `_id` has a field that begins with a dollar.
            journal.quarantine.add(run, "migration01__a", [_failure(value)])
            within = {"_id": {"$eq": value}}
            assert repr(value) in repr(journal.quarantine.ids(run.id, within)), name


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        (None, [1, 2, 3, "a"]),
        ({"_id": {"$gt": 1, "$lte": 3}}, [2, 3]),
        ({"_id": {"$gt": 1}}, [2, 3]),
        ({"_id": {"$in": [1, "a"]}}, [1, "a"]),
        ({"$or": [{"_id": 1}, {"$and": [{"_id": {"$gt": 2}}]}]}, [1, 3]),
        ({"_id.x": 1}, []),
    ],
)
def test_the_quarantine_of_a_chunk(journal: Journal, within: Any, expected: list[Any]) -> None:
    """A chunk's condition on `_id` finds the documents in quarantine that lie in the chunk."""
    run = journal.begin(_new())
    journal.quarantine.add(run, "migration01__a", [_failure(key) for key in ("a", 3, 2, 1)])
    assert journal.quarantine.ids(run.id, within) == expected


def test_a_chunk_is_a_condition_on_the_id(journal: Journal) -> None:
    """A condition on something else cannot be asked of the quarantine."""
    with pytest.raises(ValueError, match="enabled"):
        journal.quarantine.ids(ObjectId(), {"_id": 1, "enabled": True})


def test_the_quarantine_of_a_chunk_is_read_by_an_index(server_journal: Journal) -> None:
    """Millions of entries of other runs are not looked through for a chunk."""
    run = server_journal.begin(_new())
    for entry in (run, server_journal.begin(_new())):
        server_journal.quarantine.add(entry, "a", [_failure(key) for key in range(50)])
    query = {"kind": "quarantine", "run": run.id, "document_id": {"$gt": 1, "$lte": 3}}
    plan = server_journal.collection.database.command(
        "explain", {"find": JOURNAL, "filter": query}, verbosity="executionStats"
    )
    assert plan["executionStats"]["totalDocsExamined"] == 2


def test_the_quarantine_is_read_by_rule(journal: Journal) -> None:
    """The documents in quarantine are those of one run, under the rule that failed."""
    run, other = journal.begin(_new()), journal.begin(_new())
    journal.quarantine.add(run, "migration01__a", [_failure(2), _failure(1)])
    journal.quarantine.add(run, "migration02__b", [_failure({"k": 1})])
    journal.quarantine.add(other, "migration01__a", [_failure(3)])
    assert journal.quarantine.by_rule(run.id) == {
        "migration01__a": [1, 2],
        "migration02__b": [{"k": 1}],
    }


def test_a_released_document_is_out_of_quarantine(journal: Journal) -> None:
    """Releasing takes away the entry of that run, rule and document alone."""
    run = journal.begin(_new())
    journal.quarantine.add(run, "migration01__a", [_failure(key) for key in (1, 2)])
    journal.quarantine.add(run, "migration02__b", [_failure(1)])
    journal.quarantine.release(run.id, "migration01__a", [1, 2])
    (left,) = journal.collection.find({"kind": "quarantine"})
    assert (left["rule"], left["document_id"]) == ("migration02__b", 1)


def test_many_documents_are_released(
    server_journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More documents than fit into one command are released in several."""
    monkeypatch.setattr("lazymig.operations.journal.quarantine._RELEASED_AT_ONCE", 3)
    run = server_journal.begin(_new())
    server_journal.quarantine.add(run, "migration01__a", [_failure(key) for key in range(8)])
    server_journal.quarantine.release(run.id, "migration01__a", range(7))
    assert server_journal.quarantine.ids(run.id) == [7]


def test_a_long_error_is_cut(journal: Journal) -> None:
    """A server's message that repeats a whole document does not go into the journal as a whole."""
    run = journal.begin(_new())
    journal.quarantine.add(run, "a", [_failure(1, "x" * 10_000)])
    journal.finish(run, "failed", "y" * 10_000)
    texts = [entry["error"] for entry in journal.collection.find({"kind": {"$ne": "lease"}})]
    assert [len(text) for text in texts] == [2000, 2000]
    assert all(text.endswith("...") for text in texts)


# Samples


def test_samples_of_a_minute_are_one(journal: Journal) -> None:
    """A sample replaces the last one of its model and collection while its minute lasts."""
    journal.sample("Post", "post", {"a": 3})
    journal.sample("Post", "post", {"a": 2, "b": None})
    journal.sample("Post", "archive", {"a": 9})
    entries = list(journal.collection.find({"kind": "sample"}).sort("collection", -1))
    assert [(entry["collection"], entry["remaining"]) for entry in entries] == [
        ("post", {"a": 2, "b": None}),
        ("archive", {"a": 9}),
    ]


def test_a_minute_later_is_a_new_sample(journal: Journal) -> None:
    """However often is sampled, each minute gets a sample: replacing one does not prolong it."""
    journal.sample("Post", "post", {"a": 3})
    first = journal.collection.find_one({"kind": "sample"})
    _age(journal, first["_id"], "since", timedelta(seconds=30))
    since = _stored(journal, first["_id"])["since"]
    journal.sample("Post", "post", {"a": 2})
    replaced = _stored(journal, first["_id"])
    assert (replaced["since"], replaced["remaining"]) == (since, {"a": 2})
    _age(journal, first["_id"], "since", timedelta(seconds=61))
    journal.sample("Post", "post", {"a": 1})
    assert journal.collection.count_documents({"kind": "sample"}) == 2


def test_samples_are_thinned(journal: Journal) -> None:
    """Beyond 1,000 samples of a model every second one of the older half goes, the first stays."""
    begin = client_now() - timedelta(days=10)
    series = {"kind": "sample", "model": "Post", "collection": "post", "remaining": {}}
    moments = [begin + timedelta(minutes=number) for number in range(1000)]
    journal.collection.insert_many(
        [{**series, "at": moment, "since": moment} for moment in moments]
    )
    journal.collection.insert_one({**series, "model": "User", "since": begin, "at": begin})
    journal.sample("Post", "post", {"a": 1})
    kept = journal.collection.find({"kind": "sample", "model": "Post"}).sort("since", 1)
    since = [entry["since"] for entry in kept]
    assert since[:-1] == [*moments[:500:2], *moments[500:]]
    assert journal.collection.count_documents({"model": "User"}) == 1


# Retention


def test_the_oldest_ended_runs_go(journal: Journal) -> None:
    """Beginning a run forgets the ended ones beyond `keep_runs`, oldest first, with quarantine."""
    runs = []
    for number in range(4):
        run = journal.begin(_new())
        journal.quarantine.add(run, "a", [_failure(1)])
        journal.finish(run, ("finished", "stopped", "failed", "finished")[number])
        _age(journal, run.id, "started", timedelta(hours=9 - number))
        runs.append(run.id)
    last = journal.begin(_new(keep_runs=2)).id
    assert sorted(journal.collection.distinct("_id", {"kind": "run"})) == [*runs[2:], last]
    assert sorted(journal.collection.distinct("run", {"kind": "quarantine"})) == runs[2:]


def test_each_collection_keeps_its_own(journal: Journal) -> None:
    """The runs over one collection do not push those over another out."""
    for collection in ("post", "user"):
        for _ in range(2):
            journal.finish(journal.begin(_new(collection=collection)), "finished")
    journal.begin(_new(keep_runs=1))
    assert journal.collection.count_documents({"kind": "run", "collection": "user"}) == 2
    assert prune(journal.collection, 1) == 1
    assert journal.collection.count_documents({"kind": "run", "state": "finished"}) == 2


def test_unfinished_runs_stay(journal: Journal) -> None:
    """A run that has not ended stays, unless it has been silent for a week."""
    run = journal.begin(_new())
    _age(journal, run.id, "heartbeat", timedelta(days=6))
    assert prune(journal.collection, 0) == 0
    _age(journal, run.id, "heartbeat", timedelta(days=8))
    assert prune(journal.collection, 0) == 1


def test_reading_creates_no_index(database: Any, command_log: CommandLog) -> None:
    """The indexes are made by the first write of a journal, once, and by no read."""
    journal = Journal(command_log.client[database.name])
    journal.quarantine.ids(ObjectId())
    assert "createIndexes" not in command_log.names
    journal.begin(_new())
    assert command_log.names.count("createIndexes") == 1
    command_log.clear()
    journal.begin(_new())
    journal.sample("Post", "post", {})
    assert "createIndexes" not in command_log.names


def test_who_may_not_make_indexes_can_run(
    server_journal: Journal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the right to make indexes a run begins, and the log says so; else it is an error."""
    code = 13

    def refuse(*_: Any, **__: Any) -> None:
        raise OperationFailure("refused", code)

    monkeypatch.setattr(server_journal.collection, "create_indexes", refuse)
    server_journal.begin(_new())
    assert f"{server_journal.collection.full_name}: no right" in caplog.text
    code = 85
    other = Journal(server_journal.collection.database)
    monkeypatch.setattr(other.collection, "create_indexes", refuse)
    with pytest.raises(OperationFailure):
        other.begin(_new())


def test_another_name_is_another_journal(any_db: Any) -> None:
    """A journal writes into the collection whose name it is given, and nowhere else."""
    Journal(any_db, "elsewhere").begin(_new())
    assert any_db.list_collection_names() == ["elsewhere"]


@pytest.mark.parametrize(
    "error",
    [
        errors.CollectionLocked(
            "held", collection="db.post", holder={"pid": 1, "run": 2}, expires=datetime(2010, 5, 1)
        ),
        errors.LeaseLost("lost", collection="db.post", run=1),
        errors.RunTakenOver("taken", run=1),
        errors.RunNotFound("none", run="abc"),
        errors.RunNotActive("ended", run=1),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: Any) -> None:
    """An error of a run keeps type, text and attributes in another process, and has a base."""
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
    assert isinstance(error, errors.RunError)
    assert type(error).__name__ in str(errors.__doc__)
    assert isinstance(error, errors.LazyMigError)
