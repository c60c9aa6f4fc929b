"""A runner that was stopped for longer than its lease lasts writes nothing when it goes on."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import mongoengine
import pytest
from mongoengine import IntField, StringField
from pymongo.database import Database
from pymongo.errors import AutoReconnect
from pymongo.monitoring import CommandListener, CommandStartedEvent

from lazymig import CollectionLocked, LeaseLost, RunTakenOver
from lazymig.operations.journal.fencing import Fence, WriteFenced
from lazymig.operations.journal.lease import Lease
from lazymig.operations.runs import runner as runs
from tests.support.handlers import handler, model, rule
from tests.support.items import Item, ItemMigration, done, fill, hash_of, stored
from tests.support.runner import ROOT, command
from tests.support.server import CLIENT_OPTIONS

LEASE = 0.5
TURN = rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"n": 1}})
COUNT_UP = rule({"w": 1}, {"$inc": {"n": 1}})


def _hashing(self: Any) -> None:
    self.target = {"h": {"$exists": False}}
    self.update = {"$set": {"h": hash_of(self.doc["v"])}, "$inc": {"n": 1}}


class _Freezer(CommandListener):
    """Stops the process, as it were, before a command is sent: its lease is not renewed either."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.command = ""
        self.collection = ""
        self.left = 0
        self.meanwhile: Callable[[], object] = lambda: None
        self.frozen: Lease | None = None
        self.newest: list[Lease] = []
        renew, acquire = Lease._renew, Lease.acquire

        def renewing(lease: Lease) -> None:
            if lease is self.frozen:
                raise AutoReconnect("frozen")
            renew(lease)

        def acquiring(lease: Lease) -> None:
            acquire(lease)
            self.newest.append(lease)

        monkeypatch.setattr(Lease, "_renew", renewing)
        monkeypatch.setattr(Lease, "acquire", acquiring)

    def freeze_at(self, name: str, collection: str, times: int) -> None:
        """At the N-th time that this command is about to be sent."""
        self.command, self.collection, self.left = name, collection, times

    def started(self, event: CommandStartedEvent) -> None:
        is_it = event.command.get(self.command) == self.collection
        if self.frozen is not None or not self.command or not is_it:
            return
        self.left -= 1
        if not self.left:
            self.frozen = self.newest[-1]
            self.meanwhile()
            self.frozen = None
            self.command = ""

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


@pytest.fixture
def freezer(monkeypatch: pytest.MonkeyPatch) -> _Freezer:
    """It."""
    return _Freezer(monkeypatch)


@pytest.fixture
def frozen_db(server_uri: str, database: Database[Any], freezer: _Freezer) -> Iterator[Any]:
    """MongoEngine's default alias on a fresh database, with a freezer in the way."""
    mongoengine.connect(database.name, host=server_uri, event_listeners=[freezer], **CLIENT_OPTIONS)
    yield database
    mongoengine.disconnect()


def _post(*rules: Any) -> Any:
    body = {f"allmigration{number:02}__rule": each for number, each in enumerate(rules, 1)}
    numbers = {name: IntField() for name in ("v", "w", "n")}
    return model(handler(**body), h=StringField(), **numbers)


def _run_once_free(post: Any, **options: Any) -> Any:
    while True:
        try:
            return post.migration_handler(post).migrate_all(lease=LEASE, **options)
        except CollectionLocked:
            continue


@pytest.mark.parametrize(
    ("each", "transactions", "written"),
    [
        (TURN, False, "update"),
        (_hashing, False, "update"),
        (COUNT_UP, False, "update"),
        (COUNT_UP, True, "update"),
        (COUNT_UP, True, "findAndModify"),
        (_hashing, True, "update"),
    ],
    ids=["static", "computed", "counting alone", "counting", "noting", "in transactions"],
)
def test_nothing_is_written_behind_the_lease(
    frozen_db: Database[Any],
    freezer: _Freezer,
    monkeypatch: pytest.MonkeyPatch,
    each: Any,
    transactions: bool,
    written: str,
) -> None:
    """What was about to be sent when the process was stopped does nothing after another's run."""
    if not transactions:
        # As on a standalone server.
        monkeypatch.setattr(runs, "has_transactions", lambda _collection: False)
    post = _post(each)
    frozen_db["post"].insert_many([{"_id": number, "v": 1, "w": 1} for number in range(60)])
    before: list[Any] = []

    def meanwhile() -> None:
        assert _run_once_free(post, again=True).complete
        frozen_db["post"].insert_many([{"_id": number, "v": 1, "w": 1} for number in range(60, 90)])
        frozen_db["post"].update_many({"_id": {"$lt": 60}}, {"$set": {"v": 1}, "$unset": {"h": 1}})
        before.extend(frozen_db["post"].find().sort("_id"))

    freezer.meanwhile = meanwhile
    freezer.freeze_at(written, *(("post", 2) if written == "update" else ("lazymig_journal", 3)))
    with pytest.raises((LeaseLost, RunTakenOver)):
        post.migration_handler(post).migrate_all(
            chunk_size=20, lease=LEASE, transactions=transactions
        )
    assert before
    assert list(frozen_db["post"].find().sort("_id")) == before


def test_a_process_that_was_stopped_writes_nothing_more(
    server_uri: str, mongoengine_db: Database[Any]
) -> None:
    """SIGSTOP, a run of somebody else, SIGCONT: what the process was about to do is not done."""
    fill(mongoengine_db, 90)
    arguments = command(server_uri, mongoengine_db.name, "work", 2, chunk_size=30, lease=LEASE)
    process = subprocess.Popen(
        arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGSTOP)
        while True:
            try:
                assert ItemMigration(Item).migrate_all(lease=LEASE, again=True).complete
            except CollectionLocked:
                continue
            break
        assert stored(mongoengine_db) == done(90)
        mongoengine_db["item"].insert_many([{"_id": each, "v": 1} for each in range(90, 99)])
        before = stored(mongoengine_db)
        process.send_signal(signal.SIGCONT)
        told, _ = process.communicate("go on\n", timeout=60)
        assert (told, process.returncode) == ("", 1)
        assert stored(mongoengine_db) == before
    finally:
        process.kill()
        process.communicate()


def test_a_write_that_came_too_late_is_told(mongoengine_db: Database[Any]) -> None:
    """What found nothing behind the end of the lease is no answer, and is told from one."""
    with Lease(mongoengine_db["lazymig_journal"], "post") as lease:
        fence = lease.fence(mongoengine_db["post"])
        expires = fence.expires()
        fence.check(expires)
        late = mongoengine_db["lazymig_journal"].find_one()["expires"].replace(year=2000)
        with pytest.raises(WriteFenced):
            fence.check(late)
    with pytest.raises(LeaseLost):
        Fence(mongoengine_db["post"], lease.token, 15.0).expires()
