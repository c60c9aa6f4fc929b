"""`lazymig seal`: rules that are finished, and whose old shape MongoDB refuses from then on."""

from __future__ import annotations

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE, Misuse
from lazymig.cli.output import Output
from lazymig.cli.results import SealResult
from lazymig.cli.session import Session
from lazymig.operations.seals import SealReport, plan_to_seal, seals_in

__all__ = ["register", "show_not_sealed"]


def register(group: click.Group) -> None:
    """Add the command."""

    @command(group, "seal", SealResult)
    @click.option(
        "--rule",
        "rules",
        metavar="NAME",
        multiple=True,
        help="This rule alone; repeatable. With --unseal also Model.NAME.",
    )
    @click.option("--unseal", is_flag=True, help="Take the seals out again.")
    @click.option("--show", is_flag=True, help="List what is sealed, and change nothing.")
    def seal(session: Session, rules: tuple[str, ...], unseal: bool, show: bool) -> int:
        """Have MongoDB refuse the old shape of rules that no document needs any more.

        A validator of the collection refuses what a sealed rule looks for, so that no old version
        of the application brings it back. The exit code is 1 if a rule is not sealed.
        """
        if unseal and show:
            raise Misuse("--unseal and --show exclude each other")
        targets = session.targets()
        journal = session.settings.journal
        reports: list[SealReport] = []
        unsealed: list[str] = []
        for target in targets:
            migration, collection = target.migration, target.collection
            if unseal:
                unsealed.extend(migration.unseal(collection, rules=list(rules) or None))
            if unseal or show:
                plan = plan_to_seal(target.model.migration_handler, target.model)
                reports.append(seals_in(collection, plan))
            else:
                chosen = list(rules) or None
                reports.append(migration.seal(collection, rules=chosen, journal=journal))
        fine = not any(report.not_sealed for report in reports)
        output = session.output
        if output.as_json:
            output.data({"ok": fine, "models": reports, "unsealed": unsealed})
            return FINE if fine else FINDINGS
        for name in unsealed:
            output.print(f"unsealed: {name}")
        for report in reports:
            _show(output, report)
        return FINE if fine else FINDINGS


def _show(output: Output, report: SealReport) -> None:
    output.print(f"{report.model} in {report.collection}")
    for rule in report.sealed:
        new = ", from now on" if rule in report.added else ""
        output.indented(f"sealed: {rule}{new}", 2, "green")
    show_not_sealed(output, report)
    for name in report.others:
        output.indented(f"sealed without a rule of this target: {name}", 2, "yellow")
    if not (report.sealed or report.not_sealed or report.others):
        output.indented("nothing is sealed", 2)


def show_not_sealed(output: Output, report: SealReport) -> None:
    """List the rules that are not sealed, and the warnings."""
    for each in report.not_sealed:
        output.indented(f"not sealed: {each.rule}: {each.reason}", 2, "red")
    for warning in report.warnings:
        output.indented(f"note: {warning}", 2, "yellow")
