"""The values of a rule that is read and not run: what each expression in it may be."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

if TYPE_CHECKING:
    from lazymig.rules.tracing.frames import Frame
    from lazymig.rules.tracing.source import FunctionNode

__all__ = [
    "BOTH",
    "DOCUMENT",
    "HANDLER",
    "NONE",
    "NOTHING",
    "SCALARS",
    "SOME",
    "UNKNOWN",
    "Bound",
    "Box",
    "Function",
    "Known",
    "Method",
    "Origin",
    "Partial",
    "Prefix",
    "Super",
    "Value",
    "Values",
    "concatenated",
    "is_mapping",
    "is_object",
    "is_scalar",
    "limited",
    "may_be_key",
    "one",
    "positions_of",
    "reachable",
    "shape",
    "shapes",
    "strings",
    "without_constants",
]

SCALARS: Final = frozenset({bool, bytes, float, int, str, type(None)})

# More alternatives than this are some value or other.
_MOST: Final = 128


@dataclass(frozen=True, slots=True)
class Special:
    """A value of which nothing is known but its role."""

    role: str


UNKNOWN: Final = Special("unknown")
"""Some value that the source does not say."""

DOCUMENT: Final = Special("document")
"""`self.doc`."""

HANDLER: Final = Special("handler")
"""`self` of the rule."""


class Known:
    """One very object: a constant of the source, or what a name outside of the rule stands for."""

    __slots__ = ("_key", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        kind = type(value)
        self._key: Any = (kind, value) if kind in SCALARS else id(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        return f"Known({self.value!r})"


@dataclass(frozen=True, slots=True)
class Prefix:
    """A string that begins with this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Function:
    """A function or lambda that is defined inside of what is read."""

    node: FunctionNode
    frame: Frame
    defaults: tuple[tuple[str, Values], ...]


@dataclass(frozen=True, slots=True)
class Bound:
    """A function with its first argument."""

    function: Value
    first: Value


@dataclass(frozen=True, slots=True)
class Partial:
    """A function with some of its arguments."""

    function: Value
    positional: tuple[Values, ...]
    named: tuple[tuple[str, Values], ...]


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a value that is not written in Python, or is not known."""

    receiver: Value
    name: str


@dataclass(frozen=True, slots=True)
class Super:
    """What `super()` gives: the attributes of `first` after a class."""

    after: type
    first: Value


Origin: TypeAlias = "tuple[ast.AST, str]"
"""A piece of syntax, and the name of its file."""


class Box:
    """A container, or an object, that the rule may fill in: what it may hold, at any time.

    A sequence has its positions as keys; `UNKNOWN` is any key. Nothing is ever taken out, so that
    the order in which things happen does not matter. `opened` is where the box was handed to code
    that cannot be seen, which may have put in anything. `site` is where it was made; `made_by` the
    class of an object, or the names of the fields of a tuple.
    """

    __slots__ = ("entries", "factory", "kind", "made_by", "opened", "origins", "site")

    def __init__(self, kind: Literal["mapping", "sequence", "object"], site: Any = None) -> None:
        self.kind = kind
        self.site = site
        self.made_by: Any = None
        self.entries: dict[Value, Values] = {}
        self.origins: dict[Value, Origin] = {}
        self.opened: Origin | None = None
        self.factory: Values = NOTHING

    def add(self, key: Value, values: Values, origin: Origin | None) -> bool:
        """Put values in, at a key; return whether that is news."""
        before = self.entries.get(key)
        after = values if before is None else limited(before | values)
        if before is not None and after == before:
            return False
        self.entries[key] = after
        if origin is not None and (before is None or UNKNOWN in after - before):
            self.origins[key] = origin
        return True

    def at(self, key: Value) -> Values:
        """What may be found at a key."""
        if not isinstance(key, Known):
            return self.all()
        found = self.entries.get(key, NOTHING)
        for other, values in self.entries.items():
            if not isinstance(other, Known):
                found |= values
        return found if self.opened is None else found | SOME

    def all(self) -> Values:
        """What may be found at any key."""
        found = NOTHING.union(*self.entries.values())
        return found if self.opened is None else found | SOME

    def keys(self) -> Values:
        """The keys that there may be."""
        found: Values = frozenset(self.entries)
        return found if self.opened is None else found | SOME

    def positions(self) -> list[Values] | None:
        """What a sequence holds, in order; `None` where that is not known."""
        if self.kind != "sequence" or self.opened is not None:
            return None
        found = [self.entries.get(Known(index)) for index in range(len(self.entries))]
        return None if None in found else [values for values in found if values is not None]


Value: TypeAlias = "Special | Known | Prefix | Function | Bound | Partial | Method | Super | Box"
Values: TypeAlias = "frozenset[Value]"

NOTHING: Final[frozenset[Any]] = frozenset()
SOME: Final[frozenset[Any]] = frozenset({UNKNOWN})
NONE: Final[frozenset[Any]] = frozenset({Known(None)})
BOTH: Final[frozenset[Any]] = frozenset({Known(True), Known(False)})


def one(value: Value) -> Values:
    """This value and no other."""
    return frozenset({value})


def is_scalar(value: Value) -> TypeGuard[Known]:
    """Return whether a value is a constant of one of Python's own types."""
    return isinstance(value, Known) and type(value.value) in SCALARS


