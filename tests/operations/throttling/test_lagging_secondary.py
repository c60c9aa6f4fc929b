"""A run beside a real secondary that is behind its primary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from mongoengine import IntField
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig import History
from lazymig.operations.throttling.replication_lag import lag_of_status
from lazymig.testing.mongod import EmbeddedServer
from tests.support.handlers import handler, model, rule
from tests.support.server import CLIENT_OPTIONS

COUNT = 300

_COMMAND_FAILED = 125


class _Member(EmbeddedServer):
    """A server that waits to be taken into another one's replica set."""

    def _wait_until_writable(self, deadline: float) -> None:
        """It is not going to take writes."""
        del deadline


@pytest.fixture
def secondary() -> Iterator[MongoClient[Any]]:
    """A secondary; MongoEngine's default alias is on its primary, with old documents."""
    with EmbeddedServer() as first, _Member() as second:
        client: MongoClient[Any] = mongoengine.connect("lag", host=first.uri, **CLIENT_OPTIONS)
        config = client.admin.command("replSetGetConfig")["config"]
        address = second.uri.partition("//")[2].partition("/")[0]
        config["members"].append({"_id": 1, "host": address, "priority": 0, "votes": 0})
        config["version"] += 1
        client.admin.command("replSetReconfig", config)
        client["lag"]["post"].insert_many([{"_id": number, "v": 1} for number in range(COUNT)])
        with MongoClient(second.uri, **CLIENT_OPTIONS) as other:
            while not other.admin.command("hello").get("secondary"):
                pass
            yield other
        mongoengine.disconnect()
        # In order, each would first wait for the other.
        second.kill()
        first.kill()


def _lock(secondary: MongoClient[Any], database: Database[Any]) -> None:
    """Let a secondary apply nothing that its primary writes from now on."""
    while True:
        try:
            secondary.admin.command("fsync", lock=True)
        except OperationFailure as exc:
            # It has not applied enough since it was taken in to make a checkpoint.
            if exc.code != _COMMAND_FAILED:
                raise
            database["other"].update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        else:
            return


def _falls_behind(database: Database[Any], seconds: float) -> None:
    """Write until the secondary is so far behind, by what the primary tells."""
    lag: float | None = 0.0
    while lag is None or lag < seconds:
        database["other"].update_one({"_id": 1}, {"$inc": {"n": 1}}, upsert=True)
        lag = lag_of_status(database.client.admin.command("replSetGetStatus"))


def test_a_run_waits_for_a_secondary(secondary: MongoClient[Any]) -> None:
    """Above `max_replication_lag` a run waits, says why, and goes on once the secondary follows."""
    database = mongoengine.get_db()
    _lock(secondary, database)
    locked = [True]
    reasons: list[str] = []

    def watch(progress: Any) -> None:
        if progress.waiting:
            reasons.append(progress.waiting)
            if locked:
                locked.clear()
                assert database["post"].count_documents({"v": 2}) == 0
                secondary.admin.command("fsyncUnlock")

    _falls_behind(database, 3)
    rules = handler(allmigration01__turn=rule({"v": 1}, {"$set": {"v": 2}}))
    post = model(rules, v=IntField())
    report = rules(post).migrate_all(max_replication_lag=1, chunk_size=100, progress=watch)
    assert (report.complete, report.modified) == (True, COUNT)
    assert reasons[0].startswith("replication lag ")
    assert reasons[0].endswith(" > max_replication_lag 1 s")
    (run,) = History(database).runs()
    assert run.waited["max_replication_lag"] > 0
