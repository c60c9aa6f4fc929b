"""`lazymig demo`: the tutorial made and run, on a server of its own."""

from __future__ import annotations

import click

from lazymig.cli.failures import DATABASE, FINE

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @group.command("demo")
    def demo() -> int:
        """Watch the tutorial being made and run, on a server of its own."""
        # Its models belong to the demonstration alone.
        from lazymig.demo.__main__ import main  # noqa: PLC0415

        return DATABASE if main() else FINE
