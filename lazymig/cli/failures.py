"""Failures of a call: one line with the remedy for each, and an exit code for each kind."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

import click
from bson.errors import BSONError
from mongoengine.connection import ConnectionFailure as NotConnected
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    InvalidURI,
    OperationFailure,
    PyMongoError,
)

from lazymig.errors import (
    BackupUnreadable,
    HandlerFileError,
    LazyMigError,
    MissingExtra,
    Remedy,
    RemedyKind,
    RuleDefinitionError,
    RunError,
    RunNotFound,
    RunOptionError,
)
from lazymig.redaction import excerpt

__all__ = [
    "DATABASE",
    "FAULT",
    "FINDINGS",
    "FINE",
    "INTERRUPTED",
    "USAGE",
    "Misuse",
    "as_command",
    "described",
    "one_line",
]

FINE: Final = 0
FINDINGS: Final = 1
USAGE: Final = 2
DATABASE: Final = 3
FAULT: Final = 4
INTERRUPTED: Final = 130

# Errors of calls that were wrong before anything was done.
_USAGE_ERRORS = (
    BackupUnreadable,
    HandlerFileError,
    MissingExtra,
    RuleDefinitionError,
    RunNotFound,
    RunOptionError,
)

# The command of each remedy; the library has a table of its calls.
_AS_COMMANDS: Final[Mapping[RemedyKind, str]] = {
    "again": "--again applies it again",
    "list_runs": "lazymig runs lists the runs",
    "new_run": "a call without --resume begins a new run",
    "resume": "resume with lazymig migrate --resume",
    "resume_first": (
        "resume it with lazymig migrate --resume {run} first, which leaves what is in quarantine, "
        "and retry that then"
    ),
    "resume_or_again": (
        "resume it with lazymig migrate --resume {run}, or pass --again if these documents may get "
        "it twice"
    ),
    # `migrate` itself shows the command, with the options of the call.
    "resume_this": "it can be resumed",
    "stop": (
        "wait for it, or stop it with lazymig stop {run}{journal}; if that process is dead, begin "
        "again after that time"
    ),
    "wait": "wait for it, or stop it; if that process is dead, begin again after that time",
}

# The options that have another name here.
_OPTIONS = {"executor": "workers", "rules": "rule", "sample_size": "sample"}

_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13

# After these words the driver repeats itself: the whole topology, or the server's whole answer.
_REPEATED = re.compile(
    r" \(configured timeouts:|, Timeout: [\d.]+s|, Topology Description:|, full error:"
)


class Misuse(click.ClickException):
    """The call cannot be carried out as it was given; nothing was done."""

    exit_code = USAGE


def described(error: Exception) -> tuple[str, int]:
    """Return one line for an error, with its remedy as a command, and the exit code."""
    text, code = _described(error)
    return one_line(text), code


def one_line(text: str) -> str:
    """Return a text in one line; what is not printable stays, so that secrets are still found."""
    return " ".join(text.split())


def as_command(remedy: Remedy) -> str:
    """Return a remedy of the library, worded as a command."""
    journal = "" if remedy.journal is None else f" --journal {shlex.quote(remedy.journal)}"
    return _AS_COMMANDS[remedy.kind].format(run=remedy.run, journal=journal)


def _described(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, RunOptionError) and error.option:
        option = _OPTIONS.get(error.option, error.option)
        return f"--{option.replace('_', '-')}: {error.problem}", USAGE
    if isinstance(error, LazyMigError):
        text = error.worded(as_command) if isinstance(error, RunError) else str(error)
        if isinstance(error, _USAGE_ERRORS):
            return text, USAGE
        return text, DATABASE if _is_forbidden(error.__cause__) else FINDINGS
    if isinstance(error, NotConnected):
        remedy = "name the database with --uri and --alias, or the module that connects with --app"
        return f"{error}; {remedy}", USAGE
    if isinstance(error, PyMongoError):
        return _of_database(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its rights", USAGE
    remedy = "lazymig does not know this error, --debug shows where it comes from"
    text = excerpt(error) if isinstance(error, BSONError) else str(error)
    return f"{type(error).__name__}: {text}; {remedy}", FAULT


def _is_forbidden(error: BaseException | None) -> bool:
    return isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED


def _of_database(error: PyMongoError) -> tuple[str, int]:
    whole = excerpt(error) if isinstance(error, OperationFailure) else str(error)
    text = _REPEATED.split(whole, maxsplit=1)[0].rstrip(".")
    if isinstance(error, (InvalidURI, ConfigurationError)):
        return f"the connection string is not right: {text}; see --uri", USAGE
    if isinstance(error, OperationFailure):
        if error.code == _AUTHENTICATION_FAILED:
            remedy = "check user, password and authSource in the connection string"
            return f"the database refuses the login: {text}; {remedy}", DATABASE
        if _is_forbidden(error):
            return f"the database forbids it: {text}; give the user that right", DATABASE
    if isinstance(error, ConnectionFailure):
        remedy = "check that it runs, and the host in the connection string"
        return f"the database cannot be reached: {text}; {remedy}", DATABASE
    return f"the database reports: {text}; --debug shows where it comes from", DATABASE
