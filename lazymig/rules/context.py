"""A clause of a query beside others that hold: what of it is needless, and what is impossible.

Everything is proved for arrays as well: `{a: 1}` and `{a: 2}` do not exclude each other. Only
`_cls` is known to hold one name, for MongoEngine writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lazymig.rules.clauses import (
    FALSE,
    TRUE,
    Clause,
    Every,
    Leaf,
    Negation,
    Some,
    conjuncts,
    every,
    negated,
    some,
)
from lazymig.rules.matching import compile_judge
from lazymig.rules.operators import is_expression

__all__ = ["both", "either", "simplified", "without"]

# Of an array on the way, they ask for one element that answers; others ask it of all elements.
_POSITIVE: Final = frozenset(
    {"$eq", "$gt", "$gte", "$lt", "$lte", "$in", "$type", "$size", "$mod", "$all", "$elemMatch"}
)


def simplified(clause: Clause) -> Clause:
    """Return an equal clause: no part of it is needless or impossible beside the others."""
    return _assuming(clause, ())


def both(target: Clause, clause: Clause) -> Clause:
    """Return that target and clause hold."""
    rest = _assuming(clause, conjuncts(target))
    if rest is FALSE:
        return FALSE
    given = conjuncts(rest)
    needed = [part for part in conjuncts(target) if not any(_implies(one, part) for one in given)]
    return every([*needed, rest])


def either(target: Clause, clause: Clause) -> Clause:
    """Return that target or clause holds."""
    return some([target, _assuming(clause, conjuncts(negated(target)))])


def without(clause: Clause, target: Clause) -> Clause:
    """Return that the clause holds and the target does not."""
    if isinstance(clause, Some):
        apart = [part for part in clause.parts if _assuming(target, conjuncts(part)) is FALSE]
        if apart:
            others = some(part for part in clause.parts if part not in apart)
            return some([*apart, without(others, target)])
    left = negated(_assuming(target, conjuncts(clause)))
    return every([_assuming(clause, conjuncts(left)), left])


def _assuming(clause: Clause, given: Sequence[Clause]) -> Clause:
    """Return a clause that is equal to `clause` wherever all of `given` hold, and simpler."""
    if isinstance(clause, Every):
        parts = list(clause.parts)
        for place, part in enumerate(parts):
            # One after the other: of two parts that imply each other, one has to stay.
            parts[place] = _assuming(part, [*given, *parts[:place], *parts[place + 1 :]])
            if parts[place] is FALSE:
                return FALSE
        clause = every(parts)
    elif isinstance(clause, Some):
        clause = some([_assuming(part, given) for part in clause.parts])
    elif isinstance(clause, Negation):
        clause = negated(_assuming(clause.part, given))
    if any(_implies(one, clause) for one in given):
        return TRUE
    if isinstance(clause, Leaf) and (_is_impossible(clause) or _leaves_no_class(clause, given)):
        return FALSE
    return FALSE if any(_excludes(one, clause) for one in given) else clause


def _is_impossible(clause: Leaf) -> bool:
    """Tell whether a leaf holds for no document at all: `$in` or `$all` of nothing."""
    condition = clause.condition
    return isinstance(condition, dict) and any(
        operator in ("$in", "$all") and isinstance(operand, (list, tuple)) and not operand
        for operator, operand in condition.items()
    )


def _implies(given: Clause, clause: Clause) -> bool:
    if given.key == clause.key:
        return True
    if isinstance(given, Leaf) and isinstance(clause, Leaf) and clause.path == given.path == "_cls":
        return _names_only_classes_of(given, clause)
    if not isinstance(clause, Leaf) or not _asks_presence(clause, exists=True):
        return False
    return isinstance(given, Leaf) and _fails_without(given, clause.path)


def _excludes(given: Clause, clause: Clause) -> bool:
    """Tell whether it is proved that no document satisfies both."""
    if isinstance(given, Some):
        return all(_assuming(clause, conjuncts(part)) is FALSE for part in given.parts)
    if isinstance(given, Negation):
        denied = {one.key for one in conjuncts(given.part)}
        return denied.issubset(one.key for one in conjuncts(clause))
    if not isinstance(given, Leaf) or not isinstance(clause, Leaf):
        return False
    if given.path == clause.path and negated(given).key == clause.key:
        return True
    return (_asks_presence(given, exists=False) and _fails_without(clause, given.path)) or (
        _asks_presence(clause, exists=False) and _fails_without(given, clause.path)
    )


def _asks_presence(clause: Leaf, *, exists: bool) -> bool:
    condition = clause.condition
    return (
        isinstance(condition, dict) and len(condition) == 1 and condition.get("$exists") is exists
    )


def _fails_without(clause: Leaf, path: str) -> bool:
    """Tell whether a leaf holds for no document that has nothing at a path."""
    if clause.path != path and not clause.path.startswith(f"{path}."):
        return False
    condition = clause.condition
    if "." in path and is_expression(condition) and not _POSITIVE.issuperset(condition):
        return False  # {d: [1]} has nothing at d.x, and satisfies {"d.x": {"$ne": None}}
    try:
        return compile_judge({clause.path: clause.condition})({}) is False
    except ValueError:
        return False


# --- The class of a document ------------------------------------------------------------


def _leaves_no_class(clause: Leaf, given: Sequence[Clause]) -> bool:
    """Tell whether a condition on `_cls` and those that are given allow no name together."""
    if clause.path != "_cls":
        return False
    allowed: frozenset[str] | None = None
    denied: frozenset[str] = frozenset()
    for one in (clause, *given):
        names = _class_names(one) if isinstance(one, Leaf) and one.path == "_cls" else None
        if names is None:
            continue
        if names.denied:
            denied |= names.names
        else:
            allowed = names.names if allowed is None else allowed & names.names
    return allowed is not None and allowed <= denied


def _names_only_classes_of(given: Leaf, clause: Leaf) -> bool:
    ours, theirs = _class_names(given), _class_names(clause)
    if ours is None or theirs is None or ours.denied:
        return False
    return ours.names.isdisjoint(theirs.names) if theirs.denied else ours.names <= theirs.names


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that a condition on `_cls` allows, or those that it denies."""

    names: frozenset[str]
    denied: bool


def _class_names(clause: Leaf) -> _Names | None:
    condition = clause.condition
    operator, operand = "$eq", condition
    if is_expression(condition):
        if len(condition) != 1:
            return None
        ((operator, operand),) = condition.items()
    if operator in ("$eq", "$ne"):
        names = [operand]
    elif operator in ("$in", "$nin") and isinstance(operand, (list, tuple)):
        names = list(operand)
    else:
        return None
    if not all(isinstance(name, str) for name in names):
        return None
    return _Names(frozenset(names), denied=operator in ("$ne", "$nin"))
