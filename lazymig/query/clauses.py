"""The tree of a query made small, and written back as a query.

Every form keeps MongoDB's meaning exactly, for arrays too. What updates do to a query is said in
`rewriting`, and which clauses exclude each other in `context`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from lazymig.query.checks import is_regex
from lazymig.query.operators import LOGICAL, NEAR, parse
from lazymig.query.tree import (
    And,
    Compare,
    Leaf,
    Node,
    Not,
    Opaque,
    Or,
    is_expression,
)

__all__ = [
    "FALSE",
    "TRUE",
    "Clause",
    "conjuncts",
    "every",
    "negated",
    "presence",
    "read",
    "reduced",
    "some",
    "written",
]

Clause: TypeAlias = "Node"
"""A node as `reduced` leaves it.

No `And` or `Or` is alone, empty or within its like, and the only `Not` of a question is a `Denial`.
"""

TRUE: Final = And(())
FALSE: Final = Or(())

# An index scan without bounds; `{"$nor": [{}]}` and `$alwaysFalse` are collection scans (6.0).
_NOTHING: Final[Mapping[str, Any]] = {"_id": {"$in": []}}


# --- Clauses that are as simple as they can be ------------------------------------------


def presence(path: str, *, exists: bool = True) -> Clause:
    """Return the clause that something, or nothing, is stored at a path."""
    there = Compare(tuple(path.split(".")), "$exists", operand=True)
    return there if exists else there.opposite


def _merged(one: Leaf, other: Leaf) -> Leaf:
    """Join `{p: 1}` and `{p: {"$in": [2]}}` to `{p: {"$in": [1, 2]}}`, or likewise opposites."""
    choices = {**(one.choices or {}), **(other.choices or {})}
    if len(choices) == len(one.choices or ()):
        return one
    return one.among(choices)


def every(parts: Iterable[Clause]) -> Clause:
    """Return the clause that all parts hold; what a path must not be equal to becomes one."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, And) else (part,):
            if one is FALSE:
                return FALSE
            _put(one, found, denied=True)
    if len(found) == 1:
        return next(iter(found.values()))
    if not found:
        return TRUE
    return And(tuple(found.values()))


def some(parts: Iterable[Clause]) -> Clause:
    """Return the clause that at least one part holds; equalities on one path become one."""
    found: dict[Hashable, Clause] = {}
    for part in parts:
        for one in part.parts if isinstance(part, Or) else (part,):
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
    return Or(tuple(kept)) if kept else FALSE


def _put(clause: Clause, found: dict[Hashable, Clause], *, denied: bool) -> None:
    """Add a clause to others, in the place of one that it can be joined with."""
    if isinstance(clause, Leaf) and clause.choices is not None and clause.denied is denied:
        place = clause.dotted
        earlier = found.get(place)
        found[place] = clause if earlier is None else _merged(cast("Leaf", earlier), clause)
    else:
        found.setdefault(clause.key, clause)


def _unabsorbed(branches: list[Clause]) -> list[Clause]:
    """Leave out each branch that asks for all that another one asks, and for more."""
    single = {branch.key for branch in branches if not isinstance(branch, And)}
    asked = {id(one): frozenset(_keys(one)) for one in branches if isinstance(one, And)}
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


def _keys(clause: And) -> list[Hashable]:
    return [part.key for part in clause.parts]


def negated(clause: Clause) -> Clause:
    """Return the clause that holds where `clause` does not."""
    if isinstance(clause, Compare):
        return clause.opposite
    if isinstance(clause, Not):
        return clause.part
    if isinstance(clause, Or):
        return every(map(negated, clause.parts))
    return FALSE if clause is TRUE else Not(clause)


def conjuncts(clause: Clause) -> tuple[Clause, ...]:
    """Return the clauses that all have to hold."""
    return clause.parts if isinstance(clause, And) else (clause,)


# --- From a query and back --------------------------------------------------------------


def reduced(node: Node) -> Clause:
    """Return the clause that asks the same as a node."""
    if isinstance(node, And):
        return every(map(reduced, node.parts))
    if isinstance(node, Or):
        return some(map(reduced, node.parts))
    return negated(reduced(node.part)) if isinstance(node, Not) else node


def read(query: Mapping[str, Any]) -> Clause:
    """Return the clause of a query. What is malformed stays as it is, for MongoDB to refuse."""
    return every(_read(name, value) for name, value in query.items())


def _read(name: str, value: Any) -> Clause:
    parts = value if name in LOGICAL and isinstance(value, (list, tuple)) else ()
    if parts and all(isinstance(one, Mapping) for one in parts):
        if name == "$and":
            return every(map(read, parts))
        either = some(map(read, parts))
        return either if name == "$or" else negated(either)
    if name == "$comment":
        return Opaque(name, value, frozenset())
    try:
        return reduced(parse({name: value}))
    except ValueError as error:
        paths = () if name.startswith("$") else (name,)
        return Opaque(name, value, frozenset(paths), problem=str(error))


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
        yield part.dotted, part.condition()
    elif isinstance(part, Opaque):
        yield part.name, part.value
    elif isinstance(part, Or):
        yield "$or", [written(one) for one in part.parts]
    elif isinstance(part, Not):
        denied = written(part.part)
        path, condition = next(iter(denied.items()))
        if len(denied) == 1 and not path.startswith("$") and is_expression(condition):
            yield path, {"$not": condition}
        else:
            yield "$nor", [denied]


def _side_by_side(first: Any, second: Any) -> dict[str, Any] | None:
    """Join two conditions on one path, if they have no operator in common."""
    operators, others = _operators(first), _operators(second)
    if not operators.keys().isdisjoint(others) or not NEAR.isdisjoint((*operators, *others)):
        return None
    return {**operators, **others}


def _operators(condition: Any) -> Mapping[str, Any]:
    if is_expression(condition):
        return cast("Mapping[str, Any]", condition)
    return {"$regex" if is_regex(condition) else "$eq": condition}
