"""The program: its commands, and how a call ends. `lazymig` and `python -m lazymig` are this."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final, NoReturn

import click

import lazymig
from lazymig.characters import in_one_line
from lazymig.cli.failures import FINDINGS, INTERRUPTED, USAGE
from lazymig.cli.masking import masked

__all__ = ["main"]

# The module of each command, in the order in which they are needed. A call imports its own alone.
_HOMES: Final[Mapping[str, str]] = {
    name: module
    for module, names in {
        "status": "status",
        "preview": "preview",
        "indexes": "indexes",
        "migrate": "migrate",
        "runs": "runs pause resume stop slow",
        "quarantine": "quarantine",
        "restore": "restore",
        "check": "check",
        "diff": "diff",
        "new": "new",
        "finish": "finish",
        "seal": "seal",
        "view": "view",
        "report": "report",
        "demo": "demo",
    }.items()
    for name in names.split()
}


class Program(click.Group):
    """A group whose commands give their exit codes, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The commands in the order in which they are needed."""
        return list(_HOMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported when it is asked for."""
        if cmd_name in _HOMES and cmd_name not in self.commands:
            import_module(f"lazymig.cli.{_HOMES[cmd_name]}").register(self)
        return super().get_command(ctx, cmd_name)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a call and end the process with its exit code; without `standalone_mode` give it."""
        name = prog_name or "lazymig"
        if not standalone_mode:
            return super().main(args, name, complete_var, standalone_mode=False, **extra)
        _survive_odd_characters()
        try:
            code = super().main(args, name, complete_var, standalone_mode=False, **extra)
        except click.Abort as error:
            is_interrupt = isinstance(error.__cause__, KeyboardInterrupt)
            _end("nothing was done", INTERRUPTED if is_interrupt else FINDINGS)
        except click.UsageError as error:
            path = name if error.ctx is None else error.ctx.command_path
            _end(f"{error.format_message().rstrip('.')}; see {path} --help", USAGE)
        except click.ClickException as error:
            _end(error.format_message(), error.exit_code)
        sys.exit(code)


def _end(text: str, code: int) -> NoReturn:
    click.echo(f"lazymig: {in_one_line(masked(text))}", err=True)
    sys.exit(code)


def _survive_odd_characters() -> None:
    """Spell out characters of documents that the encoding of the terminal or pipe does not have."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@click.group("lazymig", cls=Program, invoke_without_command=True)
@click.version_option(lazymig.__version__, prog_name="lazymig", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> int:
    """Change the shape of MongoEngine documents without downtime.

    Settings: options win over the variables LAZYMIG_MODELS, LAZYMIG_URI, LAZYMIG_ALIAS,
    LAZYMIG_APP, LAZYMIG_JOURNAL and LAZYMIG_FORMAT, and those over the file in this folder or
    the nearest one above it: lazymig.toml, or else [tool.lazymig] in pyproject.toml.

    Exit codes: 0 fine, 1 findings, 2 usage, 3 database, 4 unknown error, 130 Ctrl-C, 143 SIGTERM.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
        return USAGE
    return 0
