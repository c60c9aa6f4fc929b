"""The declarations of the options of a run: checks, flags and what the journal records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lazymig import RunOptionError, RunOptions
from lazymig.cli.run_options import flags_of
from lazymig.operations.declared import Checked, declarations, option
from lazymig.operations.runs.options import Options
from lazymig.operations.throttling.limits import CHANGEABLE, Limits


def _busy() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class _Given(Checked):
    size: int = option(3, "whole", unit="a number of things", least=2, most=9, help="Things.")
    pace: float | None = option(None, "amount", unit="things per second", help="Pace.")
    wait: float = option(1.0, "seconds", help="Seconds.")
    note: str | None = option(None, "text", help="A text.")
    loud: bool = option(False, "flag", help="Make noise.")
    file: Any = option(None, "file", help="A file.")
    free: Any = option(None)


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"size": 1}, "size: is 1; use a number of things"),
        ({"size": 10}, "size: is 10; use a number of things"),
        ({"size": True}, "size: is True; use a number of things"),
        ({"size": "3"}, "size: is '3'; use a number of things"),
        ({"pace": -1}, "pace: -1 is no limit; give things per second, 0 or more (0: no limit)"),
        ({"wait": 0}, "wait: is 0; use a number of seconds above 0"),
        ({"note": b"x"}, "note: is b'x'; use a text"),
        ({"loud": 1}, "loud: is 1; use True or False"),
        ({"file": ""}, "file: '' is no path; give the path of a file, or None"),
        ({"note": {"{}": 1}}, "note: is {'{}': 1}; use a text"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(values: dict[str, Any], problem: str) -> None:
    """The error names option, value, and what fits; the defaults and all that fits are taken."""
    with pytest.raises(RunOptionError) as caught:
        _Given(**values)
    assert str(caught.value) == problem
    assert _Given(size=9, pace=0, wait=0.1, note="x", loud=True, file="x", free=object()).size == 9


def test_the_flags_are_made_of_the_declarations() -> None:
    """The command line takes what has a help text, checks it by its kind, and gives it by name."""
    given: dict[str, Any] = {}

    @click.command()
    @flags_of(declarations(_Given).items())
    def command(**options: Any) -> None:
        given.update(options)

    words = ["--size", "4", "--pace", "0.5", "--wait", "2", "--note", "x", "--loud", "--file", "y"]
    assert CliRunner().invoke(command, words).exit_code == 0
    assert given == {
        "size": 4,
        "pace": 0.5,
        "wait": 2.0,
        "note": "x",
        "loud": True,
        "file": "y",
    }
    for wrong in ("--size 1", "--pace inf", "--wait 0", "--free x"):
        assert CliRunner().invoke(command, wrong.split()).exit_code == 2


def test_every_option_is_declared_and_named() -> None:
    """What `RunOptions` names for type checkers are the declared options, no more and no less."""
    assert set(RunOptions.__annotations__) == set(declarations(Options))
    assert set(CHANGEABLE) <= set(declarations(Limits)) < set(declarations(Options))


def test_the_journal_records_what_is_declared(tmp_path: Any) -> None:
    """Plain values unchanged, absolute paths, of a function its name, of the others nothing."""
    options = Options(max_rate=5, backup=tmp_path, throttle=_busy)
    assert options.to_journal() == {
        "max_rate": 5,
        "max_replication_lag": None,
        "max_latency": None,
        "nice": 0.0,
        "throttle": "_busy",
        "flag_file": None,
        "again": False,
        "backup": str(tmp_path),
        "max_errors": 0,
        "transactions": False,
        "executor": None,
        "chunk_size": "auto",
        "chunk_seconds": 0.5,
        "rule_indexes": False,
    }
