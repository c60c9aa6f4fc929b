"""The BSON values as PyMongo decodes them: their types, type brackets, order and equality.

Every answer is the server's (MongoDB 6.0) or none at all: what the decoded value does not show
any more raises `Unjudgeable`. Queries and operators are not looked at.
"""

from __future__ import annotations

import calendar
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Context, Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import UuidRepresentation
from bson.datetime_ms import DatetimeMS
from bson.son import SON

__all__ = [
    "ARRAY",
    "DOCUMENT",
    "HIDDEN",
    "MAX_KEY",
    "MIN_KEY",
    "MISSING",
    "NULL",
    "NUMBER",
    "REGEX",
    "STRING",
    "TYPE_ALIASES",
    "TYPE_BRACKETS",
    "TYPE_CODES",
    "TYPE_NAMES",
    "Missing",
    "Unjudgeable",
    "bracket",
    "compare",
    "decimal_of",
    "equal",
    "field",
    "is_array",
    "is_document",
    "is_nan",
    "known_bracket",
    "may_have_code",
    "stored_date",
    "type_code",
]


class Unjudgeable(Exception):
    """The decoded values do not show what the server would say of the stored ones."""


class _Unordered(Unjudgeable):
    """The values differ, but which one is greater is not known."""


class Missing(Enum):
    """The type of `MISSING`."""

    MISSING = "missing"

    def __repr__(self) -> str:
        return "MISSING"


class _Hidden:
    """The type of `HIDDEN`: nobody knows what is at the path, nor whether anything is."""

    __slots__ = ()


MISSING: Final = Missing.MISSING
"""Stands for a value that is not there; null is a value."""

HIDDEN: Final = _Hidden()

# The server's canonical types: only values of one bracket are compared with each other.
# https://www.mongodb.com/docs/manual/reference/bson-type-comparison-order/
MIN_KEY: Final = -1
ABSENT: Final = 0
NULL: Final = 5
NUMBER: Final = 10
STRING: Final = 15
DOCUMENT: Final = 20
ARRAY: Final = 25
BINARY: Final = 30
OBJECT_ID: Final = 35
BOOL: Final = 40
DATE: Final = 45
TIMESTAMP: Final = 47
REGEX: Final = 50
CODE: Final = 60
SCOPED_CODE: Final = 65
MAX_KEY: Final = 127

# The bracket and the BSON type number of Python types; of `int` the value decides the number.
_TYPES: Final[tuple[tuple[int, int | None, tuple[type, ...]], ...]] = (
    (ABSENT, None, (Missing,)),
    (NULL, 10, (type(None),)),
    (NUMBER, None, (int,)),
    (NUMBER, 1, (float,)),
    (NUMBER, 18, (Int64,)),
    (NUMBER, 19, (Decimal128,)),
    (STRING, 2, (str,)),
    (DOCUMENT, 3, (dict, SON, DBRef)),
    (ARRAY, 4, (list, tuple)),
    (BINARY, 5, (bytes, Binary, UUID)),
    (OBJECT_ID, 7, (ObjectId,)),
    (BOOL, 8, (bool,)),
    (DATE, 9, (datetime, DatetimeMS)),
    (REGEX, 11, (Regex, re.Pattern)),
    (TIMESTAMP, 17, (Timestamp,)),
    (MIN_KEY, -1, (MinKey,)),
    (MAX_KEY, 127, (MaxKey,)),
)

TYPE_BRACKETS: Final = {own: place for place, _, types in _TYPES for own in types}
"""The bracket of every type whose values all share one; `Code` has two."""

TYPE_CODES: Final = {own: code for _, code, types in _TYPES if code is not None for own in types}
"""The BSON type number of every type whose values all share one; `int` and `Code` have two."""

_ALIASES: Final = (
    *("double", "string", "object", "array", "binData", "undefined", "objectId", "bool", "date"),
    *("null", "regex", "dbPointer", "javascript", "symbol", "javascriptWithScope", "int"),
    *("timestamp", "long", "decimal"),
)
TYPE_ALIASES: Final = {
    **{name: code for code, name in enumerate(_ALIASES, start=1)},
    "minKey": -1,
    "maxKey": 127,
}
"""The BSON type number of every alias that `$type` knows."""

TYPE_NAMES: Final = {code: name for name, code in TYPE_ALIASES.items()}
"""The alias of every BSON type number."""

# PyMongo decodes the deprecated type to the same Python type as the living one.
_DEPRECATED_TWINS: Final[dict[type | None, int]] = {type(None): 6, str: 14, DBRef: 12}

# Subclasses are encoded as their base. `Code` before `str`, `Int64` before `int`,
# `Binary` before `bytes`: the first one that fits counts.
_BASES: Final = (Code, str, Int64, int, float, DBRef, list, tuple, Binary, bytes, UUID, ObjectId)
_OTHER_BASES: Final = (datetime, DatetimeMS, Timestamp, Regex, MinKey, MaxKey, Decimal128)


