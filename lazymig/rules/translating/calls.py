"""The calls of a rule: builtin functions, methods, and functions that are followed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import FunctionType
from typing import Any, Final

from bson import ObjectId

from lazymig.rules.translating.arithmetic import absolute, rounded, to_float, to_int, whole
from lazymig.rules.translating.changes import popped
from lazymig.rules.translating.characters import DIGITS, require_match
from lazymig.rules.translating.conditions import BOOL, is_instance, truth
from lazymig.rules.translating.containers import ARRAY, OBJECT, as_object, get
from lazymig.rules.translating.context import Context, evaluates
from lazymig.rules.translating.scope import is_type
from lazymig.rules.translating.statements import follow
from lazymig.rules.translating.symbols import (
    DOCUMENT,
    HANDLER,
    INTEGERS,
    Computed,
    Constant,
    Left,
    PythonObject,
    Record,
    Row,
    Symbol,
    Types,
)
from lazymig.rules.translating.text import STRING, method_of_text, text_methods, to_text

__all__: list[str] = []

_Function = Callable[[Context, Sequence[Symbol], ast.AST], Symbol]

_INT: Final[Types] = frozenset({"int"})
_DATE: Final[Types] = frozenset({"date"})
_OBJECT_ID: Final[Types] = frozenset({"objectId"})
_MOST: Final = 2**31

# What they give may hold what they are given.
_KEEPING: Final = frozenset({dict, list})


@evaluates(ast.Call)
def _call(context: Context, node: ast.Call) -> Symbol:
    if any(isinstance(one, ast.Starred) for one in node.args):
        raise Left(node, "calls with arguments of a list")
    function = node.func
    if isinstance(function, ast.Attribute):
        if function.attr == "pop" and not node.keywords:
            return popped(context, function.value, _given(context, node), node)
        owner = context.looked_into(function.value)
        if owner is HANDLER:
            return _helper(context, function.attr, node)
        if not isinstance(owner, PythonObject):
            _no_names(node)
            return _method(context, function.attr, owner, _given(context, node), node)
    called = context.evaluate(function)
    if not isinstance(called, PythonObject):
        raise Left(node, "calls what is no function")
    known = _known(called.value)
    if known is not None:
        _no_names(node)
        evaluate = context.evaluate if called.value in _KEEPING else context.looked_into
        return known(context, [evaluate(_listed(one)) for one in node.args], node)
    if isinstance(called.value, FunctionType):
        return _followed(context, called.value, [], node)
    raise Left(node, f"calls {ast.unparse(function)}, for which the server has no equal")


def _given(context: Context, node: ast.Call) -> list[Symbol]:
    return [context.evaluate(_listed(one)) for one in node.args]


def _listed(node: ast.expr) -> ast.expr:
    """A generator that is an argument, as the list that the function makes of it, in effect."""
    if not isinstance(node, ast.GeneratorExp):
        return node
    return ast.copy_location(ast.ListComp(node.elt, node.generators), node)


def _known(function: Any) -> _Function | None:
    if getattr(function, "__module__", None) == _BACKPORT:
        function = _from_iso_format
    try:
        return _FUNCTIONS.get(function)
    except TypeError:  # it has no hash
        return None


def _no_names(node: ast.Call) -> None:
    if node.keywords:
        raise Left(node, "calls with named arguments")


def _helper(context: Context, name: str, node: ast.Call) -> Symbol:
    static = inspect.getattr_static(context.handler_class, name, None)
    if isinstance(static, staticmethod) and isinstance(static.__func__, FunctionType):
        return _followed(context, static.__func__, [], node)
    if isinstance(static, FunctionType):
        return _followed(context, static, [HANDLER], node)
    raise Left(node, f"calls self.{name}, which is not followed")


def _followed(
    context: Context, function: FunctionType, first: Sequence[Symbol], node: ast.Call
) -> Symbol:
    given = [*first, *(context.evaluate(one) for one in node.args)]
    named = {}
    for one in node.keywords:
        if one.arg is None:
            raise Left(node, "calls with arguments of a dict")
        named[one.arg] = context.evaluate(one.value)
    return follow(context, function, given, named, node)


# --- Methods --------------------------------------------------------------------------------


def _method(
    context: Context, name: str, owner: Symbol, given: Sequence[Symbol], node: ast.AST
) -> Symbol:
    if name == "get" and not isinstance(owner, (Constant, Row)):
        return get(context, owner, given, node)
    if name == "copy" and not given and owner is not DOCUMENT:
        if isinstance(owner, Record):
            return to_dict(context, [owner], node)
        if isinstance(owner, Row):
            return to_list(context, [owner], node)
        cases = [
            (OBJECT, lambda value: to_dict(context, [value], node)),
            (ARRAY, lambda value: to_list(context, [value], node)),
        ]
        return context.by_type(owner, cases, node)
    if name in text_methods and not isinstance(owner, (Record, Row)) and owner is not DOCUMENT:
        return method_of_text(context, name, owner, given, node)
    if name == "append":
        raise Left(node, "appends to a list other than in a plain loop")
    raise Left(node, f"calls the method {name}, which is not translated")


# --- Functions ------------------------------------------------------------------------------


def _one(given: Sequence[Symbol], node: ast.AST) -> Symbol:
    if len(given) != 1:
        raise Left(node, "calls with other than one argument")
    return given[0]


def _int(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return to_int(context, _one(given, node), node)


def _float(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return to_float(context, _one(given, node), node)


def _str(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return to_text(context, _one(given, node), node)


def _abs(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return absolute(context, _one(given, node), node)


def _bool(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    found = truth(context, _one(given, node), node)
    return Constant(found) if isinstance(found, bool) else found


def _round(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    places = given[1] if len(given) == 2 else None
    if len(given) not in (1, 2) or not isinstance(places, (Constant, type(None))):
        raise Left(node, "rounds to a computed number of places")
    count = None if places is None else places.value
    if not (count is None or type(count) is int):
        raise Left(node, "rounds to no number of places")
    return rounded(context, given[0], count, node)


def _isinstance(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    if len(given) != 2:
        raise Left(node, "calls isinstance with other than two arguments")
    value, kinds = given
    classes = [
        one.value
        for one in (kinds.items if isinstance(kinds, Row) else [kinds])
        if isinstance(one, PythonObject)
    ]
    if not classes or (isinstance(kinds, Row) and len(classes) != len(kinds.items)):
        raise Left(node, "asks for a type that is computed")
    if value is DOCUMENT:
        raise Left(node, "asks for the type of the document")
    found = is_instance(context, value, classes, node)
    return Constant(found) if isinstance(found, bool) else found


def _len(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    value = _one(given, node)
    if isinstance(value, (Row, Record)):
        return Constant(len(value.items))
    if isinstance(value, Constant):
        raise Left(node, "asks for the length of a constant")

    def of_object(found: Computed) -> Symbol:
        fields = as_object(context, found, node).expression
        return Computed({"$size": {"$objectToArray": fields}}, _INT)

    return context.by_type(
        value,
        [
            (STRING, lambda text: Computed({"$strLenCP": text.expression}, _INT)),
            (ARRAY, lambda row: Computed({"$size": row.expression}, _INT)),
            (OBJECT, of_object),
        ],
        node,
        "asks for the length of what has none",
    )


def to_list(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Return `list(value)`, of a list."""
    if not given:
        return Row(())
    value = _one(given, node)
    if isinstance(value, Row) and value.kind is not set:
        context.aliases.share(value)
        return Row(value.items)
    found = context.require(value, ARRAY, node, "makes a list of what is none")
    return Computed(found.expression, ARRAY, found.items, fresh=True)


