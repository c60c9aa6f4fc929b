"""The values of a rule that is read and not run, each as an aggregation expression."""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias

from bson import Binary, Code, Decimal128, Int64, ObjectId, Regex, Timestamp

from lazymig.raw.values import TYPE_ALIASES

__all__ = [
    "DOCUMENT",
    "HANDLER",
    "INTEGERS",
    "MISSING",
    "NUMBERS",
    "PRESENT",
    "REMOVED",
    "TYPES",
    "Computed",
    "Constant",
    "Left",
    "PythonObject",
    "Record",
    "Row",
    "RuleObject",
    "Symbol",
    "Types",
    "as_computed",
    "is_name",
    "is_plain",
    "key_of",
    "literal",
    "types_of_constant",
]

Types: TypeAlias = "frozenset[str]"

MISSING: Final = "missing"
"""What `$type` says of a field that is not there."""

PRESENT: Final[Types] = frozenset(TYPE_ALIASES)
"""Every type of a value that is there."""

TYPES: Final[Types] = PRESENT | {MISSING}
INTEGERS: Final[Types] = frozenset({"int", "long"})
NUMBERS: Final[Types] = INTEGERS | {"double"}

REMOVED: Final = "$$REMOVE"


class Left(Exception):
    """An expression has no exact equal on the server; `reason` completes "because it ..."."""

    def __init__(self, node: ast.AST | None, reason: str) -> None:
        super().__init__(reason)
        self.node = node
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that the source names."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class PythonObject:
    """A function, a class or a module."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class RuleObject:
    """The handler, or the document as a whole."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What an aggregation expression gives, where the guard holds.

    `types` are those that it may have there. `origin` is the field of which `.get` gave this.
    `fresh`: the rule has made the container, so that it may change it. `if_true` and `if_false`:
    what a test says of the types of other expressions, by `key_of`. `items`: the types of what is
    in an array.
    """

    expression: Any
    types: Types = PRESENT
    items: Types = PRESENT
    origin: Any = None
    fresh: bool = False
    if_true: Mapping[str, Types] = field(default_factory=dict)
    if_false: Mapping[str, Types] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A list, a tuple or a set of which each item is known."""

    items: tuple[Symbol, ...]
    kind: type = list


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """A dict of which each key is known."""

    items: Mapping[Any, Symbol]


Symbol: TypeAlias = "Constant | PythonObject | RuleObject | Computed | Row | Record"

HANDLER: Final = RuleObject("self")
DOCUMENT: Final = RuleObject("self.doc")

_TYPE_OF: Final[Mapping[type, str]] = {
    bool: "bool",
    float: "double",
    str: "string",
    type(None): "null",
    datetime: "date",
    ObjectId: "objectId",
    Decimal128: "decimal",
    Int64: "long",
    bytes: "binData",
    Binary: "binData",
    Regex: "regex",
    Timestamp: "timestamp",
    Code: "javascript",
}
_PLAIN: Final = (bool, int, float, str, type(None), datetime, ObjectId, Decimal128, bytes)


def key_of(expression: Any) -> str:
    """Return what only expressions have in common that are the same."""
    return repr(expression)


def is_plain(value: Any) -> bool:
    """Return whether a value is immutable data, so that it is today what it will be then."""
    if isinstance(value, (tuple, frozenset)):
        return type(value) in (tuple, frozenset) and all(map(is_plain, value))
    return type(value) in _PLAIN or type(value) is Int64


def literal(value: Any) -> Any:
    """Return an expression that gives just this value."""
    is_safe = value is None or isinstance(value, (bool, int, float, datetime, ObjectId))
    return value if is_safe else {"$literal": value}


def types_of_constant(value: Any) -> Types:
    """Return the type that a plain value is stored with; nothing where it cannot be stored."""
    if type(value) is int:
        if not -(2**63) <= value < 2**63:
            return frozenset()
        return frozenset({"int" if -(2**31) <= value < 2**31 else "long"})
    if type(value) is tuple:
        return frozenset({"array"})
    found = _TYPE_OF.get(type(value))
    return frozenset() if found is None else frozenset({found})


def as_computed(symbol: Symbol, node: ast.AST | None) -> Computed:
    """Return a value as an expression that gives what would be stored of it.

    :raises Left: it cannot be stored, or not by an expression.
    """
    if isinstance(symbol, Computed):
        return symbol
    if isinstance(symbol, Constant):
        types = types_of_constant(symbol.value)
        if not types or (isinstance(symbol.value, str) and "\x00" in symbol.value):
            raise Left(node, "stores a constant that no expression can hold")
        if isinstance(symbol.value, float) and math.isnan(symbol.value):
            raise Left(node, "computes with NaN, which Python and MongoDB compare otherwise")
        return Computed(literal(symbol.value), types)
    if isinstance(symbol, Row):
        if symbol.kind not in (list, tuple):
            raise Left(node, "stores a set")
        items = [as_computed(item, node).expression for item in symbol.items]
        return Computed(items or literal([]), frozenset({"array"}), fresh=True)
    if isinstance(symbol, Record):
        return Computed(_object(symbol, node), frozenset({"object"}), fresh=True)
    if symbol is DOCUMENT:
        raise Left(node, "takes the document as a whole")
    raise Left(node, "takes what is no stored value")


def _object(record: Record, node: ast.AST | None) -> Any:
    """The expression of an object: never a bare one, which a stage would merge."""
    if not record.items:
        return literal({})
    fields = {}
    for key, item in record.items.items():
        if not is_name(key):
            raise Left(node, f"makes a document with the key {key!r}")
        fields[key] = as_computed(item, node).expression
    return {"$mergeObjects": [fields]}


def is_name(key: Any) -> bool:
    """Return whether a key is a plain name, which expressions take in a path and in an object."""
    is_text = type(key) is str and key != ""
    return is_text and not key.startswith("$") and "." not in key and "\x00" not in key
