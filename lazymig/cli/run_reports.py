"""The outcome of a bulk run: as JSON, and as the summary that ends a call."""

from __future__ import annotations

from typing import Any

from lazymig.cli.output import Output
from lazymig.engines.bulk import MigrationReport
from lazymig.errors import MigrationError
from lazymig.reports.texts import applications, duration

__all__ = ["has_done_nothing", "result_of", "show_report"]

# Refused documents that the summary of a run lists.
_MOST_LISTED = 10

# Waits of less than this are no news.
_SHORTEST_WAIT = 0.1


def has_done_nothing(report: MigrationReport) -> bool:
    """Return whether a run has come to its end, and no document was there for any of its rules."""
    untouched = not report.matched and not any(rule.covered_by for rule in report.rules)
    return report.complete and untouched and not report.nothing_to_resume


def result_of(report: MigrationReport) -> dict[str, Any]:
    """A run for JSON; see `ReportedRun`."""
    return {
        "model": report.model,
        "collection": report.collection,
        "scope": report.scope,
        "state": report.state,
        "run": report.run_id,
        "nothing_to_resume": report.nothing_to_resume,
        "matched": report.matched,
        "modified": report.modified,
        "seconds": report.seconds,
        "waited": report.waited,
        "rules": [
            {
                "name": rule.name,
                "matched": rule.matched,
                "modified": rule.modified,
                "refused": len(rule.errors),
                "seconds": rule.seconds,
                "covered_by": rule.covered_by,
            }
            for rule in report.rules
        ],
        "reopened": report.reopened,
        "errors": [_result_of_error(error) for error in report.errors],
    }


def _result_of_error(error: MigrationError) -> dict[str, Any]:
    return {
        "rule": error.rule,
        "document_id": error.document_id,
        "error": error.problem,
        "type": type(error).__name__,
    }


def show_report(output: Output, report: MigrationReport) -> None:
    """Write the summary of a run."""
    style = "green" if report.complete else "red"
    head = f"{report.model} in {report.collection}, {report.scope} rules: {report.state}, "
    if has_done_nothing(report):
        output.indented(f"{head}nothing to do", 0, style)
        return
    output.indented(f"{head}{applications(report.modified)} in {_lasted(report)}", 0, style)
    if report.reopened:
        names = ", ".join(report.reopened)
        output.indented(f"later rules lead back to {names}: run it once more", 2, "yellow")
    output.table(
        ("rule", "matched", "modified", "refused", "seconds"),
        [
            (
                rule.name,
                f"{rule.matched:,}",
                f"{rule.modified:,}",
                f"{len(rule.errors):,}",
                f"{rule.seconds:,.2f}",
            )
            for rule in report.rules
        ],
        right=(1, 2, 3, 4),
    )
    for rule in report.rules:
        if rule.covered_by is not None:
            output.indented(
                f"{rule.name} is skipped: run {rule.covered_by} has applied it to all "
                "documents, and its target does not show which are new since; --again applies it",
                2,
                "yellow",
            )
    for error in report.errors[:_MOST_LISTED]:
        output.indented(str(error), 2, "red")
    more = len(report.errors) - _MOST_LISTED
    if more > 0:
        output.indented(f"and {more:,} more", 2, "red")
    if report.errors and report.nothing_to_resume:
        output.indented("lazymig quarantine list lists them, each with its run", 2)
    elif report.errors and report.run_id is not None:
        then = "" if report.state == "finished" else ", once the run has finished"
        output.indented(
            f"lazymig quarantine list {report.run_id} lists them; lazymig quarantine retry "
            f"{report.run_id} tries them again{then}",
            2,
        )


def _lasted(report: MigrationReport) -> str:
    """The time of the work and, where the run has waited, that of the waiting with its reasons."""
    waited = sum(report.waited.values())
    if waited < _SHORTEST_WAIT:
        return duration(report.seconds)
    reasons = ", ".join(f"{kind} {duration(each)}" for kind, each in report.waited.items())
    return f"{duration(report.seconds)} of work and {duration(waited)} of waiting ({reasons})"
