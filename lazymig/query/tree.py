"""The tree of a query: questions on paths, joined by "and", "or" and "not".

`operators` parses it, `matching` compiles it, the facts on updates answer it; `clauses` makes it
small and writes it back as a query.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeAlias, TypeVar

from bson.errors import BSONError

from lazymig.raw.encoding import encoded
from lazymig.raw.paths import root
from lazymig.raw.values import NUMBER, REGEX, TYPE_BRACKETS, bracket

if TYPE_CHECKING:
    from lazymig.query.checks import Judge, Test

__all__ = [
    "And",
    "Compare",
    "Denial",
    "Leaf",
    "Node",
    "Not",
    "Opaque",
    "Or",
    "Path",
    "conjuncts",
    "fingerprint",
    "identity",
    "is_expression",
    "is_reference",
]

Path: TypeAlias = "tuple[str, ...]"

Roots: TypeAlias = "frozenset[str] | None"

_V = TypeVar("_V")


class _Once(Generic[_V]):
    """An attribute of a node that is found when it is asked for first, and kept.

    Unlike a property it costs nothing from then on, and unlike `functools.cached_property` of
    Python 3.11 it takes no lock.
    """

    def __init__(self, find: Callable[[Any], _V]) -> None:
        self._find, self._name = find, find.__name__

    def __get__(self, node: Any, _owner: object = None) -> _V:
        found: _V
        found = node.__dict__[self._name] = self._find(node)
        return found


class Node:
    """A query, or a part of one.

    It is never changed: what follows from it is found once. `says` and `heeds` are for `facts`.
    """

    parts: tuple[Node, ...] = ()
    says: frozenset[Hashable] | None = None
    heeds: frozenset[Hashable] | None = None

    @_Once
    def key(self) -> Hashable:
        """What equal nodes have in common."""
        return type(self), frozenset([part.key for part in self.parts])

    @_Once
    def depth(self) -> int:
        """How many nodes are within each other, at most."""
        return 1 + max([part.depth for part in self.parts], default=0)

    @_Once
    def leaves(self) -> int:
        """How many conditions there are."""
        return sum([part.leaves for part in self.parts]) or 1

    @_Once
    def roots(self) -> Roots:
        """The first components of the paths that it reads; None if it does not say which."""
        found: set[str] = set()
        for part in self.parts:
            if part.roots is None:
                return None
            found |= part.roots
        return frozenset(found)


class Leaf(Node):
    """What is asked at one path: a question (`Compare`), or that the answer is no (`Denial`).

    `path` is () for an element of an array itself. `needs` and `judge` are noted by `facts`.
    """

    path: Path
    operator: str
    operand: Any
    denied: ClassVar[bool] = False
    needs: frozenset[str] | None = None
    judge: Judge | None = None

    @_Once
    def dotted(self) -> str:
        """The path as a query names it."""
        return ".".join(self.path)

    @_Once
    def roots(self) -> Roots:
        """The first component of the path."""
        return frozenset(self.path[:1])

    @_Once
    def choices(self) -> Mapping[Hashable, Any] | None:
        """The values of an equality or `$in` without patterns, by what is one to MongoDB."""
        operand = self.operand
        if self.operator == "$eq":
            return None if bracket(operand) == REGEX else {identity(operand): operand}
        if self.operator != "$in" or any(bracket(value) == REGEX for value in operand):
            return None
        return {identity(value): value for value in operand}

    def condition(self) -> Any:
        """Return what MongoDB takes after the path, in the shortest form."""
        raise NotImplementedError

    def at(self, path: str) -> Leaf:
        """Return the same on another path."""
        raise NotImplementedError

    def among(self, choices: Mapping[Hashable, Any]) -> Leaf:
        """Return that one of these values is at the same path, or, of a denial, that none is."""
        chosen = Compare(self.path, "$in", list(choices.values()))
        vars(chosen)["choices"] = choices
        return chosen.opposite if self.denied else chosen

    @_Once
    def meets_missing(self) -> bool | None:
        """Whether one of the choices is equal to what is missing; None: perhaps."""
        kinds = self._kinds
        if type(None) in kinds:
            return True
        others = kinds - TYPE_BRACKETS.keys()
        if not others:
            return False
        values = [value for value in self.choices.values() if type(value) in others]
        return None if None in map(bracket, values) else False

    @_Once
    def is_exact(self) -> bool:
        """Whether those of the choices that are numbers are plain integers."""
        return all(kind is int or TYPE_BRACKETS.get(kind, NUMBER) != NUMBER for kind in self._kinds)

    @_Once
    def _kinds(self) -> set[type]:
        # There may be thousands of values, each of which is looked at once.
        return set(map(type, (self.choices or {}).values()))


@dataclass(eq=False)
class Compare(Leaf):
    """One positive question on one path.

    `options` are the letters beside a `$regex`, or the operators beside a `$near`. `inner` is the
    tree of what `$elemMatch` asks of an element. `test` is what `predicates` compiles the question
    to, once.
    """

    path: Path
    operator: str
    operand: Any
    options: Any = None
    inner: Node | None = None
    test: Test | None = field(default=None, init=False, repr=False)

    @_Once
    def key(self) -> Hashable:
        """What equal questions have in common."""
        if self.choices is not None:
            return "choice", self.dotted, frozenset(self.choices)
        options = self.options and identity(self.options)
        return "leaf", self.dotted, self.operator, identity(self.operand), options

    @_Once
    def opposite(self) -> Denial:
        """That the answer is no."""
        return Denial(self)

    def at(self, path: str) -> Compare:
        """Return the same question on another path."""
        place = tuple(path.split("."))
        moved = Compare(place, self.operator, self.operand, self.options, self.inner)
        vars(moved)["choices"] = self.choices
        return moved

    def condition(self) -> Any:
        """Return what MongoDB takes after the path, in the shortest form."""
        operator, operand, options = self.operator, self.operand, self.options
        if operator == "$eq" and bracket(operand) != REGEX and not is_expression(operand):
            return operand
        if operator == "$regex" and bracket(operand) == REGEX and options is None:
            return operand
        if isinstance(options, str):
            options = {"$options": options}
        return {operator: operand, **(options or {})}


@dataclass(eq=False)
class And(Node):
    """Every part holds. `settled`: none of them is known to be needless beside the others."""

    parts: tuple[Node, ...]
    settled: bool = field(default=False, init=False, repr=False)


@dataclass(eq=False)
class Or(Node):
    """Some part holds. `settled`: so are the parts."""

    parts: tuple[Node, ...]
    settled: bool = field(default=False, init=False, repr=False)


@dataclass(eq=False)
class Not(Node):
    """The part does not hold."""

    part: Node

    def __post_init__(self) -> None:
        self.parts = (self.part,)


class Denial(Leaf, Not):
    """The negation of one question, as `clauses` has it: a condition on a path, like `$ne`."""

    part: Compare
    denied = True

    def __post_init__(self) -> None:
        part = self.part
        self.path, self.operator, self.operand = part.path, part.operator, part.operand
        vars(self)["choices"] = part.choices

    @_Once
    def key(self) -> Hashable:
        """What equal nodes have in common."""
        return Not, self.part.key

    def at(self, path: str) -> Denial:
        """Return the same denial on another path."""
        return self.part.at(path).opposite

    def condition(self) -> Any:
        """Return what MongoDB takes after the path, in the shortest form."""
        if self.operator == "$exists":
            return {"$exists": False}
        if bracket(self.operand) == REGEX or self.operator not in _OPPOSITES:
            return {"$not": self.part.condition()}
        return {_OPPOSITES[self.operator]: self.operand}


_OPPOSITES: Final = {"$eq": "$ne", "$in": "$nin"}


@dataclass(eq=False)
class Opaque(Node):
    """What only MongoDB answers: a name with its value, as they stand in the query.

    `reads` are the paths that it reads, None if it does not say which. `problem`: why MongoDB
    would refuse it, where it would.
    """

    name: str = ""
    value: Any = None
    reads: frozenset[str] | None = None
    problem: str = ""

    @_Once
    def key(self) -> Hashable:
        """What equal nodes have in common."""
        return "opaque", self.name, identity(self.value)

    @_Once
    def roots(self) -> Roots:
        """The first components of the paths that it reads; None if it does not say which."""
        return None if self.reads is None else frozenset(map(root, self.reads))


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the nodes that all have to hold, none of them an `And`."""
    if isinstance(node, And):
        for part in node.parts:
            yield from conjuncts(part)
    else:
        yield node


