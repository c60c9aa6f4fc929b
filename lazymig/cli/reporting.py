"""Reports on standard output, one below the other, or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lazymig.cli.failures import FINDINGS, FINE
from lazymig.cli.output import Output
from lazymig.reports.drift.findings import FindingsReport
from lazymig.reports.texts import Line, Readable

__all__ = ["show_findings", "show_reports"]


def show_reports(output: Output, reports: Sequence[Readable]) -> None:
    """Write reports, a blank line between two of them."""
    _show(output, (report.lines() for report in reports))


def show_findings(
    output: Output,
    reports: Sequence[FindingsReport[Any]],
    *,
    allow_pending: bool,
    verbose: bool = False,
) -> int:
    """Write what was found; the exit code is 1 if there is something.

    :param allow_pending: what a pending rule cures does not count.
    :param verbose: each finding has all of its `_id`s.
    """
    fine = not any(report.uncured if allow_pending else report.findings for report in reports)
    if output.as_json:
        output.data({"ok": fine, "models": reports})
    else:
        _show(output, (report.lines(verbose=verbose) for report in reports))
    return FINE if fine else FINDINGS


def _show(output: Output, reports: Iterable[Iterable[Line]]) -> None:
    for place, lines in enumerate(reports):
        if place:
            output.print("")
        for line in lines:
            output.indented(*line)
