"""Primaries that step down during runs and loads, in a set of three members, or as if they did."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from mongoengine import IntField, StringField
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import ConvergenceWarning, History
from lazymig.operations.journal.journal import Journal
from tests.support.failing import fail, failing_db, failing_server
from tests.support.handlers import handler, model, rule
from tests.support.items import Item, ItemMigration, done, fill, stored
from tests.support.replica_set import ReplicaSet, replica_set

__all__ = ["failing_db", "failing_server"]

COUNT = 300
CHUNK = 20


@pytest.fixture(scope="module")
def members() -> Iterator[ReplicaSet]:
    """Three members."""
    with replica_set() as started:
        yield started


@pytest.fixture
def members_db(members: ReplicaSet) -> Iterator[Database[Any]]:
    """MongoEngine's default alias on a fresh database of the set, written to the majority."""
    members.wait()
    client: MongoClient[Any] = mongoengine.connect(
        "failover", host=members.uri, uuidRepresentation="standard"
    )
    client.drop_database("failover")
    yield client["failover"]
    mongoengine.disconnect()


@contextmanager
def _stepping_down(members: ReplicaSet, wanted: threading.Event) -> Iterator[list[int]]:
    """Let the primary step down each time that it is wanted; gives a list that grows by that."""
    over, times = threading.Event(), list[int]()

    def work() -> None:
        while wanted.wait() and not over.is_set():
            wanted.clear()
            members.step_down()
            times.append(1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield times
    finally:
        over.set()
        wanted.set()
        thread.join()
        members.wait()


@pytest.mark.parametrize("kind", ["plain", "transactions", "backup"])
def test_a_run_outlasts_step_downs(
    members: ReplicaSet,
    members_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
) -> None:
    """A run goes on with the next primary by itself; nothing is lost, and nothing done twice."""
    fill(members_db, COUNT)
    wanted = threading.Event()
    checkpoint, noted = Journal.checkpoint, list[int]()

    def noting(*arguments: Any, **options: Any) -> Any:
        noted.append(1)
        if len(noted) % 20 == 10:
            # While the next chunk is written.
            wanted.set()
        return checkpoint(*arguments, **options)

    monkeypatch.setattr(Journal, "checkpoint", noting)
    options: dict[str, Any] = {"transactions": kind == "transactions"}
    if kind == "backup":
        options["backup"] = tmp_path / "backup"
    with _stepping_down(members, wanted) as times:
        report = ItemMigration(Item).migrate_all(chunk_size=CHUNK, **options)
    assert report.complete
    assert len(times) > 1
    assert stored(members_db) == done(COUNT)
    (run,) = History(members_db).runs()
    assert run.state == "finished"


def _counting_post() -> Any:
    def copy(self: Any) -> None:
        self.target = {"w": {"$exists": False}}
        self.update = {"$set": {"w": f"w{self.doc['v']}"}, "$inc": {"copies": 1}}

    rules = handler(
        migration01__turn=rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"n": 1}}),
        migration02__copy=copy,
    )
    return model(rules, v=IntField(), n=IntField(), w=StringField(), copies=IntField())


def test_loads_outlast_step_downs(members: ReplicaSet, members_db: Database[Any]) -> None:
    """No load of an old document raises while primaries come and go; each rule is applied once."""
    post = _counting_post()
    members_db["post"].insert_many([{"_id": number, "v": 1} for number in range(1000)])
    wanted = threading.Event()
    with _stepping_down(members, wanted) as times:
        for number in range(1000):
            if number % 50 == 0 and len(times) < 3:
                wanted.set()
            loaded = post.objects.get(key=number)
            assert (loaded.v, loaded.n, loaded.w, loaded.copies) == (2, 1, "w2", 1)
            if len(times) >= 3 and number > 200:
                break
    assert len(times) >= 3
    touched = members_db["post"].find({"v": 2})
    assert {(raw["n"], raw["copies"]) for raw in touched} == {(1, 1)}


