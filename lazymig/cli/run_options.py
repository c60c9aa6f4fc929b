"""The flags for the options of a bulk run, made of what the library declares of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from lazymig.cli.commands import Amount
from lazymig.operations.declared import Declared
from lazymig.operations.throttling.limits import CHANGEABLE

__all__ = ["flag_of", "flags_of", "limits_in_words"]

_METAVARS = {"text": "TEXT", "file": "FILE", "folder": "DIR"}


def flag_of(name: str) -> str:
    """The flag of an option."""
    return f"--{name.replace('_', '-')}"


def flags_of(options: Iterable[tuple[str, Declared]]) -> Callable[[Any], Any]:
    """The decorator of a command that takes some options, in this order."""
    flags = [_flag(name, each) for name, each in options if each.help is not None]

    def decorate(function: Any) -> Any:
        for each in reversed(flags):
            function = each(function)
        return function

    return decorate


def _flag(name: str, declared: Declared) -> Callable[[Any], Any]:
    words: dict[str, Any] = {"help": declared.help}
    if declared.kind == "flag":
        return click.option(flag_of(name), is_flag=True, **words)
    words["metavar"] = _METAVARS.get(declared.kind, "N")
    if declared.kind == "whole":
        words["type"] = click.IntRange(declared.least)
    elif declared.kind in ("amount", "seconds"):
        words["type"] = Amount(0, min_open=declared.kind == "seconds")
    return click.option(flag_of(name), **words)


def limits_in_words(limits: Any) -> str:
    """What a run at work was asked to keep to."""
    return ", ".join(
        f"{CHANGEABLE[name]} {f'{value:.15g}' if value else 'removed'}"
        for name, value in limits.items()
    )
