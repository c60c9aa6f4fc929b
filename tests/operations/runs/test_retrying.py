"""Documents in quarantine that are tried once more: when that may be done, and what it leaves.

And how a run is named, to retry it or to resume it.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import DynamicField, IntField
from pymongo.database import Database

from lazymig import (
    CollectionLocked,
    ConvergenceWarning,
    History,
    RuleChanged,
    RunError,
    RunNotFound,
    RunOptionError,
)
from lazymig.engines.access import by_ids
from lazymig.engines.bulk import Work
from lazymig.operations.journal.quarantine import Quarantine
from lazymig.operations.runs.options import Options
from tests.support.handlers import handler, model, rule

COUNT_N = rule({}, {"$inc": {"n": 1}})
COUNT_W = rule({}, {"$inc": {"w": 1}})


def _counting(field: str) -> Any:
    """A rule that counts up a number, and raises where it is none."""

    def method(self: Any) -> None:
        self.target = {}
        self.update = {"$inc": {field: 1 + 0 * int(self.doc[field])}}

    return method


TURN = rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"n": 1}})


def _migration(database: Database[Any], rules: Any, count: int = 300) -> Any:
    """The migration of a model with these rules, over documents of which some are refused."""
    database["post"].insert_many([{"_id": each, "v": 1, "n": 0, "w": 0} for each in range(count)])
    return _with(rules)


def _with(rules: Any, **body: Any) -> Any:
    numbers = {name: IntField() for name in ("v", "n", "w")}
    return rules(model(rules, **{**numbers, "a": DynamicField(), **body}))


def _break(database: Database[Any], *document_ids: int, field: str = "n") -> None:
    database["post"].update_many({"_id": {"$in": document_ids}}, {"$set": {field: "text"}})


def _mend(database: Database[Any], *document_ids: int, field: str = "n") -> None:
    database["post"].update_many({"_id": {"$in": document_ids}}, {"$set": {field: 0}})


def _counts(database: Database[Any]) -> set[Any]:
    return {(raw["n"], raw["w"]) for raw in database["post"].find()}


def _left(database: Database[Any], report: Any) -> dict[Any, str]:
    found = History(database).quarantined(report.run_id)
    return {entry.document_id: entry.rule for entry in found}


def test_a_run_that_has_not_finished_is_resumed_first(mongoengine_db: Database[Any]) -> None:
    """A retry of a failed run is refused; `resume` and then the retry do each rule once."""
    rules = handler(allmigration01__n=COUNT_N, allmigration02__w=COUNT_W)
    migration = _migration(mongoengine_db, rules)
    _break(mongoengine_db, 123)
    report = migration.migrate_all(chunk_size=100)
    assert report.state == "failed"
    _mend(mongoengine_db, 123)
    before = [*mongoengine_db["post"].find(), *mongoengine_db["lazymig_journal"].find()]
    with pytest.raises(RunError, match=f"migrate_all.resume='{report.run_id}'") as raised:
        migration.retry_quarantined(report.run_id)
    assert raised.value.run == report.run_id
    assert [*mongoengine_db["post"].find(), *mongoengine_db["lazymig_journal"].find()] == before

    resumed = migration.migrate_all(chunk_size=100, resume=True)
    assert (resumed.state, [error.document_id for error in resumed.errors]) == ("finished", [123])
    assert mongoengine_db["post"].find_one({"_id": 123}) == {"_id": 123, "v": 1, "n": 0, "w": 0}
    assert _left(mongoengine_db, report) == {123: "allmigration01__n"}
    assert migration.retry_quarantined(report.run_id).complete
    assert _counts(mongoengine_db) == {(1, 1)}
    assert _left(mongoengine_db, report) == {}


@pytest.mark.parametrize("state", ["stopped", "running"])
def test_a_run_that_was_stopped_or_killed_is_resumed_first(
    mongoengine_db: Database[Any], state: str
) -> None:
    """Whatever has kept a run from its end, a retry of it is refused, and nothing is migrated."""
    migration = _migration(mongoengine_db, handler(migration01__turn=TURN))
    _break(mongoengine_db, 7)

    def stop(progress: Any) -> None:
        History(mongoengine_db).stop(progress.run_id)

    report = migration.migrate_pending(chunk_size=100, max_errors=9, progress=stop)
    assert report.state == "stopped"
    # A killed run's entry says until the end of time that it runs.
    mongoengine_db["lazymig_journal"].update_one({"_id": report.run_id}, {"$set": {"state": state}})
    _mend(mongoengine_db, 7)
    with pytest.raises(RunError, match="has not finished; resume it with migrate_pending"):
        migration.retry_quarantined(report.run_id)
    assert _left(mongoengine_db, report) == {7: "migration01__turn"}
    assert mongoengine_db["post"].find_one({"_id": 7}) == {"_id": 7, "v": 1, "n": 0, "w": 0}


def test_a_retry_beside_a_run_is_refused(mongoengine_db: Database[Any]) -> None:
    """While a run is at work nothing is retried, be it that run's documents or another's."""
    migration = _migration(mongoengine_db, handler(allmigration01__n=COUNT_N))
    _break(mongoengine_db, 7)
    first = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 7)
    refused: list[Any] = []

    def retry(run_id: Any) -> None:
        try:
            migration.retry_quarantined(run_id)
        except CollectionLocked as exc:
            refused.append(exc.run)

    def watch(progress: Any) -> None:
        for run_id in (first.run_id, progress.run_id) if not refused else ():
            thread = threading.Thread(target=retry, args=(run_id,))
            thread.start()
            thread.join()

    second = migration.migrate_all(chunk_size=100, progress=watch, again=True)
    assert refused == [second.run_id] * 2
    assert _left(mongoengine_db, first) == {7: "allmigration01__n"}


def test_a_second_retry_finds_nothing(any_db: Database[Any]) -> None:
    """What a retry has migrated is not migrated again by another one."""
    rules = handler(allmigration01__n=_counting("n"), allmigration02__w=_counting("w"))
    migration = _migration(any_db, rules, 10)
    _break(any_db, 3, 4)
    report = migration.migrate_all(max_errors=9)
    _mend(any_db, 3, 4)
    assert migration.retry_quarantined(report.run_id).modified == 4
    again = migration.retry_quarantined(report.run_id)
    assert (again.rules, again.complete) == ((), True)
    assert _counts(any_db) == {(1, 1)}


def test_a_document_that_a_later_rule_refuses_waits_for_that_rule(any_db: Database[Any]) -> None:
    """A rule that a retry has applied is not applied again by the next; the refused one is."""
    rules = handler(allmigration01__n=_counting("n"), allmigration02__w=_counting("w"))
    migration = _migration(any_db, rules, 10)
    _break(any_db, 3, 4)
    report = migration.migrate_all(max_errors=9)
    _mend(any_db, 3, 4)
    _break(any_db, 3, field="w")
    retried = migration.retry_quarantined(report.run_id)
    assert [error.document_id for error in retried.errors] == [3]
    assert retried.state == "failed"
    assert _left(any_db, report) == {3: "allmigration02__w"}
    _mend(any_db, 3, field="w")
    assert migration.retry_quarantined(report.run_id).complete
    assert _counts(any_db) == {(1, 1)}
    assert _left(any_db, report) == {}


def test_a_rule_of_another_name_empties_no_quarantine(mongoengine_db: Database[Any]) -> None:
    """Documents that are in quarantine for a rule that the handler has not are not released."""
    migration = _migration(mongoengine_db, handler(allmigration01__old=TURN), 10)
    _break(mongoengine_db, 3)
    report = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 3)
    renamed = _with(handler(allmigration01__new=TURN))
    with pytest.raises(RuleChanged, match=r"Post\.allmigration01__old: .*; give the rule its"):
        renamed.retry_quarantined(report.run_id)
    assert _left(mongoengine_db, report) == {3: "allmigration01__old"}
    assert mongoengine_db["post"].find_one({"_id": 3}) == {"_id": 3, "v": 1, "n": 0, "w": 0}
    assert migration.retry_quarantined(report.run_id).modified == 1


def test_another_model_empties_no_quarantine(mongoengine_db: Database[Any]) -> None:
    """The documents that a run of one model has refused are not retried by another model."""
    rules = handler(allmigration01__turn=TURN)
    migration = _migration(mongoengine_db, rules, 10)
    _break(mongoengine_db, 3)
    report = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 3)
    with pytest.raises(RuleChanged, match="is one of Post, not of Letter"):
        _with(rules, name_of_class="Letter").retry_quarantined(report.run_id)
    assert _left(mongoengine_db, report) == {3: "allmigration01__turn"}


@pytest.mark.parametrize("later", [rule({}, {"$set": {"w": 1}}), COUNT_W])
def test_a_document_that_still_matches_stays(any_db: Database[Any], later: Any) -> None:
    """What still matches its rule after the retry keeps that error and gets no later rule."""
    any_db["post"].insert_many([{"_id": 1, "a": [{"b": 1}]}, {"_id": 2, "a": {"b": 1}}])
    rules = handler(
        allmigration01__b=rule({"a.b": {"$exists": True}}, {"$unset": {"a.b": ""}}),
        allmigration02__w=later,
    )
    migration = _with(rules)
    report = migration.migrate_all(max_errors=9)
    (told,) = History(any_db).quarantined(report.run_id)
    assert told.document_id == 1
    retried = migration.retry_quarantined(report.run_id)
    assert retried.state == "failed"
    assert [error.document_id for error in retried.errors] == [1]
    (again,) = History(any_db).quarantined(report.run_id)
    assert (again.rule, again.error) == (told.rule, told.error)
    assert any_db["post"].find_one({"_id": 1}) == {"_id": 1, "a": [{"b": 1}]}


class Killed(BaseException):
    """What ends a retry in these tests as a kill would: nothing is cleaned up behind it."""


def _until_not_killed(migration: Any, run_id: Any, monkeypatch: pytest.MonkeyPatch) -> int:
    """Retry again and again, each time killed one step later, until one comes to its end."""
    quarantine, steps = Quarantine.add, 0

    for kills in range(20):
        steps = 0

        def noted(*given: Any, last: int = kills, **named: Any) -> None:
            nonlocal steps
            steps += 1
            if steps > last:
                raise Killed
            quarantine(*given, **named)

        monkeypatch.setattr(Quarantine, "add", noted)
        try:
            assert migration.retry_quarantined(run_id).complete
        except Killed:
            continue
        return kills
    raise AssertionError


def _count_from_document(self: Any) -> None:
    self.target = {"v": 1}
    self.update = {"$inc": {"n": self.doc["v"]}}


@pytest.mark.parametrize("first", [COUNT_N, _count_from_document])
def test_a_killed_retry_repeats_nothing(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    """Wherever a retry is killed, the next one applies no rule again to a document that has it."""
    rules = handler(allmigration01__n=first, allmigration02__w=COUNT_W)
    migration = _migration(mongoengine_db, rules, 10)
    _break(mongoengine_db, 3, 4, 5)
    report = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 3, 4, 5)
    assert _until_not_killed(migration, report.run_id, monkeypatch) > 1
    assert _counts(mongoengine_db) == {(1, 1)}
    assert _left(mongoengine_db, report) == {}


@pytest.mark.parametrize("first", [COUNT_N, _count_from_document])
def test_one_refused_document_holds_up_no_other(mongoengine_db: Database[Any], first: Any) -> None:
    """Of documents that are retried together the refused one alone stays, with its error."""
    rules = handler(allmigration01__n=first, allmigration02__w=COUNT_W)
    migration = _migration(mongoengine_db, rules, 10)
    _break(mongoengine_db, 3, 4, 5)
    report = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 3, 5)
    retried = migration.retry_quarantined(report.run_id)
    assert [error.document_id for error in retried.errors] == [4]
    assert "MongoDB refused the update: Cannot apply $inc" in str(retried.errors[0])
    assert [each.modified for each in retried.rules] == [2, 2]
    assert _left(mongoengine_db, report) == {4: "allmigration01__n"}
    _mend(mongoengine_db, 4)
    assert migration.retry_quarantined(report.run_id).complete
    assert _counts(mongoengine_db) == {(1, 1)}


def test_rules_that_a_failed_load_starts(mongoengine_db: Database[Any]) -> None:
    """What no match starts is retried for documents that do not load; who still matches stays."""
    mongoengine_db["post"].insert_many(
        [{"_id": each, "n": each, "lost": 1, "a": 5} for each in (1, 2)]
    )
    mending = rule({"n": {"$gte": 0}}, {"$unset": {"lost": ""}, "$set": {"a.b": 1}})
    with pytest.warns(ConvergenceWarning):
        migration = _with(handler(migration01__mend=mending))
    report = migration.migrate_pending(max_errors=9)
    assert sorted(_left(mongoengine_db, report)) == [1, 2]
    mongoengine_db["post"].update_one({"_id": 2}, {"$set": {"a": {}}})
    retried = migration.retry_quarantined(report.run_id)
    reasons = {error.document_id: str(error) for error in retried.errors}
    assert "MongoDB refused the update" in reasons[1]
    assert "still matches after the rule was applied" in reasons[2]
    assert _left(mongoengine_db, report) == dict.fromkeys((1, 2), "migration01__mend")
    assert mongoengine_db["post"].find_one({"_id": 2}) == {"_id": 2, "n": 2, "a": {"b": 1}}


def test_writes_of_others_are_waited_for(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document that somebody else is writing holds up no other, and gets its rules behind it."""
    rules = handler(allmigration01__n=COUNT_N)
    migration = _migration(mongoengine_db, rules, 10)
    _break(mongoengine_db, 3, 4, 5)
    report = migration.migrate_all(max_errors=9)
    _mend(mongoengine_db, 3, 4, 5)
    apply, met = Work.apply, []
    with mongoengine_db.client.start_session() as other, other.start_transaction():
        mongoengine_db["post"].update_one({"_id": 4}, {"$inc": {"w": 1}}, session=other)

        def watched(work: Work, each: Any) -> Any:
            met.append(work.within)
            if met.count(by_ids([4])) == 2:
                other.commit_transaction()
            return apply(work, each)

        monkeypatch.setattr(Work, "apply", watched)
        retried = migration.retry_quarantined(report.run_id)
    assert (retried.complete, retried.modified) == (True, 3)
    assert met[0] == by_ids([3, 4, 5])
    assert [met.count(by_ids([each])) for each in (3, 4, 5)] == [1, 2, 1]
    assert _counts(mongoengine_db) == {(1, 0), (1, 1)}


