"""The rewrites of a collection: filters through its pending rules, and what they need settled."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from lazymig.engines.access import all_of, is_mongomock
from lazymig.engines.settling import Found, Search, Unsettled, find_old, rules_matching, settle
from lazymig.errors import SettleLimitExceeded, ShowError
from lazymig.odm.plans import family_of, once_per_family
from lazymig.odm.sealed import family_in
from lazymig.odm.unwritten import writes_nothing
from lazymig.query.clauses import size_of
from lazymig.query.indexable import indexable
from lazymig.query.joining import any_of
from lazymig.query.remembered import remember
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.dependencies import Footprint, Paths, footprint_of, meet, with_dependencies
from lazymig.rules.plan import Family, Plan
from lazymig.rules.rewrite.rewriter import Rewriter
from lazymig.rules.rewrite.rewriting import LARGEST_EXPRESSIONS, CannotRewrite, Step
from lazymig.rules.rewrite.steps import asks_expressions, opaque_step, steps_of

if TYPE_CHECKING:
    from lazymig.odm.querysets.shown import ShownRules

__all__ = [
    "Need",
    "Rewrites",
    "bring_up",
    "rewrites_in",
    "rewrites_of",
]


# More answers about rules are forgotten all at once: what is asked again is soon there again.
_MOST_KNOWN: Final = 256

# For more rules than these, the documents that come to their turn are not looked for one by one.
_MOST_OPAQUE: Final = 20


@dataclass(frozen=True, eq=False)
class Rewrites:
    """The rules of a collection that its queries see through; `rewriter` knows their order.

    `rules` are those of its steps, each with its plan; they go by their indexes in there. A rule
    of which it is known for some documents only what it leaves has two steps, its halves. `classes`
    are the `_cls` values that targets name.
    """

    plans: tuple[Plan, ...]
    rewriter: Rewriter
    rules: tuple[tuple[Plan, BoundRule], ...]
    footprints: tuple[Footprint, ...]
    classes: frozenset[str]
    logged: set[tuple[str, ...]] = field(default_factory=set)
    _writing: dict[tuple[str, ...] | None, frozenset[int]] = field(default_factory=dict, repr=False)
    _using: dict[tuple[str, ...] | None, frozenset[int]] = field(default_factory=dict, repr=False)
    _asking: dict[tuple[str, ...] | None, frozenset[int]] = field(default_factory=dict, repr=False)
    _needed: dict[Hashable, tuple[int, ...]] = field(default_factory=dict, repr=False)
    _narrowed: dict[frozenset[int], Sequence[Plan]] = field(default_factory=dict, repr=False)
    _others: dict[Hashable, Rewriter] = field(default_factory=dict, repr=False)
    _shown: dict[frozenset[int], ShownRules] = field(default_factory=dict, repr=False)
    _parts: dict[frozenset[int], tuple[Mapping[str, Any], Mapping[str, Any]]] = field(
        default_factory=dict, repr=False
    )

    def writing(self, paths: Paths) -> frozenset[int]:
        """The rules that may write one of these paths, or a path above or below it."""
        key = None if paths is None else tuple(paths)
        found = self._writing.get(key)
        if found is None:
            found = frozenset(
                index for index, rule in enumerate(self.footprints) if meet(rule.writes, key)
            )
            remember(self._writing, key, found, _MOST_KNOWN)
        return found

    def using(self, paths: Paths) -> frozenset[int]:
        """The rules that may ask for, compute from or write one of these paths."""
        key = None if paths is None else tuple(paths)
        found = self._using.get(key)
        if found is None:
            found = self.asking(paths).union(
                index
                for index, rule in enumerate(self.footprints)
                if meet(rule.inputs, paths) or meet(rule.writes, paths)
            )
            remember(self._using, key, found, _MOST_KNOWN)
        return found

    def asking(self, paths: Paths) -> frozenset[int]:
        """The rules whose targets may ask for one of these paths."""
        key = None if paths is None else tuple(paths)
        found = self._asking.get(key)
        if found is None:
            found = frozenset(
                index for index, rule in enumerate(self.footprints) if meet(rule.conditions, paths)
            )
            remember(self._asking, key, found, _MOST_KNOWN)
        return found

    def concerning(self, queries: Iterable[Mapping[str, Any]]) -> frozenset[int]:
        """The rules that may write what one of these queries reads."""
        return frozenset(index for query in queries for index in self.rewriter.concerning(query))

    def with_dependencies(
        self, rules: frozenset[int], restarted: frozenset[int] = frozenset()
    ) -> tuple[int, ...]:
        """These rules, and those without which they must not be applied, in their order.

        :param restarted: those that may match again after the operation.
        """
        key = rules, restarted
        found = self._needed.get(key)
        if found is None:
            found = tuple(with_dependencies(self.footprints, rules, restarted))
            remember(self._needed, key, found, _MOST_KNOWN)
        return found

    def logs_first(self, shape: tuple[str, ...]) -> bool:
        """Return whether a filter of this shape is the first one that is logged."""
        if shape in self.logged:
            return False
        if len(self.logged) >= _MOST_KNOWN:
            self.logged.clear()
        self.logged.add(shape)
        return True

    def shown(self, rules: Iterable[int]) -> ShownRules:
        """These rules, and those on which they depend, as a read shows them."""
        key = frozenset(rules)
        found = self._shown.get(key)
        if found is None:
            # Only a read that meets a rule pays for the import.
            from lazymig.odm.querysets.shown import shown_rules  # noqa: PLC0415

            # A rule is shown by all of its halves.
            parts = {self.footprints[index].part_of for index in key}
            whole = frozenset(n for n, one in enumerate(self.footprints) if one.part_of in parts)
            halves: dict[tuple[int, int], list[int]] = {}
            for index in self.with_dependencies(whole):
                plan, rule = self.rules[index]
                halves.setdefault((id(plan), id(rule)), []).append(index)
            found = shown_rules(
                [
                    (self.rules[indexes[0]][1], [self.rewriter.steps[n] for n in indexes], indexes)
                    for indexes in halves.values()
                ]
            )
            remember(self._shown, key, found, _MOST_KNOWN)
        return found

    def parted(
        self, rules: frozenset[int], query: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The documents of a query that rules change, and all others of it, as two queries.

        :param rules: the indexes of the rules; with them come those on which they depend.
        :param query: for stored documents.
        """
        parts = self._parts.get(rules)
        if parts is None:
            found = {id(rule): plan.query_of(rule) for plan, rule in self._with_plans(rules)}
            parts = self.rewriter.parted(any_of(list(found.values())))
            remember(self._parts, rules, parts, _MOST_KNOWN)
        old, others = parts
        if not self.rewriter.meets_targets(query):
            return all_of(query, old), all_of(query, others)
        # Perhaps it was rewritten through these rules: of its branches each part needs one.
        simplify = self.rewriter.simplify
        return simplify(all_of(query, old)), simplify(all_of(query, others))

    def _with_plans(self, rules: frozenset[int]) -> list[tuple[Plan, BoundRule]]:
        return [self.rules[index] for index in self.with_dependencies(rules)]

    def names(self, rules: Iterable[int]) -> tuple[str, ...]:
        """The names of rules, each once."""
        return tuple(dict.fromkeys(self.rules[index][1].name for index in rules))

    def narrowed(self, rules: Iterable[int]) -> Sequence[Plan]:
        """The plans with these of their starting rules alone; those without one are left out."""
        key = frozenset(rules)
        found = self._narrowed.get(key)
        if found is None:
            chosen = {id(self.rules[index][1]) for index in key}
            narrowed = [
                plan.narrowed([n for n, rule in enumerate(plan.starting) if id(rule) in chosen])
                for plan in self.plans
            ]
            # Each of them works out its query for what is old, once.
            found = [plan for plan in narrowed if plan is not None]
            remember(self._narrowed, key, found, _MOST_KNOWN)
        return found

    def seen_through(
        self, query: Mapping[str, Any], opaque: set[int], before: int | None = None
    ) -> tuple[Mapping[str, Any], list[CannotRewrite]]:
        """A query rewritten through all rules but those through which it cannot be.

        :param opaque: the rules that are left out; those found on the way are added.
        :param before: the rules before this one alone.
        :return: the query for stored documents none of which these rules concern, and the reasons.
        """
        reasons: list[CannotRewrite] = []
        while True:
            numbers = [n for n in range(len(self.rules))[:before] if n not in opaque]
            try:
                return self._through(numbers).rewrite(query), reasons
            except CannotRewrite as refusal:
                opaque.add(numbers[refusal.place])
                reasons.append(refusal)

    def _through(self, numbers: Sequence[int]) -> Rewriter:
        if len(numbers) == len(self.rules):
            return self.rewriter
        key = tuple(numbers)
        found = self._others.get(key)
        if found is None:
            steps = self.rewriter.steps
            found = Rewriter(tuple(steps[number] for number in numbers), types=self.rewriter.types)
            remember(self._others, key, found, _MOST_KNOWN)
        return found

    def concerned_by(self, opaque: set[int]) -> Mapping[str, Any] | None:
        """The query for the documents that these rules will concern, each in its turn.

        :param opaque: more rules are added where it is not known what comes to their turn.
        :return: None if it is any document that one of their targets matches, or one of the rules
            on which they depend.
        """
        size = -1
        found: list[Mapping[str, Any]] = []
        if len(opaque) > _MOST_OPAQUE:
            return None
        while size < len(opaque):
            size = len(opaque)
            found = []
            for index in sorted(opaque):
                target = self.rewriter.steps[index].target
                if target is None:
                    return None
                found.append(self.seen_through(target, opaque, before=index)[0])
                if sum(map(size_of, found)) > LARGEST_EXPRESSIONS:
                    # Longer to ask for them than to look at what the targets find.
                    return None
        return indexable(any_of(found), types=self.rewriter.types)


