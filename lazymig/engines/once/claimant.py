"""The owner of claims: it claims a document, runs the rule, writes update and release as one.

Serves the lazy and the bulk engine.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from contextvars import Context
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from bson.errors import InvalidBSON
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import Raw, all_of, key_of
from lazymig.engines.computed.outcome import Outcome
from lazymig.engines.computed.pace import Pace
from lazymig.engines.deadline import Deadline, without_client_limit
from lazymig.engines.driver_errors import is_document_error, waited_too_long
from lazymig.engines.once.claim import (
    RELEASE,
    Held,
    claiming,
    durable,
    free,
    look,
    options_of,
    owned_by,
    releasing,
)
from lazymig.engines.once.keeper import Keeper
from lazymig.engines.once.memory import Place, UnwrittenEffect, at_work_on, is_at_work_on, unwritten
from lazymig.engines.once.waiting import wait_for
from lazymig.engines.reading.decoding import Undecoded, decode, judge
from lazymig.engines.refusals import (
    failure_of_rule,
    failure_of_server,
    sets_no_update,
    undecodable,
)
from lazymig.engines.store import Store
from lazymig.errors import MigrationFailed, UpdateQueryError
from lazymig.query.matching import compile_query
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.once import CLAIM
from lazymig.rules.rule import Evaluation

__all__ = ["ClaimOutcome", "migrate_claimed", "migrate_once"]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# Refusals of one document by findAndModify, which has no error class of its own for them: document
# validation, and a document that would grow too large.
_REFUSALS: Final = frozenset({121, 10334, 17280, 17419})

# Rules whose update was found to write other paths than were seen at definition: logged once.
_logged: Final[set[tuple[str, str]]] = set()


@dataclass(slots=True)
class ClaimOutcome(Outcome):
    """What became of a batch; besides, the documents that others hold.

    `own` are those whose effect is what asks for them right now: they wait for nothing.
    `without_update` are the `_id`s of those for which the rule has set no update.
    """

    held: dict[Any, Held] = field(default_factory=dict)
    own: set[Any] = field(default_factory=set)
    without_update: dict[Any, Any] = field(default_factory=dict)


def migrate_claimed(
    store: Store, rule: BoundRule, documents: Sequence[Raw], outcome: ClaimOutcome, pace: Pace
) -> None:
    """Apply a once rule to each of these documents that nobody else is at work on.

    :param documents: raw documents with `_id` and the fields of the shard key.
    :param outcome: filled document by document, so that an exception loses nothing.
    :param pace: no further effect is begun once its time is up; what effects took is noted there.
        In its context the rule method runs: a time limit is meant for MongoDB, and would tear an
        effect apart.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit.
    """
    missed: list[Raw] = []
    claimant = Claimant(store, rule, outcome, pace)
    with closing(claimant.keeper):
        for document in documents:
            if pace.is_over:
                outcome.leave([document["_id"]])
            elif is_at_work_on(claimant.place_of(document)):
                outcome.own.add(key_of(document["_id"]))
            elif not claimant.take(document):
                missed.append(document)
    if missed:
        held = look(store, rule, missed)
        outcome.held.update(held)
        for document in missed:
            if key_of(document["_id"]) not in held:
                # Another owner has done it, or it is gone.
                unwritten.forget(claimant.place_of(document), rule)


def migrate_once(store: Store, rule: BoundRule, documents: Sequence[Raw], pace: Pace) -> Outcome:
    """Apply a once rule to each of these documents, and wait for those that others work on.

    A document that still matches because the rule has set no update for it is among the failures.

    :param documents: raw documents with `_id` and the fields of the shard key.
    :param pace: where it is noted what effects took.
    :raises pymongo.errors.PyMongoError: the connection, the rights; document errors are in the
        outcome, `MigrationInProgress` for those that stay held among them.
    """
    outcome = ClaimOutcome()

    def attempt(some: Sequence[Raw]) -> dict[Any, Held]:
        outcome.held = {}
        migrate_claimed(store, rule, some, outcome, pace)
        return outcome.held

    held = attempt(documents)
    if held:
        outcome.failures.update(
            wait_for(store, held, None, lambda free: attempt([it.document for it in free.values()]))
        )
    if outcome.without_update:
        ids = list(outcome.without_update.values())
        # It may have written by itself.
        for document in store.find_ids(store.query_of(rule, ids)):
            outcome.refuse(sets_no_update(rule, document["_id"]))
    return outcome


class Claimant:
    """One owner of claims, one after the other, whose keeper renews the current one."""

    def __init__(self, store: Store, rule: BoundRule, outcome: ClaimOutcome, pace: Pace) -> None:
        self.given = store.collection
        self.store = durable(store)
        self.rule = rule
        self.outcome = outcome
        self.pace = pace
        self.lease = options_of(rule).lease
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self.keeper = Keeper(self.store, self.owner, self.lease)
        self._namespace = id(self.given.database.client), str(self.given.full_name)

    def place_of(self, document: Raw) -> Place:
        """Where a document is."""
        return (*self._namespace, key_of(document["_id"]))

    def take(self, document: Raw) -> bool:
        """Claim a document and do all that the rule does; return whether it could be claimed."""
        remembered = unwritten.get(self.place_of(document), self.rule)
        try:
            claimed = self._claim(document, remembered)
        except InvalidBSON as exc:
            # Its shard key; the document itself has not been asked for.
            self._fail(document, undecodable(self.rule, document["_id"], exc))
            return True
        except PyMongoError as exc:
            if isinstance(exc, OperationFailure) and (
                exc.code in _REFUSALS or is_document_error(exc)
            ):
                self._fail(document, failure_of_server(self.rule, document["_id"], exc, exc))
                return True
            if waited_too_long(exc):
                # The claim may be stored all the same, and would keep everybody waiting.
                self._release(self.store.locate(document))
            raise
        if claimed is None:
            return False
        raw: Raw = claimed
        if not isinstance(claimed, Undecoded):
            raw = {name: value for name, value in claimed.items() if name != CLAIM}
        own = self.store.locate(raw)
        self.keeper.hold(own)
        try:
            return self._carry_out(raw, own, remembered)
        finally:
            self.keeper.let_go()

    def _claim(self, document: Raw, remembered: UnwrittenEffect | None) -> Raw | None:
        found = self.store.find_and_update(
            all_of(
                self.store.locate(document),
                self.store.query_of(self.rule),
                free(self.store, remembered.owner if remembered else None),
            ),
            claiming(self.store, self.rule.name, self.owner, self.lease),
        )
        return None if found is None else decode(found, self.given.codec_options)

    def _carry_out(self, raw: Raw, own: Raw, remembered: UnwrittenEffect | None) -> bool:
        if remembered is not None:
            evaluation = remembered.evaluation
        else:
            try:
                evaluation = self._run(raw)
            except BaseException as exc:
                self._release(own)
                if not isinstance(exc, Exception):
                    raise
                self._fail(raw, failure_of_rule(self.rule, raw["_id"], exc))
                return True
            if not self._concerns(evaluation, raw):
                self._release(own)
                return True
        self.outcome.matched.add(key := key_of(raw["_id"]))
        if evaluation.update is None:
            self.outcome.without_update[key] = raw["_id"]
            self._release(own)
            return True
        return self._write(raw, own, replace(evaluation, read=None))

    def _concerns(self, evaluation: Evaluation, raw: Raw) -> bool:
        """Return whether the rule, having seen the document, still concerns it."""
        target = evaluation.target
        if target is None or target == self.rule.declared.target:
            return target is not None
        return judge(compile_query(target), raw) is not False

    def _run(self, raw: Raw) -> Evaluation:
        """The rule method, which meets its own document as it is stored if it loads it."""

        def run() -> Evaluation:
            started = time.perf_counter()
            try:
                with at_work_on(self.place_of(raw)):
                    return self.rule.run(raw, self.given)
            finally:
                self.pace.note(self.rule.name, time.perf_counter() - started)

        return run() if self.pace.context is None else self.pace.context.run(run)

    def _write(self, raw: Raw, own: Raw, evaluation: Evaluation) -> bool:
        """Write the update with the release; return whether the claim was still this one's."""
        place = self.place_of(raw)
        problem = _problem_of(self.rule, evaluation)
        if problem is not None:
            self._release(own)
            self._keep(raw, evaluation, problem)
            failure = MigrationFailed(
                f"its effect has happened, but {problem}; correct the rule and start the process "
                "anew",
                model=self.rule.model_name,
                rule=self.rule.name,
                document_id=raw["_id"],
            )
            self._fail(raw, failure)
            return True
        try:
            written = self._send(own, evaluation)
        except (OperationFailure, DocumentTooLarge) as exc:
            self._keep(raw, evaluation, excerpt(exc))
            if not is_document_error(exc):
                raise
            self._release(own)
            self._fail(raw, failure_of_server(self.rule, raw["_id"], exc, exc))
            return True
        except BaseException as exc:
            self._keep(raw, evaluation, excerpt(exc))
            raise
        if written is None:
            # What is remembered is written under the next claim, if the document still matches.
            self._log(
                logging.WARNING,
                raw["_id"],
                "the claim was gone before the update could be written: the document was deleted "
                "or replaced, or another process has taken it over",
            )
            self.outcome.matched.discard(place[-1])
            unwritten.keep(place, self.rule, UnwrittenEffect(evaluation, self.owner))
            return False
        self.outcome.modified += written
        unwritten.forget(place, self.rule)
        return True

    def _send(self, own: Raw, evaluation: Evaluation) -> int | None:
        """The number of documents modified; `None` where the claim is gone.

        The claim stands in for the check of what the rule has read: the effect has happened, and
        is not repeated because the application has written meanwhile.
        """
        query, update = all_of(own, owned_by(self.owner)), releasing(evaluation.update)
        result = self._outside(
            lambda: self.store.update_one(query, update, evaluation.array_filters)
        )
        return int(result.modified_count) if result.matched_count else None

    def _release(self, own: Raw) -> None:
        """Give the claim back; if that fails, it expires by itself."""
        query = all_of(own, owned_by(self.owner))
        try:
            self._outside(lambda: self.store.update_one(query, RELEASE))
        except PyMongoError as exc:
            problem = f"the claim could not be released and expires in {self.lease:g} s"
            self._log(logging.WARNING, own["_id"]["$eq"], problem, excerpt(exc))

    def _outside(self, operation: Callable[[], _Result]) -> _Result:
        """Run an operation that must not be cut short by the time limit of what went before it."""

        def limited() -> _Result:
            # Whoever gives no context is a bulk run.
            if self.pace.context is None:
                limit = without_client_limit(self.given.database)
            else:
                limit = Deadline.of(self.given, self.pace.patience).within()
            with limit:
                return operation()

        return Context().run(limited)

    def _keep(self, raw: Raw, evaluation: Evaluation, problem: str) -> None:
        """Remember an effect whose update was not written, so that it is not repeated."""
        place = self.place_of(raw)
        known = unwritten.get(place, self.rule) is not None
        unwritten.keep(place, self.rule, UnwrittenEffect(evaluation, self.owner))
        if known:
            return
        self._log(
            logging.ERROR,
            raw["_id"],
            "its effect has happened, but its update was not written; this process will try again "
            "to write it, without the effect",
            problem,
        )

    def _log(self, level: int, document_id: Any, problem: str, reason: str = "") -> None:
        text = "%s.%s: %s (_id: %r): %s" if reason else "%s.%s: %s (_id: %r)%s"
        rule = self.rule
        logger.log(level, text, rule.model_name, rule.name, problem, document_id, reason)

    def _fail(self, document: Raw, failure: MigrationFailed) -> None:
        self.outcome.failures[key_of(document["_id"])] = failure


def _problem_of(rule: BoundRule, evaluation: Evaluation) -> str | None:
    """Why an update must not be written, though its effect has happened."""
    try:
        rule.check(evaluation)
    except UpdateQueryError as exc:
        return f"its update is invalid: {exc.problem}"
    if not rule.converges_with(evaluation):
        return (
            "its update does not provably end the match of its target, so that it would happen "
            "again"
        )
    if not rule.covers(evaluation.update) and (rule.model_name, rule.name) not in _logged:
        _logged.add((rule.model_name, rule.name))
        logger.error(
            "%s.%s: its update writes other paths than it is known to write, so that queries by "
            "them may overlook documents; declare all of them in self.writes",
            rule.model_name,
            rule.name,
        )
    return None
