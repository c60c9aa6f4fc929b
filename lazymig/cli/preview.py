"""`lazymig preview`: the effects of a migration, without doing it."""

from __future__ import annotations

import click

from lazymig.cli.commands import EITHER_SCOPE, command
from lazymig.cli.failures import FINE
from lazymig.cli.reporting import show_reports
from lazymig.cli.results import PreviewResult
from lazymig.cli.session import Invocation

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "preview", PreviewResult)
    @click.option(
        "--scope",
        type=EITHER_SCOPE,
        default="all",
        show_default=True,
        help="The rules that loads apply too, the bulk rules, or both.",
    )
    @click.option(
        "--sample",
        type=click.IntRange(0),
        metavar="N",
        default=20,
        show_default=True,
        help="Documents to try the rules on, as copies; 0 for none.",
    )
    def preview(session: Invocation, scope: str, sample: int) -> int:
        """Show what migrate would do, without doing it.

        That is: counts, query plans, and documents before and after.
        """
        chosen = None if scope == "all" else scope
        targets = session.targets()
        session.warn_of_missing(targets)
        reports = [
            target.migration.preview(target.collection, sample=sample, scope=chosen)
            for target in targets
        ]
        output = session.output
        if output.as_json:
            output.data({"models": reports})
            return FINE
        show_reports(output, reports)
        return FINE
