"""The rules as queries see through them: a target, and what is known of what an update leaves.

What a step makes of a query is said in `rewriting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lazymig.query.clauses import TRUE, Clause, read, reduced
from lazymig.query.context import simplified
from lazymig.query.joining import all_of
from lazymig.query.matching import compile_query
from lazymig.query.tree import Node
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.dependencies import meet
from lazymig.rules.rewrite.effects import ComputedEffect, Effect, Moved, is_plain
from lazymig.rules.rewrite.piping import piped, written_place
from lazymig.rules.translation import Translation
from lazymig.updates.knowledge import ABSENT, UNKNOWN, Unknown, constant, implies_presence
from lazymig.updates.update import check_update

__all__ = [
    "Step",
    "asks_expressions",
    "compile_steps",
    "opaque_step",
    "step_of",
    "steps_of",
]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One converging lazy rule: its target, and what it leaves at the paths that it writes.

    `effects` is None if those paths are not known. `roots` are their first components. `writes`:
    more exactly than `effects`, the only paths whose values may change; None: all of those.
    """

    name: str
    target: Mapping[str, Any] | None
    condition: Clause
    effects: Mapping[str, Effect] | None
    roots: frozenset[str]
    writes: frozenset[str] | None = None

    @property
    def is_known(self) -> bool:
        """Return whether it is known of any path what the rule leaves there."""
        return not all(isinstance(effect, Unknown) for effect in (self.effects or {}).values())

    def touches(self, path: str) -> bool:
        """Return whether the rule may change what a condition on `path` answers."""
        root = path.partition(".")[0]
        if self.effects is None:
            return root != "_id"
        if root not in self.roots:
            return False
        if self.writes is not None and not meet((path,), self.writes):
            return False
        return any(True for _ in self.related(path))

    def related(self, path: str) -> Iterator[tuple[str, Effect]]:
        """Yield the effects at, above and beneath a path."""
        plain = _without_indexes(path)
        for place, effect in (self.effects or {}).items():
            if overlaps(place, path) or (isinstance(effect, Unknown) and overlaps(place, plain)):
                yield place, effect


def _without_indexes(path: str) -> str:
    if "." not in path:
        return path
    first, *others = path.split(".")
    return ".".join((first, *(name for name in others if not name.isdecimal())))


# --- What a rule leaves -----------------------------------------------------------------


def compile_steps(
    name: str,
    target: Mapping[str, Any],
    update: Any,
    array_filters: Any = None,
    *,
    tree: Node | None = None,
    writes: frozenset[str] | None = None,
) -> tuple[Step, ...]:
    """Return a static rule as `rewrite` takes it.

    Known exactly are constants of `$set`, `$unset` and `$rename`, and in pipelines what is copied,
    or computed by operators of which it is known when they raise; anything else is opaque: a query
    that reads its paths is refused. Nothing is raised, and nothing is changed.

    :param tree: that of the target, where it is parsed and its operands are checked already.
    :param writes: the only paths whose values may change, where the update says less.
    :return: two steps where what is left is known only for some of the target's documents: these,
        and the others, for which it is opaque.
    """
    try:
        tree = tree or compile_query(target).tree
        check_update(update, array_filters)
    except ValueError:
        return (opaque_step(name, None, None),)
    if isinstance(update, Mapping):
        return (_step(name, target, _operator_effects(tree, update), asked=reduced(tree)),)
    found = piped(tree, update)
    if found is None:
        return (opaque_step(name, target, writes),)
    if writes is None:
        writes = frozenset(found.effects)
    if all(isinstance(effect, Unknown) for effect in found.effects.values()):
        return (opaque_step(name, target, writes),)
    if found.certain is True:
        return (_step(name, target, found.effects, writes),)
    return (
        _step(name, all_of(target, {"$expr": found.certain}), found.effects, writes),
        opaque_step(name, all_of(target, {"$expr": {"$not": [found.certain]}}), writes),
    )


