"""The opening of a bulk run: a new entry of the journal, one that is resumed, or neither."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bson import ObjectId

from lazymig.engines.bulk import MigrationReport, RuleReport
from lazymig.errors import MigrationError, Remedy, RuleChanged, RunError, RunNotActive
from lazymig.operations.journal.coverage import Coverage, is_marked
from lazymig.operations.journal.entries import NewRun, RunEntry
from lazymig.operations.journal.refusals import refusals
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.digest import digest_of
from lazymig.operations.runs.steps import RuleStep, report_of
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.repetition import tells_what_is_left

__all__ = ["Opened", "Opening"]

logger = logging.getLogger(__name__)


@dataclass
class Opened:
    """A run that may begin: its entry, its rules, and by which runs some of them are covered.

    `waiting` are the errors of what those runs have in quarantine.
    """

    entry: RunEntry
    steps: list[RuleStep]
    covered: dict[str, ObjectId]
    waiting: list[MigrationError]

    def completed(self, report: MigrationReport) -> MigrationReport:
        """The report of the run, which says of each rule why it was not applied."""
        return replace(report, rules=tuple(map(self._completed_rule, report.rules)))

    def _completed_rule(self, report: RuleReport) -> RuleReport:
        if report.name not in self.covered:
            return report
        mine = tuple(error for error in self.waiting if error.rule == report.name)
        run = self.covered[report.name]
        return replace(report, covered_by=run, errors=(*report.errors, *mine))


class Opening:
    """Decides what there is to do, with the lease of the collection in hand. May be repeated."""

    def __init__(
        self, context: RunContext, groups: Sequence[tuple[BoundRule, ...]], coverage: Coverage
    ) -> None:
        self.context = context
        self.options = context.options
        self.journal = context.journal
        self.groups = groups
        self.coverage = coverage
        self.names = [", ".join(rule.name for rule in rules) for rules in groups]
        self.digests = ["-".join(digest_of(rule) for rule in rules) for rules in groups]
        self.new_id = ObjectId()

    def open(self) -> Opened | MigrationReport:
        """The run; where nothing is to be done, the report that says so.

        :raises RuleChanged: the run to resume has begun with other rules.
        :raises RunError: a rule that must not be applied twice was applied to a part of the
            collection.
        :raises RunNotFound: there is no run to resume with this id.
        """
        if not self.options.resume:
            covered = {} if self.options.again else self._covered(None)
            return self._begin(covered)
        entry = self._resume()
        if entry is None:
            logger.warning(
                "%s: no run of the %s rules over %s is unfinished, so none is resumed; %s",
                self.context.name,
                self.context.scope,
                self.context.full_name,
                Remedy("new_run"),
            )
            return self._report(waiting=self._waiting(None), nothing_to_resume=True)
        return self._go_on(entry)

    def _resume(self) -> RunEntry | None:
        resume = self.options.resume
        try:
            return self.journal.resume(
                self.context.name,
                self.context.collection.name,
                self.context.scope,
                None if resume is True else ObjectId(str(resume)),
                options=self.options.to_journal(),
                note=self.options.note,
                lease=self.options.lease,
            )
        except RunNotActive:
            # It has finished, of which somebody who was killed at its end knows nothing.
            return None

    def _begin(self, covered: dict[str, ObjectId]) -> Opened | MigrationReport:
        if len(covered) == len(self.names):
            return self._report(covered, self._waiting(covered))
        entry = self.journal.begin(
            NewRun(
                model=self.context.name,
                collection=self.context.collection.name,
                handler=self.context.plan.handler_class.__qualname__,
                scope=self.context.scope,
                rules=tuple(zip(self.names, self.digests, strict=True)),
                options=self.options.to_journal(),
                note=self.options.note,
                lease=self.options.lease,
                keep_runs=self.options.keep_runs,
                skipped=frozenset(covered),
                id=self.new_id,
            )
        )
        return Opened(entry, self._steps(entry), covered, self._waiting(covered))

    def _go_on(self, entry: RunEntry) -> Opened:
        if [rule.name for rule in entry.rules] != self.names:
            self.journal.finish(entry, "stopped", "the handler has other rules than the run")
            raise RuleChanged(
                f"{self.context.name}: run {entry.id} has begun with the rules "
                f"{'; '.join(rule.name for rule in entry.rules)}, but the handler has "
                f"{'; '.join(self.names)} now",
                collection=self.context.full_name,
                run=entry.id,
                remedy=Remedy("new_run"),
            )
        self._warn_of_missing_backup(entry)
        steps = self._steps(entry)
        for step, digest in zip(steps, self.digests, strict=True):
            if step.state.digest != digest:
                self._begin_anew(entry, step, digest)
        again = any(former.get("again") for former in entry.former_options)
        try:
            covered = self._covered(entry.id, again=again)
        except RunError:
            self.journal.finish(entry, "stopped", "another run has begun with one of its rules")
            raise
        for step in steps:
            if step.name in covered and not step.is_over:
                step.change(state="skipped")
                self._note(entry, step)
        return Opened(entry, steps, covered, self._waiting(covered))

    def _steps(self, entry: RunEntry) -> list[RuleStep]:
        return [
            RuleStep(
                position,
                rules,
                self.context.scope,
                entry.rules[position],
                rescue=self.context.scope == "lazy" and rules[0].target is None,
            )
            for position, rules in enumerate(self.groups)
        ]

    def _covered(self, run: ObjectId | None, *, again: bool = False) -> dict[str, ObjectId]:
        marked = [
            (rules[0], digest)
            for rules, digest in zip(self.groups, self.digests, strict=True)
            if is_marked(rules[0], self.context.scope)
        ]
        return self.coverage.covered(marked, run, again=again) if marked else {}

    def _waiting(self, rules: dict[str, ObjectId] | None) -> list[MigrationError]:
        """The errors of what earlier runs have in quarantine.

        :param rules: only for these rules; without them for all of the scope.
        """
        names = {rule.name for group in self.groups for rule in group} if rules is None else rules
        if not names:
            return []
        context = self.context
        found = refusals(context.collection, context.plan, self.journal.collection.name)
        return [each.error for each in found if each.rule in names]

    def _report(
        self,
        covered: dict[str, ObjectId] | None = None,
        waiting: Sequence[MigrationError] = (),
        *,
        nothing_to_resume: bool = False,
    ) -> MigrationReport:
        """The report of a call that has written nothing."""
        report = report_of(self.context, (), "finished", None, waiting)
        mine = {each.name: each for each in report.rules}
        for name, run in (covered or {}).items():
            mine[name] = replace(mine.get(name, RuleReport(name, 0, 0, 0.0)), covered_by=run)
        return replace(report, rules=tuple(mine.values()), nothing_to_resume=nothing_to_resume)

    def _warn_of_missing_backup(self, entry: RunEntry) -> None:
        if self.options.backup is None and any(
            former.get("backup") for former in entry.former_options
        ):
            logger.warning(
                "%s: run %s was begun with a backup, and continues without one: what it changes "
                "from now on cannot be restored",
                self.context.name,
                entry.id,
            )

    def _begin_anew(self, entry: RunEntry, step: RuleStep, digest: str) -> None:
        """A rule was edited after the run had begun: what its former text has done stays done."""
        if step.state.done and not (
            step.rescue or tells_what_is_left(step.rule, self.context.scope) is True
        ):
            self.journal.finish(entry, "stopped", "a rule was edited")
            raise RuleChanged(
                f"{self.context.name}.{step.name}: the rule was edited since run "
                f"{entry.id} applied it to a part of the documents, and its target does not "
                "show which; put the rule back as it was to resume it",
                collection=self.context.full_name,
                run=entry.id,
                remedy=Remedy("new_run"),
            )
        logger.warning(
            "%s.%s: the rule was edited since run %s began; it begins anew, and its target decides "
            "what is left to do",
            self.context.name,
            step.name,
            entry.id,
        )
        step.state = step.state.begun_anew(digest)
        self._note(entry, step)

    def _note(self, entry: RunEntry, step: RuleStep) -> None:
        self.journal.checkpoint(entry, step.position, step.state, waited=entry.waited)
