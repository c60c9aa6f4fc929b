"""The clauses of a query, which can be simplified and written back as a query.

Unlike the tree of `operators` they keep what they were written as, and what MongoDB would refuse.
Every form keeps MongoDB's meaning exactly, for arrays too. What updates do to a query is said in
`rewriting`, and which clauses exclude each other in `context`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, cast

from bson.errors import BSONError

from lazymig.query.checks import Judge, is_regex
from lazymig.query.matching import query_paths
from lazymig.query.operators import (
    LOGICAL,
    OPERATORS,
    is_expression,
    is_reference,
    wants_presence,
)
from lazymig.raw.encoding import encoded
from lazymig.raw.values import NUMBER, bracket

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
    "every",
    "identity",
    "leaf",
    "negated",
    "presence",
    "read",
    "some",
    "written",
]


@dataclass(slots=True, eq=False)
class _Noted:
    """What is noted of a clause: a key that equal ones share, how large it is, what it reads.

    `says` and `heeds` are for `facts`.
    """

    key: Hashable
    depth: int = field(init=False, default=1)
    leaves: int = field(init=False, default=1)
    roots: Roots = field(init=False, default=None)
    says: frozenset[Hashable] | None = field(init=False, default=None)
    heeds: frozenset[Hashable] | None = field(init=False, default=None)


@dataclass(slots=True, eq=False)
class Leaf(_Noted):
    """What stands after one path.

    `choices` are the values of an equality or `$in` without patterns, or, `denied`, of their
    opposites; `meets_missing` says whether one of them is equal to what is missing, None: perhaps;
    `is_exact`, whether those that are numbers are plain integers.
    """

    path: str
    condition: Any
    choices: Mapping[Hashable, Any] | None = None
    denied: bool = False
    meets_missing: bool | None = field(init=False, default=False)
    is_exact: bool = field(init=False, default=True)
    opposite: Clause | None = field(init=False, default=None)
    needs: frozenset[str] | None = field(init=False, default=None)
    judge: Judge | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.roots = frozenset((self.path.partition(".")[0],))
        # Once: there may be thousands, and both are asked for each time that the clause is met.
        for value in (self.choices or {}).values():
            if type(value) is int:
                continue
            kind = bracket(value)
            if value is None:
                self.meets_missing = True
            elif kind is None and self.meets_missing is False:
                self.meets_missing = None
            if kind in (NUMBER, None):
                self.is_exact = False


@dataclass(slots=True, eq=False)
class Fragment(_Noted):
    """An operator on the whole document; `reads` are its paths, None if it does not say which."""

    operator: str
    operand: Any
    reads: frozenset[str] | None

    def __post_init__(self) -> None:
        if self.reads is not None:
            self.roots = frozenset(path.partition(".")[0] for path in self.reads)


@dataclass(slots=True, eq=False)
class _Joined(_Noted):
    parts: tuple[Clause, ...]
    settled: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.depth = 1 + max([part.depth for part in self.parts], default=0)
        self.leaves = sum([part.leaves for part in self.parts])
        self.roots = _all_roots(self.parts)


@dataclass(slots=True, eq=False)
class Every(_Joined):
    """All of the parts hold. `settled`: none of them is known to be needless beside the others."""


@dataclass(slots=True, eq=False)
class Some(_Joined):
    """At least one of the parts holds. `settled`: so are the parts."""


@dataclass(slots=True, eq=False)
class Negation(_Noted):
    """The part does not hold."""

    part: Clause

    def __post_init__(self) -> None:
        self.depth, self.leaves = 1 + self.part.depth, self.part.leaves
        self.roots = self.part.roots


def _all_roots(parts: Iterable[Clause]) -> Roots:
    found: set[str] = set()
    for part in parts:
        if part.roots is None:
            return None
        found |= part.roots
    return frozenset(found)


Roots: TypeAlias = "frozenset[str] | None"
"""The first components of the paths that a clause reads; None if it does not say which."""

Clause: TypeAlias = "Leaf | Fragment | Every | Some | Negation"

TRUE: Final = Every(True, ())
FALSE: Final = Some(False, ())

_SEPARABLE: Final = frozenset(name for name, row in OPERATORS.items() if row.separable)
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
    values, denied = _choices(condition)
    if values is None:
        return Leaf(("leaf", path, identity(condition)), path, condition)
    return _choice(path, condition, {identity(value): value for value in values}, denied=denied)


def presence(path: str, *, exists: bool = True) -> Leaf:
    """Return the clause that something, or nothing, is stored at a path."""
    return leaf(path, {"$exists": exists})


def identity(value: Any) -> Hashable:
    """Return what only values have in common that are one to MongoDB."""
    # Not by Python's equality, for which 1, 1.0 and True are one.
    try:
        return encoded(value)
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError):
        return id(value)


def _choices(condition: Any) -> tuple[Sequence[Any] | None, bool]:
    """Return the values of an equality or `$in` without patterns, or of their opposites."""
    values: Sequence[Any] = [condition]
    denied = False
    if is_expression(condition):
        if len(condition) != 1:
            return None, False
        ((operator, operand),) = condition.items()
        denied = operator in ("$ne", "$nin")
        if operator == "$ne":
            values = [operand]
        elif operator in ("$in", "$nin") and isinstance(operand, (list, tuple)):
            values = operand
        else:
            return None, False
    return (None if any(map(is_regex, values)) else values), denied


def _choice(path: str, condition: Any, choices: Mapping[Hashable, Any], *, denied: bool) -> Leaf:
    return Leaf(("choice", path, denied, frozenset(choices)), path, condition, choices, denied)


def _merged(one: Leaf, other: Leaf) -> Leaf:
    """Join `{p: 1}` and `{p: {"$in": [2]}}` to `{p: {"$in": [1, 2]}}`, or likewise opposites."""
    choices = {**(one.choices or {}), **(other.choices or {})}
    if len(choices) == len(one.choices or ()):
        return one
    condition = {"$nin" if one.denied else "$in": list(choices.values())}
    return _choice(one.path, condition, choices, denied=one.denied)


def every(parts: Iterable[Clause]) -> Clause:
    """Return the clause that all parts hold; what a path must not be equal to becomes one."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, Every) else (part,):
            if one is FALSE:
                return FALSE
            _put(one, found, denied=True)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        return TRUE
    return Every(("every", frozenset([one.key for one in found.values()])), tuple(found.values()))


