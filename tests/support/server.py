"""The MongoDB server of the tests: the one that LAZYMIG_TEST_URI names, else one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable

URI_VARIABLE = "LAZYMIG_TEST_URI"
CLIENT_OPTIONS: dict[str, Any] = {
    "serverSelectionTimeoutMS": 3000,
    "uuidRepresentation": "standard",
}


@contextmanager
def running_server() -> Iterator[str]:
    """Give the connection string of a server that answers; stop it if it is ours.

    :raises ServerUnavailable: there is none; the text says what is missing.
    """
    named = os.environ.get(URI_VARIABLE)
    if named:
        _check_answers(named)
        yield named
        return
    with EmbeddedServer() as server:
        yield server.uri


def _check_answers(uri: str) -> None:
    try:
        client: MongoClient[dict[str, Any]]
        with MongoClient(uri, **CLIENT_OPTIONS) as client:
            client.admin.command("ping")
    except PyMongoError as error:
        raise ServerUnavailable(f"the server of {URI_VARIABLE} does not answer: {error}") from error
