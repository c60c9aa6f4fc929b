"""The calls of what a rule finds outside: Python's own is modelled, other classes are read."""

from __future__ import annotations

import ast
import collections
import dataclasses
import functools
import inspect
import itertools
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, ModuleType
from typing import Any

from lazymig.rules.tracing.attributes import CACHED
from lazymig.rules.tracing.calls import TRUSTED, is_trusted
from lazymig.rules.tracing.containers import Containers
from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.models import (
    MODELS,
    Call,
    chained,
    from_keys,
    make_mapping,
    make_sequence,
)
from lazymig.rules.tracing.values import NOTHING, SOME, Known, Values, one, shape

__all__ = ["Caller"]


class Caller(Containers):
    """Follows every call of an object from outside of the rule."""

    def call_known(
        self, function: Any, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        """Follow a call of an object from outside of the rule."""
        model = MODELS.get(id(function))
        if model is not None:
            return model(Call(self, arguments, node, mark))
        if isinstance(function, functools.partial):
            first, named = self.partly_given(function)
            whole = dataclasses.replace(arguments.after(*first), named={**named, **arguments.named})
            return self.call(Known(function.func), whole, node)
        if isinstance(function, MethodType):
            owner = self.tracer.lifted_values(function.__self__)
            return self.call(Known(function.__func__), arguments.after(owner), node)
        if isinstance(function, FunctionType):
            return self.call_method(function, arguments, node)
        if isinstance(function, type):
            return self._construct(function, Call(self, arguments, node, (mark, function)))
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType) and isinstance(function, CACHED):
            return self.call_method(wrapped, arguments, node)
        if isinstance(function, (BuiltinFunctionType, MethodDescriptorType)):
            return self._call_builtin(function, arguments, node)
        if not callable(function):
            return NOTHING
        inner = inspect.getattr_static(type(function), "__call__", None)
        if isinstance(inner, FunctionType) and not is_trusted(inner):
            return self.call_method(inner, arguments.after(one(Known(function))), node)
        return self.unknown(arguments, node)

    def _call_builtin(
        self,
        function: BuiltinFunctionType | MethodDescriptorType,
        arguments: Arguments,
        node: ast.AST | None,
    ) -> Values:
        name = function.__name__
        if isinstance(function, MethodDescriptorType):
            if not arguments.positional:
                return self.unknown(arguments, node)
            rest = arguments.without_first()
            return NOTHING.union(
                *(self.method(owner, name, rest, node) for owner in arguments.positional[0])
            )
        owner = function.__self__
        if owner is dict and name == "fromkeys":
            return from_keys(Call(self, arguments, node))
        if owner is itertools.chain:
            return chained(Call(self, arguments, node))
        if owner is None or isinstance(owner, (ModuleType, type)):
            return self.trusted(arguments, node)
        return self.method(self.tracer.lift(owner), name, arguments, node)

    def _construct(self, cls: type, call: Call) -> Values:
        """Follow the making of an object."""
        init = inspect.getattr_static(cls, "__init__", None)
        names = getattr(cls, "__match_args__", ())
        if issubclass(cls, tuple) and names:
            return self._make_named_tuple(names, cls, call)
        if issubclass(cls, (dict, list, tuple, set, frozenset)) and _has_methods(cls):
            # A container of the user's own, which may do anything when it is filled in.
            return call.unknown()
        if issubclass(cls, dict) and (not isinstance(init, FunctionType) or is_trusted(init)):
            return make_mapping(call)
        if issubclass(cls, (list, tuple, set, frozenset, collections.deque)) and not isinstance(
            init, FunctionType
        ):
            return make_sequence(dataclasses.replace(call, mark=call.mark[0]))
        if cls.__module__.partition(".")[0] in TRUSTED:
            in_python = isinstance(init, FunctionType)
            return self.trusted(call.arguments, call.node, in_python=in_python)
        plain_new = inspect.getattr_static(cls, "__new__", None) is vars(object)["__new__"]
        if type(cls).__call__ is not type.__call__ or not plain_new:
            return call.unknown()
        return self._make_object(cls, init, call)

    def _make_object(self, cls: Any, init: Any, call: Call) -> Values:
        box = self.tracer.fresh("object", call.node, call.mark)
        box.made_by = cls
        if dataclasses.is_dataclass(cls) and "__init__" in vars(cls):
            for index, field in enumerate(dataclasses.fields(cls)):
                values = call.arguments.parameter(index, field.name)
                if field.default is not dataclasses.MISSING:
                    values |= self.tracer.lifted_values(field.default)
                if field.default_factory is not dataclasses.MISSING:
                    made, mark = Known(field.default_factory), (shape(box), field.name)
                    values |= self.call(made, Arguments([]), call.node, mark)
                self.tracer.put(box, [Known(field.name)], values, call.node)
            after = self.attribute(box, "__post_init__", call.node) - SOME
            self.call_all(after, Arguments([]), call.node)
        elif isinstance(init, FunctionType):
            self.call_method(init, call.arguments.after(one(box)), call.node)
        return one(box)

    def _make_named_tuple(self, names: tuple[str, ...], cls: Any, call: Call) -> Values:
        box = self.tracer.fresh("sequence", call.node, call.mark)
        box.made_by = names
        for index, name in enumerate(names):
            values = call.arguments.parameter(index, name)
            if not values and name in getattr(cls, "_field_defaults", {}):
                values = self.tracer.lifted_values(cls._field_defaults[name])
            self.tracer.put(box, [Known(index)], values, call.node)
        return one(box)


def _has_methods(cls: type) -> bool:
    """Return whether a class has methods in Python that are not those of a well-known library."""
    return any(
        isinstance(value, FunctionType) and not is_trusted(value)
        for base in cls.__mro__
        for value in vars(base).values()
    )
