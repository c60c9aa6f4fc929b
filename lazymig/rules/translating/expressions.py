"""The expressions of a rule that join others: names, attributes, operators, choices."""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import re
import types
from collections.abc import Callable
from typing import Any, Final

from lazymig.rules.translating.arithmetic import binary, negative
from lazymig.rules.translating.conditions import BOOL, compare, negated, truth
from lazymig.rules.translating.context import Context, evaluates
from lazymig.rules.translating.symbols import (
    DOCUMENT,
    HANDLER,
    Computed,
    Constant,
    Left,
    PythonObject,
    Record,
    Row,
    Symbol,
    as_computed,
    is_plain,
)

__all__ = ["lifted"]

# What PEP 8 writes constants in.
_CONSTANT: Final = re.compile(r"_*[A-Z][A-Z0-9_]*")
_TABLES: Final = frozenset({dict, list, tuple, set})

_OUTSIDE: Final = {"collection": "the collection", "status": "whether a report is being made"}


def lifted(context: Context, value: Any, name: str, node: ast.AST) -> Symbol:
    """Return an object from outside of the rule; data only under a name in capitals.

    :param name: as the source has it, with what it is an attribute of.
    :raises Left: it may change.
    """
    is_table = type(value) in _TABLES and not is_plain(value)
    if is_plain(value) or is_table:
        if not _CONSTANT.fullmatch(name.rpartition(".")[2]):
            raise Left(
                node, f"reads {name}, which may change; write it in capitals if it never does"
            )
        if not is_table:
            return Constant(value)
        if not value:
            raise Left(node, f"reads {name}, which is empty when the class is defined")
        return _table(context, value, name, node)
    if isinstance(value, (enum.Enum, type, types.ModuleType)) or callable(value):
        return PythonObject(value)
    raise Left(node, f"reads {name}, a {type(value).__name__}, which may change")


def _table(context: Context, value: Any, name: str, node: ast.AST) -> Symbol:
    """A copy of a dict, a list, a tuple or a set of plain data, which the rule may only read."""
    context.step(node)
    if is_plain(value):
        return Constant(value)
    found: Symbol
    if type(value) is dict and all(map(is_plain, value)):
        found = Record({key: _table(context, one, name, node) for key, one in value.items()})
    elif type(value) in _TABLES - {dict}:
        found = Row(tuple(_table(context, one, name, node) for one in value), type(value))
    else:
        raise Left(node, f"reads {name}, which holds a {type(value).__name__}")
    context.aliases.escape(found)
    return found


@evaluates(ast.Constant)
def _constant(_context: Context, node: ast.Constant) -> Symbol:
    if not is_plain(node.value):
        raise Left(node, "has a constant that cannot be stored")
    return Constant(node.value)


@evaluates(ast.Name)
def _name(context: Context, node: ast.Name) -> Symbol:
    if node.id in context.names:
        found = context.names[node.id]
        context.aliases.escape(found)
        return found
    function = context.calls[-1]
    code = function.__code__
    if node.id in code.co_varnames or node.id in code.co_cellvars:
        raise Left(node, f"reads {node.id}, which may not be set here")
    if node.id in code.co_freevars and function.__closure__:
        cell = function.__closure__[code.co_freevars.index(node.id)]
        try:
            return lifted(context, cell.cell_contents, node.id, node)
        except ValueError as exc:
            raise Left(node, f"reads {node.id}, which is not set yet") from exc
    if node.id in function.__globals__:
        return lifted(context, function.__globals__[node.id], node.id, node)
    if hasattr(builtins, node.id):
        return lifted(context, getattr(builtins, node.id), node.id, node)
    raise Left(node, f"reads {node.id}, which is not set")


@evaluates(ast.Attribute)
def _attribute(context: Context, node: ast.Attribute) -> Symbol:
    owner = context.evaluate(node.value)
    name = node.attr
    if owner is HANDLER:
        return _of_handler(context, name, node)
    if isinstance(owner, PythonObject):
        value = owner.value
        found = getattr(value, name, None) if name in ("value", "name") else None
        if isinstance(value, enum.Enum) and found is not None and is_plain(found):
            return Constant(found)
        if isinstance(value, (type, types.ModuleType)) and hasattr(value, name):
            return lifted(context, getattr(value, name), ast.unparse(node), node)
    raise Left(node, f"reads the attribute {name}")


