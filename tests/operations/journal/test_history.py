"""Reading the journal, and asking something of a run from another process."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from mongoengine import Document, StringField, UUIDField

from lazymig.errors import (
    MigrationFailed,
    RunError,
    RunNotActive,
    RunNotFound,
    RunOptionError,
    RunTakenOver,
)
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Control, NewRun, Quarantined, RunEntry, Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.lease import Lease
from lazymig.operations.journal.retention import forget
from tests.support.commands import CommandLog

ENDS = ("finished", "stopped", "failed")


@pytest.fixture
def journal(any_db: Any) -> Journal:
    """A journal on each backend in turn."""
    return Journal(any_db)


@pytest.fixture
def history(any_db: Any) -> History:
    """The history of the same journal."""
    return History(any_db)


def _begin(journal: Journal, **changes: Any) -> RunEntry:
    given: dict[str, Any] = {
        "model": "Post",
        "collection": "post",
        "handler": "PostMigration",
        "scope": "lazy",
        "rules": (("migration01__a", "d1"), ("migration02__b", "d2")),
        **changes,
    }
    return journal.begin(NewRun(**given))


def _beat(journal: Journal, run: RunEntry, waiting: str | None = None) -> Control:
    return journal.beat(run, waiting=waiting, waited={"nice": 2.0})


def _silence(journal: Journal, run: RunEntry) -> None:
    journal.collection.update_one(
        {"_id": run.id}, {"$set": {"heartbeat": client_now() - timedelta(hours=1)}}
    )


def _failure(document_id: Any) -> MigrationFailed:
    return MigrationFailed("refused", model="Post", rule="a", document_id=document_id)


# Reading


def test_a_run_reads_as_it_was_written(journal: Journal, history: History) -> None:
    """What the runner wrote of a run and of its rules comes back in `Run` and `RuleRun`."""
    entry = _begin(journal, options={"max_rate": 5.0}, note="at noon")
    state = replace(
        entry.rules[0],
        state="running",
        at={"_id": 9},
        done=10,
        matched=8,
        modified=7,
        quarantined=1,
        passes=2,
        seconds=1.5,
        total=20,
        exact=True,
    )
    journal.checkpoint(entry, 0, state, waited={"nice": 0.5})
    run = history.run(entry.id)
    assert (run.id, run.model, run.collection, run.handler, run.scope) == (
        entry.id,
        "Post",
        "post",
        "PostMigration",
        "lazy",
    )
    assert (run.state, run.options, run.note, run.waited, run.control) == (
        "running",
        {"max_rate": 5.0},
        "at noon",
        {"nice": 0.5},
        Control(),
    )
    assert (run.started, run.ended, run.error) == (run.sessions[0].started, None, None)
    assert [(part.host, part.pid) for part in run.sessions] == [(run.host, run.pid)]
    assert (run.matched, run.modified, run.quarantined) == (8, 7, 1)
    first, second = run.rules
    assert (first.name, first.digest, first.state, first.last_id) == (
        "migration01__a",
        "d1",
        "running",
        9,
    )
    assert (first.done, first.total, first.exact, first.passes, first.seconds, first.edited) == (
        10,
        20,
        True,
        2,
        1.5,
        False,
    )
    assert (second.state, second.last_id, second.total) == ("pending", None, None)


def test_each_session_tells_its_options(journal: Journal, history: History) -> None:
    """A run has the options and note that it was resumed with; its sessions have what each had."""
    entry = _begin(journal, options={"backup": "/b"}, note="first")
    journal.finish(entry, "stopped")
    journal.resume("Post", "post", "lazy", options={"backup": None}, note="second", lease=600.0)
    run = history.run(entry.id)
    assert (run.options, run.note) == ({"backup": None}, "second")
    assert [(part.options, part.note) for part in run.sessions] == [
        ({"backup": "/b"}, "first"),
        ({"backup": None}, "second"),
    ]


def test_a_resumed_run_is_judged_by_its_own_lease(journal: Journal, history: History) -> None:
    """A run that is resumed with a longer lease may be silent for longer before it is dead."""
    entry = _begin(journal, lease=15.0)
    journal.resume("Post", "post", "lazy", lease=7200.0)
    _silence(journal, entry)
    assert history.run(entry.id).state == "running"


def test_runs_come_newest_first(journal: Journal, history: History) -> None:
    """The runs are listed by their start, newest first, at most `limit`, of one collection."""
    ids = []
    for hour, collection in enumerate(("post", "user", "post")):
        run = _begin(journal, collection=collection)
        started = client_now() - timedelta(hours=9 - hour)
        journal.collection.update_one({"_id": run.id}, {"$set": {"started": started}})
        ids.append(run.id)
    assert [run.id for run in history.runs()] == ids[::-1]
    assert [run.id for run in history.runs(limit=1)] == ids[-1:]
    assert [run.id for run in history.runs(limit=None)] == ids[::-1]
    assert [run.id for run in history.runs(collection="post")] == [ids[2], ids[0]]
    with pytest.raises(ValueError, match="limit is 0"):
        history.runs(limit=0)


def test_an_empty_journal_has_no_runs(history: History) -> None:
    """Where nothing has run yet there is nothing to read, and no error."""
    assert history.runs() == []
    assert history.quarantined() == []
    assert history.samples() == []
    assert history.prune() == 0


def test_a_model_stands_for_its_database(any_db: Any, journal: Journal) -> None:
    """A document class, with a migration handler or not, gives the journal of its database."""

    class Plain(Document):
        name = StringField()

    run = _begin(journal)
    assert History(Plain).run(run.id).id == run.id
    assert History(Plain, journal="elsewhere").runs() == []


@pytest.mark.parametrize("form", [lambda run: run, str, lambda run: str(run).upper()])
def test_a_run_is_named_by_its_id(journal: Journal, history: History, form: Any) -> None:
    """An id is an ObjectId or its hexadecimal digits."""
    run = _begin(journal)
    _begin(journal)
    assert history.run(form(run.id)).id == run.id


def test_a_run_is_named_by_the_beginning_of_its_id(journal: Journal, history: History) -> None:
    """The first digits will do where no other run's id begins with them."""
    for digits in ("5f00aa", "5f00ab", "5f01"):
        run = _begin(journal)
        entry = journal.collection.find_one({"_id": run.id})
        forget(journal.collection, run.id)
        journal.collection.insert_one({**entry, "_id": ObjectId(digits.ljust(24, "0"))})
    assert history.run("5f01").id == ObjectId("5f01".ljust(24, "0"))
    assert history.run("5f00ab").id == ObjectId("5f00ab".ljust(24, "0"))
    with pytest.raises(RunNotFound, match="several"):
        history.run("5f00a")