def some(parts: Iterable[Clause]) -> Clause:
    """Return the clause that at least one part holds; equalities on one path become one."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, Some) else (part,):
            if one is TRUE:
                return TRUE
            _put(one, found, denied=False)
    for path in [place for place in found if isinstance(place, str) and "." not in place]:
        # What is missing is equal to null; below arrays it need not be.
        if cast("Leaf", found[path]).meets_missing:
            found.pop(presence(path, exists=False).key, None)
    kept = _unabsorbed(list(found.values()))
    if len(kept) == 1:
        return kept[0]
    return Some(("some", frozenset([one.key for one in kept])), tuple(kept)) if kept else FALSE


def _put(clause: Clause, found: dict[Hashable, Clause], *, denied: bool) -> None:
    """Add a clause to others, in the place of one that it can be joined with."""
    if isinstance(clause, Leaf) and clause.choices is not None and clause.denied is denied:
        place = clause.path
        earlier = found.get(place)
        found[place] = clause if earlier is None else _merged(cast("Leaf", earlier), clause)
    else:
        found.setdefault(clause.key, clause)


def _unabsorbed(branches: list[Clause]) -> list[Clause]:
    """Leave out each branch that asks for all that another one asks, and for more."""
    single = {branch.key for branch in branches if not isinstance(branch, Every)}
    asked = {id(one): frozenset(_keys(one)) for one in branches if isinstance(one, Every)}
    if not asked:
        return branches
    # What asks for all that a branch asks, asks for its first part.
    by_part: dict[Hashable, list[frozenset[Hashable]]] = {}
    for keys in asked.values():
        by_part.setdefault(next(iter(keys)), []).append(keys)

    def is_absorbed(own: frozenset[Hashable]) -> bool:
        return not single.isdisjoint(own) or any(
            other < own for key in own for other in by_part.get(key, ())
        )

    return [one for one in branches if id(one) not in asked or not is_absorbed(asked[id(one)])]


def _keys(clause: Every) -> list[Hashable]:
    return [part.key for part in clause.parts]


def negated(clause: Clause) -> Clause:
    """Return the clause that holds where `clause` does not."""
    if isinstance(clause, Negation):
        return clause.part
    if isinstance(clause, Some):
        return every(map(negated, clause.parts))
    if clause is TRUE:
        return FALSE
    if not isinstance(clause, Leaf):
        return Negation(("not", clause.key), clause)
    if clause.opposite is None:
        opposite = _opposite(clause.condition)
        if opposite is None:
            clause.opposite = Negation(("not", clause.key), clause)
        elif clause.choices is None or isinstance(opposite.get("$eq"), Mapping):
            clause.opposite = leaf(clause.path, opposite)
        else:
            condition = opposite.get("$eq", opposite)
            clause.opposite = _choice(
                clause.path, condition, clause.choices, denied=not clause.denied
            )
    return clause.opposite


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
    row = OPERATORS.get(operator)
    if row is None or row.opposite is None or is_regex(operand):  # $ne takes no pattern
        return None
    return {row.opposite: operand}


def conjuncts(clause: Clause) -> tuple[Clause, ...]:
    """Return the clauses that all have to hold."""
    return clause.parts if isinstance(clause, Every) else (clause,)


# --- From a query and back --------------------------------------------------------------


def read(query: Mapping[str, Any]) -> Clause:
    """Return the clause of a query. What is malformed stays as it is, for MongoDB to refuse."""
    return every(_read(name, value) for name, value in query.items())


def _read(name: str, value: Any) -> Clause:
    if not name.startswith("$") or is_reference(name):
        if is_expression(value) and len(value) > 1 and _SEPARABLE.issuperset(value):
            return every(_read(name, {operator: operand}) for operator, operand in value.items())
        if value == {"$not": {"$exists": False}}:
            # What excludes presence excludes this, too, in whatever form.
            return leaf(name, {"$exists": True})
        return leaf(name, value)
    key = ("fragment", name, identity(value))
    if name not in LOGICAL:
        return Fragment(key, name, value, query_paths({name: value}))
    well_formed = isinstance(value, (list, tuple)) and value
    if not well_formed or not all(isinstance(one, Mapping) for one in value):
        return Fragment(key, name, value, frozenset())
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
