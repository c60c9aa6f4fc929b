"""The expressions of a rule that is read and not run."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from lazymig.rules.tracing.conditions import compare, truth
from lazymig.rules.tracing.frames import Arguments
from lazymig.rules.tracing.state import State
from lazymig.rules.tracing.values import (
    BOTH,
    DOCUMENT,
    NONE,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Function,
    Known,
    Prefix,
    Value,
    Values,
    concatenated,
    is_object,
    is_scalar,
    limited,
    may_be_key,
    one,
    positions_of,
    shape,
    strings,
)

if TYPE_CHECKING:
    from lazymig.rules.tracing.statements import Tracer

__all__ = ["Expressions", "defined"]

_SUMS: Final[dict[Any, Any]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


class Expressions(State):
    """Follows expressions: what each may be, and what it does."""

    def eval(self, node: ast.expr) -> Values:
        """What an expression may be; what it does is noted."""
        self.step(node)
        follow: Callable[[Any, Any], Values] = _EXPRESSIONS.get(type(node), _not_followed)
        return follow(self, node)

    def item(self, owner: Value, keys: Values, node: ast.AST) -> Values:
        """What may be found at a key."""
        if owner is DOCUMENT:
            self.read(keys)
            return SOME
        if is_scalar(owner) and not isinstance(owner.value, (str, bytes)):
            return NOTHING
        if not isinstance(owner, Box):
            return SOME
        if is_object(owner):
            return self.caller.special(owner, "__getitem__", [keys], node)
        found: Values = NOTHING
        for key in keys:
            if isinstance(key, Known) and owner.kind == "sequence" and not _is_position(key):
                found |= owner.all()
                continue
            there = owner.at(key)
            if owner.factory and not there and may_be_key(key):
                there = self.caller.call_all(
                    owner.factory, Arguments([]), node, mark=(shape(owner), key)
                )
                self.put(owner, [key], there, node)
            found |= there
        return found

    def combined(self, op: ast.operator, left: Values, right: Values, node: ast.AST) -> Values:
        """What may come of an operation on two values."""
        self.read_all(left | right)
        # With None the operation raises.
        left, right = left - NONE, right - NONE
        if not left or not right:
            return NOTHING
        boxes = frozenset(value for value in left | right if isinstance(value, Box))
        if any(map(is_object, boxes)):
            # Its class may give the operation any meaning.
            self.give_up(node)
        found: Values = NOTHING
        if boxes and isinstance(op, ast.BitOr):
            result = self.fresh("mapping", node)
            self.caller.merge(result, left | right, node)
            found = one(result)
        elif boxes and isinstance(op, (ast.Add, ast.Mult)):
            unknown = SOME if UNKNOWN in left | right else NOTHING
            found = self.some_of(self.elements(boxes) | unknown, node)
        if found and left | right == boxes:
            return found
        ours, theirs = _small_numbers(left), _small_numbers(right)
        if ours and theirs and type(op) in _SUMS:
            compute = _SUMS[type(op)]
            sums = (compute(mine, other) for mine in ours for other in theirs)
            return limited(frozenset(map(Known, sums)))
        texts = frozenset(value for value in left if _is_text(value))
        if left - texts - boxes:
            found |= SOME
        if texts and isinstance(op, ast.Add):
            return found | concatenated(strings(texts), strings(right - boxes))
        if texts and isinstance(op, ast.Mod):
            return found | self.caller.formatted(texts, right, node)
        return found | SOME

    def elements(self, values: Values) -> Values:
        """What one may meet in a walk through the values."""
        found: Values = NOTHING
        for value in values:
            if value is DOCUMENT:
                self.read_all()
                found |= SOME
            elif is_object(value):
                inner = self.caller.special(value, "__iter__", [], None)
                found |= self.elements(inner - {value}) | (SOME if value in inner else NOTHING)
            elif isinstance(value, Box):
                found |= value.keys() if value.kind == "mapping" else value.all()
            elif isinstance(value, Known) and isinstance(value.value, (str, range)):
                found |= frozenset(map(Known, value.value[:50]))
                found |= SOME if len(value.value) > 50 else NOTHING
            else:
                found |= self.caller.walked(value)
        return limited(found)

    def assign(self, target: ast.expr, values: Values, origin: ast.AST) -> None:
        """Follow the assignment of values to a target."""
        self.step(target)
        if isinstance(target, ast.Name):
            self.set_name(target.id, values)
        elif isinstance(target, ast.Starred):
            self.assign(target.value, self.some_of(values, target), origin)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, values, origin)
        elif isinstance(target, ast.Attribute):
            for owner in self.eval(target.value):
                self.set_attribute(owner, target.attr, values, origin)
        elif isinstance(target, ast.Subscript):
            owners, keys = self.eval(target.value), self.eval(target.slice)
            for owner in owners:
                self.set_item(owner, keys, values, target.slice, origin)
        else:
            self.give_up(target)

    def _unpack(self, targets: Sequence[ast.expr], values: Values, origin: ast.AST) -> None:
        everything = NOTHING
        by_place: list[Values] = [NOTHING for _ in targets]
        starred = any(isinstance(target, ast.Starred) for target in targets)
        for value in values:
            positions = positions_of(one(value))
            if positions is None or starred or len(positions) != len(targets):
                everything |= self.elements(one(value))
                continue
            by_place = [had | new for had, new in zip(by_place, positions, strict=True)]
        for target, found in zip(targets, by_place, strict=True):
            self.assign(target, found | everything, origin)


def _not_followed(tracer: Tracer, node: Any) -> Values:
    tracer.give_up(node)
    return NOTHING


def _attribute(tracer: Tracer, node: Any) -> Values:
    owners = tracer.eval(node.value)
    return NOTHING.union(*(tracer.caller.attribute(owner, node.attr, node) for owner in owners))


def _subscript(tracer: Tracer, node: Any) -> Values:
    owners, keys = tracer.eval(node.value), tracer.eval(node.slice)
    if not isinstance(node.slice, ast.Slice):
        return NOTHING.union(*(tracer.item(owner, keys, node) for owner in owners))
    plain = frozenset(owner for owner in owners if isinstance(owner, Box))
    part = tracer.some_of(tracer.elements(plain), node) if plain else NOTHING
    return part | (SOME if owners - plain else NOTHING)


def _slice(tracer: Tracer, node: Any) -> Values:
    for part in filter(None, (node.lower, node.upper, node.step)):
        tracer.eval(part)
    return SOME


def _boolean(tracer: Tracer, node: Any) -> Values:
    found: Values = NOTHING
    for part in node.values:
        verdict = truth(tracer, part)
        values = tracer.eval(part)
        last = part is node.values[-1]
        if last or verdict is None or verdict is isinstance(node.op, ast.Or):
            found |= values
        if not last and verdict is isinstance(node.op, ast.Or):
            break
    return found


def _unary(tracer: Tracer, node: Any) -> Values:
    values = tracer.eval(node.operand)
    if isinstance(node.op, ast.Not):
        tracer.read_all(values)
        return BOTH
    if all(isinstance(value, Known) and type(value.value) is int for value in values):
        if isinstance(node.op, ast.USub):
            return frozenset(Known(-each.value) for each in values if isinstance(each, Known))
        return values
    return SOME


def _conditional(tracer: Tracer, node: Any) -> Values:
    verdict = truth(tracer, node.test)
    found = NOTHING if verdict is False else tracer.eval(node.body)
    return found if verdict is True else found | tracer.eval(node.orelse)


def _mapping(tracer: Tracer, node: Any) -> Values:
    box = tracer.fresh("mapping", node)
    for key, value in zip(node.keys, node.values, strict=True):
        if key is None:
            tracer.caller.merge(box, tracer.eval(value), value)
            continue
        keys = tracer.eval(key)
        values = tracer.eval(value)
        where = value if all(isinstance(each, Known) for each in keys) else key
        tracer.put(box, filter(may_be_key, keys), values, where)
    return one(box)


def _sequence(tracer: Tracer, node: Any) -> Values:
    box = tracer.fresh("sequence", node)
    plain = not any(isinstance(part, ast.Starred) for part in node.elts)
    for index, part in enumerate(node.elts):
        if isinstance(part, ast.Starred):
            values = tracer.elements(tracer.eval(part.value))
        else:
            values = tracer.eval(part)
        tracer.put(box, [Known(index) if plain else UNKNOWN], values, part)
    return one(box)


def _comprehension(tracer: Tracer, node: Any) -> Values:
    box = tracer.fresh("mapping" if isinstance(node, ast.DictComp) else "sequence", node)
    hidden = {
        part.id: tracer.frame.names.get(part.id)
        for generator in node.generators
        for part in ast.walk(generator.target)
        if isinstance(part, ast.Name)
    }
    for generator in node.generators:
        values = tracer.elements(tracer.eval(generator.iter))
        tracer.assign(generator.target, values, generator.iter)
        for condition in generator.ifs:
            truth(tracer, condition)
    if isinstance(node, ast.DictComp):
        keys = tracer.eval(node.key)
        tracer.put(box, filter(may_be_key, keys), tracer.eval(node.value), node.key)
    else:
        tracer.put(box, [UNKNOWN], tracer.eval(node.elt), node.elt)
    for name, values_before in hidden.items():
        if values_before is None:
            tracer.frame.names.pop(name, None)
        else:
            tracer.frame.names[name] = values_before
    return one(box)


def _text(tracer: Tracer, node: Any) -> Values:
    found = one(Known(""))
    for part in node.values:
        if isinstance(part, ast.FormattedValue):
            values = tracer.eval(part.value)
            tracer.read_all(values)
            if part.format_spec is not None:
                tracer.eval(part.format_spec)
            plain = part.format_spec is None and part.conversion == -1
            found = concatenated(found, strings(values) if plain else SOME)
        else:
            found = concatenated(found, tracer.eval(part))
    return found


def defined(tracer: Tracer, node: Any) -> Function:
    """The function that a definition, or a lambda, makes; its defaults are followed."""
    spec = node.args
    given = [*spec.posonlyargs, *spec.args]
    pairs = [
        *zip(given[len(given) - len(spec.defaults) :], spec.defaults, strict=True),
        *zip(spec.kwonlyargs, spec.kw_defaults, strict=True),
    ]
    defaults = ((arg.arg, tracer.eval(value)) for arg, value in pairs if value is not None)
    return Function(node, tracer.frame, tuple(defaults))


def _named(tracer: Tracer, node: Any) -> Values:
    values = tracer.eval(node.value)
    # It need not come to this part of the expression.
    before = tracer.frame.names.get(node.target.id, NOTHING)
    tracer.assign(node.target, values | before, node.value)
    return values


def _yield(tracer: Tracer, node: Any) -> Values:
    if node.value is not None:
        tracer.put(tracer.frame.yielded, [UNKNOWN], tracer.eval(node.value), node.value)
    return SOME


def _yield_from(tracer: Tracer, node: Any) -> Values:
    values = tracer.elements(tracer.eval(node.value))
    tracer.put(tracer.frame.yielded, [UNKNOWN], values, node.value)
    return SOME


def _is_position(key: Known) -> bool:
    return type(key.value) is int and key.value >= 0


def _small_numbers(values: Values) -> list[int]:
    """The integers that the values are; empty if they may be anything else."""
    found = [
        value.value
        for value in values
        if isinstance(value, Known) and type(value.value) is int and abs(value.value) < 2**20
    ]
    return found if len(found) == len(values) else []


def _is_text(value: Value) -> bool:
    return isinstance(value, Prefix) or (isinstance(value, Known) and isinstance(value.value, str))


_EXPRESSIONS: Final[Mapping[type[ast.expr], Callable[[Any, Any], Values]]] = {
    ast.Attribute: _attribute,
    ast.BinOp: lambda tracer, node: tracer.combined(
        node.op, tracer.eval(node.left), tracer.eval(node.right), node
    ),
    ast.BoolOp: _boolean,
    ast.Call: lambda tracer, node: tracer.caller.call_node(node),
    ast.Compare: compare,
    ast.Constant: lambda _tracer, node: one(Known(node.value)),
    ast.Dict: _mapping,
    ast.DictComp: _comprehension,
    ast.GeneratorExp: _comprehension,
    ast.IfExp: _conditional,
    ast.JoinedStr: _text,
    ast.Lambda: lambda tracer, node: one(defined(tracer, node)),
    ast.List: _sequence,
    ast.ListComp: _comprehension,
    ast.Name: lambda tracer, node: tracer.look_up(node.id),
    ast.NamedExpr: _named,
    ast.Set: _sequence,
    ast.SetComp: _comprehension,
    ast.Slice: _slice,
    ast.Starred: lambda tracer, node: tracer.elements(tracer.eval(node.value)),
    ast.Subscript: _subscript,
    ast.Tuple: _sequence,
    ast.UnaryOp: _unary,
    ast.Yield: _yield,
    ast.YieldFrom: _yield_from,
}
