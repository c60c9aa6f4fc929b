"""The MongoDB server of the tests: the one that LAZYMIG_TEST_URI names, else one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable, memory_folder

URI_VARIABLE = "LAZYMIG_TEST_URI"
# What was dropped is forgotten within seconds instead of five minutes: thousands of databases come
# and go, and the server looks through all that it still holds.
_FORGETFUL = (
    *("--setParameter", "minSnapshotHistoryWindowInSeconds=5"),
    "--wiredTigerEngineConfigString",
    "file_manager=(close_handle_minimum=0,close_idle_time=5,close_scan_interval=2)",
)
CLIENT_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3000,
    "uuidRepresentation": "standard",
}


# A server that writes its journal every millisecond takes a twentieth of a core to do nothing.
_CRASH_SAFE = ("--journalCommitInterval", "1")


def quick_server(*arguments: str, crash_safe: bool = False) -> EmbeddedServer:
    """A server of one's own, not started yet, whose data lies in memory.

    :param crash_safe: for tests that kill it: what a majority has acknowledged is there afterwards.
    """
    if crash_safe:
        arguments = (*_CRASH_SAFE, *arguments)
    return EmbeddedServer(arguments=arguments, folder=memory_folder(), crash_safe=crash_safe)


@contextmanager
def running_server(own: EmbeddedServer | None = None) -> Iterator[str]:
    """Give the connection string of a server that answers; stop it if it is ours.

    :param own: the one to start where none is named; by default one that suits many tests.
    :raises ServerUnavailable: there is none; the text says what is missing.
    """
    named = os.environ.get(URI_VARIABLE)
    if named:
        _check_answers(named)
        yield named
        return
    with own or quick_server(*_FORGETFUL) as server:
        yield server.uri


def _check_answers(uri: str) -> None:
    try:
        client: MongoClient[dict[str, Any]]
        with MongoClient(uri, **CLIENT_OPTIONS) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise ServerUnavailable(f"the server of {URI_VARIABLE} does not answer: {error}") from error
