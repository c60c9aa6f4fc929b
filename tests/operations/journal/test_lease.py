"""The lease of a collection: one holder at a time, whatever dies or is cut off."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, DuplicateKeyError, PyMongoError

from lazymig.errors import CollectionLocked, LeaseLost
from lazymig.operations.journal.collection import (
    JOURNAL,
    client_now,
    journal_collection,
    lease_collection,
)
from lazymig.operations.journal.lease import Lease
from tests.support.server import CLIENT_OPTIONS

# Longer than any test takes: such a lease never expires here by itself.
LONG = 600.0
PATIENCE = 30.0
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def journal(database: Any) -> Any:
    """The journal's collection."""
    return journal_collection(database)


def _entry(journal: Any) -> Any:
    return journal.find_one({"_id": "lease:post"})


def _expire(journal: Any) -> None:
    journal.update_one(
        {"_id": "lease:post"}, {"$set": {"expires": client_now() - timedelta(days=1)}}
    )


class _Cut:
    """A journal collection whose updates fail as often as it is told, then go through."""

    def __init__(self, real: Any, failures: int) -> None:
        self._real = real
        self.failures = failures
        self.failed = threading.Event()
        self.renewed = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def update_one(self, *args: Any, **kwargs: Any) -> Any:
        if self.failures:
            self.failures -= 1
            self.failed.set()
            raise AutoReconnect("the connection was cut")
        result = self._real.update_one(*args, **kwargs)
        self.renewed.set()
        return result


@contextmanager
def _on(entries: Any, lease: Lease) -> Iterator[Lease]:
    """The lease held, with another object in place of the journal collection."""
    lease._entries = entries
    with lease:
        yield lease


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_lease_is_held_inside_and_gone_outside(journal: Any) -> None:
    """Entering takes the lease, which is valid inside; leaving deletes its entry."""
    with Lease(journal, "post", seconds=LONG) as lease:
        assert lease.valid
        lease.check()
        assert _entry(journal)["kind"] == "lease"
    assert not lease.valid
    assert _entry(journal) is None


def test_a_lease_is_given_back_after_an_error(journal: Any) -> None:
    """An exception inside gives the lease back, and comes through."""
    with pytest.raises(KeyError, match="mine"), Lease(journal, "post", seconds=LONG):
        raise KeyError("mine")
    assert _entry(journal) is None


def test_the_second_is_told_who_and_until_when(journal: Any) -> None:
    """A held lease raises CollectionLocked with holder and expiry, as attributes and in words."""
    run = ObjectId()
    with Lease(journal, "post", seconds=LONG, holder={"note": "$noon"}) as first:
        assert _entry(journal)["holder"]["note"] == "$noon"
        first.name_run(run)
        with pytest.raises(CollectionLocked) as caught:
            Lease(journal, "post", seconds=LONG).acquire()
        error = caught.value
        assert first.valid
        assert error.expires == _entry(journal)["expires"]
    assert error.collection == f"{journal.database.name}.post"
    assert error.run == run
    assert error.holder == {
        "host": first._holder["host"],
        "pid": os.getpid(),
        "journal": JOURNAL,
        "run": run,
        "note": "$noon",
    }
    assert error.expires is not None
    for part in (str(run), str(os.getpid()), "$noon", f"{error.expires:%H:%M:%S} UTC"):
        assert part in str(error)


def test_no_lease_holds_a_connection_string(journal: Any) -> None:
    """A URI in a note is cut down in the entry and in what others are told."""
    uri = "mongodb://ann:hunter2@h/"
    with Lease(journal, "post", seconds=LONG, holder={"note": f"from {uri}"}) as lease:
        assert _entry(journal)["holder"]["note"] == "from mongodb://..."
        lease.name_run(ObjectId())
        with pytest.raises(CollectionLocked) as caught:
            Lease(journal, "post", seconds=LONG).acquire()
        told = f"{caught.value} {caught.value.holder} {_entry(journal)}"
    assert told.count("from mongodb://...") == 3
    assert "hunter2" not in told


def test_expiry_is_server_time_plus_the_duration(journal: Any) -> None:
    """The lease expires its duration after the server's time of taking it."""
    (before,) = journal.database.aggregate([{"$documents": [{"now": "$$NOW"}]}])
    with Lease(journal, "post", seconds=LONG):
        (after,) = journal.database.aggregate([{"$documents": [{"now": "$$NOW"}]}])
        taken = _entry(journal)["expires"] - timedelta(seconds=LONG)
        assert before["now"] <= taken <= after["now"]


def test_collections_do_not_lock_each_other(journal: Any) -> None:
    """Each collection has a lease of its own."""
    with Lease(journal, "post", seconds=LONG), Lease(journal, "user", seconds=LONG) as other:
        assert other.valid


def test_journals_do_not_share_a_collection(database: Any) -> None:
    """A collection has one lease, in `lazymig_journal`, whichever journal the runs write."""
    other = database["other_journal"]
    with Lease(other, "post", seconds=LONG, holder={"run": ObjectId()}):
        assert _entry(database[JOURNAL])["kind"] == "lease"
        assert other.count_documents({}) == 0
        for journal in (JOURNAL, "other_journal", "third_journal"):
            with pytest.raises(CollectionLocked, match=r"History\(\.\.\., 'other_journal'\)\.stop"):
                Lease(database[journal], "post", seconds=LONG).acquire()
    assert lease_collection(database).name == JOURNAL


