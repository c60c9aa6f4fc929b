"""A query over new shapes, as the query over stored shapes that finds the same documents.

For a rule with target T and update U, the query Q becomes `(T and Q[U]) or (not T and Q)`, where
Q[U] is Q with the paths that U writes replaced by what U puts there; a weakest precondition. What
cannot be said exactly is refused, never guessed. The tree of a query is told in `clauses`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lazymig.rules.clauses import (
    FALSE,
    TRUE,
    Clause,
    Every,
    Fragment,
    Leaf,
    Negation,
    Some,
    depth,
    every,
    leaf,
    leaf_count,
    negated,
    presence,
    read,
    some,
    written,
)
from lazymig.rules.context import both, either, simplified, without
from lazymig.rules.discovery import BoundRule
from lazymig.rules.formulas import parse, parse_condition
from lazymig.rules.knowledge import (
    ABSENT,
    UNKNOWN,
    Absent,
    Document,
    Unknown,
    Value,
    ask,
    constant,
    implies_presence,
)
from lazymig.rules.matching import compile_judge, compile_query, query_paths
from lazymig.rules.operators import is_expression
from lazymig.rules.predicates import Judge
from lazymig.rules.updates import (
    SET_STAGES,
    assignments,
    check_update,
    overlaps,
    unset_stage_paths,
)

__all__ = [
    "CannotRewrite",
    "Step",
    "compile_step",
    "is_concerned",
    "opaque_step",
    "rewrite",
    "simplify",
    "step_of",
]

DEFAULT_LIMIT: Final = 200
"""The most conditions of a rewritten query: MongoDB plans every branch of it."""

_DEEPEST: Final = 80  # MongoDB 6.0 parses queries up to a depth of 100.


class CannotRewrite(Exception):
    """No query over stored shapes is known to be the same: the caller has to settle instead."""

    def __init__(self, rule: str, path: str, reason: str) -> None:
        super().__init__(f"{rule}: '{path}' {reason}; bring the documents up to date first")
        self.rule = rule
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Moved:
    """What was stored at `source`; if nothing was, nothing happens. `certain`: something was."""

    source: str
    certain: bool


Effect: TypeAlias = "Value | Absent | Moved | Unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One converging lazy rule: its target, and what it leaves at the paths that it writes.

    `effects` is None if those paths are not known. `roots` are their first components.
    """

    name: str
    target: Mapping[str, Any] | None
    condition: Clause
    effects: Mapping[str, Effect] | None
    roots: frozenset[str]

    def touches(self, path: str) -> bool:
        """Tell whether the rule may change what a condition on `path` answers."""
        root = path.partition(".")[0]
        if self.effects is None:
            return root != "_id"
        if root not in self.roots:
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


def compile_step(
    name: str, target: Mapping[str, Any], update: Any, array_filters: Any = None
) -> Step:
    """Return a static rule as `rewrite` takes it.

    Constants of `$set`, `$unset` and `$rename` are known exactly; anything else is opaque: a
    query that reads its paths is refused. Nothing is raised, and nothing is changed.
    """
    try:
        compile_query(target)
        check_update(update, array_filters)
    except ValueError:
        return opaque_step(name, None, None)
    if not isinstance(update, Mapping):
        return opaque_step(name, target, _pipeline_paths(update))
    formula = parse(target)
    effects: dict[str, Effect] = {}
    for operator, fields in update.items():
        for path, value in fields.items():
            if operator == "$rename":
                if _is_plain(path) and _is_plain(value):
                    effects[path] = ABSENT
                    certain = implies_presence(formula, tuple(path.split(".")))
                    effects[value] = Moved(path, certain)
                else:
                    effects[_written_place(path)] = effects[_written_place(value)] = UNKNOWN
            elif operator == "$set" and _is_plain(path):
                effects[path] = constant(value)
            elif operator == "$unset" and _is_plain(path):
                effects[path] = ABSENT
            elif operator != "$setOnInsert":
                effects[_written_place(path)] = UNKNOWN
    return _step(name, target, effects)


