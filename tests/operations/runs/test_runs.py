"""Bulk runs in chunks: what is met, what is noted, how a run ends and is resumed."""

from __future__ import annotations

import signal
import threading
from datetime import datetime
from typing import Any

import pytest
from bson import Binary, Code, Decimal128, ObjectId, Timestamp
from mongoengine import DynamicField, IntField, StringField
from pymongo.database import Database

from lazymig import CollectionLocked, History, RuleChanged, RunOptionError, signals
from tests.support.commands import CommandLog
from tests.support.handlers import copying, handler, model, rule

TURN = rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"n": 1}})
COUNT_UP = rule({}, {"$inc": {"n": 1}})


def _post(rules: Any, **fields: Any) -> Any:
    numbers = {name: IntField() for name in ("v", "n", "w")}
    return model(rules, key=DynamicField(primary_key=True), **numbers, **fields)


def _insert(database: Any, ids: Any, **more: Any) -> None:
    database["post"].insert_many([{"_id": each, "v": 1, "n": 0, **more} for each in ids])


def _counts(database: Any) -> set[Any]:
    return {(raw.get("v"), raw.get("n")) for raw in database["post"].find()}


MIXED_IDS = [
    *range(150),
    *(f"s{number}" for number in range(150)),
    *({"a": number, "b": "x"} for number in range(150)),
    *(ObjectId() for _ in range(150)),
    *(datetime(2020, 1, 1 + number) for number in range(20)),
    *(Binary(bytes([number])) for number in range(20)),
    *(Timestamp(number, 1) for number in range(20)),
    Code("x"),
    Code("y", {"a": 1}),
    True,
    False,
    None,
    float("nan"),
    0.5,
    Decimal128("7.25"),
]


@pytest.mark.parametrize("target", [{"v": 1}, {}])
@pytest.mark.parametrize("chunk_size", [1, 7, 100, 5000])
def test_ids_of_every_type_are_met_once(
    mongoengine_db: Database[Any], chunk_size: int, target: Any
) -> None:
    """A walk meets each document exactly once, whatever the types of the `_id`s."""
    ids = MIXED_IDS if chunk_size > 1 else MIXED_IDS[::9]
    _insert(mongoengine_db, ids)
    rules = handler(allmigration01__turn=rule(target, {"$set": {"v": 2}, "$inc": {"n": 1}}))
    report = rules(_post(rules)).migrate_all(chunk_size=chunk_size)
    assert report.modified == len(ids)
    assert _counts(mongoengine_db) == {(2, 1)}


