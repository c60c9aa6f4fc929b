"""Servers that are killed during a run, and connections that are cut in the middle of it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest
from pathlib import Path
from typing import Any

import mongoengine
import pymongo
import pytest
from mongoengine import BooleanField, IntField
from pymongo import MongoClient, common
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from pymongo.uri_parser import parse_uri

from lazymig import CollectionLocked, History, restore
from lazymig.engines.bulk import Work
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.lease import Lease
from lazymig.operations.runs import pacing
from lazymig.testing.mongod import EmbeddedServer
from tests.support.handlers import handler, model, rule
from tests.support.items import Item, ItemMigration, done, fill, stored
from tests.support.proxy import Cut, CuttingProxy, never
from tests.support.server import CLIENT_OPTIONS, quick_server

AWAY = "the server is away"
# The rules of an item in order, each in chunks of a third: its second chunk is this one of the run.
IN_STATIC, IN_DYNAMIC, IN_COUNTING, IN_HASHING = 2, 5, 8, 11
COUNT = 30
CHUNK = 10


@pytest.fixture(scope="module")
def own_server() -> Iterator[EmbeddedServer]:
    """A server that may be killed."""
    with quick_server(crash_safe=True) as server:
        yield server


@pytest.fixture
def own_db(own_server: EmbeddedServer) -> Iterator[Database[Any]]:
    """MongoEngine's default alias on a fresh database of that server, with old items."""
    options = {**CLIENT_OPTIONS, "serverSelectionTimeoutMS": 200}
    client: MongoClient[Any] = mongoengine.connect("lost", host=own_server.uri, **options)
    client.drop_database("lost")
    fill(client["lost"], COUNT)
    yield client["lost"]
    mongoengine.disconnect()
    if own_server.pid is None:
        own_server.start()


class Outage:
    """Kills a server when the run reaches a stage for the N-th time, and notes how it waits."""

    def __init__(self, server: EmbeddedServer, occurrence: int, restarts: bool = True) -> None:
        self.waits: list[str] = []
        self._server = server
        self._left = occurrence
        self._restarts = restarts
        self._lock = threading.Lock()

    def reach(self) -> str | None:
        """Kill the server, the last time; gives a reason to wait then."""
        with self._lock:
            self._left -= 1
            if self._left:
                return None
            self._server.kill()
            return "the test waits"

    def around(self, method: Callable[..., Any], before: bool) -> Callable[..., Any]:
        """The method with this stage before or behind it."""

        def surrounded(*arguments: Any, **options: Any) -> Any:
            if before:
                self.reach()
            result = method(*arguments, **options)
            if not before:
                self.reach()
            return result

        return surrounded

    def watch(self, progress: Any) -> None:
        """Start the server again as soon as the run says that it waits for it."""
        if progress.waiting:
            self.waits.append(progress.waiting)
            if self._restarts and progress.waiting == AWAY and self._server.pid is None:
                self._server.start()


def _lose_at(
    monkeypatch: pytest.MonkeyPatch, outage: Outage, stage: str, options: dict[str, Any]
) -> None:
    if stage == "ready":
        options["throttle"] = lambda: outage.reach() and None
    elif stage == "waiting":
        options["throttle"] = outage.reach
    elif stage == "noted":
        monkeypatch.setattr(Journal, "checkpoint", outage.around(Journal.checkpoint, before=False))
    else:
        before = stage == "work"
        monkeypatch.setattr(Work, "apply", outage.around(Work.apply, before=before))


def _once_unlocked(prepare: Callable[[], object] = lambda: None, **options: Any) -> Any:
    """Run as soon as the lease of a run that broke off has expired, by the server's clock."""
    while True:
        prepare()
        try:
            return ItemMigration(Item).migrate_all(**options)
        except CollectionLocked:
            continue


def _check(database: Database[Any], count: int, chunk: int, exact: bool = False) -> None:
    """Nothing lost, nothing done twice, and the journal tells it.

    Where a chunk is no transaction, its updates may be done, and not counted, when an answer is
    lost; or a server that breaks down forgets what was counted, and is found to have forgotten it.
    """
    assert stored(database) == done(count)
    (run,) = History(database).runs()
    assert run.state == "finished"
    for each, is_exact in zip(run.rules, (exact, exact, True, exact), strict=True):
        assert each.state == "done"
        assert 0 <= each.done - count <= (0 if is_exact else chunk)
        assert abs(each.matched - count) <= (0 if is_exact else chunk)
        assert each.modified == each.matched


# How the chunks are done; with a backup each is a transaction, and so it is if one asks for it.
PLAIN, TRANSACTIONS, BACKUP = "plain", "transactions", "backup"


