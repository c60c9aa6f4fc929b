"""What is known of every document once an update of operators has run.

Nothing is executed: the operators and the target that found the documents tell all. Pipelines
are read in `pipelines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bson import Decimal128, Int64

from lazymig.query.checks import own_bracket
from lazymig.query.operators import parse, parse_element, parse_or_opaque
from lazymig.query.tree import And, Compare, Node, Not, Opaque, Or, conjuncts
from lazymig.raw.encoding import ANY_VALUE
from lazymig.raw.values import ARRAY, REGEX
from lazymig.updates.knowledge import (
    ABSENT,
    ARRAY_TYPE,
    CONTAINERS,
    NUMBERS,
    PRESENT,
    UNKNOWN,
    Arrays,
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
from lazymig.updates.parents import ELEMENT, Parents, Path
from lazymig.updates.update import filter_identifiers

__all__ = ["after_operators"]


def after_operators(
    parents: Parents, update: Mapping[str, Any], array_filters: Sequence[Mapping[str, Any]]
) -> Document:
    """Return what is known of the documents that a target found, after a well-formed update.

    `parents` knows the target. MongoDB refuses to write a path through an array that no positional
    component names, with one exception: `$unset` has no effect there.
    """
    target = parents.target
    after = Document({}, exists=True)
    conditions = {next(filter_identifiers(one)): _element_condition(one) for one in array_filters}
    writing = _Writing(parents, conditions)
    for operator, fields in update.items():
        for path, value in fields.items():
            parts = tuple(path.split("."))
            if operator == "$rename":
                # If the source was absent, nothing happens, the destination included.
                writing.insert(after, parts, ABSENT)
                is_there = implies_presence(target, parts)
                moved = PRESENT if is_there else UNKNOWN
                writing.insert(after, tuple(value.split(".")), moved, refused=is_there)
            elif operator == "$unset" and parts[-1].isdecimal():
                writing.insert(after, parts, UNKNOWN)  # an element becomes null
            elif operator == "$unset" and parts[-1].startswith("$"):
                writing.insert(after, parts, Value(None))
            elif operator != "$setOnInsert":
                fact = _operator_fact(operator, value, target, parts)
                if isinstance(fact, Lacks):
                    fact = replace(fact, nested=parents.may_be_array((*_plain(parts), ELEMENT)))
                writing.insert(after, parts, fact, refused=operator != "$unset")
    return after


def _plain(parts: Path) -> Path:
    return tuple(ELEMENT if part.startswith("$") else part for part in parts)


def _element_condition(array_filter: Mapping[str, Any]) -> Node:
    """Parse `{'e.qty': ...}` as a query on one element, `{'qty': ...}`."""

    def without_identifier(formula: Node) -> Node:
        if isinstance(formula, Compare):
            return replace(formula, path=formula.path[1:])
        if isinstance(formula, Not):
            return Not(without_identifier(formula.part))
        if isinstance(formula, (And, Or)):
            return type(formula)(tuple(map(without_identifier, formula.parts)))
        return formula

    return without_identifier(parse_or_opaque(parse, array_filter))


@dataclass(frozen=True, slots=True)
class _Writing:
    """How facts are noted: what the target says of parents, and the array filters by identifier."""

    parents: Parents
    conditions: Mapping[str, Node]

    def insert(
        self,
        document: Document,
        parts: Path,
        fact: Fact,
        *,
        refused: bool = True,
        above: Path = (),
    ) -> None:
        """Note that `fact` holds at the path `parts` of `document`, which is changed.

        `refused`: the server refuses to write through an array; `above` is where the document is.
        """
        head, rest = parts[0], parts[1:]
        known = document.children.get(head)
        creates = is_present(fact)
        here = (*above, head)
        if not rest:
            document.children[head] = fact
        elif rest[0].startswith("$["):
            document.children[head] = self._insert_elements(known, rest, fact, refused, here)
        elif rest[0] == "$":
            document.children[head] = ARRAY_TYPE
        elif rest[0].isdecimal():
            document.children[head] = Typed(CONTAINERS) if creates else UNKNOWN
        elif isinstance(known, (Typed, Each)) and not isinstance(fact, Document):
            # Written both by position and by name, or not tellable: only presence is certain.
            document.children[head] = PRESENT
        else:
            child = known if isinstance(known, Document) else Document({})
            self.insert(child, rest, fact, refused=refused, above=here)
            exists = child.exists or creates
            seen = isinstance(known, Document) and known.array is Arrays.NONE
            ignored = not (refused or exists or seen) and self.parents.may_be_array(here)
            document.children[head] = Document(
                child.children, exists, Arrays.ANY if ignored else Arrays.NONE
            )

    def _insert_elements(
        self, known: Fact | None, rest: Path, fact: Fact, refused: bool, above: Path
    ) -> Fact:
        """Return what is known of an array when `rest`, beginning with $[] or $[e], is written."""
        selector = rest[0]
        if known is not None and not (isinstance(known, Each) and known.selector == selector):
            return ARRAY_TYPE
        here = (*above, ELEMENT)
        holder = Document({}, exists=True)
        if isinstance(known, Each):
            holder.children[ELEMENT] = known.element
        self.insert(holder, (ELEMENT, *rest[1:]), fact, refused=refused, above=above)
        element = holder.children[ELEMENT]
        identifier = selector[2:-1]
        ignored = isinstance(element, Document) and element.array is not Arrays.NONE
        nested = ignored or (bool(identifier) and self.parents.may_be_array(here))
        condition = self.conditions.get(identifier, Opaque())
        return Each(selector, condition, element, bool(identifier), nested)


def _operator_fact(operator: str, value: Any, target: Node, parts: tuple[str, ...]) -> Fact:
    """Return what is known at the path `parts` once `operator` was applied with `value`."""
    if operator == "$inc":
        return _sum(target, parts, value)
    if operator in _VALUE_FACTS:
        return _VALUE_FACTS[operator](value)
    return _FIXED_FACTS[operator]


def _sum(target: Node, parts: tuple[str, ...], value: Any) -> Fact:
    """Add, where the target says what the number was; a stored array is rejected."""
    known = [
        part.operand if part.operator == "$in" else [part.operand]
        for part in conjuncts(target)
        if isinstance(part, Compare) and part.path == parts and part.operator in ("$eq", "$in")
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
        formula = parse_or_opaque(parse_element, value)
        # A query without conditions pulls sub-documents only.
        return UNKNOWN if next(conjuncts(formula), None) is None else Lacks(formula)
    if own_bracket(value) in (ARRAY, REGEX, None):
        return UNKNOWN
    return Lacks(Compare((), "$in", [value]))


def _all_pulled(value: Any) -> Fact:
    return Lacks(Compare((), "$in", value)) if isinstance(value, list) else UNKNOWN


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