def is_object(value: Value) -> TypeGuard[Box]:
    """Return whether a value is an object that the rule has made, of a class that can be read."""
    return isinstance(value, Box) and value.kind == "object"


def may_be_key(value: Value) -> bool:
    """Return whether a value may be a key of a container."""
    return isinstance(value, (Known, Prefix)) or value is UNKNOWN


def positions_of(values: Values) -> list[Values] | None:
    """What the one sequence holds, in order; `None` where it is not one, or that is not known."""
    (only,) = values if len(values) == 1 else (None,)
    return only.positions() if isinstance(only, Box) else None


def reachable(values: Values) -> Values:
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


def limited(values: Values) -> Values:
    """The same values, or some value or other in place of too many constants."""
    if len(values) <= _MOST:
        return values
    return without_constants(values)


def without_constants(values: Values) -> Values:
    """The values with `UNKNOWN` in place of every constant."""
    kept = frozenset(
        value for value in values if not (isinstance(value, Prefix) or is_scalar(value))
    )
    return kept if len(kept) == len(values) else kept | SOME


def shape(value: Value) -> Any:
    """What a value has in common with others that are made at the same place.

    Two calls whose arguments have the same shapes are followed as one: so there are not ever more.
    """
    if isinstance(value, Box):
        return id(value.site) if value.site is not None else id(value)
    if isinstance(value, Function):
        return id(value.node)
    if isinstance(value, Bound):
        return shape(value.function), shape(value.first)
    if isinstance(value, Partial):
        given = (*value.positional, *(values for _name, values in value.named))
        return shape(value.function), tuple(map(shapes, given))
    return value


def shapes(values: Values) -> Any:
    """The shapes of alternatives."""
    return frozenset(map(shape, values))


def strings(values: Values) -> Values:
    """What may come of the values in a text: strings, beginnings of strings, or anything."""
    found: set[Value] = set()
    for value in values:
        if isinstance(value, Known) and isinstance(value.value, (str, int, bool, type(None))):
            text = value.value
            # The text of an Enum member depends on the version of Python.
            plain = type(text) in SCALARS
            found.add(Known(str(text)) if plain else UNKNOWN)
        else:
            found.add(value if isinstance(value, Prefix) else UNKNOWN)
    return frozenset(found)


def concatenated(left: Values, right: Values) -> Values:
    """What may come of a text that is followed by another."""
    found: set[Value] = set()
    for first in left:
        if isinstance(first, Prefix) or not isinstance(first, Known):
            found.add(first if isinstance(first, Prefix) else UNKNOWN)
            continue
        for second in right:
            if isinstance(second, Known):
                found.add(Known(first.value + second.value))
            elif isinstance(second, Prefix):
                found.add(Prefix(first.value + second.text))
            else:
                found.add(Prefix(first.value) if first.value else UNKNOWN)
    return limited(frozenset(found))


def is_mapping(value: Any) -> bool:
    """Return whether an object is a plain mapping, which can be read without any effect."""
    return isinstance(value, (dict, MappingProxyType)) and isinstance(value, Mapping)
