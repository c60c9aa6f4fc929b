"""The program as a whole: how a call begins and ends, whatever the command is."""

from __future__ import annotations

import configparser
import importlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import SimpleNamespace
from typing import Annotated, Any, Literal, TypedDict

import click
import jsonschema
import mongoengine
import pytest
from bson import ObjectId

import lazymig
import lazymig.__main__
import lazymig.demo.__main__
from lazymig.cli import schemas
from lazymig.cli.main import main
from lazymig.raw.differences import MISSING, Change
from lazymig.raw.json_values import Bounds, JsonValue, in_json
from tests.cli.app import models
from tests.cli.conftest import PASSWORD, ROOT, USER, schema_of

UNREACHABLE = "mongodb://127.0.0.1:1/db?serverSelectionTimeoutMS=200&directConnection=true"


def commands(
    group: click.Group = main, path: tuple[str, ...] = ()
) -> dict[tuple[str, ...], click.Command]:
    """All commands, by the words that call them."""
    found: dict[tuple[str, ...], click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        each = group.get_command(context, name)
        assert each is not None
        if isinstance(each, click.Group):
            found.update(commands(each, (*path, name)))
        else:
            found[(*path, name)] = each
    return found


def test_a_call_imports_its_own_command_alone(shell):
    """The modules of other commands are no part of what a call waits for."""
    program = (
        "import sys, lazymig.cli.main as program\n"
        "program.main.get_command(None, 'status')\n"
        "print(*(each for each in sys.modules if each.startswith('lazymig.cli.')), sep='\\n')"
    )
    loaded = set(shell.apart(python=("-c", program)).out.split())
    assert "lazymig.cli.status" in loaded
    others = {"check", "diff", "migrate", "new", "report", "results", "runs", "watching"}
    assert not {f"lazymig.cli.{name}" for name in others} & loaded


def test_every_command_is_where_it_is_looked_for():
    """Each module adds the commands that the program says it has, in the order of the help."""
    context = click.Context(main)
    names = main.list_commands(context)
    assert [main.get_command(context, name).name for name in names] == names
    assert set(main.commands) == set(names)
    assert main.get_command(context, "frobnicate") is None


def needed_by(words: tuple[str, ...]) -> list[str]:
    """The arguments that a command cannot be called without."""
    options = {
        ("new",): ["--from-diff"],
        ("migrate",): ["--yes"],
        ("report",): ["--html", "x.html"],
        ("restore",): ["--yes"],
        ("slow",): ["--nice", "1"],
    }
    arguments = [
        each
        for each in commands()[words].params
        if isinstance(each, click.Argument) and each.required
    ]
    return ["6b" for _each in arguments] + options.get(words, [])


def test_the_version(shell):
    """`--version` tells the version of the package."""
    assert shell("--version").out == f"lazymig {lazymig.__version__}\n"


def test_version_and_help_load_no_models_and_need_no_database(shell):
    """Whatever is configured, version and help neither import models nor connect."""
    shell.write("bomb.py", "raise SystemExit('imported')\n")
    settings = {"LAZYMIG_MODELS": "bomb", "LAZYMIG_URI": "mongodb://", "LAZYMIG_APP": "bomb"}
    for arguments in (["--version"], ["--help"], ["migrate", "--help"]):
        assert shell.apart(*arguments, **settings).code == 0


def test_what_few_commands_need_is_not_loaded_for_all(shell):
    """jinja2 and rich are imported by the commands that use them alone."""
    program = (
        "import sys, lazymig.cli.main;"
        "print(sorted({'jinja2', 'rich.console', 'lazymig.demo'} & set(sys.modules)))"
    )
    assert shell.apart(python=("-c", program)).out == "[]\n"


def test_both_ways_in_are_the_same(shell):
    """`python -m lazymig` and the console script of the metadata are the same program."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    name, _, target = parser["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, attribute = target.partition(":")
    assert name == "lazymig"
    assert getattr(importlib.import_module(module), attribute) is lazymig.__main__.main
    assert shell.apart("--version").out == shell("--version").out
    assert shell.apart("--help").out.split() == shell("--help").out.split()


def test_a_variable_that_the_library_refuses_is_one_line(shell):
    """What the library reads as it is imported is told as any wrong setting, and by any call."""
    result = shell.apart("--help", LAZYMIG_WRITE_ON_LOAD="no")
    assert (result.code, result.out) == (2, "")
    assert "LAZYMIG_WRITE_ON_LOAD is 'no'; set it to 0" in result.error


def test_without_a_command_it_helps(shell):
    """A call without a command shows the help, and is a wrong call all the same."""
    result = shell()
    assert (result.code, result.err) == (2, "")
    assert result.out == shell("--help").out


def test_the_help_names_every_command_in_the_order_of_use(shell):
    """The list of commands is in the order in which they are needed, each line complete."""
    lines = shell("--help").out.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == [
        *("status", "preview", "indexes", "migrate", "runs", "pause", "resume", "stop"),
        *("slow", "quarantine", "restore", "check", "diff", "new", "finish", "seal", "view"),
        *("report", "demo"),
    ]
    assert [line for line in lines if line.endswith("...")] == []


@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_the_help_fits(shell, words):
    """The help of each command fits into 80 columns and says what each option is for."""
    assert shell(*words, "--help").code == 0
    for option in commands().get(words, main).params:
        assert isinstance(option, click.Argument) or option.help


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["status", "--frob"], "No such option"),
        (["status", "odd"], "Got unexpected extra argument (odd); see lazymig status --help"),
        (["stop"], "Missing argument 'RUN'; see lazymig stop --help"),
        (["preview", "--scope", "x"], "Invalid value for '--scope'"),
        (["migrate", "--chunk-size", "0"], "'0' is neither a number of documents nor auto or all"),
        (["status", f"mongodb://ada:{PASSWORD}@host"], "(mongodb://ada:***@host)"),
        (["quarantine", "frob"], "see lazymig quarantine --help"),
        (["report"], "Missing option '--html'"),
    ],
)
def test_a_wrong_call(shell, arguments, told):
    """A call that is written wrongly is told in one line, with exit code 2."""
    result = shell(*arguments)
    assert (result.code, result.out) == (2, "")
    assert told in result.error


@pytest.mark.parametrize(
    "words", [words for words in commands() if words != ("demo",)], ids=" ".join
)
def test_no_models_and_no_database(shell, words):
    """Without any setting, each command says what is missing, with exit code 2."""
    result = shell(*words, *needed_by(words))
    assert (result.code, result.out) == (2, "")
    assert "no models are named" in result.error or "--uri" in result.error


@pytest.mark.parametrize(
    "words", [words for words in commands() if words != ("demo",)], ids=" ".join
)
def test_a_database_that_does_not_answer(shell, words):
    """Each command that needs a database says that it does not answer, with exit code 3."""
    shell.set(LAZYMIG_URI=UNREACHABLE, LAZYMIG_MODELS=USER)
    result = shell(*words, *needed_by(words))
    assert (result.code, result.out) == (3, "")
    assert result.error.startswith("the database cannot be reached: 127.0.0.1:1: ")


def test_every_report_has_a_schema():
    """Each command but the demonstration takes --json, and its schema has no gaps."""
    reporting = [
        words
        for words, command in commands().items()
        if any("--json" in option.opts for option in command.params)
    ]
    assert [words for words in commands() if words not in reporting] == [("demo",)]
    for words in reporting:
        jsonschema.Draft202012Validator.check_schema(schema_of(*words))
        assert list(open_objects(schema_of(*words))) == []


def open_objects(schema, place="$"):
    """The places at which a schema names keys but does not require them or allows others."""
    if isinstance(schema, dict):
        named = schema.get("properties")
        optional = {"before", "after"} if place.endswith(".changes.items") else set()
        if isinstance(named, dict) and (
            schema.get("additionalProperties") is not False
            or set(schema["required"]) != set(named) - optional
        ):
            yield place
        for key, value in schema.items():
            yield from open_objects(value, place if key == "properties" else f"{place}.{key}")
    elif isinstance(schema, list):
        for value in schema:
            yield from open_objects(value, place)


@pytest.mark.parametrize("words", [("stop",), ("quarantine", "list"), ("report",)])
def test_schemas_are_written(shell, words):
    """`--json-schema` writes the schema, whatever else is missing or wrong in the call."""
    result = shell(*words, "--json-schema")
    assert (result.code, result.err) == (0, "")
    written = json.loads(result.out)
    assert written == schema_of(*words)
    assert written["title"] == f"lazymig {' '.join(words)} --json"


@dataclass(frozen=True, slots=True)
class _Part(JsonValue):
    at: datetime
    share: Annotated[float, Bounds(0, 1)] | None
    pairs: tuple[Annotated[tuple[str, int], ("value", "count")], ...]


class _Whole(TypedDict):
    run: ObjectId | None
    parts: list[_Part]
    changes: tuple[Change, ...]
    limits: Mapping[str, int]
    kind: Literal["a", "b"]
    stored: Any
    plain: Mapping[str, object]


def test_a_schema_and_the_json_come_from_the_same_types():
    """What the types say of keys and values is what is written, of values and of their parts."""
    key = ObjectId()
    value = SimpleNamespace(
        run=key,
        parts=[_Part(datetime(2020, 1, 2, 3), 0.5, (("x", 1),))],
        changes=(Change("a", MISSING, 1),),
        limits={"nice": 1},
        kind="b",
        stored={"_id": key},
        plain={"a": [1, None]},
    )
    written = in_json(value, _Whole)
    assert written == {
        "run": str(key),
        "parts": [
            {
                "at": "2020-01-02T03:00:00.000Z",
                "share": 0.5,
                "pairs": [{"value": "x", "count": 1}],
            }
        ],
        "changes": [{"path": "a", "after": {"$numberInt": "1"}}],
        "limits": {"nice": 1},
        "kind": "b",
        "stored": {"_id": {"$oid": str(key)}},
        "plain": {"a": [1, None]},
    }
    found = schemas.schema_of(_Whole)
    jsonschema.validate(written, found, cls=jsonschema.Draft202012Validator)
    assert found["required"] == list(written)
    part = found["properties"]["parts"]["items"]["properties"]
    assert part["share"] == {"type": ["number", "null"], "minimum": 0, "maximum": 1}
    assert found["properties"]["kind"] == {"enum": ["a", "b"]}
    assert found["properties"]["changes"]["items"]["required"] == ["path"]


def test_the_current_folder_can_be_imported(shell, uri, database):
    """Models in the current folder are found, as with `python -m`, by the console script too."""
    shell.write("shop.py", f"from {models.__name__} import User\n")
    models.fill(database, 1)
    script = ("-c", "import sys; sys.path.pop(0); from lazymig.cli.main import main; main()")
    for python in (("-m", "lazymig"), script):
        result = shell.apart("status", "--models", "shop", "--uri", uri, python=python)
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith("[ ] User: ")


def test_settings_of_the_folder_are_taken(shell, uri):
    """What pyproject.toml of the current folder sets needs no option."""
    shell.write("pyproject.toml", f'[tool.lazymig]\nmodels = ["{USER}"]\nuri = "{uri}"\n')
    assert shell("status").code == 0
    assert shell("status", "--models", "nothing").code == 2


def test_an_application_that_connects(shell, uri, database):
    """With --app the application connects; --uri takes the place of its connection."""
    name = uri.replace(database.name, f"{database.name}_other")
    shell.write(
        "app.py",
        f"import mongoengine\nmongoengine.connect(host={name!r}, uuidRepresentation='standard')\n",
    )
    shell.set(LAZYMIG_MODELS=USER)
    result = shell("status", "--app", "app", "--no-record")
    assert f"  {database.name}_other.user\n" in result.out
    result = shell("status", "--app", "app", "--uri", uri, "--no-record")
    assert f"  {database.name}.user\n" in result.out


def test_another_alias(shell, uri):
    """An alias that nobody has connected is told; --alias says which one the URI is for."""
    shell.write(
        "shop.py",
        f"from {models.__name__} import AnimalMigration\nimport lazymig, mongoengine\n"
        "class Cat(lazymig.LazyMigrationMixin, mongoengine.Document):\n"
        "    legs = mongoengine.IntField()\n"
        "    meta = {'db_alias': 'archive'}\n"
        "    migration_handler = AnimalMigration\n",
    )
    result = shell("status", "--models", "shop", "--uri", uri)
    assert result.code == 2
    assert "archive" in result.error
    assert "--alias" in result.error
    assert shell("status", "--models", "shop", "--uri", uri, "--alias", "archive").code == 0


def test_no_index_is_made_on_the_way(shell, uri, database):
    """A look at a model does not let MongoEngine create the indexes of its collection."""
    database.note.insert_one({"text": "a"})
    for command in ("check", "diff"):
        shell(command, "--models", f"{models.__name__}:Note", "--uri", uri)
    assert [index["name"] for index in database.note.list_indexes()] == ["_id_"]


@pytest.mark.parametrize(
    ("uri", "code", "told"),
    [
        ("mongodb://ada:{}@{}/db", 3, "the database refuses the login: Authentication failed"),
        ("mongodb://ada:{}@x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:{}/x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:x@{}/x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:{}:x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:{}?x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:{}%x@{}/db", 2, "must be percent-encoded"),
        ("mongodb://ada:{}#x@{}/db", 3, "the database refuses the login"),
        ("mongodb://ada:{}@{}", 2, "names no database"),
        ("mongodb://ada:{}@{}/db?w=x&readPreference=odd", 2, "is not right"),
        ("mongodb://ada:{}@h:x/db", 2, "is not right: Port "),
        ("mongodbb://ada:{}@{}/db", 2, "is not right: Invalid URI scheme"),
        ("mongodb+srv://ada:{}@db.nowhere.invalid/db", 3, "its name cannot be resolved"),
        ("mongodb://ada:{}@127.0.0.1:1/db?serverSelectionTimeoutMS=200", 3, "cannot be reached"),
    ],
)
def test_passwords_are_told_nowhere(shell, server_uri, uri, code, told):
    """Whatever is wrong with a connection string, its password is never told."""
    address = server_uri.split("//")[1].split("/")[0]
    given = uri.format(PASSWORD, address)
    shell.set(LAZYMIG_MODELS=USER)
    result = shell("status", "--uri", given)
    assert result.code == code
    assert told in result.error
    debugged = shell("status", "--uri", given, "--debug")
    assert debugged.code == code
    assert debugged.err.startswith("Traceback")
    assert debugged.err.endswith(result.err)


def test_passwords_in_errors_of_the_application(shop, uri):
    """An error of the application that has the connection string in it is masked, too."""
    secret = uri.replace("mongodb://", f"mongodb://ada:{PASSWORD}@")
    shop.write("app.py", f"raise RuntimeError('no {secret}, not {PASSWORD}, \\x1b[31m')\n")
    for options in ([], ["--debug"]):
        result = shop("status", "--app", "app", "--uri", secret, *options)
        assert result.code == 2
        told = result.err.splitlines()[-1]
        assert r"no mongodb://ada:***@" in told
        assert r", not ***, \x1b[31m" in told


def test_the_connection_is_closed(shop):
    """A call in a process that goes on leaves MongoEngine as unconnected as it was."""
    assert shop("status").code == 0
    with pytest.raises(mongoengine.ConnectionFailure):
        mongoengine.get_connection()


def test_debug_shows_where_an_error_comes_from(shop):
    """With --debug the traceback stands before the line."""
    shop.write("broken.py", "def helper():\n    1 / 0\nhelper()\n")
    result = shop("status", "--models", "broken", "--debug")
    assert result.code == 2
    assert "in helper" in result.err
    assert "ZeroDivisionError" in result.err


def test_log_lines_are_told_once(shop, database):
    """An application that logs to standard error by itself does not double the lines of a run."""
    models.fill(database, 2, draft=1)
    shop.write("app.py", "import logging\nlogging.basicConfig(level=logging.INFO)\n")
    result = shop.apart("migrate", "--yes", "--scope", "bulk", "--app", "app")
    assert [line.split(" ")[1] for line in result.err.splitlines()] == [
        "User.allmigration01__drop_draft"
    ]


def test_logging_is_left_as_it_was(shop):
    """Neither handlers nor levels of lazymig's loggers stay behind."""
    loggers = [logging.getLogger(name) for name in ("lazymig", "lazymig.operations.runs.progress")]
    for each in loggers:
        shop.monkeypatch.setattr(each, "level", logging.ERROR)
    before = [(each.level, each.propagate, list(each.handlers)) for each in loggers]
    shop("status")
    assert [(each.level, each.propagate, list(each.handlers)) for each in loggers] == before


def test_an_error_that_nobody_knows(shop, database, monkeypatch):
    """An error of another kind is one line with a code of its own."""
    models.fill(database, 1)
    monkeypatch.setattr("lazymig.cli.status.Looks", lambda *_, **__: {}["odd"])
    result = shop("status")
    assert result.code == 4
    assert result.error.startswith("KeyError: 'odd'; lazymig does not know this error")


def test_warnings_are_one_line(shell, uri, database):
    """A warning of a model's definition is told in one line; the command goes on."""
    shell.write(
        "shop.py",
        "import lazymig, mongoengine\n"
        "class Rules(lazymig.DocumentMigration):\n"
        "    def migration01__odd(self):\n"
        "        self.target = {'a': {'$exists': True}}\n"
        "        self.update = {'$set': {'a': 1}}\n"
        "class Odd(lazymig.LazyMigrationMixin, mongoengine.Document):\n"
        "    a = mongoengine.IntField()\n"
        "    migration_handler = Rules\n",
    )
    database.odd.insert_one({"a": 1})
    result = shell.apart("status", "--models", "shop", "--uri", uri)
    assert result.code == 0
    assert result.error.startswith("ConvergenceWarning: Odd.migration01__odd: ")


@pytest.mark.parametrize(("options", "count"), [("", 5), ("'--json'", 5), ("'--json'", 50)])
def test_a_reader_that_goes_away(shop, database, options, count):
    """A pipe that is closed early ends the call without a word, however much is written."""
    models.fill(database, count)
    program = (
        "import os, sys; os.close(1); r, w = os.pipe(); os.close(r); os.dup2(w, 1);"
        f"from lazymig.cli.main import main; main(['preview', '--sample=50', {options}])"
    )
    result = shop.apart(python=("-c", program), PYTHONPATH=str(ROOT))
    assert result.err == ""


def test_odd_encodings(shop, database):
    """Characters that the output's encoding does not have are spelled out."""
    database.user.insert_one({"_id": 1, "draft": "€", "enabled": True})
    result = shop.apart("preview", PYTHONIOENCODING="ascii")
    assert (result.code, result.err) == (0, "")
    assert r"- draft: '\u20ac'" in result.out


@pytest.mark.parametrize(("given", "code"), [(0, 0), (1, 3)])
def test_the_demonstration(shell, monkeypatch, given, code):
    """`demo` is the demonstration; where it finds no database the code says so."""
    monkeypatch.setattr(lazymig.demo.__main__, "main", lambda: given)
    assert shell("demo").code == code


def test_shell_completion(shell):
    """Shells are given the script, and the commands that begin as typed."""
    script = shell.run("-m", "lazymig", _LAZYMIG_COMPLETE="zsh_source").stdout
    assert "_LAZYMIG_COMPLETE=zsh_complete" in script
    found = shell.apart(_LAZYMIG_COMPLETE="bash_complete", COMP_WORDS="lazymig re", COMP_CWORD="1")
    assert found.out.split() == ["plain,resume", "plain,restore", "plain,report"]
