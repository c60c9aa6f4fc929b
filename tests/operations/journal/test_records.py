"""Records that another program or version has written into the journal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import IntField
from pymongo.database import Database

from lazymig import CollectionLocked, History, RuleRun, RunError, RunNotFound
from tests.support.handlers import handler, model, rule

NOW = datetime(2024, 1, 1)
COUNT_UP = rule({}, {"$inc": {"n": 1}})
TURN = rule({"v": 1}, {"$set": {"v": 2}})
KEYS = [
    *("model", "handler", "state", "rules", "started", "heartbeat", "options", "token"),
    *("waiting", "waited", "ended", "sessions", "error", "control", "lease", "note", "pid"),
    *("control.limits", "rules.0.name", "rules.0.done", "sessions.0.at"),
]


def _migration() -> Any:
    rules = handler(migration01__turn=TURN, allmigration01__count=COUNT_UP)
    post = model(rules, v=IntField(), n=IntField())
    return rules(post)


def _copy_without(database: Database[Any], run_id: Any, key: str) -> Any:
    """Another run, as unfinished as can be, that lacks one key."""
    entry: Any = {**database["lazymig_journal"].find_one({"_id": run_id}), "_id": ObjectId()}
    entry.update(state="failed")
    *path, last = key.split(".")
    inner = entry
    for name in path:
        inner = inner[int(name) if name.isdigit() else name]
    del inner[last]
    database["lazymig_journal"].insert_one(entry)
    return entry["_id"]


@pytest.mark.parametrize("key", KEYS)
def test_a_run_of_another_version_is_named_and_left_out(
    any_db: Database[Any], caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """Lists go on without it and the log names it; whoever asks for it is told what it lacks."""
    any_db["post"].insert_many([{"_id": number, "v": 1} for number in range(3)])
    migration = _migration()
    own = migration.migrate_all().run_id
    foreign = _copy_without(any_db, own, key)
    history = History(any_db)
    assert [run.id for run in history.runs()] == [own]
    assert str(foreign) in caplog.text
    assert f"it has no {key}" in caplog.text
    with pytest.raises(RunNotFound, match="another program or version"):
        history.run(foreign)
    assert migration.migrate_all(resume=True).nothing_to_resume
    assert migration.migrate_all(again=True, keep_runs=1).complete
    assert migration.migrate_pending().complete
    assert history.prune(1) >= 0
    assert migration.get_status()[0].remaining == 0
    if key not in ("model", "handler"):
        with pytest.raises(RunNotFound, match="another program or version"):
            migration.retry_quarantined(foreign)


@pytest.mark.parametrize(
    "record",
    [
        {"kind": "quarantine", "collection": "post", "rule": "allmigration01__count"},
        {"kind": "sample", "model": "Post", "collection": "post", "remaining": []},
        {"kind": "coverage", "collection": "post", "rule": "allmigration01__count"},
        {"kind": "lease"},
        {"kind": "run"},
        {"kind": "run", "collection": "post", "model": "Post", "scope": "bulk", "rules": 7},
        {"kind": "other"},
        {"text": "a note of somebody else's"},
    ],
)
def test_anything_else_is_left_alone(any_db: Database[Any], record: dict[str, Any]) -> None:
    """Whatever else is there, everything works, and it is there still."""
    any_db["post"].insert_many([{"_id": number, "v": 1} for number in range(3)])
    any_db["lazymig_journal"].insert_one(record)
    migration = _migration()
    assert migration.migrate_all(resume=True).nothing_to_resume
    run = migration.migrate_all()
    assert run.complete
    assert migration.migrate_pending().complete
    assert migration.retry_quarantined(run.run_id).complete
    history = History(any_db)
    assert len(history.runs()) == 2
    assert history.quarantined() == []
    assert history.samples() == []
    history.prune(1)
    assert [status.remaining for status in migration.get_status()] == [0, 3]
    assert any_db["lazymig_journal"].find_one({"_id": record["_id"]}) == record


def test_a_lease_of_another_program_is_told(mongoengine_db: Database[Any]) -> None:
    """An entry in the place of a lease, which nobody here can read, is an error that says which."""
    mongoengine_db["post"].insert_one({"_id": 1, "v": 1})
    mongoengine_db["lazymig_journal"].insert_one(
        {"_id": "lease:post", "expires": datetime(2999, 1, 1), "holder": "somebody"}
    )
    with pytest.raises(CollectionLocked, match="'lease:post'"):
        _migration().migrate_all()


def test_what_a_newer_version_has_written_is_named(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A record of a later format is in no list; asked for, it is an error that names the writer."""
    mongoengine_db["post"].insert_many([{"_id": number, "v": 1} for number in range(3)])
    migration = _migration()
    newer = "its format is 2, and this version of lazymig knows 1: it was written by a newer"
    run = migration.migrate_all().run_id
    journal = mongoengine_db["lazymig_journal"]
    assert {each["format"] for each in journal.find()} == {1}
    journal.update_many({}, {"$set": {"format": 2}})
    assert History(mongoengine_db).runs() == []
    assert newer in caplog.text
    with pytest.raises(RunNotFound, match=newer):
        History(mongoengine_db).run(run)
    with pytest.raises(RunNotFound, match=newer):
        migration.retry_quarantined(run)
    with pytest.raises(RunError, match=newer):
        migration.migrate_all()


