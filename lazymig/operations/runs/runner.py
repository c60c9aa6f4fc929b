"""A bulk run: rule by rule, chunk by chunk, noted in the journal so that it can be gone on with."""

from __future__ import annotations

import itertools
import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    describe,
    ids_of,
    key_of,
    not_by_ids,
    on_primary,
    unhurried,
)
from lazymig.engines.bulk import (
    MigrationReport,
    Tally,
    Work,
    announce,
    conclude,
    rescue_broken,
    writes_alone,
)
from lazymig.engines.computed.outcome import PartRefused, TooSlow
from lazymig.engines.driver_errors import is_away
from lazymig.engines.once.claim import release_expired
from lazymig.engines.refusals import failure_of_server, still_matches
from lazymig.engines.walk import FEW, FIRST, Chunk, ChunkSize, Position, Walk
from lazymig.errors import MigrationError, RunOptionError
from lazymig.operations.backup.unsealed import seal_unsealed
from lazymig.operations.backup.writer import BackupWriter
from lazymig.operations.journal.coverage import Coverage, is_marked
from lazymig.operations.journal.fencing import fenced
from lazymig.operations.journal.journal import Control, Journal, RunEntry
from lazymig.operations.journal.lease import Lease
from lazymig.operations.journal.refusals import release_settled
from lazymig.operations.runs.interrupts import interruptible
from lazymig.operations.runs.opening import Opening
from lazymig.operations.runs.options import Options
from lazymig.operations.runs.outlasting import FIRST_PAUSE, PATIENCE, outlast
from lazymig.operations.runs.progress import Meter, Progress, reporter
from lazymig.operations.runs.reopening import reopened_rules
from lazymig.operations.runs.steps import Step, groups_of, report_of
from lazymig.operations.runs.transactions import (
    MOST_CONFLICTS,
    Contended,
    has_transactions,
    on_its_own,
    opened,
)
from lazymig.operations.runs.workers import Workers
from lazymig.operations.throttling.throttle import PACING, Throttle
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left
from lazymig.rules.rule import Scope