def _options(kind: str, folder: Path) -> dict[str, Any]:
    if kind == BACKUP:
        return {"backup": folder}
    return {"transactions": kind == TRANSACTIONS}


@pytest.mark.parametrize(
    ("stage", "occurrence", "kind"),
    [
        ("ready", IN_STATIC, PLAIN),
        ("waiting", IN_STATIC, PLAIN),
        ("work", IN_STATIC, PLAIN),
        ("written", IN_STATIC, PLAIN),
        ("written", IN_DYNAMIC, PLAIN),
        ("written", IN_COUNTING, PLAIN),
        ("noted", IN_COUNTING + 2, PLAIN),
        ("written", IN_HASHING, PLAIN),
        ("written", IN_DYNAMIC, TRANSACTIONS),
        ("written", IN_HASHING, TRANSACTIONS),
        ("written", IN_STATIC, BACKUP),
        ("work", IN_DYNAMIC, BACKUP),
        ("noted", IN_COUNTING + 2, BACKUP),
    ],
)
def test_a_server_that_comes_back_is_waited_for(
    own_server: EmbeddedServer,
    own_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    stage: str,
    occurrence: int,
    kind: str,
) -> None:
    """A run waits for a killed server, says so, and finishes; nothing is lost or done twice."""
    before = stored(own_db)
    outage = Outage(own_server, occurrence)
    options = _options(kind, tmp_path / "backup")
    _lose_at(monkeypatch, outage, stage, options)
    # So short a lease is over when the server comes back. But a third of it is the time limit of a
    # renewal, in which PyMongo 4.9 does not get to connect.
    lease = 0.5 if pymongo.version_tuple >= (4, 10) else 3
    report = ItemMigration(Item).migrate_all(
        chunk_size=CHUNK, lease=lease, progress=outage.watch, **options
    )
    assert report.complete
    assert AWAY in outage.waits
    _check(own_db, COUNT, CHUNK, exact=kind == BACKUP)
    assert History(own_db).runs()[0].waited[AWAY] > 0
    if kind == BACKUP:
        assert restore(tmp_path / "backup", own_db).conflict_count == 0
        assert stored(own_db) == before