WAIT = {"errmsg": "operation was interrupted", "codeName": "InterruptedDueToReplStateChange"}
CODES = [91, 189, 10107, 11600, 11602, 13435, 13436]


@pytest.mark.parametrize("command", ["update", "findAndModify", "find", "aggregate", "delete"])
@pytest.mark.parametrize("code", [189, 11602])
def test_a_run_outlasts_a_state_that_changes(
    failing_db: Database[Any], command: str, code: int
) -> None:
    """Whichever command of a run a server refuses because of its state, it is sent again."""
    fill(failing_db, 30)
    fail(failing_db, {"times": 3}, failCommands=[command], errorCode=code)
    assert ItemMigration(Item).migrate_all(chunk_size=10).complete
    assert stored(failing_db) == done(30)


@pytest.mark.parametrize("command", ["update", "findAndModify", "commitTransaction"])
@pytest.mark.parametrize("code", CODES)
def test_a_run_outlasts_a_wait_that_is_interrupted(
    failing_db: Database[Any], tmp_path: Path, command: str, code: int
) -> None:
    """A write that is done, but whose wait for the majority ended with the primary, is repeated."""
    fill(failing_db, 30)
    fail(failing_db, {"times": 3}, failCommands=[command], writeConcernError={"code": code, **WAIT})
    backup = tmp_path / "backup" if command == "commitTransaction" else None
    assert ItemMigration(Item).migrate_all(chunk_size=10, backup=backup).complete
    assert stored(failing_db) == done(30)


def test_a_retry_outlasts_a_state_that_changes(failing_db: Database[Any]) -> None:
    """What a run has refused is retried in spite of it, and each rule is applied once."""
    fill(failing_db, 3)
    failing_db["item"].update_one({"_id": 1}, {"$set": {"n": "text"}})
    run = ItemMigration(Item).migrate_all(max_errors=9)
    failing_db["item"].update_one({"_id": 1}, {"$set": {"n": 0}})
    wait = {"code": 11602, **WAIT}
    fail(failing_db, {"times": 3}, failCommands=["update"], writeConcernError=wait)
    assert ItemMigration(Item).retry_quarantined(run.run_id).complete
    assert stored(failing_db) == done(3)


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("load", ["one", "many", "settled"])
def test_a_load_outlasts_a_state_that_changes(
    failing_db: Database[Any], load: str, code: int
) -> None:
    """What a load writes is sent again, refused or done, and each rule is applied once."""
    post = _counting_post()
    failing_db["post"].insert_many([{"_id": number, "v": 1} for number in range(20)])
    wait = {"code": code, **WAIT}
    for failure in ({"errorCode": code}, {"writeConcernError": wait}):
        fail(failing_db, {"times": 3}, failCommands=["update"], **failure)
        if load == "one":
            assert post.objects.get(key=len(failure)).n == 1
        elif load == "many":
            assert {each.n for each in post.objects} == {1}
        else:
            assert post.objects(n=5).delete() == 0
            assert failing_db["post"].distinct("n") == [1]
    fail(failing_db, "off")
    assert {(each.n, each.copies) for each in post.objects} == {(1, 1)}


def test_what_may_not_be_done_twice_is_not_sent_again(failing_db: Database[Any]) -> None:
    """A rule that need not end its match is applied to a document that fails once, or raises."""

    def count(self: Any) -> None:
        self.target = {"gone": {"$exists": True}}
        self.update = {"$inc": {"n": self.doc["v"]}, "$set": {"v": 1}}

    # With a time limit the driver itself would go on with the write, whose number the server knows.
    rules = handler(migration01__count=count, lazy_timeout=None)
    with pytest.warns(ConvergenceWarning):
        post = model(rules, v=IntField(), n=IntField())
    failing_db["post"].insert_one({"_id": 1, "v": 1, "gone": 1})
    wait = {"code": 11602, **WAIT}
    fail(failing_db, {"times": 3}, failCommands=["update"], writeConcernError=wait)
    with pytest.raises(OperationFailure):
        post.objects.get(key=1)
    assert failing_db["post"].find_one()["n"] == 1
