"""A query in few words: positive questions on paths, joined by "all" and "not".

What `knowledge` answers without a document. Where there is one, `matching` judges it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from bson.errors import BSONError

from lazymig.query.operators import is_expression, is_regex, wants_presence
from lazymig.raw.encoding import encoded
from lazymig.raw.values import MAX_KEY, MIN_KEY, bracket

__all__ = [
    "COMPARISONS",
    "All",
    "Formula",
    "Leaf",
    "Not",
    "comparands",
    "conjuncts",
    "fingerprint",
    "own_bracket",
    "parse",
    "parse_condition",
    "parse_element_query",
]


@dataclass(frozen=True, slots=True)
class Leaf:
    """One positive question on one path; `path` is () for an element of an array itself."""

    path: tuple[str, ...]
    operator: str
    operand: Any
    extra: Mapping[str, Any] = field(default_factory=dict)  # $options of a $regex

    def condition(self) -> dict[str, Any]:
        """Return the question as MongoDB writes it behind a path."""
        return {self.operator: self.operand, **self.extra}


@dataclass(frozen=True, slots=True)
class All:
    """Each of the parts holds."""

    parts: tuple[Formula, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Formula


Formula: TypeAlias = "Leaf | All | Not | None"
"""None: a question that is not judged here."""

COMPARISONS: Final = ("$eq", "$gt", "$gte", "$lt", "$lte")
"""The operators whose operand is one value to compare with."""

_LEAF_OPERATORS: Final = frozenset(
    {*COMPARISONS, "$exists", "$in", "$type", "$size", "$elemMatch", "$regex", "$mod"}
)
_LOGICAL: Final = ("$and", "$or", "$nor")


def parse(query: Mapping[str, Any]) -> Formula:
    """Return the formula of a query that MongoDB accepts."""
    parts: list[Formula] = []
    for key, value in query.items():
        if key == "$and":
            parts.extend(map(parse, value))
        elif key in _LOGICAL:
            none_holds = All(tuple(Not(parse(part)) for part in value))
            parts.append(none_holds if key == "$nor" else Not(none_holds))
        elif key == "$comment":
            continue
        elif key.startswith("$"):
            parts.append(None)
        else:
            parts.append(parse_condition(tuple(key.split(".")), value))
    return All(tuple(parts))


def parse_condition(path: tuple[str, ...], condition: Any) -> Formula:
    """Return the formula of what stands behind a path: operators, a pattern or a value."""
    if not is_expression(condition):
        return Leaf(path, "$regex" if is_regex(condition) else "$eq", condition)
    extra = {"$options": condition["$options"]} if "$options" in condition else {}
    parts: list[Formula] = []
    for operator, operand in condition.items():
        if operator == "$options":
            continue
        if operator == "$not":
            parts.append(Not(parse_condition(path, operand)))
        elif operator == "$ne":
            parts.append(Not(Leaf(path, "$eq", operand)))
        elif operator == "$nin":
            parts.append(Not(Leaf(path, "$in", operand)))
        elif operator == "$exists":
            exists = Leaf(path, "$exists", True)
            parts.append(exists if wants_presence(operand) else Not(exists))
        elif operator == "$all" and operand:
            parts.extend(parse_condition(path, part) for part in operand)
        elif operator in _LEAF_OPERATORS:
            parts.append(Leaf(path, operator, operand, extra if operator == "$regex" else {}))
        else:
            parts.append(None)
    return All(tuple(parts))


def parse_element_query(query: Mapping[str, Any]) -> Formula:
    """Return the formula of the operand of `$elemMatch`: operators, or a query on sub-documents."""
    if is_expression(query) and next(iter(query)) not in _LOGICAL:
        return parse_condition((), query)
    return parse(query)


def conjuncts(formula: Formula) -> Iterator[Formula]:
    """Yield the formulas that all have to hold, none of them an `All`."""
    if isinstance(formula, All):
        for part in formula.parts:
            yield from conjuncts(part)
    else:
        yield formula


def fingerprint(formula: Formula) -> Any:
    """Return a value that is equal for formulas that ask the same; unequal may mean nothing."""
    if isinstance(formula, All):
        return frozenset(map(fingerprint, conjuncts(formula)))
    if isinstance(formula, Not):
        return ("not", fingerprint(formula.part))
    if formula is None:
        return object()
    try:
        return formula.path, encoded(formula.condition())
    except (BSONError, ValueError):
        return object()


def comparands(leaf: Leaf) -> list[Any]:
    """Return the values that a leaf compares with: none for `$type`, `$size` and the like."""
    if leaf.operator == "$in":
        return list(leaf.operand) if isinstance(leaf.operand, (list, tuple)) else [leaf.operand]
    return [leaf.operand] if leaf.operator in COMPARISONS else []


def own_bracket(value: Any) -> int | None:
    """Return the bracket of a value that is compared within it only; None: it is not, or unknown.

    `MinKey` and `MaxKey` are less and greater than values of every other bracket.
    """
    found = bracket(value)
    return None if found in (MIN_KEY, MAX_KEY) else found