@dataclass(frozen=True, slots=True)
class Need:
    """Why an operation wants rules applied first.

    :param operation: what needs it, as its user wrote it, for the error.
    :param rules: the indexes of the rules whose effects it meets.
    :param restarted: the indexes of those that may match again after it.
    :param old: finds the documents to which they have to be applied; None: their targets.
    """

    operation: str
    rules: frozenset[int]
    restarted: frozenset[int] = frozenset()
    old: Mapping[str, Any] | None = None


def rewrites_of(model: Any) -> Rewrites | None:
    """The rules that queries of a model see through, sealed or not; `None` if there are none.

    The rules of a handler with `see_through = False` are left out.
    """
    family = family_of(model)
    return None if family is None else _rewrites_on(family, model._get_db())


def rewrites_in(model: Any, collection: Any, read_preference: Any = None) -> Rewrites | None:
    """The rules that queries of a model see through in a collection, without those sealed there.

    :param read_preference: that of the queries, `None` for the collection's.
    """
    family = family_in(model, collection, read_preference)
    return None if family is None else _rewrites_on(family, collection)


def _rewrites_on(family: Family, place: Any) -> Rewrites | None:
    return _rewrites_of_imitation(family) if is_mongomock(place) else _rewrites_of(family)


@once_per_family
def _rewrites_of(family: Family) -> Rewrites | None:
    return _rewrites(family, imitation=False)


