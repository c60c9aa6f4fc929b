"""Fixtures of the doors: a second database, a connection to the whole replica set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import mongoengine
import pytest
from pymongo import MongoClient
from pymongo.database import Database

from tests.support.commands import CommandLog
from tests.support.server import CLIENT_OPTIONS


@pytest.fixture
def other_db(
    server_uri: str, client: MongoClient[dict[str, Any]]
) -> Iterator[Database[dict[str, Any]]]:
    """A second fresh database, under MongoEngine's alias "other"."""
    name = f"lazymig_{uuid.uuid4().hex}"
    mongoengine.connect(name, alias="other", host=server_uri, **CLIENT_OPTIONS)
    yield client[name]
    mongoengine.disconnect("other")
    client.drop_database(name)


@pytest.fixture
def replica_set_db(
    server_uri: str,
    client: MongoClient[dict[str, Any]],
    database: Database[dict[str, Any]],
    command_log: CommandLog,
) -> Iterator[Database[dict[str, Any]]]:
    """As `monitored_db`, connected to the replica set: a direct connection reads where it is."""
    mongoengine.connect(
        database.name,
        host=server_uri,
        event_listeners=[command_log],
        directConnection=False,
        replicaSet=client.admin.command("hello")["setName"],
        **CLIENT_OPTIONS,
    )
    yield database
    mongoengine.disconnect()