def test_a_key_that_was_added_since_has_a_default(mongoengine_db: Database[Any]) -> None:
    """A rule of an entry without a later counter reads as if the counter were at its beginning."""
    mongoengine_db["post"].insert_one({"_id": 1, "v": 1})
    run = _migration().migrate_all().run_id
    (entry,) = mongoengine_db["lazymig_journal"].find({"kind": "run"})
    (stored,) = entry["rules"]
    assert RuleRun.read(stored).to_bson() == stored
    first = {key: stored[key] for key in ("name", "digest")}
    assert RuleRun.read({**first, "of_a_newer_version": 1}) == RuleRun(**first)
    assert History(mongoengine_db).run(run).rules == (RuleRun.read(stored),)


def test_what_a_newer_version_has_begun_is_not_left_out_in_silence(
    mongoengine_db: Database[Any],
) -> None:
    """An unfinished run, a quarantine and a mark of a later format are errors where they count."""
    mongoengine_db["post"].insert_many([{"_id": number, "v": 1} for number in range(3)])
    migration = _migration()
    newer = "it was written by a newer"
    run = migration.migrate_all().run_id
    journal = mongoengine_db["lazymig_journal"]
    entry = journal.find_one({"_id": run})
    journal.insert_one({**entry, "_id": ObjectId(), "state": "failed", "format": 2})
    with pytest.raises(RunError, match=newer):
        migration.migrate_all(resume=True)
    refused = {"collection": "post", "rule": "migration01__turn", "error": "e", "type": "E"}
    journal.insert_one(
        {"kind": "quarantine", "format": 2, "run": run, "document_id": 1, **refused, "at": NOW}
    )
    with pytest.raises(RunError, match=newer):
        migration.retry_quarantined(run)
    journal.update_many({"_id.kind": "coverage"}, {"$set": {"format": 2}})
    with pytest.raises(RunError, match=newer):
        migration.migrate_all(again=True)
    assert journal.count_documents({"_id.kind": "coverage", "format": 2}) == 1


def test_a_checkpoint_keeps_keys_of_later_versions(mongoengine_db: Database[Any]) -> None:
    """A run that this version resumes keeps what a later one has added to its rules."""
    mongoengine_db["post"].insert_many([{"_id": number, "v": 1} for number in range(3)])
    migration = _migration()
    run = migration.migrate_pending().run_id
    journal = mongoengine_db["lazymig_journal"]
    added = {"state": "stopped", "rules.0.added_later": 7, "rules.0.state": "running", "format": 1}
    journal.update_one({"_id": run}, {"$set": added})
    migration.migrate_pending(resume=run)
    (rule_run,) = journal.find_one({"_id": run})["rules"]
    assert (rule_run["added_later"], rule_run["state"]) == (7, "done")
