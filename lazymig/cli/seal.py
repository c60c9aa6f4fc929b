"""`lazymig seal`: rules that are finished, and whose old shape MongoDB refuses from then on."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lazymig.cli.commands import command
from lazymig.cli.failures import FINDINGS, FINE, Misuse
from lazymig.cli.output import Output
from lazymig.cli.results import SealResult
from lazymig.cli.session import Invocation, Target
from lazymig.errors import SealError
from lazymig.operations.seals import SealReport, plan_to_seal, refused_report, seals_in
from lazymig.rules.plan import Plan

__all__ = ["register", "sealed_as_far", "show_not_sealed"]


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
    def seal(session: Invocation, rules: tuple[str, ...], unseal: bool, show: bool) -> int:
        """Have MongoDB refuse the old shape of finished rules.

        Sealed are the rules that no document needs any more. A validator of the collection refuses
        what they look for, so that no old version of the application brings it back. The exit
        code is 1 if a rule is not sealed.
        """
        if unseal and show:
            raise Misuse("--unseal and --show exclude each other")
        targets = session.targets()
        chosen = _chosen(targets, rules)
        reports: list[SealReport] = []
        unsealed: list[str] = []
        for target, names in chosen:
            migration, collection = target.migration, target.collection
            if not unseal and not show:
                journal = session.settings.journal
                if len(chosen) == 1:
                    reports.append(migration.seal(collection, rules=names, journal=journal))
                else:
                    reports.append(sealed_as_far(target, names, journal))
                continue
            if unseal:
                unsealed.extend(migration.unseal(collection, rules=names))
            reports.append(seals_in(collection, _plan_of(target)))
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


def sealed_as_far(target: Target, names: list[str] | None, journal: str) -> SealReport:
    """Seal rules of a model; where its collection takes no seals, that is the reason of each.

    One collection of many is to hide nothing of the others.
    """
    try:
        report: SealReport = target.migration.seal(target.collection, rules=names, journal=journal)
    except SealError as error:
        return refused_report(target.collection, _plan_of(target), names, error)
    return report


def _plan_of(target: Target) -> Plan:
    return plan_to_seal(target.model.migration_handler, target.model)


def _chosen(
    targets: Sequence[Target], rules: Sequence[str]
) -> list[tuple[Target, list[str] | None]]:
    """The models that a call is about, each with the rules that it names; `None` for all.

    :raises Misuse: a name is that of no rule, and of no seal.
    """
    if not rules:
        return [(target, None) for target in targets]
    if len(targets) == 1:
        return [(targets[0], list(rules))]
    found = []
    for target in targets:
        plan = _plan_of(target)
        known = {rule.name for rule in (*plan.lazy, *plan.bulk)}
        for name in seals_in(target.collection, plan).others:
            model, _, rule = name.rpartition(".")
            known.update([name, rule] if model == plan.model_name else [name])
        found.append((target, [name for name in rules if name in known]))
    for name in rules:
        if not any(name in names for _, names in found):
            raise Misuse(f"--rule: none of the models has a rule {name!r}, sealed or not")
    return [(target, names) for target, names in found if names]


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
