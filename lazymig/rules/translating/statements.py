"""The statements of a rule, each way through them on its own."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, TypeVar

from lazymig.rules.tracing.source import FunctionNode, is_compiled_from_source, syntax_of
from lazymig.rules.translating.changes import assign, call_for_effect, remove
from lazymig.rules.translating.conditions import truth
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.expressions import lifted
from lazymig.rules.translating.loops import grow, known_items
from lazymig.rules.translating.outcomes import Fork, Way, condition_of, decided, leaves
from lazymig.rules.translating.symbols import (
    Computed,
    Constant,
    Left,
    Symbol,
    as_computed,
    is_plain,
)

__all__ = ["follow", "run", "source_of"]

_MOST_WAYS: Final = 64

_End = TypeVar("_End")

_REASONS: Final[Mapping[type[ast.stmt], str]] = {
    ast.While: "loops with while",
    ast.Try: "catches exceptions",
    ast.With: "has a with statement",
    ast.Break: "leaves a loop with break",
    ast.FunctionDef: "defines a function",
    ast.Global: "sets a global name",
    ast.Nonlocal: "sets a name of another function",
    ast.Match: "matches patterns",
    ast.Assert: "asserts something",
}


@dataclass(frozen=True)
class _Bind:
    """An assignment of what is known already: the next item of a loop that is unrolled."""

    target: ast.expr
    value: Symbol


class _Follower:
    """Follows statements; `finish` makes the end of a way of what `return` gives.

    `in_loop`: they are the body of a loop, which `continue` ends.
    """

    def __init__(
        self, context: Context, finish: Callable[[Symbol | None], Any], *, in_loop: bool
    ) -> None:
        self.context = context
        self.finish = finish
        self.in_loop = in_loop
        self.ways = 0

    def run(self, statements: Sequence[Any]) -> Way[Any]:
        """Follow statements to their end, in the context's own scope and names."""
        for place, statement in enumerate(statements):
            rest = statements[place + 1 :]
            if isinstance(statement, _Bind):
                assign(self.context, statement.target, statement.value)
                continue
            self.context.step(statement)
            if isinstance(statement, ast.If):
                return self._fork(statement, rest)
            if isinstance(statement, (ast.Return, ast.Continue)):
                return self._end(statement)
            if isinstance(statement, ast.Raise):
                self.context.scope.require(False)
                return Way(self.context.scope.conditions, self.finish(None))
            if isinstance(statement, ast.For):
                items = self._known_items(statement)
                if items is not None:
                    return self.run([*self._unrolled(statement, items), *rest])
                grow(self.context, statement, run)
                continue
            split = _split_choice(statement)
            if split is not None:
                return self._fork(split, rest)
            self._plain(statement)
        return Way(self.context.scope.conditions, self.finish(None))

    def _end(self, statement: ast.Return | ast.Continue) -> Way[Any]:
        is_return = isinstance(statement, ast.Return)
        if is_return is self.in_loop:
            raise Left(statement, "leaves a loop")
        value = None
        if isinstance(statement, ast.Return) and statement.value is not None:
            value = self.context.evaluate(statement.value)
        return Way(self.context.scope.conditions, self.finish(value))

    def _fork(self, statement: ast.If, rest: Sequence[Any]) -> Way[Any]:
        context = self.context
        test = truth(context, context.looked_into(statement.test), statement.test)
        if isinstance(test, bool):
            return self.run([*(statement.body if test else statement.orelse), *rest])
        self.ways += 1
        if self.ways > _MOST_WAYS:
            raise Left(statement, "has too many branches")
        conditions = context.scope.conditions
        ends = []
        for body, learned in (
            (statement.body, test.if_true),
            (statement.orelse, test.if_false),
        ):
            with (
                context.inside(context.scope.branch(learned)),
                context.naming(dict(context.names)),
                context.setting(dict(context.attributes)),
            ):
                ends.append(self.run([*body, *rest]))
        return Way(conditions, Fork(test.expression, *ends))

    def _known_items(self, statement: ast.For) -> Sequence[Symbol] | None:
        """The items of a loop over a display; `None` where they are the document's."""
        if not isinstance(statement.iter, (ast.Tuple, ast.List, ast.Name)):
            return None
        names, place = self.context.names, statement.iter
        if isinstance(place, ast.Name) and place.id in names:
            return known_items(names[place.id])
        return known_items(self.context.evaluate(place))

    def _unrolled(self, statement: ast.For, items: Sequence[Symbol]) -> list[Any]:
        leaving = (ast.Break, ast.Continue)
        if statement.orelse or any(isinstance(one, leaving) for one in ast.walk(statement)):
            raise Left(statement, "leaves a loop")
        steps: list[Any] = []
        for item in items:
            self.context.aliases.escape(item)
            steps += [_Bind(statement.target, item), *statement.body]
        return steps

    def _plain(self, statement: ast.stmt) -> None:
        context = self.context
        if isinstance(statement, ast.Assign):
            value = context.evaluate(statement.value) if _is_needed(context, statement) else None
            if value is not None and len(statement.targets) > 1:
                context.aliases.escape(value)
            for target in statement.targets:
                assign(context, target, value)
        elif isinstance(statement, ast.AnnAssign):
            if statement.value is not None:
                assign(context, statement.target, context.evaluate(statement.value))
        elif isinstance(statement, ast.AugAssign):
            self._augmented(statement)
        elif isinstance(statement, ast.Delete):
            for target in statement.targets:
                remove(context, target)
        elif isinstance(statement, ast.Expr):
            if not isinstance(statement.value, ast.Constant):
                call_for_effect(context, statement.value)
        elif isinstance(statement, (ast.Import, ast.ImportFrom)):
            _imported(context, statement)
        elif not isinstance(statement, ast.Pass):
            reason = _REASONS.get(type(statement), f"has the statement {type(statement).__name__}")
            raise Left(statement, reason)

    def _augmented(self, statement: ast.AugAssign) -> None:
        if not isinstance(statement.target, ast.Name):
            raise Left(statement, "changes a value in place")
        name = ast.copy_location(ast.Name(statement.target.id, ast.Load()), statement.target)
        joined = ast.copy_location(ast.BinOp(name, statement.op, statement.value), statement)
        value = self.context.evaluate(joined)
        if not isinstance(value, (Constant, Computed)) or "array" in as_computed(value, name).types:
            raise Left(statement, "changes a list in place")
        assign(self.context, statement.target, value)


