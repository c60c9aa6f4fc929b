"""The pytest plugin: databases as fixtures, and golden files as tests.

It is loaded in every run of pytest where lazymig is installed. So it imports nothing but pytest
until a fixture is asked for, and collects nothing unless `lazymig_golden` is configured.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pymongo import MongoClient
    from pymongo.database import Database

    from lazymig.testing.golden import GoldenCase

__all__ = [
    "lazymig_aliases",
    "lazymig_db",
    "lazymig_golden",
    "lazymig_mongod",
    "lazymig_mongomock",
    "lazymig_options",
]

_URI_VARIABLE = "LAZYMIG_TEST_URI"
_UPDATE = "--lazymig-update-golden"
_FOLDERS = "lazymig_golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the setting of golden files."""
    parser.getgroup("lazymig").addoption(
        _UPDATE,
        action="store_true",
        help="write what the rules make of old documents into the golden files",
    )
    parser.addini(
        _FOLDERS,
        "folders whose *.json files are golden files, each of them a test",
        type="paths",
        default=[],
    )


def pytest_configure(config: pytest.Config) -> None:
    """Collect golden files only where they are asked for."""
    folders = config.getini(_FOLDERS)
    if folders:
        config.pluginmanager.register(_GoldenFolders(folders), "lazymig-golden")


class _GoldenFolders:
    """Makes tests of the JSON files below some folders."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if file_path.suffix != ".json" or not any(
            folder in file_path.parents for folder in self._folders
        ):
            return None
        collector: pytest.Collector = _GoldenFile.from_parent(parent, path=file_path)
        return collector


class _GoldenFile(pytest.File):
    """A golden file as pytest sees it: it holds one test."""

    def collect(self) -> Iterator[pytest.Item]:
        path = self.path

        def check(lazymig_golden: Callable[[GoldenCase], None]) -> None:
            from lazymig.testing.golden import GoldenCase  # noqa: PLC0415 - see the module

            lazymig_golden(GoldenCase(path))

        yield _GoldenTest.from_parent(self, name=path.stem, callobj=check)


class _GoldenTest(pytest.Function):
    """The test of one golden file; a failure names paths of documents, not lines of code."""

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name

    def repr_failure(  # type: ignore[override]  # as pytest.Function does
        self, excinfo: pytest.ExceptionInfo[BaseException]
    ) -> Any:
        if isinstance(excinfo.value, (AssertionError, ValueError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


@pytest.fixture(scope="session")
def lazymig_mongod() -> Iterator[str]:
    """The connection string of a real MongoDB server that runs as long as the tests do.

    It is the server that LAZYMIG_TEST_URI names; otherwise one of our own is started on a free
    port of the loopback interface, with the packaged `mongod` or the one on PATH. Without any of
    them the test is an error that says what to install.
    """
    from lazymig.testing.mongod import EmbeddedServer, ServerUnavailable  # noqa: PLC0415

    named = os.environ.get(_URI_VARIABLE)
    if named:
        yield named
        return
    server = EmbeddedServer(crash_safe=False)
    try:
        server.start()
    except ServerUnavailable as error:
        pytest.fail(
            f"lazymig_mongod: {error}\nOr name a server in {_URI_VARIABLE}, or test with "
            "lazymig_mongomock.",
            pytrace=False,
        )
    try:
        yield server.uri
    finally:
        server.close()


@pytest.fixture(scope="session")
def _lazymig_client(lazymig_mongod: str) -> Iterator[MongoClient[dict[str, Any]]]:
    """A client of the plugin's own: it can still drop databases when a test has disconnected."""
    from pymongo import MongoClient  # noqa: PLC0415
    from pymongo.errors import PyMongoError  # noqa: PLC0415

    with MongoClient[dict[str, Any]](lazymig_mongod, serverSelectionTimeoutMS=3000) as client:
        try:
            client.admin.command("ping")
        except PyMongoError as error:
            pytest.fail(
                f"lazymig_mongod: the server does not answer: {error}\nCorrect {_URI_VARIABLE}, or "
                "unset it to have a server started.",
                pytrace=False,
            )
        yield client


@pytest.fixture
def lazymig_aliases() -> Sequence[str]:
    """The aliases of MongoEngine that `lazymig_db` and `lazymig_mongomock` connect.

    Override it where models have a `db_alias`. Each alias has a database of its own.
    """
    return ("default",)


@pytest.fixture
def lazymig_options() -> Mapping[str, Any]:
    """The keywords for `mongoengine.connect()`. Override it to connect as the application does."""
    return {"uuidRepresentation": "standard"}


@pytest.fixture
def lazymig_db(
    lazymig_mongod: str,
    _lazymig_client: MongoClient[dict[str, Any]],
    lazymig_aliases: Sequence[str],
    lazymig_options: Mapping[str, Any],
) -> Iterator[Database[dict[str, Any]]]:
    """A fresh database on the real server, which MongoEngine is connected to; dropped afterwards.

    With several aliases it is the first one's.
    """
    with _connected(lazymig_aliases, {**lazymig_options, "host": lazymig_mongod}) as databases:
        yield databases[0]
        for database in databases:
            _lazymig_client.drop_database(database.name)


@pytest.fixture
def lazymig_mongomock(
    lazymig_aliases: Sequence[str], lazymig_options: Mapping[str, Any]
) -> Iterator[Database[dict[str, Any]]]:
    """As `lazymig_db`, on mongomock, which imitates MongoDB in memory."""
    try:
        import mongomock  # noqa: PLC0415
    except ImportError:
        pytest.fail(
            "lazymig_mongomock: mongomock is not installed; run `pip install mongomock`",
            pytrace=False,
        )
    options = {**lazymig_options, "mongo_client_class": mongomock.MongoClient}
    with _connected(lazymig_aliases, options) as databases:
        yield databases[0]


@contextmanager
def _connected(
    aliases: Sequence[str], options: Mapping[str, Any]
) -> Iterator[list[Database[dict[str, Any]]]]:
    """Connect aliases of MongoEngine to fresh databases; give these, in the same order."""
    import mongoengine  # noqa: PLC0415

    for alias in aliases:
        _refuse_taken(alias)
    name = f"lazymig_test_{uuid.uuid4().hex}"
    with ExitStack() as connections:
        for number, alias in enumerate(aliases):
            mongoengine.connect(f"{name}_{number}", alias=alias, **options)
            connections.callback(mongoengine.disconnect, alias)
        yield [mongoengine.get_db(alias) for alias in aliases]


def _refuse_taken(alias: str) -> None:
    """Never take a connection away from the application: it could not be put back."""
    from mongoengine.connection import ConnectionFailure, get_connection  # noqa: PLC0415

    try:
        get_connection(alias)
    except ConnectionFailure:
        return
    pytest.fail(
        f"MongoEngine's alias {alias!r} is connected already; disconnect it before the tests, or "
        "override the fixture lazymig_db by one that gives the application's own test database",
        pytrace=False,
    )


@pytest.fixture
def lazymig_golden(
    lazymig_db: Database[dict[str, Any]],  # noqa: ARG001 - its connection is what is needed
    pytestconfig: pytest.Config,
) -> Callable[[GoldenCase], None]:
    """Check a golden case, on the database of `lazymig_db`.

    With --lazymig-update-golden the file is rewritten instead, if the rules make something else.
    """

    def check(case: GoldenCase) -> None:
        __tracebackhide__ = True
        if pytestconfig.getoption(_UPDATE):
            case.update()
        else:
            case.check()

    return check
