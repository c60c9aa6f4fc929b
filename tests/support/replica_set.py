"""A replica set of three `mongod` of our own, for failovers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from lazymig.testing.mongod import EmbeddedServer, memory_folder

__all__ = ["ReplicaSet", "replica_set"]

_NAME = "lazymig"
_PATIENCE = 60.0


class _Member(EmbeddedServer):
    """A server that is not initiated by itself, and that takes no leave of the others."""

    def stop(self) -> None:
        """End it at once: a primary would look for a successor for many seconds."""
        self.kill()

    def _wait_until_writable(self, deadline: float) -> None:
        pass


class ReplicaSet:
    """Three members, each of which can become the primary."""

    def __init__(self, members: list[_Member]) -> None:
        self._uris = [member.uri for member in members]
        self.hosts = [urlsplit(uri).netloc for uri in self._uris]
        self.uri = f"mongodb://{','.join(self.hosts)}/?replicaSet={_NAME}&w=majority"
        self._initiate()
        self.client: MongoClient[Any] = MongoClient(self.uri)

    def _initiate(self) -> None:
        members = [{"_id": place, "host": host} for place, host in enumerate(self.hosts)]
        settings = {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 200}
        config = {
            "_id": _NAME,
            "members": members,
            "settings": settings,
            # None is killed before the end, so nothing has to wait for a journal.
            "writeConcernMajorityJournalDefault": False,
        }
        client: MongoClient[Any]
        with MongoClient(self._uris[0]) as client:
            client.admin.command("replSetInitiate", config)
        self.wait()

    def wait(self) -> None:
        """Return when there are a primary that takes writes and two secondaries."""
        until = time.monotonic() + _PATIENCE
        while sorted(map(self._state, self._uris)) != ["primary", "secondary", "secondary"]:
            assert time.monotonic() < until, "the replica set is not ready"

    def _state(self, uri: str) -> str:
        client: MongoClient[Any]
        try:
            with MongoClient(uri, serverSelectionTimeoutMS=1000) as client:
                hello = client.admin.command("hello")
        except PyMongoError:
            return "away"
        if hello.get("isWritablePrimary"):
            return "primary"
        return "secondary" if hello.get("secondary") else "other"

    def step_down(self) -> None:
        """Let the primary step down; another member is elected by itself."""
        self.client.admin.command("replSetStepDown", 2, secondaryCatchUpPeriodSecs=1, force=True)


@contextmanager
def replica_set() -> Iterator[ReplicaSet]:
    """Three members that run; they go at the end, and so does their data.

    :raises ServerUnavailable: there is no `mongod`.
    """
    with ExitStack() as stack:
        options: dict[str, Any] = {
            "folder": memory_folder(),
            "cache_gb": 0.25,
        }
        members = [stack.enter_context(_Member(**options)) for _ in range(3)]
        started = ReplicaSet(members)
        stack.callback(started.client.close)
        yield started
