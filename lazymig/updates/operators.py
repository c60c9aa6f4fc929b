"""The update operators: one row each, with all that the library knows of an operator.

A new operator is a new row, with the functions that it names. Whatever a row leaves out is taken
for unknown, which is safe everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from bson import Decimal128, Int64

from lazymig.query.checks import own_bracket
from lazymig.query.operators import parse_element, parse_or_opaque
from lazymig.query.tree import Compare, Node, conjuncts
from lazymig.raw.encoding import ANY_VALUE
from lazymig.raw.values import ARRAY, REGEX
from lazymig.updates.knowledge import (
    ABSENT,
    NUMBERS,
    PRESENT,
    UNKNOWN,
    Fact,
    Holds,
    Lacks,
    OneOf,
    Typed,
    Value,
    constant,
    implies_presence,
)

__all__ = ["OPERATORS", "NotForeseen", "UpdateOperator"]

Parts: TypeAlias = "tuple[str, ...]"

Left: TypeAlias = "tuple[Parts, Fact, bool]"
"""A path, what is known of it afterwards, and whether MongoDB refuses it through an array."""

_INT32: Final = range(-(2**31), 2**31)


class NotForeseen(Exception):
    """What becomes of the document is left to MongoDB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateOperator:
    """One update operator.

    `leaves`: what is known once it was applied, from the target that found the documents, a path
    and the operand. `effect`: what it makes of one document, exactly (the document before the
    update, the one it becomes, which is changed, a path, the operand); it raises `NotForeseen`
    where that is not certain. `writes`: it has an effect on stored documents. `removes`: it takes
    its path away. `moves`: the operand is the path that it moves the value to. `replaces`: what it
    leaves does not depend on what was there. `repeatable`: a second application leaves a document
    as the first one has made it. `changes_within`: it makes no list of a sub-document.
    """

    leaves: Callable[[Node, Parts, Any], Iterable[Left]] = lambda _target, parts, _operand: [
        (parts, UNKNOWN, False)
    ]
    effect: Callable[[Mapping[str, Any], dict[str, Any], str, Any], None] | None = None
    writes: bool = True
    removes: bool = False
    moves: bool = False
    replaces: bool = False
    repeatable: bool = False
    changes_within: bool = False


# --- What is known afterwards ---------------------------------------------------------------


def _leaving(fact: Callable[[Any], Fact]) -> Callable[[Node, Parts, Any], Iterable[Left]]:
    """What the operand alone says of the path."""
    return lambda _target, parts, operand: [(parts, fact(operand), True)]


def _after_unset(_target: Node, parts: Parts, _operand: Any) -> Iterable[Left]:
    if parts[-1].isdecimal():
        yield parts, UNKNOWN, True  # an element becomes null
    elif parts[-1].startswith("$"):
        yield parts, Value(None), True
    else:
        # In an array it has no effect, without being refused.
        yield parts, ABSENT, False


def _after_rename(target: Node, parts: Parts, destination: Any) -> Iterable[Left]:
    # If the source was absent, nothing happens, the destination included.
    yield parts, ABSENT, True
    is_there = implies_presence(target, parts)
    yield tuple(destination.split(".")), PRESENT if is_there else UNKNOWN, is_there


def _after_inc(target: Node, parts: Parts, operand: Any) -> Iterable[Left]:
    """Add, where the target says what the number was; a stored array is rejected."""
    known = [
        part.operand if part.operator == "$in" else [part.operand]
        for part in conjuncts(target)
        if isinstance(part, Compare) and part.path == parts and part.operator in ("$eq", "$in")
    ]
    if not known or not all(map(_is_small_integer, [operand, *known[0]])):
        yield parts, Typed(NUMBERS), True
        return
    # 1 also finds 1.0 and NumberLong(1): the sum may have any numeric type.
    sums = tuple(
        Value(number)
        for total in (before + operand for before in known[0])
        for number in (int(total), Int64(total), float(total), Decimal128(str(total)))
    )
    yield parts, OneOf(sums), True


def _is_small_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**30


def _current_date(operand: Any) -> Fact:
    if operand is ANY_VALUE:
        return Typed(frozenset({"date", "timestamp"}))
    stamp = isinstance(operand, Mapping) and operand.get("$type") == "timestamp"
    return Typed(frozenset({"timestamp" if stamp else "date"}))


def _pushed(operand: Any) -> Fact:
    if not (isinstance(operand, Mapping) and "$each" in operand):
        return Holds((constant(operand).value,))
    each = operand["$each"]
    if "$slice" in operand or not isinstance(each, list):
        return Holds(())
    return Holds(tuple(constant(one).value for one in each))


