"""The statements of a rule that is read and not run."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lazymig.rules.tracing.callers import Caller
from lazymig.rules.tracing.conditions import truth
from lazymig.rules.tracing.expressions import Expressions, defined
from lazymig.rules.tracing.frames import Arguments, Frame, GaveUp
from lazymig.rules.tracing.source import syntax_of
from lazymig.rules.tracing.values import (
    HANDLER,
    NONE,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Known,
    Values,
    is_object,
    limited,
    one,
    reachable,
    without_constants,
)

__all__ = ["Tracer"]

_MOST_ROUNDS: Final = 25

# Turns of a loop after which its constants are any values.
_MOST_TURNS: Final = 4


class Tracer(Expressions):
    """Follows a rule, statement by statement, with the functions that it calls.

    Where the source does not say a value it is `UNKNOWN`; what may happen is never left out, what
    cannot happen may be taken for possible.
    """

    def __init__(self, handler_class: type, doc_class: Any) -> None:
        super().__init__(handler_class, doc_class)
        self.caller = Caller(self)

    def trace(self, method: Any) -> None:
        """Follow a rule method until nothing new is found.

        :raises GaveUp: it cannot be followed.
        """
        if not syntax_of(method):
            raise GaveUp(None)
        for _round in range(_MOST_ROUNDS):
            before = self.version
            init = _own_init(self.handler_class)
            if init is not None:
                given = Arguments([one(HANDLER), one(Known(self.doc_class))])
                self.caller.call(Known(init), given, None)
            self.caller.call_method(method, Arguments([one(HANDLER)]))
            if self.version == before:
                return
        raise GaveUp(None)

    def run(self, frame: Frame) -> None:
        """Follow the body of a function."""
        self.frames.append(frame)
        frame.names = dict(frame.parameters)
        for name, values in frame.parameters.items():
            self.widen(frame.cells, name, values)
        try:
            if isinstance(frame.node, ast.Lambda):
                self.give_back(self.eval(frame.node.body))
            else:
                self.block(frame.node.body)
        finally:
            self.frames.pop()

    def give_back(self, values: Values) -> None:
        """Note what the function may return."""
        before = self.frame.returns
        self.frame.returns = limited(before | values)
        if self.frame.returns != before:
            self.version += 1

    def block(self, statements: Sequence[ast.stmt]) -> None:
        """Follow statements, in order."""
        for statement in statements:
            self.step(statement)
            _STATEMENTS.get(type(statement).__name__, Tracer.give_up)(self, statement)


def _assign(tracer: Tracer, node: Any) -> None:
    values = tracer.eval(node.value)
    for target in node.targets:
        tracer.assign(target, values, node.value)


def _annotated(tracer: Tracer, node: Any) -> None:
    if node.value is not None:
        tracer.assign(node.target, tracer.eval(node.value), node.value)


def _augmented(tracer: Tracer, node: Any) -> None:
    loaded = tracer.eval(_loading(tracer, node.target))
    added = tracer.eval(node.value)
    for value in loaded:
        if not isinstance(value, Box):
            continue
        if isinstance(node.op, ast.BitOr):
            tracer.caller.merge(value, added, node.value)
        elif isinstance(node.op, ast.Add):
            tracer.put(value, [UNKNOWN], tracer.elements(added), node.value)
        elif isinstance(node.op, ast.Mult):
            tracer.put(value, [UNKNOWN], value.all(), node.value)
    kept = frozenset(value for value in loaded if isinstance(value, Box))
    others = loaded - kept
    result = kept | (tracer.combined(node.op, others, added, node) if others else NOTHING)
    tracer.assign(node.target, result, node.value)


def _loading(tracer: Tracer, target: Any) -> ast.expr:
    """The target of an augmented assignment, as it is read."""
    known = tracer.loads.get(id(target))
    if known is None:
        parts = {name: part for name, part in ast.iter_fields(target) if name != "ctx"}
        read = ast.copy_location(type(target)(**parts, ctx=ast.Load()), target)
        known = tracer.loads[id(target)] = target, read
    return known[1]


def _delete(tracer: Tracer, node: Any) -> None:
    for target in node.targets:
        _evaluate(tracer, target)


def _if(tracer: Tracer, node: Any) -> None:
    verdict = truth(tracer, node.test)
    _either(tracer, [] if verdict is False else node.body, [] if verdict is True else node.orelse)


def _either(tracer: Tracer, *branches: Sequence[ast.stmt]) -> None:
    before = tracer.frame.names
    after: dict[str, Values] = {}
    for branch in branches:
        tracer.frame.names = dict(before)
        tracer.block(branch)
        _join(after, tracer.frame.names)
    tracer.frame.names = after


def _for(tracer: Tracer, node: Any) -> None:
    values = tracer.elements(tracer.eval(node.iter))
    _loop(tracer, lambda: tracer.assign(node.target, values, node.iter), node)


def _loop(tracer: Tracer, begin: Any, node: Any) -> None:
    for turn in range(_MOST_TURNS * 4):
        before = dict(tracer.frame.names)
        tracer.frame.exits.append([])
        begin()
        tracer.block(node.body)
        for names in (before, *tracer.frame.exits.pop()):
            _join(tracer.frame.names, names)
        if turn >= _MOST_TURNS:
            for name, values in tracer.frame.names.items():
                if values != before.get(name):
                    tracer.frame.names[name] = without_constants(values)
        if tracer.frame.names == before:
            break
    else:
        tracer.give_up(node)
    tracer.block(node.orelse)


def _leave_loop(tracer: Tracer, _node: Any) -> None:
    if tracer.frame.exits:
        tracer.frame.exits[-1].append(dict(tracer.frame.names))


def _try(tracer: Tracer, node: Any) -> None:
    tracer.reads_types = True
    attempt = dict(tracer.frame.names)
    tracer.frame.attempts.append(attempt)
    tracer.block(node.body)
    tracer.frame.attempts.pop()
    tracer.block(node.orelse)
    after = dict(tracer.frame.names)
    for handler in node.handlers:
        tracer.frame.names = dict(attempt)
        if handler.type is not None:
            tracer.eval(handler.type)
        if handler.name is not None:
            tracer.set_name(handler.name, SOME)
        tracer.block(handler.body)
        _join(after, tracer.frame.names)
    if node.finalbody:
        _join(after, attempt)
    tracer.frame.names = after
    tracer.block(node.finalbody)


def _with(tracer: Tracer, node: Any) -> None:
    # The manager may swallow what the body raises.
    attempt = dict(tracer.frame.names)
    tracer.frame.attempts.append(attempt)
    for item in node.items:
        entered: Values = NOTHING
        for manager in tracer.eval(item.context_expr):
            if is_object(manager):
                given = [SOME, SOME, SOME]
                entered |= tracer.caller.special(manager, "__enter__", [], item.context_expr)
                tracer.caller.special(manager, "__exit__", given, item.context_expr)
        tracer.reads_types = True
        if item.optional_vars is not None:
            tracer.assign(item.optional_vars, entered | SOME, item.context_expr)
    tracer.block(node.body)
    tracer.frame.attempts.pop()
    _join(tracer.frame.names, attempt)


def _match(tracer: Tracer, node: Any) -> None:
    tracer.reads_types = True
    subject = tracer.eval(node.subject)
    tracer.read_all(subject)
    captured = reachable(subject) | SOME
    before = tracer.frame.names
    after = dict(before)
    for case in node.cases:
        tracer.frame.names = dict(before)
        for part in ast.walk(case.pattern):
            if isinstance(part, (ast.MatchAs, ast.MatchStar)) and part.name is not None:
                tracer.set_name(part.name, captured)
            elif isinstance(part, ast.MatchMapping) and part.rest is not None:
                tracer.set_name(part.rest, captured)
            elif isinstance(part, ast.MatchValue):
                tracer.eval(part.value)
        if case.guard is not None:
            truth(tracer, case.guard)
        tracer.block(case.body)
        _join(after, tracer.frame.names)
    tracer.frame.names = after


def _define(tracer: Tracer, node: Any) -> None:
    values = one(defined(tracer, node))
    for decorator in reversed(node.decorator_list):
        values = tracer.caller.call_all(tracer.eval(decorator), Arguments([values]), decorator)
    tracer.set_name(node.name, values)


def _import(tracer: Tracer, node: Any) -> None:
    for alias in node.names:
        if alias.asname is not None:
            module = sys.modules.get(alias.name)
        else:
            module = sys.modules.get(alias.name.partition(".")[0])
        found = SOME if module is None else one(Known(module))
        tracer.set_name(alias.asname or alias.name.partition(".")[0], found)


def _import_from(tracer: Tracer, node: Any) -> None:
    module = None if node.level else sys.modules.get(node.module or "")
    for alias in node.names:
        if alias.name == "*":
            tracer.give_up(node)
        known = vars(module).get(alias.name, UNKNOWN) if module is not None else UNKNOWN
        found = SOME if known is UNKNOWN else tracer.lifted_values(known)
        tracer.set_name(alias.asname or alias.name, found)


def _evaluate(tracer: Tracer, node: Any) -> None:
    """Follow a statement that does nothing but evaluate its expressions."""
    for part in ast.iter_child_nodes(node):
        if isinstance(part, ast.expr):
            tracer.eval(part)


def _own_init(handler_class: type) -> Any:
    """The `__init__` of a handler; `None` where it is lazymig's own."""
    found = inspect.getattr_static(handler_class, "__init__")
    return None if str(found.__module__).startswith("lazymig.") else found


def _join(names: dict[str, Values], others: Mapping[str, Values]) -> None:
    for name, values in others.items():
        names[name] = limited(names.get(name, NOTHING) | values)


_STATEMENTS: Final[Mapping[str, Callable[[Any, Any], None]]] = {
    "AnnAssign": _annotated,
    "Assert": _evaluate,
    "Assign": _assign,
    "AsyncFor": _for,
    "AsyncFunctionDef": _define,
    "AsyncWith": _with,
    "AugAssign": _augmented,
    "Break": _leave_loop,
    "Continue": _leave_loop,
    "Delete": _delete,
    "Expr": _evaluate,
    "For": _for,
    "FunctionDef": _define,
    "Global": _evaluate,
    "If": _if,
    "Import": _import,
    "ImportFrom": _import_from,
    "Match": _match,
    "Nonlocal": _evaluate,
    "Pass": _evaluate,
    "Raise": _evaluate,
    "Return": lambda tracer, node: tracer.give_back(
        NONE if node.value is None else tracer.eval(node.value)
    ),
    "Try": _try,
    "TryStar": _try,
    "While": lambda tracer, node: _loop(tracer, lambda: truth(tracer, node.test), node),
    "With": _with,
}
