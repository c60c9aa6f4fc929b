"""The fixtures of the whole suite: servers, fresh databases, a clean table of models."""

from __future__ import annotations

import gc
import os
import signal
import uuid
from collections.abc import Iterator
from typing import Any

import mongoengine
import mongomock
import pytest
from hypothesis import HealthCheck, settings
from pymongo import MongoClient
from pymongo.database import Database
from pymongo.write_concern import WriteConcern

from lazymig import signals
from lazymig.testing.mongod import ServerUnavailable
from tests.support.clients import kept_client
from tests.support.commands import CommandLog
from tests.support.registry import restored_registry
from tests.support.server import CLIENT_OPTIONS, URI_VARIABLE, running_server

Raw = dict[str, Any]

pytest_plugins = ["pytester"]

settings.register_profile(
    "default",
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("default"), max_examples=20_000)
# The same cases in each run, so that a change is judged by what it changes. New ones are drawn by
# everybody who runs `make test`.
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile(os.environ.get("LAZYMIG_PROFILE", "default"))


_SERVERS = frozenset({"server_uri", "lazymig_mongod"})


# Folders of the tests that take longest: they come first, so that none is left at the end, when
# the other processes have nothing more to do.
_FIRST = ("equivalence", "faults", "packaging", "demo")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep what is collected, which is needed to the end, out of the way of garbage collection.

    It is a million objects: to look through them again and again takes longer than to import them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a MongoDB server, whether it asks for it or is given it as a parameter."""
    items.sort(key=lambda item: item.path.parent.name not in _FIRST)
    for item in items:
        given = getattr(item, "callspec", None)
        chosen = {str(value) for value in given.params.values()} if given is not None else set()
        if _SERVERS.intersection(getattr(item, "fixturenames", ())) or "mongoengine_db" in chosen:
            item.add_marker(pytest.mark.server)


@pytest.fixture(autouse=True)
def _clean_registry() -> Iterator[None]:
    with restored_registry():
        yield


@pytest.fixture(autouse=True)
def _clean_signals() -> Iterator[None]:
    """Let nobody listen beyond a test: a load sends other commands where somebody does."""
    yield
    for name in signals.__all__:
        getattr(signals, name)._clear_state()


@pytest.fixture
def python_signals() -> Iterator[None]:
    """The signal handlers that a Python process begins with, here and in processes started here.

    A script that starts the suite in the background has it ignore Ctrl-C, which goes on to all
    processes that are started below it.
    """
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def server_uri() -> Iterator[str]:
    """The connection string of the real server; without one the whole run fails."""
    try:
        server = running_server()
        uri = server.__enter__()
    except ServerUnavailable as error:
        pytest.exit(
            f"The tests need a MongoDB server: {error}\n"
            f"Run `pip install 'lazymig[test]'`, or name a server in {URI_VARIABLE}.",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    try:
        yield uri
    finally:
        server.__exit__(None, None, None)


@pytest.fixture(scope="session")
def client(server_uri: str) -> Iterator[MongoClient[Raw]]:
    """One client on the real server for the whole run."""
    with MongoClient(server_uri, **CLIENT_OPTIONS) as connected:
        yield connected


@pytest.fixture(scope="module")
def scratch(client: MongoClient[Raw]) -> Iterator[Database[Raw]]:
    """One database for all cases of a module: one for each would take most of the time."""
    name = f"lazymig_{uuid.uuid4().hex}"
    # Nothing here has to survive.
    yield client.get_database(name, write_concern=WriteConcern(w=1, j=False))
    client.drop_database(name)


@pytest.fixture
def database(client: MongoClient[Raw]) -> Iterator[Database[Raw]]:
    """A fresh database on the real server, dropped afterwards."""
    name = f"lazymig_{uuid.uuid4().hex}"
    yield client[name]
    client.drop_database(name)


@pytest.fixture
def mongoengine_db(server_uri: str, database: Database[Raw]) -> Iterator[Database[Raw]]:
    """MongoEngine's default alias on a fresh database of the real server; gives that database."""
    mongoengine.connect(
        database.name, host=server_uri, mongo_client_class=kept_client, **CLIENT_OPTIONS
    )
    yield database
    mongoengine.disconnect()


@pytest.fixture(scope="session")
def _kept_log(server_uri: str) -> Iterator[CommandLog]:
    log = CommandLog()
    with MongoClient(server_uri, event_listeners=[log], **CLIENT_OPTIONS) as connected:
        log.client = connected
        yield log


@pytest.fixture
def command_log(_kept_log: CommandLog) -> CommandLog:
    """The commands that its own `client`, and MongoEngine under `monitored_db`, send."""
    _kept_log.clear()
    return _kept_log


@pytest.fixture
def monitored_db(
    server_uri: str, database: Database[Raw], command_log: CommandLog
) -> Iterator[Database[Raw]]:
    """As `mongoengine_db`, with every command of MongoEngine in `command_log`.

    The database that it gives belongs to an unmonitored client: preparations leave no trace.
    """
    mongoengine.connect(
        database.name,
        host=server_uri,
        mongo_client_class=kept_client,
        event_listeners=[command_log],
        **CLIENT_OPTIONS,
    )
    yield database
    mongoengine.disconnect()


@pytest.fixture
def mock_db() -> Iterator[Database[Raw]]:
    """As `mongoengine_db`, on mongomock instead of a server."""
    name = f"lazymig_{uuid.uuid4().hex}"
    mongoengine.connect(
        name, mongo_client_class=mongomock.MongoClient, uuidRepresentation="standard"
    )
    yield mongoengine.get_db()
    mongoengine.disconnect()


@pytest.fixture(params=["mongoengine_db", "mock_db"], ids=["server", "mongomock"])
def any_db(request: pytest.FixtureRequest) -> Database[Raw]:
    """Each backend in turn, for what does not depend on the real server."""
    chosen: Database[Raw] = request.getfixturevalue(request.param)
    return chosen
