"""The models of Python's own functions and classes in a rule that is read and not run."""

from __future__ import annotations

import ast
import collections
import copy
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.values import (
    BOTH,
    DOCUMENT,
    HANDLER,
    NONE,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Known,
    Partial,
    Super,
    Value,
    Values,
    is_object,
    may_be_key,
    one,
    positions_of,
    reachable,
    shape,
    strings,
)

if TYPE_CHECKING:
    from lazymig.rules.tracing.callers import Caller
    from lazymig.rules.tracing.statements import Tracer

__all__ = ["MODELS", "Call", "chained", "from_keys", "make_mapping", "make_sequence"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function that has a model; `mark` distinguishes calls at the same place."""

    caller: Caller
    arguments: Arguments
    node: Any
    mark: Any = None

    @property
    def tracer(self) -> Tracer:
        """What is found out about the rule."""
        return self.caller.tracer

    @property
    def places(self) -> list[Values]:
        """The arguments that are given by their places."""
        return self.arguments.positional

    @property
    def elements(self) -> Values:
        """What one meets in a walk through the first argument."""
        return self.tracer.elements(self.arguments.first)

    def some_of(self, values: Values) -> Values:
        """Return a sequence that holds any of the values."""
        return self.tracer.some_of(values, self.node)

    def row_of(self, places: Iterable[Values], mark: Any) -> Values:
        """Return a sequence of which it is known what is at each place."""
        return self.tracer.row_of(places, self.node, mark)

    def result_of(self, functions: Values, *given: Values, rest: Values = NOTHING) -> Values:
        """What functions give back that are called with these arguments."""
        return self.caller.call_all(functions, Arguments([*given], rest=rest), self.node)

    def unknown(self) -> Values:
        """Follow the call as one of code that cannot be seen."""
        return self.caller.unknown(self.arguments, self.node)

    def trusted(self) -> Values:
        """Follow the call as one of code that changes none of its arguments."""
        return self.caller.trusted(self.arguments, self.node)


def make_mapping(call: Call) -> Values:
    """A mapping that is filled as `dict` does it."""
    box = call.tracer.fresh("mapping", call.node, call.mark)
    call.caller.mapping_method(box, "update", call.arguments, call.node)
    return one(box)


def _make_default(call: Call) -> Values:
    box = call.tracer.fresh("mapping", call.node, call.mark)
    if call.places:
        box.factory = call.places[0] - NONE
    rest = call.arguments.without_first()
    call.caller.mapping_method(box, "update", rest, call.node)
    return one(box)


def from_keys(call: Call) -> Values:
    """A mapping as `dict.fromkeys` makes it."""
    box = call.tracer.fresh("mapping", call.node)
    values = call.arguments.at(1) or NONE
    call.tracer.put(box, filter(may_be_key, call.elements), values, call.node)
    return one(box)


def make_sequence(call: Call) -> Values:
    """A sequence of what is in the first argument, in the same order if that is known."""
    for part in (*call.places[1:], *call.arguments.named.values()):
        # Such as the key of sorted().
        call.caller.hand_out(part, call.node, opens=False)
    positions = positions_of(call.arguments.first)
    if positions is None:
        return call.tracer.some_of(call.elements, call.node, call.mark)
    return call.row_of(positions, call.mark)


def _make_unordered(call: Call) -> Values:
    found = make_sequence(call)
    for box in found:
        if isinstance(box, Box):
            call.tracer.put(box, [UNKNOWN], box.all(), call.node)
    return found


def _pairs(call: Call, places: Iterable[Values]) -> Values:
    return call.some_of(call.row_of(places, "pair"))


def _zip(call: Call) -> Values:
    if call.arguments.rest:
        return call.trusted()
    lists = [found for found in map(positions_of, call.places) if found is not None]
    if len(lists) < len(call.places):
        return _pairs(call, map(call.tracer.elements, call.places))
    rows = enumerate(zip(*lists, strict=False))
    return call.row_of([call.row_of(row, number) for number, row in rows], None)


def _map(call: Call) -> Values:
    items = map(call.tracer.elements, call.places[1:])
    return call.some_of(call.result_of(call.arguments.at(0), *items, rest=call.arguments.rest))


def _filter(call: Call) -> Values:
    items = call.tracer.elements(call.arguments.at(1))
    call.result_of(call.arguments.at(0) - NONE, items)
    return call.some_of(items)


def _reduce(call: Call) -> Values:
    items = call.tracer.elements(call.arguments.at(1))
    memory = call.tracer.fresh("sequence", call.node)
    call.some_of(call.arguments.at(2) or items)
    call.some_of(call.result_of(call.arguments.at(0), memory.all(), items))
    return memory.all()


def _chain(call: Call) -> Values:
    parts = (*call.places, call.arguments.rest)
    return call.some_of(NOTHING.union(*map(call.tracer.elements, parts)))


def chained(call: Call) -> Values:
    """What `itertools.chain.from_iterable` gives."""
    parts = call.tracer.elements(NOTHING.union(*call.places))
    return call.some_of(call.tracer.elements(parts))


def _partial(call: Call) -> Values:
    arguments = call.arguments
    if arguments.rest or arguments.others or not call.places:
        return call.unknown()
    given, named = tuple(call.places[1:]), tuple(arguments.named.items())
    return frozenset(Partial(function, given, named) for function in call.places[0])


def _copy(call: Call) -> Values:
    tracer = call.tracer
    given = call.arguments.first
    call.tracer.read_all(given)
    copies: dict[Value, Box] = {}
    for value in reachable(given):
        if isinstance(value, Box) and not is_object(value):
            copies[value] = tracer.fresh(value.kind, call.node, shape(value))
    for value, copied in copies.items():
        assert isinstance(value, Box)
        copied.made_by = value.made_by
        for key, held in list(value.entries.items()):
            inner: Values = frozenset(copies[each] for each in held if each in copies)
            if copied.add(key, held | inner, value.origins.get(key)):
                tracer.version += 1
        if value.opened is not None:
            tracer.open(copied, call.node)
    return frozenset(UNKNOWN if each is DOCUMENT else copies.get(each, each) for each in given)


def _string(call: Call) -> Values:
    if len(call.places) != 1:
        return call.trusted()
    call.tracer.read_all(call.places[0])
    return strings(call.places[0])


def _range(call: Call) -> Values:
    given = [next(iter(values)) for values in call.places if len(values) == 1]
    numbers = [each.value for each in given if isinstance(each, Known) and type(each.value) is int]
    if numbers and len(numbers) == len(call.places) and 0 not in numbers[2:]:
        return one(Known(range(*numbers)))
    return SOME


def _next(call: Call) -> Values:
    found = NOTHING.union(*call.places[1:], call.arguments.rest)
    return found | call.tracer.elements(call.arguments.at(0))


def _best(call: Call) -> Values:
    for values in call.arguments.named.values():
        call.caller.hand_out(values, call.node, opens=False)
    values = NOTHING.union(*call.places, call.arguments.rest)
    return call.tracer.elements(values) if len(call.places) == 1 else values


def _getattr(call: Call) -> Values:
    if len(call.places) < 2:
        return call.unknown()
    owners, names, *default = call.places
    found = NOTHING.union(*default)
    call.tracer.reads_types |= bool(default)
    for owner, name in itertools.product(owners, names):
        if isinstance(name, Known) and isinstance(name.value, str):
            found |= call.caller.attribute(owner, name.value, call.node)
        elif owner is HANDLER:
            call.tracer.give_up(call.node)
        else:
            call.caller.hand_out(one(owner), call.node, opens=False)
            found |= SOME
    return found


def _setattr(call: Call) -> Values:
    if len(call.places) != 3:
        return call.unknown()
    owners, names, values = call.places
    for owner, name in itertools.product(owners, names):
        if isinstance(name, Known) and isinstance(name.value, str):
            call.tracer.set_attribute(owner, name.value, values, call.node)
        elif owner is HANDLER:
            call.tracer.give_up(call.node)
        else:
            call.tracer.set_item(owner, SOME, values, call.node, call.node)
    return NONE


def _asks_type(call: Call) -> Values:
    given = call.arguments.first
    call.tracer.reads_types |= UNKNOWN in given
    return one(Known(call.tracer.handler_class)) if given == {HANDLER} else SOME


def _harmless(call: Call) -> Values:
    call.tracer.read_all(NOTHING.union(*call.arguments.all()))
    return SOME


def _gives_up(call: Call) -> Values:
    call.tracer.give_up(call.node)
    return NOTHING


def _vars(call: Call) -> Values:
    if not call.places or HANDLER in call.places[0]:
        call.tracer.give_up(call.node)
    return call.trusted()


def _super(call: Call) -> Values:
    if len(call.places) == 2:
        classes, owners = call.places
    else:
        frame = call.tracer.frame
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
        call.tracer.give_up(call.node)
    return found


def _eval(call: Call) -> Values:
    found: Values = NOTHING
    for text in call.arguments.first:
        if len(call.places) != 1 or call.arguments.named or not isinstance(text, Known):
            call.tracer.give_up(call.node)
            continue
        texts = call.caller.texts
        if text.value not in texts:
            try:
                texts[text.value] = ast.parse(text.value, mode="eval").body
            except (SyntaxError, TypeError, ValueError):
                texts[text.value] = None
        expression = texts[text.value]
        if expression is not None:
            found |= call.tracer.eval(expression)
    return found


MODELS: Final[Mapping[int, Callable[[Call], Values]]] = {
    id(function): model
    for model, functions in (
        (_asks_type, (type, hasattr)),
        (_best, (max, min)),
        (_chain, (itertools.chain,)),
        (_copy, (copy.copy, copy.deepcopy)),
        (lambda call: _pairs(call, [SOME, call.elements]), (enumerate,)),
        (_eval, (eval,)),
        (_filter, (filter,)),
        (_getattr, (getattr,)),
        (_gives_up, (exec, locals, compile, __import__)),
        (_harmless, (print, repr, len, bool, int, float, hash, id, sum, any, all, abs, round)),
        (_make_default, (collections.defaultdict,)),
        (_make_unordered, (set, frozenset, sorted, reversed)),
        (_map, (map,)),
        (_next, (next,)),
        (_partial, (functools.partial,)),
        (_range, (range,)),
        (_reduce, (functools.reduce,)),
        (_setattr, (setattr,)),
        (_string, (str,)),
        (_super, (super,)),
        (lambda _call: BOTH, (isinstance, issubclass, callable)),
        (_vars, (vars, dir)),
        (_zip, (zip,)),
        (make_mapping, (dict, collections.OrderedDict, MappingProxyType)),
        (make_sequence, (list, tuple, iter)),
    )
    for function in functions
}
"""The models, by the identity of what they stand for."""
