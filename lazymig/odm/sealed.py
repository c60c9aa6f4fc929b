"""The seals of collections as far as this process knows them, and the rules that are left then.

A sealed rule matches no document, and MongoDB sees to it that none comes: it is left out of what a
load, a save or a query has to do. A collection is asked for its seals by a thread of its own, so
that no request waits for that; without an answer, or with one that is too old, nothing is sealed,
which is always right.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextvars import Context
from dataclasses import dataclass, replace
from typing import Any, Final

import pymongo
from pymongo.errors import OperationFailure

from lazymig.engines.access import is_mongomock
from lazymig.engines.driver_errors import is_away
from lazymig.engines.sessions import session_of
from lazymig.engines.validators import Seal, Validator, read_validator, seal_of
from lazymig.locks import after_fork, new_lock
from lazymig.odm.plans import FAMILY, ROOT, family_of, once_per_family, root_of
from lazymig.odm.schema import untouched_collection
from lazymig.redaction import excerpt
from lazymig.rules.order import starting_rules
from lazymig.rules.plan import Family, Plan

__all__ = [
    "SealWatch",
    "family_in",
    "forget_seals",
    "is_idle",
    "learn_seals",
    "read_sealed",
    "refresh_seals",
    "sealed_rules",
]

logger = logging.getLogger(__name__)

# What was heard is forgotten after so many times `seal_refresh`, if nothing is heard anew.
_TRUSTED: Final = 10

# Seconds that the thread waits for an answer.
_PATIENCE: Final = 10

_PRIMARY: Final = 0

_NEVER: Final = float("inf")


@dataclass(frozen=True, eq=False)
class _Seals:
    """The seals that count in a collection: rules, each with the digest of what is refused."""

    marks: frozenset[tuple[str, str]]
    uuid_representation: int


class _Knowledge:
    """What is known of one collection: of when it is, and when it was last asked for."""

    __slots__ = ("asked", "changes", "failed", "forgotten", "heard", "seals")

    def __init__(self, now: float) -> None:
        self.seals: _Seals | None = None
        self.heard = now
        # The first time comes late: a short process needs none, and a test is not disturbed.
        self.asked = now
        self.failed = False
        # How often any of this was changed, and how often it was forgotten.
        self.changes = 0
        self.forgotten = 0


class _View:
    """What a family is in a collection, for as long as `until` and until something is heard."""

    __slots__ = ("changes", "family", "is_primary", "knowledge", "left", "root", "until")

    def __init__(self, root: Any, family: Family, knowledge: _Knowledge) -> None:
        self.root = root
        self.family = family
        self.knowledge = knowledge
        self.is_primary = False
        # The family without what is sealed.
        self.left = family
        self.changes = knowledge.changes
        self.until = _NEVER


class SealWatch:
    """Looks at the options of collections now and then, and knows the families without the rest.

    :param clock: seconds, from any moment on.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # Where a client keeps what is known of its collections, and each of these its view.
        self._place = f"_lazymig_seals_{id(self)}"
        self._interned: dict[Any, _Seals] = {}
        self._lock = new_lock()
        self.reset()
        after_fork(self.reset)

    def reset(self) -> None:
        """Forget the threads at work: a forked process has none of them."""
        # What the thread of each client is still to ask, by the identity of the client.
        self._queues: dict[int, deque[tuple[_Knowledge, Any]]] = {}

    def family_in(self, model: Any, collection: Any, read_preference: Any = None) -> Family | None:
        """The plans that count in a collection, without the rules that are known to be sealed.

        :param model: a model of the collection, or of another one with the same models.
        :param read_preference: that of what is about to be read, `None` for the collection's.
        :return: `None` if no class has a lazy rule or a once rule.
        :raises UpdateQueryError: a rule writes a path that no class of the collection knows.
        """
        view: _View | None = collection.__dict__.get(self._place)
        # Each load and each query comes by here, several times: nothing else is called.
        if (
            view is None
            or view.root is not model.__dict__.get(ROOT)
            or view.family is not view.root.__dict__.get(FAMILY)
            or view.changes != view.knowledge.changes
            or view.until <= self._clock()
        ):
            known = family_of(model)
            if known is None:
                return None
            view = self._view_of(root_of(model), known, collection)
        family = view.family
        if view.left is family:
            return family
        # A secondary may be as it was before, and so may what a session has begun to read.
        if read_preference is not None:
            relied_on = read_preference.mode == _PRIMARY
        else:
            relied_on = view.is_primary
        return view.left if relied_on and session_of(collection) is None else family

    def _view_of(self, root: Any, family: Family, collection: Any) -> _View:
        """What a family is in a collection now; the collection is asked, later, if it is time."""
        knowledge = self._knowledge_of(collection)
        if knowledge is None:
            view = _View(root, family, _Knowledge(0))
        else:
            view = _View(root, family, knowledge)
            view.is_primary = collection.read_preference.mode == _PRIMARY
            refresh = _refresh_of(family)
            if refresh is not None:
                self._fill(view, collection, refresh)
        # An application's collection lives as long as its model.
        collection.__dict__[self._place] = view
        return view

    def _fill(self, view: _View, collection: Any, refresh: float) -> None:
        knowledge, now = view.knowledge, self._clock()
        if now - knowledge.asked >= refresh:
            self._ask_later(knowledge, collection, now)
        view.until = knowledge.asked + refresh
        seals, dropped = knowledge.seals, knowledge.heard + _TRUSTED * refresh
        if seals is not None and now <= dropped:
            view.until = min(view.until, dropped)
            known: dict[_Seals, Family] = _unsealed(view.family)
            found = known.get(seals)
            if found is None:
                found = known[seals] = _without(view.family, seals)
            view.left = found

    def refresh(self, collection: Any) -> None:
        """Ask a collection for its seals now.

        :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
        """
        knowledge = self._knowledge_of(collection)
        if knowledge is not None:
            self._ask(knowledge, collection)

    def forget(self, collection: Any) -> None:
        """Take the rules of a collection for unsealed, until it is asked again."""
        knowledge = self._knowledge_of(collection)
        if knowledge is not None:
            with self._lock:
                knowledge.changes += 1
                knowledge.forgotten += 1
                knowledge.seals = None

    def _knowledge_of(self, collection: Any) -> _Knowledge | None:
        """What is known of a collection; `None` for one of mongomock, which has no validators."""
        if is_mongomock(collection):
            return None
        with self._lock:
            of_client = vars(collection.database.client).setdefault(self._place, {})
            key = collection.database.name, collection.name
            if key not in of_client:
                of_client[key] = _Knowledge(self._clock())
            knowledge: _Knowledge = of_client[key]
            return knowledge

    def _ask_later(self, knowledge: _Knowledge, collection: Any, now: float) -> None:
        client = id(collection.database.client)
        with self._lock:
            knowledge.asked = now
            queue = self._queues.get(client)
            if queue is not None:
                queue.append((knowledge, collection))
                return
            self._queues[client] = deque([(knowledge, collection)])
        # Not in the context of the request: its session and its time limit are not the thread's.
        thread = threading.Thread(
            target=Context().run, args=(self._work, client), name="lazymig-seals", daemon=True
        )
        try:
            thread.start()
        except RuntimeError:
            # The process is about to end, or has no more threads.
            with self._lock:
                self._queues.pop(client, None)

    def _work(self, client: int) -> None:
        queues = self._queues
        while True:
            with self._lock:
                queue = queues[client]
                if not queue:
                    del queues[client]
                    return
                knowledge, collection = queue.popleft()
            try:
                with pymongo.timeout(_PATIENCE):
                    self._ask(knowledge, collection)
                knowledge.failed = False
            except Exception as exc:
                log = logger.debug if knowledge.failed else logger.warning
                knowledge.failed = True
                log(
                    "%s: its seals could not be read, so that its rules are taken for unsealed in "
                    "a while: %s",
                    collection.full_name,
                    excerpt(exc),
                )

    def _ask(self, knowledge: _Knowledge, collection: Any) -> None:
        forgotten, now = knowledge.forgotten, self._clock()
        validator = read_validator(collection)
        seals = self._seals_of(validator, collection.codec_options.uuid_representation)
        with self._lock:
            # An answer to what was asked before counts no more.
            if knowledge.forgotten == forgotten and now >= knowledge.heard:
                knowledge.changes += 1
                knowledge.seals = seals
                knowledge.heard = knowledge.asked = now

    def _seals_of(self, validator: Validator | None, uuid_representation: int) -> _Seals | None:
        counting = () if validator is None else validator.counting
        if not counting:
            return None
        marks = frozenset((seal.rule, seal.digest) for seal in counting)
        # The collections of many tenants have the same seals, and share what is made of them.
        key = marks, uuid_representation
        return self._interned.setdefault(key, _Seals(*key))


