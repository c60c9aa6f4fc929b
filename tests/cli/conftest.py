"""The program, called in this process and in others, on an application and a database of its own.

Each result is checked for what holds for all of them: width, colours, secrets, schema.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from pymongo.database import Database

from lazymig.cli.commands import schema
from lazymig.cli.main import main
from lazymig.cli.settings import VARIABLES
from tests.cli.app import models

ROOT = Path(__file__).parents[2]
PASSWORD = "s3cr3t-p4ssw0rd"
USER = f"{models.__name__}:User"


def schema_of(*words: str) -> dict[str, Any]:
    """The schema of the JSON that a command gives."""
    called: Any = main
    for word in words:
        called = called.get_command(None, word)
    return schema(called, " ".join(("lazymig", *words)))


@dataclass(frozen=True)
class Result:
    """What a call gave."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that was told on standard error."""
        (line,) = self.err.splitlines()
        assert line.startswith("lazymig: ")
        return line.removeprefix("lazymig: ")


def checked(code: int, out: str, err: str) -> Result:
    """A result, once it has what every result must have."""
    assert "\x1b" not in out + err
    assert PASSWORD not in out + err
    assert all(line == line.rstrip() for line in out.splitlines())
    if not out.startswith("{"):
        assert [line for line in out.splitlines() if len(line) > 80] == []
    return Result(code, out, err)


class Shell:
    """A folder and an environment in which the program is called."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch

    def set(self, **variables: str) -> None:
        """Set environment variables."""
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def __call__(self, *arguments: Any, typed: str | None = None) -> Result:
        """Call the program in this process."""
        separate = (
            {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
        )
        words = [str(argument) for argument in arguments]
        result = CliRunner(**separate).invoke(main, words, input=typed)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return checked(result.exit_code, result.stdout, result.stderr)

    def json(self, *arguments: Any, code: int = 0) -> Any:
        """Call the program with `--json`; what it gives keeps to the command's schema."""
        result = self(*arguments, "--json")
        assert result.code == code
        value = json.loads(result.out)
        words = arguments[:2] if arguments[0] == "quarantine" else arguments[:1]
        jsonschema.validate(value, schema_of(*words), cls=jsonschema.Draft202012Validator)
        return value

    def apart(
        self, *arguments: Any, python: tuple[str, ...] = ("-m", "lazymig"), **variables: str
    ) -> Result:
        """Call the program in a process of its own."""
        result = self.run(*python, *map(str, arguments), **variables)
        return checked(result.returncode, result.stdout, result.stderr)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python, in the folder."""
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            check=False,
            cwd=self.folder,
            encoding="utf-8",
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            timeout=120,
        )

    def environment(self, **variables: str) -> dict[str, str]:
        """The environment of other processes."""
        return {**os.environ, "PYTHONPATH": str(ROOT), **variables}

    def write(self, name: str, text: str) -> Path:
        """Write a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """An empty folder, without settings; modules imported from there are forgotten."""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield Shell(folder, monkeypatch)
    for name, module in list(sys.modules.items()):
        source = getattr(module, "__file__", None)
        if name not in before and source and Path(source).is_relative_to(folder):
            del sys.modules[name]


def uri_of(server_uri: str, database: str) -> str:
    """The connection string with a database."""
    uri = server_uri.replace("/?", f"/{database}?")
    assert database in uri
    return f"{uri}&serverSelectionTimeoutMS=3000"


@pytest.fixture
def uri(server_uri: str, database: Database[Any]) -> str:
    """The connection string of a fresh database."""
    return uri_of(server_uri, database.name)


@pytest.fixture
def shop(shell: Shell, uri: str) -> Shell:
    """A shell in which the application's users, in a fresh database, are what is worked on."""
    shell.set(LAZYMIG_URI=uri, LAZYMIG_MODELS=USER)
    return shell
