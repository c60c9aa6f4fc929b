"""Every error is one line that ends with a remedy, and has the exit code of its kind."""

from __future__ import annotations

from pathlib import Path

import pymongo.errors
import pytest
from mongoengine.connection import ConnectionFailure

import lazymig
from lazymig import errors
from lazymig.cli import failures
from lazymig.cli.failures import DATABASE, FAULT, FINDINGS, USAGE, Misuse, in_commands, told


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (Misuse("no models; name some"), USAGE, "no models; name some"),
        (
            errors.RunOptionError("is 0; use 1", option="chunk_size"),
            USAGE,
            "--chunk-size: is 0; use 1",
        ),
        (errors.RunOptionError("no; do", option="executor"), USAGE, "--workers: no; do"),
        (errors.RuleDefinitionError("no; do", model="User"), USAGE, "User: no; do"),
        (errors.RunNotFound("no run; look"), USAGE, "no run; look"),
        (errors.BackupUnreadable("torn; mend", path="x"), USAGE, "x: torn; mend"),
        (errors.HandlerFileError("gone; look", path="x"), USAGE, "x: gone; look"),
        (errors.CollectionLocked("held; wait"), FINDINGS, "held; wait"),
        (errors.RunNotActive("ended"), FINDINGS, "ended"),
        (FileNotFoundError(2, "No such file", "x"), USAGE, "x: No such file; check"),
        (ConnectionFailure("no connection"), USAGE, "no connection; name the database with --uri"),
        (pymongo.errors.InvalidURI("bad"), USAGE, "the connection string is not right: bad"),
        (
            pymongo.errors.ServerSelectionTimeoutError(
                "h:1: refused (configured timeouts: 1ms), Timeout: 1.0s, Topology Description: <T>"
            ),
            DATABASE,
            "the database cannot be reached: h:1: refused; check that it runs",
        ),
        (
            pymongo.errors.OperationFailure("Authentication failed., full error: {...}", 18),
            DATABASE,
            "the database refuses the login: Authentication failed; check user, password",
        ),
        (
            pymongo.errors.OperationFailure("not authorized on x", 13),
            DATABASE,
            "the database forbids it: not authorized on x; give the user that right",
        ),
        (pymongo.errors.OperationFailure("odd", 1), DATABASE, "the database reports: odd; --debug"),
        (KeyError("x"), FAULT, "KeyError: 'x'; lazymig does not know this error, --debug shows"),
        (ValueError("two\n  lines"), FAULT, "ValueError: two lines;"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_each_kind_of_error(error, code, text):
    """An error's kind decides the exit code; the driver's repetitions are cut off."""
    line, given = told(error)
    assert given == code
    assert line.startswith(text)
    assert "\n" not in line


@pytest.mark.parametrize(
    ("call", "command"),
    [
        ("stop it with History(...).stop('6b08'); if", "stop it with lazymig stop 6b08; if"),
        (
            "stop it with History(..., 'my notes').stop('6b08'); if",
            "stop it with lazymig stop 6b08 --journal 'my notes'; if",
        ),
        ("begin again with resume=True", "begin again with lazymig migrate --resume"),
    ],
)
def test_a_run_is_stopped_by_a_command(call, command):
    """The call that stops a run is told as the command, with the journal if it is another."""
    assert in_commands(call) == command


def test_calls_are_told_as_commands():
    """Remedies that name a call of the library name the command instead, and such calls exist."""
    sources = "".join(
        " ".join(path.read_text(encoding="utf-8").replace('"', "").split()).replace(" f", " ")
        for path in Path(lazymig.__file__).parent.glob("[!c]*/**/*.py")
    )
    for call, command in failures._AS_COMMANDS.items():
        assert call in sources
        assert in_commands(f"a\n b {call}!") == f"a b {command}!"
