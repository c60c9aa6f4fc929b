"""The documents for which MongoDB can compute an expression: an expression itself, which is total.

An `$expr` that raises for one document fails the whole query, whatever stands beside it, so that an
expression of an update is asked only where it is sure to give something.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

from bson import Int64

from lazymig.query.expressing import Expression, literal
from lazymig.query.expressions import constant_text
from lazymig.query.operators import is_expression
from lazymig.updates.expression_types import (
    ALL,
    ARRAY,
    CONVERSIONS,
    CONVERTED,
    NOTHING,
    NUMBER,
    OBJECT,
    STRICT,
    STRING,
    CannotTell,
    Known,
    Types,
    arguments,
    condition,
    hiding,
    named,
    operation,
    refined,
    types_of,
)

__all__ = ["both_hold", "computable"]


def computable(expression: Expression) -> Expression | None:
    """Return where an expression raises nothing, as an expression that never does itself.

    :return: True where that is everywhere; None where it is not known. It may be false for some
        documents for which nothing is raised. None, too, for an expression whose value depends on
        more than the document, such as the time.
    """
    try:
        return _safe(expression, {})
    except CannotTell:
        return None


def both_hold(first: Expression, second: Expression) -> Expression:
    """Return that one expression is true and then another one, which is not asked otherwise."""
    if first is True:
        return second
    return first if second is True else {"$cond": [first, second, False]}


def _all_hold(parts: Sequence[Expression]) -> Expression:
    answer: Expression = True
    for part in reversed(parts):
        answer = both_hold(part, answer)
    return answer


# --- Where nothing is raised ----------------------------------------------------------------


def _safe(expression: Expression, known: Known) -> Expression:
    if isinstance(expression, str):
        variable = expression[2:].partition(".")[0] if expression.startswith("$$") else ""
        if variable[:1].isupper() and variable not in ("ROOT", "CURRENT", "REMOVE"):
            raise CannotTell  # the time, say
        return True
    if isinstance(expression, (list, tuple)):
        return _all_hold([_safe(one, known) for one in expression])
    if not isinstance(expression, Mapping):
        return True
    if not is_expression(expression):
        return _all_hold([_safe(one, known) for one in expression.values()])
    operator, argument = operation(expression)
    if operator == "$literal":
        return True
    build = _FORMS.get(operator)
    if build is not None:
        return build(argument, known)
    if operator in CONVERSIONS:
        return _safe_conversion(operator, argument, known)
    parts = arguments(argument)
    inner = _all_hold([_safe(one, known) for one in parts])
    if operator in _TOTAL:
        return inner
    row = STRICT.get(operator)
    if row is None:
        raise CannotTell
    return both_hold(inner, _all_hold([_has(one, row[0], known) for one in parts]))


def _has(expression: Expression, types: Types, known: Known) -> Expression:
    """Where the value of an expression has one of some types."""
    given = types_of(expression, known)
    if given <= types:
        return True
    if given.isdisjoint(types):
        raise CannotTell
    _refuse_constant(expression)
    return {"$in": [{"$type": expression}, sorted(types)]}


def _refuse_constant(expression: Expression) -> None:
    """Refuse what MongoDB computes, and perhaps refuses, before it looks at a document."""
    if not any(text.startswith("$") and text != "$$REMOVE" for text in _texts_in(expression)):
        raise CannotTell


def _texts_in(expression: Expression) -> Iterator[str]:
    if isinstance(expression, str):
        yield expression
    elif isinstance(expression, Mapping):
        for name, value in expression.items():
            if name != "$literal":
                yield from _texts_in(value)
    elif isinstance(expression, (list, tuple)):
        for value in expression:
            yield from _texts_in(value)


def _safe_choice(argument: Any, known: Known) -> Expression:
    asked, then, otherwise = condition(argument)
    _refuse_constant(asked)
    branches = [
        _safe(then, refined(known, asked, holds=True)),
        _safe(otherwise, refined(known, asked, holds=False)),
    ]
    chosen: Expression = True if branches == [True, True] else {"$cond": [asked, *branches]}
    return both_hold(_safe(asked, known), chosen)


def _safe_switch(argument: Any, known: Known) -> Expression:
    branches, default = named(argument, "branches", "default")
    if not isinstance(branches, list):
        raise CannotTell
    nested = default
    for branch in reversed(branches):
        case, then = named(branch, "case", "then")
        nested = {"$cond": [case, then, nested]}
    return _safe(nested, known)


def _safe_disjunction(argument: Any, known: Known) -> Expression:
    for one in arguments(argument):
        _refuse_constant(one)
    return _safe_in_turn(argument, known)


def _safe_in_turn(argument: Any, known: Known) -> Expression:
    # Only the first is sure to be computed.
    first, *others = arguments(argument) or [None]
    for one in (first, *others[:-1]):
        _refuse_constant(one)
    if not all(_safe(one, known) is True for one in others):
        raise CannotTell
    return _safe(first, known)


def _safe_conjunction(argument: Any, known: Known) -> Expression:
    first, *others = arguments(argument) or [None]
    for one in (first, *others):
        _refuse_constant(one)
    answer = _safe(first, known)
    for one in others:
        known = refined(known, first, holds=True)
        if _safe(one, known) is not True:
            raise CannotTell
        first = one
    return answer


def _safe_let(argument: Any, known: Known) -> Expression:
    variables, inner = named(argument, "vars", "in")
    if not isinstance(variables, Mapping) or "CURRENT" in variables:
        raise CannotTell
    types = {f"$${name}": types_of(one, known) for name, one in variables.items()}
    answer = _safe(inner, {**hiding(known, variables), **types})
    if answer is not True:
        answer = {"$let": {"vars": dict(variables), "in": answer}}
    return both_hold(_all_hold([_safe(one, known) for one in variables.values()]), answer)


def _safe_each(argument: Any, known: Known, body: str) -> Expression:
    """`$map` or `$filter`, by the name of what is computed for each element."""
    array, inner, name = named(argument, "input", body, optional=("as",))
    name = name or "this"
    element = {f"$${name}": ALL - {"missing"}}
    each = _safe(inner, {**hiding(known, [name]), **element})
    answer = both_hold(_safe(array, known), _has(array, ARRAY | NOTHING, known))
    if each is True:
        return answer
    mapped = {"$map": {"input": array, "as": name, "in": each}}
    elements = {"$allElementsTrue": [{"$ifNull": [mapped, []]}]}
    return both_hold(answer, elements)


def _safe_map(argument: Any, known: Known) -> Expression:
    return _safe_each(argument, known, "in")


def _safe_entries(argument: Any, known: Known) -> Expression:
    """`$arrayToObject` of the entries of a document, each with another value."""
    (entries,) = arguments(argument)
    if not isinstance(entries, Mapping) or entries.keys() != {"$map"}:
        raise CannotTell
    entry, array, body = named(entries["$map"], "as", "input", "in")
    if not isinstance(array, Mapping) or array.keys() != {"$objectToArray"}:
        raise CannotTell
    key, value = named(body, "k", "v")
    given = {**hiding(known, [entry]), f"$${entry}.v": ALL - {"missing"}}
    if key != f"$${entry}.k" or "missing" in types_of(value, given):
        raise CannotTell
    return _safe_each(entries["$map"], known, "in")


def _safe_filter(argument: Any, known: Known) -> Expression:
    return _safe_each(argument, known, "cond")


def _safe_field(argument: Any, known: Known) -> Expression:
    field, value, *others = named(argument, "field", "input", optional=("value",))
    if constant_text(field) is None:
        raise CannotTell
    inner = _all_hold([_safe(one, known) for one in (value, *others)])
    return both_hold(inner, _has(value, OBJECT | NOTHING, known))


def _safe_read_field(argument: Any, known: Known) -> Expression:
    field, value = named(argument, "field", "input")
    if constant_text(field) is None:
        raise CannotTell
    return _safe(value, known)


def _safe_element(argument: Any, known: Known) -> Expression:
    array, *numbers = arguments(argument)
    if len(numbers) != 1 or type(numbers[0]) is not int or abs(numbers[0]) >= 2**31:
        raise CannotTell
    return both_hold(_safe(array, known), _has(array, ARRAY | NOTHING, known))


def _safe_membership(argument: Any, known: Known) -> Expression:
    value, array = _pair(argument)
    inner = both_hold(_safe(value, known), _safe(array, known))
    return both_hold(inner, _has(array, ARRAY, known))


def _safe_division(argument: Any, known: Known) -> Expression:
    dividend, divisor = _pair(argument)
    if type(divisor) not in (int, Int64) or not divisor:
        raise CannotTell
    return both_hold(_safe(dividend, known), _has(dividend, NUMBER | NOTHING, known))


def _safe_split(argument: Any, known: Known) -> Expression:
    text, separator = _pair(argument)
    if not constant_text(separator):
        raise CannotTell
    return both_hold(_safe(text, known), _has(text, STRING | NOTHING, known))


def _safe_rounding(argument: Any, known: Known) -> Expression:
    number, *places = arguments(argument)
    if not all(type(one) is int and -20 < one < 100 for one in places):
        raise CannotTell
    return both_hold(_safe(number, known), _has(number, NUMBER | NOTHING, known))


def _safe_trimming(argument: Any, known: Known) -> Expression:
    (text, chars) = named(argument, "input", optional=("chars",))
    if chars is not None and (constant_text(chars) is None or not chars):
        raise CannotTell
    return both_hold(_safe(text, known), _has(text, STRING | NOTHING, known))


def _pair(argument: Any) -> list[Any]:
    parts = arguments(argument)
    if len(parts) != 2:
        raise CannotTell
    return parts


def _safe_conversion(operator: str, argument: Any, known: Known) -> Expression:
    (value,) = arguments(argument)
    tried = {"input": value, "to": operator[3:4].lower() + operator[4:]}
    return _safe_attempt("$convert", tried, (value,), known)


def _safe_choice_of_type(argument: Any, known: Known) -> Expression:
    """`$convert`: what cannot be converted is what `onError` says, or nothing is raised."""
    value, to, *others = named(argument, "input", "to", optional=("onError", "onNull"))
    if type(to) not in (str, int) or to not in CONVERTED:
        raise CannotTell
    return _safe_attempt("$convert", argument, (value, *others), known)


def _safe_date(argument: Any, known: Known) -> Expression:
    """`$dateFromString`: `onError` is for texts that are no date, not for formats and zones."""
    text, layout, zone, *others = named(
        argument, "dateString", optional=("format", "timezone", "onError", "onNull")
    )
    if layout is not None and not (isinstance(layout, str) and _LAYOUT.fullmatch(layout)):
        raise CannotTell
    if zone is not None and not (isinstance(zone, str) and _is_zone(zone)):
        raise CannotTell
    return _safe_attempt("$dateFromString", argument, (text, *others), known)


@cache
def _is_zone(name: str) -> bool:
    """Return whether a time zone is one of all servers: their names are those of Python."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - few need what it takes to import

    try:
        return _OFFSET.fullmatch(name) is not None or bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _safe_attempt(
    operator: str, argument: Mapping[str, Any], inner: Sequence[Any], known: Known
) -> Expression:
    """An operator with an `onError`, which is asked whether it is needed if it is not given."""
    _refuse_constant(inner[0])
    safe = _all_hold([_safe(one, known) for one in inner])
    if "onError" in argument:
        return safe
    # Neither gives an object.
    failed = literal({"failed": True})
    return both_hold(safe, {"$ne": [{operator: {**argument, "onError": failed}}, failed]})


