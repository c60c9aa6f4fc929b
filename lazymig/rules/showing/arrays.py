"""The results of the operators on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from bson import DBRef, Decimal128

from lazymig.query.checks import is_regex
from lazymig.query.expressing import Expression, literal
from lazymig.query.operators import LOGICAL, is_reference
from lazymig.rules.showing.elements import answered
from lazymig.rules.showing.leaves import NewValue, Unshown
from lazymig.rules.showing.logic import chosen, has_type, is_array, is_missing, negated

__all__ = ["popped", "pulled", "pulled_all", "pushed", "with_members"]

_INT: Final = range(-(2**31), 2**31)
_MOST: Final = _INT[-1]


def _of_array(value: str, changed: Expression) -> NewValue:
    """What becomes of an array; MongoDB refuses whatever else is there."""
    return NewValue(changed, refused=negated(is_array(value)))


def _of_array_or_nothing(value: str, build: Callable[[str], Expression]) -> NewValue:
    """What becomes of an array, which is an empty one where there is nothing."""
    given = chosen(is_missing(value), [], value)
    changed = {"$let": {"vars": {"stored": given}, "in": build("$$stored")}}
    refused = negated({"$or": [is_missing(value), is_array(value)]})
    return NewValue(changed, refused=refused)


# --- Adding -----------------------------------------------------------------------------------


def pushed(value: str, operand: Any) -> NewValue:
    """Return what `$push` leaves: inserted at a position first, then sorted, then cut."""
    if not (isinstance(operand, Mapping) and "$each" in operand):
        return _of_array_or_nothing(value, lambda array: _inserted(array, [operand], None))
    unknown = operand.keys() - {"$each", "$position", "$sort", "$slice"}
    if unknown or not isinstance(operand["$each"], (list, tuple)):
        raise Unshown(f"gives $push what MongoDB refuses ({operand!r})")
    position = _whole(operand, "$position")
    limit = _whole(operand, "$slice")
    order = _order_of(operand["$sort"]) if "$sort" in operand else None

    def made(array: str) -> Expression:
        result = _inserted(array, operand["$each"], position)
        if order is not None:
            result = {"$sortArray": {"input": result, "sortBy": order}}
        if limit is not None:
            result = {"$slice": [result, limit]} if limit else []
        return result

    return _of_array_or_nothing(value, made)


def _inserted(array: str, new: Sequence[Any], position: int | None) -> Expression:
    inner: Expression = {"$literal": list(new)}
    if position is None:
        return {"$concatArrays": [array, inner]}
    if position >= 0:
        before = {"$slice": [array, position]} if position else []
        return {"$concatArrays": [before, inner, {"$slice": [array, position, _MOST]}]}
    # From the end, or from the beginning of a shorter array.
    rest = {"$subtract": [{"$size": array}, -position]}
    before = chosen({"$gt": [rest, 0]}, {"$slice": [array, {"$max": [rest, 1]}]}, [])
    return {"$concatArrays": [before, inner, {"$slice": [array, position]}]}


def _whole(modifiers: Mapping[str, Any], name: str) -> int | None:
    """Return the number of a modifier, as far as an array can be long."""
    if name not in modifiers:
        return None
    number = modifiers[name]
    if isinstance(number, Decimal128) and number.to_decimal().is_finite():
        number = number.to_decimal()
    try:
        whole = int(number)
    except (TypeError, ValueError, OverflowError):
        whole = None
    if whole is None or isinstance(number, (bool, str)) or whole != number:
        raise Unshown(f"gives {name} of $push what is no whole number ({modifiers[name]!r})")
    return max(-_MOST, min(whole, _MOST))


def _order_of(given: Any) -> int | dict[str, int]:
    """Return what `$sortArray` sorts by, for an operand of `$sort`.

    Both give the same order, also to elements that neither comes before the other.
    """
    if isinstance(given, Mapping):
        order = {str(path): _direction(one) for path, one in given.items()}
        if order and all(all(path.split(".")) and "$" not in path for path in order):
            return order
        raise Unshown(f"gives $sort of $push what is no order ({given!r})")
    return _direction(given)


def _direction(given: Any) -> int:
    if isinstance(given, (int, float)) and not isinstance(given, bool) and given in (1, -1):
        return int(given)
    raise Unshown(f"gives $sort of $push what is no order ({given!r})")


def with_members(value: str, operand: Any) -> NewValue:
    """Return what `$addToSet` leaves: what is added is none that is there, or was added before."""
    if not (isinstance(operand, Mapping) and next(iter(operand), None) == "$each"):
        return _of_array_or_nothing(
            value,
            lambda array: chosen(
                {"$in": [literal(operand), array]}, array, _inserted(array, [operand], None)
            ),
        )
    new = operand["$each"]
    if len(operand) > 1 or not isinstance(new, (list, tuple)):
        raise Unshown(f"gives $addToSet what MongoDB refuses ({operand!r})")
    kept = chosen(
        {"$in": ["$$this", "$$value"]}, "$$value", {"$concatArrays": ["$$value", ["$$this"]]}
    )
    return _of_array_or_nothing(
        value,
        lambda array: {
            "$reduce": {"input": {"$literal": list(new)}, "initialValue": array, "in": kept}
        },
    )


# --- Removing ---------------------------------------------------------------------------------


def popped(value: str, end: Any) -> NewValue:
    """Return what `$pop` leaves: all but the last element, or the first."""
    number = end.to_decimal() if isinstance(end, Decimal128) else end
    if isinstance(end, bool) or number not in (1, -1):
        raise Unshown(f"gives $pop neither 1 nor -1 ({end!r})")
    size = {"$size": value}
    rest: Expression = {"$slice": [value, 1, _MOST]}
    if number == 1:
        # A length has to be positive.
        most = {"$max": [1, {"$subtract": [size, 1]}]}
        rest = chosen({"$gt": [size, 1]}, {"$slice": [value, 0, most]}, [])
    return _of_array(value, rest)


def pulled_all(value: str, operand: Any) -> NewValue:
    """Return what `$pullAll` leaves: the elements that are equal to none of some values."""
    if not isinstance(operand, (list, tuple)):
        raise Unshown(f"gives $pullAll what is no list ({operand!r})")
    return _without(value, {"$in": ["$$one", {"$literal": list(operand)}]})


def pulled(value: str, operand: Any) -> NewValue:
    """Return what `$pull` leaves: the elements that are no value, or do not answer a condition."""
    if isinstance(operand, DBRef):
        operand = operand.as_doc()
    if isinstance(operand, Mapping):
        first = next(iter(operand), "")
        if first == "$not":
            raise Unshown(f"pulls elements by a condition that MongoDB refuses ({operand!r})")
        if not first.startswith("$") or first in LOGICAL or is_reference(first):
            # A query on sub-documents, which nothing else answers, whatever it asks.
            answers = chosen(has_type("$$one", "object"), answered("$$one", operand), False)
            return _without(value, answers)
    elif not is_regex(operand):
        return _without(value, {"$eq": ["$$one", literal(operand)]})
    # As of a field with that value: arrays answer by their elements, too.
    return _without(value, answered({"one": "$$one"}, {"one": operand}))


def _without(value: str, answers: Expression) -> NewValue:
    kept = {"$filter": {"input": value, "as": "one", "cond": negated(answers)}}
    return _of_array(value, kept)
