"""What queries see: filters through pending rules, and what has to be settled first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from lazymig.engines.access import all_of
from lazymig.engines.bulk import settle
from lazymig.engines.pending import count_stale
from lazymig.errors import SettleLimitExceeded
from lazymig.odm.plans import family_of
from lazymig.rules.plan import Family, Plan
from lazymig.rules.rewriter import Rewriter
from lazymig.rules.rewriting import CannotRewrite, simplify, step_of
from lazymig.rules.updates import overlaps

__all__ = ["Sight", "View", "settled", "sight_of", "view_of"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Sight:
    """The rules of a collection that its queries see through; `rewriter` knows their order.

    `written` are the paths that the rules write, `touched` those that they read or write; `None`
    where they are not all known. `classes` are the `_cls` values that targets name.
    """

    plans: tuple[Plan, ...]
    rewriter: Rewriter
    written: frozenset[str] | None
    touched: frozenset[str] | None
    classes: frozenset[str]
    told: set[tuple[str, ...]] = field(default_factory=set)

    def writes(self, paths: Iterable[str]) -> bool:
        """Whether a rule may write one of these paths, or a path above or below it."""
        return _meet(self.written, paths)

    def touches(self, paths: Iterable[str] | None) -> bool:
        """Whether a rule may read or write one of these paths; `None` stands for any path."""
        return paths is None or _meet(self.touched, paths)


def _meet(known: frozenset[str] | None, paths: Iterable[str]) -> bool:
    if known is None:
        return any(path != "_id" for path in paths)
    return any(overlaps(path, other) for path in paths for other in known)


@dataclass(frozen=True, slots=True)
class View:
    """A filter for stored documents.

    :param query: what is sent to MongoDB.
    :param within: the part of it that sees through the rules by itself.
    :param unseen: why the other conditions cannot be asked of stored documents; the documents that
        `within` finds have to be settled first.
    """

    query: Mapping[str, Any]
    within: Mapping[str, Any]
    unseen: tuple[CannotRewrite, ...] = ()


_sights: WeakKeyDictionary[Family, Sight | None] = WeakKeyDictionary()


def sight_of(model: Any) -> Sight | None:
    """What queries of a model see through; `None` if there is nothing.

    The rules of a handler with `see_through = False` are left out.
    """
    family = family_of(model)
    if family is None:
        return None
    if family not in _sights:
        _sights[family] = _make_sight(family)
    return _sights[family]


def _make_sight(family: Family) -> Sight | None:
    plans = tuple(plan for plan in family.plans if plan.starting and plan.handler_class.see_through)
    if not plans:
        return None
    rules = [(plan, rule) for plan in plans for rule in plan.starting]
    steps = tuple(step_of(rule, all_of(plan.concern, rule.target)) for plan, rule in rules)
    written = _union(rule.writes for _, rule in rules)
    read = _union(rule.reads for _, rule in rules)
    inputs = _union(rule.inputs for _, rule in rules)
    touched = None
    if written is not None and read is not None and inputs is not None:
        touched = written | read | inputs
    classes = frozenset(
        name for _, rule in rules if rule.kind == "static" for name in _classes_in(rule.target)
    )
    return Sight(plans, Rewriter(steps), written, touched, classes)


def _union(sets: Iterable[frozenset[str] | None]) -> frozenset[str] | None:
    known: set[str] = set()
    for paths in sets:
        if paths is None:
            return None
        known |= paths
    return frozenset(known)


def _classes_in(target: Any) -> Iterator[str]:
    condition = target.get("_cls") if isinstance(target, Mapping) else None
    if isinstance(condition, str):
        yield condition
    elif isinstance(condition, Mapping):
        names = condition.get("$in", [condition.get("$eq")])
        yield from (name for name in names if isinstance(name, str))


def view_of(model: Any, query: Mapping[str, Any], sight: Sight, collation: bool = False) -> View:
    """A filter over today's shapes, as a filter over stored shapes.

    :param query: MongoEngine's own filter; the same object comes back where no rule concerns it.
    :param collation: whether MongoDB compares strings otherwise than by their characters, so that
        no constant of a rule can be judged here.
    """
    if collation and sight.rewriter.is_concerned(query):
        return _partial_view(query, sight, collation)
    try:
        seen = sight.rewriter.rewrite(query)
    except CannotRewrite:
        return _partial_view(query, sight, collation)
    if seen is not query:
        _tell(model, query, seen, sight)
    return View(seen, seen)


def _partial_view(query: Mapping[str, Any], sight: Sight, collation: bool) -> View:
    """The conjuncts that can be rewritten find the documents to settle; the others come as is."""
    within: list[Mapping[str, Any]] = []
    others: list[Mapping[str, Any]] = []
    unseen: list[CannotRewrite] = []
    for part in _conjuncts(query):
        try:
            seen = sight.rewriter.rewrite(part)
        except CannotRewrite as exc:
            refusal = exc
        else:
            if not collation or not sight.rewriter.is_concerned(part):
                within.append(seen)
                continue
            refusal = CannotRewrite(sight.rewriter.steps[-1].name, next(iter(part)), "is collated")
        unseen.append(refusal)
        others.append(part)
    # Each part was rewritten alone: a branch of one may be excluded by another.
    return View(simplify(all_of(*within, *others)), simplify(all_of(*within)), tuple(unseen))


def _conjuncts(query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for key, value in query.items():
        if key == "$and":
            for part in value:
                yield from _conjuncts(part)
        else:
            yield {key: value}


def _tell(model: Any, query: Any, seen: Any, sight: Sight) -> None:
    if not logger.isEnabledFor(logging.DEBUG):
        return
    shape = tuple(sorted(query))
    if shape not in sight.told:
        sight.told.add(shape)
        logger.debug("%s: %r is asked as %r", model.__name__, query, seen)


def settled(
    model: Any, collection: Any, within: Mapping[str, Any], sight: Sight, operation: str
) -> int:
    """Bring the documents that a rewritten filter finds up to date, if they are not too many.

    :param operation: what needs it, for the error.
    :return: the number of documents that were not up to date.
    :raises SettleLimitExceeded: more than a handler's `settle_limit`; nothing was written.
    :raises MigrationError: a document could not be migrated, and `on_error` is `"raise"`.
    """
    total = 0
    work = []
    for plan in sight.plans:
        limit = plan.handler_class.settle_limit
        most = 2**31 - 2 if limit is None else limit
        count = count_stale(collection, plan, within, most)
        if count > most:
            raise SettleLimitExceeded(
                model=model.__name__,
                operation=operation,
                rules=tuple(rule.name for rule in plan.starting),
                documents=count,
                limit=most,
            )
        total += count
        work.append((plan, count))
    # A rule may hand a document to the handler of another class, which found nothing before.
    if total:
        for plan, _count in work:
            report = settle(collection, plan, within)
            if plan.on_error == "raise":
                report.raise_for_errors()
    return total
