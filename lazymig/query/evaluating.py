"""The aggregation expressions that are answered in memory, for targets by `$expr`.

Only what a condition on embedded documents needs is known. Every answer is that of MongoDB 6.0
under the simple collation; what cannot be answered exactly, or raises there, is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from bson import DBRef, Decimal128

from lazymig.query.checks import Judge
from lazymig.query.expressions import constant_text
from lazymig.query.operators import is_expression
from lazymig.raw.values import (
    ARRAY,
    BOOL,
    DOCUMENT,
    HIDDEN,
    MISSING,
    NULL,
    NUMBER,
    TYPE_NAMES,
    Unjudgeable,
    bracket,
    compare,
    decimal_of,
    equal,
    field,
    is_array,
    is_document,
    known_bracket,
    type_code,
)

__all__ = ["compile_expression"]

Variables: TypeAlias = "Mapping[str, Any]"
Compiled: TypeAlias = Callable[[Variables], Any]

_DEEPEST: Final = 100


class _Unsupported(Exception):
    """MongoDB alone evaluates this expression."""


class _Unbound(Unjudgeable):
    """A variable has no value that is known here."""


def compile_expression(expression: Any) -> Judge | None:
    """Compile the operand of `$expr` to a predicate on raw documents.

    :return: the predicate, which answers None where MongoDB has to be asked; None: it always has.
    """
    try:
        value = _compiled(expression, 0)
    except _Unsupported:
        return None

    def judge(document: Any) -> bool | None:
        try:
            return _is_true(value({"ROOT": document, "CURRENT": document}))
        except Unjudgeable:
            return None

    return judge


def _compiled(expression: Any, depth: int) -> Compiled:
    if depth > _DEEPEST:
        raise _Unsupported
    if isinstance(expression, str) and expression.startswith("$"):
        return _path(expression)
    if is_array(expression):
        items = [_compiled(one, depth + 1) for one in expression]
        return lambda given: [_or_null(item(given)) for item in items]
    if isinstance(expression, DBRef):
        raise _Unsupported
    if is_document(expression) and not is_expression(expression):
        return _object(expression, depth)
    if not isinstance(expression, Mapping):
        if bracket(expression) is None:
            raise _Unsupported
        return lambda _given: expression
    if len(expression) != 1:
        raise _Unsupported
    ((name, argument),) = expression.items()
    if name == "$literal":
        return lambda _given: argument
    build = _OPERATORS.get(name)
    if build is None:
        raise _Unsupported
    computed = build(argument, depth + 1)
    _check_constant(computed)
    return computed


def _check_constant(computed: Compiled) -> None:
    """Refuse what raises without looking at a document: MongoDB computes it in any case."""
    try:
        computed({})
    except _Unbound:
        return
    except Unjudgeable as exc:
        raise _Unsupported from exc


def _object(fields: Mapping[str, Any], depth: int) -> Compiled:
    if any("." in name for name in fields):
        raise _Unsupported
    compiled = {name: _compiled(value, depth + 1) for name, value in fields.items()}

    def made(given: Variables) -> Any:
        found = {name: value(given) for name, value in compiled.items()}
        return {name: value for name, value in found.items() if value is not MISSING}

    return made


# --- Paths and variables ----------------------------------------------------------------


def _path(text: str) -> Compiled:
    variable, *names = (
        text[2:].split(".") if text.startswith("$$") else ("CURRENT", *text[1:].split("."))
    )
    if variable == "REMOVE" and not names:
        return lambda _given: MISSING
    if not all((variable, *names)) or any(name.startswith("$") for name in names):
        raise _Unsupported

    def looked_up(given: Variables) -> Any:
        if variable not in given:
            raise _Unbound
        value = given[variable]
        return _at(value, names) if names else value

    return looked_up


def _at(value: Any, names: list[str]) -> Any:
    """Return what is at a path; of an array, those of its documents that have something there."""
    for place, name in enumerate(names):
        if type(value) is dict:
            value = value.get(name, MISSING)
            continue
        if is_array(value):
            found = (_at(one, names[place:]) for one in value if _is_document(one))
            return [one for one in found if one is not MISSING]
        if not _is_document(value):
            return MISSING
        value = field(value, name)
        if value is HIDDEN:
            raise Unjudgeable
    return value


def _is_document(value: Any) -> bool:
    return known_bracket(value) == DOCUMENT


# --- Values -----------------------------------------------------------------------------


def _or_null(value: Any) -> Any:
    return None if value is MISSING else value


def _is_true(value: Any) -> bool:
    if type(value) is bool:
        return value
    kind = known_bracket(value)
    if value is MISSING or kind == NULL:
        return False
    if isinstance(value, Decimal128):
        return not decimal_of(value).is_zero()
    return bool(value) if kind in (BOOL, NUMBER) else True


def _order(left: Any, right: Any) -> int:
    """Order two values of any types, as expressions do."""
    return known_bracket(left) - known_bracket(right) or compare(left, right)


def _is_equal(left: Any, right: Any) -> bool:
    if type(left) is str and type(right) is str:
        return left == right
    return known_bracket(left) == known_bracket(right) and equal(left, right)


def _type_name(value: Any) -> str:
    if value is MISSING:
        return "missing"
    code = type_code(value)
    if code is None:
        raise Unjudgeable
    return TYPE_NAMES[code]


def _array(value: Any) -> Any:
    """Return a value that has to be an array, or the server raises."""
    if not is_array(value):
        raise Unjudgeable
    return value


def _entries(value: Any) -> Any:
    if _or_null(value) is None:
        return None
    if not _is_document(value) or isinstance(value, DBRef):
        raise Unjudgeable
    return [{"k": name, "v": item} for name, item in value.items()]


# --- Operators --------------------------------------------------------------------------


def _arguments(argument: Any, depth: int, count: int | None = None) -> list[Compiled]:
    given = argument if is_array(argument) else [argument]
    if count is not None and len(given) != count:
        raise _Unsupported
    return [_compiled(one, depth) for one in given]


def _of_one(compute: Callable[[Any], Any]) -> Callable[[Any, int], Compiled]:
    def build(argument: Any, depth: int) -> Compiled:
        (value,) = _arguments(argument, depth, 1)
        return lambda given: compute(value(given))

    return build


def _of_two(compute: Callable[[Any, Any], Any]) -> Callable[[Any, int], Compiled]:
    def build(argument: Any, depth: int) -> Compiled:
        left, right = _arguments(argument, depth, 2)
        return lambda given: compute(left(given), right(given))

    return build


def _and(argument: Any, depth: int) -> Compiled:
    parts = _arguments(argument, depth)
    return lambda given: all(_is_true(part(given)) for part in parts)


def _or(argument: Any, depth: int) -> Compiled:
    parts = _arguments(argument, depth)
    return lambda given: any(_is_true(part(given)) for part in parts)


def _cond(argument: Any, depth: int) -> Compiled:
    if isinstance(argument, Mapping):
        if argument.keys() != {"if", "then", "else"}:
            raise _Unsupported
        argument = [argument["if"], argument["then"], argument["else"]]
    condition, then, otherwise = _arguments(argument, depth, 3)
    return lambda given: then(given) if _is_true(condition(given)) else otherwise(given)


def _if_null(argument: Any, depth: int) -> Compiled:
    *tried, default = _arguments(argument, depth)

    def first(given: Variables) -> Any:
        for one in tried:
            value = one(given)
            if _or_null(value) is not None:
                return value
        return default(given)

    return first


def _let(argument: Any, depth: int) -> Compiled:
    if not isinstance(argument, Mapping) or argument.keys() != {"vars", "in"}:
        raise _Unsupported
    named = {name: _compiled(value, depth) for name, value in argument["vars"].items()}
    inner = _compiled(argument["in"], depth)

    def let(given: Variables) -> Any:
        return inner({**given, **{name: value(given) for name, value in named.items()}})

    return let


def _map(argument: Any, depth: int) -> Compiled:
    if not isinstance(argument, Mapping) or not {"input", "in"} <= argument.keys() <= {
        *("input", "as", "in")
    }:
        raise _Unsupported
    name = argument.get("as", "this")
    array, inner = _compiled(argument["input"], depth), _compiled(argument["in"], depth)

    def mapped(given: Variables) -> Any:
        values = array(given)
        if _or_null(values) is None:
            return None
        scope = dict(given)
        results = []
        for one in _array(values):
            scope[name] = one
            results.append(_or_null(inner(scope)))
        return results

    return mapped


def _get_field(argument: Any, depth: int) -> Compiled:
    if not isinstance(argument, Mapping) or argument.keys() != {"field", "input"}:
        raise _Unsupported
    name = constant_text(argument["field"])
    if name is None:
        raise _Unsupported
    value = _compiled(argument["input"], depth)

    def looked_up(given: Variables) -> Any:
        found = value(given)
        if _or_null(found) is None:
            return found
        return _at(found, [name]) if _is_document(found) else MISSING

    return looked_up


_OPERATORS: Final[Mapping[str, Callable[[Any, int], Compiled]]] = {
    "$and": _and,
    "$or": _or,
    "$not": _of_one(lambda value: not _is_true(value)),
    "$cond": _cond,
    "$ifNull": _if_null,
    "$let": _let,
    "$map": _map,
    "$getField": _get_field,
    "$objectToArray": _of_one(_entries),
    "$anyElementTrue": _of_one(lambda value: any(map(_is_true, _array(value)))),
    "$allElementsTrue": _of_one(lambda value: all(map(_is_true, _array(value)))),
    "$isArray": _of_one(lambda value: known_bracket(value) == ARRAY),
    "$type": _of_one(_type_name),
    "$in": _of_two(lambda value, array: any(_is_equal(value, one) for one in _array(array))),
    "$eq": _of_two(_is_equal),
    "$ne": _of_two(lambda left, right: not _is_equal(left, right)),
    "$gt": _of_two(lambda left, right: _order(left, right) > 0),
    "$gte": _of_two(lambda left, right: _order(left, right) >= 0),
    "$lt": _of_two(lambda left, right: _order(left, right) < 0),
    "$lte": _of_two(lambda left, right: _order(left, right) <= 0),
}
