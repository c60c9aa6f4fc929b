"""The calls of functions in a rule that is read and not run."""

from __future__ import annotations

import ast
import operator
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final

from lazymig.rules.tracing.frames import Arguments, Code, Frame
from lazymig.rules.tracing.source import FunctionNode, syntax_of
from lazymig.rules.tracing.values import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SOME,
    UNKNOWN,
    Bound,
    Box,
    Function,
    Known,
    Method,
    Partial,
    Prefix,
    Value,
    Values,
    is_object,
    limited,
    one,
    positions_of,
    reachable,
    shapes,
)

if TYPE_CHECKING:
    from lazymig.rules.tracing.statements import Tracer

__all__ = ["TRUSTED", "Calls", "is_trusted"]

# More calls within calls than this are not followed.
_DEEPEST: Final = 25

# Their functions change none of their arguments.
TRUSTED: Final = sys.stdlib_module_names | {"bson", "dateutil", "mongoengine", "pymongo", "pytz"}


class Calls(ABC):
    """Follows calls of functions that are written in Python."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.known: dict[int, tuple[FunctionType, tuple[FunctionNode, ...], dict[str, Values]]] = {}
        self.entered: dict[Any, Frame] = {}
        self.texts: dict[str, ast.expr | None] = {}

    def call_node(self, node: ast.Call) -> Values:
        """Follow a call in the source."""
        if isinstance(node.func, ast.Attribute):
            owners, name = self.tracer.eval(node.func.value), node.func.attr
            arguments = self._arguments(node)
            return NOTHING.union(
                *(self._call_attribute(owner, name, arguments, node) for owner in owners)
            )
        functions = self.tracer.eval(node.func)
        return self.call_all(functions, self._arguments(node), node)

    def _call_attribute(
        self, owner: Value, name: str, arguments: Arguments, node: ast.Call
    ) -> Values:
        if owner is UNKNOWN or isinstance(owner, Prefix):
            return self.method(owner, name, arguments, node)
        values = self.attribute(owner, name, node)
        if values == SOME and isinstance(owner, Known):
            return self.method(owner, name, arguments, node)
        if values == SOME and isinstance(owner, Box) and owner.kind != "object":
            # A method of a class of the user's, which may fill the container in.
            return self.unknown(arguments.after(one(owner)), node)
        return self.call_all(values, arguments, node)

    def _arguments(self, node: ast.Call) -> Arguments:
        arguments = Arguments([])
        for part in node.args:
            if isinstance(part, ast.Starred):
                values = self.tracer.eval(part.value)
                positions = positions_of(values)
                if positions is not None and not arguments.rest:
                    arguments.positional.extend(positions)
                else:
                    arguments.rest |= self.tracer.elements(values) | SOME
            elif arguments.rest:
                arguments.rest |= self.tracer.eval(part)
            else:
                arguments.positional.append(self.tracer.eval(part))
        for keyword in node.keywords:
            values = self.tracer.eval(keyword.value)
            if keyword.arg is not None:
                arguments.named[keyword.arg] = values
                continue
            for value in values:
                plain = isinstance(value, Box) and value.kind == "mapping" and not value.opened
                entries = value.entries if plain and isinstance(value, Box) else None
                for key, held in ({UNKNOWN: SOME} if entries is None else entries).items():
                    if isinstance(key, Known) and isinstance(key.value, str):
                        arguments.named[key.value] = arguments.named.get(key.value, NOTHING) | held
                    else:
                        arguments.others |= held
                if value is DOCUMENT:
                    self.tracer.read_all()
        return arguments

    def call_all(
        self, functions: Values, arguments: Arguments, node: ast.AST | None, mark: Any = None
    ) -> Values:
        """What any of the functions gives back."""
        results = (self.call(function, arguments, node, mark) for function in functions)
        return limited(NOTHING.union(*results))

    def call(
        self, function: Value, arguments: Arguments, node: ast.AST | None, mark: Any = None
    ) -> Values:
        """Follow a call; return what it may give back."""
        if node is not None:
            self.tracer.step(node)
        if isinstance(function, Function):
            parent = function.frame
            code = Code(function.node, parent, parent.outside, parent.globals, parent.file)
            return self._enter(code, arguments, dict(function.defaults), node)
        if isinstance(function, Bound):
            whole = arguments.after(one(function.first))
            return self.call(function.function, whole, node, mark)
        if isinstance(function, Partial):
            whole = arguments.after(*function.positional)
            whole.named = {**dict(function.named), **arguments.named}
            return self.call(function.function, whole, node, mark)
        if isinstance(function, Method):
            return self.method(function.receiver, function.name, arguments, node)
        if isinstance(function, Known):
            return self.call_known(function.value, arguments, node, mark)
        if isinstance(function, Box):
            if not is_object(function):
                return NOTHING
            return self.call_all(self.attribute(function, "__call__", node), arguments, node)
        return self.unknown(arguments, node)

    def call_method(
        self, function: FunctionType, arguments: Arguments, node: ast.AST | None = None
    ) -> Values:
        """Follow a call of a function that is written in Python."""
        if _is_own(function):
            return SOME
        if is_trusted(function):
            return self.trusted(arguments, node, in_python=True)
        known = self.known.get(id(function))
        if known is None:
            outside = {}
            for name, cell in zip(
                function.__code__.co_freevars, function.__closure__ or (), strict=True
            ):
                try:
                    outside[name] = self.tracer.lifted_values(cell.cell_contents)
                except ValueError:
                    outside[name] = SOME
            known = self.known[id(function)] = function, syntax_of(function), outside
        _function, nodes, outside = known
        if not nodes:
            return self.unknown(arguments, node)
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        values = function.__defaults__ or ()
        given = dict(zip(names[len(names) - len(values) :], values, strict=True))
        given.update(function.__kwdefaults__ or {})
        defaults = {name: self.tracer.lifted_values(value) for name, value in given.items()}
        module, file = function.__globals__, code.co_filename
        return NOTHING.union(
            *(
                self._enter(Code(each, None, outside, module, file), arguments, defaults, node)
                for each in nodes
            )
        )

    def _enter(
        self,
        code: Code,
        arguments: Arguments,
        defaults: Mapping[str, Values],
        caller: ast.AST | None,
    ) -> Values:
        """Follow a function with its arguments."""
        tracer = self.tracer
        parameters = self._parameters(code.node, arguments, defaults)
        place = code.node, code.parent, code.outside
        for frame in tracer.frames:
            if all(map(operator.is_, (frame.node, frame.parent, frame.outside), place)):
                # A function that calls itself gets all arguments at once, in the next round.
                for name, values in parameters.items():
                    tracer.widen(frame.parameters, name, values)
                return frame.given_back
        if len(tracer.frames) >= _DEEPEST:
            return self.unknown(arguments, caller)
        given = frozenset((name, shapes(values)) for name, values in parameters.items())
        key = (*map(id, place), given)
        known = self.entered.get(key)
        if known is None:
            known = self.entered[key] = Frame(key, code)
        for name, values in parameters.items():
            tracer.widen(known.parameters, name, values)
        if known.done != tracer.version:
            before = tracer.version
            tracer.run(known)
            known.done = tracer.version if tracer.version == before else -1
        return known.given_back

    def _parameters(
        self, node: FunctionNode, arguments: Arguments, defaults: Mapping[str, Values]
    ) -> dict[str, Values]:
        """What the names of a function's parameters stand for."""
        spec = node.args
        positional = [arg.arg for arg in (*spec.posonlyargs, *spec.args)]
        named = [arg.arg for arg in (*spec.args, *spec.kwonlyargs)]
        found: dict[str, Values] = dict(zip(positional, arguments.positional, strict=False))
        spare = arguments.positional[len(positional) :]
        found.update({name: arguments.named[name] for name in named if name in arguments.named})
        for name in (*positional, *(arg.arg for arg in spec.kwonlyargs)):
            if name in found:
                continue
            values = arguments.others | (arguments.rest if name in positional else NOTHING)
            found[name] = values | defaults.get(name, NOTHING if values else SOME)
        if spec.vararg is not None:
            box = self.tracer.fresh("sequence", spec.vararg, tuple(map(shapes, spare)))
            for index, values in enumerate(spare):
                self.tracer.put(box, [Known(index)], values, None)
            if arguments.rest:
                self.tracer.put(box, [UNKNOWN], arguments.rest, None)
            found[spec.vararg.arg] = one(box)
        if spec.kwarg is not None:
            extra = {name: given for name, given in arguments.named.items() if name not in named}
            mark = frozenset((name, shapes(given)) for name, given in extra.items())
            box = self.tracer.fresh("mapping", spec.kwarg, mark)
            for name, values in extra.items():
                self.tracer.put(box, [Known(name)], values, None)
            if arguments.others:
                self.tracer.put(box, [UNKNOWN], arguments.others, None)
            found[spec.kwarg.arg] = one(box)
        return found

    def unknown(self, arguments: Arguments, node: ast.AST | None) -> Values:
        """Code that cannot be seen: it may change all that it is handed."""
        self.tracer.reads_types = True
        return self._hand_over(arguments, node, opens=True)

    def trusted(
        self, arguments: Arguments, node: ast.AST | None, *, in_python: bool = False
    ) -> Values:
        """Code that changes none of its arguments, and may keep them."""
        self.tracer.reads_types |= in_python
        return self._hand_over(arguments, node, opens=False)

    def _hand_over(self, arguments: Arguments, node: ast.AST | None, *, opens: bool) -> Values:
        given = NOTHING.union(*arguments.all())
        self.hand_out(given, node, opens=opens)
        return SOME.union(value for value in given if isinstance(value, Box))

    def hand_out(self, values: Values, node: ast.AST | None, *, opens: bool) -> None:
        """Note that values are in the hands of other code."""
        tracer = self.tracer
        for value in reachable(values):
            if value is HANDLER:
                tracer.give_up(node)
            elif value is DOCUMENT:
                tracer.read_all()
            elif isinstance(value, Box):
                if opens and value.kind != "object":
                    tracer.open(value, node)
                tracer.leak(one(value))
            elif isinstance(value, (Function, Bound, Partial)) or (
                isinstance(value, Known)
                and isinstance(value.value, FunctionType)
                and not is_trusted(value.value)
            ):
                self.call(value, Arguments([], rest=SOME, others=SOME), node)

    @abstractmethod
    def call_known(
        self, function: Any, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        """Follow a call of an object from outside of the rule."""

    @abstractmethod
    def attribute(self, owner: Value, name: str, node: ast.AST | None) -> Values:
        """What an attribute may be."""

    @abstractmethod
    def method(
        self, receiver: Value, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        """Follow a call of a method that is not written in Python, or is not known."""


def is_trusted(function: FunctionType) -> bool:
    """Return whether a function changes none of its arguments, as one of a well-known library."""
    return (function.__module__ or "").partition(".")[0] in TRUSTED


def _is_own(function: FunctionType) -> bool:
    """Return whether a function is one of lazymig's own, which every handler has."""
    parts = (function.__module__ or "").split(".")
    return parts[0] == "lazymig" and parts[1:2] != ["demo"]
