"""`lazymig check`: documents that do not load, are invalid, or refer to what is not there."""

from __future__ import annotations

import click

from lazymig.cli.commands import ALLOW_PENDING, command
from lazymig.cli.reporting import show_findings
from lazymig.cli.results import CheckResult
from lazymig.cli.session import Invocation
from lazymig.reports.drift.checks import check_documents

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "check", CheckResult)
    @click.option(
        "--sample",
        type=click.IntRange(1),
        metavar="N",
        default=1000,
        show_default=True,
        help="Random documents of each model to check.",
    )
    @click.option("--all", "every", is_flag=True, help="Check all documents.")
    @click.option("--verbose", "-v", is_flag=True, help="List all _ids of each finding.")
    @ALLOW_PENDING
    def check(
        session: Invocation, sample: int, every: bool, verbose: bool, allow_pending: bool
    ) -> int:
        """Check that stored documents load and are valid.

        Each is loaded as stored, validated and read; what it refers to is looked for. The exit code
        is 1 if something is wrong.
        """
        reports = []
        targets = session.targets("all")
        session.warn_of_missing(targets)
        for target in targets:
            with session.output.counting(f"checking {target.name}") as bar:
                size = None if every else sample
                report = check_documents(
                    target.model,
                    size,
                    collection=target.collection,
                    progress=bar,
                    journal=session.settings.journal,
                    most_ids=None if verbose else 10,
                )
            reports.append(report)
        return show_findings(session.output, reports, allow_pending=allow_pending, verbose=verbose)