@once_per_family
def _refresh_of(family: Family) -> float | None:
    """The least `seal_refresh` of the handlers; `None` if one of them looks for no seals."""
    found = [plan.handler_class.seal_refresh for plan in family.plans]
    return None if None in found or not found else min(found)


@once_per_family
def _has_rules(family: Family) -> bool:
    """Return whether a rule, or the claim of one, is left in a family."""
    return bool(family.plans)


@once_per_family
def _unsealed(_family: Family) -> dict[_Seals, Family]:
    """What is left of a family, by the seals."""
    return {}


def _without(family: Family, seals: _Seals) -> Family:
    """A family without the rules that are sealed; the same if none is."""
    left = {
        plan: _plan_without(plan, _sealed_in(plan, seals.marks, seals.uuid_representation))
        for plan in family.plans
    }
    if all(plan is kept for plan, kept in left.items()):
        return family
    return Family(
        None if family.root is None else left[family.root],
        {name: None if plan is None else left[plan] for name, plan in family.by_class.items()},
    )


def sealed_rules(plan: Plan, seals: Iterable[Seal], uuid_representation: int) -> frozenset[str]:
    """The names of the rules of a plan that are sealed with the target that they have today."""
    digests = {(seal.rule, seal.digest) for seal in seals}
    return _sealed_in(plan, digests, uuid_representation) if digests else frozenset()


