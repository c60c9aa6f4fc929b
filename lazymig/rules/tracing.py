"""A rule read like a program whose inputs are not known: what it may set, and what it may read.

The method is followed statement by statement, with the functions that it calls, until nothing new
is found. Where a value is not told by the source it is `UNKNOWN`; what may happen is never left
out, what cannot happen may be taken for possible.
"""

from __future__ import annotations

import ast
import builtins
import operator
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from lazymig.rules.abstract import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SCALARS,
    SOME,
    UNKNOWN,
    Box,
    Function,
    Known,
    Origin,
    Prefix,
    Value,
    Values,
    concatenated,
    is_mapping,
    limited,
    shape,
    strings,
    without_constants,
)
from lazymig.rules.source import FunctionNode, syntax_of

__all__ = ["Arguments", "Frame", "GaveUp", "Tracer"]

# Steps and rounds after which a rule is too long to be read.
_MOST_STEPS: Final = 40_000
_MOST_ROUNDS: Final = 25
# Turns of a loop after which its constants are any values.
_MOST_TURNS: Final = 4

_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)


class GaveUp(Exception):
    """A rule cannot be read: it is too long, or does what cannot be followed."""

    def __init__(self, origin: Origin | None) -> None:
        super().__init__()
        self.origin = origin


@dataclass(slots=True)
class Arguments:
    """The arguments of a call. `rest` and `others` are those whose place or name is not known."""

    positional: list[Values]
    named: dict[str, Values] = field(default_factory=dict)
    rest: Values = NOTHING
    others: Values = NOTHING

    def all(self) -> Iterator[Values]:
        """Every argument."""
        yield from (*self.positional, *self.named.values(), self.rest, self.others)


class Frame:
    """One function with one set of arguments: its names, and what it returns.

    `names` is what the names stand for at this point, `cells` what they may stand for at any.
    """

    def __init__(
        self,
        key: Any,
        node: FunctionNode,
        parent: Frame | None,
        outside: Mapping[str, Values],
        globals_: Mapping[str, Any],
        file: str,
    ) -> None:
        self.key = key
        self.node = node
        self.parent = parent
        self.outside = outside
        self.globals = globals_
        self.file = file
        self.parameters: dict[str, Values] = {}
        self.names: dict[str, Values] = {}
        self.cells: dict[str, Values] = {}
        self.returns: Values = NOTHING
        self.done = -1
        self.exits: list[list[dict[str, Values]]] = []
        self.attempts: list[dict[str, Values]] = []
        self.locals, self.shared, self.outer, self.yields = _names_of(node)
        self.yielded = Box("sequence")


def _names_of(node: FunctionNode) -> tuple[set[str], set[str], set[str], bool]:
    """Return the names of a function, those that inner ones assign, those of outer ones; yields?"""
    arguments = node.args
    names = {arg.arg for arg in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    names |= {arg.arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None}
    shared: set[str] = set()
    outer: set[str] = set()
    yields = False
    left: list[tuple[ast.AST, bool]] = [
        (part, False) for part in ([node.body] if isinstance(node, ast.Lambda) else node.body)
    ]
    while left:
        part, inner = left.pop()
        if isinstance(part, (ast.Global, ast.Nonlocal)):
            (shared if inner else outer).update(part.names)
        elif not inner:
            names.update(_bound_by(part))
            yields |= isinstance(part, (ast.Yield, ast.YieldFrom))
        inside = inner or isinstance(part, _SCOPES)
        left.extend((child, inside) for child in ast.iter_child_nodes(part))
    return names - outer, shared, outer, yields


def _bound_by(part: ast.AST) -> Iterator[str]:
    if isinstance(part, ast.Name) and isinstance(part.ctx, (ast.Store, ast.Del)):
        yield part.id
    elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield part.name
    elif isinstance(part, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)):
        if part.name is not None:
            yield part.name
    elif isinstance(part, ast.MatchMapping):
        if part.rest is not None:
            yield part.rest
    elif isinstance(part, ast.alias):
        yield part.asname or part.name.partition(".")[0]


