"""Rules that run once: claim the document, run the rule, write update and release as one.

The claim lies in the document, because only there the update and the release are one atomic write
without a transaction. Serves the lazy and the bulk engine.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context, ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from types import TracebackType
from typing import Any, Final, TypeAlias, TypeVar

import pymongo
from bson.errors import InvalidBSON
from pymongo import ReturnDocument, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import (
    Raw,
    all_of,
    as_bytes,
    by_ids,
    is_document_error,
    is_mongomock,
    key_of,
    located,
    on_primary,
    tolerant,
    waited_too_long,
)
from lazymig.engines.computed.guarded import Outcome
from lazymig.engines.computed.pace import Pace
from lazymig.engines.deadline import Deadline, without_client_limit
from lazymig.engines.reading.decoding import Undecoded, decode, judge
from lazymig.engines.refusals import (
    failure_of_rule,
    failure_of_server,
    sets_no_update,
    undecodable,
)
from lazymig.errors import MigrationFailed, MigrationInProgress, UpdateQueryError
from lazymig.query.matching import compile_query
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.once import CLAIM, OnceOptions
from lazymig.rules.rule import Evaluation

__all__ = [
    "ClaimOutcome",
    "Held",
    "migrate_claimed",
    "migrate_once",
    "release_expired",
    "wait_for",
]

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

# A document, the same in every thread of this process: client, collection, key of the `_id`.
_Place: TypeAlias = "tuple[int, str, Any]"

# Seconds between two looks at a document that somebody else is at work on.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.01, 0.5

# Renewals within the time of a lease, so that one that fails can be repeated in time.
_RENEWALS, _RENEWALS_AFTER_FAILURE = 3, 12

# Effects without a stored update that this process remembers.
_MOST_UNWRITTEN = 10_000

# Refusals of one document by findAndModify, which has no error class of its own for them: document
# validation, and a document that would grow too large.
_REFUSALS = frozenset({121, 10334, 17280, 17419})

_UNTIL: Final = f"{CLAIM}.until"
_OWNER: Final = f"{CLAIM}.owner"


@dataclass(frozen=True, slots=True)
class Held:
    """A document that a rule concerns and that carries another's claim.

    `live` is false once the claim has expired: then it may be taken over.
    """

    rule: BoundRule
    document: Raw
    owner: str
    until: datetime | None
    live: bool

    def error(self) -> MigrationInProgress:
        """What is raised for a document that stays held."""
        until = self.until.isoformat(" ", "seconds") if self.until else "an unknown time"
        return MigrationInProgress(
            f"{self.owner or 'another process'} is at work on the document; if it has died, its "
            f"claim ends at {until} by the server's clock; load the document again later",
            model=self.rule.model_name,
            rule=self.rule.name,
            document_id=self.document["_id"],
            owner=self.owner,
            until=self.until,
        )


@dataclass(slots=True)
class ClaimOutcome(Outcome):
    """What became of a batch; besides, the documents that others hold.

    `own` are those whose effect is what asks for them right now: they wait for nothing.
    `without_update` are the `_id`s of those for which the rule has set no update.
    """

    held: dict[Any, Held] = field(default_factory=dict)
    own: set[Any] = field(default_factory=set)
    without_update: dict[Any, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Unwritten:
    """An effect that has happened, and the update that goes with it; `owner` may hold the claim."""

    evaluation: Evaluation
    owner: str


class _Memory:
    """The effects of this process whose update could not be written: none of them is repeated."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[_Place, str], _Unwritten] = OrderedDict()

    def get(self, place: _Place, rule: BoundRule) -> _Unwritten | None:
        return self._entries.get((place, rule.name))

    def keep(self, place: _Place, rule: BoundRule, unwritten: _Unwritten) -> None:
        with self._lock:
            self._entries[place, rule.name] = unwritten
            if len(self._entries) > _MOST_UNWRITTEN:
                self._entries.popitem(last=False)

    def forget(self, place: _Place, rule: BoundRule) -> None:
        with self._lock:
            self._entries.pop((place, rule.name), None)


_memory = _Memory()

# Rules whose update was found to write other paths than were seen at definition: told once.
_told: set[tuple[str, str]] = set()

# The documents at whose effects this thread, or task, is at work.
_at_work: ContextVar[frozenset[_Place]] = ContextVar("lazymig_at_work", default=frozenset())


