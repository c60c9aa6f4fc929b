"""The tree of a query made small, and written back as a query.

Every form keeps MongoDB's meaning exactly, for arrays too. What updates do to a query is said in
`rewriting`, and which clauses exclude each other in `context`.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias, cast

from bson import DBRef, ObjectId

from lazymig.query.checks import is_regex
from lazymig.query.operators import LOGICAL, NEAR, parse
from lazymig.query.tree import (
    And,
    Compare,
    Denial,
    Leaf,
    Node,
    Not,
    Opaque,
    Or,
    identity,
    is_expression,
)
from lazymig.raw.paths import root
from lazymig.raw.values import NUMBER, TYPE_BRACKETS, bracket

__all__ = [
    "FALSE",
    "TRUE",
    "Clause",
    "conjuncts",
    "every",
    "moved",
    "negated",
    "presence",
    "read",
    "reduced",
    "size_of",
    "some",
    "written",
]

Clause: TypeAlias = "Node"
"""A node as `reduced` leaves it.

No `And` or `Or` is alone, empty or within its like, and the `Not` of a question is a `Denial`.
"""

TRUE: Final = And(())
FALSE: Final = Or(())
TRUE.key, TRUE.roots, TRUE.leaves = True, frozenset(), 0
FALSE.key, FALSE.roots, FALSE.leaves = False, frozenset(), 0

# An index scan without bounds; `{"$nor": [{}]}` and `$alwaysFalse` are collection scans (6.0).
_NOTHING: Final[Mapping[str, Any]] = {"_id": {"$in": []}}


# --- Clauses that are as simple as they can be ------------------------------------------


def _noted(leaf: Compare, choices: Mapping[Hashable, Any] | None = None) -> Compare:
    """Note what follows from a question; of thousands of choices once."""
    leaf.dotted = ".".join(leaf.path)
    leaf.roots = frozenset(leaf.path[:1])
    leaf.choices = _choices(leaf) if choices is None else choices
    if leaf.choices is None:
        options = None if leaf.options is None else identity(leaf.options)
        leaf.key = "leaf", leaf.dotted, leaf.operator, identity(leaf.operand), options
        return leaf
    kinds = set(map(type, leaf.choices.values()))
    if not kinds <= _PLAIN:
        leaf.is_exact = all(TYPE_BRACKETS.get(kind, NUMBER) != NUMBER for kind in kinds - {int})
        if type(None) in kinds:
            leaf.meets_missing = True
        elif None in map(bracket, leaf.choices.values()):
            leaf.meets_missing = None
    leaf.key = "choice", leaf.dotted, False, frozenset(leaf.choices)
    return leaf


# Choices of these types are exact, and none of them is equal to what is missing.
_PLAIN: Final = frozenset({bool, int, str, ObjectId})


def _choices(leaf: Compare) -> Mapping[Hashable, Any] | None:
    """Return the values of an equality or `$in` without patterns."""
    if leaf.operator not in ("$eq", "$in"):
        return None
    values = [leaf.operand] if leaf.operator == "$eq" else leaf.operand
    if not _PLAIN.issuperset(map(type, values)) and any(map(is_regex, values)):
        return None
    return {identity(value): value for value in values}


def presence(path: str, *, exists: bool = True) -> Clause:
    """Return the clause that something, or nothing, is stored at a path."""
    there = _noted(Compare(tuple(path.split(".")), "$exists", operand=True))
    return there if exists else _denial(there)


def moved(leaf: Leaf, path: str) -> Leaf:
    """Return the same question, or its denial, on another path."""
    asked = leaf.part if isinstance(leaf, Denial) else cast("Compare", leaf)
    place = tuple(path.split("."))
    found = Compare(place, asked.operator, asked.operand, asked.options, asked.inner)
    found = _noted(found, asked.choices)
    return _denial(found) if leaf.denied else found


def _denial(leaf: Compare) -> Denial:
    found = leaf.opposite
    if found is None:
        found = Denial(leaf.path, leaf.operator, leaf.operand, leaf)
        found.dotted, found.roots, found.choices = leaf.dotted, leaf.roots, leaf.choices
        found.meets_missing, found.is_exact = leaf.meets_missing, leaf.is_exact
        found.key = "not", leaf.key
        leaf.opposite = found
    return found


def _joined(clause: And | Or, kind: str) -> Clause:
    parts = clause.parts
    clause.key = kind, frozenset([part.key for part in parts])
    clause.depth = 1 + max([part.depth for part in parts])
    clause.leaves = sum([part.leaves for part in parts])
    clause.expressions = sum([part.expressions for part in parts])
    roots: set[str] = set()
    for part in parts:
        if part.roots is None:
            return clause
        roots |= part.roots
    clause.roots = frozenset(roots)
    return clause


def _merged(one: Leaf, other: Leaf) -> Leaf:
    """Join `{p: 1}` and `{p: {"$in": [2]}}` to `{p: {"$in": [1, 2]}}`, or likewise opposites."""
    choices = {**(one.choices or {}), **(other.choices or {})}
    if len(choices) == len(one.choices or ()):
        return one
    chosen = _noted(Compare(one.path, "$in", list(choices.values())), choices)
    return _denial(chosen) if one.denied else chosen


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
    return _joined(And(tuple(found.values())), "and")


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
    return _joined(Or(tuple(kept)), "or") if kept else FALSE


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
        return _denial(clause)
    if isinstance(clause, (Denial, Not)):
        return clause.part
    if isinstance(clause, Or):
        return every(map(negated, clause.parts))
    if clause is TRUE:
        return FALSE
    found = Not(clause)
    found.key, found.roots = ("not", clause.key), clause.roots
    found.depth, found.leaves = 1 + clause.depth, clause.leaves
    found.expressions = clause.expressions
    return found


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
    if isinstance(node, Not):
        return negated(reduced(node.part))
    if node.key is None and isinstance(node, Compare):
        return _noted(node)
    if node.key is None and isinstance(node, Opaque):
        node.key = "opaque", node.name, identity(node.value)
        node.expressions = size_of(node.value) if node.name == "$expr" else 0
        node.roots = None if node.reads is None else frozenset(map(root, node.reads))
    return node


def size_of(value: Any) -> int:
    """Return how many operators, names and constants an expression has."""
    if isinstance(value, Mapping):
        return len(value) + sum(map(size_of, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(size_of, value))
    return 1


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
        return reduced(Opaque(name, value, frozenset()))
    try:
        return reduced(parse({name: value}))
    except ValueError as error:
        paths = () if name.startswith("$") else (name,)
        return reduced(Opaque(name, value, frozenset(paths), problem=str(error)))


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
    elif isinstance(part, (Compare, Denial)):
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
    """Join two conditions on one path: values, or what has no operator in common."""
    if _is_value(first) and _is_value(second):
        return {"$all": [first, second]}
    operators, others = _operators(first), _operators(second)
    if not operators.keys().isdisjoint(others) or not NEAR.isdisjoint((*operators, *others)):
        return None
    return {**operators, **others}


def _is_value(condition: Any) -> bool:
    return condition is not None and not isinstance(condition, (Mapping, DBRef))


def _operators(condition: Any) -> Mapping[str, Any]:
    if is_expression(condition):
        return cast("Mapping[str, Any]", condition)
    return {"$regex" if is_regex(condition) else "$eq": condition}
