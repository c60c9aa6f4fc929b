"""Every error is one line that ends with a remedy, and has the exit code of its kind."""

from __future__ import annotations

import logging
from typing import get_args

import pymongo.errors
import pytest
from mongoengine.connection import ConnectionFailure

from lazymig import errors
from lazymig.cli import failures
from lazymig.cli.failures import DATABASE, FAULT, FINDINGS, USAGE, Misuse, as_command, described
from lazymig.cli.output import Output
from lazymig.errors import Remedy


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
        (errors.BackupUnreadable("torn; fix", path="x"), USAGE, "x: torn; fix"),
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
    line, given = described(error)
    assert given == code
    assert line.startswith(text)
    assert "\n" not in line


def test_a_right_that_is_missing_is_of_the_database_whoever_says_so():
    """An error of lazymig that a missing right has caused has the exit code of the database."""
    cause = pymongo.errors.OperationFailure("not authorized on x", 13)
    for error in (
        errors.ViewError("no right", model="User", view="today", collection="shop.user"),
        errors.SealError("no right", collection="shop.user"),
    ):
        error.__cause__ = cause
        line, code = described(error)
        assert ("no right" in line, code) == (True, DATABASE)


@pytest.mark.parametrize(
    ("remedy", "call", "command"),
    [
        (Remedy("list_runs"), "History(...).runs() lists", "lazymig runs lists"),
        (Remedy("again"), "again=True applies", "--again applies"),
        (Remedy("new_run"), "a call without resume begins", "a call without --resume begins"),
        (Remedy("resume_this"), "resume it with resume=True", "it can be resumed"),
        (Remedy("resume"), "resume with resume=True", "resume with lazymig migrate --resume"),
        (
            Remedy("resume_or_again", run="6b08"),
            "resume it with migrate_all(resume='6b08'), or pass again=True",
            "resume it with lazymig migrate --resume 6b08, or pass --again",
        ),
        (
            Remedy("resume_first", run="6b08", scope="lazy"),
            "resume it with migrate_pending(resume='6b08') first",
            "resume it with lazymig migrate --resume 6b08 first",
        ),
        (
            Remedy("stop", run="6b08"),
            "wait for it, or stop it with History(...).stop('6b08'); if",
            "wait for it, or stop it with lazymig stop 6b08; if",
        ),
        (
            Remedy("stop", run="6b08", journal="my notes"),
            "wait for it, or stop it with History(..., 'my notes').stop('6b08'); if",
            "wait for it, or stop it with lazymig stop 6b08 --journal 'my notes'; if",
        ),
        (Remedy("wait"), "wait for it, or stop it; if", "wait for it, or stop it; if"),
    ],
)
def test_a_remedy_is_a_call_or_a_command(remedy, call, command):
    """The library words a remedy as its own call, the command line words the same as a command."""
    assert str(remedy).startswith(call)
    assert as_command(remedy).startswith(command)
    error = errors.RunError("bad", remedy=remedy)
    assert str(error) == f"bad; {remedy}"
    assert described(error) == (f"bad; {as_command(remedy)}", FINDINGS)


def test_each_remedy_has_a_call_and_a_command():
    """No kind of remedy is left out of one of the two tables."""
    kinds = set(get_args(errors.RemedyKind))
    assert set(errors._AS_CALLS) == set(failures._AS_COMMANDS) == kinds


def test_log_lines_name_commands(capsys):
    """A log line that has a remedy names the command, however its values are given."""
    output = Output()
    logger = logging.getLogger("lazymig.tests")
    with output.listening():
        logger.warning("%s: %s", "here", Remedy("again"))
        logger.warning("%(place)s: 100 %%", {"place": "here"})
        logger.warning("100 % here")
    assert capsys.readouterr().err.splitlines() == [
        "lazymig: here: --again applies it again",
        "lazymig: here: 100 %",
        "lazymig: 100 % here",
    ]