@once_per_family
def _rewrites_of_imitation(family: Family) -> Rewrites | None:
    """Without the expressions and the lists of types that mongomock does not know."""
    return _rewrites(family, imitation=True)


def _rewrites(family: Family, *, imitation: bool) -> Rewrites | None:
    plans = tuple(plan for plan in family.plans if plan.starting and plan.handler_class.see_through)
    if not plans:
        return None
    rules: list[tuple[Plan, BoundRule]] = []
    steps: list[Step] = []
    footprints: list[Footprint] = []
    for chain, plan in enumerate(plans):
        for rule in plan.starting:
            own = steps_of(rule, plan.query_of(rule), tree=plan.tree_of(rule))
            if imitation and asks_expressions(own):
                own = (opaque_step(rule.name, plan.query_of(rule), rule.writes),)
            footprint = footprint_of(rule, plan.class_filter, chain)
            rules += [(plan, rule)] * len(own)
            footprints += [replace(footprint, part_of=len(steps))] * len(own)
            steps += own
    classes = frozenset(
        name for _, rule in rules if rule.kind == "static" for name in _classes_in(rule.target)
    )
    return Rewrites(
        plans,
        Rewriter(tuple(steps), types=not imitation),
        tuple(rules),
        tuple(footprints),
        classes,
    )