def test_what_a_server_forgets_is_done_again(
    own_server: EmbeddedServer, own_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that a server has acknowledged, and lost by breaking down, is not noted as done."""
    rules = handler(allmigration01__flag=rule({"v": 1}, {"$set": {"flag": True}}))
    post = model(rules, v=IntField(), flag=BooleanField())
    own_db["post"].drop()
    own_db["post"].insert_many([{"_id": number, "v": 1} for number in range(COUNT)])
    outage = Outage(own_server, 2)
    _lose_at(monkeypatch, outage, "written", {})
    assert rules(post).migrate_all(chunk_size=CHUNK, progress=outage.watch).complete
    assert AWAY in outage.waits
    assert own_db["post"].count_documents({"flag": True}) == COUNT


def test_workers_wait_for_a_server_that_comes_back(
    own_server: EmbeddedServer, own_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that workers could not do because the server was gone are given to them again."""
    outage = Outage(own_server, IN_DYNAMIC)
    _lose_at(monkeypatch, outage, "work", {})
    with ThreadPoolExecutor(2) as pool:
        report = ItemMigration(Item).migrate_all(
            chunk_size=CHUNK, executor=pool, progress=outage.watch
        )
    assert report.complete
    assert AWAY in outage.waits
    assert stored(own_db) == done(COUNT)


def test_a_server_that_forgets_its_cursors_is_asked_again(
    own_server: EmbeddedServer, own_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was restarted between two batches of one chunk costs no document."""
    own_db["item"].update_one({"_id": 2}, {"$set": {"n": "text"}})
    stream = Work.stream
    restarts = iter([True])

    def restarting(work: Work, *arguments: Any, **options: Any) -> Iterator[Any]:
        for batch in stream(work, *arguments, **{**options, "size": 10}):
            if next(restarts, False):
                own_server.kill()
                own_server.start()
            yield batch

    monkeypatch.setattr(Work, "stream", restarting)
    report = ItemMigration(Item).migrate_all(max_errors=1)
    assert next(restarts, None) is None
    assert report.state == "finished"
    assert [error.document_id for error in report.errors] == [2]
    expected = done(COUNT)
    expected[2] = {"_id": 2, "v": 1, "n": "text"}
    assert stored(own_db) == expected


@pytest.mark.parametrize("occurrence", [IN_STATIC, IN_DYNAMIC, IN_COUNTING, IN_HASHING])
def test_a_server_that_stays_away_ends_the_run(
    own_server: EmbeddedServer,
    own_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    occurrence: int,
) -> None:
    """Beyond its patience a run raises the driver's error; it is dead then, and can be resumed."""
    outage = Outage(own_server, occurrence, restarts=False)
    with monkeypatch.context() as patch:
        patch.setattr(pacing, "_PATIENCE", 0.4)
        _lose_at(patch, outage, "written", {})
        with pytest.raises(AutoReconnect):
            ItemMigration(Item).migrate_all(chunk_size=CHUNK, lease=0.5, progress=outage.watch)
    assert AWAY in outage.waits
    own_server.start()
    while (run := History(own_db).runs()[0]).state != "dead":
        assert run.state == "running"
    assert run.ended is None
    assert _once_unlocked(chunk_size=CHUNK, resume=True).run_id == run.id
    _check(own_db, COUNT, CHUNK)


def test_a_lease_that_is_renewed_late_is_waited_for(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose lease ran out, and was nobody else's meanwhile, waits until it is renewed."""
    fill(mongoengine_db, COUNT)
    renew = Lease._renew
    leases: list[Lease] = []
    waits: list[str] = []
    held_back = threading.Event()

    def late(lease: Lease) -> None:
        leases.append(lease)
        if held_back.is_set():
            raise AutoReconnect("held back")
        renew(lease)

    def watch(progress: Any) -> None:
        if progress.waiting:
            waits.append(progress.waiting)
            held_back.clear()
        elif progress.done == CHUNK:
            held_back.set()
            while leases[0].valid:
                pass

    monkeypatch.setattr(Lease, "_renew", late)
    report = ItemMigration(Item).migrate_all(chunk_size=CHUNK, lease=0.3, progress=watch)
    assert report.complete
    assert "the lease is not renewed yet" in waits
    _check(mongoengine_db, COUNT, CHUNK, exact=True)


def test_an_error_of_the_callback_is_no_lost_server(mongoengine_db: Database[Any]) -> None:
    """What `progress` raises ends the run, even if it looks like a lost connection."""
    fill(mongoengine_db, COUNT)
    error = AutoReconnect("of the application's own database")
    told: list[Any] = []

    def watch(progress: Any) -> None:
        told.append(progress)
        raise error

    with pytest.raises(AutoReconnect) as caught:
        ItemMigration(Item).migrate_all(chunk_size=CHUNK, progress=watch)
    assert caught.value is error
    assert len(told) == 1
    assert ItemMigration(Item).migrate_all(resume=True).complete
    _check(mongoengine_db, COUNT, CHUNK)


@pytest.fixture
def proxy(server_uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingProxy]:
    """A proxy before the real server, and a driver that finds it again in no time."""
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.002)
    monkeypatch.setattr(pacing, "_FIRST_PAUSE", 0.002)
    (address,) = parse_uri(server_uri)["nodelist"]
    with CuttingProxy(address) as between:
        yield between


@pytest.fixture
def proxied_db(proxy: CuttingProxy, database: Database[Any]) -> Iterator[Database[Any]]:
    """MongoEngine's default alias through that proxy; gives the database without it."""
    mongoengine.connect(
        database.name, host=proxy.uri, serverMonitoringMode="poll", **CLIENT_OPTIONS
    )
    yield database
    mongoengine.disconnect()


# What is done to an exchange, and to the one that follows, in which the driver tries again.
WAYS: tuple[tuple[Cut, ...], ...] = (("half",), ("lost", "lost"), ("unsent", "half"))


def _cutting(first: int, way: Sequence[Cut]) -> Callable[[int, str], Cut | None]:
    """Cut this exchange and those that follow."""
    left = list(way)

    def plan(number: int, _command: str) -> Cut | None:
        return left.pop(0) if left and number >= first else None

    return plan


# The first exchange of each rule of a run.
OPENING = "count"


def _once_begun(commands: Sequence[str]) -> list[list[tuple[int, int]]]:
    """The exchanges of a run that has begun, by rule; of many alike in a row the first and last.

    Each is a number within its rule, and one within the run.
    """
    rules: list[list[tuple[int, int]]] = []
    for number, command in enumerate(commands, start=1):
        if command == OPENING:
            rules.append([])
            opened = number
        if rules and len(set(commands[number - 2 : number + 1])) > 1:
            rules[-1].append((number - opened, number))
    return rules


class CutInEachRule:
    """A plan that cuts one exchange of each rule, and those that follow it.

    A rule begins anew after whatever happened in the one before, so that a run can lose as many
    exchanges as it has rules, and each of them as though it were the only one.

    :param cuts: for each rule its exchange and what is done to it; `None` spares the rule.
    """

    def __init__(self, cuts: Sequence[tuple[int, Sequence[Cut]] | None]) -> None:
        self.expected = sum(len(cut[1]) for cut in cuts if cut is not None)
        self._cuts = iter(cuts)
        self._wait = 0
        self._left: list[Cut] = []
        self._repeated = False

    def __call__(self, _number: int, command: str) -> Cut | None:
        # An opening that was lost is sent again, and is no other rule's.
        if command == OPENING and not self._repeated:
            assert not self._left
            self._wait, way = next(self._cuts) or (0, ())
            self._left = list(way)
        elif self._wait:
            self._wait -= 1
        cut = self._left.pop(0) if self._left and not self._wait else None
        self._repeated = cut is not None
        return cut


def _plans(commands: Sequence[str], turn: int) -> list[CutInEachRule]:
    """Plans that cut each of the exchanges of this run once, in its way."""
    return [
        CutInEachRule([cut and (cut[0], WAYS[(cut[1] + turn) % len(WAYS)]) for cut in of_each_rule])
        for of_each_rule in zip_longest(*_once_begun(commands))
    ]


@pytest.mark.parametrize(
    ("chunk_size", "kind", "turn"),
    [
        ("auto", PLAIN, 0),
        ("auto", PLAIN, 1),
        ("auto", TRANSACTIONS, 2),
        ("auto", BACKUP, 0),
        ("auto", BACKUP, 1),
        (4, PLAIN, 2),
        (4, BACKUP, 2),
    ],
)
def test_a_cut_connection_loses_nothing(
    proxy: CuttingProxy,
    proxied_db: Database[Any],
    tmp_path: Path,
    chunk_size: Any,
    kind: str,
    turn: int,
) -> None:
    """Whichever request or answer of a run is lost, it goes on; nothing is done twice."""
    count = 7
    old: list[dict[str, int]] = []

    def run(number: int, plan: Callable[[int, str], Cut | None]) -> Path:
        for name in ("item", "lazymig_journal"):
            proxied_db[name].delete_many({})
        fill(proxied_db, count)
        old[:] = stored(proxied_db)
        backup = tmp_path / str(number)
        proxy.begin(plan)
        report = ItemMigration(Item).migrate_all(chunk_size=chunk_size, **_options(kind, backup))
        assert report.complete
        return backup

    run(0, never)
    plans = _plans(proxy.commands, turn)
    assert len(plans) > 10
    for number, plan in enumerate(plans, start=1):
        backup = run(number, plan)
        assert len(proxy.cuts) == plan.expected
        _check(proxied_db, count, count, exact=kind == BACKUP)
        if kind == BACKUP:
            assert restore(backup, proxied_db).conflict_count == 0
            assert stored(proxied_db) == old


@pytest.mark.parametrize("kind", [PLAIN, BACKUP])
def test_a_cut_connection_beside_a_refused_document(
    proxy: CuttingProxy, proxied_db: Database[Any], tmp_path: Path, kind: str
) -> None:
    """While the document that MongoDB refuses is looked for, a lost answer does nothing twice."""
    expected = [{**raw, "k": "text"} if raw["_id"] == 2 else raw for raw in done(5)]

    def run(number: int, plan: Callable[[int, str], Cut | None]) -> None:
        for name in ("item", "lazymig_journal"):
            proxied_db[name].delete_many({})
        # Only the last rule has something to do.
        proxied_db["item"].insert_many(done(5))
        proxied_db["item"].update_many({}, {"$unset": {"k": ""}})
        proxied_db["item"].update_one({"_id": 2}, {"$set": {"k": "text"}})
        proxy.begin(plan)
        report = ItemMigration(Item).migrate_all(
            max_errors=1, **_options(kind, tmp_path / str(number))
        )
        assert report.state == "finished"
        (error,) = report.errors
        assert (error.document_id, error.rule) == (2, "allmigration03__count")
        assert "Cannot apply $inc" in str(error)
        assert stored(proxied_db) == expected
        (quarantined,) = History(proxied_db).quarantined(report.run_id)
        assert quarantined.document_id == 2

    run(0, never)
    for number, plan in enumerate(_plans(proxy.commands, 0), start=1):
        run(number, plan)
        assert len(proxy.cuts) == plan.expected


@pytest.mark.parametrize("number", range(1, 7))
def test_a_connection_that_is_cut_at_the_start_is_outlasted(
    proxy: CuttingProxy, proxied_db: Database[Any], number: int
) -> None:
    """A run waits for a server that is away from its first command on, and does all of it once."""
    fill(proxied_db, 7)
    # The lease, the journal's indexes, the entry, the older entries, the holder of the lease.
    proxy.begin(_cutting(number, ("lost",) * 3))
    assert ItemMigration(Item).migrate_all(lease=1.0).complete
    assert stored(proxied_db) == done(7)