def _is_needed(context: Context, statement: ast.Assign) -> bool:
    """Return whether a value is asked for: the target that was set without a document is known."""
    target = statement.targets[0]
    if len(statement.targets) > 1 or not isinstance(target, ast.Attribute):
        return True
    if not (isinstance(target.value, ast.Name) and target.value.id == context.handler_name):
        return True
    is_first_target = target.attr == "target" and not context.has_read
    return not (is_first_target or target.attr in ("writes", "reads"))


def _split_choice(statement: ast.stmt) -> ast.If | None:
    """An assignment of one of two values, where the ways part at it."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.value, ast.IfExp):
        return None
    if not any(isinstance(one, ast.Attribute) for one in statement.targets):
        return None
    either = statement.value
    ways = [
        ast.copy_location(ast.Assign(statement.targets, one), statement)
        for one in (either.body, either.orelse)
    ]
    return ast.copy_location(ast.If(either.test, [ways[0]], [ways[1]]), statement)


def _imported(context: Context, statement: ast.Import | ast.ImportFrom) -> None:
    for alias in statement.names:
        if isinstance(statement, ast.ImportFrom):
            module = sys.modules.get(statement.module or "") if not statement.level else None
            value = getattr(module, alias.name, None)
        else:
            value = sys.modules.get(alias.name) if "." not in alias.name else None
        if value is None:
            raise Left(statement, f"imports {alias.name}")
        name = alias.asname or alias.name
        context.names[name] = lifted(context, value, alias.name, statement)


def run(
    context: Context,
    statements: Sequence[Any],
    finish: Callable[[Symbol | None], _End],
    *,
    in_loop: bool = False,
) -> Way[_End]:
    """Follow statements to the end of each way.

    :param finish: makes the end of what `return` gives; the context is as it is there.
    :raises Left: something has no exact equal on the server.
    """
    return _Follower(context, finish, in_loop=in_loop).run(statements)


# --- Functions ------------------------------------------------------------------------------


def source_of(function: FunctionType, node: ast.AST | None) -> FunctionNode:
    """Return the syntax of a function.

    :raises Left: there is none, or the function is no plain one.
    """
    found = syntax_of(function)
    if len(found) != 1:
        raise Left(node, f"is defined where its source, {function.__name__}, cannot be read")
    if not is_compiled_from_source(function):
        raise Left(node, f"needs the source of {function.__name__}, whose file has another today")
    (source,) = found
    if isinstance(source, ast.AsyncFunctionDef) or inspect.isgeneratorfunction(function):
        raise Left(node, f"calls {function.__name__}, which is no plain function")
    decorators = [] if isinstance(source, ast.Lambda) else map(ast.unparse, source.decorator_list)
    if node is not None and set(decorators) - {"staticmethod"}:
        raise Left(node, f"calls {function.__name__}, which has a decorator")
    return source


def follow(
    context: Context,
    function: FunctionType,
    given: Sequence[Symbol],
    named: Mapping[str, Symbol],
    node: ast.AST,
) -> Symbol:
    """Return what a function gives that is called with these arguments."""
    if function.__module__ in sys.stdlib_module_names or not syntax_of(function):
        raise Left(node, f"calls {function.__name__}, for which the server has no equal")
    source = source_of(function, node)
    names = _bound(function, given, named, node)
    with context.calling(function, node), context.naming(names):
        if isinstance(source, ast.Lambda):
            return context.evaluate(source.body)
        outer, before = context.scope, dict(context.attributes)
        with context.inside(outer.branch()):
            outcome = run(context, source.body, lambda value: value or Constant(None))
        if context.attributes != before:
            raise Left(node, f"calls {function.__name__}, which sets something on self")
    if not isinstance(outcome.end, Fork):
        for condition in outcome.conditions:
            outer.require(condition)
        return outcome.end
    return _joined(context, outcome, node)


def _joined(context: Context, outcome: Way[Symbol], node: ast.AST) -> Symbol:
    context.scope.require(condition_of(outcome, lambda _: True))
    ends = [as_computed(one, node) for one in leaves(outcome)]
    types = frozenset().union(*(one.types for one in ends))
    return Computed(decided(outcome, lambda one: as_computed(one, node).expression), types)


def _bound(
    function: FunctionType,
    given: Sequence[Symbol],
    named: Mapping[str, Symbol],
    node: ast.AST,
) -> dict[str, Symbol]:
    """The names of a function at its beginning."""
    try:
        signature = inspect.signature(function)
        bound = signature.bind(*given, **named)
    except (TypeError, ValueError) as exc:
        raise Left(node, f"calls {function.__name__} with arguments that it does not take") from exc
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Left(node, f"calls {function.__name__}, which takes any arguments")
        if parameter.name not in bound.arguments:
            if not is_plain(parameter.default):
                raise Left(node, f"calls {function.__name__}, whose defaults may change")
            bound.arguments[parameter.name] = Constant(parameter.default)
    return dict(bound.arguments)
