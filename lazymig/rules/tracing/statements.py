"""Statements of a rule that is read and not run."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from lazymig.rules.tracing.expressions import Expressions
from lazymig.rules.tracing.frames import Arguments, Frame, GaveUp
from lazymig.rules.tracing.models import Caller
from lazymig.rules.tracing.source import syntax_of
from lazymig.rules.tracing.values import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Known,
    Values,
    limited,
    without_constants,
)

__all__ = ["Tracer"]


_MOST_ROUNDS: Final = 25


# Turns of a loop after which its constants are any values.
_MOST_TURNS: Final = 4


class Tracer(Expressions):
    """Follows a rule, statement by statement, with the functions that it calls.

    Where a value is not told by the source it is `UNKNOWN`; what may happen is never left out, what
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
            first: Values = frozenset({HANDLER})
            init = _own_init(self.handler_class)
            if init is not None:
                given: list[Values] = [first, frozenset({Known(self.doc_class)})]
                self.caller.call(Known(init), Arguments(given), None)
            self.caller.call_method(method, Arguments([first]))
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
            follow = self._STATEMENTS.get(type(statement).__name__)
            if follow is None:
                self.give_up(statement)
            else:
                follow(self, statement)

    def _expression(self, node: Any) -> None:
        self.eval(node.value)

    def _return(self, node: Any) -> None:
        self.give_back(frozenset({Known(None)}) if node.value is None else self.eval(node.value))

    def _assign(self, node: Any) -> None:
        values = self.eval(node.value)
        for target in node.targets:
            self.assign(target, values, node.value)

    def _annotated(self, node: Any) -> None:
        if node.value is not None:
            self.assign(node.target, self.eval(node.value), node.value)

    def _augmented(self, node: Any) -> None:
        loaded = self.eval(self._loading(node.target))
        added = self.eval(node.value)
        for value in loaded:
            if not isinstance(value, Box):
                continue
            if isinstance(node.op, ast.BitOr):
                self.caller.merge(value, added, node.value)
            elif isinstance(node.op, ast.Add):
                self.put(value, [UNKNOWN], self.elements(added), node.value)
            elif isinstance(node.op, ast.Mult):
                self.put(value, [UNKNOWN], value.all(), node.value)
        kept = frozenset(value for value in loaded if isinstance(value, Box))
        others = loaded - kept
        result = kept | (self.combined(node.op, others, added, node) if others else NOTHING)
        self.assign(node.target, result, node.value)

    def _loading(self, target: Any) -> ast.expr:
        """The target of an augmented assignment, as it is read."""
        known = self.loads.get(id(target))
        if known is None:
            parts = {name: part for name, part in ast.iter_fields(target) if name != "ctx"}
            read = ast.copy_location(type(target)(**parts, ctx=ast.Load()), target)
            known = self.loads[id(target)] = target, read
        return known[1]

    def _delete(self, node: Any) -> None:
        for target in node.targets:
            for part in ast.iter_child_nodes(target):
                if isinstance(part, ast.expr):
                    self.eval(part)

    def _if(self, node: Any) -> None:
        verdict = self.truth(node.test)
        self._either([] if verdict is False else node.body, [] if verdict is True else node.orelse)

    def _either(self, *branches: Sequence[ast.stmt]) -> None:
        before = self.frame.names
        after: dict[str, Values] = {}
        for branch in branches:
            self.frame.names = dict(before)
            self.block(branch)
            _join(after, self.frame.names)
        self.frame.names = after

    def _while(self, node: Any) -> None:
        self._loop(lambda: self.truth(node.test), node)

    def _for(self, node: Any) -> None:
        values = self.elements(self.eval(node.iter))
        self._loop(lambda: self.assign(node.target, values, node.iter), node)

    def _loop(self, begin: Any, node: Any) -> None:
        for turn in range(_MOST_TURNS * 4):
            before = dict(self.frame.names)
            self.frame.exits.append([])
            begin()
            self.block(node.body)
            for names in (before, *self.frame.exits.pop()):
                _join(self.frame.names, names)
            if turn >= _MOST_TURNS:
                for name, values in self.frame.names.items():
                    if values != before.get(name):
                        self.frame.names[name] = without_constants(values)
            if self.frame.names == before:
                break
        else:
            self.give_up(node)
        self.block(node.orelse)

    def _leave_loop(self, _node: Any) -> None:
        if self.frame.exits:
            self.frame.exits[-1].append(dict(self.frame.names))

    def _try(self, node: Any) -> None:
        self.reads_types = True
        attempt = dict(self.frame.names)
        self.frame.attempts.append(attempt)
        self.block(node.body)
        self.frame.attempts.pop()
        self.block(node.orelse)
        after = dict(self.frame.names)
        for handler in node.handlers:
            self.frame.names = dict(attempt)
            if handler.type is not None:
                self.eval(handler.type)
            if handler.name is not None:
                self.set_name(handler.name, SOME)
            self.block(handler.body)
            _join(after, self.frame.names)
        if node.finalbody:
            _join(after, attempt)
        self.frame.names = after
        self.block(node.finalbody)

    def _with(self, node: Any) -> None:
        # The manager may swallow what the body raises.
        attempt = dict(self.frame.names)
        self.frame.attempts.append(attempt)
        for item in node.items:
            entered: Values = NOTHING
            for manager in self.eval(item.context_expr):
                if isinstance(manager, Box) and manager.kind == "object":
                    given = [SOME, SOME, SOME]
                    entered |= self.caller.special(manager, "__enter__", [], item.context_expr)
                    self.caller.special(manager, "__exit__", given, item.context_expr)
            self.reads_types = True
            if item.optional_vars is not None:
                self.assign(item.optional_vars, entered | SOME, item.context_expr)
        self.block(node.body)
        self.frame.attempts.pop()
        _join(self.frame.names, attempt)

    def _match(self, node: Any) -> None:
        self.reads_types = True
        subject = self.eval(node.subject)
        if DOCUMENT in subject:
            self.read_all()
        captured = self.reachable(subject) | SOME
        before = self.frame.names
        after = dict(before)
        for case in node.cases:
            self.frame.names = dict(before)
            for part in ast.walk(case.pattern):
                if isinstance(part, (ast.MatchAs, ast.MatchStar)) and part.name is not None:
                    self.set_name(part.name, captured)
                elif isinstance(part, ast.MatchMapping) and part.rest is not None:
                    self.set_name(part.rest, captured)
                elif isinstance(part, ast.MatchValue):
                    self.eval(part.value)
            if case.guard is not None:
                self.truth(case.guard)
            self.block(case.body)
            _join(after, self.frame.names)
        self.frame.names = after

    def _define(self, node: Any) -> None:
        values: Values = frozenset({self._function(node)})
        for decorator in reversed(node.decorator_list):
            values = self.caller.call_all(self.eval(decorator), Arguments([values]), decorator)
        self.set_name(node.name, values)

    def _import(self, node: Any) -> None:
        for alias in node.names:
            if alias.asname is not None:
                module = sys.modules.get(alias.name)
            else:
                module = sys.modules.get(alias.name.partition(".")[0])
            found = SOME if module is None else frozenset({Known(module)})
            self.set_name(alias.asname or alias.name.partition(".")[0], found)

    def _import_from(self, node: Any) -> None:
        module = None if node.level else sys.modules.get(node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self.give_up(node)
            known = vars(module).get(alias.name, UNKNOWN) if module is not None else UNKNOWN
            found = SOME if known is UNKNOWN else self.lifted_values(known)
            self.set_name(alias.asname or alias.name, found)

    def _raise(self, node: Any) -> None:
        for part in (node.exc, node.cause):
            if part is not None:
                self.eval(part)

    def _assert(self, node: Any) -> None:
        self.eval(node.test)
        if node.msg is not None:
            self.eval(node.msg)

    def _nothing(self, _node: Any) -> None:
        pass

    _STATEMENTS: ClassVar[Mapping[str, Any]] = {
        "AnnAssign": _annotated,
        "Assert": _assert,
        "Assign": _assign,
        "AsyncFor": _for,
        "AsyncFunctionDef": _define,
        "AsyncWith": _with,
        "AugAssign": _augmented,
        "Break": _leave_loop,
        "Continue": _leave_loop,
        "Delete": _delete,
        "Expr": _expression,
        "For": _for,
        "FunctionDef": _define,
        "Global": _nothing,
        "If": _if,
        "Import": _import,
        "ImportFrom": _import_from,
        "Match": _match,
        "Nonlocal": _nothing,
        "Pass": _nothing,
        "Raise": _raise,
        "Return": _return,
        "Try": _try,
        "TryStar": _try,
        "While": _while,
        "With": _with,
    }


def _own_init(handler_class: type) -> Any:
    """The `__init__` of a handler; `None` where it is lazymig's own."""
    found = inspect.getattr_static(handler_class, "__init__")
    return None if str(found.__module__).startswith("lazymig.") else found


def _join(names: dict[str, Values], others: Mapping[str, Values]) -> None:
    for name, values in others.items():
        names[name] = limited(names.get(name, NOTHING) | values)
