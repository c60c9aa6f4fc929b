"""Rules of which only the computed updates tell whether a chunk may be done again."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mongoengine import IntField, StringField
from pymongo.database import Database

from lazymig import History
from lazymig.operations.runs import runner as runs
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model
from tests.support.items import (
    Item,
    MixedMigration,
    RaisingMigration,
    fill,
    hash_of,
    stored,
)

COUNT = 1200
LASTING = 777


def _hash(self: Any) -> None:
    self.target = {"h": {"$exists": False}}
    self.update = {"$set": {"h": hash_of(self.doc["n"])}, "$inc": {"hashed": 1}}


def _hash_some(self: Any) -> None:
    self.target = {"h": {"$exists": False}}
    if hash_of(self.doc["n"]) != hash_of(1):
        self.update = {"$set": {"h": "x"}, "$inc": {"hashed": 1}}


def _hash_those_it_applies_to(self: Any) -> None:
    self.target = {"h": {"$exists": False}}
    self.update = {"$set": {"h": "x"}}
    if hash_of(self.doc["n"]) == hash_of(1):
        self.target = None


def _post(rules: Any) -> Any:
    return model(rules, n=IntField(), hashed=IntField(), h=StringField())


def _insert(database: Database[Any], numbers: Any, n: int = 0) -> None:
    database["post"].insert_many([{"_id": number, "n": n} for number in numbers])


def _times(database: Database[Any]) -> set[Any]:
    return {raw.get("hashed") for raw in database["post"].find()}


def _transactions(log: CommandLog) -> int:
    return log.names.count("commitTransaction")


def _processes() -> Executor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


def _threads() -> Executor:
    return ThreadPoolExecutor(2)


def test_updates_that_end_their_match_need_no_transaction(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Where each computed update ends the match of its document, no transaction is opened."""
    _insert(monitored_db, range(COUNT))
    rules = handler(allmigration01__hash=_hash)
    report = rules(_post(rules)).migrate_all(chunk_size=100)
    assert report.modified == COUNT
    assert _times(monitored_db) == {1}
    assert _transactions(command_log) == 0


