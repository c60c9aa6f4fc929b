"""`lazymig runs`, `pause`, `resume`, `stop`, `slow` and `quarantine`: the journal."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from lazymig import History
from lazymig.cli.runs import books_of, find_run, run_of
from lazymig.cli.session import Target
from lazymig.errors import RunNotFound
from lazymig.operations.journal import JOURNAL
from tests.cli.app import models
from tests.cli.app.models import FAULTY, User, UserMigration, fill


@contextmanager
def a_run_at_work(database, count=5):
    """A run in another thread that waits behind its first chunk; gives its id, then lets it go."""
    fill(database, count)
    begun, go_on = threading.Event(), threading.Event()
    told = []

    def progress(report):
        told.append(report)
        begun.set()
        go_on.wait()

    runner = threading.Thread(
        target=lambda: UserMigration(User).migrate_pending(
            database.user, progress=progress, chunk_size=1, note="by night"
        )
    )
    runner.start()
    begun.wait()
    try:
        yield str(told[0].run_id)
    finally:
        go_on.set()
        runner.join()


def test_there_is_no_run_yet(shop, database):
    """An empty journal is no error."""
    assert shop("runs").out == "no run is in the journal\n"
    assert shop.json("runs") == {"runs": []}


def test_runs_are_listed(shop, database):
    """The newest run comes first, with state, model, time, counts and note."""
    fill(database, 3, draft=1)
    assert shop("migrate", "--yes", "--note", "ticket 4711").code == 0
    bulk, lazy = History(database).runs()
    lines = shop("runs").out.splitlines()
    assert lines[0] == f"{bulk.id}  finished  User (bulk)"
    assert lines[2] == f"{lazy.id}  finished  User (lazy)"
    assert lines[3].startswith(f"    {lazy.started:%Y-%m-%d %H:%M:%S} UTC, ")
    assert lines[3].endswith("; 6 applications of rules; ticket 4711")
    told = shop.json("runs")["runs"]
    assert {run["collection"] for run in told} == {f"{database.name}.user"}
    assert [run["id"] for run in told] == [str(bulk.id), str(lazy.id)]
    assert [rule["modified"] for rule in told[1]["rules"]] == [3, 3]
    assert [run["id"] for run in shop.json("runs", "--limit", "1")["runs"]] == [str(bulk.id)]


def test_one_run(shop, database):
    """One run is shown with all that the journal has of it."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes", "--note", "ticket 4711", "--max-rate", "9000")
    (run,) = History(database).runs()
    waited = {"$set": {"waited": {"nice": 61.0, "paused": 0.25}}}
    database.lazymig_journal.update_one({"_id": run.id}, waited)
    result = shop("runs", str(run.id)[:22])
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"{run.id}  failed\n")
    words = " ".join(result.out.split())
    for told in (
        f"User in {database.name}.user, lazy rules of UserMigration started 20",
        " note: ticket 4711 options: ",
        " max_rate 9000.0, ",
        " waited: nice 1 min 1 s, paused 0.25 s ",
        " error: ",
        " migration02__split_name running 0/~3 2 2 1",
    ):
        assert told in words
    (told,) = shop.json("runs", str(run.id))["runs"]
    assert told["error"] == run.error
    assert told["rules"][1]["quarantined"] == 1


@pytest.mark.parametrize("given", ["zz", "0" * 24, "000"])
def test_a_run_that_is_not_there(shop, database, given):
    """An id that no run has is told with exit code 2 and the remedy."""
    fill(database, 1)
    shop("migrate", "--yes")
    for command in ("runs", "pause", "resume", "stop"):
        result = shop(command, given)
        assert result.code == 2
        assert "lazymig runs lists the runs" in result.error


def test_an_id_that_is_too_short(shop, database):
    """How several ids begin names no run."""
    fill(database, 1)
    shop("migrate", "--yes")
    common = str(History(database).runs()[0].id)[:4]
    result = shop("stop", common)
    assert result.code == 2
    assert "several runs have an id that begins with" in result.error


def test_a_run_is_asked_from_elsewhere(shop, database):
    """pause, slow, resume and stop reach a run that is at work, and tell what is asked of it."""
    with a_run_at_work(database) as run:
        result = shop("pause", run[:20])
        assert (result.code, result.err) == (0, "")
        assert " ".join(result.out.split()).startswith(f"run {run} of User is asked to pause, by ")
        assert shop.json("runs")["runs"][0]["state"] == "paused"
        told = shop.json("slow", run, "--max-rate", "5000", "--nice", "0")["run"]
        assert told["control"]["limits"] == {"max_rate": 5000.0, "nice": 0.0}
        slowed = " ".join(shop("slow", run, "--nice", "0").out.split())
        assert slowed.startswith(
            f"run {run} of User, which is asked to pause: rate limit 5000, nice removed, by "
        )
        told = shop.json("resume", run)["run"]
        assert (told["state"], told["control"]["action"]) == ("running", "run")
        assert "asked: run max_rate 5000.0, nice 0.0" in shop("runs", run).out
        slowed = " ".join(shop("slow", run, "--max-rate", "0").out.split())
        assert slowed.startswith(f"run {run} of User: rate limit removed, nice removed, by ")
        told = " ".join(shop("resume", run).out.split())
        assert told.startswith(
            f"run {run} of User is asked to run, with rate limit removed, nice removed, by "
        )
        told = shop.json("stop", run)["run"]
        assert told["control"]["action"] == "stop"
        assert told["control"]["by"].count("@") == 1
    assert History(database).run(run).state == "stopped"


