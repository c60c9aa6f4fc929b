"""The query over new shapes as the query over stored shapes that finds the same documents.

For a rule with target T and update U, the query Q becomes `(T and Q[U]) or (not T and Q)`, where
Q[U] is Q with the paths that U writes replaced by what U puts there; a weakest precondition. What
cannot be said exactly is refused, never guessed. What Q becomes is kept small by `context`.
"""

from __future__ import annotations

import operator
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final

from bson import ObjectId

from lazymig.query.checks import Judge
from lazymig.query.clauses import (
    FALSE,
    TRUE,
    Clause,
    every,
    moved,
    negated,
    presence,
    read,
    some,
    written,
)
from lazymig.query.context import both, either, pruned, simplified, without
from lazymig.query.expressing import Expression, depth_of, expressed
from lazymig.query.facts import judge
from lazymig.query.matching import query_paths
from lazymig.query.operators import LOGICAL, NEAR, is_reference
from lazymig.query.tree import And, Leaf, Not, Opaque, Or, identity
from lazymig.rules.rewrite.effects import (
    ComputedEffect,
    Copied,
    Effect,
    Moved,
    NoExpression,
    over_effects,
)
from lazymig.rules.rewrite.steps import Step, opaque_step, step_of
from lazymig.updates.knowledge import (
    Absent,
    Document,
    Unknown,
    Value,
    ask,
)

__all__ = [
    "LARGEST_EXPRESSIONS",
    "CannotRewrite",
    "Step",
    "is_concerned",
    "opaque_step",
    "rewrite",
    "simplify",
    "step_of",
]

DEFAULT_LIMIT: Final = 200
"""The most conditions of a rewritten query: MongoDB plans every branch of it."""

# Operators, names and constants of the `$expr`s in a rewritten query: what one rule computes is
# repeated wherever the next one reads it, and MongoDB parses all of it at each query.
LARGEST_EXPRESSIONS: Final = 5_000

# Conditions that are looked at on the way, rule by rule: a bound for the time that a query takes.
_MOST_WORK: Final = 4_000

_DEEPEST: Final = 80  # MongoDB 6.0 parses queries up to a depth of 100.
_DEEPEST_EXPRESSION: Final = 100  # And documents up to one of 200.


class CannotRewrite(Exception):
    """No query over stored shapes is known to be the same: migrate the documents first.

    `place` is the index of the rule among those that were to be seen through.
    """

    def __init__(self, rule: str, path: str, reason: str, place: int = -1) -> None:
        super().__init__(f"{rule}: '{path}' {reason}; bring the documents up to date first")
        self.rule = rule
        self.path = path
        self.reason = reason
        self.place = place


def rewrite(
    query: Mapping[str, Any], steps: Sequence[Step], *, limit: int = DEFAULT_LIMIT
) -> Mapping[str, Any]:
    """Return the query whose answer on stored documents is that of `query` on migrated ones.

    :param query: a MongoDB query in database field names; it is not changed.
    :param steps: the rules, in the order in which they are applied.
    :param limit: the most conditions that the result, or a stage on the way to it, may have.
    :return: the same object if no rule writes a path that the query reads.
    :raises CannotRewrite: a rule does to a path what cannot be said in a query, or `limit`.

    As in `convergence`, the parents on a rule's dotted paths are taken for sub-documents, and
    `_cls` for one name. Constants are compared under the simple collation: who asks under another
    one has to settle: to migrate the documents concerned first.
    """
    if not is_concerned(query, steps):
        return query
    clause = original = read(query)
    work = 0
    for place in reversed(range(len(steps))):
        step = steps[place]
        try:
            before, clause = clause, _Pass(step).before(clause)
        except CannotRewrite as refusal:
            refusal.place = place
            raise
        if clause is before:
            continue
        most = LARGEST_EXPRESSIONS + original.expressions
        if clause.leaves > limit or clause.depth > _DEEPEST or clause.expressions > most:
            clause = simplified(clause)
        # The query's own conditions are not what grows.
        work += max(clause.leaves - original.leaves, 0)
        if clause.leaves > limit or clause.depth > _DEEPEST or work > _MOST_WORK:
            reason = f"takes more than {limit} conditions, or too deep ones, on stored documents"
            raise CannotRewrite(step.name, ", ".join(step.effects or ()), reason, place)
        if clause.expressions > most:
            reason = "takes too long an expression on stored documents"
            raise CannotRewrite(step.name, ", ".join(step.effects or ()), reason, place)
    return query if clause.key == original.key else written(pruned(clause))


