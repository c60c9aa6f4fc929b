"""The state of a rule that is followed: all that has been found out about it."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from lazymig.rules.tracing.frames import Frame, GaveUp
from lazymig.rules.tracing.values import (
    DOCUMENT,
    HANDLER,
    NOTHING,
    SOME,
    UNKNOWN,
    Box,
    Known,
    Origin,
    Value,
    Values,
    is_mapping,
    is_object,
    is_scalar,
    limited,
    may_be_key,
    one,
)

if TYPE_CHECKING:
    from lazymig.rules.tracing.callers import Caller

__all__ = ["MOST_STEPS", "State"]

# Steps and rounds after which a rule is too long to be read.
MOST_STEPS: Final = 12_000


_DOCUMENT: Final = one(DOCUMENT)


class State:
    """What is found out about one rule.

    `attributes` is what the rule may set on `self`, `reads` the keys that it may read of the
    document (and `read_whole` whether it may read any), `asks` which of `collection` and `status`
    it may ask for. `reads_types`: it asks what is not the same for a stand-in as for a value.
    """

    caller: Caller

    def __init__(self, handler_class: type, doc_class: Any) -> None:
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

    @property
    def frame(self) -> Frame:
        """The function that is being read."""
        return self.frames[-1]

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
        self.read_all(values)
        for key in keys:
            if box.add(key, values, self.origin(node)):
                self.version += 1

    def open(self, box: Box, node: ast.AST | None) -> None:
        """Note that a box, and all in it, was handed to code that cannot be seen."""
        if box.opened is None:
            box.opened = self.origin(node) or (ast.Constant(None), "")
            self.version += 1
            for inner in box.all():
                if isinstance(inner, Box):
                    self.open(inner, node)

    def some_of(self, values: Values, node: ast.AST | None, mark: Any = None) -> Values:
        """Return a sequence that holds any of the values, at any place."""
        box = self.fresh("sequence", node, mark)
        self.put(box, [UNKNOWN], values, node)
        return one(box)

    def row_of(self, places: Iterable[Values], node: ast.AST | None, mark: Any = None) -> Values:
        """Return a sequence of which it is known what is at each place."""
        box = self.fresh("sequence", node, mark)
        for index, values in enumerate(places):
            self.put(box, [Known(index)], values, node)
        return one(box)

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

    def read_all(self, values: Values = _DOCUMENT) -> None:
        """Note that the document is read as a whole, or may be, if it is one of the values."""
        if DOCUMENT in values and not self.read_whole:
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
        if self.steps > MOST_STEPS:
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
            box.add(self.lift(key), one(self.lift(item)), None)
        return box

    def lifted_values(self, value: Any) -> Values:
        """The same, as a set of alternatives."""
        return one(self.lift(value))

    def look_up(self, name: str) -> Values:
        """What a name may stand for here."""
        frame: Frame | None = self.frame
        assert frame is not None
        # The variable of a comprehension hides no name outside of it.
        if name in self.frame.locals and name in self.frame.names:
            found = self.frame.names[name]
            if name in self.frame.shared:
                found |= self.frame.cells.get(name, NOTHING)
            return found
        while (frame := frame.parent) is not None:
            if name in frame.cells:
                return frame.cells[name]
        root = self.frame.root
        if name in root.outside:
            return root.outside[name] | self.assigned.get((id(root.outside), name), NOTHING)
        found = self.assigned.get((id(root.globals), name), NOTHING)
        if name in root.globals:
            return found | self.lifted_values(root.globals[name])
        if hasattr(builtins, name):
            return found | {Known(getattr(builtins, name))}
        return found | SOME

    def set_name(self, name: str, values: Values) -> None:
        """Note an assignment to a name."""
        frame: Frame | None = self.frame
        if name in self.frame.locals:
            self.frame.names[name] = values
            for attempt in self.frame.attempts:
                attempt[name] = attempt.get(name, NOTHING) | values
        while frame is not None:
            if name in frame.locals:
                self.widen(frame.cells, name, values)
                return
            frame = frame.parent
        root = self.frame.root
        holder: Any = root.outside if name in root.outside else root.globals
        self.widen(self.assigned, (id(holder), name), values)

    def widen(self, names: Any, name: Any, values: Values) -> None:
        """Let a name stand for these values, too."""
        before = names.get(name, NOTHING)
        after = limited(before | values)
        if after != before or name not in names:
            names[name] = after
            self.version += 1

    def set_item(
        self, owner: Value, keys: Values, values: Values, key: ast.AST, origin: ast.AST
    ) -> None:
        """Follow `owner[key] = value`."""
        if is_object(owner):
            self.caller.special(owner, "__setitem__", [keys, values], origin)
            return
        if isinstance(owner, Box):
            where = origin if all(isinstance(each, Known) for each in keys) else key
            self.put(owner, filter(may_be_key, keys), values, where)
            return
        if is_scalar(owner):
            return
        self.leak(values)
        for box in tuple(self.leaked):
            self.open(box, origin)

    def leak(self, values: Values) -> None:
        """Note that boxes are held by something that is not known, too."""
        self.read_all(values)
        for value in values:
            if isinstance(value, Box) and value not in self.leaked:
                self.leaked.add(value)
                self.version += 1
                self.leak(value.all())

    def set_attribute(self, owner: Value, name: str, values: Values, origin: ast.AST) -> None:
        """Follow `owner.name = value`."""
        if owner is HANDLER and self.caller.set_by_property(name, values, origin):
            return
        if owner is HANDLER:
            self.read_all(values)
            if UNKNOWN in values:
                self.origins.setdefault(name, (origin, self.frame.file))
            self.widen(self.attributes, name, values)
        elif is_object(owner):
            self.put(owner, [Known(name)], values, origin)
        else:
            self.set_item(owner, SOME, values, origin, origin)
