"""Rules whose targets do not tell that they were applied: applied once to a collection."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import IntField, StringField
from pymongo.database import Database

from lazymig import History, RunError, RunOptionError
from lazymig.operations.journal.coverage import Coverage
from tests.support.handlers import handler, model, rule
from tests.support.items import MixedMigration

TURN = rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"turned": 1}})
COUNT_UP = rule({}, {"$inc": {"n": 1}})


def _post(rules: Any) -> Any:
    numbers = {name: IntField() for name in ("v", "n", "turned", "hashed")}
    return model(rules, h=StringField(), **numbers)


def _insert(database: Any, ids: Any, **more: Any) -> None:
    database["post"].insert_many([{"_id": each, "v": 1, "n": 0, **more} for each in ids])


def _values(database: Any, *names: str) -> set[Any]:
    return {tuple(raw.get(name) for name in names) for raw in database["post"].find()}


def _stopping(progress: Any) -> None:
    if not progress.finished:
        History(_stopping.database).stop(progress.run_id)  # type: ignore[attr-defined]


def _stop_early(database: Any, migration: Any, **options: Any) -> Any:
    """A run that is stopped behind its first chunk."""
    _stopping.database = database  # type: ignore[attr-defined]
    report = migration.migrate_all(chunk_size=10, progress=_stopping, **options)
    assert report.state == "stopped"
    return report


def test_a_rule_that_covers_a_collection_is_not_applied_again(
    any_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A second call leaves a rule alone that was applied to all, and tells by which run."""
    _insert(any_db, range(30))
    rules = handler(allmigration01__count=COUNT_UP)
    first = rules(_post(rules)).migrate_all()
    _insert(any_db, range(30, 40))
    second = rules(_post(rules)).migrate_all()
    assert _values(any_db, "n") == {(1,), (0,)}
    (told,) = second.rules
    assert (told.covered_by, told.matched, told.modified) == (first.run_id, 0, 0)
    assert (second.complete, second.run_id) == (True, None)
    assert "again=True" in caplog.text
    assert len(History(any_db).runs()) == 1


def test_it_is_applied_again_where_the_user_says_so(any_db: Database[Any]) -> None:
    """`again=True` applies it once more; with `resume` it is refused."""
    _insert(any_db, range(30))
    rules = handler(allmigration01__count=COUNT_UP)
    migration = rules(_post(rules))
    migration.migrate_all()
    assert migration.migrate_all(again=True).modified == 30
    assert _values(any_db, "n") == {(2,)}
    with pytest.raises(RunOptionError, match="excludes resume"):
        migration.migrate_all(again=True, resume=True)
    assert migration.migrate_all().modified == 0


def test_another_text_is_another_rule(any_db: Database[Any]) -> None:
    """A rule that was edited since is applied."""
    _insert(any_db, range(30))
    first, second = (
        handler(allmigration01__count=rule({}, {"$inc": {"n": step}})) for step in (1, 10)
    )
    first(_post(first)).migrate_all()
    assert second(_post(second)).migrate_all().modified == 30
    assert _values(any_db, "n") == {(11,)}


def test_the_other_rules_of_the_call_are_applied(any_db: Database[Any]) -> None:
    """A rule that ends its match meets what is new, beside one that is left alone."""
    _insert(any_db, range(30))
    rules = handler(allmigration01__turn=TURN, allmigration02__count=COUNT_UP)
    migration = rules(_post(rules))
    first = migration.migrate_all()
    _insert(any_db, range(30, 40))
    told: list[Any] = []
    second = migration.migrate_all(progress=told.append)
    assert [(each.modified, each.covered_by) for each in second.rules] == [
        (10, None),
        (0, first.run_id),
    ]
    assert _values(any_db, "v", "turned", "n") == {(2, 1, 1), (2, 1, 0)}
    assert told[-1].finished
    newest = History(any_db).runs()[0]
    assert [each.state for each in newest.rules] == ["done", "skipped"]
    assert migration.migrate_all().rules[1].covered_by == first.run_id


def test_a_part_is_not_begun_anew(mongoengine_db: Database[Any]) -> None:
    """After a run that has met a part, a new one is refused before it writes; `resume` goes on."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__count=COUNT_UP)
    migration = rules(_post(rules))
    broken = _stop_early(mongoengine_db, migration)
    before = list(mongoengine_db["post"].find())
    with pytest.raises(RunError, match=f"migrate_all\\(resume='{broken.run_id}'\\)") as caught:
        migration.migrate_all()
    assert caught.value.run == broken.run_id
    assert list(mongoengine_db["post"].find()) == before
    assert migration.migrate_all(resume=True).complete
    assert _values(mongoengine_db, "n") == {(1,)}


def test_a_run_does_not_go_on_with_what_another_has_covered(
    mongoengine_db: Database[Any],
) -> None:
    """The rest of a run is left alone where a later run has been past every document."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__turn=TURN, allmigration02__count=COUNT_UP)
    migration = rules(_post(rules))
    broken = _stop_early(mongoengine_db, migration)
    later = migration.migrate_all(again=True)
    assert migration.migrate_all(resume=True).nothing_to_resume
    resumed = migration.migrate_all(resume=broken.run_id)
    assert (resumed.state, resumed.rules[1].covered_by) == ("finished", later.run_id)
    assert _values(mongoengine_db, "turned", "n") == {(1, 1)}


