"""The containers of a rule: subscripts, slices, displays, the methods of dicts and lists."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any, Final

from lazymig.rules.translating.characters import require_letters
from lazymig.rules.translating.conditions import is_reference, same_as
from lazymig.rules.translating.context import Context, evaluates
from lazymig.rules.translating.scope import choice
from lazymig.rules.translating.symbols import (
    DOCUMENT,
    MISSING,
    Computed,
    Constant,
    Left,
    Record,
    Row,
    Symbol,
    Types,
    as_computed,
    is_name,
    is_plain,
)

__all__ = ["ARRAY", "OBJECT", "as_object", "get", "items_of", "subscript"]

ARRAY: Final[Types] = frozenset({"array"})
OBJECT: Final[Types] = frozenset({"object"})
_STRING: Final[Types] = frozenset({"string"})
_HASHABLE: Final[Types] = frozenset(
    {"string", "int", "long", "double", "bool", "null", "objectId", "date"}
)


def as_object(
    context: Context, symbol: Symbol, node: ast.AST, otherwise: str = "needs a dict"
) -> Computed:
    """Return what is a dict in Python: an object that is not read as a reference.

    :param otherwise: the reason where it never is one.
    :raises Left: it never is.
    """
    if isinstance(symbol, Record):
        return as_computed(symbol, node)
    value = context.require(symbol, OBJECT, node, otherwise)
    if isinstance(symbol, Computed) and not symbol.fresh:
        context.scope.require({"$not": [is_reference(value.expression)]})
    return value


def _key(symbol: Symbol, node: ast.AST) -> str:
    if not isinstance(symbol, Constant):
        raise Left(node, "reads a field whose name is computed")
    if not is_name(symbol.value):
        raise Left(node, f"reads the field {symbol.value!r}")
    return str(symbol.value)


def subscript(context: Context, owner: Symbol, key: Symbol, node: ast.AST) -> Symbol:
    """Return `owner[key]`."""
    if owner is DOCUMENT:
        return context.present(_field(context, key, node), node)
    if isinstance(owner, Record):
        if isinstance(key, Constant):
            return _of_record(owner, key, node)
        return _looked_up(context, owner, key, None, node)
    if isinstance(owner, (Row, Constant)):
        return _of_constants(owner, key, node)
    if isinstance(key, Constant) and type(key.value) is int:
        return _at(context, owner, key.value, node)
    value = as_object(context, owner, node, "reads a field of what is no dict")
    return context.present(context.member(value, _key(key, node)), node)


def _field(context: Context, key: Symbol, node: ast.AST) -> Computed:
    """A field of the document, whose container the rule has now at hand."""
    name = _key(key, node)
    context.aliases.read(name)
    return context.field(name)


def _of_record(owner: Record, key: Constant, node: ast.AST) -> Symbol:
    found: Symbol | None = owner.items.get(key.value)
    if found is None:
        raise Left(node, f"reads the key {key.value!r}, which is not there")
    return found


def _of_constants(owner: Row | Constant, key: Symbol, node: ast.AST) -> Symbol:
    if not isinstance(key, Constant):
        raise Left(node, "has an index that is computed")
    try:
        if isinstance(owner, Row) and owner.kind is not set:
            item: Symbol = owner.items[key.value]
            return item
        if isinstance(owner, Constant) and is_plain(found := owner.value[key.value]):
            return Constant(found)
    except (IndexError, TypeError, KeyError) as exc:
        raise Left(node, "has an index that is not there") from exc
    raise Left(node, "has an index into what has none")


def _looked_up(
    context: Context, table: Record, key: Symbol, default: Symbol | None, node: ast.AST
) -> Symbol:
    """A table of constants as `$switch`, in effect; without a default the key must be in it."""
    value = context.present(as_computed(key, node), node)
    if not table.items:
        raise Left(node, "looks into an empty table")
    if any(type(one) is float for one in table.items) or _mixes_bool(list(table.items)):
        raise Left(node, "has a table whose keys are alike")
    hashable = context.require(value, _HASHABLE, node, "has a key that no dict can have")
    if default is None:
        found = same_as(context, hashable, list(table.items), node)
        if isinstance(found, bool):
            raise Left(node, "has no such key in its table")
        context.scope.require(found.expression)
        for key_, types in found.if_true.items():
            context.scope.learn_key(key_, types)
    return _switch(context, hashable, list(table.items.items()), default, node)


def _mixes_bool(keys: Sequence[Any]) -> bool:
    return len({type(key) for key in keys} & {bool, int}) == 2


def _switch(
    context: Context,
    key: Computed,
    rows: Sequence[tuple[Any, Symbol]],
    default: Symbol | None,
    node: ast.AST,
) -> Symbol:
    """What belongs to a key; without a default it is one of those of the rows."""
    branches: list[tuple[Any, Computed]] = []
    last = None if default is None else as_computed(default, node)
    for constant, found in rows:
        test = same_as(context, key, [constant], node)
        if test is True:
            last = as_computed(found, node)
            break
        if isinstance(test, Computed):
            branches.append((test.expression, as_computed(found, node)))
    if last is None:
        last = branches.pop()[1]
    types = frozenset(last.types).union(*(value.types for _, value in branches))
    if len(branches) < 2:
        expression = last.expression
        for test_, value in branches:
            expression = choice(test_, value.expression, expression)
        return Computed(expression, types)
    cases = [{"case": case, "then": value.expression} for case, value in branches]
    return Computed({"$switch": {"branches": cases, "default": last.expression}}, types)


def _at(context: Context, owner: Symbol, index: int, node: ast.AST) -> Symbol:
    """An element of a list, or a character of a string."""

    def of_list(value: Computed) -> Symbol:
        size = {"$size": value.expression}
        context.scope.require({"$gt": [size, index if index >= 0 else -index - 1]})
        return Computed({"$arrayElemAt": [value.expression, index]}, value.items)

    def of_text(value: Computed) -> Symbol:
        if index < 0:
            raise Left(node, "counts the characters of a string from its end")
        require_letters(context.scope, value.expression)
        context.scope.require({"$gt": [{"$strLenCP": value.expression}, index]})
        return Computed({"$substrCP": [value.expression, index, 1]}, _STRING)

    cases = [(ARRAY, of_list)] if index < 0 else [(ARRAY, of_list), (_STRING, of_text)]
    return context.by_type(owner, cases, node, "has an index into what is no list")


def get(context: Context, owner: Symbol, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Return `owner.get(key, default)`."""
    if not 1 <= len(given) <= 2:
        raise Left(node, "calls get with other arguments than a key and a default")
    key, default = given[0], given[1] if len(given) > 1 else Constant(None)
    if isinstance(owner, Record):
        if isinstance(key, Constant):
            context.aliases.share(owner)
            return owner.items.get(key.value, default)
        return _looked_up(context, owner, key, default, node)
    if owner is DOCUMENT:
        found = _field(context, key, node)
    else:
        found = context.member(as_object(context, owner, node), _key(key, node))
    types = context.types_of(found)
    if MISSING not in types:
        return Computed(found.expression, types)
    if types == {MISSING}:
        return default
    there = types - {MISSING}
    if isinstance(default, Constant) and default.value is None:
        return Computed(
            {"$ifNull": [found.expression, None]},
            (there - {"undefined"}) | {"null"},
            origin=found.expression,
        )
    value = as_computed(default, node)
    test = {"$eq": [{"$type": found.expression}, MISSING]}
    return Computed(
        choice(test, value.expression, found.expression), there | context.types_of(value)
    )


