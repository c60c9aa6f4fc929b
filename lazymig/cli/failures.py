"""What went wrong, in one line with the remedy, and the exit code that says which kind it is."""

from __future__ import annotations

import re
import shlex
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
    RuleDefinitionError,
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
    "in_commands",
    "told",
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
    RuleDefinitionError,
    RunNotFound,
    RunOptionError,
)

# The library names its own calls as remedies; here these are commands.
_AS_COMMANDS = {
    # `migrate` itself says how to go on, with the options of the call.
    "everything up to here is done and noted, go on with resume=True": (
        "everything up to here is done and noted"
    ),
    "History(...).runs() lists the runs": "lazymig runs lists the runs",
    "go on with it by resume=True": "go on with it by lazymig migrate --resume",
    "or say again=True": "or say --again",
    "a call without resume begins": "a call without --resume begins",
    "go on with resume=True": "go on with lazymig migrate --resume",
    "begin again with resume=True": "begin again with lazymig migrate --resume",
    "without resume": "without --resume",
}

_GO_ON = re.compile(r"go on with it by migrate_\w+\(resume='(\w+)'\)")
_STOP = re.compile(r"History\(\.\.\.(?:, (?P<journal>'[^']*'))?\)\.stop\('(?P<run>\w+)'\)")

# The options that have another name here.
_OPTIONS = {"executor": "workers", "sample_size": "sample"}

_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13

# Behind these words the driver repeats itself: the whole topology, or the server's whole answer.
_REPEATED = re.compile(
    r" \(configured timeouts:|, Timeout: [\d.]+s|, Topology Description:|, full error:"
)


class Misuse(click.ClickException):
    """The call cannot be carried out as it was given; nothing was done."""

    exit_code = USAGE


def told(error: Exception) -> tuple[str, int]:
    """One line for an error, and the exit code."""
    text, code = _told(error)
    return in_commands(text), code


def in_commands(text: str) -> str:
    """A message of the library as one line, with commands in the place of its calls."""
    for call, command in _AS_COMMANDS.items():
        text = text.replace(call, command)
    text = _GO_ON.sub(r"go on with it by lazymig migrate --resume \1", text)
    return " ".join(_STOP.sub(_stop, text).split())


def _stop(found: re.Match[str]) -> str:
    journal = found["journal"]
    more = [] if journal is None else ["--journal", journal[1:-1]]
    return shlex.join(["lazymig", "stop", found["run"], *more])


def _told(error: Exception) -> tuple[str, int]:
    if isinstance(error, click.ClickException):
        return error.format_message(), error.exit_code
    if isinstance(error, RunOptionError) and error.option:
        option = _OPTIONS.get(error.option, error.option)
        return f"--{option.replace('_', '-')}: {error.problem}", USAGE
    if isinstance(error, _USAGE_ERRORS):
        return str(error), USAGE
    if isinstance(error, LazyMigError):
        return str(error), FINDINGS
    if isinstance(error, NotConnected):
        remedy = "name the database with --uri and --alias, or the module that connects with --app"
        return f"{error}; {remedy}", USAGE
    if isinstance(error, PyMongoError):
        return _told_of_database(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; check the path and its rights", USAGE
    remedy = "lazymig does not know this error, --debug shows where it comes from"
    text = excerpt(error) if isinstance(error, BSONError) else str(error)
    return f"{type(error).__name__}: {text}; {remedy}", FAULT


def _told_of_database(error: PyMongoError) -> tuple[str, int]:
    whole = excerpt(error) if isinstance(error, OperationFailure) else str(error)
    text = _REPEATED.split(whole, maxsplit=1)[0].rstrip(".")
    if isinstance(error, (InvalidURI, ConfigurationError)):
        return f"the connection string is not right: {text}; see --uri", USAGE
    if isinstance(error, OperationFailure):
        if error.code == _AUTHENTICATION_FAILED:
            remedy = "check user, password and authSource in the connection string"
            return f"the database refuses the login: {text}; {remedy}", DATABASE
        if error.code == _UNAUTHORIZED:
            return f"the database forbids it: {text}; give the user that right", DATABASE
    if isinstance(error, ConnectionFailure):
        remedy = "check that it runs, and the host in the connection string"
        return f"the database cannot be reached: {text}; {remedy}", DATABASE
    return f"the database reports: {text}; --debug shows where it comes from", DATABASE