def _base(value: Any) -> type | None:
    """Return the BSON-encodable type that `value` is encoded as; None if none is known."""
    own = type(value)
    if own in TYPE_BRACKETS or own is Code:
        return own
    if isinstance(value, Mapping):
        return dict
    return next((base for base in _BASES + _OTHER_BASES if isinstance(value, base)), None)


def bracket(value: Any) -> int | None:
    """Return the type bracket of `value`; None if it is of no known BSON type."""
    known = TYPE_BRACKETS.get(type(value))
    if known is not None:
        return known
    base = _base(value)
    if base is None:
        return None
    if base is Code:
        return CODE if value.scope is None else SCOPED_CODE
    return TYPE_BRACKETS[base]


def type_code(value: Any) -> int | None:
    """Return the BSON type number of `value` (0: missing); None if it is of no known BSON type."""
    base = _base(value)
    if base is None:
        return None
    if base is Missing:
        return 0
    if base is int:
        return 16 if -(2**31) <= value < 2**31 else 18
    if base is Code:
        return 13 if value.scope is None else 15
    return TYPE_CODES[base]


def may_have_code(value: Any, codes: frozenset[int]) -> bool | None:
    """Return whether the stored value has one of the BSON type numbers `codes`; None: unknown."""
    code = type_code(value)
    if code is None:
        return None
    if code in codes:
        return True
    return None if _DEPRECATED_TWINS.get(_base(value)) in codes else False


def is_array(value: Any) -> bool:
    """Return whether `value` is stored as an array."""
    return type(value) is list or bracket(value) == ARRAY


def is_document(value: Any) -> bool:
    """Return whether `value` is stored as a document; a `DBRef` is one."""
    return type(value) is dict or bracket(value) == DOCUMENT


def field(document: Any, name: str) -> Any:
    """Return the value of a document's field, `MISSING`, or `HIDDEN` where decoding lost it."""
    if not isinstance(document, DBRef):
        return document.get(name, MISSING)
    if (name == "$id" and document.id is None) or (name == "$db" and document.database is None):
        return HIDDEN  # null and missing are decoded alike
    return document.as_doc().get(name, MISSING)


# --- Order and equality -----------------------------------------------------------------


def is_nan(value: Any) -> bool:
    """Return whether a number is NaN, of whatever numeric type."""
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, Decimal128) and decimal_of(value).is_nan()


def decimal_of(number: Decimal128) -> Decimal:
    """The number as Python has it."""
    try:
        return number.to_decimal()
    except ArithmeticError:
        # A significand of more than 34 digits is 0, which PyMongo 4.9 does not know.
        return Decimal(0)


_WIDE: Final = Context(prec=120, traps=[])
_HALF_KNOWN: Final = Decimal("1e-32")


def _decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal128):
        return decimal_of(value)
    return Decimal(value) if isinstance(value, float) else Decimal(int(value))


def _compare_numbers(left: Any, right: Any) -> int:
    if is_nan(left) or is_nan(right):
        return is_nan(right) - is_nan(left)
    if not isinstance(left, Decimal128) and not isinstance(right, Decimal128):
        return int((left > right) - (left < right))
    exact_left, exact_right = _decimal(left), _decimal(right)
    order = (exact_left > exact_right) - (exact_left < exact_right)
    if order and float in {type(left), type(right)} and exact_left.is_finite():
        # The server rounds a double to 34 digits before it compares it with a Decimal128.
        distance = abs(_WIDE.subtract(exact_left, exact_right))
        if distance <= _WIDE.multiply(abs(exact_right), _HALF_KNOWN):
            raise Unjudgeable
    return order


def _order(left: Any, right: Any) -> int:
    return int((left > right) - (left < right))


def _compare_documents(left: Any, right: Any) -> int:
    if isinstance(left, DBRef) or isinstance(right, DBRef):
        raise Unjudgeable  # decoding lost the order of the fields
    return _compare_items(list(left.items()), list(right.items()))


def _compare_arrays(left: Any, right: Any) -> int:
    return _compare_items([("", value) for value in left], [("", value) for value in right])


def _compare_items(left: list[tuple[str, Any]], right: list[tuple[str, Any]]) -> int:
    for (name, value), (other_name, other) in zip(left, right, strict=False):
        order = _order(known_bracket(value), known_bracket(other)) or _order(name, other_name)
        order = order or compare(value, other)
        if order:
            return order
    return _order(len(left), len(right))


def _compare_binaries(left: Any, right: Any) -> int:
    subtypes = _subtypes(left), _subtypes(right)
    if {2} in subtypes:
        raise Unjudgeable  # stored with a second length
    order = _order(_size(left), _size(right))
    if order:
        return order
    if max(subtypes[0]) < min(subtypes[1]) or max(subtypes[1]) < min(subtypes[0]):
        return _order(max(subtypes[0]), max(subtypes[1]))
    if isinstance(left, UUID) or isinstance(right, UUID):
        return _compare_uuid(left, right)
    return _order(bytes(left), bytes(right))