def to_dict(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Return `dict(value)`, of a dict."""
    if not given:
        return Record({})
    value = _one(given, node)
    if isinstance(value, Record):
        context.aliases.share(value)
        return Record(dict(value.items))
    return Computed(as_object(context, value, node).expression, OBJECT, fresh=True)


def _sum(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    value = context.require(_one(given, node), ARRAY, node, "adds up what is no list")
    name = context.variable("number")
    item = f"$${name}"
    whole_number = is_type(item, INTEGERS)
    bounds = {"$and": [{"$gte": [item, -_MOST]}, {"$lte": [item, _MOST]}]}
    test = {"$cond": [whole_number, bounds, False]}
    context.scope.require(
        {"$allElementsTrue": [{"$map": {"input": value.expression, "as": name, "in": test}}]}
    )
    return whole({"$toLong": {"$sum": value.expression}})


def _any(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return _of_tests("$anyElementTrue", context, given, node)


def _all(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    return _of_tests("$allElementsTrue", context, given, node)


def _of_tests(operator: str, context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    value = context.require(_one(given, node), ARRAY, node, "asks for the truth of no list")
    if not value.items <= BOOL:
        raise Left(node, "asks for the truth of values other than tests")
    return Computed({operator: [value.expression]}, BOOL)


def _object_id(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    def of_text(text: Computed) -> Symbol:
        regex = r"\A[0-9a-fA-F]{24}\z"
        require_match(context.scope, text.expression, regex, 24, DIGITS + "abcdefABCDEF")
        return Computed({"$toObjectId": text.expression}, _OBJECT_ID)

    value = _one(given, node)
    if isinstance(value, Constant):
        raise Left(node, "makes an ObjectId of a constant")
    return context.by_type(
        value,
        [(STRING, of_text), (_OBJECT_ID, lambda found: found)],
        node,
        "makes an ObjectId of what is none",
    )


def _from_iso(context: Context, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    """A date of text as every version of Python reads it: without a zone, to the millisecond."""
    text = context.require(_one(given, node), STRING, node, "reads a date of what is no string")
    if isinstance(given[0], Constant):
        raise Left(node, "reads a date of a constant")
    regex = (
        r"\A[1-9][0-9]{3}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
        r"(?:[T ](?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{3})?)?)?\z"
    )
    require_match(context.scope, text.expression, regex, 23, DIGITS + "-:. T")
    date = {"$dateFromString": {"dateString": text.expression, "onError": None}}
    # The server makes the first of March of the thirtieth of February.
    day = {"$dateToString": {"date": date, "format": "%Y-%m-%d"}}
    context.scope.require({"$eq": [day, {"$substrBytes": [text.expression, 0, 10]}]})
    return Computed(date, _DATE)


# On Python 3.10 some libraries, marshmallow among them, put this in the place of Python's own for
# the whole process. It reads all that ours does, and gives the same.
_BACKPORT: Final = "backports._datetime_fromisoformat"
_from_iso_format: Final = datetime.fromisoformat

_FUNCTIONS: Final[Mapping[Any, _Function]] = {
    abs: _abs,
    all: _all,
    any: _any,
    bool: _bool,
    _from_iso_format: _from_iso,
    dict: to_dict,
    float: _float,
    int: _int,
    isinstance: _isinstance,
    len: _len,
    list: to_list,
    ObjectId: _object_id,
    round: _round,
    str: _str,
    sum: _sum,
}
