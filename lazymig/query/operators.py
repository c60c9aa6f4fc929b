"""The query operators, one row each, and the reading of a query into its tree.

A row says how an operator is read, how it is checked on one value, and what else follows from it.
How the checks work is in `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from bson import Decimal128

from lazymig.query import checks
from lazymig.query.checks import Test, is_regex, malformed
from lazymig.query.expressions import expression_paths
from lazymig.query.tree import (
    And,
    Compare,
    Node,
    Not,
    Opaque,
    Or,
    Path,
    is_expression,
    is_reference,
)
from lazymig.raw.values import NUMBER, STRING, bracket, is_array

__all__ = [
    "LOGICAL",
    "NEAR",
    "OPERATORS",
    "TOP_OPERATORS",
    "Operator",
    "asks_elements",
    "comparands",
    "holds_any",
    "is_expression",
    "is_reference",
    "operator_paths",
    "parse",
    "parse_element",
    "parse_or_opaque",
    "wants_presence",
]

LOGICAL: Final = ("$and", "$or", "$nor")


@dataclass(frozen=True, slots=True)
class Operator:
    """What there is to know of an operator that stands after a path.

    `read` gives the tree of path, operator and operand, given all operators beside it, and nothing
    for what belongs to one of those; `test` gives the check on one value. `compares`: the operand
    is one value, or a list of values, to compare with. `brackets` are those of which it looks at
    the value, not the type alone, besides those of what it compares with; None: they are not known,
    so nothing is proved by a type. `positive`: of an array on the way it asks for one element that
    answers, not for all. `by_elements`: an array answers by its elements, `grows`: so that more
    elements only add to the answers. `collation`: whether one has no say (`blind`), or leaves what
    is equal by its characters equal (`equal`).
    """

    read: Callable[[Path, str, Any, Mapping[str, Any]], Node | None]
    test: Callable[[Compare], Test] | None = None
    compares: Literal["value", "list"] | None = None
    brackets: frozenset[int] | None = None
    positive: bool = False
    by_elements: bool = False
    grows: bool = False
    collation: Literal["blind", "equal"] | None = None


@dataclass(frozen=True, slots=True)
class TopOperator:
    """What there is to know of an operator on the whole document; MongoDB alone answers it.

    `inside`: it may stand inside `$elemMatch`. `reads`: what it reads, namely nothing of the
    document, the paths of an expression, or paths that it does not name.
    """

    inside: bool = True
    reads: Literal["nothing", "expression", "anything"] = "nothing"


# --- Reading a query --------------------------------------------------------------------


def parse(query: Mapping[str, Any]) -> Node:
    """Return the tree of a query; what is compared with is checked only where it is compiled.

    :raises ValueError: MongoDB would refuse the query; the message names path and operator.
    """
    return _query(query, nested=False)


def parse_element(operand: Mapping[str, Any]) -> Node:
    """Return the tree of the operand of `$elemMatch`: operators, or a query on sub-documents.

    :raises ValueError: MongoDB would refuse it.
    """
    return _operations((), operand) if asks_elements(operand) else _query(operand, nested=True)


def parse_or_opaque(reader: Callable[[Mapping[str, Any]], Node], query: Mapping[str, Any]) -> Node:
    """Return the tree of a part of an update, which may hold values that are not known yet."""
    try:
        return reader(query)
    except ValueError:
        return Opaque()


def asks_elements(operand: Mapping[str, Any]) -> bool:
    """Return whether the operand of `$elemMatch` has operators on the element, and no query."""
    if not is_expression(operand) or any(map(is_reference, operand)):
        return False
    first = next(iter(operand))
    return first not in LOGICAL and first not in TOP_OPERATORS and first != "$comment"


def wants_presence(operand: Any) -> bool:
    """Return whether `{"$exists": operand}` asks for presence, as all but false, null and zero."""
    if isinstance(operand, bool) or operand is None:
        return bool(operand)
    if bracket(operand) != NUMBER:
        return True
    if isinstance(operand, Decimal128):
        return not operand.to_decimal().is_zero()
    return bool(operand != 0)


def comparands(leaf: Compare) -> list[Any]:
    """Return the values that a question compares with: none for `$type`, `$size` and the like."""
    compares = OPERATORS[leaf.operator].compares
    if compares == "list" and isinstance(leaf.operand, (list, tuple)):
        return list(leaf.operand)
    return [] if compares is None else [leaf.operand]


def holds_any(query: Any, names: frozenset[str]) -> bool:
    """Return whether one of these operators stands anywhere in a query."""
    if isinstance(query, (list, tuple)):
        return any(holds_any(one, names) for one in query)
    # Listed values are mostly texts, and to ask whether one is a mapping takes ten times as long.
    if type(query) is str or not isinstance(query, Mapping):
        return False
    return any(name in names or holds_any(value, names) for name, value in query.items())


def operator_paths(name: str, value: Any) -> frozenset[str] | None:
    """Return the paths that an operator on the whole document reads; None: it does not say."""
    reads = TOP_OPERATORS[name].reads
    if reads == "expression":
        return expression_paths(value)
    return frozenset() if reads == "nothing" else None


def _query(query: Any, *, nested: bool) -> Node:
    """Read a query; `nested`: inside `$elemMatch`."""
    if not isinstance(query, Mapping):
        raise ValueError(f"A query is a mapping, not {query!r}; use {{path: condition}}")
    return _joined([one for item in query.items() for one in _condition(*item, nested=nested)])


def _joined(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else And(tuple(parts))


def _condition(name: Any, value: Any, *, nested: bool) -> Iterator[Node]:
    if not isinstance(name, str) or "\x00" in name:
        raise ValueError(f"{name!r} is no path; use a string without null bytes")
    if name == "$comment":
        return
    if name in LOGICAL:
        yield _logical(name, value, nested=nested)
    elif name in TOP_OPERATORS:
        if nested and not TOP_OPERATORS[name].inside:
            raise malformed((), name, "stands inside $elemMatch; move it to the top of the query")
        yield Opaque(name, value, operator_paths(name, value))
    elif name.startswith("$") and not is_reference(name):
        raise malformed((), name, "is no operator at the top of a query; use a path, or $and")
    else:
        path = tuple(name.split("."))
        if is_expression(value):
            node = _operations(path, value)
        else:
            node = Compare(path, "$regex" if is_regex(value) else "$eq", value)
        # An empty name on the path is cut differently by different parts of the server.
        yield node if all(path) else Opaque(name, value, frozenset((name,)))


def _logical(name: str, value: Any, *, nested: bool) -> Node:
    if not is_array(value) or not value:
        raise malformed((), name, f"is {value!r}; use a list of at least one query")
    for item in value:
        if not isinstance(item, Mapping):
            raise malformed((), name, f"contains {item!r}; use queries only")
    parts = [_query(item, nested=nested) for item in value]
    if name == "$or":
        return parts[0] if len(parts) == 1 else Or(tuple(parts))
    return _joined(parts if name == "$and" else [Not(part) for part in parts])


def _operations(path: Path, operators: Mapping[str, Any]) -> Node:
    parts = []
    for operator, operand in operators.items():
        row = OPERATORS.get(operator)
        if row is None:
            remedy = "correct its name" if str(operator).startswith("$") else "use operators only"
            problem = f"is no operator that a path can have; {remedy}"
            raise malformed(path, str(operator), problem)
        part = row.read(path, operator, operand, operators)
        if part is not None:
            parts.append(part)
    return _joined(parts)


# --- How the operators are read ---------------------------------------------------------


def _compared(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    return Compare(path, operator, operand)


def _near(path: Path, operator: str, operand: Any, beside: Mapping[str, Any]) -> Node:
    distances = {name: value for name, value in beside.items() if name in _DISTANCES}
    return Compare(path, operator, operand, distances or None)


def _distance(path: Path, operator: str, _operand: Any, beside: Mapping[str, Any]) -> None:
    if NEAR.isdisjoint(beside):
        problem = "is no operator that a path can have; correct its name"
        raise malformed(path, operator, problem)


def _options(path: Path, operator: str, _operand: Any, beside: Mapping[str, Any]) -> None:
    if "$regex" not in beside:
        raise malformed(path, operator, "needs a $regex beside it; add one")


def _pattern(path: Path, operator: str, pattern: Any, beside: Mapping[str, Any]) -> Node:
    options = beside.get("$options")
    if not is_regex(pattern) and not isinstance(pattern, str):
        raise malformed(path, operator, f"is {pattern!r}; use a pattern")
    if "$options" in beside and not isinstance(options, str):
        raise malformed(path, "$options", f"is {options!r}; use a string of letters")
    if options is not None and not isinstance(pattern, str) and pattern.flags:
        problem = "stands beside a pattern that has flags; use one of them"
        raise malformed(path, "$options", problem)
    return Compare(path, operator, pattern, options)


def _exists(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    present = Compare(path, operator, True)
    return present if wants_presence(operand) else Not(present)


def _not_equal(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    if is_regex(operand):
        problem = "cannot take a regular expression; use $not"
        raise malformed(path, operator, problem)
    return Not(Compare(path, "$eq", operand))


def _in(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    if not is_array(operand):
        raise malformed(path, operator, f"is {operand!r}; use a list")
    if any(map(is_expression, operand)):
        raise malformed(path, operator, "contains an operator; use values, or $or")
    return Compare(path, "$in", operand)


def _not_in(path: Path, operator: str, operand: Any, beside: Mapping[str, Any]) -> Node:
    return Not(_in(path, operator, operand, beside))


def _negation(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    if is_regex(operand):
        return Not(Compare(path, "$regex", operand))
    if not isinstance(operand, Mapping) or not operand:
        problem = f"is {operand!r}; use operators or a regular expression"
        raise malformed(path, operator, problem)
    return Not(_operations(path, operand))


def _every(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    if not is_array(operand):
        raise malformed(path, operator, f"is {operand!r}; use a list")
    if not operand:
        return Or(())
    first = operand[0]
    if isinstance(first, Mapping) and next(iter(first), "") == "$elemMatch":
        if not all(isinstance(item, Mapping) and "$elemMatch" in item for item in operand):
            raise malformed(path, operator, "mixes $elemMatch with values; use one kind")
        return _joined([_element(path, "$elemMatch", item["$elemMatch"], {}) for item in operand])
    for item in operand:
        if is_expression(item) and not any(map(is_reference, item)):
            problem = "contains an operator; use values, or $elemMatch only"
            raise malformed(path, operator, problem)
    kinds = ["$regex" if is_regex(item) else "$eq" for item in operand]
    return _joined([Compare(path, kind, item) for kind, item in zip(kinds, operand, strict=True)])


def _element(path: Path, operator: str, operand: Any, _beside: Mapping[str, Any]) -> Node:
    if not isinstance(operand, Mapping):
        problem = f"is {operand!r}; use a query or operators"
        raise malformed(path, operator, problem)
    with checks.at(path if asks_elements(operand) else ()):
        return Compare(path, operator, operand, inner=parse_element(operand))


# --- The rows ---------------------------------------------------------------------------

NEAR: Final = frozenset({"$near", "$nearSphere", "$geoNear"})
_DISTANCES: Final = frozenset({"$maxDistance", "$minDistance"})
_ONLY_BY_MONGODB: Final = (
    *("$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"),
    *("$geoWithin", "$geoIntersects", "$within"),
)
_PLAIN: Final = Operator(_compared, brackets=frozenset(), positive=True)
_VALUE: Final = replace(_PLAIN, compares="value", by_elements=True, grows=True)
_ORDER: Final = replace(_VALUE, test=checks.order)

OPERATORS: Final[Mapping[Any, Operator]] = {
    "$eq": replace(_VALUE, test=checks.equals, collation="equal"),
    "$ne": Operator(_not_equal),
    "$gt": _ORDER,
    "$gte": _ORDER,
    "$lt": _ORDER,
    "$lte": _ORDER,
    "$in": replace(_VALUE, read=_in, test=checks.among, compares="list", collation="equal"),
    "$nin": Operator(_not_in),
    "$exists": replace(
        _PLAIN, read=_exists, test=checks.presence, positive=False, grows=True, collation="blind"
    ),
    "$type": replace(_PLAIN, test=checks.of_type, collation="blind"),
    "$size": replace(_PLAIN, test=checks.size, collation="blind"),
    "$mod": replace(
        _PLAIN,
        test=checks.remainder,
        brackets=frozenset({NUMBER}),
        by_elements=True,
        collation="blind",
    ),
    "$all": replace(_PLAIN, read=_every, collation="equal"),
    "$elemMatch": replace(_PLAIN, read=_element),
    "$not": Operator(_negation),
    "$regex": Operator(
        _pattern,
        checks.pattern,
        brackets=frozenset({STRING}),
        positive=True,
        by_elements=True,
        collation="blind",
    ),
    "$options": Operator(_options, collation="blind"),
    **dict.fromkeys(_ONLY_BY_MONGODB, replace(_PLAIN, test=checks.unjudged, brackets=None)),
    **dict.fromkeys(NEAR, Operator(_near, checks.unjudged, positive=True)),
    **dict.fromkeys(_DISTANCES, Operator(_distance)),
}

TOP_OPERATORS: Final[Mapping[Any, TopOperator]] = {
    "$expr": TopOperator(inside=False, reads="expression"),
    "$jsonSchema": TopOperator(reads="anything"),
    "$text": TopOperator(inside=False, reads="anything"),
    "$where": TopOperator(inside=False, reads="anything"),
    "$sampleRate": TopOperator(),
    "$alwaysTrue": TopOperator(),
    "$alwaysFalse": TopOperator(),
}