def test_an_expired_lease_is_taken_over(journal: Any) -> None:
    """A lease past its expiry goes to the next; its former holder learns it and leaves it alone."""
    first = Lease(journal, "post", seconds=LONG)
    first.acquire()
    _expire(journal)
    with Lease(journal, "post", seconds=LONG) as second:
        first.name_run(ObjectId())
        assert first.taken
        assert not first.valid
        with pytest.raises(LeaseLost, match=r"another run .* resume=True"):
            first.check()
        first.release()
        assert second.valid
        assert _entry(journal)["token"] == second._token


def test_a_late_renewal_keeps_what_nobody_took(journal: Any) -> None:
    """A lease that expired is still its holder's if it is renewed before anybody takes it."""
    with Lease(journal, "post", seconds=LONG) as lease:
        _expire(journal)
        lease.name_run(ObjectId())
        assert lease.valid
        with pytest.raises(CollectionLocked):
            Lease(journal, "post").acquire()


def test_a_deleted_entry_is_a_lost_lease(journal: Any) -> None:
    """A holder whose entry was deleted by hand stops being valid for good."""
    with Lease(journal, "post", seconds=LONG) as lease:
        journal.delete_many({})
        lease.name_run(ObjectId())
        assert not lease.valid


def test_the_thread_renews(journal: Any) -> None:
    """While the lease is held its expiry moves on, past the first one, by itself."""
    cut = _Cut(journal, 0)
    with _on(cut, Lease(journal, "post", seconds=0.3)):
        first = _entry(journal)["expires"]
        for _ in range(3):
            cut.renewed.clear()
            assert cut.renewed.wait(PATIENCE)
        assert _entry(journal)["expires"] > first


def test_renewing_survives_a_cut_connection(journal: Any) -> None:
    """A renewal that fails with AutoReconnect is tried again, and the lease stays valid."""
    cut = _Cut(journal, 2)
    with _on(cut, Lease(journal, "post", seconds=0.3, clock=_Clock())) as lease:
        assert cut.failed.wait(PATIENCE)
        assert cut.renewed.wait(PATIENCE)
        assert cut.failures == 0
        lease.check()


def test_a_lease_that_cannot_be_renewed_is_not_valid(journal: Any) -> None:
    """When no renewal has got through for the lease's duration the holder stops, by its clock."""
    clock = _Clock()
    cut = _Cut(journal, 10**9)
    with _on(cut, Lease(journal, "post", seconds=LONG, clock=clock)) as lease:
        clock.now += LONG - 1
        lease.check()
        clock.now += 1
        assert not lease.valid
        assert not lease.taken
        with pytest.raises(LeaseLost, match="could not be renewed for 600 s"):
            lease.check()
        cut.failures = 0
        lease.name_run(ObjectId())
        lease.check()


def test_the_time_of_a_renewal_counts_from_its_beginning(journal: Any) -> None:
    """The server may have renewed as soon as it was asked: an answer's delay is not added."""
    clock = _Clock()

    class Slow(_Cut):
        def update_one(self, *args: Any, **kwargs: Any) -> Any:
            clock.now += 100
            return super().update_one(*args, **kwargs)

    with _on(Slow(journal, 0), Lease(journal, "post", seconds=LONG, clock=clock)) as lease:
        lease.name_run(ObjectId())
        clock.now += LONG - 100
        assert not lease.valid


def test_release_does_not_hide_an_error(journal: Any) -> None:
    """Where the server is away on leaving, the lease is left to expire, without an exception."""

    class Away(_Cut):
        def delete_one(self, *args: Any, **kwargs: Any) -> Any:
            raise AutoReconnect("away")

    with _on(Away(journal, 0), Lease(journal, "post", seconds=LONG)) as lease:
        pass
    assert not lease.valid
    assert _entry(journal) is not None


def test_a_lease_is_taken_once(journal: Any) -> None:
    """Taking a lease that this object holds already is an error of the caller."""
    with Lease(journal, "post", seconds=LONG) as lease, pytest.raises(RuntimeError, match="held"):
        lease.acquire()
    lease.acquire()
    lease.release()
    lease.release()
    with pytest.raises(LeaseLost, match="not held"):
        lease.check()


def test_a_lease_lasts(journal: Any) -> None:
    """A duration of nothing is refused."""
    with pytest.raises(ValueError, match="longer than 0"):
        Lease(journal, "post", seconds=0)


@pytest.mark.parametrize("expired", [False, True], ids=["free", "expired"])
def test_of_many_threads_one_gets_it(journal: Any, expired: bool) -> None:
    """Of runners that start at the same moment exactly one gets the lease, free or expired."""
    runners = 8
    for _ in range(20):
        if expired:
            Lease(journal, "post", seconds=LONG)._take()
            _expire(journal)
        start = threading.Barrier(runners)

        def attempt(start: threading.Barrier = start) -> Lease | None:
            lease = Lease(journal, "post", seconds=LONG)
            start.wait(PATIENCE)
            try:
                lease.acquire()
            except CollectionLocked:
                return None
            return lease

        with ThreadPoolExecutor(runners) as pool:
            tries = [pool.submit(attempt) for _ in range(runners)]
        holders = [lease for one in tries if (lease := one.result()) is not None]
        assert len(holders) == 1
        holders[0].release()