def test_a_run_that_has_ended(shop, database):
    """Nothing can be asked of a run that has ended; the remedy is the command that resumes it."""
    with a_run_at_work(database) as run:
        shop("stop", run)
    for command in ("pause", "resume", "stop"):
        result = shop(command, run)
        assert result.code == 1
        assert result.error.endswith("is stopped; resume with lazymig migrate --resume")
    assert shop("migrate", "--yes", "--resume").code == 0
    assert shop("slow", run, "--nice", "1").error.endswith("is finished")


def test_limits_have_to_be_named(shop, database):
    """A call of slow without a limit, or with a wrong one, is a wrong call."""
    assert "no limit is named" in shop("slow", "6b").error
    assert "'--nice'" in shop("slow", "6b", "--nice", "-1").error


def test_the_journal_needs_no_models(shell, uri, database):
    """With a connection string the journal of its database is read, and no model is imported."""
    fill(database, 1)
    UserMigration(User).migrate_pending(database.user)
    assert len(shell.json("runs", "--uri", uri)["runs"]) == 1
    assert len(shell.json("runs", "--uri", uri, "--models", "nothing")["runs"]) == 1
    assert shell("quarantine", "list", "--uri", uri).code == 0


def test_the_journal_of_the_application(shell, uri, database):
    """Without a connection string it is that of the database that the application connects."""
    fill(database, 1)
    UserMigration(User).migrate_pending(database.user)
    shell.write(
        "app.py",
        f"import mongoengine\nmongoengine.connect(host={uri!r}, uuidRepresentation='standard')\n",
    )
    assert len(shell.json("runs", "--app", "app")["runs"]) == 1
    assert len(shell.json("runs", "--app", "app", "--models", models.__name__)["runs"]) == 1


def test_runs_of_several_databases(client, database):
    """A run is looked for in each of several journals; how two ids begin names none of them."""
    other = client[f"{database.name}_other"]
    try:
        for each in (database, other):
            fill(each, 1)
            UserMigration(User).migrate_pending(each.user)
        books = books_of([database, other, database], JOURNAL)
        assert [book.database for book in books] == [database.name, other.name]
        runs = [book.history.runs()[0] for book in books]
        for book, run in zip(books, runs, strict=True):
            assert find_run(books, str(run.id).upper()) == (book, run)
        targets = [Target(User, each.user) for each in (database, other)]
        for target, run in zip(targets, runs, strict=True):
            assert run_of(targets, str(run.id), JOURNAL) == (target, run)
        with pytest.raises(RunNotFound, match="several runs"):
            find_run(books, str(runs[0].id)[:4])
        with pytest.raises(RunNotFound, match="there is no run ffff"):
            find_run(books, "ffff")
    finally:
        client.drop_database(other)


def test_documents_in_quarantine(shop, database):
    """Refused documents are listed with rule and error, exit code 1; none is exit code 0."""
    assert shop("quarantine", "list").out == "no document is in quarantine\n"
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes", "--max-errors", "9")
    lazy = History(database).runs()[1]
    result = shop("quarantine", "list")
    assert (result.code, result.err) == (1, "")
    assert result.out.splitlines()[0] == f"{database.name}.user 1: migration02__split_name"
    assert "this name has no parts" in result.out
    (told,) = shop.json("quarantine", "list", str(lazy.id), code=1)["quarantined"]
    assert told["collection"] == f"{database.name}.user"
    assert (told["run"], told["document_id"]) == (str(lazy.id), {"$numberInt": "1"})
    bulk = History(database).runs()[0]
    assert shop.json("quarantine", "list", str(bulk.id))["quarantined"] == []


def test_trying_once_more(shop, database):
    """A retry applies the rule again: exit code 1 while documents are refused, then 0."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes", "--max-errors", "9", "--scope", "lazy")
    run = str(History(database).runs()[0].id)
    told = shop.json("quarantine", "retry", run[:22], code=1)["run"]
    assert [error["document_id"] for error in told["errors"]] == [{"$numberInt": "1"}]
    result = shop("quarantine", "retry", run)
    assert result.code == 1
    assert f"quarantine retry {run} tries them again" in " ".join(result.out.split())
    assert "--resume" not in result.out
    shop.set(**{FAULTY: ""})
    result = shop("quarantine", "retry", run)
    assert result.code == 0
    assert "finished, 1 application of a rule in" in " ".join(result.out.split())
    assert database.user.count_documents({"first": "Ada"}) == 3
    assert shop("quarantine", "retry", run).out == f"run {run} has no document in quarantine\n"
    result = shop("quarantine", "retry", run, "--models", f"{models.__name__}:Animal")
    assert result.code == 2
    assert "is not among the models" in result.error


def test_a_run_that_has_not_finished_is_resumed_first(shop, database):
    """A retry of a run that has failed is refused with the command that resumes the run."""
    fill(database, 3)
    shop.set(**{FAULTY: "1"})
    shop("migrate", "--yes", "--scope", "lazy")
    run = str(History(database).runs()[0].id)
    shop.set(**{FAULTY: ""})
    result = shop("quarantine", "retry", run)
    assert result.code == 1
    assert f"not finished; resume it with lazymig migrate --resume {run} first" in result.error
    assert shop("migrate", "--yes", "--resume", run).code == 1
    assert database.user.count_documents({"first": "Ada"}) == 2
    assert shop("quarantine", "retry", run).code == 0
    assert database.user.count_documents({"first": "Ada"}) == 3