__all__ = ["carry_out"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# So few documents are brought up to date by their `_id`s, without a walk over the collection.
_FEW = 1000

# After so many passes, or looks, at which new old documents were found, an old version of the
# application still writes them: no number of passes would be the last.
_MOST_PASSES = 10
_MOST_LOOKS = 100

# Seconds that a transaction should take: for so long an application's write of one of its documents
# may have to wait.
_HELD = 0.1

# Seconds before a transaction is tried again; twice as long each time.
_FIRST_RETRY = 0.01

# Seconds between two looks at the journal while a run waits.
_LOOK_AGAIN = 0.5

# Seconds for which a server that is gone is waited for, and the first pause between two attempts.
_PATIENCE = PATIENCE
_FIRST_PAUSE = FIRST_PAUSE


class _Stopped(Exception):
    """Somebody has asked the run to stop."""


class _TooManyErrors(Exception):
    """More documents were refused than `max_errors` allows."""


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
    steps = groups_of(plan, scope)
    if not steps:
        name = str(collection.full_name)
        return MigrationReport(plan.model_name, name, scope, ())
    name = plan.model_name
    call = "migrate_all" if scope == "bulk" else "migrate_pending"
    with on_its_own(collection.database, str(collection.full_name), call):
        outlast(name, partial(_check_updatable, collection, steps), patience=_PATIENCE)
        transactions = outlast(name, partial(has_transactions, collection), patience=_PATIENCE)
        return _Runner(collection, plan, scope, options, is_broken, steps, transactions).run()


class _Runner:
    """One run in this process."""

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        scope: Scope,
        options: Options,
        is_broken: Callable[[Raw], bool],
        steps: Sequence[tuple[BoundRule, ...]],
        transactions: bool,
    ) -> None:
        self.collection = collection
        self.plan = plan
        self.scope = scope
        self.options = options
        self.is_broken = is_broken
        self.journal = Journal(
            collection.database,
            options.journal,
            codec_options=collection.codec_options,
            model_class=plan.model_class,
        )
        self.coverage = Coverage(collection.database, collection.name, plan.model_name)
        self.opening = Opening(collection, plan, scope, options, steps, self.journal, self.coverage)
        self.lease = Lease(
            self.journal.collection,
            collection.name,
            seconds=options.lease,
            holder={"note": options.note},
        )
        self.fence = self.lease.fence(collection)
        self.throttle = Throttle(options.limits, collection)
        self.fixed_size = options.chunk_size if isinstance(options.chunk_size, int) else None
        self.size = ChunkSize(self.fixed_size, options.chunk_seconds)
        self.meter = Meter()
        self.started = time.monotonic()
        self.refused = 0
        self.looked = 0.0
        self.transactions = transactions
        self.backup: BackupWriter | None = None
        self.workers: Workers | None = None
        self.session: ClientSession | None = None
        self.control = Control()
        self.limits: Raw = {}
        self.entry: RunEntry
        self.steps: list[Step]
        self.last: Step | None = None

    def run(self) -> MigrationReport:
        """Take the lease, begin or go on, and see to it that the journal tells the end."""
        with ExitStack() as stack:
            if self.options.executor is not None:
                self.workers = Workers(
                    self.options.executor,
                    self.options.in_flight,
                    self.collection,
                    self.plan,
                    self.scope,
                    self.lease,
                )
                stack.enter_context(closing(self.workers))
            self._patiently(self.lease.acquire)
            stack.callback(self.lease.release)
            opened = self._patiently(self.opening.open)
            if isinstance(opened, MigrationReport):
                return opened
            self.entry = opened.entry
            self.control = opened.entry.control
            self.steps = opened.steps
            self.last = next((each for each in reversed(self.steps) if not each.is_over), None)
            try:
                self._prepare(stack)
                report = opened.completed(self._run_to_its_end())
            except BaseException as exc:
                self._note_failure(exc)
                raise
            finally:
                if self.session is not None:
                    self.session.end_session()
        self.interrupts.deliver()
        return report

    def _patiently(self, work: Callable[[], T]) -> T:
        """Do something before the run has begun, which may be done twice."""
        return outlast(self.plan.model_name, work, patience=_PATIENCE, first_pause=_FIRST_PAUSE)

    def _prepare(self, stack: ExitStack) -> None:
        """Open what the run holds until its end."""
        # From now on whoever takes over the lease takes the run away as well.
        self._patiently(partial(self.lease.tell, run=self.entry.id))
        if self.lease.taken:
            self.lease.check()
        self.interrupts = stack.enter_context(interruptible())
        self.show = stack.enter_context(reporter(self.options.progress))
        if self.options.backup is not None:
            self.backup = BackupWriter(
                Path(self.options.backup),
                self.collection,
                run_id=self.entry.id,
                shard_key=self.plan.shard_key,
            )
            stack.enter_context(closing(self.backup))
            self._persistently(self.steps[0], self._seal_unsealed)

    def _seal_unsealed(self) -> None:
        """Learn what a chunk that was broken off has left, before it is done again."""
        if self.backup is None or self.backup.unsealed is None:
            return
        for step in self.steps:
            if step.name == self.backup.unsealed and not step.rescue:
                seal_unsealed(self.backup, self.collection, self.plan, self.scope, step.rules[0])
                return

    def _run_to_its_end(self) -> MigrationReport:
        state: Literal["finished", "stopped", "failed"] = "finished"
        error = None
        try:
            for step in self.steps:
                if not step.is_over:
                    self._take_step(step)
        except _Stopped as exc:
            state, error = "stopped", str(exc)
        except _TooManyErrors as exc:
            state, error = "failed", str(exc)
        carried = self._carried()
        reopened: tuple[str, ...] = ()
        if self.scope == "lazy" and state == "finished" and not self.refused and not carried:
            looked_for = partial(reopened_rules, self.collection, self.plan)
            reopened = self._persistently(self.steps[-1], looked_for)
        if reopened:
            self._persistently(self.steps[-1], lambda: self.journal.reopen(self.entry, reopened))
        self._persistently(self.steps[-1], lambda: self.journal.finish(self.entry, state, error))
        if state != "finished":
            logger.warning(
                "%s: run %s %s: %s; everything up to here is done and noted, go on with "
                "resume=True",
                self.plan.model_name,
                self.entry.id,
                state,
                error,
            )
        report = report_of(
            self.collection, self.plan, self.scope, self.steps, state, self.entry.id, carried
        )
        return replace(report, reopened=reopened)

    def _carried(self) -> list[MigrationError]:
        """The errors of what earlier sessions of this run have left in quarantine."""
        if not self.entry.former_options:
            return []
        waiting = self._persistently(
            self.steps[-1],
            lambda: release_settled(
                self.journal, self.entry, self.collection, self.plan, self.is_broken
            ),
        )
        mine = {
            (error.rule, key_of(error.document_id))
            for step in self.steps
            for tally in step.tallies.values()
            for error in tally.errors
        }
        return [each.error for each in waiting if (each.rule, key_of(each.document_id)) not in mine]

    def _note_failure(self, error: BaseException) -> None:
        """Write the end of the run, if that can be done; the error itself is what matters."""
        try:
            text = f"{type(error).__name__}: {excerpt(error)}"
            self.journal.finish(self.entry, "failed", text)
        except Exception as exc:  # noqa: BLE001 - the first error is raised
            logger.warning("run %s: its end could not be noted: %s", self.entry.id, excerpt(exc))

    def _take_step(self, step: Step) -> None:
        """Apply one rule to the whole collection."""
        self.size = self._chunk_size(step)
        for rule in step.rules:
            announce(self.plan, rule, self.scope)
        self._mark_begun(step)
        step.state["state"] = "running"
        step.state["total"] = self._persistently(step, self.collection.estimated_document_count)
        self.meter.restart(step.state["done"])
        ended = False
        try:
            for chunk in self._chunks(step):
                self._ready(step)
                self._do(step, chunk)
            self._take_back(step)
            self._release_expired(step)
            ended = True
        finally:
            if not ended and self.workers is not None:
                self.workers.forget()
            for rule in step.rules:
                tally = step.tallies.get(rule.name, Tally())
                conclude(
                    self.collection,
                    self.plan,
                    rule,
                    self.scope,
                    tally,
                    step.state["seconds"] / len(step.rules),
                )
        self._mark_done(step)
        step.state.update(state="done", total=step.state["done"], exact=True)
        self._obey(self._persistently(step, lambda: self._checkpoint(step)))
        self._tell(step, finished=step is self.last)

    def _mark_begun(self, step: Step) -> None:
        """Note that a rule is about to be applied whose target does not tell that it was."""
        if is_marked(step.rules[0], self.scope):
            digest, journal = step.state["digest"], str(self.journal.collection.name)
            self._persistently(
                step, partial(self.coverage.begun, self.entry, step.name, digest, journal)
            )

    def _mark_done(self, step: Step) -> None:
        rule = step.rules[0]
        if is_marked(rule, self.scope):
            tells = rule.converges is None and not rule.by_hand and step.state["repeatable"]
            digest = step.state["digest"]
            self._persistently(
                step, partial(self.coverage.done, self.entry, step.name, digest, tells=tells)
            )

    def _chunk_size(self, step: Step) -> ChunkSize:
        seconds = self.options.chunk_seconds
        if self._is_exact(step, step.rules[0]):
            seconds = min(seconds, _HELD)
        computed = step.rules[0].kind != "static"
        return ChunkSize(self.fixed_size, seconds, first=FEW if computed else FIRST)

    def _release_expired(self, step: Step) -> None:
        """Take out of documents what owners of claims have left when they died."""
        for rule in step.rules:
            if rule.once is not None:
                self._persistently(
                    step, partial(release_expired, self.collection, rule, self.plan.concern)
                )

    def _chunks(self, step: Step) -> Iterator[Chunk]:
        """What is to be done, chunk by chunk; each is done before the next one is looked for."""
        rule = step.rules[0]
        if not step.rescue and self._in_one(rule):
            if not step.state["passes"]:
                total = step.state["total"] or 0
                yield Chunk(None, total, Position(0, True))
                step.state["passes"] = 1
            return
        known = not step.rescue and tells_what_is_left(rule, self.scope)
        # The documents that the rule was applied to just now, each by its `_id`.
        met: set[Any] = set()
        looks_left, stuck = _MOST_LOOKS, False
        while step.state["passes"] < _MOST_PASSES and looks_left:
            # What only the computed updates can tell is known behind the first pass.
            looks = step.state["passes"] or (known is True and step.at is None)
            if looks and step.finds_again:
                left = self._persistently(step, lambda: self._look(rule))
                if not left:
                    return
                if stuck or len(left) <= self._few():
                    again = [each for each in left if key_of(each) in met]
                    if again and rule.converges is not None:
                        self._give_up(step, rule, again)
                        continue
                    if len(again) == len(left):
                        # Having seen them, the rule leaves them alone; a lazy one also if its
                        # update would not end the match.
                        return
                    met = {key_of(each) for each in left}
                    looks_left -= 1
                    yield Chunk.of(left)
                    self._take_back(step)
                    continue
            elif step.state["passes"]:
                return
            modified = step.state["modified"]
            yield from self._walk(step)
            step.state["passes"] += 1
            stuck = step.state["modified"] == modified and step.state["passes"] > 1
        logger.warning(
            "%s.%s: new documents of the old shape were found again and again; does an old version "
            "of the application still write them? What it writes from now on is left to loads, or "
            "to the next run",
            self.plan.model_name,
            rule.name,
        )

    def _walk(self, step: Step) -> Iterator[Chunk]:
        walk = Walk(self.collection, step.at if not step.state["passes"] else None)
        while True:
            size = self._next_size(step)
            chunk = self._persistently(step, partial(walk.next, size))
            if chunk is None:
                self._take_back(step)
                return
            yield chunk

    def _next_size(self, step: Step) -> int:
        """Documents to walk over, so that those that match keep to `max_rate`."""
        limit = self.throttle.chunk_limit()
        if limit is None:
            return self.size.documents
        sparse: int = step.state["done"] // max(step.state["matched"], 1)
        return min(self.size.documents, limit * max(sparse, 1))

    def _few(self) -> int:
        return min(_FEW, self.size.documents, self.throttle.chunk_limit() or _FEW)

    def _in_one(self, rule: BoundRule) -> bool:
        """Whether a rule is applied to the whole collection at once."""
        if writes_alone(rule, self.scope):
            return True
        return (
            self.options.chunk_size is None
            and self.backup is None
            and rule.kind == "static"
            and not rule.varies
            and may_be_repeated(rule, self.scope) is True
        )

    def _look(self, rule: BoundRule) -> list[Any]:
        """The `_id`s of documents that a rule still matches, at most one more than a few."""
        query = all_of(self.plan.concern, rule.target)
        # All those of a run may be too many for one query.
        spared = {key_of(each) for each in self._quarantined(None)}
        most = self._few() + 1
        ids = ids_of(on_primary(self.collection), query, limit=most + len(spared))
        return list(itertools.islice((each for each in ids if key_of(each) not in spared), most))

    def _spared(self, within: Raw | None) -> Raw | None:
        """The condition that excepts what is in quarantine: it gets no later rule in this run."""
        ids = self._quarantined(within)
        return not_by_ids(ids) if ids else None

    def _quarantined(self, within: Raw | None) -> list[Any]:
        if not self.refused and not any(step.state["quarantined"] for step in self.steps):
            return []
        return self.journal.quarantined_ids(self.entry.id, within)

    def _give_up(self, step: Step, rule: BoundRule, document_ids: Sequence[Any]) -> None:
        """Put into quarantine what still matches a rule that was applied to it."""
        errors: list[MigrationError] = [still_matches(rule, each) for each in document_ids]
        self._account(step, Chunk.of(document_ids), {rule.name: Tally(errors=errors)}, 0.0)

    def _do(self, step: Step, chunk: Chunk) -> None:
        """Do one chunk and note it."""
        rule = step.rules[0]
        if self.workers is not None and self._goes_out(step, rule):
            self._persistently(step, lambda: self._give_out(rule, chunk))
            while self.workers.full:
                self._take_one(step)
            return
        # A checkpoint says that all before it is done.
        self._take_back(step)
        self._do_here(step, rule, chunk)

    def _do_here(self, step: Step, rule: BoundRule, chunk: Chunk) -> None:
        """Do one chunk in this process and note it."""
        if self._is_exact(step, rule):
            self._do_exactly(step, rule, chunk)
        else:
            self._do_once(step, rule, chunk)

    def _goes_out(self, step: Step, rule: BoundRule) -> bool:
        if step.rescue or self._may_rescue(rule):
            return False
        return rule.kind != "static" and not rule.by_hand and step.is_repeatable

    def _may_rescue(self, rule: BoundRule) -> bool:
        """Whether documents that do not load are to be mended by a rule, as a load would do it."""
        return self.scope == "lazy" and not self.plan.starts(rule)

    def _is_exact(self, step: Step, rule: BoundRule) -> bool:
        """Whether a chunk and its checkpoint are one transaction.

        Where it need not be, the default is without: a transaction makes writes of the
        application wait, and one of a killed runner does so until MongoDB ends it.
        """
        if not self.transactions or step.rescue or rule.once is not None:
            return False
        if rule.by_hand or self._may_rescue(rule):
            return False
        if self.options.transactions and rule.kind != "static":
            return True
        return self.backup is not None or not step.is_repeatable

    def _work(self, step: Step, rule: BoundRule, chunk: Chunk, session: Any = None) -> Work:
        found_again = not step.rescue and tells_what_is_left(rule, self.scope) is True
        open_question = session is None and may_be_repeated(rule, self.scope) is None
        # What a server that breaks down forgets is not noted, where nothing looks for it again.
        collection = unhurried(self.collection) if found_again else self.collection
        if session is None and rule.once is None:
            # What a claim guards is finished by its owner, whoever has the lease.
            collection = fenced(collection, self.fence)
        return Work(
            collection,
            self.plan,
            self.scope,
            chunk.within,
            self._spared(chunk.within),
            session,
            None if self.backup is None else partial(self.backup.save, session=session),
            self._errors_left() if self._may_end_early(step, session) else sys.maxsize,
            only_repeatable=open_question and step.is_repeatable and not self._may_rescue(rule),
            is_broken=self.is_broken,
        )

    def _may_end_early(self, step: Step, session: Any = None) -> bool:
        """Whether a chunk may end at its last error: what is left undone must be found again."""
        return session is None and step.is_repeatable

    def _errors_left(self) -> int:
        return self.options.max_errors - self.refused + 1

    def _do_once(self, step: Step, rule: BoundRule, chunk: Chunk) -> None:
        """Do a chunk, and then note it; what may be repeated outlasts a lost connection."""

        def attempt() -> tuple[dict[str, Tally], float]:
            started = time.perf_counter()
            if self.backup is not None:
                self.backup.begin(step.name)
                self._seal_unsealed()
            work = self._work(step, rule, chunk)
            if step.rescue:
                tallies = rescue_broken(work, step.rules, self.is_broken)
            else:
                tallies = work.apply(rule).by_rule(rule.name)
            if self.backup is not None:
                self.backup.seal()
                self.backup.commit()
            return tallies, time.perf_counter() - started

        if step.is_repeatable:
            tallies, seconds = self._persistently(step, attempt)
        else:
            tallies, seconds = attempt()
        self._account_or_go_on(step, chunk, tallies, seconds)

    def _account_or_go_on(
        self, step: Step, chunk: Chunk, tallies: dict[str, Tally], seconds: float
    ) -> None:
        """Note a chunk; one that was halted is done to its end first, in one piece if possible."""
        if not any(tally.halted for tally in tallies.values()):
            self._account(step, chunk, tallies, seconds)
            return
        was_repeatable = step.is_repeatable
        self._account(step, Chunk(chunk.within, 0, None), tallies, seconds)
        if was_repeatable:
            self.size = self._chunk_size(step)
        self._do_here(step, step.rules[0], chunk)

    def _do_exactly(
        self, step: Step, rule: BoundRule, chunk: Chunk, alone: Sequence[Any] = ()
    ) -> None:
        """Do a chunk and its checkpoint in one transaction: both, once, or neither.

        :param alone: the `_id` of the chunk's document, where it is the only one.
        """
        before = dict(step.state)
        started = noted = 0.0
        attempts = 0

        def attempt(session: ClientSession) -> tuple[Tally, Control]:
            nonlocal attempts, started, noted
            started = time.perf_counter()
            attempts += 1
            step.state = dict(before)
            if self.backup is not None:
                if attempts > 1:
                    self.backup.abandon()
                self.backup.begin(step.name)
            tally = self._work(step, rule, chunk, session).apply(rule)
            if self.backup is not None:
                self.backup.seal(session)
            step.count(chunk, {rule.name: tally}, time.perf_counter() - started)
            self.journal.quarantine(self.entry, rule.name, tally.errors, session)
            noted = time.perf_counter()
            return tally, self._checkpoint(step, session)

        may_be_split = not alone and chunk.documents != 1
        try:
            tally, control = self._in_transaction(step, attempt, may_be_split)
        except (PartRefused, Contended, _Stopped) as exc:
            step.state = before
            if self.backup is not None:
                self.backup.abandon()
            if isinstance(exc, _Stopped):
                raise
            if alone and isinstance(exc.__cause__, (OperationFailure, DocumentTooLarge)):
                error = failure_of_server(rule, alone[0], exc.__cause__, exc.__cause__)
                self._account(step, chunk, {rule.name: Tally(errors=[error])}, 0.0)
            elif self.backup is None and step.is_repeatable:
                # Document by document, each write with its own conditions.
                self._do_once(step, rule, chunk)
            else:
                self._do_parts(step, rule, chunk, exc)
            return
        latency = time.perf_counter() - noted
        if self.backup is not None:
            self.backup.commit()
        seconds = time.perf_counter() - started
        self._conclude_chunk(step, chunk, {rule.name: tally}, seconds, latency)
        self._obey(control)

    def _session(self) -> ClientSession:
        """The session of this run's transactions; the journal knows it before it has one."""
        if self.session is None:
            session = self.collection.database.client.start_session()
            self.journal.hold(self.entry, session.session_id)
            self.session = session
        return self.session

    def _in_transaction(
        self, step: Step, work: Callable[[ClientSession], T], may_be_split: bool
    ) -> T:
        """Do something in a transaction, again and again until it is known to be committed.

        PyMongo's `with_transaction` would wait for a server that is gone without saying so.

        :raises PartRefused: MongoDB refused an update.
        :raises Contended: others write the same documents, and there may be smaller transactions.
        :raises _Stopped: others write the same documents, and a signal has asked the run to stop.
        """
        session = self._persistently(step, self._session)
        conflicts = 0
        pause = _FIRST_RETRY
        until = None
        while True:
            try:
                result = self._persistently(step, lambda: opened(session, work))
                # The server commits once, however often its answer is lost.
                self._persistently(step, session.commit_transaction)
            except PyMongoError as exc:
                if is_away(exc) or not exc.has_error_label("TransientTransactionError"):
                    raise
                if self.interrupts.requested:
                    # The pause between two attempts would be none.
                    raise _Stopped(f"{self.interrupts.requested} was received") from exc
                conflicts += 1
                if conflicts >= MOST_CONFLICTS and may_be_split:
                    raise Contended from exc
                until = until or time.monotonic() + _PATIENCE
                if time.monotonic() > until:
                    raise
            else:
                return result
            self.interrupts.wait(pause)
            pause = min(pause * 2, _LOOK_AGAIN)
            if not self._has_lease(step, until):
                self.lease.check()

    def _do_parts(self, step: Step, rule: BoundRule, chunk: Chunk, reason: Exception) -> None:
        """Do a chunk in several transactions: halves, or as much as can be computed in one.

        MongoDB does not name in a transaction the document that it refuses.
        """
        ids = self._persistently(step, lambda: self._ids_in(step, rule, chunk))
        if len(ids) > 1:
            size = (len(ids) + 1) // 2
            if isinstance(reason, TooSlow):
                size = min(size, reason.documents)
                self.size.shrink(size)
            for part in chunk.split(ids, size):
                self._ready(step)
                self._do_exactly(step, rule, part)
        elif ids:
            only = replace(chunk, within=by_ids(ids))
            self._do_exactly(step, rule, only, alone=ids)
        else:
            self._do_exactly(step, rule, chunk)

    def _ids_in(self, step: Step, rule: BoundRule, chunk: Chunk) -> list[Any]:
        query = self._work(step, rule, chunk).documents_of(rule.target)
        return list(ids_of(on_primary(self.collection), query, sort=[("_id", 1)]))

    def _give_out(self, rule: BoundRule, chunk: Chunk) -> None:
        assert self.workers is not None
        self.workers.give(rule.name, chunk, self._spared(chunk.within), self._errors_left())

    def _take_one(self, step: Step) -> None:
        assert self.workers is not None
        done = self._persistently(step, self.workers.take)
        self._account_or_go_on(step, done.chunk, {step.name: done.tally}, done.seconds)

    def _take_back(self, step: Step) -> None:
        while self.workers is not None and self.workers.busy:
            self._take_one(step)

    def _account(self, step: Step, chunk: Chunk, tallies: dict[str, Tally], seconds: float) -> None:
        """Note what a chunk has come to; the run ends here if too many documents were refused."""
        errors = sum(len(tally.errors) for tally in tallies.values())
        if errors >= self._errors_left() and self._may_end_early(step):
            # The rest of the chunk may be undone: it is looked at again.
            chunk = Chunk(chunk.within, 0, None)
        step.count(chunk, tallies, seconds)
        for name, tally in tallies.items():
            self._persistently(
                step, partial(self.journal.quarantine, self.entry, name, tally.errors)
            )
        asked = time.perf_counter()
        control = self._persistently(step, lambda: self._checkpoint(step))
        latency = time.perf_counter() - asked
        self._conclude_chunk(step, chunk, tallies, seconds, latency)
        self._obey(control)

    def _conclude_chunk(
        self,
        step: Step,
        chunk: Chunk,
        tallies: dict[str, Tally],
        seconds: float,
        latency: float | None = None,
    ) -> None:
        """What is learned from a chunk that is noted."""
        matched, computing = 0, 0.0
        for name, tally in tallies.items():
            step.tallies.setdefault(name, Tally()).add(tally)
            self.refused += len(tally.errors)
            matched += tally.matched
            computing += tally.computing
        self.size.learn(chunk.documents, seconds, computing)
        self.throttle.worked(matched, seconds, latency)
        self.meter.note(step.state["done"])
        self._tell(step)
        if self.refused > self.options.max_errors:
            documents = "1 document was" if self.refused == 1 else f"{self.refused} documents were"
            raise _TooManyErrors(
                f"{documents} refused, and max_errors is {self.options.max_errors}; see the "
                "quarantine of the run"
            )

    def _checkpoint(self, step: Step, session: Any = None) -> Control:
        state = step.state
        return self.journal.checkpoint(
            self.entry,
            step.position,
            at=state["at"],
            done=state["done"],
            matched=state["matched"],
            modified=state["modified"],
            quarantined=state["quarantined"],
            passes=state["passes"],
            repeatable=state["repeatable"],
            seconds=state["seconds"],
            waiting=None,
            waited=self._waited(),
            total=state["total"],
            exact=state["exact"],
            state=state["state"],
            session=session,
        )

    def _waited(self) -> dict[str, float]:
        """Seconds waited by reason, those of earlier sessions of the run included."""
        total = dict(self.entry.waited)
        for reason, seconds in self.throttle.waited.items():
            total[reason] = total.get(reason, 0.0) + seconds
        return total

    def _obey(self, control: Control) -> None:
        self.control = control
        if control.limits != self.limits:
            self.limits = control.limits
            self.throttle.change(**control.limits)

    def _ready(self, step: Step) -> None:
        """Return when the next chunk may begin.

        :raises _Stopped: somebody has asked for that.
        :raises LeaseLost: another run may be at work.
        """
        while True:
            if self.interrupts.requested:
                raise _Stopped(f"{self.interrupts.requested} was received")
            if self.control.action == "stop":
                raise _Stopped(f"stopped through the journal{self._asked_by}")
            if not self._has_lease(step, time.monotonic() + _PATIENCE):
                self.lease.check()
            if self.control.action == "pause":
                reason, seconds, kind = f"paused{self._asked_by}", _LOOK_AGAIN, "paused"
            else:
                wait = self.throttle.wait()
                if wait is None:
                    return
                reason, seconds, kind = wait.reason, min(wait.seconds, _LOOK_AGAIN), wait.kind
            self._wait(step, reason, seconds, kind)
            if time.monotonic() - self.looked >= _LOOK_AGAIN / 2:
                self.looked = time.monotonic()
                self._obey(self._persistently(step, partial(self._beat, reason)))

    @property
    def _asked_by(self) -> str:
        return f" by {self.control.by}" if self.control.by else ""

    def _beat(self, waiting: str) -> Control:
        return self.journal.beat(self.entry, waiting=waiting, waited=self._waited())

    def _wait(self, step: Step, reason: str, seconds: float, kind: str) -> None:
        self._tell(step, waiting=reason)
        slept = time.monotonic()
        self.interrupts.wait(seconds)
        slept = time.monotonic() - slept
        self.throttle.slept(kind, slept)
        if kind not in PACING:
            self.meter.pause(slept)

    def _persistently(self, step: Step, work: Callable[[], T]) -> T:
        """Do something that may be done twice, again and again while the server is away.

        :raises pymongo.errors.PyMongoError: it has stayed away.
        :raises LeaseLost: another run is at work by now.
        """

        def attempt() -> T:
            state = dict(step.state)
            try:
                return work()
            except PyMongoError:
                step.state = state
                raise

        def pause(seconds: float, until: float) -> bool:
            if self.interrupts.requested:
                return False
            self._wait(step, "the server is away", seconds, "the server is away")
            return self._has_lease(step, until)

        return outlast(
            self.plan.model_name,
            attempt,
            patience=_PATIENCE,
            first_pause=_FIRST_PAUSE,
            pause=pause,
        )

    def _has_lease(self, step: Step, until: float) -> bool:
        """Whether the lease is valid; its own thread renews it, and is waited for.

        :raises LeaseLost: another run has taken it.
        """
        while not self.lease.valid:
            if self.lease.taken:
                self.lease.check()
            if time.monotonic() > until or self.interrupts.requested:
                return False
            self._wait(step, "the lease is not renewed yet", _FIRST_PAUSE, "the server is away")
        return True

    def _tell(self, step: Step, waiting: str | None = None, finished: bool = False) -> None:
        state = step.state
        total = max(state["total"] or 0, state["done"])
        self.show(
            Progress(
                run_id=self.entry.id,
                model=self.plan.model_name,
                collection=str(self.collection.full_name),
                scope=self.scope,
                rule=step.name,
                position=step.position + 1,
                rules=len(self.steps),
                done=state["done"],
                total=total,
                exact=state["exact"],
                matched=state["matched"],
                modified=state["modified"],
                quarantined=state["quarantined"],
                rate=self.meter.rate,
                eta=self.meter.eta(total - state["done"]),
                seconds=time.monotonic() - self.started,
                waiting=waiting,
                finished=finished,
            )
        )


def _check_updatable(collection: Collection[Any], steps: Sequence[tuple[BoundRule, ...]]) -> None:
    if all(rule.by_hand for rules in steps for rule in rules):
        return
    description = describe(collection)
    if description is not None and description.kind != "collection":
        raise RunOptionError(
            f"{collection.full_name} is a {description.kind}, whose documents MongoDB does not "
            "update one by one; run the rules over the collection that it is made of, or write an "
            "allmigration rule by hand",
            option="collection",
        )
