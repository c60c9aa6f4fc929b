"""`lazymig check`: whether the stored documents load, validate and refer to what is there."""

from __future__ import annotations

import click

from lazymig.cli.commands import ALLOW_PENDING, command
from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output
from lazymig.cli.session import Session
from lazymig.reports.drift.checks import CheckFinding, CheckReport, check_documents
from lazymig.reports.dryrun.report import documents

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "check")
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
        fine = not any(report.uncured if allow_pending else report.findings for report in reports)
        output = session.output
        if output.as_json:
            output.data({"ok": fine, "models": [report.to_dict() for report in reports]})
        else:
            for place, report in enumerate(reports):
                if place:
                    output.print("")
                _show(output, report)
        return FINE if fine else FINDINGS


def _show(output: Output, report: CheckReport) -> None:
    output.print(f"{report.model} in {report.collection}: {documents(report.documents)} checked")
    if report.ok:
        output.indented("nothing is wrong", 2, "green")
    for finding in report.findings:
        _show_finding(output, finding)
    for problem in report.problems:
        output.indented(f"note: {problem}", 2, "yellow")


def _show_finding(output: Output, finding: CheckFinding) -> None:
    place = f"{finding.model}.{finding.path}" if finding.path else finding.model
    style = "yellow" if finding.cured_by else "red"
    output.indented(f"{place}: {finding.kind} in {documents(finding.count)}", 2, style)
    output.indented(f"{finding.error}: {finding.message}", 4)
    ids = ", ".join(repr(one) for one in finding.ids)
    more = " and others" if finding.count > len(finding.ids) else ""
    output.indented(f"_id {ids}{more}", 4, "dim")
    if finding.cured_by:
        output.indented(f"cured by the pending {', '.join(finding.cured_by)}", 4)