def items_of(context: Context, owner: Symbol, node: ast.AST) -> Computed:
    """Return the fields of an object, each as an object of `k` and `v`."""
    value = as_object(context, owner, node)
    return Computed({"$objectToArray": value.expression}, ARRAY)


# --- Displays -------------------------------------------------------------------------------


@evaluates(ast.List, ast.Tuple, ast.Set)
def _row(context: Context, node: ast.List | ast.Tuple | ast.Set) -> Symbol:
    kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
    parts: list[Symbol] = []
    pending: list[Symbol] = []
    for item in node.elts:
        if not isinstance(item, ast.Starred):
            pending.append(context.evaluate(item))
            continue
        spread = context.evaluate(item.value)
        if isinstance(spread, Row) and spread.kind is not set:
            context.aliases.share(spread)
            pending += spread.items
            continue
        parts += [Row(tuple(pending)), context.require(spread, ARRAY, item, "unpacks no list")]
        pending = []
    if not parts:
        return Row(tuple(pending), kind)
    if kind is set:
        raise Left(node, "makes a set of computed values")
    joined = [as_computed(part, node).expression for part in (*parts, Row(tuple(pending)))]
    return Computed({"$concatArrays": joined}, ARRAY, fresh=True)


@evaluates(ast.Dict)
def _record(context: Context, node: ast.Dict) -> Symbol:
    parts: list[Symbol] = []
    fields: dict[Any, Symbol] = {}
    for key, item in zip(node.keys, node.values, strict=True):
        if key is not None:
            name = context.evaluate(key)
            if not isinstance(name, Constant) or not is_plain(name.value):
                raise Left(key, "makes a dict with a key that is computed")
            fields[name.value] = context.evaluate(item)
            continue
        spread = context.evaluate(item)
        if isinstance(spread, Record):
            context.aliases.share(spread)
            fields.update(spread.items)
            continue
        parts += [Record(fields), as_object(context, spread, item)]
        fields = {}
    return merged([*parts, Record(fields)], node)


