"""The bulk run: rule by rule over a collection, noted in the journal so that it can be resumed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pymongo.collection import Collection

from lazymig.engines.access import Raw, describe, is_mongomock, key_of
from lazymig.engines.bulk import MigrationReport, Tally, announce, conclude
from lazymig.engines.once.claim import release_expired
from lazymig.errors import MigrationError, Remedy, RunOptionError
from lazymig.operations.backup.writer import BackupWriter
from lazymig.operations.journal.coverage import Coverage, is_marked
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.lease import Lease
from lazymig.operations.journal.refusals import release_settled
from lazymig.operations.rule_indexes import check_place
from lazymig.operations.runs.chunk_work import ChunkWork, TooManyErrors
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.index_building import rule_indexes_built
from lazymig.operations.runs.interrupts import interruptible
from lazymig.operations.runs.opening import Opened, Opening
from lazymig.operations.runs.options import Options
from lazymig.operations.runs.pacing import Pacing, Stopped, patiently
from lazymig.operations.runs.progress import reporter
from lazymig.operations.runs.reopening import reopened_rules
from lazymig.operations.runs.steps import RuleStep, groups_of, report_of
from lazymig.operations.runs.sweep import Sweep
from lazymig.operations.runs.transactions import has_transactions, on_its_own
from lazymig.operations.runs.workers import Workers
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["carry_out"]

logger = logging.getLogger(__name__)


def carry_out(
    collection: Collection[Any],
    plan: Plan,
    scope: Scope,
    options: Options,
    is_broken: Callable[[Raw], bool],
) -> MigrationReport:
    """Apply the rules of a scope, in order, to the whole collection.

    :param is_broken: whether a raw document fails to load or to validate through the model; asked
        only where there are lazy rules that no match starts.
    :raises RunError: it was called in a transaction, or within a time limit.
    :raises CollectionLocked: another run is at work on the collection.
    :raises RuleChanged: the run to resume has begun with other rules.
    :raises RunOptionError: an option does not go with a rule, or it is no collection whose
        documents can be updated.
    :raises MigrationFailed: a rule that writes by itself raised.
    :raises BackupFailed: the backup could not be written.
    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    groups = groups_of(plan, scope)
    full_name, name = str(collection.full_name), plan.model_name
    if not groups:
        return MigrationReport(name, full_name, scope, ())
    if options.rule_indexes:
        check_place(collection, name)
    if options.backup is not None and is_mongomock(collection):
        raise RunOptionError(
            f"needs a server, and {full_name} is a collection of mongomock; leave it out",
            option="backup",
        )
    call = "migrate_all" if scope == "bulk" else "migrate_pending"
    with on_its_own(collection.database, full_name, call):
        patiently(name, partial(_check_updatable, collection, groups))
        transactions = patiently(name, partial(has_transactions, collection))
        journal = Journal(
            collection.database,
            options.journal,
            codec_options=collection.codec_options,
            model_class=plan.model_class,
        )
        lease = Lease(
            journal.collection,
            collection.name,
            seconds=options.lease,
            holder={"note": options.note},
        )
        context = RunContext(
            collection, plan, scope, options, is_broken, journal, lease, transactions
        )
        return _Runner(context, groups).run()


