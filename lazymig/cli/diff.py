"""`lazymig diff`: how the stored documents differ from the model, and which rules would end it."""

from __future__ import annotations

import click

from lazymig.cli.commands import ALLOW_PENDING, command
from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output
from lazymig.cli.session import Session
from lazymig.reports.drift.diff import DriftReport, diff
from lazymig.reports.drift.findings import DriftFinding
from lazymig.reports.dryrun.report import documents

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "diff")
    @click.option(
        "--sample",
        type=click.IntRange(1),
        metavar="N",
        help="Random documents of each model to compare.  [default: all]",
    )
    @ALLOW_PENDING
    def drift(session: Session, sample: int | None, allow_pending: bool) -> int:
        """Compare models with what is stored.

        The exit code is 1 if there is drift.
        """
        targets = session.targets("named")
        session.warn_of_missing(targets)
        journal = session.settings.journal
        reports = [diff(target.model, sample, journal=journal) for target in targets]
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


def _show(output: Output, report: DriftReport) -> None:
    looked = f"{documents(report.documents)} compared"
    output.print(f"{report.model} against {report.collection}: {looked}")
    if report.ok:
        output.indented("no drift", 2, "green")
    for finding in report.findings:
        _show_finding(output, finding)
    if report.proposals:
        output.indented("lazymig new --from-diff writes the proposed rules", 2)
    for problem in report.problems:
        output.indented(f"note: {problem}", 2, "yellow")


def _show_finding(output: Output, finding: DriftFinding) -> None:
    style = "yellow" if finding.cured_by else "red"
    output.indented(f"{finding.kind}: {finding.message}", 2, style)
    if finding.examples:
        ids = ", ".join(repr(each.document_id) for each in finding.examples)
        output.indented(f"_id {ids}", 4, "dim")
    if finding.cured_by:
        output.indented(f"cured by the pending {', '.join(finding.cured_by)}", 4)
    elif finding.proposal is not None:
        asks = ", with a question" if finding.proposal.asks else ""
        output.indented(f"proposed rule: {finding.proposal.words}{asks}", 4)
