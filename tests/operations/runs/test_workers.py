"""Chunks in other processes: which rules go out, how workers connect, what comes back."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
from mongoengine import IntField
from pymongo.database import Database

from lazymig import History, RunOptionError
from lazymig.rules.translation import Translation
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model
from tests.support.items import (
    RULES,
    CopyingMigration,
    DoublingMigration,
    Item,
    ItemMigration,
    done,
    fill,
    stored,
)
from tests.support.translations import NUMBER, translate_by_name

COUNT = 1200


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:MongoClient opened before fork:UserWarning")
def test_processes_do_the_chunks(mongoengine_db: Database[Any], method: str) -> None:
    """Forked and spawned workers connect by themselves and do each chunk once."""
    fill(mongoengine_db, COUNT)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        report = ItemMigration(Item).migrate_all(executor=pool, chunk_size=100)
    assert [rule.modified for rule in report.rules] == [COUNT] * RULES
    assert stored(mongoengine_db) == done(COUNT)
    (run,) = History(mongoengine_db).runs()
    assert [rule.done for rule in run.rules] == [COUNT] * RULES


def test_workers_write_and_the_runner_does_not(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """The documents of a rule that reads them are neither read nor written by the runner."""
    fill(monitored_db, COUNT)
    context = multiprocessing.get_context("spawn")
    command_log.clear()
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        ItemMigration(Item).migrate_all(executor=pool, chunk_size=300)
    written = [
        body["updates"][0]["u"]
        for name, body in command_log.commands
        if name == "update" and body["update"] == "item"
    ]
    assert written
    assert not any({"w", "h"} & update.get("$set", {}).keys() for update in written)


def test_threads_share_the_connection(mongoengine_db: Database[Any]) -> None:
    """An executor of this process uses the connection that is there."""
    fill(mongoengine_db, COUNT)
    with ThreadPoolExecutor(2) as pool:
        assert ItemMigration(Item).migrate_all(executor=pool, chunk_size=100).complete
    assert stored(mongoengine_db) == done(COUNT)


def test_a_rule_that_the_server_computes_goes_to_no_worker(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule that is translated for all documents is no worker's: no pool is even made."""
    translate_by_name(monkeypatch, migration01__copy=Translation([{"$set": {"w": "$n"}}]))
    fill(mongoengine_db, COUNT)

    def make() -> ThreadPoolExecutor:
        raise AssertionError("nothing is to be computed in Python")

    report = CopyingMigration(Item).migrate_pending(executor=make, chunk_size=100)
    assert (report.complete, report.modified) == (True, COUNT)


def test_a_worker_reads_only_what_is_left_to_python(
    monitored_db: Database[Any], command_log: CommandLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a rule with two halves, a worker reads no range that MongoDB has written completely."""
    doubled = Translation([{"$set": {"w": {"$multiply": ["$n", 2]}}}], NUMBER)
    translate_by_name(monkeypatch, migration01__double=doubled)
    fill(monitored_db, COUNT)
    monitored_db["item"].update_one({"_id": 777}, {"$set": {"n": "x"}})
    command_log.clear()
    with ThreadPoolExecutor(2) as pool:
        report = DoublingMigration(Item).migrate_pending(executor=pool, chunk_size=100)
    assert (report.complete, report.modified) == (True, COUNT)
    assert {each["w"] for each in stored(monitored_db)} == {0, "xx"}
    read = [
        body["filter"]["_id"]
        for name, body in command_log.commands
        if name == "find" and body["find"] == "item" and "$expr" in str(body["filter"])
    ]
    assert [each.get("$lte") for each in read] == [799]


def test_errors_come_back_from_workers(mongoengine_db: Database[Any]) -> None:
    """A document that a worker could not migrate is in the report and in quarantine."""
    fill(mongoengine_db, COUNT)
    mongoengine_db["item"].update_one({"_id": 777}, {"$set": {"copies": "text"}})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        report = ItemMigration(Item).migrate_all(executor=pool, max_errors=5)
    assert (report.state, report.complete) == ("finished", False)
    (error,) = report.errors
    assert (error.document_id, error.rule) == (777, "allmigration02__copy")
    (entry,) = History(mongoengine_db).quarantined(report.run_id)
    assert entry.document_id == 777


def test_classes_that_cannot_be_sent_are_refused(mongoengine_db: Database[Any]) -> None:
    """A model that another process cannot import is refused before anything is written."""
    rules = handler(allmigration01__copy=copying("n", "w"))
    post = model(rules, n=IntField(), w=IntField())
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1})
    with ThreadPoolExecutor(1) as pool, pytest.raises(RunOptionError, match=r"executor: .*module"):
        rules(post).migrate_all(executor=pool)
    assert mongoengine_db.list_collection_names() == ["post"]