@pytest.mark.parametrize("executor", [None, _threads, _processes])
@pytest.mark.parametrize("lasting", [0, LASTING, COUNT - 1])
def test_an_update_that_may_not_be_repeated_is_left_to_a_transaction(
    monitored_db: Database[Any],
    command_log: CommandLog,
    executor: Callable[[], Executor] | None,
    lasting: int,
) -> None:
    """From the first chunk with such an update on, each is one transaction with its checkpoint."""
    fill(monitored_db, COUNT)
    monitored_db["item"].update_one({"_id": lasting}, {"$set": {"v": 7}})
    report = MixedMigration(Item).migrate_all(chunk_size=100, executor=executor)
    assert (report.matched, report.modified, report.errors) == (COUNT, COUNT, ())
    assert [raw["hashed"] for raw in stored(monitored_db)] == [1] * COUNT
    assert [raw["_id"] for raw in stored(monitored_db) if "h" not in raw] == [lasting]
    # What was out when it was met had no such update, and is done.
    most = (COUNT - lasting // 100 * 100) // 100
    least = 1 if executor else most
    assert least <= _transactions(command_log) <= most
    (run,) = History(monitored_db).runs()
    assert run.rules[0].done == COUNT


def test_what_was_learned_is_not_forgotten(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A run that is resumed knows that it has met an update that must not be repeated."""
    fill(monitored_db, COUNT)
    monitored_db["item"].update_one({"_id": 50}, {"$set": {"v": 7}})
    history = History(monitored_db)

    def stop(progress: Any) -> None:
        if progress.done == 300:
            history.stop(progress.run_id)

    migration = MixedMigration(Item)
    assert not migration.migrate_all(chunk_size=100, progress=stop).complete
    (run,) = history.runs()
    command_log.clear()
    assert migration.migrate_all(chunk_size=100, resume=True).complete
    assert _transactions(command_log) == (COUNT - run.rules[0].done) // 100
    assert [raw["hashed"] for raw in stored(monitored_db)] == [1] * COUNT


def test_documents_inserted_meanwhile_are_met(mongoengine_db: Database[Any]) -> None:
    """What is inserted behind the walk is met as well if all updates so far have ended a match."""
    _insert(mongoengine_db, range(1000, 4000))
    late = iter(range(5))

    def insert_one_behind() -> None:
        number = next(late, None)
        if number is not None:
            _insert(mongoengine_db, [number])

    rules = handler(allmigration01__hash=_hash)
    report = rules(_post(rules)).migrate_all(chunk_size=1000, throttle=insert_one_behind)
    assert next(late, None) is None
    assert (report.modified, _times(mongoengine_db)) == (3005, {1})


def test_no_second_look_where_a_match_may_last(mongoengine_db: Database[Any]) -> None:
    """Once an update has left a match behind, no document is met by a last pass."""
    fill(mongoengine_db, COUNT)
    mongoengine_db["item"].update_many({}, {"$set": {"v": 7}})
    report = MixedMigration(Item).migrate_all(chunk_size=500)
    assert report.modified == COUNT
    assert {raw["hashed"] for raw in stored(mongoengine_db)} == {1}


@pytest.mark.parametrize("alone", [3, 1100])
def test_what_a_rule_sets_no_update_for_is_refused(
    mongoengine_db: Database[Any], alone: int
) -> None:
    """Documents that match, and for which a rule sets no update, are told of and put aside."""
    _insert(mongoengine_db, range(COUNT))
    _insert(mongoengine_db, range(COUNT, COUNT + alone), n=1)
    rules = handler(allmigration01__some=_hash_some)
    report = rules(_post(rules)).migrate_all(chunk_size=500, max_errors=alone)
    assert (report.state, report.complete, report.modified) == ("finished", False, COUNT)
    assert all("sets no update" in str(error) for error in report.errors)
    assert mongoengine_db["post"].count_documents({"hashed": 1}) == COUNT
    assert {error.document_id for error in report.errors} == set(range(COUNT, COUNT + alone))
    left = list(History(mongoengine_db).quarantined(report.run_id))
    assert left
    assert all("sets no update" in entry.error for entry in left)


@pytest.mark.parametrize("scope", ["migration", "allmigration"])
def test_what_a_rule_does_not_apply_to_is_no_error(
    mongoengine_db: Database[Any], scope: str
) -> None:
    """Documents for which a rule takes its target back stay as they are, and are not put aside."""
    _insert(mongoengine_db, range(30))
    _insert(mongoengine_db, range(30, 40), n=1)
    rules = handler(**{f"{scope}01__some": _hash_those_it_applies_to})
    migration = rules(_post(rules))
    run = migration.migrate_pending if scope == "migration" else migration.migrate_all
    report = run(chunk_size=20)
    assert (report.complete, report.errors, report.modified) == (True, (), 30)
    assert mongoengine_db["post"].count_documents({"h": {"$exists": False}}) == 10


RUNS: dict[str, dict[str, Any]] = {
    "chunks": {"chunk_size": 30},
    "one piece": {"chunk_size": None},
    "transactions": {"chunk_size": 30, "transactions": True},
    "backup": {"chunk_size": 30},
    "threads": {"chunk_size": 30, "executor": _threads},
}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("has_transactions", [True, False])
def test_a_run_of_every_kind_refuses_what_would_match_again(
    mongoengine_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kind: str,
    has_transactions: bool,
) -> None:
    """Documents whose match would not end are refused unwritten; all others have the rule once."""
    if not has_transactions:
        monkeypatch.setattr(runs, "has_transactions", lambda _collection: False)
    mongoengine_db["item"].insert_many(
        [{"_id": each, "v": 7 if each % 10 == 0 else 1, "w": 1} for each in range(100)]
    )
    options = {**RUNS[kind], **({"backup": tmp_path / "b"} if kind == "backup" else {})}
    report = RaisingMigration(Item).migrate_pending(max_errors=10, **options)
    assert (report.state, report.complete, report.modified) == ("finished", False, 90)
    assert {error.document_id for error in report.errors} == set(range(0, 100, 10))
    for raw in stored(mongoengine_db):
        refused = raw["_id"] % 10 == 0
        assert (raw["w"], raw.get("hashed")) == ((1, None) if refused else (11, 1))