def simplify(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a query that finds the same, without branches that its other conditions exclude.

    :return: the same object if there is nothing to leave out.
    """
    clause = read(query)
    simple = simplified(clause)
    return query if simple.key == clause.key else written(simple)


def is_concerned(query: Mapping[str, Any], steps: Sequence[Step]) -> bool:
    """Return whether a rule writes a path that the query reads, whatever the answer then is."""
    return any(_concerns(step, query) for step in steps)


def _concerns(step: Step, query: Mapping[str, Any]) -> bool:
    for name, value in query.items():
        if not name.startswith("$") or is_reference(name):
            if step.touches(name):
                return True
        elif name in LOGICAL:
            if isinstance(value, (list, tuple)) and any(
                _concerns(step, one) for one in value if isinstance(one, Mapping)
            ):
                return True
        elif _reads_written(step, query_paths({name: value})) is not None:
            return True
    return False


def _reads_written(step: Step, paths: frozenset[str] | None) -> str | None:
    """Return a path that is read and written."""
    if paths is None:
        return None if step.effects == {} else "(any path)"
    return next(filter(step.touches, sorted(paths)), None)


class _Pass:
    """One step on the way of a query to stored documents."""

    def __init__(self, step: Step) -> None:
        self.step = step
        # Many conditions are on one path, and many are asked several times.
        self._touches: dict[str, bool] = {}
        self._touched: dict[int, bool] = {}
        self._updated: dict[Hashable, Clause] = {}

    def touches(self, clause: Clause) -> bool:
        """Return whether the step writes what a clause reads."""
        step = self.step
        known = step.effects is not None and clause.roots is not None
        if known and step.roots.isdisjoint(clause.roots or ()):
            return False
        if isinstance(clause, Leaf):
            found = self._touches.get(clause.dotted)
            if found is None:
                found = self._touches[clause.dotted] = step.touches(clause.dotted)
            return found
        if isinstance(clause, Opaque):
            return _reads_written(step, clause.reads) is not None
        if isinstance(clause, Not):
            return self.touches(clause.part)
        assert isinstance(clause, (And, Or))
        found = self._touched.get(id(clause))
        if found is None:
            found = self._touched[id(clause)] = any(map(self.touches, clause.parts))
        return found

    def before(self, clause: Clause) -> Clause:
        """Return the clause that holds before the step where `clause` holds after it."""
        if not isinstance(clause, (And, Or)):
            return self._split(clause) if self.touches(clause) else clause
        join = every if isinstance(clause, And) else some
        touched = [part for part in clause.parts if self.touches(part)]
        if not touched:
            return clause
        if len(touched) == len(clause.parts):
            return self._split(clause)
        group = self.before(touched[0]) if len(touched) == 1 else self._split(join(touched))
        # The group takes the place of its first part: keys keep their order.
        parts: list[Clause] = []
        places = set(map(id, touched))
        for part in clause.parts:
            if part is touched[0]:
                parts.append(group)
            elif id(part) not in places:
                parts.append(part)
        return join(parts)

    def _split(self, clause: Clause) -> Clause:
        condition = self.step.condition
        after = self.updated(clause)
        if after is TRUE:
            return either(condition, clause)
        if after.key == clause.key:
            return clause
        if after is FALSE:
            return without(clause, condition)
        return some([both(condition, after), without(clause, condition)])

    def updated(self, clause: Clause) -> Clause:
        """Return Q[U] of a clause: what it asks of a document that the step is about to update."""
        if not self.touches(clause):
            return clause
        if isinstance(clause, (And, Or)):
            whole = isinstance(clause, And)
            end = FALSE if whole else TRUE
            parts = []
            for part in clause.parts:
                found = self.updated(part)
                if found is end:
                    return end
                parts.append(found)
            if all(map(operator.is_, parts, clause.parts)):
                return clause
            return every(parts) if whole else some(parts)
        if isinstance(clause, Leaf):
            known = self._updated.get(clause.key)
            if known is None:
                known = self._updated[clause.key] = _updated_leaf(clause, self.step)
            return known
        if isinstance(clause, Not):
            part = self.updated(clause.part)
            return clause if part is clause.part else negated(part)
        assert isinstance(clause, Opaque)
        return _updated_operator(clause, self.step)


def _updated_operator(clause: Opaque, step: Step) -> Clause:
    """Update what is asked of the whole document: expressions alone say what they read."""
    path = _reads_written(step, clause.reads)
    if path is None:
        return clause
    if clause.name == "$expr" and clause.reads is not None and step.effects is not None:
        try:
            return _asked(over_effects(clause.value, step.effects), path, step)
        except NoExpression:
            pass
    raise CannotRewrite(step.name, path, _reason(clause))


def _asked(expression: Expression, path: str, step: Step) -> Clause:
    if depth_of(expression) > _DEEPEST_EXPRESSION:
        raise CannotRewrite(step.name, path, "takes too deep an expression on stored documents")
    return read({"$expr": expression})


def _reason(clause: Opaque) -> str:
    if clause.problem:
        return f"is in no query: {clause.problem}"
    if clause.name.startswith("$"):
        return f"is read by {clause.name}"
    return "is asked what only MongoDB can judge"


def _updated_leaf(clause: Leaf, step: Step) -> Clause:
    if not step.touches(clause.dotted):
        return clause
    if step.effects is None:
        raise CannotRewrite(step.name, clause.dotted, "may be written by this rule")
    related = list(step.related(clause.dotted))
    for place, effect in related:
        if isinstance(effect, Unknown):
            reason = f"depends on what the rule computes at '{place}'"
            raise CannotRewrite(step.name, clause.dotted, reason)
        if clause.dotted == place or clause.dotted.startswith(f"{place}."):
            return _beneath(clause, place, effect, step)
    return _above(clause, dict(related), step)


def _beneath(
    clause: Leaf, place: str, effect: Value | Absent | Moved | Copied | ComputedEffect, step: Step
) -> Clause:
    """Update a leaf on a written path, or on one beneath it."""
    if isinstance(effect, ComputedEffect):
        _judge(clause, step)
        question = expressed(clause, "$$d")
        if question is None:
            reason = "is computed by the rule, and asked what no expression says"
            raise CannotRewrite(step.name, clause.dotted, reason)
        document: Any = effect.total
        for name in reversed(place.split(".")):
            document = {name: document}
        asked = {"$let": {"vars": {"d": document}, "in": question}}
        return _asked(asked, clause.dotted, step)
    if isinstance(effect, (Moved, Copied)):
        if clause.operator in NEAR:
            raise CannotRewrite(step.name, clause.dotted, "is asked for its distance")
        there = moved(clause, effect.source + clause.dotted[len(place) :])
        if isinstance(effect, Copied) or effect.certain:
            return there
        stays = every([presence(effect.source, exists=False), clause])
        return some([both(presence(effect.source), there), stays])
    answer = _chosen(clause, effect.value) if isinstance(effect, Value) else None
    if answer is None or clause.dotted != place:
        document = {}
        if isinstance(effect, Value):
            document = effect.value
            for name in reversed(place.split(".")):
                document = {name: document}
        answer = _judge(clause, step)(document)
    if answer is None:
        raise CannotRewrite(step.name, clause.dotted, "is asked what only MongoDB can judge")
    return TRUE if answer else FALSE


# Values of these types are equal where BSON encodes them alike, and nowhere else.
_PLAIN: Final = frozenset({bool, str, ObjectId, type(None)})


def _chosen(clause: Leaf, value: Any) -> bool | None:
    """Answer at a glance whether a value is one of those that a leaf names; None: not known."""
    if clause.choices is None:
        return None
    if type(value) not in _PLAIN and not (type(value) is int and clause.is_exact):
        return None
    return (identity(value) in clause.choices) is not clause.denied


def _above(clause: Leaf, effects: Mapping[str, Effect], step: Step) -> Clause:
    """Update a leaf on a parent of written paths, if it does not ask what is in there.

    The parent is a sub-document then, before an `$unset` as well as after it.
    """
    _judge(clause, step)
    answer = ask(clause, _holding(clause.path))
    if answer is None:
        reason = f"holds '{min(effects)}', which the rule writes"
        raise CannotRewrite(step.name, clause.dotted, reason)
    answered: Clause = TRUE if answer else FALSE
    sources: list[Clause] = []
    for effect in effects.values():
        if isinstance(effect, (Value, Copied, ComputedEffect)):
            return answered
        if isinstance(effect, Moved) and effect.certain:
            return answered
        if isinstance(effect, Moved):
            sources.append(presence(effect.source))
    any_moved = some(sources)
    return some([every([any_moved, answered]), every([negated(any_moved), clause])])


def _holding(parts: tuple[str, ...]) -> Document:
    """Return the knowledge that there is a sub-document at a path."""
    known = Document({}, exists=True)
    for part in reversed(parts):
        known = Document({part: known}, exists=True)
    return known


def _judge(clause: Leaf, step: Step) -> Judge:
    try:
        return judge(clause)
    except ValueError as error:
        raise CannotRewrite(step.name, clause.dotted, f"is in no query: {error}") from error
