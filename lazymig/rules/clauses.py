"""A query as a tree that can be simplified and written back as a query.

Every form keeps MongoDB's meaning exactly, for arrays too. What updates do to a query is told in
`rewriting`, and which clauses exclude each other in `context`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from bson.errors import BSONError

from lazymig.rules.matching import query_paths
from lazymig.rules.operators import is_expression, is_regex, wants_presence
from lazymig.rules.updates import encoded

__all__ = [
    "FALSE",
    "TRUE",
    "Clause",
    "Every",
    "Fragment",
    "Leaf",
    "Negation",
    "Some",
    "conjuncts",
    "depth",
    "every",
    "leaf",
    "leaf_count",
    "negated",
    "presence",
    "read",
    "some",
    "written",
]


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """What stands behind one path. Like all clauses, equal ones have equal keys."""

    path: str
    condition: Any
    key: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class Fragment:
    """An operator on the whole document; `reads` are its paths, None if it does not say which."""

    operator: str
    operand: Any
    reads: frozenset[str] | None
    key: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class Every:
    """All of the parts hold."""

    parts: tuple[Clause, ...]
    key: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class Some:
    """At least one of the parts holds."""

    parts: tuple[Clause, ...]
    key: Hashable


@dataclass(frozen=True, slots=True, eq=False)
class Negation:
    """The part does not hold."""

    part: Clause
    key: Hashable


Clause: TypeAlias = "Leaf | Fragment | Every | Some | Negation"

TRUE: Final = Every((), True)
FALSE: Final = Some((), False)

_SEPARABLE: Final = frozenset(
    {"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$type", "$size"}
    | {"$mod", "$all", "$elemMatch", "$not"}
)
"""Operators that mean the same alone as beside others behind the same path."""

_LOGICAL: Final = ("$and", "$or", "$nor")
# An index scan without bounds; `{"$nor": [{}]}` and `$alwaysFalse` are collection scans (6.0).
_NOTHING: Final[Mapping[str, Any]] = {"_id": {"$in": []}}


# --- Clauses that are as simple as they can be ------------------------------------------


def leaf(path: str, condition: Any) -> Leaf:
    """Return the clause `{path: condition}`."""
    if is_expression(condition) and len(condition) == 1:
        ((operator, operand),) = condition.items()
        if operator == "$exists":
            condition = {"$exists": wants_presence(operand)}
        elif operator == "$eq" and not is_regex(operand) and not isinstance(operand, Mapping):
            condition = operand
    return Leaf(path, condition, ("leaf", path, _identity(condition)))


def presence(path: str, exists: bool = True) -> Leaf:
    """Return the clause that something, or nothing, is stored at a path."""
    return leaf(path, {"$exists": exists})


def _identity(value: Any) -> Hashable:
    # Not by Python's equality, for which 1, 1.0 and True are one.
    try:
        return encoded(value)
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError):
        return id(value)


def every(parts: Iterable[Clause]) -> Clause:
    """Return the clause that all parts hold."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, Every) else (part,):
            if one is FALSE:
                return FALSE
            found.setdefault(one.key, one)
    if len(found) == 1:
        return next(iter(found.values()))
    return Every(tuple(found.values()), ("every", frozenset(found))) if found else TRUE


