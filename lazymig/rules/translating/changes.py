"""The changes that a rule makes to its own names, dicts and lists."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from typing import Any

from lazymig.rules.translating.containers import ARRAY, OBJECT, as_object, get, merged, subscript
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.symbols import (
    HANDLER,
    Computed,
    Constant,
    Left,
    Record,
    Row,
    Symbol,
    as_computed,
)

__all__ = ["assign", "call_for_effect", "popped", "remove"]

_DECLARED = frozenset({"writes", "reads"})


def assign(context: Context, target: ast.expr, value: Symbol | None) -> None:
    """Follow an assignment; the value is `None` where it is not asked for.

    :raises Left: it changes what is not the rule's own.
    """
    if isinstance(target, ast.Name) and value is not None:
        context.names[target.id] = value
    elif isinstance(target, (ast.Tuple, ast.List)) and value is not None:
        _unpack(context, target, value)
    elif isinstance(target, ast.Attribute):
        _set_attribute(context, target, value)
    elif isinstance(target, ast.Subscript) and value is not None:
        _change(context, target, value)
    else:
        raise Left(target, "assigns to several names at once")


def _unpack(context: Context, target: ast.Tuple | ast.List, value: Symbol) -> None:
    count = len(target.elts)
    if any(isinstance(one, ast.Starred) for one in target.elts):
        raise Left(target, "assigns to several names at once")
    if isinstance(value, Row) and value.kind is not set:
        items: Sequence[Symbol] = value.items
        if context.aliases.has_escaped(value):
            context.aliases.share(value)
    elif isinstance(value, Constant) and isinstance(value.value, tuple):
        items = [Constant(one) for one in value.value]
    else:
        found = context.require(value, ARRAY, target, "unpacks what is no list")
        context.scope.require({"$eq": [{"$size": found.expression}, count]})
        items = [
            Computed({"$arrayElemAt": [found.expression, place]}, found.items)
            for place in range(count)
        ]
    if len(items) != count:
        raise Left(target, "unpacks as many values as there are not")
    for one, item in zip(target.elts, items, strict=True):
        assign(context, one, item)


def _set_attribute(context: Context, target: ast.Attribute, value: Symbol | None) -> None:
    if context.evaluate(target.value) is not HANDLER:
        raise Left(target, "sets an attribute")
    name = target.attr
    if name in _DECLARED or (name == "target" and value is None):
        return
    if value is None:
        raise Left(target, "sets several attributes at once")
    if name == "array_filters":
        raise Left(target, "sets array filters")
    if name == "target":
        if not context.has_read and _plain(value) == context.target:
            return
        raise Left(target, "sets its target after it has read the document")
    if hasattr(inspect.getattr_static(context.handler_class, name, None), "__set__"):
        raise Left(target, f"sets self.{name}, which does something")
    context.attributes[name] = value


def _plain(value: Symbol) -> Any:
    if isinstance(value, Record):
        return {key: _plain(item) for key, item in value.items.items()}
    if isinstance(value, Row):
        return [_plain(item) for item in value.items]
    return value.value if isinstance(value, Constant) else value


# --- Containers -----------------------------------------------------------------------------


def _place(context: Context, node: ast.expr) -> tuple[dict[str, Symbol], str]:
    """Where the name is that a change begins with."""
    if isinstance(node, ast.Name) and node.id in context.names:
        return context.names, node.id
    if (
        isinstance(node, ast.Attribute)
        and context.evaluate(node.value) is HANDLER
        and node.attr in context.attributes
    ):
        return context.attributes, node.attr
    raise Left(node, "changes what is not its own")


def _own(context: Context, symbol: Symbol, node: ast.AST) -> Symbol:
    """The container, which no other name may stand for."""
    if context.is_conditional:
        raise Left(node, "changes a container within an expression")
    is_own = isinstance(symbol, (Record, Row)) or (isinstance(symbol, Computed) and symbol.fresh)
    if not is_own:
        raise Left(node, "changes what it has read, or what is none of its dicts")
    if context.aliases.has_escaped(symbol):
        raise Left(node, "changes a container that is used elsewhere, too")
    return symbol


def _change(context: Context, target: ast.Subscript, value: Symbol) -> None:
    """Follow `name[key][key] = value`."""
    keys: list[Any] = []
    node: ast.expr = target
    while isinstance(node, ast.Subscript):
        key = context.evaluate(node.slice)
        if not isinstance(key, Constant):
            raise Left(node, "sets a key that is computed")
        keys.insert(0, key.value)
        node = node.value
    holder, name = _place(context, node)
    holder[name] = _with(context, holder[name], keys, value, target)


def _with(
    context: Context, owner: Symbol, keys: Sequence[Any], value: Symbol, node: ast.AST
) -> Symbol:
    own = _own(context, owner, node)
    key, *rest = keys
    if isinstance(own, Record):
        if rest:
            if key not in own.items:
                raise Left(node, f"sets something in {key!r}, which is not there")
            value = _with(context, own.items[key], rest, value, node)
        return Record({**own.items, key: value})
    if not rest and isinstance(own, Computed) and context.types_of(own) <= OBJECT:
        return merged([own, Record({key: value})], node)
    raise Left(node, "changes a container in a container")


def remove(context: Context, target: ast.expr) -> None:
    """Follow `del name[key]`."""
    if not isinstance(target, ast.Subscript):
        raise Left(target, "deletes a name")
    popped(context, target.value, [context.evaluate(target.slice)], target)


def popped(context: Context, owner: ast.expr, given: Sequence[Symbol], node: ast.AST) -> Symbol:
    """Follow `name.pop(key, default)`; return what it gives."""
    holder, name = _place(context, owner)
    own = _own(context, holder[name], node)
    if not 1 <= len(given) <= 2 or not isinstance(given[0], Constant):
        raise Left(node, "removes a key that is computed")
    key = given[0]
    if isinstance(own, Record):
        value = (
            subscript(context, own, key, node)
            if len(given) == 1
            else get(context, own, given, node)
        )
        holder[name] = Record({one: item for one, item in own.items.items() if one != key.value})
        return value
    if not isinstance(own, Computed) or not context.types_of(own) <= OBJECT:
        raise Left(node, "removes an item of a list")
    value = (
        subscript(context, own, key, node) if len(given) == 1 else get(context, own, given, node)
    )
    rest = {"$unsetField": {"field": key.value, "input": own.expression}}
    holder[name] = Computed(rest, OBJECT, fresh=True)
    return value


def call_for_effect(context: Context, node: ast.expr) -> None:
    """Follow a call whose result is not used.

    :raises Left: it does something other than to change a container of the rule.
    """
    function = node.func if isinstance(node, ast.Call) else None
    if not isinstance(node, ast.Call) or not isinstance(function, ast.Attribute):
        raise Left(
            node, f"calls {ast.unparse(function or node)}, for which the server has no equal"
        )
    given = node.args
    if function.attr == "pop" and not node.keywords:
        popped(context, function.value, [context.evaluate(one) for one in given], node)
        return
    if function.attr not in ("append", "update") or len(given) != 1 or node.keywords:
        raise Left(node, f"calls {ast.unparse(function)}, for which the server has no equal")
    value = context.evaluate(given[0])
    holder, name = _place(context, function.value)
    own = _own(context, holder[name], node)
    if function.attr == "append":
        holder[name] = _appended(own, value, node)
    elif isinstance(own, Record) and isinstance(value, Record):
        context.aliases.share(value)
        holder[name] = Record({**own.items, **value.items})
    else:
        context.require(own, OBJECT, node, "updates what is no dict")
        other = as_object(context, value, node)
        holder[name] = merged([own, other], node)


def _appended(own: Symbol, value: Symbol, node: ast.AST) -> Symbol:
    if isinstance(own, Row) and own.kind is list:
        return Row((*own.items, value))
    if isinstance(own, Computed) and own.types <= ARRAY:
        joined = {"$concatArrays": [own.expression, [as_computed(value, node).expression]]}
        return Computed(joined, ARRAY, fresh=True)
    raise Left(node, "appends to what is no list of its own")
