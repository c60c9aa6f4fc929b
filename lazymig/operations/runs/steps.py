"""The rules of a run on their way over the collection: how far each is, and the report of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bson import ObjectId

from lazymig.engines.bulk import MigrationReport, RuleReport, Tally
from lazymig.engines.walk import Chunk, Position
from lazymig.errors import MigrationError
from lazymig.operations.journal.rule_run import RuleRun
from lazymig.operations.runs.context import RunContext
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left
from lazymig.rules.rule import Scope

__all__ = ["RuleStep", "groups_of", "report_of"]


@dataclass
class RuleStep:
    """One rule on its way over the collection, or some whose documents only a failed load finds.

    `state` is how far it is, which the journal has with the next checkpoint. `rescue`: its
    documents are those that a load fails for. `tallies` are what this process has counted, by rule.
    """

    position: int
    rules: tuple[BoundRule, ...]
    scope: Scope
    state: RuleRun
    rescue: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The names of its rules."""
        return ", ".join(rule.name for rule in self.rules)

    @property
    def rule(self) -> BoundRule:
        """Its rule, or the first of them."""
        return self.rules[0]

    @property
    def is_over(self) -> bool:
        """Return whether nothing is to be done for it: it is done, or not to be applied."""
        return self.state.state in ("done", "skipped")

    @property
    def at(self) -> Position | None:
        """Where to continue; `None` at the beginning."""
        return None if self.state.at is None else Position.from_bson(self.state.at)

    @property
    def is_repeatable(self) -> bool:
        """Return whether a chunk that was interrupted may be begun anew, as far as is known."""
        known = self.rescue or may_be_repeated(self.rule, self.scope)
        return self.state.repeatable if known is None else known

    @property
    def finds_again(self) -> bool:
        """Return whether the target finds what is left to do, as far as is known."""
        known = not self.rescue and tells_what_is_left(self.rule, self.scope)
        return self.state.repeatable if known is None else known

    def count(self, chunk: Chunk, tallies: Mapping[str, Tally], seconds: float) -> None:
        """Add to the state what a chunk has come to."""
        now, counted = self.state, tallies.values()
        self.state = replace(
            now,
            at=now.at if chunk.end is None else chunk.end.to_bson(),
            done=now.done + chunk.documents,
            matched=now.matched + sum(tally.matched for tally in counted),
            modified=now.modified + sum(tally.modified for tally in counted),
            quarantined=now.quarantined + sum(len(tally.errors) for tally in counted),
            repeatable=now.repeatable and not any(tally.lasting for tally in counted),
            seconds=now.seconds + seconds,
        )

    def change(self, **values: Any) -> None:
        """Set values of the state."""
        self.state = replace(self.state, **values)

    def reports(self, plan: Plan) -> list[RuleReport]:
        """What its rules did, and those that were started besides by a failed load."""
        counted = self.state
        share = counted.seconds / len(self.rules)
        names = {rule.name for rule in self.rules}
        reports = []
        for rule in plan.lazy if self.scope == "lazy" else plan.bulk:
            tally = self.tallies.get(rule.name, Tally())
            if rule.name in names or tally.matched or tally.errors:
                reports.append(
                    RuleReport(rule.name, tally.matched, tally.modified, share, tuple(tally.errors))
                )
        if self.rescue:
            return reports
        # The journal knows what its one rule did, also what another process has done of it.
        others = [report for report in reports if report.name != self.name]
        own = RuleReport(
            self.name,
            counted.matched - sum(report.matched for report in others),
            counted.modified - sum(report.modified for report in others),
            counted.seconds,
            tuple(self.tallies.get(self.name, Tally()).errors),
        )
        return [own, *(replace(report, seconds=0.0) for report in others)]


def groups_of(plan: Plan, scope: Scope) -> list[tuple[BoundRule, ...]]:
    """The rules of a scope in order; consecutive rules without a known target are one group."""
    if scope == "bulk":
        return [(rule,) for rule in plan.bulk]
    groups: list[tuple[BoundRule, ...]] = []
    for rule in plan.lazy:
        if rule.target is None and groups and groups[-1][-1].target is None:
            groups[-1] = (*groups[-1], rule)
        else:
            groups.append((rule,))
    return groups


def report_of(
    context: RunContext,
    steps: Sequence[RuleStep],
    state: Literal["finished", "stopped", "failed"],
    run_id: ObjectId | None,
    carried: Sequence[MigrationError] = (),
) -> MigrationReport:
    """The report of a run: each rule once, in order.

    :param carried: the errors of documents that earlier sessions of the run have left in
        quarantine.
    """
    plan = context.plan
    order = {rule.name: place for place, rule in enumerate((*plan.lazy, *plan.bulk))}
    reports = [RuleReport(error.rule or "", 0, 0, 0.0, (error,)) for error in carried]
    reports += [report for step in steps for report in step.reports(plan)]
    merged: dict[str, RuleReport] = {}
    for report in sorted(reports, key=lambda report: order.get(report.name, len(order))):
        former = merged.get(report.name)
        merged[report.name] = report if former is None else _sum(former, report)
    rules = tuple(merged.values())
    return MigrationReport(context.name, context.full_name, context.scope, rules, state, run_id)


def _sum(first: RuleReport, second: RuleReport) -> RuleReport:
    return replace(
        first,
        matched=first.matched + second.matched,
        modified=first.modified + second.modified,
        seconds=first.seconds + second.seconds,
        errors=(*first.errors, *second.errors),
    )
