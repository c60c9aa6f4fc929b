"""The work on the chunks of a bulk run: each is done, here or by a worker, and noted."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pymongo.client_session import ClientSession
from pymongo.errors import DocumentTooLarge, OperationFailure

from lazymig.engines.access import Raw, by_ids, ids_of, not_by_ids, on_primary, unhurried
from lazymig.engines.bulk import Tally, Work, rescue_broken
from lazymig.engines.computed.outcome import PartRefused, TooSlow
from lazymig.engines.refusals import failure_of_server
from lazymig.engines.walk import FEW, FIRST, Chunk, ChunkSize
from lazymig.operations.backup.unsealed import seal_unsealed
from lazymig.operations.backup.writer import BackupWriter
from lazymig.operations.journal.entries import Control
from lazymig.operations.journal.fencing import fenced
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.opening import Opened
from lazymig.operations.runs.pacing import Pacing, Stopped
from lazymig.operations.runs.steps import RuleStep
from lazymig.operations.runs.transactions import Contended, Transactions
from lazymig.operations.runs.workers import Workers
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left

__all__ = ["ChunkWork", "TooManyErrors"]

# Seconds that a transaction should take: for so long an application's write of one of its documents
# may have to wait.
_HELD = 0.1


class TooManyErrors(Exception):
    """More documents were refused than `max_errors` allows."""


class ChunkWork:
    """Does the chunks of a run, one rule after the other.

    :param backup: what gets the documents before they are changed, if anything does.
    :param workers: what chunks are given to, if there are any.
    """

    def __init__(
        self,
        context: RunContext,
        opened: Opened,
        pacing: Pacing,
        backup: BackupWriter | None,
        workers: Workers | None,
    ) -> None:
        self.context = context
        self.entry = opened.entry
        self.steps = opened.steps
        self.pacing = pacing
        self.backup = backup
        self.workers = workers
        self.transactions = Transactions(context, self.entry, pacing)
        self.fence = context.lease.fence(context.collection)
        self.size = ChunkSize()
        self.refused = 0

    def begin(self, step: RuleStep) -> None:
        """Begin with the chunks of a rule: how many documents the first one has."""
        options = self.context.options
        fixed = options.chunk_size if isinstance(options.chunk_size, int) else None
        seconds = options.chunk_seconds
        if self._is_exact(step):
            seconds = min(seconds, _HELD)
        first = FIRST if step.rule.kind == "static" else FEW
        self.size = ChunkSize(fixed, seconds, first=first)

    def do(self, step: RuleStep, chunk: Chunk) -> None:
        """Do one chunk and note it."""
        if self.workers is not None and self._goes_out(step):
            spared = self.pacing.persistently(step, partial(self._spared, chunk.within))
            self.workers.give(step.rule.name, chunk, spared, self._errors_left())
            while self.workers.full:
                self._take_one(step)
            return
        # A checkpoint says that all before it is done.
        self.take_back(step)
        self._do_here(step, chunk)

    def take_back(self, step: RuleStep) -> None:
        """Wait for the chunks that are given out, and note them."""
        while self.workers is not None and self.workers.busy:
            self._take_one(step)

    def quarantined(self, within: Raw | None) -> list[Any]:
        """The `_id`s of what this run has in quarantine; such a document gets no later rule."""
        if not self.refused and not any(step.state.quarantined for step in self.steps):
            return []
        return self.context.journal.quarantine.ids(self.entry.id, within)

    def seal_unsealed(self) -> None:
        """Learn what a chunk that was broken off has left, before it is done again."""
        if self.backup is None or self.backup.unsealed is None:
            return
        for step in self.steps:
            if step.name == self.backup.unsealed and not step.rescue:
                context = self.context
                seal_unsealed(
                    self.backup, context.collection, context.plan, context.scope, step.rule
                )
                return

    def _do_here(self, step: RuleStep, chunk: Chunk) -> None:
        """Do one chunk in this process and note it."""
        if self._is_exact(step):
            self._do_exactly(step, chunk)
        else:
            self._do_once(step, chunk)

    def _goes_out(self, step: RuleStep) -> bool:
        rule = step.rule
        if step.rescue or _may_rescue(self.context, step):
            return False
        return rule.kind != "static" and not rule.by_hand and step.is_repeatable

    def _is_exact(self, step: RuleStep) -> bool:
        """Return whether a chunk and its checkpoint are one transaction.

        Where it need not be, the default is without: a transaction makes writes of the
        application wait, and one of a killed runner does so until MongoDB ends it.
        """
        rule = step.rule
        if not self.context.transactions or step.rescue or rule.once is not None:
            return False
        if rule.by_hand or _may_rescue(self.context, step):
            return False
        if self.context.options.transactions and rule.kind != "static":
            return True
        return self.backup is not None or not step.is_repeatable

    def _work(self, step: RuleStep, chunk: Chunk, session: ClientSession | None = None) -> Work:
        rule, context = step.rule, self.context
        found_again = not step.rescue and tells_what_is_left(rule, context.scope) is True
        open_question = session is None and may_be_repeated(rule, context.scope) is None
        only_repeatable = open_question and step.is_repeatable and not _may_rescue(context, step)
        # What a server that breaks down forgets is not noted, where nothing looks for it again.
        collection = unhurried(context.collection) if found_again else context.collection
        if session is None and rule.once is None:
            # What a claim guards is finished by its owner, whoever has the lease.
            collection = fenced(collection, self.fence)
        return Work(
            collection,
            context.plan,
            context.scope,
            chunk.within,
            self._spared(chunk.within),
            session,
            None if self.backup is None else partial(self.backup.save, session=session),
            self._errors_left() if session is None and step.is_repeatable else sys.maxsize,
            only_repeatable=only_repeatable,
            is_broken=context.is_broken,
            documents=chunk.documents,
        )

    def _spared(self, within: Raw | None) -> Raw | None:
        """The condition that excepts what is in quarantine."""
        ids = self.quarantined(within)
        return not_by_ids(ids) if ids else None

    def _errors_left(self) -> int:
        return self.context.options.max_errors - self.refused + 1

    def _do_once(self, step: RuleStep, chunk: Chunk) -> None:
        """Do a chunk, and then note it; what may be repeated outlasts a lost connection."""

        def attempt() -> tuple[dict[str, Tally], float]:
            started = time.perf_counter()
            if self.backup is not None:
                self.backup.begin(step.name)
                self.seal_unsealed()
            work = self._work(step, chunk)
            if step.rescue:
                tallies = rescue_broken(work, step.rules, self.context.is_broken)
            else:
                tallies = work.apply(step.rule).by_rule(step.rule.name)
            if self.backup is not None:
                self.backup.seal()
                self.backup.commit()
            return tallies, time.perf_counter() - started

        if step.is_repeatable:
            tallies, seconds = self.pacing.persistently(step, attempt)
        else:
            tallies, seconds = attempt()
        self._account_or_go_on(step, chunk, tallies, seconds)

    def _account_or_go_on(
        self, step: RuleStep, chunk: Chunk, tallies: dict[str, Tally], seconds: float
    ) -> None:
        """Note a chunk; one that was halted is done to its end first, in one piece if possible."""
        if not any(tally.halted for tally in tallies.values()):
            self.account(step, chunk, tallies, seconds)
            return
        was_repeatable = step.is_repeatable
        self.account(step, Chunk(chunk.within, 0, None), tallies, seconds)
        if was_repeatable:
            self.begin(step)
        self._do_here(step, chunk)

    def _do_exactly(self, step: RuleStep, chunk: Chunk, alone: Sequence[Any] = ()) -> None:
        """Do a chunk and its checkpoint in one transaction: both, once, or neither.

        :param alone: the `_id` of the chunk's document, where it is the only one.
        """
        rule, before = step.rule, step.state
        started = noted = 0.0
        attempts = 0

        def attempt(session: ClientSession) -> tuple[Tally, Control]:
            nonlocal attempts, started, noted
            started = time.perf_counter()
            attempts += 1
            step.state = before
            if self.backup is not None:
                if attempts > 1:
                    self.backup.abandon()
                self.backup.begin(step.name)
            tally = self._work(step, chunk, session).apply(rule)
            if self.backup is not None:
                self.backup.seal(session)
            step.count(chunk, {rule.name: tally}, time.perf_counter() - started)
            self.context.journal.quarantine.add(self.entry, rule.name, tally.errors, session)
            noted = time.perf_counter()
            return tally, self.pacing.checkpoint(step, session)

        may_be_split = not alone and chunk.documents != 1
        try:
            tally, control = self.transactions.run(step, attempt, may_be_split=may_be_split)
        except (PartRefused, Contended, Stopped) as exc:
            step.state = before
            if self.backup is not None:
                self.backup.abandon()
            if isinstance(exc, Stopped):
                raise
            self._do_otherwise(step, chunk, alone, exc)
            return
        latency = time.perf_counter() - noted
        if self.backup is not None:
            self.backup.commit()
        seconds = time.perf_counter() - started
        self._learn(step, chunk, {rule.name: tally}, seconds, latency)
        self.pacing.obey(control)

    def _do_otherwise(
        self, step: RuleStep, chunk: Chunk, alone: Sequence[Any], reason: Exception
    ) -> None:
        """Do a chunk that could not be one transaction; see `_do_exactly`."""
        cause = reason.__cause__
        if alone and isinstance(cause, (OperationFailure, DocumentTooLarge)):
            error = failure_of_server(step.rule, alone[0], cause, cause)
            self.account(step, chunk, {step.rule.name: Tally(errors=[error])}, 0.0)
        elif self.backup is None and step.is_repeatable:
            # Document by document, each write with its own conditions.
            self._do_once(step, chunk)
        else:
            self._do_parts(step, chunk, reason)

    def _do_parts(self, step: RuleStep, chunk: Chunk, reason: Exception) -> None:
        """Do a chunk in several transactions: halves, or as much as can be computed in one.

        MongoDB does not name in a transaction the document that it refuses.
        """

        def find() -> list[Any]:
            query = self._work(step, chunk).documents_of(step.rule.target)
            return list(ids_of(on_primary(self.context.collection), query, sort=[("_id", 1)]))

        ids = self.pacing.persistently(step, find)
        if len(ids) > 1:
            size = (len(ids) + 1) // 2
            if isinstance(reason, TooSlow):
                size = min(size, reason.documents)
                self.size.shrink(size)
            for part in chunk.split(ids, size):
                self.pacing.ready(step)
                self._do_exactly(step, part)
        elif ids:
            self._do_exactly(step, replace(chunk, within=by_ids(ids)), alone=ids)
        else:
            self._do_exactly(step, chunk)

    def _take_one(self, step: RuleStep) -> None:
        assert self.workers is not None
        done = self.pacing.persistently(step, self.workers.take)
        self._account_or_go_on(step, done.chunk, {step.name: done.tally}, done.seconds)

    def account(
        self, step: RuleStep, chunk: Chunk, tallies: dict[str, Tally], seconds: float
    ) -> None:
        """Note what a chunk has come to; the run ends here if too many documents were refused.

        :raises TooManyErrors: that is so.
        """
        errors = sum(len(tally.errors) for tally in tallies.values())
        if errors >= self._errors_left() and step.is_repeatable:
            # The rest of the chunk may be undone: it is looked at again.
            chunk = Chunk(chunk.within, 0, None)
        step.count(chunk, tallies, seconds)
        quarantine = self.context.journal.quarantine
        for name, tally in tallies.items():
            add = partial(quarantine.add, self.entry, name, tally.errors)
            self.pacing.persistently(step, add)
        asked = time.perf_counter()
        control = self.pacing.persistently(step, partial(self.pacing.checkpoint, step))
        latency = time.perf_counter() - asked
        self._learn(step, chunk, tallies, seconds, latency)
        self.pacing.obey(control)

    def _learn(
        self,
        step: RuleStep,
        chunk: Chunk,
        tallies: dict[str, Tally],
        seconds: float,
        latency: float,
    ) -> None:
        """Learn from a chunk that is noted."""
        matched, computing = 0, 0.0
        for name, tally in tallies.items():
            step.tallies.setdefault(name, Tally()).add(tally)
            self.refused += len(tally.errors)
            matched += tally.matched
            computing += tally.computing
        self.size.learn(chunk.documents, seconds, computing)
        self.pacing.worked(step, matched, seconds, latency)
        most = self.context.options.max_errors
        if self.refused > most:
            documents = "1 document was" if self.refused == 1 else f"{self.refused} documents were"
            raise TooManyErrors(
                f"{documents} refused, and max_errors is {most}; see the quarantine of the run"
            )


def _may_rescue(context: RunContext, step: RuleStep) -> bool:
    """Return whether documents that do not load are repaired by a rule, as a load does it."""
    return context.scope == "lazy" and not context.plan.starts(step.rule)
