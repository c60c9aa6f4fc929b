"""Refused documents after their session: resumed runs, reports, and what leaves the quarantine."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest
from mongoengine import DynamicField, IntField
from pymongo.database import Database

from lazymig import History, MigrationError, MigrationFailed
from tests.support.handlers import handler, model, rule
from tests.support.items import Item, ItemMigration, fill

COUNT = 30


def _double(self: Any) -> None:
    self.target = {"v": 1}
    self.update = {"$set": {"v": 2, "n": int(self.doc["n"]) * 2}}


def _double_in_bulk(self: Any) -> None:
    _double(self)


TAG = rule({"w": {"$exists": False}}, {"$set": {"w": 1}})


def _migration(database: Database[Any], scope: str, *broken: int) -> Any:
    """The migration of a model of which some documents are refused."""
    prefix = "migration" if scope == "lazy" else "allmigration"
    rules = handler(**{f"{prefix}01__double": _double_in_bulk, f"{prefix}02__tag": TAG})
    database["post"].insert_many([{"_id": n, "v": 1, "n": n} for n in range(COUNT)])
    database["post"].update_many({"_id": {"$in": broken}}, {"$set": {"n": "text"}})
    return rules(model(rules, v=IntField(), w=IntField(), n=DynamicField()))


def _run(migration: Any, scope: str, **options: Any) -> Any:
    call = migration.migrate_pending if scope == "lazy" else migration.migrate_all
    return call(chunk_size=10, **options)


def _refused(report: Any) -> list[Any]:
    return sorted(error.document_id for error in report.errors)


@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_a_resumed_run_is_not_complete_while_a_document_is_in_quarantine(
    any_db: Database[Any], scope: str
) -> None:
    """What a run has refused is in the report of the session that finishes it, as an error."""
    migration = _migration(any_db, scope, 3)
    first = _run(migration, scope)
    resumed = _run(migration, scope, resume=True)
    assert resumed.run_id == first.run_id
    assert (resumed.state, resumed.complete, _refused(resumed)) == ("finished", False, [3])
    (error,) = resumed.rules[0].errors
    assert isinstance(error, MigrationFailed)
    assert (error.problem, error.rule) == (first.errors[0].problem, first.errors[0].rule)
    with pytest.raises(MigrationError):
        resumed.raise_for_errors()
    run = History(any_db).run(first.run_id)
    assert (run.state, run.complete, run.quarantined, run.in_quarantine) == (
        "finished", False, 1, 1,
    )  # fmt: skip
    assert any_db["post"].count_documents({"v": 2, "w": 1}) == COUNT - 1


@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_two_resumes_add_up(mongoengine_db: Database[Any], scope: str) -> None:
    """Each session that is ended by a refusal carries those before; each document counts once."""
    migration = _migration(mongoengine_db, scope, 3, 13, 14, 25)
    assert _refused(_run(migration, scope)) == [3]
    assert _refused(_run(migration, scope, resume=True)) == [3, 13, 14]
    assert _refused(_run(migration, scope, resume=True)) == [3, 13, 14, 25]
    last = _run(migration, scope, resume=True)
    assert (last.state, last.complete, _refused(last)) == ("finished", False, [3, 13, 14, 25])
    assert History(mongoengine_db).run(last.run_id).in_quarantine == 4


def test_more_errors_are_allowed_when_it_goes_on(mongoengine_db: Database[Any]) -> None:
    """`max_errors` counts the refusals of the session; the report has those of the whole run."""
    migration = _migration(mongoengine_db, "bulk", 3, 13, 25)
    _run(migration, "bulk")
    report = _run(migration, "bulk", resume=True, max_errors=2)
    assert (report.state, report.complete, _refused(report)) == ("finished", False, [3, 13, 25])


def test_refused_in_one_chunk_and_stopped_in_the_next(mongoengine_db: Database[Any]) -> None:
    """A run that was stopped after a refusal carries it when it goes on."""
    migration = _migration(mongoengine_db, "lazy", 3)

    def stop(progress: Any) -> None:
        if progress.done >= 20:
            History(mongoengine_db).stop(progress.run_id)

    stopped = _run(migration, "lazy", max_errors=5, progress=stop)
    assert (stopped.state, _refused(stopped)) == ("stopped", [3])
    resumed = _run(migration, "lazy", resume=stopped.run_id)
    assert (resumed.state, resumed.complete, _refused(resumed)) == ("finished", False, [3])


def test_a_retry_completes_the_run(mongoengine_db: Database[Any]) -> None:
    """Once a retry has migrated what was refused, the run is complete and its rules can go."""
    migration = _migration(mongoengine_db, "lazy", 3)
    _run(migration, "lazy")
    report = _run(migration, "lazy", resume=True)
    mongoengine_db["post"].update_one({"_id": 3}, {"$set": {"n": 3}})
    assert migration.retry_quarantined(report.run_id).complete
    run = History(mongoengine_db).run(report.run_id)
    assert (run.complete, run.quarantined, run.in_quarantine) == (True, 1, 0)
    assert migration.get_deprecated()["active"] == []


@pytest.mark.parametrize("mended", ["by hand", "by a load", "deleted"])
def test_what_is_up_to_date_by_now_leaves_the_quarantine(
    mongoengine_db: Database[Any], mended: str
) -> None:
    """A document that needs no rule any more is no refusal of the run that goes on."""
    migration = _migration(mongoengine_db, "lazy", 3, 4)
    first = _run(migration, "lazy")
    assert _refused(first) == [3, 4]
    if mended == "by hand":
        mongoengine_db["post"].replace_one({"_id": 3}, {"v": 2, "w": 1, "n": 6})
    elif mended == "by a load":
        mongoengine_db["post"].update_one({"_id": 3}, {"$set": {"n": 3}})
        migration.migrate(3)
    else:
        mongoengine_db["post"].delete_one({"_id": 3})
    resumed = _run(migration, "lazy", resume=True)
    assert (resumed.complete, _refused(resumed)) == (False, [4])
    assert [each.document_id for each in History(mongoengine_db).quarantined(first.run_id)] == [4]
    mongoengine_db["post"].delete_one({"_id": 4})
    assert migration.get_deprecated()["active"] == []


def test_what_was_half_mended_stays(mongoengine_db: Database[Any]) -> None:
    """A document that still waits for a rule after the one that failed stays in quarantine."""
    migration = _migration(mongoengine_db, "bulk", 3)
    _run(migration, "bulk")
    mongoengine_db["post"].update_one({"_id": 3}, {"$set": {"v": 2, "n": 6}})
    resumed = _run(migration, "bulk", resume=True)
    assert (resumed.complete, _refused(resumed)) == (False, [3])
    # No document matches the first rule, but one waits for it in quarantine.
    assert migration.get_deprecated() == {
        "deprecated": [],
        "active": ["allmigration01__double", "allmigration02__tag"],
    }
    assert [(s.remaining, s.quarantined, s.removable) for s in migration.get_status()] == [
        (0, 1, False),
        (1, 0, False),
    ]
    assert migration.retry_quarantined(resumed.run_id).complete
    assert migration.get_deprecated()["active"] == []


def test_a_later_run_speaks_for_all_documents(mongoengine_db: Database[Any]) -> None:
    """What a later run over the same rules has not refused waits for none of them any more."""
    migration = _migration(mongoengine_db, "bulk", 3, 4)
    _run(migration, "bulk", max_errors=5)
    mongoengine_db["post"].update_one({"_id": 3}, {"$set": {"n": 3}})
    assert _refused(_run(migration, "bulk", max_errors=5)) == [4]
    assert [status.quarantined for status in migration.get_status()] == [1, 0]
    mongoengine_db["post"].update_one({"_id": 4}, {"$set": {"n": 4}})
    assert _run(migration, "bulk").complete
    assert migration.get_deprecated()["active"] == []


def test_the_quarantine_of_another_journal(mongoengine_db: Database[Any]) -> None:
    """A journal with a name of its own is looked at where it is named."""
    migration = _migration(mongoengine_db, "bulk", 3)
    _run(migration, "bulk", journal="notes", max_errors=1)
    mongoengine_db["post"].update_one({"_id": 3}, {"$set": {"v": 2}})
    assert migration.get_deprecated()["active"] == ["allmigration02__tag"]
    assert len(migration.get_deprecated(journal="notes")["active"]) == 2
    assert migration.get_status(journal="notes")[0].quarantined == 1


def test_what_workers_have_refused_is_carried(mongoengine_db: Database[Any]) -> None:
    """A run in other processes carries its refusals as one in this process does."""
    fill(mongoengine_db, 1200)
    mongoengine_db["item"].update_one({"_id": 777}, {"$set": {"copies": "text"}})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert ItemMigration(Item).migrate_all(executor=pool).state == "failed"
        resumed = ItemMigration(Item).migrate_all(executor=pool, resume=True)
    assert (resumed.state, resumed.complete, _refused(resumed)) == ("finished", False, [777])