class Tracer:
    """What is found out about one rule.

    `attributes` is what the rule may set on `self`, `reads` the keys that it may read of the
    document (and `read_whole` whether it may read any), `asks` which of `collection` and `status`
    it may ask for. `reads_types`: it asks what is not the same for a stand-in as for a value.
    """

    def __init__(self, handler_class: type, doc_class: Any) -> None:
        from lazymig.rules.calls import Caller

        self.handler_class = handler_class
        self.doc_class = doc_class
        self.attributes: dict[str, Values] = {}
        self.origins: dict[str, Origin] = {}
        self.reads: set[str] = set()
        self.read_whole = False
        self.asks: set[str] = set()
        self.reads_types = False
        self.lifted: dict[int, tuple[Any, Box]] = {}
        self.boxes: dict[Any, Box] = {}
        self.loads: dict[int, tuple[ast.expr, ast.expr]] = {}
        self.assigned: dict[tuple[int, str], Values] = {}
        self.leaked: set[Box] = set()
        self.frames: list[Frame] = []
        self.version = 0
        self.steps = 0
        self.caller = Caller(self)

    @property
    def frame(self) -> Frame:
        """The function that is being read."""
        return self.frames[-1]

    def trace(self, method: Any) -> None:
        """Follow a rule method until nothing new is found.

        :raises GaveUp: it cannot be followed.
        """
        if not syntax_of(method):
            raise GaveUp(None)
        for _round in range(_MOST_ROUNDS):
            before = self.version
            if self.handler_class.__init__ is not _plain_init(self.handler_class):  # type: ignore[misc]
                init: Value = Known(self.handler_class.__init__)  # type: ignore[misc]
                given = [frozenset({HANDLER}), frozenset({Known(self.doc_class)})]
                self.caller.call(init, Arguments(given), None)  # type: ignore[arg-type]
            first: Values = frozenset({HANDLER})
            self.caller.call_method(method, Arguments([first]))
            if self.version == before:
                return
        raise GaveUp(None)

    # --- What is found ------------------------------------------------------------------

    def origin(self, node: ast.AST | None) -> Origin | None:
        """Where a piece of syntax is."""
        return None if node is None or not self.frames else (node, self.frame.file)

    def fresh(self, kind: Any, node: ast.AST | None, mark: Any = None) -> Box:
        """Return the box that is made by an expression: the same one each time."""
        key = (id(node), mark, self.frame.key if self.frames else None)
        box = self.boxes.get(key)
        if box is None:
            # The node is kept, so that no other has its id.
            box = self.boxes[key] = Box(kind, node)
        return box

    def put(self, box: Box, keys: Iterable[Value], values: Values, node: ast.AST | None) -> None:
        """Put values into a box, at each of the keys."""
        if DOCUMENT in values:
            self.read_all()
        for key in keys:
            if box.add(key, values, self.origin(node)):
                self.version += 1

    def open(self, box: Box, node: ast.AST | None) -> None:
        """Note that a box, and all in it, was handed to code that cannot be seen."""
        left = [box]
        while left:
            one = left.pop()
            if one.opened is None:
                one.opened = self.origin(node) or (ast.Constant(None), "")
                self.version += 1
                left.extend(value for value in one.all() if isinstance(value, Box))

    def read(self, keys: Values) -> None:
        """Note that fields of the document are read."""
        for key in keys:
            if isinstance(key, Known):
                name = str(key.value)
                if name not in self.reads:
                    self.reads.add(name)
                    self.version += 1
            else:
                self.read_all()

    def read_all(self) -> None:
        """Note that the document is read as a whole, or may be."""
        if not self.read_whole:
            self.read_whole = True
            self.version += 1

    def give_up(self, node: ast.AST | None) -> None:
        """The rule does what cannot be followed.

        :raises GaveUp: always.
        """
        raise GaveUp(self.origin(node))

    def step(self, node: ast.AST) -> None:
        """Count one more step."""
        self.steps += 1
        if self.steps > _MOST_STEPS:
            self.give_up(node)

    def lift(self, value: Any) -> Value:
        """Return an object from outside of the rule as a value; a container with what it holds."""
        if not (is_mapping(value) or isinstance(value, (list, tuple, set, frozenset))):
            return Known(value)
        known = self.lifted.get(id(value))
        if known is not None:
            return known[1]
        box = Box("mapping" if is_mapping(value) else "sequence")
        box.made_by = getattr(value, "__match_args__", None)
        # The object is kept, so that no other has its id.
        self.lifted[id(value)] = value, box
        items: Iterable[tuple[Any, Any]]
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for index, (key, item) in enumerate(items):
            if index >= 500:
                box.add(UNKNOWN, SOME, None)
                break
            box.add(self.lift(key), frozenset({self.lift(item)}), None)
        return box

    def lifted_values(self, value: Any) -> Values:
        """The same, as a set of alternatives."""
        return frozenset({self.lift(value)})

    # --- Names --------------------------------------------------------------------------

    def look_up(self, name: str) -> Values:
        """What a name may stand for here."""
        frame: Frame | None = self.frame
        # The variable of a comprehension hides no name outside of it.
        if name in self.frame.locals and name in self.frame.names:
            found = self.frame.names[name]
            if name in self.frame.shared:
                found |= self.frame.cells.get(name, NOTHING)
            return found
        while frame is not None:
            frame = frame.parent
            if frame is not None and name in frame.cells:
                return frame.cells[name]
        root = self._root()
        if name in root.outside:
            return root.outside[name] | self.assigned.get((id(root.outside), name), NOTHING)
        found = self.assigned.get((id(root.globals), name), NOTHING)
        if name in root.globals:
            return found | self.lifted_values(root.globals[name])
        if hasattr(builtins, name):
            return found | {Known(getattr(builtins, name))}
        return found | SOME

    def _root(self) -> Frame:
        frame = self.frame
        while frame.parent is not None:
            frame = frame.parent
        return frame

    def set_name(self, name: str, values: Values) -> None:
        """Note an assignment to a name."""
        frame = self.frame
        if name not in frame.locals:
            self._set_outer(name, values)
            return
        frame.names[name] = values
        self.widen(frame.cells, name, values)
        for attempt in frame.attempts:
            attempt[name] = attempt.get(name, NOTHING) | values

    def _set_outer(self, name: str, values: Values) -> None:
        frame = self.frame.parent
        while frame is not None:
            if name in frame.locals:
                self.widen(frame.cells, name, values)
                return
            frame = frame.parent
        root = self._root()
        holder: Any = root.outside if name in root.outside else root.globals
        self.widen(self.assigned, (id(holder), name), values)

    def widen(self, names: Any, name: Any, values: Values) -> None:
        before = names.get(name, NOTHING)
        after = limited(before | values)
        if after != before or name not in names:
            names[name] = after
            self.version += 1

    # --- Statements ---------------------------------------------------------------------

    def run(self, frame: Frame) -> None:
        """Follow the body of a function."""
        self.frames.append(frame)
        frame.names = dict(frame.parameters)
        for name, values in frame.parameters.items():
            self.widen(frame.cells, name, values)
        try:
            if isinstance(frame.node, ast.Lambda):
                self.give_back(self.eval(frame.node.body))
            else:
                self.block(frame.node.body)
        finally:
            self.frames.pop()

    def give_back(self, values: Values) -> None:
        """Note what the function may return."""
        before = self.frame.returns
        self.frame.returns = limited(before | values)
        if self.frame.returns != before:
            self.version += 1

    def block(self, statements: Sequence[ast.stmt]) -> None:
        """Follow statements, in order."""
        for statement in statements:
            self.step(statement)
            follow = _STATEMENTS.get(type(statement).__name__)
            if follow is None:
                self.give_up(statement)
            else:
                follow(self, statement)

    def _expression(self, node: Any) -> None:
        self.eval(node.value)

    def _return(self, node: Any) -> None:
        self.give_back(frozenset({Known(None)}) if node.value is None else self.eval(node.value))

    def _assign(self, node: Any) -> None:
        values = self.eval(node.value)
        for target in node.targets:
            self.assign(target, values, node.value)

    def _annotated(self, node: Any) -> None:
        if node.value is not None:
            self.assign(node.target, self.eval(node.value), node.value)

    def _augmented(self, node: Any) -> None:
        loaded = self.eval(self._loading(node.target))
        added = self.eval(node.value)
        for value in loaded:
            if not isinstance(value, Box):
                continue
            if isinstance(node.op, ast.BitOr):
                self.caller.merge(value, added, node.value)
            elif isinstance(node.op, ast.Add):
                self.put(value, [UNKNOWN], self.elements(added), node.value)
            elif isinstance(node.op, ast.Mult):
                self.put(value, [UNKNOWN], value.all(), node.value)
        kept = frozenset(value for value in loaded if isinstance(value, Box))
        others = loaded - kept
        result = kept | (self.combined(node.op, others, added, node) if others else NOTHING)
        self.assign(node.target, result, node.value)

    def _loading(self, target: Any) -> ast.expr:
        """The target of an augmented assignment, as it is read."""
        known = self.loads.get(id(target))
        if known is None:
            parts = {name: part for name, part in ast.iter_fields(target) if name != "ctx"}
            read = ast.copy_location(type(target)(**parts, ctx=ast.Load()), target)
            known = self.loads[id(target)] = target, read
        return known[1]

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

    def set_item(
        self, owner: Value, keys: Values, values: Values, key: ast.AST, origin: ast.AST
    ) -> None:
        """Follow `owner[key] = value`."""
        if isinstance(owner, Box):
            where = origin if all(isinstance(one, Known) for one in keys) else key
            self.put(owner, [one for one in keys if _may_be_key(one)], values, where)
            return
        if isinstance(owner, Known) and type(owner.value) in SCALARS:
            return
        self.leak(values)
        for box in tuple(self.leaked):
            self.open(box, origin)

    def leak(self, values: Values) -> None:
        """Note that boxes are held by something that is not known, too."""
        if DOCUMENT in values:
            self.read_all()
        for value in values:
            if isinstance(value, Box) and value not in self.leaked:
                self.leaked.add(value)
                self.version += 1
                self.leak(value.all())

    def set_attribute(self, owner: Value, name: str, values: Values, origin: ast.AST) -> None:
        """Follow `owner.name = value`."""
        if owner is HANDLER:
            if DOCUMENT in values:
                self.read_all()
            if UNKNOWN in values:
                self.origins.setdefault(name, (origin, self.frame.file))
            self.widen(self.attributes, name, values)
        elif isinstance(owner, Box) and owner.kind == "object":
            self.put(owner, [Known(name)], values, origin)
        else:
            self.set_item(owner, SOME, values, origin, origin)

    def _delete(self, node: Any) -> None:
        for target in node.targets:
            for part in ast.iter_child_nodes(target):
                if isinstance(part, ast.expr):
                    self.eval(part)

    def _if(self, node: Any) -> None:
        verdict = self.truth(node.test)
        self._either([] if verdict is False else node.body, [] if verdict is True else node.orelse)

    def _either(self, *branches: Sequence[ast.stmt]) -> None:
        before = self.frame.names
        after: dict[str, Values] = {}
        for branch in branches:
            self.frame.names = dict(before)
            self.block(branch)
            _join(after, self.frame.names)
        self.frame.names = after

    def _while(self, node: Any) -> None:
        self._loop(lambda: self.truth(node.test), node)

    def _for(self, node: Any) -> None:
        values = self.elements(self.eval(node.iter))
        self._loop(lambda: self.assign(node.target, values, node.iter), node)

    def _loop(self, begin: Any, node: Any) -> None:
        for turn in range(_MOST_TURNS * 4):
            before = dict(self.frame.names)
            self.frame.exits.append([])
            begin()
            self.block(node.body)
            for names in (before, *self.frame.exits.pop()):
                _join(self.frame.names, names)
            if turn >= _MOST_TURNS:
                for name, values in self.frame.names.items():
                    if values != before.get(name):
                        self.frame.names[name] = without_constants(values)
            if self.frame.names == before:
                break
        else:
            self.give_up(node)
        self.block(node.orelse)

    def _leave_loop(self, _node: Any) -> None:
        if self.frame.exits:
            self.frame.exits[-1].append(dict(self.frame.names))

    def _try(self, node: Any) -> None:
        self.reads_types = True
        attempt = dict(self.frame.names)
        self.frame.attempts.append(attempt)
        self.block(node.body)
        self.frame.attempts.pop()
        self.block(node.orelse)
        after = dict(self.frame.names)
        for handler in node.handlers:
            self.frame.names = dict(attempt)
            if handler.type is not None:
                self.eval(handler.type)
            if handler.name is not None:
                self.set_name(handler.name, SOME)
            self.block(handler.body)
            _join(after, self.frame.names)
        if node.finalbody:
            _join(after, attempt)
        self.frame.names = after
        self.block(node.finalbody)

    def _with(self, node: Any) -> None:
        # The manager may swallow what the body raises.
        attempt = dict(self.frame.names)
        self.frame.attempts.append(attempt)
        for item in node.items:
            self.eval(item.context_expr)
            self.reads_types = True
            if item.optional_vars is not None:
                self.assign(item.optional_vars, SOME, item.context_expr)
        self.block(node.body)
        self.frame.attempts.pop()
        _join(self.frame.names, attempt)

    def _match(self, node: Any) -> None:
        self.reads_types = True
        subject = self.eval(node.subject)
        if DOCUMENT in subject:
            self.read_all()
        captured = self.reachable(subject) | SOME
        before = self.frame.names
        after = dict(before)
        for case in node.cases:
            self.frame.names = dict(before)
            for part in ast.walk(case.pattern):
                if isinstance(part, (ast.MatchAs, ast.MatchStar)) and part.name is not None:
                    self.set_name(part.name, captured)
                elif isinstance(part, ast.MatchMapping) and part.rest is not None:
                    self.set_name(part.rest, captured)
                elif isinstance(part, ast.MatchValue):
                    self.eval(part.value)
            if case.guard is not None:
                self.truth(case.guard)
            self.block(case.body)
            _join(after, self.frame.names)
        self.frame.names = after

    def reachable(self, values: Values) -> Values:
        """The values and all that is in them."""
        found: set[Value] = set()
        left = list(values)
        while left:
            value = left.pop()
            if value not in found:
                found.add(value)
                if isinstance(value, Box):
                    left.extend(value.all())
        return frozenset(found)

    def _define(self, node: Any) -> None:
        values: Values = frozenset({self._function(node)})
        for decorator in reversed(node.decorator_list):
            values = self.caller.call_all(self.eval(decorator), Arguments([values]), decorator)
        self.set_name(node.name, values)

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

    def _import(self, node: Any) -> None:
        for alias in node.names:
            if alias.asname is not None:
                module = sys.modules.get(alias.name)
            else:
                module = sys.modules.get(alias.name.partition(".")[0])
            found = SOME if module is None else frozenset({Known(module)})
            self.set_name(alias.asname or alias.name.partition(".")[0], found)

    def _import_from(self, node: Any) -> None:
        module = None if node.level else sys.modules.get(node.module or "")
        for alias in node.names:
            if alias.name == "*":
                self.give_up(node)
            known = vars(module).get(alias.name, UNKNOWN) if module is not None else UNKNOWN
            found = SOME if known is UNKNOWN else self.lifted_values(known)
            self.set_name(alias.asname or alias.name, found)

    def _raise(self, node: Any) -> None:
        for part in (node.exc, node.cause):
            if part is not None:
                self.eval(part)

    def _assert(self, node: Any) -> None:
        self.eval(node.test)
        if node.msg is not None:
            self.eval(node.msg)

    def _nothing(self, _node: Any) -> None:
        pass

    # --- Expressions --------------------------------------------------------------------

    def eval(self, node: ast.expr) -> Values:
        """What an expression may be; what it does is noted."""
        self.step(node)
        follow = _EXPRESSIONS.get(type(node).__name__)
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
        found: Values = NOTHING
        for key in keys:
            if isinstance(key, Known) and owner.kind == "sequence" and not _is_position(key):
                found |= owner.all()
                continue
            there = owner.at(key)
            if owner.factory and not there and _may_be_key(key):
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
        texts = [
            value
            for value in left
            if isinstance(value, Prefix) or (isinstance(value, Known) and _is_text(value.value))
        ]
        if _are_small(left | right) and type(op) in _SUMS:
            return limited(
                frozenset(Known(_SUMS[type(op)](a.value, b.value)) for a in left for b in right)
            )
        if texts and isinstance(op, ast.Add):
            return found | concatenated(strings(frozenset(texts)), strings(right - boxes))
        if texts and isinstance(op, ast.Mod):
            return found | self.caller.formatted(frozenset(texts), right, node)
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
            verdicts = {_truth_of(value) for value in values}
            return verdicts.pop() if len(verdicts) == 1 else None
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
            self.put(box, [one for one in keys if _may_be_key(one)], values, where)
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
            keys = [one for one in self.eval(node.key) if _may_be_key(one)]
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
            elif (isinstance(value, Known) and isinstance(value.value, str)) or (isinstance(value, Known) and isinstance(value.value, range)):
                found |= frozenset(map(Known, value.value[:50])) | (
                    SOME if len(value.value) > 50 else NOTHING
                )
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


