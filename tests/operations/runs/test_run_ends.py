"""Runs that meet a fault of a document, of the application or of the collection, and their ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mongoengine import DynamicField, IntField
from pymongo import MongoClient
from pymongo.database import Database

from lazymig import History, RunOptionError, restore
from lazymig.engines.walk import Chunk, Walk
from lazymig.operations.runs import runner as runs
from lazymig.operations.runs.interrupts import Interrupts
from lazymig.operations.throttling.throttle import Throttle
from tests.support.handlers import handler, model, rule

COUNT_UP = rule({}, {"$inc": {"n": 1}})
COUNT = 2500


def _count_up_by_document(self: Any) -> None:
    self.target = {}
    self.update = {"$inc": {"n": int(self.doc["v"])}}


def _turn_by_document(self: Any) -> None:
    self.target = {"w": {"$exists": False}}
    self.update = {"$set": {"w": int(self.doc["v"])}, "$inc": {"n": 1}}


def _post(rules: Any) -> Any:
    numbers = {name: IntField() for name in ("v", "n", "w")}
    return model(rules, key=DynamicField(primary_key=True), **numbers)


def _insert(database: Database[Any], numbers: Any) -> None:
    database["post"].insert_many([{"_id": number, "v": 1, "n": 0} for number in numbers])


@pytest.mark.parametrize("kind", ["plain", "transactions", "backup", "standalone"])
@pytest.mark.parametrize("method", [_count_up_by_document, _turn_by_document])
def test_a_document_that_fails_takes_no_other_out_of_its_chunk(
    mongoengine_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    method: Any,
    kind: str,
) -> None:
    """A run that ends at a document's failure, and is resumed, meets all others once."""
    if kind == "standalone":
        monkeypatch.setattr(runs, "has_transactions", lambda _collection: False)
    options = {
        "transactions": kind == "transactions",
        "backup": tmp_path / "backup" if kind == "backup" else None,
    }
    _insert(mongoengine_db, range(COUNT))
    mongoengine_db["post"].update_one({"_id": 5}, {"$set": {"v": "text"}})
    rules = handler(allmigration01__x=method)
    migration = rules(_post(rules))
    report = migration.migrate_all(chunk_size=COUNT - 100, **options)
    assert (report.state, [error.document_id for error in report.errors]) == ("failed", [5])
    resumed = migration.migrate_all(chunk_size=COUNT - 100, resume=True, **options)
    assert (resumed.state, [error.document_id for error in resumed.errors]) == ("finished", [5])
    found = {raw["_id"]: raw["n"] for raw in mongoengine_db["post"].find()}
    assert found == {number: int(number != 5) for number in range(COUNT)}
    (run,) = History(mongoengine_db).runs()
    assert (run.rules[0].done, run.rules[0].total, run.rules[0].matched) == (
        COUNT,
        COUNT,
        COUNT - 1,
    )


