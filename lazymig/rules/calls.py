"""What a call does and gives back in a rule that is read and not run; and what an attribute is."""

from __future__ import annotations

import ast
import collections
import copy
import dataclasses
import enum
import functools
import inspect
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

from lazymig.rules.abstract import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SCALARS,
    SOME,
    UNKNOWN,
    Bound,
    Box,
    Function,
    Known,
    Method,
    Partial,
    Prefix,
    Super,
    Value,
    Values,
    concatenated,
    limited,
    shape,
    shapes,
    strings,
)
from lazymig.rules.rule import RuleHandler
from lazymig.rules.source import FunctionNode, syntax_of
from lazymig.rules.tracing import Arguments, Frame, Tracer

__all__ = ["Caller"]

# More calls within calls than this are not followed.
_DEEPEST: Final = 25

# Their functions change none of their arguments.
_TRUSTED: Final = sys.stdlib_module_names | {"bson", "dateutil", "mongoengine", "pymongo", "pytz"}

# Methods of lists, mappings and strings, which change none of their arguments.
_PLAIN_METHODS: Final = frozenset(
    {name for kind in (dict, list, set, str, bytes, tuple, int, float) for name in dir(kind)}
)

_CONTAINER_METHODS: Final = _PLAIN_METHODS | set(dir(collections.deque)) | {"move_to_end"}

_FIELDS: Final = ("doc", "collection", "status", "doc_class")
_SETTINGS: Final = ("target", "update", "array_filters", "writes", "reads")
_BOTH: Final[Values] = frozenset({Known(True), Known(False)})
_NONE: Final[Values] = frozenset({Known(None)})