@pytest.mark.parametrize("given", ["6b08", "nonsense", 1, None, ObjectId("0" * 24)])
def test_the_id_of_no_run(mongoengine_db: Database[Any], given: Any) -> None:
    """What is no run's id is told as that, with the remedy, and nothing is written."""
    migration = _with(handler(allmigration01__n=COUNT_N))
    with pytest.raises(RunNotFound, match=r"History\(...\).runs\(\) lists the runs"):
        migration.retry_quarantined(given)
    assert mongoengine_db.list_collection_names() == []


def test_the_id_as_a_text(mongoengine_db: Database[Any]) -> None:
    """A run's id may be given as a text, as reports and logs show it."""
    migration = _migration(mongoengine_db, handler(allmigration01__n=COUNT_N), 3)
    report = migration.migrate_all()
    assert migration.retry_quarantined(str(report.run_id)).run_id == report.run_id


@pytest.mark.parametrize("given", ["nonsense", "6b08", "", 1, 0, 1.5, b"x" * 12, [True]])
def test_what_names_no_run_to_resume(given: Any) -> None:
    """`resume` is a truth value or a whole id of a run; anything else is told as a wrong option."""
    with pytest.raises(RunOptionError, match="use True, or the id of a run") as raised:
        Options(resume=given)
    assert raised.value.option == "resume"


@pytest.mark.parametrize("given", [True, False, None, ObjectId("0" * 24), "0" * 24])
def test_what_names_a_run_to_resume(given: Any) -> None:
    """A truth value or none is kept, and so is an id, be it an ObjectId or its text."""
    assert Options(resume=given).resume == given