def test_on_a_standalone_server_a_refusal_doubles_nobody(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without transactions, too, a refused document is no reason to apply a rule twice."""
    monkeypatch.setattr(runs, "has_transactions", lambda _collection: False)
    _insert(mongoengine_db, range(300))
    mongoengine_db["post"].update_one({"_id": 150}, {"$set": {"n": "text"}})
    rules = handler(allmigration01__up=COUNT_UP)
    migration = rules(_post(rules))
    assert migration.migrate_all(chunk_size=200).state == "failed"
    assert migration.migrate_all(chunk_size=200, resume=True).state == "finished"
    assert {raw["n"] for raw in mongoengine_db["post"].find()} == {1, "text"}


def test_a_first_document_that_vanishes_hides_no_other(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the first document is deleted while a walk looks at it, all the others are still met."""
    _insert(mongoengine_db, range(300))
    look = Walk._bracket_of

    def deleting(walk: Walk, document_id: Any) -> Any:
        mongoengine_db["post"].delete_one({"_id": document_id})
        return look(walk, document_id)

    monkeypatch.setattr(Walk, "_bracket_of", deleting)
    rules = handler(allmigration01__up=COUNT_UP)
    # Both the first and the last document are looked at.
    assert rules(_post(rules)).migrate_all(chunk_size=100).modified == 298


@pytest.mark.parametrize("ids", [[False, True], [1, 2, 3], ["a", "b"]])
def test_a_walk_goes_on_between_the_parts_of_a_chunk(database: Database[Any], ids: Any) -> None:
    """Behind the first part of a chunk a walk gives the others, whatever the `_id`s are."""
    database["post"].insert_many([{"_id": each} for each in ids])
    chunk = Walk(database["post"]).next(10)
    assert chunk is not None
    first, *_ = chunk.split(ids, len(ids) // 2)
    rest = Walk(database["post"], first.end).next(10)
    assert isinstance(rest, Chunk)
    assert [raw["_id"] for raw in database["post"].find(rest.within)] == ids[len(ids) // 2 :]


def test_the_search_for_newcomers_ends(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """While an old version goes on writing, a run ends all the same, and says what it has met."""
    _insert(mongoengine_db, range(10))
    numbers = iter(range(10, 10_000))

    def write_one_more() -> None:
        _insert(mongoengine_db, [next(numbers)])

    rules = handler(allmigration01__turn=rule({"v": 1}, {"$set": {"v": 2}}))
    report = rules(_post(rules)).migrate_all(throttle=write_one_more)
    assert report.complete
    assert "does an old version of the application still write them?" in caplog.text


@pytest.mark.parametrize("kind", ["transactions", "backup", "counting"])
def test_the_latency_of_transactions_counts(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str
) -> None:
    """`max_latency` is held against the checkpoint of each chunk, in transactions too."""
    told: list[Any] = []
    worked = Throttle.worked

    def noting(throttle: Throttle, documents: int, seconds: float, latency: float | None) -> None:
        told.append(latency)
        worked(throttle, documents, seconds, latency)

    monkeypatch.setattr(Throttle, "worked", noting)
    _insert(mongoengine_db, range(200))
    method = COUNT_UP if kind == "counting" else _turn_by_document
    rules = handler(allmigration01__x=method)
    report = rules(_post(rules)).migrate_all(
        chunk_size=100,
        transactions=kind == "transactions",
        backup=tmp_path / "backup" if kind == "backup" else None,
    )
    assert report.complete
    assert len(told) == 2
    assert all(0 < latency < 60 for latency in told)


@pytest.fixture
def held(server_uri: str, mongoengine_db: Database[Any]) -> Iterator[Any]:
    """Document 1, held by a transaction of the application that does not end."""
    _insert(mongoengine_db, range(10))
    with MongoClient(server_uri) as client, client.start_session() as session:
        session.start_transaction()
        posts = client[mongoengine_db.name]["post"]
        posts.update_one({"_id": 1}, {"$set": {"v": 3}}, session=session)
        yield posts
        session.abort_transaction()


@pytest.mark.usefixtures("python_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_for_a_held_document(
    held: Any, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A run that tries a transaction again and again stops when it is asked to, and can go on."""
    wait = Interrupts.wait

    def interrupted(interrupts: Interrupts, seconds: float) -> None:
        monkeypatch.undo()
        signal.raise_signal(number)
        wait(interrupts, seconds)

    monkeypatch.setattr(Interrupts, "wait", interrupted)
    rules = handler(allmigration01__up=COUNT_UP)
    former = signal.signal(number, lambda *_: None)
    try:
        report = rules(_post(rules)).migrate_all()
    finally:
        signal.signal(number, former)
    assert report.state == "stopped"
    assert report.modified == 0
    assert {raw["n"] for raw in held.find()} == {0}


@pytest.mark.parametrize("kind", ["view", "timeseries"])
@pytest.mark.parametrize("with_backup", [False, True])
def test_what_takes_no_update_is_refused(
    mongoengine_db: Database[Any], tmp_path: Path, kind: str, with_backup: bool
) -> None:
    """A run over a view or a time-series collection is refused before anything is written."""
    if kind == "view":
        mongoengine_db.create_collection("post", viewOn="other", pipeline=[])
    else:
        mongoengine_db.create_collection("post", timeseries={"timeField": "at"})
    rules = handler(allmigration01__up=COUNT_UP)
    options = {"backup": tmp_path / "backup"} if with_backup else {}
    with pytest.raises(RunOptionError, match=rf"post is a {kind}"):
        rules(_post(rules)).migrate_all(**options)
    assert "lazymig_journal" not in mongoengine_db.list_collection_names()
    assert not (tmp_path / "backup").exists()


@pytest.mark.parametrize("method", [COUNT_UP, _turn_by_document])
def test_a_capped_collection_needs_no_transaction(
    mongoengine_db: Database[Any], tmp_path: Path, method: Any
) -> None:
    """MongoDB writes no capped collection in a transaction; a run with a backup does without."""
    mongoengine_db.create_collection("post", capped=True, size=1_000_000)
    _insert(mongoengine_db, range(50))
    before = list(mongoengine_db["post"].find())
    rules = handler(allmigration01__x=method)
    report = rules(_post(rules)).migrate_all(backup=tmp_path / "backup", chunk_size=20)
    assert (report.complete, report.modified) == (True, 50)
    assert {raw["n"] for raw in mongoengine_db["post"].find()} == {1}
    assert restore(tmp_path / "backup", mongoengine_db).restored == 50
    assert list(mongoengine_db["post"].find()) == before


def _fail(self: Any) -> None:
    self.target = {"w": {"$exists": False}}
    if self.doc["v"] == 1:
        raise ValueError("never")
    self.update = {"$set": {"w": 1}}


def test_a_large_quarantine_fits_into_no_query(mongoengine_db: Database[Any]) -> None:
    """A run goes on even if the `_id`s of what it has put aside are too many for one command."""
    count = 1300
    _insert(mongoengine_db, (f"{number:05}{'x' * 14_000}" for number in range(count)))
    rules = handler(
        allmigration01__fail=_fail, allmigration02__turn=rule({"v": 1}, {"$set": {"v": 2}})
    )
    report = rules(_post(rules)).migrate_all(chunk_size=100, max_errors=count)
    assert report.state == "finished"
    assert len(report.errors) == count
    assert mongoengine_db["post"].count_documents({"v": 1}) == count


def test_a_backup_that_is_forgotten_is_told(
    mongoengine_db: Database[Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that was begun with a backup, and is resumed without one, says so in the log."""
    _insert(mongoengine_db, range(200))
    mongoengine_db["post"].update_one({"_id": 5}, {"$set": {"v": "text"}})
    rules = handler(allmigration01__x=_turn_by_document)
    migration = rules(_post(rules))
    migration.migrate_all(chunk_size=100, backup=tmp_path / "backup")
    assert "continues without one" not in caplog.text
    assert migration.migrate_all(chunk_size=100, resume=True).state == "finished"
    assert "was begun with a backup, and continues without one" in caplog.text


def _tell_password(self: Any) -> None:
    self.target = {"w": {"$exists": False}}
    raise ValueError(f"mongodb://carl:secret@host/{self.doc['v']} is away")


def test_what_a_rule_raises_tells_no_password(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A connection string in the text of an exception is in no report, log or quarantine."""
    _insert(mongoengine_db, range(2))
    rules = handler(allmigration01__x=_tell_password)
    report = rules(_post(rules)).migrate_all(max_errors=2)
    left = History(mongoengine_db).quarantined(report.run_id)
    texts = [*map(str, report.errors), *(entry.error for entry in left), caplog.text]
    assert all("mongodb://..." in text and "secret" not in text for text in texts)