def test_a_static_rule_is_one_update_for_each_chunk(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A static rule is sent once for each range of `_id`s, and never for single documents."""
    _insert(monitored_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    migration = rules(_post(rules))
    command_log.clear()
    assert migration.migrate_all(chunk_size=1000).modified == 3000
    updates = [body for name, body in command_log.commands if name == "update"]
    assert [body["update"] for body in updates if body["update"] == "post"] == ["post"] * 3


def test_without_chunks_a_static_rule_is_one_update(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """`chunk_size=None` sends a static rule as one update of the whole collection."""
    _insert(monitored_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    migration = rules(_post(rules))
    command_log.clear()
    assert migration.migrate_all(chunk_size=None).modified == 3000
    sent = [body["updates"] for name, body in command_log.commands if name == "update"]
    (query,) = [updates[0]["q"] for updates in sent if updates[0]["multi"]]
    assert query.pop("$expr")["$lt"][0] == "$$NOW"
    assert query == {"v": 1}


def test_a_dynamic_rule_reads_what_it_needs_alone(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Documents are read with the fields that the rule and its target read, and no others."""
    _insert(monitored_db, range(1500), big="x" * 100)
    rules = handler(allmigration01__copy=copying("n", "w"))
    migration = rules(_post(rules, big=StringField()))
    command_log.clear()
    assert migration.migrate_all().modified == 1500
    read = [
        body["projection"]
        for name, body in command_log.commands
        if name == "find" and body["find"] == "post" and "n" in body.get("projection", {})
    ]
    assert read
    assert all(set(projection) == {"_id", "n", "w"} for projection in read)


def _reads_more_for_some(self: Any) -> None:
    self.target = {"w": {"$exists": False}}
    name = "".join(["b", "i", "g"]) if self.doc["n"] % 2 else "n"
    self.update = {"$set": {"w": len(str(self.doc[name]))}}


def test_what_a_rule_reads_besides_is_read_again(mongoengine_db: Database[Any]) -> None:
    """A rule that reads a field which was not foreseen gets the whole document."""
    mongoengine_db["post"].insert_many(
        [{"_id": each, "n": each, "big": "x" * 50} for each in range(10)]
    )
    rules = handler(allmigration01__more=_reads_more_for_some)
    report = rules(_post(rules, big=StringField())).migrate_all()
    assert (report.modified, report.errors) == (10, ())
    found = {raw["_id"]: raw["w"] for raw in mongoengine_db["post"].find()}
    assert found == {each: 50 if each % 2 else 1 for each in range(10)}


def test_documents_inserted_meanwhile_are_met(mongoengine_db: Database[Any]) -> None:
    """What is inserted behind the walk is met by a last pass, until a pass finds nothing."""
    _insert(mongoengine_db, range(1000, 4000))
    late = iter(range(5))

    def insert_one_behind() -> None:
        number = next(late, None)
        if number is not None:
            _insert(mongoengine_db, [number])

    rules = handler(allmigration01__turn=TURN)
    rules(_post(rules)).migrate_all(chunk_size=1000, throttle=insert_one_behind)
    assert next(late, None) is None
    assert _counts(mongoengine_db) == {(2, 1)}


def test_a_rule_that_does_not_end_its_match_is_applied_once(mongoengine_db: Database[Any]) -> None:
    """A rule whose target still matches afterwards is applied once to each document."""
    _insert(mongoengine_db, range(2500))
    rules = handler(allmigration01__up=COUNT_UP)
    report = rules(_post(rules)).migrate_all(chunk_size=400)
    assert (report.matched, report.modified) == (2500, 2500)
    assert _counts(mongoengine_db) == {(1, 1)}


def _count_up_from_document(self: Any) -> None:
    self.target = {"v": 1}
    self.update = {"$inc": {"n": 1 + self.doc["v"] - self.doc["v"]}}


@pytest.mark.parametrize("method", [COUNT_UP, _count_up_from_document])
def test_a_refused_document_does_not_double_its_neighbours(
    mongoengine_db: Database[Any], method: Any
) -> None:
    """In a chunk that is undone because of one document the others are still applied once."""
    _insert(mongoengine_db, range(300))
    mongoengine_db["post"].update_one({"_id": 123}, {"$set": {"n": "text"}})
    rules = handler(allmigration01__up=method)
    report = rules(_post(rules)).migrate_all(chunk_size=100, max_errors=1)
    assert (report.state, report.complete) == ("finished", False)
    assert [error.document_id for error in report.errors] == [123]
    counts = {raw["_id"]: raw["n"] for raw in mongoengine_db["post"].find()}
    assert counts == {each: "text" if each == 123 else 1 for each in range(300)}


def test_the_run_stops_at_the_first_error_and_can_be_gone_on_with(
    mongoengine_db: Database[Any],
) -> None:
    """With `max_errors=0` a refused document ends the run; `resume` goes on without it."""
    _insert(mongoengine_db, range(3000))
    mongoengine_db["post"].update_one({"_id": 1500}, {"$set": {"n": "text"}})
    rules = handler(allmigration01__turn=TURN, allmigration02__w=rule({}, {"$set": {"w": 1}}))
    migration = rules(_post(rules))
    report = migration.migrate_all(chunk_size=500)
    assert (report.state, report.complete) == ("failed", False)
    assert [error.document_id for error in report.errors] == [1500]
    assert mongoengine_db["post"].count_documents({"v": 2}) < 3000
    (quarantined,) = History(mongoengine_db).quarantined(report.run_id)
    assert (quarantined.document_id, quarantined.rule) == (1500, "allmigration01__turn")

    resumed = migration.migrate_all(chunk_size=500, resume=True)
    assert (resumed.state, resumed.run_id) == ("finished", report.run_id)
    assert not resumed.complete
    assert [error.document_id for error in resumed.errors] == [1500]
    assert mongoengine_db["post"].count_documents({"v": 2, "n": 1, "w": 1}) == 2999
    assert mongoengine_db["post"].find_one({"_id": 1500}) == {"_id": 1500, "v": 1, "n": "text"}


def test_quarantined_documents_can_be_retried(mongoengine_db: Database[Any]) -> None:
    """A mended document gets the rule that failed and those behind it, and leaves quarantine."""
    _insert(mongoengine_db, range(5), s="x")
    mongoengine_db["post"].update_many({"_id": {"$in": [1, 3]}}, {"$set": {"n": "text"}})
    rules = handler(allmigration01__turn=TURN, allmigration02__copy=copying("n", "w"))
    migration = rules(_post(rules, s=StringField()))
    report = migration.migrate_all(max_errors=10)
    assert (report.state, report.complete) == ("finished", False)
    assert len(report.errors) == 2
    mongoengine_db["post"].update_one({"_id": 1}, {"$set": {"n": 0}})
    retried = migration.retry_quarantined(report.run_id)
    assert [error.document_id for error in retried.errors] == [3]
    assert mongoengine_db["post"].find_one({"_id": 1}) == {
        "_id": 1, "v": 2, "n": 1, "s": "x", "w": 1,
    }  # fmt: skip
    left = History(mongoengine_db).quarantined(report.run_id)
    assert [entry.document_id for entry in left] == [3]


@pytest.mark.parametrize("count", [1, 1500])
def test_a_document_that_never_converges_is_put_aside(
    mongoengine_db: Database[Any], count: int
) -> None:
    """Documents that match again and again are put into quarantine, and the run goes on."""
    arrays = [{"_id": number, "a": [{"b": 1}]} for number in range(count)]
    mongoengine_db["post"].insert_many([*arrays, {"_id": "s", "a": {"b": 1}}])
    # Through an array the path means every element to the query, and nothing to the update.
    rules = handler(
        allmigration01__b=rule({"a.b": {"$exists": True}}, {"$unset": {"a.b": ""}}),
        allmigration02__n=rule({"n": None}, {"$set": {"n": 1}}),
    )
    migration = rules(_post(rules, a=DynamicField()))
    report = migration.migrate_all(max_errors=count)
    assert (report.state, report.complete) == ("finished", False)
    assert {error.document_id for error in report.errors} == set(range(count))
    assert {error.problem.partition(";")[0] for error in report.errors} == {
        "the document still matches after the rule was applied to it"
    }
    # What is put aside gets no later rule.
    assert [raw["_id"] for raw in mongoengine_db["post"].find({"n": 1})] == ["s"]


def test_one_signal_for_each_rule(mongoengine_db: Database[Any]) -> None:
    """However many chunks there are, a rule is announced once, with the counts of all."""
    _insert(mongoengine_db, range(1500))
    rules = handler(allmigration01__turn=TURN)
    post = _post(rules)
    heard: list[Any] = []

    def listen(_sender: Any, **news: Any) -> None:
        heard.append((news["rules"], news.get("modified")))

    with signals.pre_migration.connected_to(listen), signals.post_migration.connected_to(listen):
        rules(post).migrate_all(chunk_size=500)
    assert heard == [(("allmigration01__turn",), None), (("allmigration01__turn",), 1500)]


def test_the_journal_tells_what_a_run_did(mongoengine_db: Database[Any]) -> None:
    """The entry of a run has its rules with counts, its note, its options and its end."""
    _insert(mongoengine_db, range(1200))
    rules = handler(allmigration01__turn=TURN, allmigration02__copy=copying("n", "w"))
    report = rules(_post(rules)).migrate_all(chunk_size=500, note="hello")
    (run,) = History(mongoengine_db).runs()
    assert (run.id, run.state, run.note) == (report.run_id, "finished", "hello")
    assert run.options["chunk_size"] == 500
    assert [(each.name, each.state, each.done, each.modified) for each in run.rules] == [
        ("allmigration01__turn", "done", 1200, 1200),
        ("allmigration02__copy", "done", 1200, 1200),
    ]
    assert run.ended is not None


@pytest.mark.parametrize("request_of", ["stop", "pause"])
def test_a_run_obeys_the_journal(mongoengine_db: Database[Any], request_of: str) -> None:
    """Another process can pause a run, let it go on, and stop it, through the journal."""
    _insert(mongoengine_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    migration = rules(_post(rules))
    history = History(mongoengine_db)
    waits: list[str] = []

    def watch(progress: Any) -> None:
        if progress.waiting:
            waits.append(progress.waiting)
            history.resume(progress.run_id)
        elif progress.done == 1000:
            getattr(history, request_of)(progress.run_id, by="ops")

    report = migration.migrate_all(chunk_size=1000, progress=watch)
    if request_of == "pause":
        assert waits
        assert set(waits) == {"paused by ops"}
        assert (report.state, report.modified) == ("finished", 3000)
    else:
        assert report.state == "stopped"
        # What was asked for is obeyed after the chunk behind which it was noticed.
        assert report.modified == 2000
        assert migration.migrate_all(resume=True).complete
    assert _counts(mongoengine_db) == {(2, 1)}


def test_a_run_can_be_slowed(mongoengine_db: Database[Any]) -> None:
    """A rate that is asked for through the journal holds from then on, and its wait is shown."""
    _insert(mongoengine_db, range(40))
    rules = handler(allmigration01__turn=TURN)
    waits: list[str] = []
    history = History(mongoengine_db)

    def watch(progress: Any) -> None:
        if progress.waiting:
            waits.append(progress.waiting)
            history.slow(progress.run_id, max_rate=None)
        elif progress.done == 10:
            history.slow(progress.run_id, max_rate=1)

    rules(_post(rules)).migrate_all(chunk_size=10, progress=watch, max_rate=1000)
    assert any("max_rate" in wait for wait in waits)
    assert _counts(mongoengine_db) == {(2, 1)}


def test_a_throttle_holds_the_run(mongoengine_db: Database[Any]) -> None:
    """While a throttle gives a reason, no chunk begins, and the reason is shown."""
    _insert(mongoengine_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    answers = iter(["the queue is long", False])
    shown: list[Any] = []
    rules(_post(rules)).migrate_all(
        chunk_size=1000, throttle=lambda: next(answers, None), progress=shown.append
    )
    assert "the queue is long" in str(shown[0].waiting)
    assert shown[0].done == 0
    (run,) = History(mongoengine_db).runs()
    assert run.waited["throttle"] > 0


def test_each_rate_is_that_of_its_own_documents(mongoengine_db: Database[Any]) -> None:
    """`rate` is of the documents that a rule was past, `match_rate` of those that match."""
    _insert(mongoengine_db, range(1000))
    mongoengine_db["post"].update_many({"_id": {"$lt": 400}}, {"$set": {"v": 2}})
    rules = handler(
        allmigration01__turn=TURN, allmigration02__none=rule({"v": 9}, {"$inc": {"n": 1}})
    )
    shown: list[Any] = []
    rules(_post(rules)).migrate_all(chunk_size=500, progress=shown.append)
    first, second, *_, last = [each for each in shown if each.waiting is None]
    for each, done, matched in ((first, 500, 100), (second, 1000, 600)):
        assert (each.done, each.matched) == (done, matched)
        assert 0 < each.match_rate < each.rate
    assert (last.matched, last.match_rate) == (0, 0.0)


def test_the_time_of_waiting_is_apart_from_that_of_the_work(mongoengine_db: Database[Any]) -> None:
    """A report has the seconds without work by their reasons, and progress has the sum of them."""
    _insert(mongoengine_db, range(30))
    rules = handler(allmigration01__turn=TURN)
    shown: list[Any] = []
    report = rules(_post(rules)).migrate_all(chunk_size=10, max_rate=100, progress=shown.append)
    assert report.waited.keys() == {"max_rate"}
    assert report.waited["max_rate"] == pytest.approx(shown[-1].waited)
    assert 0 < shown[-1].waited < shown[-1].seconds
    assert rules(_post(rules)).migrate_all().waited == {}


def test_progress_becomes_exact(mongoengine_db: Database[Any]) -> None:
    """Progress counts the documents of each rule up to a total that is exact in the end."""
    _insert(mongoengine_db, range(2500))
    rules = handler(allmigration01__turn=TURN, allmigration02__copy=copying("n", "w"))
    shown: list[Any] = []
    rules(_post(rules)).migrate_all(chunk_size=1000, progress=shown.append)
    assert [each.done for each in shown if each.position == 1] == [1000, 2000, 2500, 2500]
    assert (shown[-1].finished, shown[-1].exact, shown[-1].done) == (True, True, 2500)
    assert not any(each.finished for each in shown[:-1])


class Interrupted(Exception):
    """What breaks off a run in these tests."""


def _break_off_at(done: int) -> Any:
    def watch(progress: Any) -> None:
        if progress.done >= done:
            raise Interrupted

    return watch


@pytest.mark.parametrize("method", [TURN, COUNT_UP, copying("n", "w")])
def test_a_run_that_broke_off_goes_on_behind_its_checkpoint(
    monitored_db: Database[Any], command_log: CommandLog, method: Any
) -> None:
    """`resume` begins behind the last chunk that is noted."""
    _insert(monitored_db, range(3000))
    rules = handler(allmigration01__rule=method)
    migration = rules(_post(rules))
    with pytest.raises(Interrupted):
        migration.migrate_all(chunk_size=1000, progress=_break_off_at(2000))
    (broken,) = History(monitored_db).runs()
    assert (broken.state, broken.rules[0].done) == ("failed", 2000)
    command_log.clear()
    report = migration.migrate_all(chunk_size=1000, resume=True)
    assert (report.run_id, report.modified) == (broken.id, 3000)
    assert {raw["n"] for raw in monitored_db["post"].find()} <= {0, 1}
    walked = [
        body["filter"]["_id"]
        for name, body in command_log.commands
        if name == "find" and body["find"] == "post" and "$gt" in str(body["filter"].get("_id"))
    ]
    assert walked
    assert all(condition["$gt"] >= 1999 for condition in walked)


def test_resume_never_begins_a_run(mongoengine_db: Database[Any]) -> None:
    """`resume=True` does nothing, and says so, before the first run and after one that finished."""
    _insert(mongoengine_db, range(10))
    rules = handler(allmigration01__turn=TURN)
    migration = rules(_post(rules))
    nothing = migration.migrate_all(resume=True)
    assert (nothing.nothing_to_resume, nothing.modified, nothing.complete) == (True, 0, True)
    first = migration.migrate_all()
    assert (first.modified, first.nothing_to_resume) == (10, False)
    _insert(mongoengine_db, range(10, 20))
    for resume in (True, first.run_id):
        again = migration.migrate_all(resume=resume)
        assert (again.nothing_to_resume, again.run_id, again.complete) == (True, None, True)
    assert _counts(mongoengine_db) == {(2, 1), (1, 0)}
    assert len(History(mongoengine_db).runs()) == 1


def test_an_edited_rule_begins_anew(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A rule that was edited between run and resume is reported; its target finds what is left."""
    _insert(mongoengine_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    with pytest.raises(Interrupted):
        rules(_post(rules)).migrate_all(chunk_size=1000, progress=_break_off_at(2000))

    def edited(self: Any) -> None:
        self.target = {"v": {"$lt": 3}}
        self.update = {"$set": {"v": 3}, "$inc": {"n": 1}}

    rules = handler(allmigration01__turn=edited)
    report = rules(_post(rules)).migrate_all(resume=True)
    assert "was edited since" in caplog.text
    assert report.complete
    assert _counts(mongoengine_db) == {(3, 2), (3, 1)}
    assert History(mongoengine_db).run(report.run_id).rules[0].edited


def test_an_edited_rule_whose_target_does_not_tell_is_refused(
    mongoengine_db: Database[Any],
) -> None:
    """Where the target cannot tell what is done, a run with an edited rule is not resumed."""
    _insert(mongoengine_db, range(3000))
    rules = handler(allmigration01__up=COUNT_UP)
    with pytest.raises(Interrupted):
        rules(_post(rules)).migrate_all(chunk_size=1000, progress=_break_off_at(2000))

    def edited(self: Any) -> None:
        self.target = {}
        self.update = {"$inc": {"n": 5}}

    rules = handler(allmigration01__up=edited)
    before = list(mongoengine_db["post"].find())
    with pytest.raises(RuleChanged, match="allmigration01__up: the rule was edited"):
        rules(_post(rules)).migrate_all(resume=True)
    assert list(mongoengine_db["post"].find()) == before


def test_a_run_of_other_rules_is_not_gone_on_with(mongoengine_db: Database[Any]) -> None:
    """`resume` refuses a run that has begun with other rules than the handler has."""
    _insert(mongoengine_db, range(3000))
    rules = handler(allmigration01__turn=TURN)
    with pytest.raises(Interrupted):
        rules(_post(rules)).migrate_all(chunk_size=1000, progress=_break_off_at(2000))
    rules = handler(allmigration01__turn=TURN, allmigration02__copy=copying("n", "w"))
    with pytest.raises(RuleChanged, match="has begun with the rules"):
        rules(_post(rules)).migrate_all(resume=True)


def test_a_lazy_run_can_be_gone_on_with(mongoengine_db: Database[Any]) -> None:
    """`migrate_pending` takes the same options and resumes as `migrate_all` does."""
    _insert(mongoengine_db, range(3000))
    rules = handler(migration01__turn=TURN, migration02__copy=copying("n", "w"))
    migration = rules(_post(rules))
    with pytest.raises(Interrupted):
        migration.migrate_pending(chunk_size=1000, progress=_break_off_at(2000))
    assert migration.migrate_pending(chunk_size=1000, resume=True).complete
    assert mongoengine_db["post"].count_documents({"v": 2, "n": 1, "w": 1}) == 3000


def test_two_runs_never_work_on_one_collection(mongoengine_db: Database[Any]) -> None:
    """While a run is at work a second one is refused, and nothing is done twice."""
    _insert(mongoengine_db, range(1000))
    rules = handler(allmigration01__up=COUNT_UP)
    migration = rules(_post(rules))
    refusals: list[str] = []

    def second() -> None:
        try:
            migration.migrate_all()
        except CollectionLocked as exc:
            refusals.append(str(exc))

    def watch(progress: Any) -> None:
        if not progress.finished and not refusals:
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()

    migration.migrate_all(chunk_size=200, progress=watch)
    assert len(refusals) == 1
    assert "holds the lease" in refusals[0]
    assert _counts(mongoengine_db) == {(1, 1)}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"chunk_size": 0}, "chunk_size: is 0"),
        ({"chunk_size": "big"}, "chunk_size: is 'big'"),
        ({"chunk_seconds": 0}, "chunk_seconds: is 0"),
        ({"max_errors": -1}, "max_errors: is -1"),
        ({"max_rate": -1}, "max_rate: -1"),
        ({"note": 1}, "note: is 1"),
        ({"lease": 0}, "lease: is 0"),
        ({"lease": float("nan")}, "lease: is nan"),
        ({"chunk_seconds": float("inf")}, "chunk_seconds: is inf"),
        ({"journal": ""}, "journal: is ''"),
        ({"keep_runs": 0}, "keep_runs: is 0"),
        ({"in_flight": 0}, "in_flight: is 0"),
        ({"backup": "folder", "executor": list}, "backup: excludes executor"),
    ],
)
def test_bad_options_fail_before_anything_is_written(
    mongoengine_db: Database[Any], options: Any, problem: str
) -> None:
    """An option with a value that it cannot have is refused before anything is written."""
    _insert(mongoengine_db, range(3))
    rules = handler(allmigration01__turn=TURN)
    with pytest.raises(RunOptionError, match=problem):
        rules(_post(rules)).migrate_all(**options)
    assert mongoengine_db.list_collection_names() == ["post"]
    assert _counts(mongoengine_db) == {(1, 0)}


def test_an_unknown_option_is_a_type_error(mongoengine_db: Database[Any]) -> None:
    """A keyword that is no option is refused."""
    rules = handler(allmigration01__turn=TURN)
    with pytest.raises(TypeError, match=r"'chunks' is no option .*; the options are .*chunk_size"):
        rules(_post(rules)).migrate_all(chunks=3)


def test_what_is_no_collection_is_refused(mongoengine_db: Database[Any]) -> None:
    """A name in place of a collection is told as a wrong option, not by a missing attribute."""
    rules = handler(allmigration01__turn=TURN)
    migration = rules(_post(rules))
    for ask in (migration.migrate_all, migration.get_status, migration.preview):
        with pytest.raises(RunOptionError, match="collection: is 'post'; give a PyMongo"):
            ask("post")


def test_on_mongomock_runs_are_journalled(mock_db: Any) -> None:
    """On mongomock a run is one chunk, with a journal entry and quarantine all the same."""
    _insert(mock_db, range(20))
    rules = handler(
        migration01__turn=TURN,
        allmigration01__turn=TURN,
        allmigration02__copy=copying("n", "w"),
    )
    migration = rules(_post(rules))
    assert migration.migrate_pending().modified == 20
    assert migration.migrate_all().modified == 20
    assert [run.state for run in History(mock_db).runs()] == ["finished", "finished"]
    assert {(raw["v"], raw["n"], raw["w"]) for raw in mock_db["post"].find()} == {(2, 1, 1)}


@pytest.mark.usefixtures("python_signals")
@pytest.mark.parametrize(
    ("number", "ends_with"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_lets_the_chunk_be_finished(
    mongoengine_db: Database[Any],
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
    ends_with: type[BaseException],
) -> None:
    """Ctrl-C and SIGTERM end a run behind the chunk that is at work, and it says how to go on."""
    _insert(mongoengine_db, range(3000))
    migration = (rules := handler(allmigration01__turn=TURN))(_post(rules))

    def watch(progress: Any) -> None:
        if progress.done == 1000:
            signal.raise_signal(number)

    with pytest.raises(ends_with):
        migration.migrate_all(chunk_size=1000, progress=watch)
    (run,) = History(mongoengine_db).runs()
    assert (run.state, run.rules[0].done) == ("stopped", 1000)
    assert "resume=True" in caplog.text
    assert mongoengine_db["post"].count_documents({"v": 2}) == 1000
    assert migration.migrate_all(resume=True).complete
    assert _counts(mongoengine_db) == {(2, 1)}