def some(parts: Iterable[Clause]) -> Clause:
    """Return the clause that at least one part holds; equalities on one path become one."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, Some) else (part,):
            if one is TRUE:
                return TRUE
            found.setdefault(one.key, one)
    kept = _unabsorbed(_joined(found.values()))
    if len(kept) == 1:
        return kept[0]
    return Some(tuple(kept), ("some", frozenset(one.key for one in kept))) if kept else FALSE


def _joined(branches: Iterable[Clause]) -> list[Clause]:
    """Join `{p: 1}` and `{p: {"$in": [2]}}` to `{p: {"$in": [1, 2]}}`."""
    result: list[Clause] = []
    places: dict[str, int] = {}
    for branch in branches:
        values = _choices(branch)
        if values is None or not isinstance(branch, Leaf):
            result.append(branch)
        elif branch.path not in places:
            places[branch.path] = len(result)
            result.append(branch)
        else:
            place = places[branch.path]
            chosen = {_identity(one): one for one in (*(_choices(result[place]) or ()), *values)}
            result[place] = leaf(branch.path, {"$in": list(chosen.values())})
    return result


def _choices(clause: Clause) -> list[Any] | None:
    """Return the values of an equality or `$in` without patterns."""
    if not isinstance(clause, Leaf):
        return None
    condition = clause.condition
    if not is_expression(condition):
        values = [condition]
    elif len(condition) == 1 and isinstance(condition.get("$in"), (list, tuple)):
        values = list(condition["$in"])
    else:
        return None
    return None if any(map(is_regex, values)) else values


def _unabsorbed(branches: list[Clause]) -> list[Clause]:
    """Leave out each branch that asks for all that another one asks, and for more."""
    asked = [frozenset(one.key for one in conjuncts(branch)) for branch in branches]
    return [
        branch
        for branch, own in zip(branches, asked, strict=True)
        if not any(other < own for other in asked)
    ]


def negated(clause: Clause) -> Clause:
    """Return the clause that holds where `clause` does not."""
    if isinstance(clause, Negation):
        return clause.part
    if isinstance(clause, Some):
        return every(map(negated, clause.parts))
    if clause is TRUE:
        return FALSE
    opposite = _opposite(clause.condition) if isinstance(clause, Leaf) else None
    if isinstance(clause, Leaf) and opposite is not None:
        return leaf(clause.path, opposite)
    return Negation(clause, ("not", clause.key))


def _opposite(condition: Any) -> dict[str, Any] | None:
    if not is_expression(condition):
        return None if is_regex(condition) else {"$ne": condition}
    if len(condition) != 1:
        return None
    ((operator, operand),) = condition.items()
    if operator == "$exists":
        return {"$exists": not wants_presence(operand)}
    if operator == "$not":
        return operand if isinstance(operand, dict) and is_expression(operand) else None
    if operator not in _OPPOSITES or is_regex(operand):  # MongoDB takes no pattern for $ne
        return None
    return {_OPPOSITES[operator]: operand}


_OPPOSITES: Final = {"$eq": "$ne", "$ne": "$eq", "$in": "$nin", "$nin": "$in"}


def conjuncts(clause: Clause) -> tuple[Clause, ...]:
    """Return the clauses that all have to hold."""
    return clause.parts if isinstance(clause, Every) else (clause,)


def depth(clause: Clause) -> int:
    """Count the storeys of a clause."""
    if isinstance(clause, (Every, Some)):
        return 1 + max(map(depth, clause.parts), default=0)
    return 1 + depth(clause.part) if isinstance(clause, Negation) else 1


def leaf_count(clause: Clause) -> int:
    """Count the conditions that MongoDB has to look at."""
    if isinstance(clause, (Every, Some)):
        return sum(map(leaf_count, clause.parts))
    return leaf_count(clause.part) if isinstance(clause, Negation) else 1


# --- From a query and back --------------------------------------------------------------


def read(query: Mapping[str, Any]) -> Clause:
    """Return the clause of a query. What is malformed stays as it is, for MongoDB to refuse."""
    return every(_read(name, value) for name, value in query.items())


def _read(name: str, value: Any) -> Clause:
    if not name.startswith("$") or name in ("$ref", "$id", "$db"):
        if is_expression(value) and len(value) > 1 and _SEPARABLE.issuperset(value):
            return every(leaf(name, {operator: operand}) for operator, operand in value.items())
        return leaf(name, value)
    key = ("fragment", name, _identity(value))
    if name not in _LOGICAL:
        return Fragment(name, value, query_paths({name: value}), key)
    well_formed = isinstance(value, (list, tuple)) and value
    if not well_formed or not all(isinstance(one, Mapping) for one in value):
        return Fragment(name, value, frozenset(), key)
    if name == "$and":
        return every(map(read, value))
    either = some(map(read, value))
    return either if name == "$or" else negated(either)


def written(clause: Clause) -> dict[str, Any]:
    """Return a clause as a query: one plain mapping wherever its keys do not clash."""
    query: dict[str, Any] = {}
    aside: list[dict[str, Any]] = []
    for part in conjuncts(clause):
        for name, value in _items(part):
            if name not in query:
                query[name] = value
            elif name == "$nor":
                query[name] = [*query[name], *value]
            else:
                beside = None if name.startswith("$") else _side_by_side(query[name], value)
                if beside is None:
                    aside.append({name: value})
                else:
                    query[name] = beside
    if aside:
        query["$and"] = [*query.get("$and", ()), *aside]
    return query


def _items(part: Clause) -> Iterator[tuple[str, Any]]:
    if part is FALSE:
        yield from _NOTHING.items()
    elif isinstance(part, Leaf):
        yield part.path, part.condition
    elif isinstance(part, Fragment):
        yield part.operator, part.operand
    elif isinstance(part, Some):
        yield "$or", [written(one) for one in part.parts]
    elif isinstance(part, Negation):
        yield "$nor", [written(part.part)]


def _side_by_side(first: Any, second: Any) -> dict[str, Any] | None:
    """Join two conditions on one path, if they have no operator in common."""
    operators, others = _operators(first), _operators(second)
    if operators is None or others is None or not operators.keys().isdisjoint(others):
        return None
    return {**operators, **others}


def _operators(condition: Any) -> Mapping[str, Any] | None:
    if not is_expression(condition):
        return None if is_regex(condition) else {"$eq": condition}
    return condition if _SEPARABLE.issuperset(condition) else None