def test_a_run_goes_on_with_what_it_was_to_apply_again(mongoengine_db: Database[Any]) -> None:
    """What `again=True` was said of is applied again after a resume, too."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__turn=TURN, allmigration02__count=COUNT_UP)
    migration = rules(_post(rules))
    migration.migrate_all()
    mongoengine_db["post"].update_many({}, {"$set": {"v": 1}})
    _stop_early(mongoengine_db, migration, again=True)
    assert migration.migrate_all(resume=True).complete
    assert _values(mongoengine_db, "n") == {(2,)}
    assert migration.migrate_all().rules[1].covered_by is not None


def test_a_former_text_that_comes_back_is_known(any_db: Database[Any]) -> None:
    """A deploy with another text of a rule was taken back: what the first has done is done."""
    _insert(any_db, range(5))
    rules = handler(allmigration01__count=COUNT_UP)
    first = rules(_post(rules)).migrate_all()
    others = handler(allmigration01__count=rule({}, {"$inc": {"turned": 1}}))
    others(_post(others)).migrate_all()
    again = rules(_post(rules)).migrate_all()
    assert again.rules[0].covered_by == first.run_id
    assert _values(any_db, "n", "turned") == {(1, 1)}


def test_a_run_that_cannot_go_on_is_not_running(mongoengine_db: Database[Any]) -> None:
    """Where another run has begun with the rest of its rules, a run stays as it was: stopped."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__turn=TURN, allmigration02__count=COUNT_UP)
    migration = rules(_post(rules))
    first = _stop_early(mongoengine_db, migration)

    def stopping(progress: Any) -> None:
        if progress.rule == "allmigration02__count":
            _stopping(progress)

    migration.migrate_all(chunk_size=10, progress=stopping)
    with pytest.raises(RunError, match="a part of"):
        migration.migrate_all(resume=first.run_id)
    assert History(mongoengine_db).run(first.run_id).state == "stopped"


@pytest.mark.parametrize("step", ["begun", "done"])
def test_a_runner_that_was_stopped_takes_no_mark_back(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """What a thawed runner notes last says nothing about the run that has finished since."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__count=COUNT_UP)
    migration = rules(_post(rules))
    notes, former = list[Any](), getattr(Coverage, step)

    def noting(*arguments: Any, **options: Any) -> None:
        notes.append(lambda: former(*arguments, **options))
        former(*arguments, **options)

    monkeypatch.setattr(Coverage, step, noting)
    first = migration.migrate_all()
    broken = first
    if step == "done":
        broken = _stop_early(mongoengine_db, migration, again=True)
    notes[0]()
    if step == "done":
        with pytest.raises(RunError, match=str(broken.run_id)):
            migration.migrate_all()
    else:
        assert migration.migrate_all().rules[0].covered_by == first.run_id


def test_it_is_known_longer_than_the_run(any_db: Database[Any]) -> None:
    """Neither retention nor another journal makes a rule forget that it was applied."""
    _insert(any_db, range(30))
    rules = handler(
        migration01__turn=TURN, allmigration01__count=COUNT_UP, allmigration02__turn=TURN
    )
    migration = rules(_post(rules))
    first = migration.migrate_all(keep_runs=1)
    for _ in range(2):
        migration.migrate_pending(keep_runs=1)
    assert first.run_id not in [run.id for run in History(any_db).runs()]
    assert migration.migrate_all(journal="another").rules[0].covered_by == first.run_id
    assert _values(any_db, "n") == {(1,)}


def test_a_computed_rule_is_judged_by_what_it_wrote(any_db: Database[Any]) -> None:
    """What ended the match of all documents meets new ones; what has not is left alone then."""
    post = _post(MixedMigration)
    _insert(any_db, range(5))
    assert MixedMigration(post).migrate_all().modified == 5
    _insert(any_db, range(5, 10), hashed=0)
    any_db["post"].update_one({"_id": 7}, {"$set": {"v": 7}})
    second = MixedMigration(post).migrate_all()
    assert second.modified == 5
    assert MixedMigration(post).migrate_all().rules[0].covered_by == second.run_id
    assert [raw["hashed"] for raw in any_db["post"].find().sort("_id")] == [1] * 10


def test_a_rule_by_hand_is_applied_once(any_db: Database[Any]) -> None:
    """Of a rule that writes by itself nothing is known, so it is not applied again either."""

    def by_hand(self: Any) -> None:
        self.target = {"v": 1}
        if not self.status:
            self.collection.update_many({"v": 1}, {"$inc": {"n": 1}})

    _insert(any_db, range(3))
    rules = handler(allmigration01__by_hand=by_hand)
    first = rules(_post(rules)).migrate_all()
    assert rules(_post(rules)).migrate_all().rules[0].covered_by == first.run_id
    assert _values(any_db, "n") == {(1,)}


def test_what_was_refused_is_told_still(mongoengine_db: Database[Any]) -> None:
    """A call that does nothing is not complete while a document of its rules is in quarantine."""
    _insert(mongoengine_db, range(3))
    mongoengine_db["post"].update_one({"_id": 1}, {"$set": {"n": "text"}})
    rules = handler(allmigration01__count=COUNT_UP)
    migration = rules(_post(rules))
    assert migration.migrate_all(max_errors=5).state == "finished"
    for options in ({}, {"resume": True}):
        report = migration.migrate_all(**options)
        assert (report.state, report.complete) == ("finished", False)
        assert [error.document_id for error in report.errors] == [1]
    assert sorted(raw["n"] for raw in mongoengine_db["post"].find({"_id": {"$ne": 1}})) == [1, 1]