# What all versions of MongoDB know in a format, but for weeks, which it refuses beside months.
_LAYOUT: Final = re.compile(r"(?:[^%\0]|%[dHLmMSYzZ%])+")
_OFFSET: Final = re.compile(r"UTC|GMT|[+-](?:0\d|1[0-4])(?::?[0-5]\d)?")

_FORMS: Final[Mapping[str, Callable[[Any, Known], Expression]]] = {
    "$cond": _safe_choice,
    "$switch": _safe_switch,
    "$ifNull": _safe_in_turn,
    "$and": _safe_conjunction,
    "$or": _safe_disjunction,
    "$let": _safe_let,
    "$map": _safe_map,
    "$filter": _safe_filter,
    "$arrayToObject": _safe_entries,
    "$setField": _safe_field,
    "$unsetField": _safe_field,
    "$getField": _safe_read_field,
    "$convert": _safe_choice_of_type,
    "$dateFromString": _safe_date,
    "$arrayElemAt": _safe_element,
    "$slice": _safe_element,
    "$in": _safe_membership,
    "$divide": _safe_division,
    "$mod": _safe_division,
    "$split": _safe_split,
    "$round": _safe_rounding,
    "$trunc": _safe_rounding,
    "$trim": _safe_trimming,
    "$ltrim": _safe_trimming,
    "$rtrim": _safe_trimming,
}

_TOTAL: Final = frozenset(
    {
        *("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$cmp", "$not", "$type", "$isArray"),
        *("$isNumber", "$sum", "$max", "$min"),
    }
)
