"""Expressions of a rule that is read and not run."""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from lazymig.rules.tracing.frames import Arguments, Frame
from lazymig.rules.tracing.state import State, may_be_key
from lazymig.rules.tracing.values import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SCALARS,
    SOME,
    UNKNOWN,
    Box,
    Function,
    Known,
    Prefix,
    Value,
    Values,
    concatenated,
    limited,
    shape,
    strings,
)

__all__ = ["Expressions"]


class Expressions(State):
    """Follows expressions: what each may be, and what it does."""

    def eval(self, node: ast.expr) -> Values:
        """What an expression may be; what it does is noted."""
        self.step(node)
        follow = self._EXPRESSIONS.get(type(node).__name__)
        if follow is None:
            self.give_up(node)
            return NOTHING
        found: Values = follow(self, node)
        return found

    def _constant(self, node: Any) -> Values:
        return frozenset({Known(node.value)})

    def _name(self, node: Any) -> Values:
        return self.look_up(node.id)

    def _attribute(self, node: Any) -> Values:
        found: Values = NOTHING
        for owner in self.eval(node.value):
            found |= self.caller.attribute(owner, node.attr, node)
        return found

    def _subscript(self, node: Any) -> Values:
        owners = self.eval(node.value)
        keys = self.eval(node.slice)
        if isinstance(node.slice, ast.Slice):
            box = self.fresh("sequence", node)
            plain = frozenset(owner for owner in owners if isinstance(owner, Box))
            if plain:
                self.put(box, [UNKNOWN], self.elements(plain), node)
            others = SOME if owners - plain else NOTHING
            return (frozenset({box}) if plain else NOTHING) | others
        found: Values = NOTHING
        for owner in owners:
            found |= self.item(owner, keys, node)
        return found

    def item(self, owner: Value, keys: Values, node: ast.AST) -> Values:
        """What may be found at a key."""
        if owner is DOCUMENT:
            self.read(keys)
            return SOME
        if isinstance(owner, Known) and type(owner.value) in SCALARS - {str, bytes}:
            return NOTHING
        if not isinstance(owner, Box):
            return SOME
        if owner.kind == "object":
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

    def _slice(self, node: Any) -> Values:
        for part in (node.lower, node.upper, node.step):
            if part is not None:
                self.eval(part)
        return SOME

    def _call(self, node: Any) -> Values:
        return self.caller.call_node(node)

    def _binary(self, node: Any) -> Values:
        return self.combined(node.op, self.eval(node.left), self.eval(node.right), node)

    def combined(self, op: ast.operator, left: Values, right: Values, node: ast.AST) -> Values:
        """What may come of an operation on two values."""
        if DOCUMENT in left | right:
            self.read_all()
        # With None the operation raises.
        left, right = left - _NONE, right - _NONE
        if not left or not right:
            return NOTHING
        boxes = frozenset(value for value in left | right if isinstance(value, Box))
        if any(isinstance(value, Box) and value.kind == "object" for value in boxes):
            # Its class may give the operation any meaning.
            self.give_up(node)
        found: Values = NOTHING
        if boxes and isinstance(op, ast.BitOr):
            result = self.fresh("mapping", node)
            self.caller.merge(result, left | right, node)
            found |= {result}
            if left | right == boxes:
                return found
        elif boxes and isinstance(op, (ast.Add, ast.Mult)):
            result = self.fresh("sequence", node)
            self.put(result, [UNKNOWN], self.elements(boxes), node)
            if UNKNOWN in left | right:
                self.put(result, [UNKNOWN], SOME, node)
            found |= {result}
            if left | right == boxes:
                return found
        ours, theirs = _small_numbers(left), _small_numbers(right)
        if ours and theirs and type(op) in _SUMS:
            compute = _SUMS[type(op)]
            return limited(frozenset(Known(compute(one, two)) for one in ours for two in theirs))
        texts = frozenset(value for value in left if _is_text(value))
        if left - texts - boxes:
            found |= SOME
        if texts and isinstance(op, ast.Add):
            return found | concatenated(strings(texts), strings(right - boxes))
        if texts and isinstance(op, ast.Mod):
            return found | self.caller.formatted(texts, right, node)
        return found | SOME

    def _boolean(self, node: Any) -> Values:
        found: Values = NOTHING
        for part in node.values:
            verdict = self.truth(part)
            values = self.eval(part)
            last = part is node.values[-1]
            if last or verdict is None or verdict is isinstance(node.op, ast.Or):
                found |= values
            if not last and verdict is isinstance(node.op, ast.Or):
                break
        return found

    def _unary(self, node: Any) -> Values:
        values = self.eval(node.operand)
        if isinstance(node.op, ast.Not):
            if DOCUMENT in values:
                self.read_all()
            return _BOTH
        if all(isinstance(value, Known) and type(value.value) is int for value in values):
            if isinstance(node.op, ast.USub):
                return frozenset(Known(-one.value) for one in values if isinstance(one, Known))
            return values
        return SOME

    def _compare(self, node: Any) -> Values:
        left = self.eval(node.left)
        for op, comparator in zip(node.ops, node.comparators, strict=True):
            right = self.eval(comparator)
            if isinstance(op, (ast.In, ast.NotIn)):
                if DOCUMENT in right:
                    self.read(left)
                if DOCUMENT in left:
                    self.read_all()
            elif isinstance(op, (ast.Is, ast.IsNot)):
                # Of a stand-in for a value this is never true.
                self.reads_types |= UNKNOWN in left | right
            elif DOCUMENT in left | right:
                self.read_all()
            left = right
        return _BOTH

    def truth(self, test: ast.expr) -> bool | None:
        """Follow a condition; return what it is, where it is the same whenever the rule runs."""
        if isinstance(test, ast.BoolOp):
            verdicts = [self.truth(part) for part in test.values]
            decisive = isinstance(test.op, ast.Or)
            if decisive in verdicts:
                return decisive
            return None if None in verdicts else not decisive
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            verdict = self.truth(test.operand)
            return None if verdict is None else not verdict
        values = self.eval(test)
        if DOCUMENT in values:
            self.read_all()
        if isinstance(test, ast.Constant):
            return bool(test.value)
        if isinstance(test, ast.Compare):
            return self._compared(test)
        if isinstance(test, ast.Call):
            return self.caller.told(test)
        if isinstance(test, ast.Name) and self.is_settled(test):
            outcomes = {_truth_of(value) for value in values}
            return outcomes.pop() if len(outcomes) == 1 else None
        return None

    def _compared(self, test: ast.Compare) -> bool | None:
        """The outcome of a comparison of two constants; of the model with a class, say."""
        if len(test.ops) != 1 or not isinstance(
            test.ops[0], (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)
        ):
            return None
        sides = (test.left, test.comparators[0])
        if not all(self.is_settled(side) for side in sides):
            return None
        left, right = (self.eval(side) for side in sides)
        if not left or not right:
            return None
        if not all(isinstance(value, Known) for value in left | right):
            return None
        if len(left) != 1 or len(right) != 1:
            return None
        (one,), (other,) = left, right
        same = one == other
        return same if isinstance(test.ops[0], (ast.Is, ast.Eq)) else not same

    def is_settled(self, node: ast.expr) -> bool:
        """Whether what an expression stands for is the same whenever the rule runs."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.Attribute):
            return node.attr == "doc_class" and self.eval(node.value) == frozenset({HANDLER})
        if not isinstance(node, ast.Name):
            return False
        root = self._root()
        frame: Frame | None = self.frame
        while frame is not None:
            if node.id in frame.locals:
                return node.id in {arg.arg for arg in frame.node.args.args} and (
                    frame.names.get(node.id) == frame.cells.get(node.id)
                )
            frame = frame.parent
        if node.id in root.outside:
            return (id(root.outside), node.id) not in self.assigned
        value = root.globals.get(node.id, getattr(builtins, node.id, None))
        return isinstance(value, type) or callable(value)

    def _conditional(self, node: Any) -> Values:
        verdict = self.truth(node.test)
        found: Values = NOTHING
        if verdict is not False:
            found |= self.eval(node.body)
        if verdict is not True:
            found |= self.eval(node.orelse)
        return found

    def _mapping(self, node: Any) -> Values:
        box = self.fresh("mapping", node)
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self.caller.merge(box, self.eval(value), value)
                continue
            keys = self.eval(key)
            values = self.eval(value)
            where = value if all(isinstance(one, Known) for one in keys) else key
            self.put(box, [one for one in keys if may_be_key(one)], values, where)
        return frozenset({box})

    def _sequence(self, node: Any) -> Values:
        box = self.fresh("sequence", node)
        plain = not any(isinstance(part, ast.Starred) for part in node.elts)
        for index, part in enumerate(node.elts):
            if isinstance(part, ast.Starred):
                values = self.elements(self.eval(part.value))
            else:
                values = self.eval(part)
            self.put(box, [Known(index) if plain else UNKNOWN], values, part)
        return frozenset({box})

    def _comprehension(self, node: Any) -> Values:
        box = self.fresh("mapping" if isinstance(node, ast.DictComp) else "sequence", node)
        hidden = {
            part.id: self.frame.names.get(part.id)
            for generator in node.generators
            for part in ast.walk(generator.target)
            if isinstance(part, ast.Name)
        }
        for generator in node.generators:
            values = self.elements(self.eval(generator.iter))
            self.assign(generator.target, values, generator.iter)
            for condition in generator.ifs:
                self.truth(condition)
        if isinstance(node, ast.DictComp):
            keys = [one for one in self.eval(node.key) if may_be_key(one)]
            self.put(box, keys, self.eval(node.value), node.key)
        else:
            self.put(box, [UNKNOWN], self.eval(node.elt), node.elt)
        for name, values_before in hidden.items():
            if values_before is None:
                self.frame.names.pop(name, None)
            else:
                self.frame.names[name] = values_before
        return frozenset({box})

    def elements(self, values: Values) -> Values:
        """What one may meet in a walk through the values."""
        found: Values = NOTHING
        for value in values:
            if value is DOCUMENT:
                self.read_all()
                found |= SOME
            elif isinstance(value, Box) and value.kind != "object":
                found |= value.keys() if value.kind == "mapping" else value.all()
            elif (isinstance(value, Known) and isinstance(value.value, str)) or (
                isinstance(value, Known) and isinstance(value.value, range)
            ):
                found |= frozenset(map(Known, value.value[:50])) | (
                    SOME if len(value.value) > 50 else NOTHING
                )
            elif isinstance(value, Box):
                inner = self.caller.special(value, "__iter__", [], None)
                found |= self.elements(inner - {value}) | (SOME if value in inner else NOTHING)
            else:
                found |= self.caller.walked(value)
        return limited(found)

    def _text(self, node: Any) -> Values:
        found: Values = frozenset({Known("")})
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                values = self.eval(part.value)
                if DOCUMENT in values:
                    self.read_all()
                if part.format_spec is not None:
                    self.eval(part.format_spec)
                plain = part.format_spec is None and part.conversion == -1
                found = concatenated(found, strings(values) if plain else SOME)
            else:
                found = concatenated(found, self.eval(part))
        return found

    def _lambda(self, node: Any) -> Values:
        return frozenset({self._function(node)})

    def _function(self, node: Any) -> Function:
        arguments = node.args
        given = [*arguments.posonlyargs, *arguments.args]
        defaults = [
            (arg.arg, self.eval(value))
            for arg, value in zip(
                given[len(given) - len(arguments.defaults) :], arguments.defaults, strict=True
            )
        ]
        defaults += [
            (arg.arg, self.eval(value))
            for arg, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if value is not None
        ]
        return Function(node, self.frame, tuple(defaults))

    def _named(self, node: Any) -> Values:
        values = self.eval(node.value)
        # It need not come to this part of the expression.
        before = self.frame.names.get(node.target.id, NOTHING)
        self.assign(node.target, values | before, node.value)
        return values

    def _starred(self, node: Any) -> Values:
        return self.elements(self.eval(node.value))

    def _yield(self, node: Any) -> Values:
        if node.value is not None:
            self.put(self.frame.yielded, [UNKNOWN], self.eval(node.value), node.value)
        return SOME

    def _yield_from(self, node: Any) -> Values:
        values = self.elements(self.eval(node.value))
        self.put(self.frame.yielded, [UNKNOWN], values, node.value)
        return SOME

    def assign(self, target: ast.expr, values: Values, origin: ast.AST) -> None:
        """Follow the assignment of values to a target."""
        self.step(target)
        if isinstance(target, ast.Name):
            self.set_name(target.id, values)
        elif isinstance(target, ast.Starred):
            box = self.fresh("sequence", target)
            self.put(box, [UNKNOWN], values, target)
            self.assign(target.value, frozenset({box}), origin)
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target.elts, values, origin)
        elif isinstance(target, ast.Attribute):
            for owner in self.eval(target.value):
                self.set_attribute(owner, target.attr, values, origin)
        elif isinstance(target, ast.Subscript):
            owners = self.eval(target.value)
            keys = self.eval(target.slice)
            for owner in owners:
                self.set_item(owner, keys, values, target.slice, origin)
        else:
            self.give_up(target)

    def _unpack(self, targets: Sequence[ast.expr], values: Values, origin: ast.AST) -> None:
        everything = NOTHING
        by_place: list[Values] = [NOTHING for _ in targets]
        starred = any(isinstance(target, ast.Starred) for target in targets)
        for value in values:
            positions = value.positions() if isinstance(value, Box) else None
            if positions is None or starred or len(positions) != len(targets):
                everything |= self.elements(frozenset({value}))
                continue
            by_place = [had | new for had, new in zip(by_place, positions, strict=True)]
        for target, found in zip(targets, by_place, strict=True):
            self.assign(target, found | everything, origin)

    _EXPRESSIONS: ClassVar[Mapping[str, Any]] = {
        "Attribute": _attribute,
        "BinOp": _binary,
        "BoolOp": _boolean,
        "Call": _call,
        "Compare": _compare,
        "Constant": _constant,
        "Dict": _mapping,
        "DictComp": _comprehension,
        "GeneratorExp": _comprehension,
        "IfExp": _conditional,
        "JoinedStr": _text,
        "Lambda": _lambda,
        "List": _sequence,
        "ListComp": _comprehension,
        "Name": _name,
        "NamedExpr": _named,
        "Set": _sequence,
        "SetComp": _comprehension,
        "Slice": _slice,
        "Starred": _starred,
        "Subscript": _subscript,
        "Tuple": _sequence,
        "UnaryOp": _unary,
        "Yield": _yield,
        "YieldFrom": _yield_from,
    }


_SUMS: Final[dict[Any, Any]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


_NONE: Final[Values] = frozenset({Known(None)})


_BOTH: Final[Values] = frozenset({Known(True), Known(False)})


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


def _truth_of(value: Value) -> bool | None:
    if isinstance(value, Known):
        plain = type(value.value) in (str, int, bool, float, type(None))
        return bool(value.value) if plain else (True if callable(value.value) else None)
    return None