def migrate_claimed(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    documents: Sequence[Raw],
    outcome: ClaimOutcome,
    *,
    shard_key: Sequence[str] = (),
    context: Context | None = None,
    patience: float | None = None,
    pace: Pace | None = None,
) -> None:
    """Apply a once rule to each of these documents that nobody else is at work on.

    :param documents: raw documents with `_id` and the fields of the shard key.
    :param outcome: filled document by document, so that an exception loses nothing.
    :param context: where the rule method runs: the caller's context without its time limit, which
        is meant for MongoDB and would tear an effect apart.
    :param patience: seconds for the one write that follows an effect; `None` for no limit.
    :param pace: no further effect is begun once its time is up; what effects took is noted there.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit.
    """
    missed: list[Raw] = []
    pace = pace or Pace()
    with _Claimant(
        collection, rule, concern, outcome, shard_key, context, patience, pace
    ) as claimant:
        for document in documents:
            if pace.is_over:
                outcome.leave([document["_id"]])
            elif claimant.place_of(document) in _at_work.get():
                outcome.own.add(key_of(document["_id"]))
            elif not claimant.take(document):
                missed.append(document)
    if missed:
        held = _look(collection, rule, concern, missed)
        outcome.held.update(held)
        for document in missed:
            if key_of(document["_id"]) not in held:
                # Another owner has done it, or it is gone.
                _memory.forget(claimant.place_of(document), rule)


def migrate_once(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    documents: Sequence[Raw],
    *,
    shard_key: Sequence[str] = (),
    pace: Pace | None = None,
) -> Outcome:
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
        migrate_claimed(collection, rule, concern, some, outcome, shard_key=shard_key, pace=pace)
        return outcome.held

    held = attempt(documents)
    if held:
        errors = wait_for(
            collection,
            concern,
            held,
            None,
            lambda free: attempt([each.document for each in free.values()]),
        )
        outcome.failures.update(errors)
    if outcome.without_update:
        ids = list(outcome.without_update.values())
        # It may have written by itself.
        left = on_primary(collection).find(all_of(by_ids(ids), concern, rule.target), {"_id": 1})
        for document in left:
            outcome.refuse(sets_no_update(rule, document["_id"]))
    return outcome


def wait_for(
    collection: Collection[Any],
    concern: Raw | None,
    held: Mapping[Any, Held],
    deadline: Deadline | None,
    go_on: Callable[[dict[Any, Held]], Mapping[Any, Held]],
) -> dict[Any, MigrationInProgress]:
    """Wait for documents that others hold, up to their rules' `wait`.

    :param held: by the key of the `_id`.
    :param deadline: `None` for no earlier end.
    :param go_on: called with documents that are free, or whose rule concerns them no more; says
        which of them are held again.
    :return: an error for each document that is held still.
    :raises pymongo.errors.PyMongoError: as `migrate_claimed`.
    """
    until = time.monotonic() + max(_options_of(each.rule).wait for each in held.values())
    if deadline is not None and deadline.left is not None:
        until = min(until, time.monotonic() + deadline.left)
    pauses = _pauses()
    now: Mapping[Any, Held] = held
    waiting = dict(held)
    while True:
        free = {key: each for key, each in waiting.items() if key not in now or not now[key].live}
        waiting = {key: now[key] for key in waiting if key not in free}
        if free:
            waiting.update(go_on(free))
        left = until - time.monotonic()
        if not waiting or left <= 0:
            break
        time.sleep(min(next(pauses), left))
        # A look waits for nobody, and is what the error is made of.
        look = None if deadline is None else Deadline.of(collection, max(left, _LONGEST_PAUSE))
        with nullcontext() if look is None else look.within():
            now = _look_at_all(collection, concern, waiting.values())
    return {key: each.error() for key, each in waiting.items()}


def release_expired(collection: Collection[Any], rule: BoundRule, concern: Raw | None) -> None:
    """Take the claims of owners who have died out of documents that the rule matches no more."""
    mock = is_mongomock(collection)
    query = all_of(concern, {f"{CLAIM}.rule": rule.name}, _free(mock))
    collection.update_many(query, {"$unset": {CLAIM: ""}})


