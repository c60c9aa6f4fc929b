"""`lazymig demo`: the guided demonstration, on a database of its own."""

from __future__ import annotations

import click

from lazymig.cli.failures import DATABASE, FINE

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @group.command("demo")
    def demo() -> int:
        """Watch a few thousand old documents being migrated."""
        # Its models belong to the demonstration alone.
        from lazymig.demo.__main__ import main  # noqa: PLC0415

        return DATABASE if main() else FINE