class _Runner:
    """One run in this process."""

    def __init__(self, context: RunContext, groups: Sequence[tuple[BoundRule, ...]]) -> None:
        self.context = context
        self.journal = context.journal
        self.lease = context.lease
        self.plan = context.plan
        self.scope = context.scope
        self.coverage = Coverage(context.collection.database, context.collection.name, context.name)
        self.opening = Opening(context, groups, self.coverage)
        self.opened: Opened
        self.pacing: Pacing
        self.work: ChunkWork

    def run(self) -> MigrationReport:
        """Take the lease, begin or resume, and see to it that the journal has the end."""
        with ExitStack() as stack:
            workers = self._workers(stack)
            patiently(self.context.name, self.lease.acquire)
            stack.callback(self.lease.release)
            opened = patiently(self.context.name, self.opening.open)
            if isinstance(opened, MigrationReport):
                return opened
            self.opened = opened
            try:
                self._prepare(stack, workers)
                report = opened.completed(self._run_to_its_end())
            except BaseException as exc:
                self._note_failure(exc)
                raise
        self.pacing.interrupts.deliver()
        return report

    def _workers(self, stack: ExitStack) -> Workers | None:
        context = self.context
        if context.options.executor is None:
            return None
        workers = Workers(
            context.options.executor,
            context.options.in_flight,
            context.collection,
            self.plan,
            self.scope,
            self.lease,
        )
        return stack.enter_context(closing(workers))

    def _prepare(self, stack: ExitStack, workers: Workers | None) -> None:
        """Open what the run holds until its end."""
        context, entry, steps = self.context, self.opened.entry, self.opened.steps
        # From now on whoever takes over the lease takes the run away as well.
        patiently(context.name, partial(self.lease.name_run, entry.id))
        if self.lease.taken:
            self.lease.check()
        interrupts = stack.enter_context(interruptible())
        show = stack.enter_context(reporter(context.options.progress))
        self.pacing = Pacing(context, self.opened, interrupts, show)
        backup = None
        if context.options.backup is not None:
            backup = BackupWriter(
                Path(context.options.backup),
                context.collection,
                run_id=entry.id,
                shard_key=self.plan.shard_key,
            )
            stack.enter_context(closing(backup))
        wanted = context.options.rule_indexes
        stack.enter_context(rule_indexes_built(context.collection, self.plan, wanted=wanted))
        self.work = ChunkWork(context, self.opened, self.pacing, backup, workers)
        stack.callback(self.work.transactions.close)
        self.pacing.persistently(steps[0], self.work.seal_unsealed)

    def _run_to_its_end(self) -> MigrationReport:
        steps, entry = self.opened.steps, self.opened.entry
        state: Literal["finished", "stopped", "failed"] = "finished"
        error = None
        try:
            for step in steps:
                if not step.is_over:
                    self._take_step(step)
        except Stopped as exc:
            state, error = "stopped", str(exc)
        except TooManyErrors as exc:
            state, error = "failed", str(exc)
        persistently = partial(self.pacing.persistently, steps[-1])
        carried = self._carried()
        reopened: tuple[str, ...] = ()
        is_complete = state == "finished" and not self.work.refused and not carried
        if self.scope == "lazy" and is_complete:
            reopened = persistently(partial(reopened_rules, self.context.collection, self.plan))
        if reopened:
            persistently(partial(self.journal.reopen, entry, reopened))
        persistently(partial(self.journal.finish, entry, state, error))
        if state != "finished":
            logger.warning(
                "%s: run %s %s: %s; everything up to here is done and noted; %s",
                self.context.name,
                entry.id,
                state,
                error,
                Remedy("resume_this"),
            )
        report = report_of(self.context, steps, state, entry.id, carried)
        return replace(report, reopened=reopened, waited=self.pacing.waited)

    def _carried(self) -> list[MigrationError]:
        """The errors of what earlier sessions of this run have left in quarantine."""
        context, entry, steps = self.context, self.opened.entry, self.opened.steps
        if not entry.former_options:
            return []
        release = partial(
            release_settled, self.journal, entry, context.collection, self.plan, context.is_broken
        )
        waiting = self.pacing.persistently(steps[-1], release)
        mine = {
            (error.rule, key_of(error.document_id))
            for step in steps
            for tally in step.tallies.values()
            for error in tally.errors
        }
        return [each.error for each in waiting if (each.rule, key_of(each.document_id)) not in mine]

    def _note_failure(self, error: BaseException) -> None:
        """Write the end of the run, if that can be done; the error itself is what matters."""
        entry = self.opened.entry
        try:
            self.journal.finish(entry, "failed", f"{type(error).__name__}: {excerpt(error)}")
        except Exception as exc:  # noqa: BLE001 - the first error is raised
            logger.warning("run %s: its end could not be noted: %s", entry.id, excerpt(exc))

    def _take_step(self, step: RuleStep) -> None:
        """Apply one rule to the whole collection."""
        context, pacing, work = self.context, self.pacing, self.work
        work.begin(step)
        for rule in step.rules:
            announce(self.plan, rule, self.scope)
        self._mark_begun(step)
        total = pacing.persistently(step, context.collection.estimated_document_count)
        step.change(state="running", total=total)
        pacing.begin(step)
        ended = False
        try:
            for chunk in Sweep(context, step, work, pacing).chunks():
                pacing.ready(step)
                work.do(step, chunk)
            work.take_back(step)
            self._release_expired(step)
            ended = True
        finally:
            if not ended and work.workers is not None:
                work.workers.forget()
            share = step.state.seconds / len(step.rules)
            for rule in step.rules:
                tally = step.tallies.get(rule.name, Tally())
                conclude(context.collection, self.plan, rule, self.scope, tally, share)
        self._mark_done(step)
        step.change(state="done", total=step.state.done, exact=True)
        pacing.obey(pacing.persistently(step, partial(pacing.checkpoint, step)))
        unfinished = any(not each.is_over for each in self.opened.steps)
        pacing.report(step, finished=not unfinished)

    def _mark_begun(self, step: RuleStep) -> None:
        """Note that a rule is about to be applied whose target does not show that it was."""
        if is_marked(step.rule, self.scope):
            entry, journal = self.opened.entry, str(self.journal.collection.name)
            begun = partial(self.coverage.begun, entry, step.name, step.state.digest, journal)
            self.pacing.persistently(step, begun)

    def _mark_done(self, step: RuleStep) -> None:
        rule, digest = step.rule, step.state.digest
        if is_marked(rule, self.scope):
            ended = rule.converges is None and not rule.by_hand and step.state.repeatable
            done = partial(self.coverage.done, self.opened.entry, step.name, digest)
            self.pacing.persistently(step, partial(done, all_ended=ended))

    def _release_expired(self, step: RuleStep) -> None:
        """Take out of documents what owners of claims have left when they died."""
        for rule in step.rules:
            if rule.once is not None:
                release = partial(
                    release_expired, self.context.collection, rule, self.plan.class_filter
                )
                self.pacing.persistently(step, release)


def _check_updatable(collection: Collection[Any], groups: Sequence[Sequence[BoundRule]]) -> None:
    if all(rule.by_hand for rules in groups for rule in rules):
        return
    description = describe(collection)
    if description is not None and description.kind != "collection":
        raise RunOptionError(
            f"{collection.full_name} is a {description.kind}, whose documents MongoDB does not "
            "update one by one; run the rules over the collection that it is made of, or write an "
            "allmigration rule by hand",
            option="collection",
        )
