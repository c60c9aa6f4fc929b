"""What the commands have in common: their options, and how they begin and end."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import click

from lazymig.cli.failures import INTERRUPTED
from lazymig.cli.output import Output
from lazymig.cli.session import Session

__all__ = ["ALLOW_PENDING", "COMMON", "EITHER_SCOPE", "Amount", "command"]

Function = Callable[..., int]


class Amount(click.FloatRange):
    """A finite number, from 0 on; a range alone lets infinity and what is no number through."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not finite.", param, ctx)
        return number


ALLOW_PENDING = click.option(
    "--allow-pending",
    is_flag=True,
    help="Findings that a pending rule cures do not make the code 1.",
)

EITHER_SCOPE = click.Choice(["lazy", "bulk", "all"])

COMMON: tuple[Callable[[Function], Function], ...] = (
    click.option(
        "--models",
        "-m",
        metavar="NAME",
        multiple=True,
        help="package.module:Model, or package.module for all migrated models in it; repeatable.",
    ),
    click.option("--uri", metavar="URI", help="The connection string, with the database."),
    click.option("--alias", metavar="NAME", help="MongoEngine's alias of that connection."),
    click.option(
        "--app", metavar="NAME", help="A module, or module:function, that connects by itself."
    ),
    click.option("--journal", metavar="NAME", help="The journal's collection."),
    click.option("--debug", is_flag=True, help="Show the traceback of an error."),
)
"""The options of each command that works with models or a database."""


def command(
    group: click.Group, name: str, *, has_json: bool = True
) -> Callable[[Function], click.Command]:
    """Make a command of a function that takes a session and its own options, and gives a code.

    :param has_json: the command reports, so it takes `--json`.
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(debug: bool, as_json: bool = False, **options: Any) -> int:
            settings = {
                key: options.pop(key) for key in ("models", "uri", "alias", "app", "journal")
            }
            return _carried_out(function, Output(as_json=as_json, debug=debug), settings, options)

        wrapped: Any = run
        for option in reversed(COMMON):
            wrapped = option(wrapped)
        if has_json:
            flag = click.option("--json", "as_json", is_flag=True, help="Write the result as JSON.")
            wrapped = flag(wrapped)
        return group.command(name)(wrapped)

    return decorate


def _carried_out(
    function: Function, output: Output, settings: dict[str, Any], options: dict[str, Any]
) -> int:
    try:
        with output.listening(), Session(output, settings) as session:
            return function(session, **options)
    except (BrokenPipeError, click.Abort, click.exceptions.Exit):
        raise
    except KeyboardInterrupt:
        output.warn("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - each is told, and by its exit code told apart
        return output.fail(error)
