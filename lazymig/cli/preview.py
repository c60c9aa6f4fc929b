"""`lazymig preview`: what a migration would do, without doing it."""

from __future__ import annotations

import click

from lazymig.cli.commands import EITHER_SCOPE, command
from lazymig.cli.failures import FINE
from lazymig.cli.output import Output
from lazymig.cli.session import Session
from lazymig.raw.differences import MISSING, Change
from lazymig.reports.dryrun.report import PreviewReport, RulePreview, SamplePreview, documents

__all__ = ["register"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "preview")
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
    def preview(session: Session, scope: str, sample: int) -> int:
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
            output.data({"models": [report.to_dict() for report in reports]})
            return FINE
        for place, report in enumerate(reports):
            if place:
                output.print("")
            _show(output, report)
        return FINE


def _show(output: Output, report: PreviewReport) -> None:
    output.print(f"{report.model} in {report.collection}: about {documents(report.total)}")
    for rule in report.rules:
        output.print("")
        _show_rule(output, rule)
    told = [each for each in report.samples if each.changes or each.problem or each.not_run]
    if report.samples:
        same = len(report.samples) - len(told)
        output.print("", f"{documents(len(report.samples))} sampled; {same} would stay as is")
    for sample in told:
        output.print("")
        _show_sample(output, sample)
    for problem in report.problems:
        output.print("")
        output.indented(f"note: {problem}", 0, "yellow")


def _show_rule(output: Output, rule: RulePreview) -> None:
    first, *rest = rule.format().splitlines()
    output.indented(first, 0, "bold")
    for told in rest:
        text = told.strip()
        output.indented(text, 4, "dim" if text.startswith("plan: ") else "yellow")


def _show_sample(output: Output, sample: SamplePreview) -> None:
    rules = ", ".join(sample.rules) or "no rule changes it"
    output.indented(f"_id {sample.document_id!r}: {rules}", 0, "bold")
    for change in sample.changes:
        _show_change(output, change)
    if sample.not_run:
        output.indented(f"not run on copies: {', '.join(sample.not_run)}", 4, "yellow")
    if sample.problem is not None:
        output.indented(f"problem: {sample.problem}", 4, "red")


def _show_change(output: Output, change: Change) -> None:
    before, after = change.texts
    if change.before is not MISSING:
        output.indented(f"- {change.path}: {before}", 4, "red")
    if change.after is not MISSING:
        output.indented(f"+ {change.path}: {after}", 4, "green")