def fingerprint(node: Node) -> Hashable:
    """Return a value that is equal for nodes that ask the same; unequal may mean nothing.

    Unlike `key` it takes values that are not known yet for different ones.
    """
    if isinstance(node, And):
        return frozenset(map(fingerprint, conjuncts(node)))
    if isinstance(node, Or):
        return "or", frozenset(map(fingerprint, node.parts))
    if isinstance(node, Not):
        return "not", fingerprint(node.part)
    if not isinstance(node, Compare):
        return object()
    try:
        return node.path, node.operator, encoded(node.condition())
    except (BSONError, ValueError):
        return object()


def identity(value: Any) -> Hashable:
    """Return what only values have in common that are one to MongoDB."""
    # Not by Python's equality, for which 1, 1.0 and True are one.
    try:
        return encoded(value)
    except (BSONError, ValueError, TypeError, OverflowError, RecursionError):
        return id(value)


def is_expression(value: Any) -> bool:
    """Return whether MongoDB takes a value for operators; a DBRef is a value."""
    if not isinstance(value, Mapping):
        return False
    first = next(iter(value), "")
    if not isinstance(first, str):
        return False
    return first.startswith("$") and not ("$ref" in value and "$id" in value)


def is_reference(name: str) -> bool:
    """Return whether a name that begins with `$` is a field of a DBRef, and no operator."""
    return name in ("$ref", "$id", "$db")
