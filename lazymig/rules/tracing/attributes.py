"""The attributes of values in a rule that is read and not run."""

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
    BOTH,
    DOCUMENT,
    HANDLER,
    NONE,
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
    is_object,
    one,
)

__all__ = ["CACHED", "PLAIN_METHODS", "Attributes"]

# Methods of lists, mappings and strings, which change none of their arguments.
PLAIN_METHODS: Final = frozenset(
    {name for kind in (dict, list, set, str, bytes, tuple, int, float) for name in dir(kind)}
)
CACHED: Final = type(functools.lru_cache(lambda: None))

_CONTAINER_METHODS: Final = PLAIN_METHODS | set(dir(collections.deque)) | {"move_to_end"}
_FIELDS: Final = ("doc", "collection", "status", "doc_class")
_SETTINGS: Final = ("target", "update", "array_filters", "writes", "reads")


class Attributes(Calls):
    """Finds what the attributes of values may be."""

    def attribute(self, owner: Value, name: str, node: ast.AST | None) -> Values:
        """What an attribute may be."""
        if owner is HANDLER:
            return self._handler_attribute(name, node)
        if owner is DOCUMENT:
            if hasattr(Mapping, name):
                return one(Method(DOCUMENT, name))
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
            return one(Method(owner, name)) if callable(found) else SOME
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
            return one(Bound(Known(found), owner))
        if isinstance(found, property) and isinstance(found.fget, FunctionType):
            return self.call_method(found.fget, Arguments([one(owner)]), node)
        if found is not UNKNOWN and name in getattr(value, "__dict__", {}):
            return self.tracer.lifted_values(found)
        return SOME

    def _class_attribute(self, cls: type, name: str) -> Values:
        found = inspect.getattr_static(cls, name, UNKNOWN)
        if isinstance(found, staticmethod):
            return one(Known(found.__func__))
        if isinstance(found, classmethod):
            return one(Bound(Known(found.__func__), Known(cls)))
        if found is UNKNOWN or isinstance(found, property):
            return SOME
        if isinstance(found, (FunctionType, type, enum.Enum)) or not hasattr(found, "__get__"):
            return self.tracer.lifted_values(found)
        if cls.__module__ in TRUSTED:
            return one(Known(getattr(cls, name)))
        return SOME

    def _box_attribute(self, owner: Box, name: str, node: ast.AST | None) -> Values:
        if is_object(owner):
            found = owner.at(Known(name))
            cls = owner.made_by
            static = inspect.getattr_static(cls, name, UNKNOWN)
            if isinstance(static, FunctionType):
                return found | {Bound(Known(static), owner)}
            if isinstance(static, property) and isinstance(static.fget, FunctionType):
                return found | self.call_method(static.fget, Arguments([one(owner)]), node)
            return found | (NOTHING if static is UNKNOWN else self._class_attribute(cls, name))
        if isinstance(owner.made_by, tuple) and name in owner.made_by:
            return owner.at(Known(owner.made_by.index(name)))
        return one(Method(owner, name)) if name in _CONTAINER_METHODS else SOME

    def _handler_attribute(self, name: str, node: ast.AST | None) -> Values:
        tracer = self.tracer
        static = inspect.getattr_static(tracer.handler_class, name, UNKNOWN)
        if name in _FIELDS and static is vars(RuleHandler)[name]:
            return self._field(name)
        if name in _SETTINGS:
            return tracer.attributes.get(name, NOTHING) | NONE
        if name == "__class__":
            return one(Known(tracer.handler_class))
        found = tracer.attributes.get(name, NOTHING)
        if static is UNKNOWN:
            if name.startswith("__") or hasattr(tracer.handler_class, "__getattr__"):
                tracer.give_up(node)
            return found or SOME
        return found | self._bound_to_handler(static, node)

    def _bound_to_handler(self, static: Any, node: ast.AST | None) -> Values:
        """What an attribute of the handler's class is when it is asked for on a handler."""
        given = Arguments([one(HANDLER)])
        if isinstance(static, FunctionType):
            return one(Bound(Known(static), HANDLER))
        if isinstance(static, staticmethod):
            return one(Known(static.__func__))
        if isinstance(static, classmethod):
            return one(Bound(Known(static.__func__), Known(self.tracer.handler_class)))
        if isinstance(static, property) and isinstance(static.fget, FunctionType):
            return self.call_method(static.fget, given, node)
        if isinstance(static, functools.cached_property):
            return self.call(Known(static.func), given, node)
        if isinstance(static, functools.partialmethod):
            first, named = self.partly_given(static)
            return one(Partial(Known(static.func), (one(HANDLER), *first), tuple(named.items())))
        if isinstance(static, CACHED):
            return one(Bound(Known(static.__wrapped__), HANDLER))
        if hasattr(static, "__get__") and not isinstance(static, type):
            # Whatever it is, it gets the handler.
            self.tracer.give_up(node)
        return self.tracer.lifted_values(static)

    def partly_given(self, static: Any) -> tuple[list[Values], dict[str, Values]]:
        """The arguments that a `functools.partial` has, by place and by name."""
        lifted = self.tracer.lifted_values
        named = {name: lifted(value) for name, value in static.keywords.items()}
        return [lifted(value) for value in static.args], named

    def _field(self, name: str) -> Values:
        """One of the attributes that a handler has for its rules."""
        if name == "doc":
            return one(DOCUMENT)
        if name == "doc_class":
            return one(Known(self.tracer.doc_class))
        self.tracer.asks.add(name)
        return BOTH if name == "status" else SOME

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
        self.call_method(static.fset, Arguments([one(HANDLER), values]), node)
        return True

    def _super_attribute(self, owner: Super, name: str, node: ast.AST | None) -> Values:
        cls = self.tracer.handler_class
        if owner.first is not HANDLER:
            box = owner.first
            if not isinstance(box, Box) or not isinstance(box.made_by, type):
                return SOME
            cls = box.made_by
        mro = cls.__mro__
        after = mro[mro.index(owner.after) + 1 :] if owner.after in mro else mro
        for base in after:
            if name not in vars(base):
                continue
            static = vars(base)[name]
            if owner.first is HANDLER:
                if base is RuleHandler and name in _FIELDS:
                    return self._field(name)
                return self._bound_to_handler(static, node)
            if isinstance(static, FunctionType):
                return one(Bound(Known(static), owner.first))
            return SOME
        return SOME
