"""What is known of every document once an update of operators has run.

Nothing is executed: the operators and the target that found the documents tell all. Pipelines
are read in `pipelines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bson import Decimal128, Int64

from lazymig.rules.bson_values import ARRAY, REGEX
from lazymig.rules.formulas import (
    All,
    Formula,
    Leaf,
    Not,
    conjuncts,
    own_bracket,
    parse,
    parse_element_query,
)
from lazymig.rules.knowledge import (
    ABSENT,
    CONTAINERS,
    NUMBERS,
    PRESENT,
    UNKNOWN,
    Document,
    Each,
    Fact,
    Holds,
    Lacks,
    OneOf,
    Typed,
    Value,
    constant,
    implies_presence,
    is_present,
)
from lazymig.rules.updates import ANY_VALUE, filter_identifiers

__all__ = ["after_operators"]

_ARRAY: Final = Typed(frozenset({"array"}))


def after_operators(
    target: Formula, update: Mapping[str, Any], array_filters: Sequence[Mapping[str, Any]]
) -> Document:
    """Return what is known of the documents that `target` found, after a well-formed update."""
    after = Document({}, exists=True)
    conditions = {next(filter_identifiers(one)): _element_condition(one) for one in array_filters}
    for operator, fields in update.items():
        for path, value in fields.items():
            parts = tuple(path.split("."))
            if operator == "$rename":
                # If the source was absent, nothing happens, the destination included.
                _insert(after, parts, ABSENT, conditions)
                moved = PRESENT if implies_presence(target, parts) else UNKNOWN
                _insert(after, tuple(value.split(".")), moved, conditions)
            elif operator == "$unset" and parts[-1].isdecimal():
                _insert(after, parts, UNKNOWN, conditions)  # an element becomes null
            elif operator == "$unset" and parts[-1].startswith("$"):
                _insert(after, parts, Value(None), conditions)
            elif operator != "$setOnInsert":
                _insert(after, parts, _operator_fact(operator, value, target, parts), conditions)
    return after


def _element_condition(array_filter: Mapping[str, Any]) -> Formula:
    """Parse `{'e.qty': ...}` as a query on one element, `{'qty': ...}`."""

    def without_identifier(formula: Formula) -> Formula:
        if isinstance(formula, Leaf):
            return replace(formula, path=formula.path[1:])
        if isinstance(formula, Not):
            return Not(without_identifier(formula.part))
        if isinstance(formula, All):
            return All(tuple(map(without_identifier, formula.parts)))
        return None

    return without_identifier(parse(array_filter))


def _insert(
    document: Document,
    parts: tuple[str, ...],
    fact: Fact,
    conditions: Mapping[str, Formula],
) -> None:
    """Note that `fact` holds at the path `parts` of `document`, which is changed."""
    head, rest = parts[0], parts[1:]
    known = document.children.get(head)
    creates = is_present(fact)
    if not rest:
        document.children[head] = fact
    elif rest[0].startswith("$["):
        document.children[head] = _insert_elements(known, rest, fact, conditions)
    elif rest[0] == "$":
        document.children[head] = _ARRAY
    elif rest[0].isdecimal():
        document.children[head] = Typed(CONTAINERS) if creates else UNKNOWN
    elif isinstance(known, (Typed, Each)) and not isinstance(fact, Document):
        # Written both by position and by name, or not tellable: only presence is certain.
        document.children[head] = PRESENT
    else:
        child = known if isinstance(known, Document) else Document({})
        _insert(child, rest, fact, conditions)
        document.children[head] = Document(child.children, child.exists or creates)


def _insert_elements(
    known: Fact | None, rest: tuple[str, ...], fact: Fact, conditions: Mapping[str, Formula]
) -> Fact:
    """Return what is known of an array when `rest`, beginning with $[] or $[e], is written."""
    selector = rest[0]
    if known is not None and not (isinstance(known, Each) and known.selector == selector):
        return _ARRAY
    holder = Document({}, exists=True)
    if isinstance(known, Each):
        holder.children["element"] = known.element
    _insert(holder, ("element", *rest[1:]), fact, conditions)
    identifier = selector[2:-1]
    return Each(selector, conditions.get(identifier), holder.children["element"], bool(identifier))


def _operator_fact(operator: str, value: Any, target: Formula, parts: tuple[str, ...]) -> Fact:
    """Return what is known at the path `parts` once `operator` was applied with `value`."""
    if operator == "$inc":
        return _sum(target, parts, value)
    if operator in _VALUE_FACTS:
        return _VALUE_FACTS[operator](value)
    return _FIXED_FACTS[operator]


def _sum(target: Formula, parts: tuple[str, ...], value: Any) -> Fact:
    """Add, where the target says what the number was; a stored array is rejected."""
    known = [
        part.operand if part.operator == "$in" else [part.operand]
        for part in conjuncts(target)
        if isinstance(part, Leaf) and part.path == parts and part.operator in ("$eq", "$in")
    ]
    if not known or not all(map(_is_small_integer, [value, *known[0]])):
        return Typed(NUMBERS)
    # 1 also finds 1.0 and NumberLong(1): the sum may have any numeric type.
    return OneOf(
        tuple(
            Value(number)
            for total in (before + value for before in known[0])
            for number in (int(total), Int64(total), float(total), Decimal128(str(total)))
        )
    )


def _is_small_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**30


def _current_date(value: Any) -> Fact:
    if value is ANY_VALUE:
        return Typed(frozenset({"date", "timestamp"}))
    stamp = isinstance(value, Mapping) and value.get("$type") == "timestamp"
    return Typed(frozenset({"timestamp" if stamp else "date"}))


def _pushed(value: Any) -> Fact:
    if not (isinstance(value, Mapping) and "$each" in value):
        return Holds((constant(value).value,))
    each = value["$each"]
    if "$slice" in value or not isinstance(each, list):
        return Holds(())
    return Holds(tuple(constant(one).value for one in each))


def _pulled(value: Any) -> Fact:
    if isinstance(value, Mapping):
        formula = parse_element_query(value)
        # A query without conditions pulls sub-documents only.
        return UNKNOWN if next(conjuncts(formula), None) is None else Lacks(formula)
    if own_bracket(value) in (ARRAY, REGEX, None):
        return UNKNOWN
    return Lacks(Leaf((), "$in", [value]))


def _all_pulled(value: Any) -> Fact:
    return Lacks(Leaf((), "$in", value)) if isinstance(value, list) else UNKNOWN


_VALUE_FACTS: Final[Mapping[str, Callable[[Any], Fact]]] = {
    "$set": constant,
    "$currentDate": _current_date,
    "$push": _pushed,
    "$addToSet": _pushed,
    "$pull": _pulled,
    "$pullAll": _all_pulled,
}
_FIXED_FACTS: Final[Mapping[str, Fact]] = {
    "$unset": ABSENT,
    "$mul": Typed(NUMBERS),
    "$min": PRESENT,
    "$max": PRESENT,
    "$bit": Typed(frozenset({"int", "long"})),
    "$pop": UNKNOWN,
}