_SUMS: Final[dict[Any, Any]] = {
    ast.Add: operator.add,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}
_NONE: Final[Values] = frozenset({Known(None)})
_BOTH: Final[Values] = frozenset({Known(True), Known(False)})


def _plain_init(handler_class: type) -> Any:
    """The first `__init__` of a handler that is lazymig's own."""
    for cls in handler_class.__mro__:
        if "__init__" in vars(cls) and cls.__module__.startswith("lazymig."):
            return vars(cls)["__init__"]
    return None


def _join(names: dict[str, Values], others: Mapping[str, Values]) -> None:
    for name, values in others.items():
        names[name] = limited(names.get(name, NOTHING) | values)


def _may_be_key(value: Value) -> bool:
    return isinstance(value, (Known, Prefix)) or value is UNKNOWN


def _is_position(key: Known) -> bool:
    return type(key.value) is int and key.value >= 0


def _are_small(values: Values) -> bool:
    return all(
        isinstance(value, Known) and type(value.value) is int and abs(value.value) < 2**20
        for value in values
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _truth_of(value: Value) -> bool | None:
    if isinstance(value, Known):
        plain = type(value.value) in (str, int, bool, float, type(None))
        return bool(value.value) if plain else (True if callable(value.value) else None)
    return None


_STATEMENTS: Final[dict[str, Any]] = {
    "AnnAssign": Tracer._annotated,
    "Assert": Tracer._assert,
    "Assign": Tracer._assign,
    "AsyncFor": Tracer._for,
    "AsyncFunctionDef": Tracer._define,
    "AsyncWith": Tracer._with,
    "AugAssign": Tracer._augmented,
    "Break": Tracer._leave_loop,
    "Continue": Tracer._leave_loop,
    "Delete": Tracer._delete,
    "Expr": Tracer._expression,
    "For": Tracer._for,
    "FunctionDef": Tracer._define,
    "Global": Tracer._nothing,
    "If": Tracer._if,
    "Import": Tracer._import,
    "ImportFrom": Tracer._import_from,
    "Match": Tracer._match,
    "Nonlocal": Tracer._nothing,
    "Pass": Tracer._nothing,
    "Raise": Tracer._raise,
    "Return": Tracer._return,
    "Try": Tracer._try,
    "TryStar": Tracer._try,
    "While": Tracer._while,
    "With": Tracer._with,
}
_EXPRESSIONS: Final[dict[str, Any]] = {
    "Attribute": Tracer._attribute,
    "BinOp": Tracer._binary,
    "BoolOp": Tracer._boolean,
    "Call": Tracer._call,
    "Compare": Tracer._compare,
    "Constant": Tracer._constant,
    "Dict": Tracer._mapping,
    "DictComp": Tracer._comprehension,
    "GeneratorExp": Tracer._comprehension,
    "IfExp": Tracer._conditional,
    "JoinedStr": Tracer._text,
    "Lambda": Tracer._lambda,
    "List": Tracer._sequence,
    "ListComp": Tracer._comprehension,
    "Name": Tracer._name,
    "NamedExpr": Tracer._named,
    "Set": Tracer._sequence,
    "SetComp": Tracer._comprehension,
    "Slice": Tracer._slice,
    "Starred": Tracer._starred,
    "Subscript": Tracer._subscript,
    "Tuple": Tracer._sequence,
    "UnaryOp": Tracer._unary,
    "Yield": Tracer._yield,
    "YieldFrom": Tracer._yield_from,
}