def _operator_effects(tree: Node, update: Mapping[str, Any]) -> dict[str, Effect]:
    effects: dict[str, Effect] = {}
    for kind, fields in update.items():
        for path, value in fields.items():
            if kind == "$rename":
                if is_plain(path) and is_plain(value):
                    effects[path] = ABSENT
                    certain = implies_presence(tree, tuple(path.split(".")))
                    effects[value] = Moved(path, certain)
                else:
                    effects[written_place(path)] = effects[written_place(value)] = UNKNOWN
            elif kind == "$set" and is_plain(path):
                effects[path] = constant(value)
            elif kind == "$unset" and is_plain(path):
                effects[path] = ABSENT
            elif kind != "$setOnInsert":
                effects[written_place(path)] = UNKNOWN
    return effects


def _translated_steps(
    rule: BoundRule, target: Mapping[str, Any], translation: Translation
) -> tuple[Step, ...]:
    """The steps of a rule of which a guard, or its target, says where its pipeline is exact."""
    guard, stages = translation.guard, translation.update
    where = target if guard is None else all_of(target, {"$expr": guard})
    found = piped(compile_query(where).tree, stages, guard)
    effects = None if found is None else found.effects
    exact = _step(rule.name, where, effects, rule.writes)
    if guard is None:
        return (exact,)
    others = all_of(target, {"$expr": {"$not": [guard]}})
    return exact, opaque_step(rule.name, others, rule.writes)


def step_of(rule: BoundRule, target: Mapping[str, Any], collection: Any = None) -> Step:
    """The step of a rule: `steps_of` in one.

    :raises Exception: whatever a static rule raises.
    """
    steps = steps_of(rule, target, collection)
    return steps[0] if len(steps) == 1 else opaque_step(rule.name, target, rule.writes)


def steps_of(
    rule: BoundRule,
    target: Mapping[str, Any],
    collection: Any = None,
    *,
    tree: Node | None = None,
) -> tuple[Step, ...]:
    """The steps of a rule; two where what it leaves is known for some of its documents only.

    :param target: the query for the documents that the rule concerns.
    :param collection: the PyMongo collection, where the rule may ask for it.
    :param tree: the tree of `target`; it is parsed if that is not given.
    :raises Exception: whatever a static rule raises.
    """
    if rule.translation is not None:
        return _translated_steps(rule, target, rule.translation)
    if rule.kind != "static" or rule.varies:
        return (opaque_step(rule.name, target, rule.writes),)
    evaluation = rule.evaluate(collection=collection)
    if evaluation.update != rule.update:
        # A value such as the present time: what it will be is not known yet.
        return (opaque_step(rule.name, target, rule.writes),)
    return compile_steps(
        rule.name,
        target,
        evaluation.update,
        evaluation.array_filters,
        tree=tree,
        writes=rule.writes,
    )


def asks_expressions(steps: Sequence[Step]) -> bool:
    """Return whether queries that see through the steps of one rule hold an `$expr` of theirs."""
    return len(steps) > 1 or any(
        isinstance(effect, ComputedEffect)
        for step in steps
        for effect in (step.effects or {}).values()
    )


def opaque_step(name: str, target: Mapping[str, Any] | None, writes: frozenset[str] | None) -> Step:
    """Return a rule of which only the paths are known that it may write (None: any path)."""
    return _step(name, target, None if writes is None else dict.fromkeys(writes, UNKNOWN))


def _step(
    name: str,
    target: Mapping[str, Any] | None,
    effects: Mapping[str, Effect] | None,
    writes: frozenset[str] | None = None,
    *,
    asked: Clause | None = None,
) -> Step:
    if asked is None:
        asked = TRUE if target is None else read(target)
    roots = frozenset(path.partition(".")[0] for path in effects or ())
    return Step(name, target, simplified(asked), effects, roots, writes)