def _of_handler(context: Context, name: str, node: ast.AST) -> Symbol:
    if name == "doc":
        context.has_read = True
        return DOCUMENT
    if name == "doc_class":
        return PythonObject(context.doc_class)
    if name in _OUTSIDE:
        raise Left(node, f"asks for {_OUTSIDE[name]}")
    if name in context.attributes:
        context.aliases.escape(context.attributes[name])
        return context.attributes[name]
    static = inspect.getattr_static(context.handler_class, name, None)
    if is_plain(static) and static is not None:
        return Constant(static)
    if type(static) in _TABLES:
        return lifted(context, static, f"self.{name}", node)
    raise Left(node, f"reads self.{name}")


@evaluates(ast.Compare)
def _compare(context: Context, node: ast.Compare) -> Symbol:
    left = context.evaluate(node.left)
    rows = list(zip(node.ops, node.comparators, strict=True))

    def answer(place: int, left: Symbol) -> Symbol:
        operator, comparator = rows[place]
        is_in = isinstance(operator, (ast.In, ast.NotIn))
        right = (context.looked_into if is_in else context.evaluate)(comparator)
        found = compare(context, operator, left, right, node)
        symbol = Constant(found) if isinstance(found, bool) else found
        if place == len(rows) - 1:
            return symbol
        return _chosen(
            context, symbol, lambda: answer(place + 1, right), lambda: Constant(False), node
        )

    return answer(0, left)


def _chosen(
    context: Context,
    test: Symbol,
    yes: Callable[[], Symbol],
    no: Callable[[], Symbol],
    node: ast.AST,
) -> Symbol:
    """What one or the other gives, as the truth of a value decides."""
    decided = truth(context, test, node)
    if isinstance(decided, bool):
        return yes() if decided else no()
    return context.either(decided, yes, no, node)


@evaluates(ast.BoolOp)
def _bool_op(context: Context, node: ast.BoolOp) -> Symbol:
    first, *others = node.values
    rest: ast.expr = others[0]
    if len(others) > 1:
        rest = ast.copy_location(ast.BoolOp(node.op, others), node)
    left = context.evaluate(first)
    is_and = isinstance(node.op, ast.And)
    decided = truth(context, left, node)
    if isinstance(decided, bool):
        return context.evaluate(rest) if decided is is_and else left
    seen: list[Symbol] = []

    def right() -> Symbol:
        seen.append(context.evaluate(rest))
        return seen[-1]

    def kept() -> Symbol:
        if context.types_of(as_computed(left, node)) <= BOOL:
            return Constant(not is_and)
        value = as_computed(left, node)
        return Computed(value.expression, context.types_of(value))

    found = context.either(decided, *((right, kept) if is_and else (kept, right)), node)
    other = seen[0]
    learned = other if isinstance(other, Computed) else Computed(None)
    if found.types <= BOOL:
        both = {**decided.if_true, **learned.if_true} if is_and else {}
        neither = {} if is_and else {**decided.if_false, **learned.if_false}
        return Computed(found.expression, BOOL, if_true=both, if_false=neither)
    return found


@evaluates(ast.IfExp)
def _if_expression(context: Context, node: ast.IfExp) -> Symbol:
    return _chosen(
        context,
        context.looked_into(node.test),
        lambda: context.evaluate(node.body),
        lambda: context.evaluate(node.orelse),
        node,
    )


@evaluates(ast.UnaryOp)
def _unary(context: Context, node: ast.UnaryOp) -> Symbol:
    value = context.looked_into(node.operand)
    if isinstance(node.op, ast.Not):
        decided = truth(context, value, node)
        return Constant(not decided) if isinstance(decided, bool) else negated(decided)
    if isinstance(node.op, ast.USub):
        return negative(context, value, node)
    raise Left(node, f"has the operator {type(node.op).__name__}")


@evaluates(ast.BinOp)
def _binary(context: Context, node: ast.BinOp) -> Symbol:
    left = context.evaluate(node.left)
    return binary(context, node.op, left, context.evaluate(node.right), node)