@pytest.mark.parametrize("name", [ObjectId(), "0" * 24, "ffff", "", "latest", "0" * 25])
def test_an_unknown_run_is_not_found(journal: Journal, history: History, name: Any) -> None:
    """An id that no run has is RunNotFound, with the id."""
    _begin(journal)
    with pytest.raises(RunNotFound) as caught:
        history.run(name)
    assert caught.value.run == name


def test_other_entries_are_no_runs(journal: Journal, history: History) -> None:
    """Neither a lease nor a sample nor a quarantined document is listed as a run."""
    run = _begin(journal)
    journal.quarantine.add(run, "a", [_failure(1)])
    journal.sample("Post", "post", {"a": 1})
    sample = journal.collection.find_one({"kind": "sample"})
    with Lease(journal.collection, "post", seconds=600):
        assert [found.id for found in history.runs()] == [run.id]
        with pytest.raises(RunNotFound):
            history.run(sample["_id"])


# States


@pytest.mark.parametrize("state", ENDS)
def test_an_ended_run_is_in_its_last_state(journal: Journal, history: History, state: str) -> None:
    """A run that has ended is finished, stopped or failed, however long ago."""
    entry = _begin(journal)
    journal.finish(entry, state, "why")
    _silence(journal, entry)
    run = history.run(entry.id)
    assert (run.state, run.active, run.error) == (state, False, "why")
    assert run.ended is not None