def read_sealed(collection: Any, plan: Plan) -> frozenset[str]:
    """The names of the rules of a plan that are sealed in a collection, which is asked now.

    For whoever may not list the collections there are none, nor on mongomock.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    if is_mongomock(collection):
        return frozenset()
    try:
        validator = read_validator(collection)
    except OperationFailure as exc:
        if is_away(exc):
            raise
        logger.debug("%s: its seals are not read: %s", collection.full_name, excerpt(exc))
        return frozenset()
    seals = () if validator is None else validator.counting
    return sealed_rules(plan, seals, collection.codec_options.uuid_representation)


def _sealed_in(
    plan: Plan, marks: AbstractSet[tuple[str, str]], uuid_representation: int
) -> frozenset[str]:
    names = {name for name, _digest in marks}
    sealed = set()
    for rule in (*plan.lazy, *plan.bulk):
        if rule.name not in names or rule.target is None or rule.once is not None:
            continue
        try:
            seal = seal_of(plan.class_filter, rule, uuid_representation)
        except Exception:  # noqa: S112 - an encoder of the application may raise anything
            continue
        if (seal.rule, seal.digest) in marks:
            sealed.add(rule.name)
    return frozenset(sealed)


def _plan_without(plan: Plan, sealed: frozenset[str]) -> Plan | None:
    if not sealed:
        return plan
    lazy = tuple(rule for rule in plan.lazy if rule.name not in sealed)
    if not lazy and not plan.claims:
        return None
    return replace(
        plan,
        lazy=lazy,
        starting=starting_rules(lazy, plan.class_filter),
        validates=plan.validates and bool(lazy),
    )


_watch: Final = SealWatch()

# Not a function of its own, for what it costs.
family_in: Final = _watch.family_in


def is_idle(model: Any, collection: Any, read_preference: Any = None) -> bool:
    """Return whether all rules of a model are known to be sealed in a collection.

    :param read_preference: that of what is about to be read, `None` for the collection's.
    """
    family = family_in(model, collection, read_preference)
    return family is not None and not _has_rules(family)


def refresh_seals(*models: Any) -> None:
    """Ask the collections of these models for their seals now.

    Without it a process asks for the first time when it has used a model for `seal_refresh`
    seconds. To be called where an application begins, so that its first operations know.

    :param models: document classes with the mixin.
    :raises TypeError: one of them is none.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    for model in models:
        if not hasattr(model, "_get_db"):
            raise TypeError(f"{model!r} is no document class")
        _watch.refresh(untouched_collection(model))


def learn_seals(collection: Any) -> None:
    """Ask a collection for its seals now; see `refresh_seals`."""
    _watch.refresh(collection)


def forget_seals(collection: Any) -> None:
    """Take the rules of a collection for unsealed in this process, until it is asked again."""
    _watch.forget(collection)