def _hold(uri: str, name: str, start: Any, pipe: Any, seconds: float) -> None:
    """Another process: take the lease, say how it went, hold it until the pipe ends."""
    client: Any
    with MongoClient(uri, **CLIENT_OPTIONS) as client:
        client.admin.command("ping")
        start.wait(PATIENCE)
        try:
            Lease(client[name][JOURNAL], "post", seconds=seconds).acquire()
        except CollectionLocked as exc:
            pipe.send(("locked", exc.holder["pid"]))
        else:
            pipe.send(("held", os.getpid()))
        pipe.poll(PATIENCE)


@pytest.fixture
def processes() -> Iterator[list[Any]]:
    """A list for processes, which are killed afterwards."""
    started: list[Any] = []
    yield started
    for process in started:
        process.kill()
        process.join()
        process.close()


def _start(processes: list[Any], *arguments: Any) -> Any:
    ours, theirs = SPAWN.Pipe()
    uri, name, start, seconds = arguments
    process = SPAWN.Process(target=_hold, args=(uri, name, start, theirs, seconds))
    process.start()
    theirs.close()
    processes.append(process)
    return ours


def test_of_two_processes_one_gets_it(server_uri: str, database: Any, processes: list[Any]) -> None:
    """Of two processes that start at the same moment one holds the lease; the other names it."""
    start = SPAWN.Barrier(2)
    pipes = [_start(processes, server_uri, database.name, start, LONG) for _ in range(2)]
    answers = dict(pipe.recv() for pipe in pipes)
    assert set(answers) == {"held", "locked"}
    assert answers["locked"] == answers["held"]
    for pipe in pipes:
        pipe.close()


def test_the_lease_of_a_killed_process_expires(
    server_uri: str, database: Any, journal: Any, processes: list[Any]
) -> None:
    """After kill -9 the lease is free once it has expired by the server's clock, not before."""
    start = SPAWN.Barrier(1)
    pipe = _start(processes, server_uri, database.name, start, 1.0)
    assert pipe.recv()[0] == "held"
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].join()
    pipe.close()
    expires = _entry(journal)["expires"]
    lease = Lease(journal, "post", seconds=LONG)
    refusals = []
    for _ in range(100_000):
        try:
            lease.acquire()
            break
        except CollectionLocked as exc:
            refusals.append(exc.expires)
    taken = _entry(journal)["expires"] - timedelta(seconds=LONG)
    lease.release()
    assert set(refusals) <= {expires}
    assert taken >= expires


def test_two_that_make_the_entry_at_once(journal: Any) -> None:
    """MongoDB may refuse the second of two upserts of the same entry: it asks again."""

    class Crossed(_Cut):
        def find_one_and_update(self, *args: Any, **kwargs: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise DuplicateKeyError("E11000")
            return self._real.find_one_and_update(*args, **kwargs)

    with _on(Crossed(journal, 2), Lease(journal, "post", seconds=LONG)) as lease:
        assert lease.valid


def test_a_failed_acquisition_holds_nothing(journal: Any) -> None:
    """When the server cannot be asked the error comes through, and nothing is renewed."""

    class Away(_Cut):
        def find_one_and_update(self, *args: Any, **kwargs: Any) -> Any:
            raise AutoReconnect("away")

    lease = Lease(journal, "post", seconds=LONG)
    lease._entries = Away(journal, 0)  # type: ignore[assignment]
    with pytest.raises(PyMongoError):
        lease.acquire()
    assert not lease.valid
    assert lease._renewer is None


def test_on_mongomock_a_lease_is_held_without_an_entry(mock_db: Any) -> None:
    """Nobody else reaches a database in memory: a lease is valid there, and writes nothing."""
    with Lease(journal_collection(mock_db), "post", seconds=LONG) as lease:
        lease.name_run(ObjectId())
        lease.check()
        assert mock_db.list_collection_names() == []
    assert not lease.valid


def test_a_lease_of_a_newer_version_is_not_taken(journal: Any) -> None:
    """What a newer version means by its entry is not known: even an expired one is an error."""
    with Lease(journal, "post", seconds=LONG):
        _expire(journal)
        journal.update_one({"_id": "lease:post"}, {"$set": {"format": 2}})
        with pytest.raises(CollectionLocked, match="written by a newer lazymig; delete the entry"):
            Lease(journal, "post").acquire()


def test_threads_exclude_each_other_on_mongomock(mock_db: Any) -> None:
    """A second lease of a collection on mongomock is refused until the first is given back."""
    first, second = (Lease(mock_db["lazymig_journal"], "post") for _ in range(2))
    with first, pytest.raises(CollectionLocked, match="another thread"):
        second.acquire()
    with second:
        assert second.valid