def test_a_waiting_run_says_why(journal: Journal, history: History) -> None:
    """A run that steps aside is waiting, with the reason and the seconds so far."""
    entry = _begin(journal)
    _beat(journal, entry, "replication lag 3.0 s > 1 s")
    run = history.run(entry.id)
    assert (run.state, run.active, run.waiting, run.waited) == (
        "waiting",
        True,
        "replication lag 3.0 s > 1 s",
        {"nice": 2.0},
    )


def test_a_silent_run_is_dead(journal: Journal, history: History) -> None:
    """A run that has not ended and has been silent for longer than its lease is dead."""
    entry = _begin(journal, lease=600.0)
    assert history.run(entry.id).state == "running"
    _silence(journal, entry)
    run = history.run(entry.id)
    assert (run.state, run.active) == ("dead", False)


def test_a_silent_run_that_holds_its_lease_lives(database: Any) -> None:
    """A long update lets a run be silent: as long as its lease is renewed it is not dead."""
    journal, history = Journal(database), History(database)
    entry = _begin(journal)
    other = _begin(journal)
    _silence(journal, entry)
    _silence(journal, other)
    with Lease(journal.collection, "post", seconds=600) as lease:
        lease.name_run(entry.id)
        assert history.run(entry.id).state == "running"
        assert history.run(other.id).state == "dead"
        journal.collection.update_one(
            {"kind": "lease"}, {"$set": {"expires": client_now() - timedelta(hours=1)}}
        )
        assert history.run(entry.id).state == "dead"


def test_the_lease_of_another_journal_is_known(database: Any) -> None:
    """A silent run of a journal of another name lives as well as long as its lease is renewed."""
    journal, history = Journal(database, "elsewhere"), History(database, "elsewhere")
    entry = _begin(journal)
    _silence(journal, entry)
    with Lease(journal.collection, "post", seconds=600, holder={"run": entry.id}):
        assert history.run(entry.id).state == "running"
    assert history.run(entry.id).state == "dead"


# Requests


@pytest.mark.parametrize(
    ("method", "action", "state"),
    [("pause", "pause", "paused"), ("resume", "run", "running"), ("stop", "stop", "running")],
)
def test_a_request_reaches_the_runner(
    journal: Journal, history: History, method: str, action: str, state: str
) -> None:
    """What is asked of a run comes back to its runner with the next beat, with who asked."""
    entry = _begin(journal)
    getattr(history, method)(entry.id, by="ada")
    assert _beat(journal, entry) == Control(action, {}, "ada")  # type: ignore[arg-type]
    run = history.run(entry.id)
    assert (run.state, run.control.action, run.control.by) == (state, action, "ada")


def test_a_paused_run_goes_on(journal: Journal, history: History) -> None:
    """A run that is paused and then resumed goes on with the limits it was given meanwhile."""
    entry = _begin(journal)
    history.pause(entry.id)
    history.slow(entry.id, max_rate=10)
    assert _beat(journal, entry, "paused").action == "pause"
    history.resume(entry.id)
    assert _beat(journal, entry) == Control("run", {"max_rate": 10}, None)


def test_limits_add_up(journal: Journal, history: History) -> None:
    """A new limit leaves the others; `None` is the absence of a limit, which is told too."""
    entry = _begin(journal)
    history.slow(entry.id, by="ada", max_rate=10, nice=0.5)
    history.slow(entry.id, max_rate=None, max_replication_lag=2.0)
    assert _beat(journal, entry) == Control(
        "run", {"max_rate": None, "nice": 0.5, "max_replication_lag": 2.0}, "ada"
    )
    history.slow(entry.id, nice=None)
    assert _beat(journal, entry).limits["nice"] == 0.0