def _compare_uuid(left: Any, right: Any) -> int:
    """Compare a UUID with a UUID or a `Binary` of its size: they are equal, or differ somehow.

    The client stores all of its UUIDs in one representation, but which one is not known here.
    """
    if isinstance(left, UUID) and isinstance(right, UUID):
        if left.int == right.int:
            return 0
        raise _Unordered
    one, binary = (left, right) if isinstance(left, UUID) else (right, left)
    if any(bytes(binary) == bytes(form) for form in _stored_forms(one, binary.subtype)):
        raise Unjudgeable  # equal in one of the representations
    raise _Unordered


def _stored_forms(value: UUID, subtype: int) -> list[Binary]:
    """Return the binaries of a subtype that a UUID is stored as, in each representation."""
    forms = [Binary.from_uuid(value, representation) for representation in _REPRESENTATIONS]
    return [form for form in forms if form.subtype == subtype]


_REPRESENTATIONS: Final = (
    UuidRepresentation.STANDARD,
    UuidRepresentation.PYTHON_LEGACY,
    UuidRepresentation.JAVA_LEGACY,
    UuidRepresentation.CSHARP_LEGACY,
)


def _subtypes(value: Any) -> set[int]:
    if isinstance(value, UUID):
        return {3, 4}
    return {value.subtype} if isinstance(value, Binary) else {0}


def _size(value: Any) -> int:
    return 16 if isinstance(value, UUID) else len(value)


def _milliseconds(value: Any) -> int:
    if isinstance(value, DatetimeMS):
        return int(value)
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc)
    return calendar.timegm(value.timetuple()) * 1000 + int(value.microsecond) // 1000


def stored_date(value: datetime) -> datetime:
    """Return a date as PyMongo decodes it by default: UTC without a time zone, in milliseconds."""
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _is_as_decoded(value: Any) -> bool:
    return type(value) is datetime and value.tzinfo is None and value.microsecond % 1000 == 0


def _compare_dates(left: Any, right: Any) -> int:
    if _is_as_decoded(left) and _is_as_decoded(right):
        return _order(left, right)
    return _order(_milliseconds(left), _milliseconds(right))


def _compare_patterns(left: Any, right: Any) -> int:
    if type(left.pattern) is str and type(right.pattern) is str:
        order = _order(left.pattern, right.pattern)
        if order:
            return order
    raise Unjudgeable  # the flags, as they are stored, are not known


def _not_judged(left: Any, right: Any) -> int:  # noqa: ARG001
    raise Unjudgeable


def _by_key(key: Callable[[Any], Any]) -> Callable[[Any, Any], int]:
    return lambda left, right: _order(key(left), key(right))


_COMPARE: Final[dict[int, Callable[[Any, Any], int]]] = {
    NUMBER: _compare_numbers,
    STRING: _by_key(str.__str__),
    DOCUMENT: _compare_documents,
    ARRAY: _compare_arrays,
    BINARY: _compare_binaries,
    OBJECT_ID: _order,
    BOOL: _order,
    DATE: _compare_dates,
    TIMESTAMP: _by_key(lambda value: (value.time, value.inc)),
    REGEX: _compare_patterns,
    CODE: _by_key(str.__str__),
    SCOPED_CODE: _not_judged,
}


def known_bracket(value: Any) -> int:
    """Return the bracket of a value.

    :raises Unjudgeable: it has none that is known.
    """
    known = bracket(value)
    if known is None:
        raise Unjudgeable
    return known


def compare(left: Any, right: Any) -> int:
    """Order two values of one bracket as the server does: negative, zero or positive.

    :raises Unjudgeable: the decoded values do not show it.
    """
    compare_alike = _COMPARE.get(known_bracket(left))
    return compare_alike(left, right) if compare_alike else 0


def equal(left: Any, right: Any) -> bool:
    """Return whether two values of one bracket are equal to the server.

    :raises Unjudgeable: the decoded values do not show it.
    """
    if not isinstance(left, DBRef) and not isinstance(right, DBRef):
        try:
            return compare(left, right) == 0
        except _Unordered:
            return False
    if _lost_fields(left, right) or _lost_fields(right, left):
        raise Unjudgeable
    left_fields, right_fields = _fields(left), _fields(right)
    if left_fields.keys() != right_fields.keys():
        return False
    for name, value in left_fields.items():
        other = right_fields[name]
        if known_bracket(value) != known_bracket(other) or not equal(value, other):
            return False
    raise Unjudgeable  # the same fields, but decoding lost their order


def _lost_fields(reference: Any, other: Any) -> bool:
    """Return whether it matters that null and missing `$id` and `$db` are decoded alike."""
    if not isinstance(reference, DBRef):
        return False
    return reference.id is None or (reference.database is None and "$db" in _fields(other))


def _fields(document: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = document.as_doc() if isinstance(document, DBRef) else document
    return fields
