"""Attributes in a rule that is read and not run."""

from __future__ import annotations

import ast
import collections
import enum
import functools
import inspect
from collections.abc import Mapping
from types import FunctionType, ModuleType
from typing import Any, Final

from lazymig.rules.rule import RuleHandler
from lazymig.rules.tracing.calls import TRUSTED, Calls
from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.values import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SCALARS,
    SOME,
    UNKNOWN,
    Bound,
    Box,
    Known,
    Method,
    Partial,
    Super,
    Value,
    Values,
)

__all__ = ["Attributes"]


# Methods of lists, mappings and strings, which change none of their arguments.
PLAIN_METHODS: Final = frozenset(
    {name for kind in (dict, list, set, str, bytes, tuple, int, float) for name in dir(kind)}
)


_CONTAINER_METHODS: Final = PLAIN_METHODS | set(dir(collections.deque)) | {"move_to_end"}


_FIELDS: Final = ("doc", "collection", "status", "doc_class")


_SETTINGS: Final = ("target", "update", "array_filters", "writes", "reads")


_BOTH: Final[Values] = frozenset({Known(True), Known(False)})


_NONE: Final[Values] = frozenset({Known(None)})


CACHED: Final = type(functools.lru_cache(lambda: None))


class Attributes(Calls):
    """Tells what the attributes of values are."""

    def attribute(self, owner: Value, name: str, node: ast.AST | None) -> Values:
        """What an attribute may be."""
        if owner is HANDLER:
            return self._handler_attribute(name, node)
        if owner is DOCUMENT:
            if hasattr(Mapping, name):
                return frozenset({Method(DOCUMENT, name)})
            self.tracer.read_all()
            return SOME
        if isinstance(owner, Box):
            return self._box_attribute(owner, name, node)
        if isinstance(owner, Super):
            return self._super_attribute(owner, name, node)
        if not isinstance(owner, Known):
            return SOME
        value = owner.value
        if type(value) in SCALARS:
            found = getattr(value, name, UNKNOWN)
            if found is UNKNOWN:
                return NOTHING
            return frozenset({Method(owner, name)}) if callable(found) else SOME
        if isinstance(value, ModuleType):
            found = vars(value).get(name, UNKNOWN)
            assigned = self.tracer.assigned.get((id(vars(value)), name), NOTHING)
            return assigned | (SOME if found is UNKNOWN else self.tracer.lifted_values(found))
        if isinstance(value, enum.Enum) and name in ("name", "value"):
            return self.tracer.lifted_values(getattr(value, name))
        if isinstance(value, type):
            return self._class_attribute(value, name)
        found = inspect.getattr_static(value, name, UNKNOWN)
        if isinstance(found, FunctionType):
            return frozenset({Bound(Known(found), owner)})
        if isinstance(found, property) and isinstance(found.fget, FunctionType):
            first: Values = frozenset({owner})
            return self.call_method(found.fget, Arguments([first]), node)
        if found is not UNKNOWN and name in getattr(value, "__dict__", {}):
            return self.tracer.lifted_values(found)
        return SOME

    def _class_attribute(self, cls: type, name: str) -> Values:
        found = inspect.getattr_static(cls, name, UNKNOWN)
        if isinstance(found, staticmethod):
            return frozenset({Known(found.__func__)})
        if isinstance(found, classmethod):
            return frozenset({Bound(Known(found.__func__), Known(cls))})
        if found is UNKNOWN or isinstance(found, property):
            return SOME
        if isinstance(found, (FunctionType, type, enum.Enum)) or not hasattr(found, "__get__"):
            return self.tracer.lifted_values(found)
        if cls.__module__ in TRUSTED:
            return frozenset({Known(getattr(cls, name))})
        return SOME

    def _box_attribute(self, owner: Box, name: str, node: ast.AST | None) -> Values:
        if owner.kind == "object":
            found = owner.at(Known(name))
            cls = owner.made_by
            static = inspect.getattr_static(cls, name, UNKNOWN)
            if isinstance(static, FunctionType):
                return found | {Bound(Known(static), owner)}
            if isinstance(static, property) and isinstance(static.fget, FunctionType):
                first: Values = frozenset({owner})
                return found | self.call_method(static.fget, Arguments([first]), node)
            return found | (NOTHING if static is UNKNOWN else self._class_attribute(cls, name))
        if isinstance(owner.made_by, tuple) and name in owner.made_by:
            return owner.at(Known(owner.made_by.index(name)))
        return frozenset({Method(owner, name)}) if name in _CONTAINER_METHODS else SOME

    def _handler_attribute(self, name: str, node: ast.AST | None) -> Values:
        tracer = self.tracer
        static = inspect.getattr_static(tracer.handler_class, name, UNKNOWN)
        if name in _FIELDS and static is vars(RuleHandler)[name]:
            return self._field(name)
        if name in _SETTINGS:
            return tracer.attributes.get(name, NOTHING) | _NONE
        if name == "__class__":
            return frozenset({Known(tracer.handler_class)})
        found = tracer.attributes.get(name, NOTHING)
        if static is UNKNOWN:
            if name.startswith("__") or hasattr(tracer.handler_class, "__getattr__"):
                tracer.give_up(node)
            return found or SOME
        return found | self._bound_to_handler(static, node)

    def _bound_to_handler(self, static: Any, node: ast.AST | None) -> Values:
        """What an attribute of the handler's class is when it is asked for on a handler."""
        first: Values = frozenset({HANDLER})
        if isinstance(static, FunctionType):
            return frozenset({Bound(Known(static), HANDLER)})
        if isinstance(static, staticmethod):
            return frozenset({Known(static.__func__)})
        if isinstance(static, classmethod):
            return frozenset({Bound(Known(static.__func__), Known(self.tracer.handler_class))})
        if isinstance(static, property) and isinstance(static.fget, FunctionType):
            return self.call_method(static.fget, Arguments([first]), node)
        if isinstance(static, functools.cached_property):
            return self.call(Known(static.func), Arguments([first]), node)
        if isinstance(static, functools.partialmethod):
            given = (first, *(self.tracer.lifted_values(one) for one in static.args))
            named = tuple(
                (name, self.tracer.lifted_values(one)) for name, one in static.keywords.items()
            )
            return frozenset({Partial(Known(static.func), given, named)})
        if isinstance(static, CACHED):
            return frozenset({Bound(Known(static.__wrapped__), HANDLER)})
        if hasattr(static, "__get__") and not isinstance(static, type):
            # Whatever it is, it gets the handler.
            self.tracer.give_up(node)
        return self.tracer.lifted_values(static)

    def _field(self, name: str) -> Values:
        """One of the attributes that a handler has for its rules."""
        if name == "doc":
            return frozenset({DOCUMENT})
        if name == "doc_class":
            return frozenset({Known(self.tracer.doc_class)})
        self.tracer.asks.add(name)
        return _BOTH if name == "status" else SOME

    def special(self, owner: Box, name: str, given: list[Values], node: ast.AST | None) -> Values:
        """Follow a special method of an object, such as the one for `owner[key]`."""
        static = inspect.getattr_static(owner.made_by, name, None)
        if not isinstance(static, FunctionType):
            return SOME
        return self.call(Bound(Known(static), owner), Arguments(given), node)

    def set_by_property(self, name: str, values: Values, node: ast.AST | None) -> bool:
        """Follow an assignment to a property of the handler; return whether it is one."""
        cls = self.tracer.handler_class
        if isinstance(inspect.getattr_static(cls, "__setattr__"), FunctionType):
            self.tracer.give_up(node)
        static = inspect.getattr_static(cls, name, None)
        if not isinstance(static, property) or not isinstance(static.fset, FunctionType):
            return False
        first: Values = frozenset({HANDLER})
        self.call_method(static.fset, Arguments([first, values]), node)
        return True

    def _super_attribute(self, owner: Super, name: str, node: ast.AST | None) -> Values:
        cls = self.tracer.handler_class
        if owner.first is not HANDLER:
            box = owner.first
            if not isinstance(box, Box) or not isinstance(box.made_by, type):
                return SOME
            cls = box.made_by
        mro = cls.__mro__
        after = mro[mro.index(owner.behind) + 1 :] if owner.behind in mro else mro
        for base in after:
            if name not in vars(base):
                continue
            static = vars(base)[name]
            if owner.first is HANDLER:
                if base is RuleHandler and name in _FIELDS:
                    return self._field(name)
                return self._bound_to_handler(static, node)
            if isinstance(static, FunctionType):
                return frozenset({Bound(Known(static), owner.first)})
            return SOME
        return SOME