class _Claimant(AbstractContextManager["_Claimant"]):
    """One owner of claims, one after the other, with the thread that renews the current one."""

    def __init__(
        self,
        collection: Collection[Any],
        rule: BoundRule,
        concern: Raw | None,
        outcome: ClaimOutcome,
        shard_key: Sequence[str],
        context: Context | None,
        patience: float | None,
        pace: Pace,
    ) -> None:
        self.given = collection
        self.collection = _durable(collection)
        self.rule = rule
        self.condition = all_of(concern, rule.target)
        self.outcome = outcome
        self.shard_key = shard_key
        self.context = context
        self.patience = patience
        self.pace = pace
        self.mock = is_mongomock(collection)
        self.lease = _options_of(rule).lease
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(8)}"
        self.keeper = _Keeper(self.collection, self.owner, self.lease)
        self._namespace = id(collection.database.client), str(collection.full_name)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.keeper.close()

    def place_of(self, document: Raw) -> _Place:
        return (*self._namespace, key_of(document["_id"]))

    def take(self, document: Raw) -> bool:
        """Claim a document and do all that the rule does; false if it cannot be claimed."""
        remembered = _memory.get(self.place_of(document), self.rule)
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
                self._release(located(document, self.shard_key))
            raise
        if claimed is None:
            return False
        raw: Raw = claimed
        if not isinstance(claimed, Undecoded):
            raw = {name: value for name, value in claimed.items() if name != CLAIM}
        own = located(raw, self.shard_key)
        self.keeper.hold(own)
        try:
            return self._carry_out(raw, own, remembered)
        finally:
            self.keeper.let_go()

    def _claim(self, document: Raw, remembered: _Unwritten | None) -> Raw | None:
        found = as_bytes(self.collection).find_one_and_update(
            all_of(
                located(document, self.shard_key),
                self.condition,
                _free(self.mock, remembered.owner if remembered else None),
            ),
            _claiming(self.rule.name, self.owner, self.lease, self.mock),
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else decode(found, self.collection.codec_options)

    def _carry_out(self, raw: Raw, own: Raw, remembered: _Unwritten | None) -> bool:
        if remembered is not None:
            evaluation = remembered.evaluation
        else:
            try:
                evaluation = self._run(raw)
            except Exception as exc:
                self._release(own)
                self._fail(raw, failure_of_rule(self.rule, raw["_id"], exc))
                return True
            except BaseException:
                self._release(own)
                raise
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
        """Whether the rule, having seen the document, still concerns it."""
        target = evaluation.target
        if target is None or target == self.rule.declared.target:
            return target is not None
        return judge(compile_query(target), raw) is not False

    def _run(self, raw: Raw) -> Evaluation:
        """The rule method, which meets its own document as it is stored if it loads it."""

        def run() -> Evaluation:
            token = _at_work.set(_at_work.get() | {self.place_of(raw)})
            started = time.perf_counter()
            try:
                return self.rule.run(raw, self.given)
            finally:
                self.pace.note(self.rule.name, time.perf_counter() - started)
                _at_work.reset(token)

        return run() if self.context is None else self.context.run(run)

    def _write(self, raw: Raw, own: Raw, evaluation: Evaluation) -> bool:
        """Write the update together with the release; false if the claim was lost to another."""
        place = self.place_of(raw)
        problem = _problem_of(self.rule, evaluation)
        if problem is not None:
            self._release(own)
            self._keep(raw, evaluation, problem)
            self._fail(raw, self._failure(raw, problem))
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
            logger.warning(
                "%s.%s: the claim was gone before the update could be written: the document was "
                "deleted or replaced, or another process has taken it over (_id: %r)",
                self.rule.model_name,
                self.rule.name,
                raw["_id"],
            )
            self.outcome.matched.discard(place[-1])
            _memory.keep(place, self.rule, _Unwritten(evaluation, self.owner))
            return False
        self.outcome.modified += written
        _memory.forget(place, self.rule)
        return True

    def _send(self, own: Raw, evaluation: Evaluation) -> int | None:
        """The number of documents modified; `None` where the claim is gone.

        The claim stands in for the check of what the rule has read: the effect has happened, and
        is not repeated because the application has written meanwhile.
        """
        query, update = all_of(own, {_OWNER: self.owner}), _releasing(evaluation.update)
        result = self._outside(
            lambda: self.collection.update_one(
                query, update, array_filters=evaluation.array_filters
            )
        )
        return int(result.modified_count) if result.matched_count else None

    def _release(self, own: Raw) -> None:
        """Give the claim back; if that fails, it expires by itself."""
        query = all_of(own, {_OWNER: self.owner})
        try:
            self._outside(lambda: self.collection.update_one(query, {"$unset": {CLAIM: ""}}))
        except PyMongoError as exc:
            logger.warning(
                "%s.%s: the claim could not be released and expires in %g s (_id: %r): %s",
                self.rule.model_name,
                self.rule.name,
                self.lease,
                own["_id"]["$eq"],
                excerpt(exc),
            )

    def _outside(self, operation: Callable[[], _Result]) -> _Result:
        """Run an operation that must not be cut short by the time limit of what went before it."""

        def limited() -> _Result:
            # Whoever gives no context is a bulk run.
            if self.context is None:
                limit = without_client_limit(self.given.database)
            else:
                limit = Deadline.of(self.given, self.patience).within()
            with limit:
                return operation()

        return Context().run(limited)

    def _keep(self, raw: Raw, evaluation: Evaluation, problem: str) -> None:
        """Remember an effect whose update was not written, so that it is not repeated."""
        place = self.place_of(raw)
        known = _memory.get(place, self.rule) is not None
        _memory.keep(place, self.rule, _Unwritten(evaluation, self.owner))
        if known:
            return
        logger.error(
            "%s.%s: its effect has happened, but its update was not written; this process will "
            "try again to write it, without the effect (_id: %r): %s",
            self.rule.model_name,
            self.rule.name,
            raw["_id"],
            problem,
        )

    def _failure(self, raw: Raw, problem: str) -> MigrationFailed:
        return MigrationFailed(
            f"its effect has happened, but {problem}; mend the rule and start the process anew",
            model=self.rule.model_name,
            rule=self.rule.name,
            document_id=raw["_id"],
        )

    def _fail(self, document: Raw, failure: MigrationFailed) -> None:
        self.outcome.failures[key_of(document["_id"])] = failure


class _Keeper:
    """Renews the claim that its owner holds at the moment, in a thread that dies with the process.

    The thread is started with the first claim.
    """

    def __init__(self, collection: Collection[Any], owner: str, lease: float) -> None:
        self._collection = collection
        self._owner = owner
        self._lease = lease
        self._own: Raw | None = None
        self._closing = threading.Event()
        self._started = False

    def hold(self, own: Raw) -> None:
        """Renew the claim of this document from now on."""
        self._own = own
        if not self._started:
            self._started = True
            threading.Thread(target=self._work, name=f"lazymig:{self._owner}", daemon=True).start()

    def let_go(self) -> None:
        """Renew no claim until the next one is held."""
        self._own = None

    def close(self) -> None:
        """End the thread."""
        self._closing.set()

    def _work(self) -> None:
        pause = self._lease / _RENEWALS
        while not self._closing.wait(pause):
            own = self._own
            pause = self._lease / _RENEWALS
            if own is not None and not self._renew(own):
                pause = self._lease / _RENEWALS_AFTER_FAILURE

    def _renew(self, own: Raw) -> bool:
        until: Any = {_UNTIL: _end_of(self._lease, is_mongomock(self._collection))}
        renewal: Any = {"$set": until} if is_mongomock(self._collection) else [{"$set": until}]
        try:
            with pymongo.timeout(self._lease / _RENEWALS):
                self._collection.update_one(all_of(own, {_OWNER: self._owner}), renewal)
        except PyMongoError as exc:
            logger.warning(
                "the claim of %r in %s could not be renewed: %s",
                own["_id"]["$eq"],
                self._collection.full_name,
                excerpt(exc),
            )
            return False
        return True


def _options_of(rule: BoundRule) -> OnceOptions:
    assert rule.once is not None
    return rule.once


def _durable(collection: Collection[Any]) -> Collection[Any]:
    """The collection with writes that a change of the primary does not undo.

    A claim that was undone would let the effect happen twice.
    """
    if collection.write_concern.document.get("w", 1) in (0, 1):
        return collection.with_options(write_concern=WriteConcern("majority"))
    return collection


def _end_of(lease: float, mock: bool) -> Any:
    """When a claim ends that begins now, by the server's clock; mongomock has none."""
    if mock:
        return _client_now() + timedelta(seconds=lease)
    return {"$add": ["$$NOW", int(lease * 1000)]}


def _client_now() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def _claiming(rule: str, owner: str, lease: float, mock: bool) -> Any:
    claim = {"rule": rule, "owner": owner, "until": _end_of(lease, mock)}
    if mock:
        return {"$set": {CLAIM: claim}}
    # $mergeObjects, because a plain document would be merged into what lies there.
    return [{"$set": {CLAIM: {"$mergeObjects": [claim]}}}]


def _free(mock: bool, owner: str | None = None) -> dict[str, Any]:
    """The condition that a document carries no live claim, or that of this owner."""
    if mock:
        ways: list[Raw] = [
            {CLAIM: {"$exists": False}},
            {_UNTIL: {"$lt": _client_now()}},
            {_OWNER: owner or ""},
        ]
        return {"$or": ways}
    # What is missing is less than any time.
    expired: dict[str, Any] = {"$lt": [f"${_UNTIL}", "$$NOW"]}
    if owner is not None:
        expired = {"$or": [expired, {"$eq": [f"${_OWNER}", owner]}]}
    return {"$expr": expired}


def _releasing(update: Any) -> Any:
    """An update, and the release of the claim with it."""
    if isinstance(update, Mapping):
        return {**update, "$unset": {**update.get("$unset", {}), CLAIM: ""}}
    return [*update, {"$unset": CLAIM}]


def _problem_of(rule: BoundRule, evaluation: Evaluation) -> str | None:
    """Why an update must not be written, though its effect has happened."""
    try:
        rule.check(evaluation)
    except UpdateQueryError as exc:
        return f"its update is none: {exc.problem}"
    if not rule.converges_with(evaluation):
        return (
            "its update does not provably end the match of its target, so that it would happen "
            "again"
        )
    if not rule.covers(evaluation.update) and (rule.model_name, rule.name) not in _told:
        _told.add((rule.model_name, rule.name))
        logger.error(
            "%s.%s: its update writes other paths than it is known to write, so that queries by "
            "them may overlook documents; declare all of them in self.writes",
            rule.model_name,
            rule.name,
        )
    return None


def _look(
    collection: Collection[Any], rule: BoundRule, concern: Raw | None, documents: Sequence[Raw]
) -> dict[Any, Held]:
    """Those of the documents that the rule still concerns, with what is known of their claims."""
    reader = tolerant(on_primary(collection))
    query = all_of(by_ids([document["_id"] for document in documents]), concern, rule.target)
    found: Any
    if is_mongomock(collection):
        now = _client_now()
        found = [{**each, "live": _is_live(each, now)} for each in reader.find(query, {CLAIM: 1})]
    else:
        live = {"$gte": [f"${_UNTIL}", "$$NOW"]}
        found = reader.aggregate([{"$match": query}, {"$project": {CLAIM: 1, "live": live}}])
    by_key = {key_of(document["_id"]): document for document in documents}
    held = {}
    for each in found:
        claim = each.get(CLAIM)
        claim = claim if isinstance(claim, Mapping) else {}
        until = claim.get("until")
        key = key_of(each["_id"])
        held[key] = Held(
            rule,
            by_key[key],
            str(claim.get("owner", "")),
            until if isinstance(until, datetime) else None,
            each["live"],
        )
    return held


def _look_at_all(
    collection: Collection[Any], concern: Raw | None, held: Iterable[Held]
) -> dict[Any, Held]:
    by_rule: dict[BoundRule, list[Raw]] = {}
    for each in held:
        by_rule.setdefault(each.rule, []).append(each.document)
    found = {}
    for rule, documents in by_rule.items():
        found.update(_look(collection, rule, concern, documents))
    return found


def _is_live(document: Raw, now: datetime) -> bool:
    until = (document.get(CLAIM) or {}).get("until")
    return until is not None and until >= now


def _pauses() -> Iterator[float]:
    """Pauses that grow, shortened by chance, so that those who wait do not come all at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * (0.5 + secrets.randbelow(501) / 1000)
        pause = min(pause * 2, _LONGEST_PAUSE)
