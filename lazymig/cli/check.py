"""`lazymig check`: whether the stored documents load, validate and refer to what is there."""

from __future__ import annotations

import click

from lazymig.cli.commands import ALLOW_PENDING, command
from lazymig.cli.reporting import show_findings
from lazymig.cli.results import CheckResult
from lazymig.cli.session import Session
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
    @ALLOW_PENDING
    def check(session: Session, sample: int, every: bool, allow_pending: bool) -> int:
        """Check that stored documents load and are valid.

        Each is loaded as stored, validated and read; what it refers to is looked for. The exit code
        is 1 if something is wrong.
        """
        reports = []
        targets = session.targets("named")
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
                )
            reports.append(report)
        return show_findings(session.output, reports, allow_pending=allow_pending)