@pytest.mark.parametrize("method", ["pause", "resume", "stop", "slow"])
def test_who_asks_leaves_no_connection_string(
    journal: Journal, history: History, method: str
) -> None:
    """A URI in the name of who asks is cut down before it is written."""
    entry = _begin(journal)
    given = {"nice": 1.0} if method == "slow" else {}
    getattr(history, method)(entry.id, by="job at mongodb://ann:pw123@h/", **given)
    assert _beat(journal, entry).by == "job at mongodb://..."


def test_a_wrong_limit_is_refused_here(journal: Journal, history: History) -> None:
    """A limit that the runner could not keep is refused where it is asked, and not written."""
    entry = _begin(journal)
    with pytest.raises(RunOptionError):
        history.slow(entry.id, max_rate=-1)
    with pytest.raises(TypeError, match="max_rate, max_replication_lag"):
        history.slow(entry.id, flag_file=1.0)
    with pytest.raises(TypeError):
        history.slow(entry.id)
    assert _beat(journal, entry) == Control()


@pytest.mark.parametrize("method", ["pause", "resume", "stop", "slow"])
@pytest.mark.parametrize("state", [*ENDS, "dead"])
def test_nothing_can_be_asked_of_an_ended_run(
    journal: Journal, history: History, method: str, state: str
) -> None:
    """A request to a run at which nobody is at work is RunNotActive, and is not written."""
    entry = _begin(journal)
    if state == "dead":
        _silence(journal, entry)
    else:
        journal.finish(entry, state)
    given = {"max_rate": 1.0} if method == "slow" else {}
    said = "no sign of life" if state == "dead" else f"is {state}"
    with pytest.raises(RunNotActive, match=said) as caught:
        getattr(history, method)(entry.id, **given)
    assert ("resume=True" in str(caught.value)) is (state != "finished")
    assert history.run(entry.id).control == Control()


