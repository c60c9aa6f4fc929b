"""What Python's own functions and classes do in a rule that is read and not run."""

from __future__ import annotations

import ast
import collections
import copy
import dataclasses
import functools
import inspect
import itertools
from collections.abc import Iterable, Mapping
from types import (
    BuiltinFunctionType,
    FunctionType,
    MappingProxyType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, ClassVar, Final

from lazymig.rules.tracing.attributes import CACHED
from lazymig.rules.tracing.calls import TRUSTED, before, is_trusted
from lazymig.rules.tracing.containers import Containers
from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.state import may_be_key
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
    Partial,
    Super,
    Value,
    Values,
    shape,
    strings,
)

__all__ = ["Caller"]


_BOTH: Final[Values] = frozenset({Known(True), Known(False)})


_NONE: Final[Values] = frozenset({Known(None)})


class Caller(Containers):
    """Follows every call: what Python has of its own is modelled, other classes are looked into."""

    def call_known(
        self, function: Any, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        """Follow a call of an object from outside of the rule."""
        model = self._MODELS.get(id(function))
        if model is not None:
            found: Values = model(self, arguments, node, mark)
            return found
        if isinstance(function, functools.partial):
            whole = before([self.tracer.lifted_values(one) for one in function.args], arguments)
            given = {
                name: self.tracer.lifted_values(one) for name, one in function.keywords.items()
            }
            whole.named = {**given, **arguments.named}
            return self.call(Known(function.func), whole, node)
        if isinstance(function, MethodType):
            first = self.tracer.lifted_values(function.__self__)
            return self.call(Known(function.__func__), before([first], arguments), node)
        if isinstance(function, FunctionType):
            return self.call_method(function, arguments, node)
        if isinstance(function, type):
            return self._construct(function, arguments, node, mark)
        wrapped = getattr(function, "__wrapped__", None)
        if isinstance(wrapped, FunctionType) and isinstance(function, CACHED):
            return self.call_method(wrapped, arguments, node)
        if isinstance(function, (BuiltinFunctionType, MethodDescriptorType)):
            return self._call_builtin(function, arguments, node)
        if not callable(function):
            return NOTHING
        inner = inspect.getattr_static(type(function), "__call__", None)
        if isinstance(inner, FunctionType) and not is_trusted(inner):
            first = frozenset({Known(function)})
            return self.call_method(inner, before([first], arguments), node)
        return self.unknown(arguments, node)

    def _call_builtin(
        self,
        function: BuiltinFunctionType | MethodDescriptorType,
        arguments: Arguments,
        node: ast.AST | None,
    ) -> Values:
        if isinstance(function, MethodDescriptorType):
            if not arguments.positional:
                return self.unknown(arguments, node)
            rest = dataclasses.replace(arguments, positional=arguments.positional[1:])
            return NOTHING.union(
                *(
                    self.method(receiver, function.__name__, rest, node)
                    for receiver in arguments.positional[0]
                )
            )
        owner = function.__self__
        if owner is dict and function.__name__ == "fromkeys":
            return self._from_keys(arguments, node)
        if owner is itertools.chain:
            return self._chain_of(arguments, node)
        if owner is None or isinstance(owner, (ModuleType, type)):
            return self.trusted(arguments, node)
        return self.method(self.tracer.lift(owner), function.__name__, arguments, node)

    def _construct(
        self, cls: type, arguments: Arguments, node: ast.AST | None, mark: Any
    ) -> Values:
        init = inspect.getattr_static(cls, "__init__", None)
        names = getattr(cls, "__match_args__", ())
        if issubclass(cls, tuple) and names:
            return self._make_named_tuple(names, cls, arguments, node, mark)
        if issubclass(cls, (dict, list, tuple, set, frozenset)) and _has_methods(cls):
            # A container of the user's own, which may do anything when it is filled in.
            return self.unknown(arguments, node)
        if issubclass(cls, dict) and (not isinstance(init, FunctionType) or is_trusted(init)):
            return self._make_mapping(arguments, node, (mark, cls))
        if issubclass(cls, (list, tuple, set, frozenset, collections.deque)) and not isinstance(
            init, FunctionType
        ):
            return self._make_sequence(arguments, node, mark)
        if cls.__module__.partition(".")[0] in TRUSTED:
            return self.trusted(arguments, node, in_python=isinstance(init, FunctionType))
        plain_new = inspect.getattr_static(cls, "__new__", None) is vars(object)["__new__"]
        if type(cls).__call__ is not type.__call__ or not plain_new:
            return self.unknown(arguments, node)
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
            self.call_method(init, before([first], arguments), node)
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
                values = self.tracer.lifted_values(cls._field_defaults[name])
            self.tracer.put(box, [Known(index)], values, node)
        return frozenset({box})

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
        self.tracer.put(box, [key for key in keys if may_be_key(key)], values, node)
        return frozenset({box})

    def _make_sequence(self, arguments: Arguments, node: Any, mark: Any = None) -> Values:
        box = self.tracer.fresh("sequence", node, mark)
        values = NOTHING.union(*arguments.positional[:1], arguments.rest)
        for part in (*arguments.positional[1:], *arguments.named.values()):
            # Such as the key of sorted().
            self.hand_out(part, node, opens=False)
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
            return self.trusted(arguments, node)
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
            return self.unknown(arguments, node)
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
            return self.trusted(arguments, node)
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
            self.hand_out(values, node, opens=False)
        values = NOTHING.union(*arguments.positional, arguments.rest)
        if len(arguments.positional) == 1:
            return self.tracer.elements(values)
        return values

    def _getattr(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if len(arguments.positional) < 2:
            return self.unknown(arguments, node)
        owners, names, *default = arguments.positional
        found = NOTHING.union(*default)
        self.tracer.reads_types |= bool(default)
        for owner, name in itertools.product(owners, names):
            if isinstance(name, Known) and isinstance(name.value, str):
                found |= self.attribute(owner, name.value, node)
            elif owner is HANDLER:
                self.tracer.give_up(node)
            else:
                self.hand_out(frozenset({owner}), node, opens=False)
                found |= SOME
        return found

    def _setattr(self, arguments: Arguments, node: Any, _mark: Any) -> Values:
        if len(arguments.positional) != 3:
            return self.unknown(arguments, node)
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
        return self.trusted(arguments, node)

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
            kinds = self.tracer.eval(node.args[-1])
            verdicts = {
                _belongs(value, kind, name == "issubclass") for value in values for kind in kinds
            }
        return verdicts.pop() if len(verdicts) == 1 else None

    _MODELS: ClassVar[Mapping[int, Any]] = {
        id(function): model
        for model, functions in {
            _asks_type: (type, hasattr),
            _best: (max, min),
            _chain: (itertools.chain,),
            _copy: (copy.copy, copy.deepcopy),
            _enumerate: (enumerate,),
            _eval: (eval,),
            _filter: (filter,),
            _getattr: (getattr,),
            _gives_up: (exec, locals, compile, __import__),
            _harmless: (print, repr, len, bool, int, float, hash, id, sum, any, all, abs, round),
            _make_default: (collections.defaultdict,),
            _make_mapping: (dict, collections.OrderedDict, MappingProxyType),
            _make_sequence: (list, tuple, iter),
            _make_unordered: (set, frozenset, sorted, reversed),
            _map: (map,),
            _next: (next,),
            _partial: (functools.partial,),
            _range: (range,),
            _reduce: (functools.reduce,),
            _setattr: (setattr,),
            _string: (str,),
            _super: (super,),
            _tests: (isinstance, issubclass, callable),
            _vars: (vars, dir),
            _zip: (zip,),
        }.items()
        for function in functions
    }


def _has_methods(cls: type) -> bool:
    """Whether a class has methods that are written in Python, and not by Python's own libraries."""
    return any(
        isinstance(value, FunctionType) and not is_trusted(value)
        for base in cls.__mro__
        for value in vars(base).values()
    )


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
