"""The state of a rule that is being translated, and the way from syntax to symbols."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any, Final, TypeVar

from lazymig.query.tree import Node
from lazymig.rules.translating.aliases import Aliases
from lazymig.rules.translating.scope import Scope, choice, is_type, type_test
from lazymig.rules.translating.symbols import (
    MISSING,
    PRESENT,
    TYPES,
    Computed,
    Left,
    Symbol,
    Types,
    as_computed,
)
from lazymig.updates.knowledge import ABSENT, Fact, Typed
from lazymig.updates.parents import Parents

__all__ = ["Context", "evaluates"]

_MOST_STEPS: Final = 4000
_MOST_CALLS: Final = 8

# Expressions of more characters are given a variable where they would be written several times.
_LONG: Final = 100

# The types of which the target can be asked.
_ASKED: Final = (
    *("int", "long", "double", "decimal", "string", "bool", "date", "timestamp", "objectId"),
    *("null", "object", "array"),
)

Evaluator = Callable[["Context", Any], Symbol]
_Some = TypeVar("_Some", bound=Evaluator)

_EVALUATORS: Final[dict[type[ast.AST], Evaluator]] = {}


def evaluates(*kinds: type[ast.AST]) -> Callable[[_Some], _Some]:
    """Register a function as the one that evaluates some kinds of syntax."""

    def register(function: _Some) -> _Some:
        _EVALUATORS.update(dict.fromkeys(kinds, function))
        return function

    return register


class Context:
    """What is known at one point of a rule: names, types, and where it is.

    `calls` are the functions that are being followed, the rule's method first. `has_read`: the
    document was looked at, so that a target that is set from here on may depend on it.
    """

    def __init__(self, handler_class: type, doc_class: Any, target: Any, tree: Node) -> None:
        self.handler_class = handler_class
        self.doc_class = doc_class
        self.target = target
        self.scope = Scope()
        self.names: dict[str, Symbol] = {}
        self.attributes: dict[str, Symbol] = {}
        self.handler_name = ""
        self.is_conditional = False
        self.calls: list[FunctionType] = []
        self.has_read = False
        self._parents = Parents(tree)
        self._fields: dict[str, Types] = {}
        self._steps = 0
        self._numbers = itertools.count(1)
        self.aliases = Aliases()

    # --- Evaluation -----------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Symbol:
        """Return what an expression of the source gives.

        :raises Left: it has no exact equal on the server.
        """
        self.step(node)
        evaluator = _EVALUATORS.get(type(node))
        if evaluator is None:
            raise Left(node, f"has {_described(node)}, which is not translated")
        return evaluator(self, node)

    def looked_into(self, node: ast.expr) -> Symbol:
        """Return a container of which only a part is asked for: it gets no other name by that."""
        if isinstance(node, ast.Name) and node.id in self.names:
            found = self.names[node.id]
            self.aliases.look_into(found)
            return found
        return self.evaluate(node)

    def step(self, node: ast.AST) -> None:
        """Count one more step.

        :raises Left: there were too many.
        """
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Left(node, "is too long to be translated")

    @contextmanager
    def inside(self, scope: Scope) -> Iterator[Scope]:
        """Evaluate in another scope."""
        outer, self.scope = self.scope, scope
        try:
            yield scope
        finally:
            self.scope = outer

    @contextmanager
    def naming(self, names: dict[str, Symbol]) -> Iterator[None]:
        """Evaluate with other names."""
        outer, self.names = self.names, names
        try:
            yield
        finally:
            self.names = outer

    @contextmanager
    def setting(self, attributes: dict[str, Symbol]) -> Iterator[None]:
        """Evaluate with other attributes of the handler."""
        outer, self.attributes = self.attributes, attributes
        try:
            yield
        finally:
            self.attributes = outer

    @contextmanager
    def conditionally(self, scope: Scope) -> Iterator[Scope]:
        """Evaluate what may not be evaluated in Python, in another scope."""
        outer, self.is_conditional = self.is_conditional, True
        try:
            with self.inside(scope):
                yield scope
        finally:
            self.is_conditional = outer

    @contextmanager
    def calling(self, function: FunctionType, node: ast.AST | None) -> Iterator[None]:
        """Follow a function."""
        if len(self.calls) == _MOST_CALLS or function in self.calls:
            raise Left(node, "calls itself")
        self.calls.append(function)
        try:
            yield
        finally:
            self.calls.pop()

    def variable(self, name: str) -> str:
        """Return a new name for a variable of an expression."""
        stem = "".join(letter for letter in name if letter.isascii() and letter.isalnum())
        return f"{stem.lower().lstrip('0123456789') or 'v'}{next(self._numbers)}"

    # --- Types ----------------------------------------------------------------------------

    def field(self, path: str) -> Computed:
        """Return a field of the document; it may be missing, as far as the target says."""
        self.has_read = True
        root = path.partition(".")[0]
        if root in self.aliases.changed:
            raise Left(None, f"reads {root!r} after it has changed it in its place")
        if path not in self._fields:
            parts = tuple(path.split("."))
            ruled_out = {name for name in _ASKED if self._excludes(parts, _typed(name))}
            if self._excludes(parts, ABSENT):
                ruled_out.add(MISSING)
            self._fields[path] = TYPES - ruled_out
        return Computed(f"${path}", self._fields[path])

    def _excludes(self, parts: tuple[str, ...], fact: Fact) -> bool:
        return self._parents.excludes(parts, fact)

    def types_of(self, value: Computed) -> Types:
        """Return the types that a value may have here."""
        return self.scope.types_of(value.expression, value.types)

    def require(
        self, symbol: Symbol, wanted: Types, node: ast.AST | None, otherwise: str = ""
    ) -> Computed:
        """Return a value that has one of the types: a condition sees to it.

        :param otherwise: the reason where it never has one.
        :raises Left: it never has.
        """
        value = as_computed(symbol, node)
        known = self.types_of(value)
        if not known & wanted:
            raise Left(node, otherwise or f"needs a value of the type {_listed(wanted)}")
        if not known <= wanted:
            self.scope.require(type_test(value.expression, known, wanted))
            self.scope.learn(value.expression, wanted)
        return Computed(value.expression, known & wanted, value.items, fresh=value.fresh)

    def present(self, symbol: Symbol, node: ast.AST | None) -> Computed:
        """Return a value that is there."""
        return self.require(symbol, PRESENT, node, "reads a field that the target rules out")

    def member(self, value: Computed, key: str) -> Computed:
        """Return a field of an object; it may be missing."""
        expression = value.expression
        if isinstance(expression, str):
            found: Any = f"{expression}.{key}"
            if not expression.startswith("$$"):
                return self.field(found[1:])
        else:
            found = {"$let": {"vars": {"object": expression}, "in": f"$$object.{key}"}}
        return Computed(found, TYPES)

    # --- Branches -------------------------------------------------------------------------

    def either(
        self, test: Computed, yes: Callable[[], Symbol], no: Callable[[], Symbol], node: ast.AST
    ) -> Computed:
        """Return what one or the other gives, as a test decides."""
        with self.conditionally(self.scope.branch(test.if_true)) as first:
            one = as_computed(yes(), node)
            one_types = self.types_of(one)
        with self.conditionally(self.scope.branch(test.if_false)) as second:
            other = as_computed(no(), node)
            other_types = self.types_of(other)
        self.scope.join(test.expression, first, second)
        return Computed(
            choice(test.expression, one.expression, other.expression), one_types | other_types
        )

    def with_variable(
        self, value: Computed, make: Callable[[Computed], Symbol], node: ast.AST
    ) -> Symbol:
        """Return what is made of a value; a long expression is computed only once for that."""
        if isinstance(value.expression, str) or len(repr(value.expression)) < _LONG:
            return make(value)
        name = self.variable("value")
        short = Computed(f"$${name}", self.types_of(value), value.items, fresh=value.fresh)

        def bound(expression: Any) -> Any:
            if isinstance(expression, bool):
                return expression
            return {"$let": {"vars": {name: value.expression}, "in": expression}}

        with self.inside(self.scope.branch()) as inner:
            made = as_computed(make(short), node)
            types = self.types_of(made)
        self.scope.require(bound(inner.guard))
        return Computed(bound(made.expression), types, made.items, fresh=made.fresh)

    def by_type(
        self,
        symbol: Symbol,
        cases: Sequence[tuple[Types, Callable[[Computed], Symbol]]],
        node: ast.AST,
        otherwise: str = "",
    ) -> Symbol:
        """Return what is computed of a value by its type.

        :param otherwise: the reason where it has none of these types.
        """
        wanted = frozenset().union(*(types for types, _ in cases))
        value = self.require(symbol, wanted, node, otherwise)
        left = [(value.types & types, make) for types, make in cases if value.types & types]
        return self.with_variable(value, lambda one: self._by_type(one, left, node), node)

    def _by_type(
        self,
        value: Computed,
        cases: Sequence[tuple[Types, Callable[[Computed], Symbol]]],
        node: ast.AST,
    ) -> Symbol:
        (types, make), *others = cases
        one = Computed(value.expression, types, value.items, fresh=value.fresh)
        if not others:
            return make(one)
        rest = frozenset().union(*(each for each, _ in others))
        key = repr(value.expression)
        test = Computed(
            is_type(value.expression, types),
            frozenset({"bool"}),
            if_true={key: types},
            if_false={key: rest},
        )
        return self.either(
            test, lambda: make(one), lambda: self._by_type(value, others, node), node
        )


def _typed(name: str) -> Fact:
    return Typed(frozenset({name}))


def _listed(types: Types) -> str:
    return " or ".join(sorted(types))


def _described(node: ast.AST) -> str:
    return {
        ast.Lambda: "a lambda",
        ast.Await: "await",
        ast.Yield: "yield",
        ast.GeneratorExp: "a generator",
        ast.NamedExpr: "an assignment within an expression",
    }.get(type(node), f"an expression of the kind {type(node).__name__}")