def test_a_run_that_ends_meanwhile_is_not_asked(
    journal: Journal, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ends between the look and the request is RunNotActive as well."""
    entry = _begin(journal)
    seen = history.run(entry.id)
    journal.finish(entry, "stopped")
    monkeypatch.setattr(history, "run", lambda _: seen)
    with pytest.raises(RunNotActive, match="has just ended"):
        history.pause(entry.id)


def test_an_unknown_run_cannot_be_asked(history: History) -> None:
    """A request to a run that is not there is RunNotFound."""
    with pytest.raises(RunNotFound):
        history.pause(ObjectId())


# Quarantine, samples, retention


def test_the_quarantine_of_a_run(journal: Journal, history: History) -> None:
    """Quarantined documents are listed with their errors, of one run or of all, at most `limit`."""
    first, second = _begin(journal), _begin(journal)
    journal.quarantine.add(first, "migration01__a", [_failure({"k": 1})])
    journal.quarantine.add(second, "migration01__a", [_failure(2), _failure(3)])
    (found,) = history.quarantined(first.id)
    assert found == Quarantined(
        run=first.id,
        collection="post",
        rule="migration01__a",
        document_id={"k": 1},
        error="refused",
        type="MigrationFailed",
        at=found.at,
    )
    assert {entry.run for entry in history.quarantined()} == {first.id, second.id}
    assert len(history.quarantined(limit=2)) == 2
    assert len(history.quarantined(limit=None)) == 3
    with pytest.raises(RunNotFound):
        history.quarantined("ffff")


@pytest.mark.parametrize("by", ["database", "model"])
def test_a_quarantined_uuid_finds_its_document(mongoengine_db: Any, by: str) -> None:
    """The `_id` of a quarantined document finds it in the collection, also one of a legacy UUID."""
    legacy = CodecOptions[Any](uuid_representation=UuidRepresentation.PYTHON_LEGACY)
    documents = mongoengine_db.get_collection("old_post", legacy)
    documents.insert_one({"_id": UUID(int=7)})

    class OldPost(Document):
        key = UUIDField(primary_key=True)

        @classmethod
        def _get_collection(cls) -> Any:
            return documents

    journal = Journal(mongoengine_db, codec_options=legacy)
    journal.quarantine.add(_begin(journal, collection="old_post"), "a", [_failure(UUID(int=7))])
    place = documents if by == "model" else mongoengine_db.old_post
    (found,) = History(OldPost if by == "model" else mongoengine_db).quarantined()
    assert place.count_documents({"_id": found.document_id}) == 1
    assert isinstance(found.document_id, UUID) is (by == "model")


def test_samples_come_oldest_first(any_db: Any, journal: Journal, history: History) -> None:
    """Samples are listed by time, of one model or of all."""

    class Post(Document):
        name = StringField()

    journal.sample("Post", "post", {"a": 3, "b": None})
    first = journal.collection.find_one({"kind": "sample"})
    then = client_now() - timedelta(hours=1)
    journal.collection.update_one({"_id": first["_id"]}, {"$set": {"since": then, "at": then}})
    journal.sample("Post", "post", {"a": 2, "b": None})
    journal.sample("User", "user", {"c": 1})
    old, new = history.samples(Post)
    assert old == Sample("Post", "post", then, {"a": 3, "b": None})
    assert (new.remaining, new.at > then) == ({"a": 2, "b": None}, True)
    assert history.samples("Post") == [old, new]
    assert len(history.samples()) == 3


def test_pruning_forgets_ended_runs(journal: Journal, history: History) -> None:
    """`prune` keeps the newest ended runs of each collection, and tells how many went."""
    for _ in range(3):
        journal.finish(_begin(journal), "finished")
    alive = _begin(journal)
    assert history.prune(keep_runs=1) == 2
    assert [run.state for run in history.runs()] == ["running", "finished"]
    assert history.runs()[0].id == alive.id


def test_a_run_that_holds_its_lease_is_not_pruned(database: Any) -> None:
    """A run may be silent for more than a week within one update: with its lease it stays."""
    journal, history = Journal(database), History(database)
    entry = _begin(journal)
    _begin(journal, collection="user")
    long_ago = {"$set": {"heartbeat": client_now() - timedelta(days=8)}}
    journal.collection.update_many({"kind": "run"}, long_ago)
    with Lease(journal.collection, "post", seconds=600, holder={"run": entry.id}):
        assert history.prune(keep_runs=0) == 1
        assert [run.id for run in history.runs()] == [entry.id]
    assert history.prune(keep_runs=0) == 1


def test_fewer_than_no_runs_cannot_be_kept(journal: Journal, history: History) -> None:
    """A negative number of runs to keep is refused, and nothing is forgotten."""
    journal.finish(_begin(journal), "finished")
    with pytest.raises(ValueError, match="keep_runs is -1"):
        history.prune(keep_runs=-1)
    assert len(history.runs()) == 1


def test_a_deleted_run_is_gone(journal: Journal, history: History) -> None:
    """Deleting forgets a run and its quarantine, not those of others; a living run is refused."""
    entry, other = _begin(journal), _begin(journal)
    for run in (entry, other):
        journal.quarantine.add(run, "a", [_failure(1)])
    with pytest.raises(RunError, match="stop it first"):
        history.delete(entry.id)
    journal.finish(entry, "stopped")
    history.delete(str(entry.id))
    assert [run.id for run in history.runs()] == [other.id]
    assert [found.run for found in history.quarantined()] == [other.id]
    with pytest.raises(RunTakenOver):
        _beat(journal, entry)


def test_reading_never_writes(database: Any, command_log: CommandLog) -> None:
    """Nothing that reads the journal sends a write, not even of an index."""
    entry = _begin(Journal(database))
    history = History(command_log.client[database.name])
    history.runs()
    history.run(entry.id)
    history.quarantined()
    history.samples()
    assert set(command_log.names) <= {"aggregate", "find"}
