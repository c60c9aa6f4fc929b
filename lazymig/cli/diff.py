"""`lazymig diff`: the drift of the stored documents from the model, and rules that would end it."""

from __future__ import annotations

import click

from lazymig.cli.commands import ALLOW_PENDING, command
from lazymig.cli.reporting import show_findings
from lazymig.cli.results import DiffResult
from lazymig.cli.session import Invocation
from lazymig.reports.drift.diff import diff

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "diff", DiffResult)
    @click.option(
        "--sample",
        type=click.IntRange(1),
        metavar="N",
        help="Random documents of each model to compare.  [default: all]",
    )
    @ALLOW_PENDING
    def drift(session: Invocation, sample: int | None, allow_pending: bool) -> int:
        """Compare models with what is stored.

        The exit code is 1 if there is drift.
        """
        targets = session.targets("all")
        session.warn_of_missing(targets)
        journal = session.settings.journal
        reports = [diff(target.model, sample, journal=journal) for target in targets]
        return show_findings(session.output, reports, allow_pending=allow_pending)
