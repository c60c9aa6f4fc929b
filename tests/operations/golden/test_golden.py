"""Journals that earlier versions have written: listed, resumed, retried and respected."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId, json_util
from bson.binary import UuidRepresentation
from bson.json_util import CANONICAL_JSON_OPTIONS
from mongoengine import IntField
from pymongo.database import Database

from lazymig import CollectionLocked, History, RunError
from tests.operations.golden.rules import GoldenMigration, documents
from tests.support.handlers import model

FOLDER = Path(__file__).parent
OPTIONS = CANONICAL_JSON_OPTIONS.with_options(
    uuid_representation=UuidRepresentation.STANDARD, tz_aware=False, tzinfo=None
)

FINISHED = ObjectId("66323000074325ee22733d42")
STOPPED = ObjectId("66323000074325ee22733d47")
KILLED = ObjectId("66323000074325ee22733d4b")


def _golden(database: Database[Any], name: str) -> Any:
    """The migration of a model, with a journal as it was written then."""
    text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
    database["lazymig_journal"].insert_many(json_util.loads(text, json_options=OPTIONS))
    numbers = {field: IntField() for field in ("v", "n", "m", "w")}
    return GoldenMigration(model(GoldenMigration, **numbers))


def test_its_runs_are_listed(mongoengine_db: Database[Any]) -> None:
    """Every value of a run, its rules, quarantine and samples is read as it was written."""
    _golden(mongoengine_db, "finished")
    history = History(mongoengine_db)
    bulk, lazy = history.runs()
    assert (bulk.id, bulk.state, bulk.in_quarantine, bulk.complete) == (
        FINISHED,
        "finished",
        2,
        False,
    )
    assert (lazy.note, lazy.host, lazy.pid, lazy.waited) == (
        "the release",
        "host-a",
        4242,
        {"nice": 0.5},
    )
    assert bulk.options["max_rate"] == 100_000
    (copy, count) = bulk.rules
    assert (copy.name, copy.digest, copy.state) == (
        "allmigration01__copy",
        "07e3b02434530e27",
        "done",
    )
    assert (copy.done, copy.total, copy.exact, copy.passes) == (30, 30, True, 1)
    assert (copy.matched, copy.modified, copy.quarantined) == (28, 28, 2)
    assert (copy.seconds, copy.last_id, copy.edited) == (0.25, 29, False)
    assert (count.name, count.matched) == ("allmigration02__count", 28)
    assert {each.document_id for each in history.quarantined(FINISHED)} == {7, 11}
    (sample,) = history.samples("Post")
    assert sample.remaining == {"migration01__turn": 0, "allmigration01__copy": 2}


def test_its_quarantine_is_retried(mongoengine_db: Database[Any]) -> None:
    """The documents that a run had refused then are migrated now, by their rule and those after."""
    stored = [
        {**each, "v": 2, **({} if each["_id"] in (7, 11) else {"m": each["n"] + 1, "w": 1})}
        for each in documents()
    ]
    mongoengine_db["post"].insert_many(stored)
    migration = _golden(mongoengine_db, "finished")
    assert migration.get_deprecated()["active"] == [
        "allmigration01__copy",
        "allmigration02__count",
    ]
    assert migration.retry_quarantined(FINISHED).modified == 4
    found = list(mongoengine_db["post"].find())
    assert all(each["m"] == each["n"] + 1 and each["w"] == 1 for each in found)
    assert History(mongoengine_db).quarantined() == []


def test_what_it_has_applied_is_not_applied_again(mongoengine_db: Database[Any]) -> None:
    """A rule that was noted then as applied to the whole collection is covered by that run now."""
    mongoengine_db["post"].insert_many(documents())
    migration = _golden(mongoengine_db, "finished")
    report = migration.migrate_all()
    assert [each.covered_by for each in report.rules] == [None, FINISHED]
    assert mongoengine_db["post"].count_documents({"w": 0}) == 30


def test_its_stopped_run_is_resumed(mongoengine_db: Database[Any]) -> None:
    """A run goes on after the checkpoint that was written then, with no document left or twice."""
    mongoengine_db["post"].insert_many(
        {**each, "m": each["n"] + 1, "w": int(each["_id"] < 20)} for each in documents()
    )
    migration = _golden(mongoengine_db, "stopped")
    with pytest.raises(RunError, match=str(STOPPED)):
        migration.migrate_all()
    report = migration.migrate_all(resume=True)
    assert (report.run_id, report.complete) == (STOPPED, True)
    assert mongoengine_db["post"].count_documents({"w": 1}) == 30
    run = History(mongoengine_db).run(STOPPED)
    assert (run.state, len(run.sessions), run.rules[1].edited) == ("finished", 2, False)


def test_its_expired_lease_is_taken_over(mongoengine_db: Database[Any]) -> None:
    """A run whose process was killed is dead, and is resumed after its checkpoint."""
    mongoengine_db["post"].insert_many(
        {**each, "v": 2 if each["_id"] < 10 else 1} for each in documents()
    )
    migration = _golden(mongoengine_db, "killed")
    assert History(mongoengine_db).run(KILLED).state == "dead"
    report = migration.migrate_pending(resume=True)
    assert (report.run_id, report.complete, report.modified) == (KILLED, True, 30)
    assert mongoengine_db["post"].count_documents({"v": 2}) == 30


def test_its_lease_is_respected(mongoengine_db: Database[Any]) -> None:
    """While a process of an earlier version renews its lease, no run of this one begins."""
    mongoengine_db["post"].insert_many(documents())
    migration = _golden(mongoengine_db, "killed")
    journal = mongoengine_db["lazymig_journal"]
    journal.update_one({"_id": "lease:post"}, {"$set": {"expires": datetime(2999, 1, 1)}})
    with pytest.raises(CollectionLocked, match=f"run {KILLED} on host-a"):
        migration.migrate_pending()
    assert History(mongoengine_db).run(KILLED).state == "running"