def step_of(rule: BoundRule, target: Mapping[str, Any], collection: Any = None) -> Step:
    """The step of a rule.

    :param target: the query for the documents that the rule concerns.
    :param collection: the PyMongo collection, where the rule may ask for it.
    :raises Exception: whatever a static rule raises.
    """
    if rule.kind != "static" or rule.varies:
        return opaque_step(rule.name, target, rule.writes)
    evaluation = rule.evaluate(collection=collection)
    if evaluation.update != rule.update:
        # A value such as the present time: what it will be is not known yet.
        return opaque_step(rule.name, target, rule.writes)
    return compile_step(rule.name, target, evaluation.update, evaluation.array_filters)


def opaque_step(name: str, target: Mapping[str, Any] | None, writes: frozenset[str] | None) -> Step:
    """Return a rule of which only the paths are known that it may write (None: any path)."""
    return _step(name, target, None if writes is None else dict.fromkeys(writes, UNKNOWN))


def _step(
    name: str, target: Mapping[str, Any] | None, effects: Mapping[str, Effect] | None
) -> Step:
    condition = TRUE if target is None else simplified(read(target))
    roots = frozenset(path.partition(".")[0] for path in effects or ())
    return Step(name, target, condition, effects, roots)


def _is_plain(path: str) -> bool:
    """Tell whether a path names neither elements of an array nor, perhaps, their indexes."""
    return not any(part.isdecimal() or part.startswith("$") for part in path.split(".")[1:])


def _written_place(path: str) -> str:
    first, *others = path.split(".")
    place = [first]
    for part in others:
        if part.isdecimal():
            break  # an element may come into being, and with it whatever is beside the path
        if not part.startswith("$"):
            place.append(part)
    return ".".join(place)