def merged(parts: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Return the dict that has the keys of all of these; the last value of a key counts."""
    if len(parts) == 1:
        return parts[0]
    expressions: list[Any] = []
    for part in parts:
        if isinstance(part, Record) and not part.items:
            continue
        expression = as_computed(part, node).expression
        is_record = isinstance(part, Record)
        expressions += expression["$mergeObjects"] if is_record else [expression]
    return Computed({"$mergeObjects": expressions}, OBJECT, fresh=True)


@evaluates(ast.Subscript)
def _subscript(context: Context, node: ast.Subscript) -> Symbol:
    owner = context.looked_into(node.value)
    if isinstance(node.slice, ast.Slice):
        return _sliced(context, owner, node.slice, node)
    found = subscript(context, owner, context.evaluate(node.slice), node)
    if isinstance(owner, (Row, Record)):
        # It stays in its container, and may get a name of its own.
        context.aliases.escape(found)
    return found


def _sliced(context: Context, owner: Symbol, part: ast.Slice, node: ast.AST) -> Symbol:
    lower, upper = (_bound(context, one, node) for one in (part.lower, part.upper))
    if part.step is not None:
        raise Left(node, "has a slice with a step")
    if isinstance(owner, Constant) and isinstance(owner.value, (str, tuple)):
        return Constant(owner.value[lower:upper])
    if isinstance(owner, Row) and owner.kind is not set:
        context.aliases.share(owner)
        return Row(owner.items[lower:upper], owner.kind)
    start = lower or 0
    if (start < 0 and upper is not None) or (upper is not None and upper < 0):
        raise Left(node, "has a slice that is counted from the end")
    most = 2**31 - 1 if upper is None else max(0, upper - start)

    def of_list(value: Computed) -> Symbol:
        if not most:
            return Row(())
        span = [start] if start < 0 else [start, most]
        return Computed({"$slice": [value.expression, *span]}, ARRAY, value.items, fresh=True)

    def of_text(value: Computed) -> Symbol:
        require_letters(context.scope, value.expression)
        length = {"$strLenCP": value.expression}
        first = {"$max": [0, {"$add": [length, start]}]} if start < 0 else start
        return Computed({"$substrCP": [value.expression, first, most]}, _STRING)

    return context.by_type(
        owner, [(_STRING, of_text), (ARRAY, of_list)], node, "takes a slice of no list or string"
    )


def _bound(context: Context, node: ast.expr | None, whole: ast.AST) -> int | None:
    if node is None:
        return None
    found = context.evaluate(node)
    if not isinstance(found, Constant) or not (found.value is None or type(found.value) is int):
        raise Left(whole, "has a slice whose bounds are computed")
    value: int | None = found.value
    return value
