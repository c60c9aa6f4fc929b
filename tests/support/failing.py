"""A server that can be told to let commands of the application fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient, common
from pymongo.database import Database

from lazymig.operations.runs import pacing
from lazymig.testing.mongod import EmbeddedServer
from tests.support.server import CLIENT_OPTIONS, quick_server


@pytest.fixture(scope="module")
def failing_server() -> Iterator[EmbeddedServer]:
    """A server that can be told to fail."""
    with quick_server("--setParameter", "enableTestCommands=1") as server:
        yield server


@pytest.fixture
def failing_db(
    failing_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Database[Any]]:
    """MongoEngine's default alias on a fresh database of that server; its commands alone fail."""
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.002)
    monkeypatch.setattr(pacing, "_FIRST_PAUSE", 0.002)
    # A monitor that is told of changes would hear of none, as the server's state does not change.
    own = {"appname": "fails", "serverMonitoringMode": "poll", **CLIENT_OPTIONS}
    mongoengine.connect("failing", host=failing_server.uri, **own)
    client: MongoClient[Any]
    with MongoClient(failing_server.uri, **CLIENT_OPTIONS) as client:
        client.drop_database("failing")
        yield client["failing"]
        fail(client["failing"], "off")
    mongoengine.disconnect()


def fail(database: Database[Any], mode: Any, **data: Any) -> None:
    """Let commands of the application fail."""
    database.client.admin.command(
        {"configureFailPoint": "failCommand", "mode": mode, "data": {"appName": "fails", **data}}
    )