def _pipeline_paths(stages: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
    found: set[str] = set()
    for stage in stages:
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            found.update(_written_place(".".join(parts)) for parts, _ in assignments(value))
        else:
            paths = unset_stage_paths(name, value)
            if paths is None:
                return None
            found.update(map(_written_place, paths))
    return frozenset(found)


# --- From new shapes to stored ones -----------------------------------------------------


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
    one has to settle.
    """
    if not is_concerned(query, steps):
        return query
    clause = original = read(query)
    for step in reversed(steps):
        clause = _before(clause, step)
        if leaf_count(clause) > limit or depth(clause) > _DEEPEST:
            clause = simplified(clause)
        if leaf_count(clause) > limit or depth(clause) > _DEEPEST:
            reason = f"takes more than {limit} conditions, or too deep ones, on stored documents"
            raise CannotRewrite(step.name, ", ".join(step.effects or ()), reason)
    return query if clause.key == original.key else written(simplified(clause))


def simplify(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a query that finds the same, without branches that its other conditions exclude.

    :return: the same object if there is nothing to leave out.
    """
    clause = read(query)
    simple = simplified(clause)
    return query if simple.key == clause.key else written(simple)


def is_concerned(query: Mapping[str, Any], steps: Sequence[Step]) -> bool:
    """Tell whether a rule writes a path that the query reads, whatever that makes of the answer."""
    return not _nothing_in_common(query, steps) and any(_concerns(step, query) for step in steps)


def _nothing_in_common(query: Mapping[str, Any], steps: Sequence[Step]) -> bool:
    """Tell at a glance that no step writes what the query reads; False may mean nothing."""
    roots = [name.partition(".")[0] for name in query]
    if any(root.startswith("$") for root in roots):
        return False
    return all(step.effects is not None and step.roots.isdisjoint(roots) for step in steps)


def _concerns(step: Step, query: Mapping[str, Any]) -> bool:
    for name, value in query.items():
        if not name.startswith("$") or name in ("$ref", "$id", "$db"):
            if step.touches(name):
                return True
        elif name in ("$and", "$or", "$nor"):
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


def _touched(clause: Clause, step: Step) -> bool:
    if isinstance(clause, Leaf):
        return step.touches(clause.path)
    if isinstance(clause, Fragment):
        return _reads_written(step, clause.reads) is not None
    if isinstance(clause, Negation):
        return _touched(clause.part, step)
    return any(_touched(part, step) for part in clause.parts)


def _before(clause: Clause, step: Step) -> Clause:
    """Return the clause that holds before the step where `clause` holds after it."""
    if not isinstance(clause, (Every, Some)):
        return _split(clause, step) if _touched(clause, step) else clause
    join = every if isinstance(clause, Every) else some
    touched = [part for part in clause.parts if _touched(part, step)]
    if not touched:
        return clause
    group = _before(touched[0], step) if len(touched) == 1 else _split(join(touched), step)
    # The group takes the place of its first part: keys keep their order.
    parts: list[Clause] = []
    for part in clause.parts:
        if part is touched[0]:
            parts.append(group)
        elif part not in touched:
            parts.append(part)
    return join(parts)


def _split(clause: Clause, step: Step) -> Clause:
    after = _updated(clause, step)
    if after is TRUE:
        return either(step.condition, clause)
    if after.key == clause.key:
        return clause
    return some([both(step.condition, after), without(clause, step.condition)])


def _updated(clause: Clause, step: Step) -> Clause:
    """Return Q[U] of a clause: what it asks of a document that the step is about to update."""
    if isinstance(clause, Every):
        return every([_updated(part, step) for part in clause.parts])
    if isinstance(clause, Some):
        return some([_updated(part, step) for part in clause.parts])
    if isinstance(clause, Negation):
        return negated(_updated(clause.part, step))
    if isinstance(clause, Leaf):
        return _updated_leaf(clause, step)
    path = _reads_written(step, clause.reads)
    if path is not None:
        raise CannotRewrite(step.name, path, f"is read by {clause.operator}")
    return clause


def _updated_leaf(clause: Leaf, step: Step) -> Clause:
    if not step.touches(clause.path):
        return clause
    if step.effects is None:
        raise CannotRewrite(step.name, clause.path, "may be written by this rule")
    related = list(step.related(clause.path))
    for place, effect in related:
        if isinstance(effect, Unknown):
            reason = f"depends on what the rule computes at '{place}'"
            raise CannotRewrite(step.name, clause.path, reason)
        if clause.path == place or clause.path.startswith(f"{place}."):
            return _beneath(clause, place, effect, step)
    return _above(clause, dict(related), step)


def _beneath(clause: Leaf, place: str, effect: Value | Absent | Moved, step: Step) -> Clause:
    """Update a leaf on a written path, or on one beneath it."""
    if isinstance(effect, Moved):
        if is_expression(clause.condition) and not clause.condition.keys().isdisjoint(_NEAR):
            raise CannotRewrite(step.name, clause.path, "is asked for its distance")
        moved = leaf(effect.source + clause.path[len(place) :], clause.condition)
        if effect.certain:
            return moved
        stays = every([presence(effect.source, exists=False), clause])
        return some([both(presence(effect.source), moved), stays])
    document: Any = {}
    if isinstance(effect, Value):
        document = effect.value
        for name in reversed(place.split(".")):
            document = {name: document}
    answer = _judge(clause, step)(document)
    if answer is None:
        raise CannotRewrite(step.name, clause.path, "is asked what only MongoDB can judge")
    return TRUE if answer else FALSE


_NEAR: Final = frozenset({"$near", "$nearSphere", "$geoNear"})


def _above(clause: Leaf, effects: Mapping[str, Effect], step: Step) -> Clause:
    """Update a leaf on a parent of written paths, if it does not ask what is in there.

    The parent is a sub-document then, before an `$unset` as well as after it.
    """
    _judge(clause, step)
    parts = tuple(clause.path.split("."))
    answer = ask(parse_condition(parts, clause.condition), _holding(parts))
    if answer is None:
        reason = f"holds '{min(effects)}', which the rule writes"
        raise CannotRewrite(step.name, clause.path, reason)
    answered: Clause = TRUE if answer else FALSE
    sources: list[Clause] = []
    for effect in effects.values():
        if isinstance(effect, Value) or (isinstance(effect, Moved) and effect.certain):
            return answered
        if isinstance(effect, Moved):
            sources.append(presence(effect.source))
    moved = some(sources)
    return some([every([moved, answered]), every([negated(moved), clause])])


def _holding(parts: tuple[str, ...]) -> Document:
    """Return the knowledge that there is a sub-document at a path."""
    known = Document({}, exists=True)
    for part in reversed(parts):
        known = Document({part: known}, exists=True)
    return known


def _judge(clause: Leaf, step: Step) -> Judge:
    try:
        return compile_judge({clause.path: clause.condition})
    except ValueError as error:
        raise CannotRewrite(step.name, clause.path, f"is in no query: {error}") from error
