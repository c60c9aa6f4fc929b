"""The rules of a run on their way over the collection: what is known of each, and what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from bson import ObjectId
from pymongo.collection import Collection

from lazymig.engines.bulk import MigrationReport, RuleReport, Tally
from lazymig.engines.chunks import Chunk, Position
from lazymig.errors import MigrationError
from lazymig.rules.discovery import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left
from lazymig.rules.rule import Scope

__all__ = ["Step", "groups_of", "report_of"]


@dataclass
class Step:
    """One rule on its way over the collection, or all those that only a failed load starts.

    `state` is what the journal has of it. `tallies` are what this process has counted, by rule.
    """

    position: int
    rules: tuple[BoundRule, ...]
    scope: Scope
    state: dict[str, Any]
    rescue: bool = False
    tallies: dict[str, Tally] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The names of its rules."""
        return ", ".join(rule.name for rule in self.rules)

    @property
    def at(self) -> Position | None:
        """Where to go on; `None` at the beginning."""
        stored = self.state["at"]
        return None if stored is None else Position.from_bson(stored)

    @property
    def is_repeatable(self) -> bool:
        """Whether a chunk that was interrupted may be begun anew, by all that is known yet."""
        known = self.rescue or may_be_repeated(self.rules[0], self.scope)
        return bool(self.state["repeatable"] if known is None else known)

    @property
    def finds_again(self) -> bool:
        """Whether the target finds what is left to do, by all that is known yet."""
        known = not self.rescue and tells_what_is_left(self.rules[0], self.scope)
        return bool(self.state["repeatable"] if known is None else known)

    def count(self, chunk: Chunk, tallies: Mapping[str, Tally], seconds: float) -> None:
        """Add to the state what a chunk has come to; the journal has it with the checkpoint."""
        state = self.state
        if chunk.behind is not None:
            state["at"] = chunk.behind.to_bson()
        state["done"] += chunk.documents
        state["matched"] += sum(tally.matched for tally in tallies.values())
        state["modified"] += sum(tally.modified for tally in tallies.values())
        state["quarantined"] += sum(len(tally.errors) for tally in tallies.values())
        state["repeatable"] &= not any(tally.lasting for tally in tallies.values())
        state["seconds"] += seconds

    def reports(self, plan: Plan) -> list[RuleReport]:
        """What its rules did, and those that were started besides by a failed load."""
        counted = self.state
        if not self.rescue:
            errors = tuple(self.tallies.get(self.name, Tally()).errors)
            figures = counted["matched"], counted["modified"], counted["seconds"]
            return [RuleReport(self.name, *figures, errors)]
        share = counted["seconds"] / len(self.rules)
        reports = []
        for rule in plan.lazy:
            tally = self.tallies.get(rule.name, Tally())
            if rule in self.rules or tally.matched or tally.errors:
                reports.append(
                    RuleReport(rule.name, tally.matched, tally.modified, share, tuple(tally.errors))
                )
        return reports


def groups_of(plan: Plan, scope: Scope) -> list[tuple[BoundRule, ...]]:
    """The rules of a scope in order; those that only a failed load starts are one group."""
    if scope == "bulk":
        return [(rule,) for rule in plan.bulk]
    started_by_errors = tuple(rule for rule in plan.lazy if rule not in plan.starting)
    groups: list[tuple[BoundRule, ...]] = [(rule,) for rule in plan.starting]
    return [*groups, started_by_errors] if started_by_errors else groups


def report_of(
    collection: Collection[Any],
    plan: Plan,
    scope: Scope,
    steps: Sequence[Step],
    state: Literal["finished", "stopped", "failed"],
    run_id: ObjectId,
    carried: Sequence[MigrationError] = (),
) -> MigrationReport:
    """The report of a run: each rule once, in order.

    :param carried: the errors of documents that earlier sessions of the run have left in
        quarantine.
    """
    order = {rule.name: place for place, rule in enumerate((*plan.lazy, *plan.bulk))}
    reports = [RuleReport(error.rule or "", 0, 0, 0.0, (error,)) for error in carried]
    reports += [report for step in steps for report in step.reports(plan)]
    merged: dict[str, RuleReport] = {}
    for report in sorted(reports, key=lambda report: order.get(report.name, len(order))):
        former = merged.get(report.name)
        merged[report.name] = report if former is None else _sum(former, report)
    name = str(collection.full_name)
    return MigrationReport(plan.model_name, name, scope, tuple(merged.values()), state, run_id)


def _sum(first: RuleReport, second: RuleReport) -> RuleReport:
    return replace(
        first,
        matched=first.matched + second.matched,
        modified=first.modified + second.modified,
        seconds=first.seconds + second.seconds,
        errors=(*first.errors, *second.errors),
    )
