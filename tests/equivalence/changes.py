"""What worlds are made of: fields, rules, and how documents looked before a rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson import ObjectId
from hypothesis import strategies as st
from pymongo.errors import WriteError

Raw = dict[str, Any]
Draw = Callable[[Any], Any]
Strategy = Any
Bodies = Mapping[str, Raw]

STRINGS: Strategy = st.sampled_from(["a", "b", "ab", "", "1", "A"])
NUMBERS: Strategy = st.sampled_from([0, 1, 2, -1])
FLOATS: Strategy = st.sampled_from([0.0, 0.5, 1.0, 2.0])
BOOLEANS: Strategy = st.booleans()
LISTS: Strategy = st.lists(STRINGS, max_size=2)
NO_ARRAY = {"$exists": True, "$not": {"$type": "array"}}
# What Python raises for a value that a rule did not expect.
_RAISED_BY_RULES = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
IDS = [ObjectId(f"{number:024x}") for number in range(1, 9)]
# As many as three batches of MongoEngine's.
MORE_IDS = [ObjectId(f"{number:024x}") for number in range(100, 400)]
KNOWN_IDS = frozenset((*IDS, *MORE_IDS))


class CannotApply(Exception):
    """There is a document to which a rule cannot be applied."""


@dataclass(frozen=True)
class Path:
    """A field: its name in MongoEngine's queries, its path in the database, its values."""

    name: str
    stored: str
    values: Strategy
    kind: str


@dataclass(frozen=True)
class Change:
    """A rule, and how a document of today's shape looked before it.

    `update` is a function of the raw document for a rule that reads it.
    """

    name: str
    target: Raw
    update: Any
    before: Callable[[Draw, Raw], None]
    array_filters: Any = None
    of: str = ""

    def method(self) -> Callable[[Any], None]:
        """The rule as a method of a handler."""
        target, update, array_filters = self.target, self.update, self.array_filters

        def static(handler: Any) -> None:
            handler.target = target
            handler.update = update
            handler.array_filters = array_filters

        def dynamic(handler: Any) -> None:
            handler.target = target
            handler.update = update(handler.doc)

        return dynamic if callable(update) else static

    def apply(self, collection: Any, concern: Raw) -> None:
        """Apply the rule to a collection, as a careful script would.

        :raises CannotApply: MongoDB refuses the update of a document, or the rule raises.
        """
        target = {"$and": [concern, self.target]} if concern else self.target
        try:
            if not callable(self.update):
                collection.update_many(target, self.update, array_filters=self.array_filters)
                return
            for raw in list(collection.find(target)):
                collection.update_one({"_id": raw["_id"]}, self.update(raw))
        except (WriteError, *_RAISED_BY_RULES) as exc:
            raise CannotApply(self.name) from exc


@dataclass(frozen=True)
class Group:
    """The handler on one class: whose documents it concerns, and which changes it holds."""

    owner: str
    concern: Raw = field(default_factory=dict)
    rules: tuple[str, ...] = ("",)


@dataclass(frozen=True)
class World:
    """A model, or a tree of them, and all that may happen to it.

    :param define: makes the classes; takes the bases of the root, and by the names of the classes
        what is added to their bodies.
    :param paths: what operations read and write.
    :param document: a document of today's shape.
    :param groups: the handlers; each inherits from the one before.
    :param gone: database paths that only old documents have.
    :param beside: other collections, by name.
    """

    name: str
    define: Callable[[tuple[type, ...], Bodies], dict[str, Any]]
    groups: tuple[Group, ...]
    paths: tuple[Path, ...]
    changes: tuple[Change, ...]
    document: Callable[[Draw], Raw]
    gone: tuple[str, ...] = ()
    legacy_classes: tuple[str, ...] = ()
    beside: Mapping[str, tuple[Raw, ...]] = field(default_factory=dict)


def maybe(draw: Draw, document: Raw, name: str, values: Strategy) -> None:
    """Give it a value, or null, or nothing."""
    chosen = draw(st.integers(0, 9))
    if chosen >= 2:
        document[name] = draw(values)
    elif chosen == 1:
        document[name] = None


def missing(*names: str) -> Callable[[Draw, Raw], None]:
    """There were no such fields."""

    def before(draw: Draw, document: Raw) -> None:
        for name in names:
            document.pop(name, None)

    return before


def called(old: str, new: str) -> Callable[[Draw, Raw], None]:
    """The value was at another name; sometimes it is at both."""

    def before(draw: Draw, document: Raw) -> None:
        if new in document:
            document[old] = document[new] if draw(st.integers(0, 4)) == 0 else document.pop(new)

    return before


def beside(name: str, values: Strategy) -> Callable[[Draw, Raw], None]:
    """There was one more field."""

    def before(draw: Draw, document: Raw) -> None:
        document[name] = draw(values)

    return before


def converted(name: str, convert: Callable[[Any], Any], types: Any) -> Callable[[Draw, Raw], None]:
    """The value was of another type."""

    def before(draw: Draw, document: Raw) -> None:
        if isinstance(document.get(name), types):
            document[name] = convert(document[name])

    return before


def inside(name: str, before: Callable[[Draw, Raw], None]) -> Callable[[Draw, Raw], None]:
    """An embedded document looked like this before."""

    def inner(draw: Draw, document: Raw) -> None:
        if isinstance(document.get(name), dict):
            before(draw, document[name])

    return inner