def _classes_in(target: Any) -> Iterator[str]:
    condition = target.get("_cls") if isinstance(target, Mapping) else None
    if isinstance(condition, str):
        yield condition
    elif isinstance(condition, Mapping):
        names = condition.get("$in", [condition.get("$eq")])
        yield from (name for name in names if isinstance(name, str))


def bring_up(
    model: Any,
    collection: Any,
    queries: Sequence[Mapping[str, Any]],
    rewrites: Rewrites,
    needs: Sequence[Need],
    search: Search,
    *,
    for_write: bool = False,
) -> dict[Any, Unsettled]:
    """Apply the rules that an operation needs to the documents that a filter finds.

    :param queries: the filter as rewritten; each finds documents that the operation may meet.
    :param search: how its documents are to be found.
    :param for_write: the operation writes by itself.
    :return: the documents that were refused, by key; they are stored as they were.
    :raises SettleLimitExceeded: more than a handler's `settle_limit`; nothing was written.
    :raises ShowError: there are some, the operation is a read, and reads are to write nothing.
    :raises MigrationError: whether a document can be migrated is not known, as somebody else holds
        it or keeps changing it, and `on_error` is `"raise"`.
    """
    wanted: frozenset[int] = frozenset().union(*(need.rules for need in needs))
    restarted: frozenset[int] = frozenset().union(*(need.restarted for need in needs))
    needed = rewrites.with_dependencies(wanted, restarted)
    chosen = [need.old for need in needs if need.old is not None]
    work: list[tuple[Plan, Found]] = []
    earlier: Found = {}
    # A rule may hand a document to the handler of another class.
    hands_over = bool(rewrites.writing(("_cls",)))
    for plan in rewrites.narrowed(needed):
        limit = plan.handler_class.settle_limit
        if len(chosen) == len(needs):
            old: Mapping[str, Any] = any_of(chosen)
        else:
            old = plan.query_of_any(plan.starting) if is_mongomock(collection) else plan.search
        found = find_old(collection, old, queries, limit, search)
        if found and not for_write:
            asked = set(rewrites.names(wanted))
            names = [rule.name for rule in plan.starting if rule.name in asked]
            _check_may_settle(model, needs, names)
        if limit is not None and len(found) > limit:
            matching = rules_matching(collection, plan, found)
            asked = set(rewrites.names(wanted))
            raise SettleLimitExceeded(
                model=model.__name__,
                operation=" and ".join(dict.fromkeys(need.operation for need in needs)),
                rules=tuple(
                    rule.name
                    for rule in plan.starting
                    if rule.name in matching or (rule.name in asked and asked.isdisjoint(matching))
                ),
                documents=len(found),
                limit=limit,
            )
        if hands_over:
            found = earlier = {**earlier, **found}
        work.append((plan, found))
    return settle(collection, work)


def _check_may_settle(model: Any, needs: Sequence[Need], rules: Sequence[str]) -> None:
    """Hold the settling of a read against what its model allows.

    :raises ShowError: reads of the model write nothing.
    """
    family = family_of(model)
    if family is not None and writes_nothing(family):
        operations = dict.fromkeys(need.operation for need in needs)
        verb = "need" if len(operations) > 1 else "needs"
        raise ShowError(
            f"{' and '.join(operations)} {verb} old documents brought up to date first, and reads "
            "of the model write nothing (write_on_load, without_writing() or "
            "LAZYMIG_WRITE_ON_LOAD); call "
            f"{model.__name__}.migration_handler({model.__name__}).migrate_pending(), or ask for "
            "what no such rule writes",
            model=model.__name__,
            rule=", ".join(rules) or None,
        )