def _pulled(operand: Any) -> Fact:
    if isinstance(operand, Mapping):
        formula = parse_or_opaque(parse_element, operand)
        # A query without conditions pulls sub-documents only.
        return UNKNOWN if next(conjuncts(formula), None) is None else Lacks(formula)
    if own_bracket(operand) in (ARRAY, REGEX, None):
        return UNKNOWN
    return Lacks(Compare((), "$in", [operand]))


def _all_pulled(operand: Any) -> Fact:
    return Lacks(Compare((), "$in", operand)) if isinstance(operand, list) else UNKNOWN


# --- What one document becomes --------------------------------------------------------------


def _names(path: str) -> list[str]:
    """The names on a path that leads through sub-documents alone."""
    names = path.split(".")
    if any(name.isdecimal() or name.startswith("$") for name in names):
        raise NotForeseen
    return names


def _inner(holder: dict[str, Any], name: str) -> dict[str, Any]:
    """A sub-document, copied into its holder; an empty one where there is none."""
    found = holder.get(name, {})
    if not isinstance(found, Mapping):
        # An array, or something that MongoDB refuses to go through.
        raise NotForeseen
    holder[name] = inner = dict(found)
    return inner


def _opened(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """The sub-document that holds the last name of a path, which is made if need be; the name."""
    *names, last = _names(path)
    for name in names:
        document = _inner(document, name)
    return document, last


def _found(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    """As `_opened`, but a sub-document that is missing is not put into the document."""
    *names, last = _names(path)
    for name in names:
        document = _inner(document, name) if name in document else {}
    return document, last


def _set(_before: Mapping[str, Any], document: dict[str, Any], path: str, value: Any) -> None:
    holder, name = _opened(document, path)
    holder[name] = value


def _unset(_before: Mapping[str, Any], document: dict[str, Any], path: str, _value: Any) -> None:
    holder, name = _found(document, path)
    holder.pop(name, None)


def _increase(_before: Mapping[str, Any], document: dict[str, Any], path: str, value: Any) -> None:
    holder, name = _opened(document, path)
    if name in holder:
        if not _is_int32(holder[name]) or not _is_int32(value):
            raise NotForeseen
        value += holder[name]
        if not _is_int32(value):
            raise NotForeseen
    holder[name] = value


def _is_int32(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, (bool, Int64)) and value in _INT32


def _rename(
    before: Mapping[str, Any], document: dict[str, Any], source: str, destination: str
) -> None:
    """Move what lay at a path before the update; nothing happens if nothing did."""
    untouched = dict(before)
    holder, name = _found(untouched, source)
    # Whether its parents are documents is asked of MongoDB even if nothing is moved.
    _found(untouched, destination)
    if name in holder:
        _unset(before, document, source, None)
        _set(before, document, destination, holder[name])


# --- The table ------------------------------------------------------------------------------


class _Table(dict[str, UpdateOperator]):
    def __missing__(self, operator: str) -> UpdateOperator:
        return UpdateOperator()


OPERATORS: Final = _Table(
    {
        "$addToSet": UpdateOperator(leaves=_leaving(_pushed), repeatable=True, changes_within=True),
        "$bit": UpdateOperator(
            leaves=_leaving(lambda _: Typed(frozenset({"int", "long"}))), changes_within=True
        ),
        "$currentDate": UpdateOperator(
            leaves=_leaving(_current_date), replaces=True, repeatable=True, changes_within=True
        ),
        "$inc": UpdateOperator(leaves=_after_inc, effect=_increase, changes_within=True),
        "$max": UpdateOperator(
            leaves=_leaving(lambda _: PRESENT), repeatable=True, changes_within=True
        ),
        "$min": UpdateOperator(
            leaves=_leaving(lambda _: PRESENT), repeatable=True, changes_within=True
        ),
        "$mul": UpdateOperator(leaves=_leaving(lambda _: Typed(NUMBERS)), changes_within=True),
        "$pop": UpdateOperator(leaves=_leaving(lambda _: UNKNOWN), changes_within=True),
        "$pull": UpdateOperator(leaves=_leaving(_pulled), repeatable=True, changes_within=True),
        "$pullAll": UpdateOperator(
            leaves=_leaving(_all_pulled), repeatable=True, changes_within=True
        ),
        "$push": UpdateOperator(leaves=_leaving(_pushed), changes_within=True),
        "$rename": UpdateOperator(
            leaves=_after_rename, effect=_rename, removes=True, moves=True, repeatable=True
        ),
        "$set": UpdateOperator(
            leaves=_leaving(constant), effect=_set, replaces=True, repeatable=True
        ),
        # Nothing is upserted.
        "$setOnInsert": UpdateOperator(leaves=lambda *_: (), writes=False, repeatable=True),
        "$unset": UpdateOperator(leaves=_after_unset, effect=_unset, removes=True, repeatable=True),
    }
)
"""The operators that an update may use, by name; any other name gives a row of unknowns."""
