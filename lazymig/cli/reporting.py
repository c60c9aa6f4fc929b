"""Reports on standard output, one below the other, or as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output
from lazymig.reports.drift.findings import FindingsReport
from lazymig.reports.texts import Readable

__all__ = ["show_findings", "show_reports"]


def show_reports(output: Output, reports: Sequence[Readable]) -> None:
    """Write reports, a blank line between two of them."""
    for place, report in enumerate(reports):
        if place:
            output.print("")
        for line in report.lines():
            output.indented(*line)


def show_findings(
    output: Output, reports: Sequence[FindingsReport[Any]], *, allow_pending: bool
) -> int:
    """Write what was found; the exit code is 1 if there is something.

    :param allow_pending: what a pending rule cures does not count.
    """
    fine = not any(report.uncured if allow_pending else report.findings for report in reports)
    if output.as_json:
        output.data({"ok": fine, "models": reports})
    else:
        show_reports(output, reports)
    return FINE if fine else FINDINGS