class Caller:
    """Follows calls and attributes for a `Tracer`."""

    def __init__(self, tracer: Tracer) -> None:
        self.tracer = tracer
        self.known: dict[int, tuple[FunctionType, tuple[FunctionNode, ...], dict[str, Values]]] = {}
        self.entered: dict[Any, Frame] = {}
        self.texts: dict[str, ast.expr | None] = {}

    # --- Calls --------------------------------------------------------------------------

    def call_node(self, node: ast.Call) -> Values:
        """Follow a call in the source."""
        if isinstance(node.func, ast.Attribute):
            owners = self.tracer.eval(node.func.value)
            arguments = self._arguments(node)
            found: Values = NOTHING
            for owner in owners:
                found |= self._call_attribute(owner, node.func.attr, arguments, node)
            return found
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
        return self.call_all(values, arguments, node)

    def _arguments(self, node: ast.Call) -> Arguments:
        arguments = Arguments([])
        for part in node.args:
            if isinstance(part, ast.Starred):
                values = self.tracer.eval(part.value)
                (only,) = values if len(values) == 1 else (None,)
                positions = only.positions() if isinstance(only, Box) else None
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
                entries = value.entries if isinstance(value, Box) and not value.opened else None
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
        found: Values = NOTHING
        for function in functions:
            found |= self.call(function, arguments, node, mark)
        return limited(found)

    def call(
        self, function: Value, arguments: Arguments, node: ast.AST | None, mark: Any = None
    ) -> Values:
        """Follow a call; return what it may give back."""
        if node is not None:
            self.tracer.step(node)
        if isinstance(function, Function):
            parent = function.frame
            return self._enter(
                function.node,
                parent,
                parent.outside,
                parent.globals,
                parent.file,
                arguments,
                dict(function.defaults),
                node,
            )
        if isinstance(function, Bound):
            first: Values = frozenset({function.first})
            return self.call(function.function, _before([first], arguments), node, mark)
        if isinstance(function, Partial):
            whole = _before(function.positional, arguments)
            whole.named = {**dict(function.named), **arguments.named}
            return self.call(function.function, whole, node, mark)
        if isinstance(function, Method):
            return self.method(function.receiver, function.name, arguments, node)
        if isinstance(function, Known):
            return self._call_known(function.value, arguments, node, mark)
        if isinstance(function, Box):
            if function.kind != "object":
                return NOTHING
            return self.call_all(self.attribute(function, "__call__", node), arguments, node)
        return self._unknown(arguments, node)

    def _call_known(
        self, function: Any, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        model = _MODELS.get(id(function))
        if model is not None:
            found: Values = model(self, arguments, node, mark)
            return found
        if isinstance(function, functools.partial):
            whole = _before([self.tracer.lifted_values(one) for one in function.args], arguments)
            given = {
                name: self.tracer.lifted_values(one) for name, one in function.keywords.items()
            }
            whole.named = {**given, **arguments.named}
            return self.call(Known(function.func), whole, node)
        if isinstance(function, MethodType):
            first = self.tracer.lifted_values(function.__self__)
            return self.call(Known(function.__func__), _before([first], arguments), node)
        if isinstance(function, FunctionType):
            return self.call_method(function, arguments, node)
        if isinstance(function, type):
            return self._construct(function, arguments, node, mark)
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType) and isinstance(function, _CACHED):
            return self.call_method(wrapped, arguments, node)
        if isinstance(function, MethodDescriptorType):
            if not arguments.positional:
                return self._unknown(arguments, node)
            rest = dataclasses.replace(arguments, positional=arguments.positional[1:])
            return NOTHING.union(
                *(
                    self.method(receiver, function.__name__, rest, node)
                    for receiver in arguments.positional[0]
                )
            )
        if isinstance(function, BuiltinFunctionType):
            owner = function.__self__
            if isinstance(owner, ModuleType) or owner is None:
                return self._trusted(arguments, node)
            if owner is dict and function.__name__ == "fromkeys":
                return self._from_keys(arguments, node)
            if owner is itertools.chain:
                return self._chain_of(arguments, node)
            if isinstance(owner, type):
                return self._trusted(arguments, node)
            return self.method(self.tracer.lift(owner), function.__name__, arguments, node)
        if not callable(function):
            return NOTHING
        inner = inspect.getattr_static(type(function), "__call__", None)
        if isinstance(inner, FunctionType) and not _is_trusted(inner):
            first = frozenset({Known(function)})
            return self.call_method(inner, _before([first], arguments), node)
        return self._unknown(arguments, node)

    def call_method(
        self, function: FunctionType, arguments: Arguments, node: ast.AST | None = None
    ) -> Values:
        """Follow a call of a function that is written in Python."""
        if _is_own(function):
            return SOME
        if _is_trusted(function):
            return self._trusted(arguments, node, in_python=True)
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
            return self._unknown(arguments, node)
        code = function.__code__
        names = code.co_varnames[: code.co_argcount]
        values = function.__defaults__ or ()
        given = dict(zip(names[len(names) - len(values) :], values, strict=True))
        given.update(function.__kwdefaults__ or {})
        defaults = {name: self.tracer.lifted_values(value) for name, value in given.items()}
        found: Values = NOTHING
        for one in nodes:
            found |= self._enter(
                one,
                None,
                outside,
                function.__globals__,
                code.co_filename,
                arguments,
                defaults,
                node,
            )
        return found

    def _enter(
        self,
        node: FunctionNode,
        parent: Frame | None,
        outside: Mapping[str, Values],
        globals_: Mapping[str, Any],
        file: str,
        arguments: Arguments,
        defaults: Mapping[str, Values],
        caller: ast.AST | None,
    ) -> Values:
        """Follow a function with its arguments."""
        tracer = self.tracer
        parameters = self._parameters(node, arguments, defaults)
        for frame in tracer.frames:
            if frame.node is node and frame.parent is parent and frame.outside is outside:
                # A function that calls itself gets all arguments at once; the next round tells.
                for name, values in parameters.items():
                    tracer.widen(frame.parameters, name, values)
                return _given_back(frame)
        if len(tracer.frames) >= _DEEPEST:
            return self._unknown(arguments, caller)
        given = frozenset((name, shapes(values)) for name, values in parameters.items())
        key = (id(node), id(parent), id(outside), given)
        known = self.entered.get(key)
        if known is None:
            known = self.entered[key] = Frame(key, node, parent, outside, globals_, file)
        for name, values in parameters.items():
            tracer.widen(known.parameters, name, values)
        if known.done != tracer.version:
            before = tracer.version
            tracer.run(known)
            known.done = tracer.version if tracer.version == before else -1
        return _given_back(known)

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
            found[spec.vararg.arg] = frozenset({box})
        if spec.kwarg is not None:
            extra = {name: one for name, one in arguments.named.items() if name not in named}
            mark = frozenset((name, shapes(one)) for name, one in extra.items())
            box = self.tracer.fresh("mapping", spec.kwarg, mark)
            for name, values in extra.items():
                self.tracer.put(box, [Known(name)], values, None)
            if arguments.others:
                self.tracer.put(box, [UNKNOWN], arguments.others, None)
            found[spec.kwarg.arg] = frozenset({box})
        return found

    def _unknown(self, arguments: Arguments, node: ast.AST | None) -> Values:
        """Code that cannot be seen: it may change all that it is handed."""
        self.tracer.reads_types = True
        for values in arguments.all():
            self._hand_out(values, node, opens=True)
        return SOME.union(*(_boxes(values) for values in arguments.all()))

    def _trusted(
        self, arguments: Arguments, node: ast.AST | None, in_python: bool = False
    ) -> Values:
        """Code that changes none of its arguments, and may keep them."""
        self.tracer.reads_types |= in_python
        for values in arguments.all():
            self._hand_out(values, node, opens=False)
        return SOME.union(*(_boxes(values) for values in arguments.all()))

    def _hand_out(self, values: Values, node: ast.AST | None, opens: bool) -> None:
        """Note that values are in the hands of other code."""
        tracer = self.tracer
        for value in tracer.reachable(values):
            if value is HANDLER:
                tracer.give_up(node)
            elif value is DOCUMENT:
                tracer.read_all()
            elif isinstance(value, Box):
                if opens and value.kind != "object":
                    tracer.open(value, node)
                tracer.leak(frozenset({value}))
            elif isinstance(value, (Function, Bound, Partial)) or (
                isinstance(value, Known)
                and isinstance(value.value, FunctionType)
                and not _is_trusted(value.value)
            ):
                self.call(value, Arguments([], rest=SOME, others=SOME), node)

    # --- Attributes ---------------------------------------------------------------------

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
        if cls.__module__ in _TRUSTED:
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
            if name.startswith("__"):
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
        if isinstance(static, _CACHED):
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

    # --- Methods of containers and strings ----------------------------------------------

    def method(
        self, receiver: Value, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        """Follow a call of a method that is not written in Python, or is not known."""
        if receiver is DOCUMENT:
            return self._document_method(name, arguments)
        if isinstance(receiver, Box) and receiver.kind == "mapping":
            return self._mapping_method(receiver, name, arguments, node)
        if isinstance(receiver, Box) and receiver.kind == "sequence":
            return self._sequence_method(receiver, name, arguments, node)
        if isinstance(receiver, Known) and isinstance(receiver.value, str):
            return self._text_method(receiver, name, arguments, node)
        if isinstance(receiver, Known) and type(receiver.value) in SCALARS:
            if not hasattr(receiver.value, name):
                return NOTHING
        if name in _PLAIN_METHODS:
            found = self._trusted(arguments, node)
            # It may change what is not known, which may hold something that is.
            for box in tuple(self.tracer.leaked):
                if name in _CHANGING:
                    self.tracer.open(box, node)
            return found
        return self._unknown(arguments, node)

    def _document_method(self, name: str, arguments: Arguments) -> Values:
        if name in ("get", "__getitem__", "__contains__"):
            given = arguments.positional
            self.tracer.read(given[0] if given else SOME)
            return SOME.union(*given[1:], arguments.named.get("default", NOTHING))
        self.tracer.read_all()
        return SOME

    def _mapping_method(
        self, box: Box, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        tracer = self.tracer
        given = arguments.positional
        keys = given[0] if given else arguments.rest
        default = NOTHING.union(*given[1:], arguments.rest, *arguments.named.values())
        if name in ("get", "pop", "__getitem__"):
            return NOTHING.union(*(box.at(key) for key in keys)) | default | _NONE
        if name in ("setdefault", "__setitem__"):
            values = default or _NONE
            tracer.put(box, [key for key in keys if _may_be_key(key)], values, node)
            return NOTHING.union(*(box.at(key) for key in keys)) | values
        if name in ("update", "__ior__"):
            for values in (*given, arguments.rest):
                self.merge(box, values, node)
            for keyword, values in arguments.named.items():
                tracer.put(box, [Known(keyword)], values, node)
            if arguments.others:
                tracer.put(box, [UNKNOWN], SOME, node)
            return frozenset({box})
        if name in ("copy", "__or__", "__ror__", "__copy__"):
            result = tracer.fresh("mapping", node, shape(box))
            self.merge(result, frozenset({box}).union(*given), node)
            return frozenset({result})
        if name in ("keys", "values", "items"):
            result = tracer.fresh("sequence", node, (shape(box), name))
            for key, values in _entries(box):
                held: Values = frozenset({key}) if name == "keys" else values
                if name == "items":
                    pair = tracer.fresh("sequence", node, (shape(box), key))
                    tracer.put(pair, [Known(0)], frozenset({key}), None)
                    tracer.put(pair, [Known(1)], values, None)
                    held = frozenset({pair})
                tracer.put(result, [UNKNOWN], held, None)
            return frozenset({result})
        if name == "popitem":
            return SOME
        if name in ("clear", "__delitem__", "__contains__", "__len__", "move_to_end"):
            return _NONE
        return self._unknown(_before([frozenset({box})], arguments), node)

    def _sequence_method(
        self, box: Box, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        tracer = self.tracer
        given = [*arguments.positional, *([arguments.rest] if arguments.rest else [])]
        added = given[-1] if given else NOTHING
        if name in ("append", "add", "insert", "appendleft"):
            tracer.put(box, [UNKNOWN], added, node)
            return _NONE
        if name in ("extend", "update", "extendleft", "__iadd__"):
            tracer.put(box, [UNKNOWN], tracer.elements(NOTHING.union(*given)), node)
            return _NONE | {box}
        if name in ("sort", "reverse"):
            tracer.put(box, [UNKNOWN], box.all(), node)
            self._trusted(arguments, node)
            return _NONE
        if name in ("pop", "popleft", "__getitem__"):
            return box.all()
        if name in ("copy", "union", "difference", "intersection", "symmetric_difference"):
            result = tracer.fresh("sequence", node, shape(box))
            held = box.all() | tracer.elements(NOTHING.union(*given))
            tracer.put(result, [UNKNOWN], held, node)
            return frozenset({result})
        if name in ("index", "count", "remove", "discard", "clear", "issubset", "issuperset"):
            return SOME
        return self._unknown(_before([frozenset({box})], arguments), node)

    def _text_method(
        self, text: Known, name: str, arguments: Arguments, node: ast.AST | None
    ) -> Values:
        if name == "join" and arguments.positional:
            return self._joined(text.value, arguments.positional[0])
        if name in ("format", "format_map"):
            self._trusted(arguments, node)
            begin = min(
                (text.value.find(mark) for mark in "{}" if mark in text.value),
                default=len(text.value),
            )
            return frozenset({Prefix(text.value[:begin])}) if begin else SOME
        given = arguments.positional
        if not (arguments.named or arguments.rest or arguments.others) and all(
            isinstance(value, Known) and type(value.value) in SCALARS
            for values in given
            for value in values
        ):
            function = getattr(text.value, name, None)
            found: set[Value] = set()
            for chosen in itertools.islice(itertools.product(*given), 65):
                try:
                    result = function(*(one.value for one in chosen))  # type: ignore[misc,union-attr]
                except Exception:  # noqa: BLE001, S112 - then it raises when the rule runs, too
                    continue
                found.add(self.tracer.lift(result))
            return SOME if len(found) > 64 else frozenset(found)
        self._trusted(arguments, node)
        return SOME

    def _joined(self, mark: str, values: Values) -> Values:
        found: Values = NOTHING
        for value in values:
            positions = value.positions() if isinstance(value, Box) else None
            if positions is None:
                if value is DOCUMENT:
                    self.tracer.read_all()
                return SOME
            text: Values = frozenset({Known("")})
            for index, part in enumerate(positions):
                if index:
                    text = concatenated(text, frozenset({Known(mark)}))
                text = concatenated(text, strings(part))
            found |= text
        return found

    def formatted(self, texts: Values, given: Values, node: ast.AST | None) -> Values:
        """What may come of `text % values`."""
        self._trusted(Arguments([given]), node)
        found: set[Value] = set()
        for text in texts:
            value = text.text if isinstance(text, Prefix) else str(text.value)  # type: ignore[union-attr]
            before, mark, _after = value.partition("%")
            if isinstance(text, Prefix) or mark:
                found.add(Prefix(before) if before else UNKNOWN)
            else:
                found.add(text)
        simple = all(isinstance(one, Known) and type(one.value) in (str, int) for one in given)
        if simple and all(isinstance(text, Known) for text in texts):
            whole: set[Value] = set()
            for text, one in itertools.product(texts, given):
                try:
                    whole.add(Known(text.value % one.value))  # type: ignore[union-attr]
                except (TypeError, ValueError):
                    continue
            return frozenset(whole)
        return frozenset(found)

    def merge(self, box: Box, values: Values, node: ast.AST | None) -> None:
        """Put the entries of mappings, or pairs, into a mapping."""
        tracer = self.tracer
        for value in values:
            if value is box:
                continue
            if isinstance(value, Box) and value.kind == "mapping":
                for key, held in list(value.entries.items()):
                    origin = value.origins.get(key)
                    if box.add(key, held, origin or tracer.origin(node)):
                        tracer.version += 1
                if value.opened is not None:
                    tracer.put(box, [UNKNOWN], SOME, node)
                if value.factory and not box.factory:
                    box.factory = value.factory
            elif isinstance(value, Box):
                for pair in value.all():
                    positions = pair.positions() if isinstance(pair, Box) else None
                    if positions is None or len(positions) != 2:
                        tracer.put(box, [UNKNOWN], SOME, node)
                    else:
                        keys = [key for key in positions[0] if _may_be_key(key)]
                        tracer.put(box, keys, positions[1], node)
            elif not (isinstance(value, Known) and type(value.value) in SCALARS):
                if value is DOCUMENT:
                    tracer.read_all()
                tracer.put(box, [UNKNOWN], SOME, node)

    def walked(self, value: Value) -> Values:
        """What one meets in a walk through a value that is no container."""
        if isinstance(value, Known):
            if isinstance(value.value, type) and issubclass(value.value, enum.Enum):
                return frozenset(map(Known, value.value))
            if type(value.value) in SCALARS:
                return NOTHING
        return SOME

    # --- Classes ------------------------------------------------------------------------

    def _construct(
        self, cls: type, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        init = inspect.getattr_static(cls, "__init__", None)
        if issubclass(cls, dict) and (not isinstance(init, FunctionType) or _is_trusted(init)):
            return self._make_mapping(arguments, node, (mark, cls))
        names = getattr(cls, "__match_args__", ())
        if issubclass(cls, tuple) and names:
            return self._make_named_tuple(names, cls, arguments, node, mark)
        if issubclass(cls, (list, tuple, set, frozenset, collections.deque)) and not isinstance(
            init, FunctionType
        ):
            return self._make_sequence(arguments, node, mark)
        if cls.__module__.partition(".")[0] in _TRUSTED:
            return self._trusted(arguments, node, in_python=isinstance(init, FunctionType))
        plain_new = inspect.getattr_static(cls, "__new__", None) is vars(object)["__new__"]
        if type(cls).__call__ is not type.__call__ or not plain_new:
            return self._unknown(arguments, node)
        box = self.tracer.fresh("object", node, (mark, cls))
        box.made_by = cls
        first: Values = frozenset({box})
        if dataclasses.is_dataclass(cls) and "__init__" in vars(cls):
            for index, field in enumerate(dataclasses.fields(cls)):
                values = arguments.named.get(field.name, arguments.rest | arguments.others)
                if index < len(arguments.positional):
                    values |= arguments.positional[index]
                if field.default is not dataclasses.MISSING:
                    values |= self.tracer.lifted_values(field.default)
                if field.default_factory is not dataclasses.MISSING:
                    values |= self.call(
                        Known(field.default_factory), Arguments([]), node, (shape(box), field.name)
                    )
                self.tracer.put(box, [Known(field.name)], values, node)
            self.call_all(self.attribute(box, "__post_init__", node) - SOME, Arguments([]), node)
        elif isinstance(init, FunctionType):
            self.call_method(init, _before([first], arguments), node)
        return first

    def _make_named_tuple(
        self, names: tuple[str, ...], cls: Any, arguments: Arguments, node: Any, mark: Any
    ) -> Values:
        box = self.tracer.fresh("sequence", node, (mark, cls))
        box.made_by = names
        for index, name in enumerate(names):
            values = arguments.named.get(name, arguments.rest | arguments.others)
            if index < len(arguments.positional):
                values |= arguments.positional[index]
            if not values and name in getattr(cls, "_field_defaults", {}):
                values = self.tracer.lifted_values(cls._field_defaults[name])  # noqa: SLF001
            self.tracer.put(box, [Known(index)], values, node)
        return frozenset({box})

    # --- Models of functions that Python has --------------------------------------------

    def _make_mapping(self, arguments: Arguments, node: Any, mark: Any = None) -> Values:
        box = self.tracer.fresh("mapping", node, mark)
        self._mapping_method(box, "update", arguments, node)
        return frozenset({box})

    def _make_default(self, arguments: Arguments, node: Any, mark: Any = None) -> Values:
        box = self.tracer.fresh("mapping", node, mark)
        if arguments.positional:
            box.factory = arguments.positional[0] - _NONE
            arguments = dataclasses.replace(arguments, positional=arguments.positional[1:])
        self._mapping_method(box, "update", arguments, node)
        return frozenset({box})

    def _from_keys(self, arguments: Arguments, node: Any) -> Values:
        box = self.tracer.fresh("mapping", node)
        keys = self.tracer.elements(NOTHING.union(*arguments.positional[:1], arguments.rest))
        values = NOTHING.union(*arguments.positional[1:2]) or _NONE
        self.tracer.put(box, [key for key in keys if _may_be_key(key)], values, node)
        return frozenset({box})

    def _make_sequence(self, arguments: Arguments, node: Any, mark: Any = None) -> Values:
        box = self.tracer.fresh("sequence", node, mark)
        values = NOTHING.union(*arguments.positional[:1], arguments.rest)
        for part in (*arguments.positional[1:], *arguments.named.values()):
            # Such as the key of sorted().
            self._hand_out(part, node, opens=False)
        (only,) = values if len(values) == 1 else (None,)
        positions = only.positions() if isinstance(only, Box) else None
        for index, found in enumerate(positions or ()):
            self.tracer.put(box, [Known(index)], found, node)
        if positions is None:
            self.tracer.put(box, [UNKNOWN], self.tracer.elements(values), node)
        return frozenset({box})

    def _make_unordered(self, arguments: Arguments, node: Any, mark: Any = None) -> Values:
        found = self._make_sequence(arguments, node, mark)
        for box in found:
            if isinstance(box, Box):
                self.tracer.put(box, [UNKNOWN], box.all(), node)
        return found

    def _enumerate(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        values = self.tracer.elements(NOTHING.union(*arguments.positional[:1], arguments.rest))
        return self._tuples([SOME, values], node)

    def _tuples(self, places: Iterable[Values], node: Any) -> Values:
        box = self.tracer.fresh("sequence", node)
        pair = self.tracer.fresh("sequence", node, "pair")
        for index, values in enumerate(places):
            self.tracer.put(pair, [Known(index)], values, node)
        self.tracer.put(box, [UNKNOWN], frozenset({pair}), node)
        return frozenset({box})

    def _zip(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if arguments.rest:
            return self._trusted(arguments, node)
        lists: list[list[Values]] = []
        for values in arguments.positional:
            (only,) = values if len(values) == 1 else (None,)
            positions = only.positions() if isinstance(only, Box) else None
            if positions is None:
                return self._tuples(map(self.tracer.elements, arguments.positional), node)
            lists.append(positions)
        box = self.tracer.fresh("sequence", node)
        for number, row in enumerate(zip(*lists, strict=False)):
            pair = self.tracer.fresh("sequence", node, number)
            for index, values in enumerate(row):
                self.tracer.put(pair, [Known(index)], values, node)
            self.tracer.put(box, [Known(number)], frozenset({pair}), node)
        return frozenset({box})

    def _map(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        functions = NOTHING.union(*arguments.positional[:1])
        items = [self.tracer.elements(values) for values in arguments.positional[1:]]
        results = self.call_all(functions, Arguments(items, rest=arguments.rest), node)
        box = self.tracer.fresh("sequence", node)
        self.tracer.put(box, [UNKNOWN], results, node)
        return frozenset({box})

    def _filter(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        items = self.tracer.elements(NOTHING.union(*arguments.positional[1:2]))
        self.call_all(NOTHING.union(*arguments.positional[:1]) - _NONE, Arguments([items]), node)
        box = self.tracer.fresh("sequence", node)
        self.tracer.put(box, [UNKNOWN], items, node)
        return frozenset({box})

    def _reduce(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        memory = self.tracer.fresh("sequence", node)
        items = self.tracer.elements(NOTHING.union(*arguments.positional[1:2]))
        first = NOTHING.union(*arguments.positional[2:3]) or items
        self.tracer.put(memory, [UNKNOWN], first, node)
        functions = NOTHING.union(*arguments.positional[:1])
        results = self.call_all(functions, Arguments([memory.all(), items]), node)
        self.tracer.put(memory, [UNKNOWN], results, node)
        return memory.all()

    def _chain(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        box = self.tracer.fresh("sequence", node)
        for values in (*arguments.positional, arguments.rest):
            self.tracer.put(box, [UNKNOWN], self.tracer.elements(values), node)
        return frozenset({box})

    def _chain_of(self, arguments: Arguments, node: Any) -> Values:
        parts = self.tracer.elements(NOTHING.union(*arguments.positional))
        return self._chain(Arguments([parts]), node, None)

    def _partial(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if arguments.rest or arguments.others or not arguments.positional:
            return self._unknown(arguments, node)
        given = tuple(arguments.positional[1:])
        named = tuple(arguments.named.items())
        return frozenset(Partial(one, given, named) for one in arguments.positional[0])

    def _copy(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        tracer = self.tracer
        given = NOTHING.union(*arguments.positional[:1], arguments.rest)
        if DOCUMENT in given:
            tracer.read_all()
        copies: dict[Value, Box] = {}
        for value in tracer.reachable(given):
            if isinstance(value, Box) and value.kind != "object":
                copies[value] = tracer.fresh(value.kind, node, shape(value))
        for value, copied in copies.items():
            assert isinstance(value, Box)
            copied.made_by = value.made_by
            for key, held in list(value.entries.items()):
                inner: Values = frozenset(copies[one] for one in held if one in copies)
                if copied.add(key, held | inner, value.origins.get(key)):
                    tracer.version += 1
            if value.opened is not None:
                tracer.open(copied, node)
        return frozenset(UNKNOWN if one is DOCUMENT else copies.get(one, one) for one in given)

    def _string(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if len(arguments.positional) != 1:
            return self._trusted(arguments, node)
        if DOCUMENT in arguments.positional[0]:
            self.tracer.read_all()
        return strings(arguments.positional[0])

    def _range(self, arguments: Arguments, _node: Any, _mark: Any) -> Values:
        given = [next(iter(values)) for values in arguments.positional if len(values) == 1]
        numbers = [one.value for one in given if isinstance(one, Known) and type(one.value) is int]
        if numbers and len(numbers) == len(arguments.positional) and 0 not in numbers[2:]:
            return frozenset({Known(range(*numbers))})
        return SOME

    def _next(self, arguments: Arguments, _node: Any, _mark: Any) -> Values:
        found = NOTHING.union(*arguments.positional[1:], arguments.rest)
        return found | self.tracer.elements(NOTHING.union(*arguments.positional[:1]))

    def _best(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        for values in arguments.named.values():
            self._hand_out(values, node, opens=False)
        values = NOTHING.union(*arguments.positional, arguments.rest)
        if len(arguments.positional) == 1:
            return self.tracer.elements(values)
        return values

    def _getattr(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if len(arguments.positional) < 2:
            return self._unknown(arguments, node)
        owners, names, *default = arguments.positional
        found = NOTHING.union(*default)
        self.tracer.reads_types |= bool(default)
        for owner, name in itertools.product(owners, names):
            if isinstance(name, Known) and isinstance(name.value, str):
                found |= self.attribute(owner, name.value, node)
            elif owner is HANDLER:
                self.tracer.give_up(node)
            else:
                self._hand_out(frozenset({owner}), node, opens=False)
                found |= SOME
        return found

    def _setattr(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if len(arguments.positional) != 3:
            return self._unknown(arguments, node)
        owners, names, values = arguments.positional
        for owner, name in itertools.product(owners, names):
            if isinstance(name, Known) and isinstance(name.value, str):
                self.tracer.set_attribute(owner, name.value, values, node)
            elif owner is HANDLER:
                self.tracer.give_up(node)
            else:
                self.tracer.set_item(owner, SOME, values, node, node)
        return _NONE

    def _asks_type(self, arguments: Arguments, _node: Any, _mark: Any) -> Values:
        given = NOTHING.union(*arguments.positional[:1], arguments.rest)
        self.tracer.reads_types |= UNKNOWN in given
        return frozenset({Known(self.tracer.handler_class)}) if given == {HANDLER} else SOME

    def _harmless(self, arguments: Arguments, _node: Any, _mark: Any) -> Values:
        for values in arguments.all():
            if DOCUMENT in values:
                self.tracer.read_all()
        return SOME

    def _tests(self, _arguments: Arguments, _node: Any, _mark: Any) -> Values:
        return _BOTH

    def _gives_up(self, _arguments: Arguments, node: Any, _mark: Any) -> Values:
        self.tracer.give_up(node)
        return NOTHING

    def _vars(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if not arguments.positional or HANDLER in arguments.positional[0]:
            self.tracer.give_up(node)
        return self._trusted(arguments, node)

    def _super(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        tracer = self.tracer
        if len(arguments.positional) == 2:
            classes, owners = arguments.positional
        else:
            frame = tracer.frame
            while frame.parent is not None and "__class__" not in frame.outside:
                frame = frame.parent
            classes = frame.outside.get("__class__", NOTHING)
            names = [arg.arg for arg in (*frame.node.args.posonlyargs, *frame.node.args.args)]
            owners = frame.cells.get(names[0], NOTHING) if names else NOTHING
        found = frozenset(
            Super(cls.value, owner)
            for cls, owner in itertools.product(classes, owners)
            if isinstance(cls, Known) and isinstance(cls.value, type)
        )
        if not found:
            tracer.give_up(node)
        return found

    def _eval(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        texts = NOTHING.union(*arguments.positional[:1], arguments.rest)
        found: Values = NOTHING
        for text in texts:
            if len(arguments.positional) != 1 or arguments.named or not isinstance(text, Known):
                self.tracer.give_up(node)
                continue
            if text.value not in self.texts:
                try:
                    self.texts[text.value] = ast.parse(text.value, mode="eval").body
                except (SyntaxError, TypeError, ValueError):
                    self.texts[text.value] = None
            expression = self.texts[text.value]
            if expression is not None:
                found |= self.tracer.eval(expression)
        return found

    def told(self, node: ast.Call) -> bool | None:
        """The outcome of a question about a constant; `None` where it is none."""
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in ("callable", "isinstance", "issubclass") or not node.args or node.keywords:
            return None
        if not self.tracer.is_settled(node.args[0]):
            return None
        values = self.tracer.eval(node.args[0])
        if name == "callable":
            verdicts = {_is_callable(value) for value in values}
        else:
            (kind,) = self.tracer.eval(node.args[1]) if len(node.args) == 2 else (UNKNOWN,)
            verdicts = {_belongs(value, kind, name == "issubclass") for value in values}
        return verdicts.pop() if len(verdicts) == 1 else None


def _is_callable(value: Value) -> bool | None:
    if isinstance(value, Known):
        return callable(value.value)
    if isinstance(value, (Function, Bound, Partial)):
        return True
    return False if isinstance(value, Box) and value.kind != "object" else None


def _belongs(value: Value, kind: Value, is_class: bool) -> bool | None:
    if not isinstance(kind, Known) or not isinstance(kind.value, type):
        return None
    if isinstance(value, Known):
        if is_class:
            return isinstance(value.value, type) and issubclass(value.value, kind.value)
        return isinstance(value.value, kind.value)
    return None


def _before(first: Iterable[Values], arguments: Arguments) -> Arguments:
    return dataclasses.replace(arguments, positional=[*first, *arguments.positional])


def _given_back(frame: Frame) -> Values:
    if frame.yields:
        return frozenset({frame.yielded})
    return frame.returns if isinstance(frame.node, ast.Lambda) else frame.returns | _NONE


def _boxes(values: Values) -> Values:
    return frozenset(value for value in values if isinstance(value, Box))


def _entries(box: Box) -> list[tuple[Value, Values]]:
    found = list(box.entries.items())
    return found if box.opened is None else [*found, (UNKNOWN, SOME)]


def _may_be_key(value: Value) -> bool:
    return isinstance(value, (Known, Prefix)) or value is UNKNOWN


def _is_trusted(function: FunctionType) -> bool:
    return (function.__module__ or "").partition(".")[0] in _TRUSTED


def _is_own(function: FunctionType) -> bool:
    """Whether a function is one of lazymig's own, which every handler has."""
    parts = (function.__module__ or "").split(".")
    return parts[0] == "lazymig" and parts[1:2] != ["demo"]


_CACHED: Final = type(functools.lru_cache(lambda: None))
_CHANGING: Final = frozenset(
    {"add", "append", "clear", "extend", "insert", "pop", "popitem", "remove", "setdefault"}
    | {"update", "__setitem__", "discard"}
)

_MODELS: Final[dict[int, Callable[..., Values]]] = {
    id(function): model
    for model, functions in {
        Caller._asks_type: (type, hasattr),
        Caller._best: (max, min),
        Caller._chain: (itertools.chain,),
        Caller._copy: (copy.copy, copy.deepcopy),
        Caller._enumerate: (enumerate,),
        Caller._eval: (eval,),
        Caller._filter: (filter,),
        Caller._getattr: (getattr,),
        Caller._gives_up: (exec, locals, compile, __import__),
        Caller._harmless: (print, repr, len, bool, int, float, hash, id, sum, any, all, abs, round),
        Caller._make_default: (collections.defaultdict,),
        Caller._make_mapping: (dict, collections.OrderedDict, MappingProxyType),
        Caller._make_sequence: (list, tuple, iter),
        Caller._make_unordered: (set, frozenset, sorted, reversed),
        Caller._map: (map,),
        Caller._next: (next,),
        Caller._partial: (functools.partial,),
        Caller._range: (range,),
        Caller._reduce: (functools.reduce,),
        Caller._setattr: (setattr,),
        Caller._string: (str,),
        Caller._super: (super,),
        Caller._tests: (isinstance, issubclass, callable),
        Caller._vars: (vars, dir),
        Caller._zip: (zip,),
    }.items()
    for function in functions
}
