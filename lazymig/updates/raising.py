"""The documents for which MongoDB can compute an expression: an expression itself, which is total.

An `$expr` that raises for one document fails the whole query, whatever stands beside it, so that an
expression of an update is asked only where it is sure to give something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from bson import Int64

from lazymig.query.expressing import Expression, literal
from lazymig.query.operators import is_expression
from lazymig.raw.values import TYPE_ALIASES, TYPE_NAMES, type_code

__all__ = ["both_hold", "computable"]

Types: TypeAlias = frozenset[str]
"""Aliases of `$type`, `missing` among them."""

Known: TypeAlias = Mapping[str, Types]
"""The types that the values of paths and variables have, where a condition around says it."""


class _CannotTell(Exception):
    """There are documents for which the expression may raise, or give another value tomorrow."""


def computable(expression: Expression) -> Expression | None:
    """Return where an expression raises nothing, as an expression that never does itself.

    :return: True where that is everywhere; None where it is not known. It may be false for some
        documents for which nothing is raised. None, too, for an expression whose value depends on
        more than the document, such as the time.
    """
    try:
        return _safe(expression, {})
    except _CannotTell:
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


# --- Types --------------------------------------------------------------------------------


def _types(names: str) -> Types:
    return frozenset(names.split())


_NOTHING: Final = _types("missing null undefined")
_STRING: Final = _types("string")
_ARRAY: Final = _types("array")
_OBJECT: Final = _types("object")
_BOOL: Final = _types("bool")
_NUMBER: Final = _types("int long double decimal")
_ALL: Final = frozenset(TYPE_ALIASES) | {"missing"}


def _types_of(expression: Expression, known: Known) -> Types:
    """Return the types that an expression may give."""
    if isinstance(expression, str) and expression.startswith("$"):
        return known.get(expression, _VARIABLES.get(expression, _ALL))
    if isinstance(expression, (list, tuple)):
        return _ARRAY
    if not isinstance(expression, Mapping):
        code = type_code(expression)
        return _ALL if code is None else frozenset({TYPE_NAMES[code]})
    if not is_expression(expression):
        return _OBJECT
    operator, argument = _operation(expression)
    if operator == "$literal":
        code = type_code(argument)
        return _ALL if code is None else frozenset({TYPE_NAMES[code]})
    if operator == "$cond":
        asked, then, otherwise = _condition(argument)
        return _types_of(then, _refined(known, asked, holds=True)) | _types_of(
            otherwise, _refined(known, asked, holds=False)
        )
    if operator == "$ifNull":
        *tried, default = [_types_of(one, known) for one in _arguments(argument)]
        return frozenset().union(*(one - _NOTHING for one in tried), default)
    if operator in _CONVERSIONS:
        return _CONVERSIONS[operator] | {"null"}
    if operator in ("$setField", "$unsetField"):
        value, *_ = _named(argument, "input", optional=("field", "value"))
        return _OBJECT if _types_of(value, known) <= _OBJECT else _types("object null")
    row = _STRICT.get(operator)
    if row is not None:
        of_nothing = any(_types_of(one, known) & _NOTHING for one in _arguments(argument))
        return row[1] if of_nothing or "null" not in row[1] else row[1] - {"null"}
    return _RESULTS.get(operator, _ALL)


def _refined(known: Known, condition: Expression, *, holds: bool) -> Known:
    """Return what is known besides where a condition holds, or does not."""
    if not is_expression(condition) or len(condition) != 1:
        return known
    ((operator, argument),) = condition.items()
    parts = _arguments(argument)
    if operator == "$not" and len(parts) == 1:
        return _refined(known, parts[0], holds=not holds)
    if operator == ("$and" if holds else "$or"):
        for part in parts:
            known = _refined(known, part, holds=holds)
        return known
    found = _typed(operator, parts)
    if found is None:
        return known
    name, types, positive = found
    given = known.get(name, _ALL)
    return {**known, name: given & types if positive is holds else given - types}


def _typed(operator: str, parts: Sequence[Any]) -> tuple[str, Types, bool] | None:
    """Return the path whose types a condition names, and whether it may have these or others."""
    if operator == "$isArray" and len(parts) == 1 and _is_path(parts[0]):
        return parts[0], _ARRAY, True
    if operator == "$isNumber" and len(parts) == 1 and _is_path(parts[0]):
        return parts[0], _NUMBER, True
    if operator not in ("$eq", "$ne", "$in") or len(parts) != 2:
        return None
    asked, wanted = parts
    if not isinstance(asked, Mapping) or asked.keys() != {"$type"}:
        return None
    (path,) = _arguments(asked["$type"])
    names = wanted if operator == "$in" else [wanted]
    if not _is_path(path) or not isinstance(names, list):
        return None
    if not all(isinstance(name, str) and not name.startswith("$") for name in names):
        return None
    return path, frozenset(names), operator != "$ne"


def _is_path(expression: Any) -> bool:
    return isinstance(expression, str) and expression.startswith("$")


# --- Where nothing is raised ----------------------------------------------------------------


def _safe(expression: Expression, known: Known) -> Expression:
    if isinstance(expression, str):
        variable = expression[2:].partition(".")[0] if expression.startswith("$$") else ""
        if variable[:1].isupper() and variable not in ("ROOT", "CURRENT", "REMOVE"):
            raise _CannotTell  # the time, say
        return True
    if isinstance(expression, (list, tuple)):
        return _all_hold([_safe(one, known) for one in expression])
    if not isinstance(expression, Mapping):
        return True
    if not is_expression(expression):
        return _all_hold([_safe(one, known) for one in expression.values()])
    operator, argument = _operation(expression)
    if operator == "$literal":
        return True
    build = _FORMS.get(operator)
    if build is not None:
        return build(argument, known)
    if operator in _CONVERSIONS:
        return _safe_conversion(operator, argument, known)
    parts = _arguments(argument)
    inner = _all_hold([_safe(one, known) for one in parts])
    if operator in _TOTAL:
        return inner
    row = _STRICT.get(operator)
    if row is None:
        raise _CannotTell
    return both_hold(inner, _all_hold([_has(one, row[0], known) for one in parts]))


def _has(expression: Expression, types: Types, known: Known) -> Expression:
    """Where the value of an expression has one of some types."""
    given = _types_of(expression, known)
    if given <= types:
        return True
    if given.isdisjoint(types):
        raise _CannotTell
    _refuse_constant(expression)
    return {"$in": [{"$type": expression}, sorted(types)]}


def _refuse_constant(expression: Expression) -> None:
    """Refuse what MongoDB computes, and perhaps refuses, before it looks at a document."""
    if not any(text.startswith("$") and text != "$$REMOVE" for text in _texts_in(expression)):
        raise _CannotTell


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


def _operation(expression: Mapping[str, Any]) -> tuple[str, Any]:
    if len(expression) != 1:
        raise _CannotTell
    ((operator, argument),) = expression.items()
    return operator, argument


def _arguments(argument: Any) -> list[Any]:
    return list(argument) if isinstance(argument, (list, tuple)) else [argument]


def _named(argument: Any, *names: str, optional: Sequence[str] = ()) -> list[Any]:
    """Return the arguments of an operator that names them."""
    if not isinstance(argument, Mapping) or not set(names) <= argument.keys():
        raise _CannotTell
    if not argument.keys() <= {*names, *optional}:
        raise _CannotTell
    return [argument.get(name) for name in (*names, *optional)]


def _condition(argument: Any) -> list[Any]:
    if isinstance(argument, Mapping):
        return _named(argument, "if", "then", "else")
    parts = _arguments(argument)
    if len(parts) != 3:
        raise _CannotTell
    return parts


def _safe_choice(argument: Any, known: Known) -> Expression:
    asked, then, otherwise = _condition(argument)
    _refuse_constant(asked)
    branches = [
        _safe(then, _refined(known, asked, holds=True)),
        _safe(otherwise, _refined(known, asked, holds=False)),
    ]
    chosen: Expression = True if branches == [True, True] else {"$cond": [asked, *branches]}
    return both_hold(_safe(asked, known), chosen)


def _safe_switch(argument: Any, known: Known) -> Expression:
    branches, default = _named(argument, "branches", "default")
    if not isinstance(branches, list):
        raise _CannotTell
    nested = default
    for branch in reversed(branches):
        case, then = _named(branch, "case", "then")
        nested = {"$cond": [case, then, nested]}
    return _safe(nested, known)


def _safe_disjunction(argument: Any, known: Known) -> Expression:
    for one in _arguments(argument):
        _refuse_constant(one)
    return _safe_in_turn(argument, known)


def _safe_in_turn(argument: Any, known: Known) -> Expression:
    # Only the first is sure to be computed.
    first, *others = _arguments(argument) or [None]
    for one in (first, *others[:-1]):
        _refuse_constant(one)
    if not all(_safe(one, known) is True for one in others):
        raise _CannotTell
    return _safe(first, known)


def _safe_conjunction(argument: Any, known: Known) -> Expression:
    first, *others = _arguments(argument) or [None]
    for one in (first, *others):
        _refuse_constant(one)
    answer = _safe(first, known)
    for one in others:
        known = _refined(known, first, holds=True)
        if _safe(one, known) is not True:
            raise _CannotTell
        first = one
    return answer


def _safe_let(argument: Any, known: Known) -> Expression:
    variables, inner = _named(argument, "vars", "in")
    if not isinstance(variables, Mapping) or "CURRENT" in variables:
        raise _CannotTell
    types = {f"$${name}": _types_of(one, known) for name, one in variables.items()}
    answer = _safe(inner, {**_without(known, variables), **types})
    if answer is not True:
        answer = {"$let": {"vars": dict(variables), "in": answer}}
    return both_hold(_all_hold([_safe(one, known) for one in variables.values()]), answer)


def _without(known: Known, names: Any) -> dict[str, Types]:
    """What is known besides variables that get another value."""
    hidden = {f"$${name}" for name in names}
    return {path: types for path, types in known.items() if path.partition(".")[0] not in hidden}


def _safe_each(argument: Any, known: Known, body: str) -> Expression:
    """`$map` or `$filter`, by the name of what is computed for each element."""
    array, inner, name = _named(argument, "input", body, optional=("as",))
    name = name or "this"
    element = {f"$${name}": _ALL - {"missing"}}
    each = _safe(inner, {**_without(known, [name]), **element})
    answer = both_hold(_safe(array, known), _has(array, _ARRAY | _NOTHING, known))
    if each is True:
        return answer
    mapped = {"$map": {"input": array, "as": name, "in": each}}
    elements = {"$allElementsTrue": [{"$ifNull": [mapped, []]}]}
    return both_hold(answer, elements)


def _safe_map(argument: Any, known: Known) -> Expression:
    return _safe_each(argument, known, "in")


def _safe_filter(argument: Any, known: Known) -> Expression:
    return _safe_each(argument, known, "cond")


def _safe_field(argument: Any, known: Known) -> Expression:
    field, value, *others = _named(argument, "field", "input", optional=("value",))
    if not _is_constant_text(field):
        raise _CannotTell
    inner = _all_hold([_safe(one, known) for one in (value, *others)])
    return both_hold(inner, _has(value, _OBJECT | _NOTHING, known))


def _safe_read_field(argument: Any, known: Known) -> Expression:
    field, value = _named(argument, "field", "input")
    if not _is_constant_text(field):
        raise _CannotTell
    return _safe(value, known)


def _is_constant_text(field: Any) -> bool:
    if isinstance(field, Mapping) and field.keys() == {"$literal"}:
        return isinstance(field["$literal"], str)
    return isinstance(field, str) and not field.startswith("$")


def _safe_element(argument: Any, known: Known) -> Expression:
    array, *numbers = _arguments(argument)
    if len(numbers) != 1 or type(numbers[0]) is not int or abs(numbers[0]) >= 2**31:
        raise _CannotTell
    return both_hold(_safe(array, known), _has(array, _ARRAY | _NOTHING, known))


def _safe_membership(argument: Any, known: Known) -> Expression:
    value, array = _pair(argument)
    inner = both_hold(_safe(value, known), _safe(array, known))
    return both_hold(inner, _has(array, _ARRAY, known))


def _safe_division(argument: Any, known: Known) -> Expression:
    dividend, divisor = _pair(argument)
    if type(divisor) not in (int, Int64) or not divisor:
        raise _CannotTell
    return both_hold(_safe(dividend, known), _has(dividend, _NUMBER | _NOTHING, known))


def _safe_split(argument: Any, known: Known) -> Expression:
    text, separator = _pair(argument)
    if not _is_constant_text(separator) or separator in ("", {"$literal": ""}):
        raise _CannotTell
    return both_hold(_safe(text, known), _has(text, _STRING | _NOTHING, known))


def _safe_rounding(argument: Any, known: Known) -> Expression:
    number, *places = _arguments(argument)
    if not all(type(one) is int and -20 < one < 100 for one in places):
        raise _CannotTell
    return both_hold(_safe(number, known), _has(number, _NUMBER | _NOTHING, known))


def _safe_trimming(argument: Any, known: Known) -> Expression:
    (text, chars) = _named(argument, "input", optional=("chars",))
    if chars is not None and not (_is_constant_text(chars) and chars):
        raise _CannotTell
    return both_hold(_safe(text, known), _has(text, _STRING | _NOTHING, known))


def _pair(argument: Any) -> list[Any]:
    parts = _arguments(argument)
    if len(parts) != 2:
        raise _CannotTell
    return parts


def _safe_conversion(operator: str, argument: Any, known: Known) -> Expression:
    (value,) = _arguments(argument)
    _refuse_constant(value)
    # No conversion gives an object.
    failed = {"failed": True}
    tried = {"$convert": {"input": value, "to": operator[3:4].lower() + operator[4:]}}
    tried["$convert"]["onError"] = literal(failed)
    return both_hold(_safe(value, known), {"$ne": [tried, literal(failed)]})


_FORMS: Final[Mapping[str, Callable[[Any, Known], Expression]]] = {
    "$cond": _safe_choice,
    "$switch": _safe_switch,
    "$ifNull": _safe_in_turn,
    "$and": _safe_conjunction,
    "$or": _safe_disjunction,
    "$let": _safe_let,
    "$map": _safe_map,
    "$filter": _safe_filter,
    "$setField": _safe_field,
    "$unsetField": _safe_field,
    "$getField": _safe_read_field,
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

_VARIABLES: Final[Mapping[str, Types]] = {
    "$$ROOT": _OBJECT,
    "$$CURRENT": _OBJECT,
    "$$REMOVE": frozenset({"missing"}),
}

_CONVERSIONS: Final[Mapping[str, Types]] = {
    "$toInt": _types("int"),
    "$toLong": _types("long"),
    "$toDouble": _types("double"),
    "$toDecimal": _types("decimal"),
    "$toString": _STRING,
    "$toBool": _BOOL,
    "$toDate": _types("date"),
    "$toObjectId": _types("objectId"),
}


def _strict() -> Iterator[tuple[str, tuple[Types, Types]]]:
    # The types that all arguments must have, and those of the result.
    for taken, given, operators in (
        (_STRING | _NOTHING, _STRING | {"null"}, "$concat"),
        (_STRING | _NOTHING, _STRING, "$toLower $toUpper"),
        (_STRING, _types("int"), "$strLenCP $strLenBytes"),
        (_ARRAY, _types("int"), "$size"),
        (_ARRAY, _BOOL, "$anyElementTrue $allElementsTrue"),
        (_ARRAY | _NOTHING, _ALL, "$first $last"),
        (_ARRAY | _NOTHING, _ARRAY | {"null"}, "$concatArrays $reverseArray"),
        (_OBJECT | _NOTHING, _ARRAY | {"null"}, "$objectToArray"),
        (_OBJECT | _NOTHING, _OBJECT, "$mergeObjects"),
        (_NUMBER | _NOTHING, _NUMBER | {"null"}, "$add $subtract $multiply $floor $ceil"),
    ):
        for operator in operators.split():
            yield operator, (taken, given)


_STRICT: Final = dict(_strict())

_RESULTS: Final[Mapping[str, Types]] = {
    **dict.fromkeys(("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$not", "$and", "$or"), _BOOL),
    **dict.fromkeys(("$isArray", "$isNumber", "$in"), _BOOL),
    "$type": _STRING,
    "$cmp": _types("int"),
    **dict.fromkeys(("$map", "$filter", "$split", "$slice"), _ARRAY | {"null"}),
    **dict.fromkeys(("$trim", "$ltrim", "$rtrim"), _STRING | {"null"}),
    **dict.fromkeys(("$divide", "$mod", "$round", "$trunc"), _NUMBER | {"null"}),
}
