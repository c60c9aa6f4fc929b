"""The frame of the commands: common options, how a call begins and ends, its JSON."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import click

from lazymig.cli.failures import INTERRUPTED
from lazymig.cli.output import Output
from lazymig.cli.schemas import schema_of_command
from lazymig.cli.session import Invocation

__all__ = ["ALLOW_PENDING", "COMMON", "EITHER_SCOPE", "Amount", "command", "schema"]

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
        help="package.module:Model, or package.module for all models in it; repeatable.",
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


def command(group: click.Group, name: str, result: Any) -> Callable[[Function], click.Command]:
    """Make a command of a function that takes a session and its own options, and gives a code.

    :param result: the type of the result: what `--json` writes; see `lazymig.cli.results`.
    """

    def decorate(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(debug: bool, as_json: bool, **options: Any) -> int:
            settings = {
                key: options.pop(key) for key in ("models", "uri", "alias", "app", "journal")
            }
            output = Output(result, as_json=as_json, debug=debug)
            return _carried_out(function, output, settings, options)

        wrapped: Any = run
        for option in (*_JSON, *reversed(COMMON)):
            wrapped = option(wrapped)
        made = group.command(name)(wrapped)
        _RESULTS[made] = result
        return made

    return decorate


def schema(called: click.Command, path: str) -> dict[str, Any]:
    """Return the JSON schema of what a command writes with `--json`.

    :param path: the words that call it.
    """
    return schema_of_command(path, _RESULTS[called])


def _write_schema(context: click.Context, _option: click.Parameter, value: bool) -> None:
    if value:
        found = schema(context.command, context.command_path)
        click.echo(json.dumps(found, indent=2))
        context.exit()


_RESULTS: dict[click.Command, Any] = {}

_JSON: tuple[Callable[[Function], Function], ...] = (
    click.option(
        "--json-schema",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_write_schema,
        help="Write the schema of that JSON, and do nothing else.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Write the result as JSON."),
)


def _carried_out(
    function: Function, output: Output, settings: dict[str, Any], options: dict[str, Any]
) -> int:
    try:
        with output.listening(), Invocation(output, settings) as session:
            return function(session, **options)
    except (BrokenPipeError, click.Abort, click.exceptions.Exit):
        raise
    except KeyboardInterrupt:
        output.warn("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - each is reported, and distinguished by its exit code
        return output.fail(error)
