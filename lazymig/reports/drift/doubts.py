"""Doubts that a new value says what the old one said: MongoDB converts much without complaint.

A number of seconds becomes a day in January 1970, any text becomes true, a document with the keys
of a list becomes the one item of a list. Who offers a rule for such values has to ask first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bson import DBRef, Decimal128, ObjectId
from bson.datetime_ms import DatetimeMS
from mongoengine.errors import MongoEngineException

from lazymig.odm.fields import FieldFacts, bson_type
from lazymig.odm.schema import untouched_collection
from lazymig.raw.values import is_array

__all__ = ["condition_of_doubt", "doubt_about"]

_NUMBERS: Final = frozenset({"int", "long", "double", "decimal"})
_INTEGERS: Final = frozenset({"int", "long"})

# Times of records that applications make. Older or later ones are rather seconds, microseconds or
# days that were taken for milliseconds.
_FIRST: Final = datetime(1980, 1, 1)
_LAST: Final = datetime(2100, 1, 1)
# A text names the year itself.
_YEARS: Final = range(1800, 2201)

# As many digits of a double come into a text.
_SIX_DIGITS: Final = 1_000_000

_EPOCH: Final = datetime(1970, 1, 1)

# What people write for yes and no.
_YES_OR_NO: Final = r"^\s*(1|on|t|true|y|yes|0|off|f|false|n|no)\s*$"
_LEADING_ZERO: Final = r"^\s*[+-]?0[0-9]"
# What rather separates several values, or is a list written down.
_SEVERAL: Final = re.compile(r"[,;|\n\[{]")


def condition_of_doubt(kind: str, to: str) -> Mapping[str, Any] | bool:
    """Which values of a type a conversion may misread, as a condition on them.

    :returns: a condition, `True` for all of them, `False` where it does not know of any.
    """
    found: Mapping[str, Any] | bool = False
    if to == "bool":
        found = True
        if kind in _NUMBERS:
            found = {"$nin": [0, 1]}
        elif kind == "string":
            found = {"$not": {"$regex": _YES_OR_NO, "$options": "i"}}
    elif to == "date" and kind in _NUMBERS:
        least, most = ((at - _EPOCH).total_seconds() * 1000 for at in (_FIRST, _LAST))
        found = {"$not": {"$gte": int(least), "$lt": int(most)}}
    elif to == "string" and kind == "double":
        found = {"$not": {"$gt": -_SIX_DIGITS, "$lt": _SIX_DIGITS}}
    elif to in _INTEGERS and kind == "string":
        found = {"$regex": _LEADING_ZERO}
    elif (to == "date" and kind == "objectId") or (to in _NUMBERS and kind == "date"):
        found = True
    return found


def doubt_about(before: Any, after: Any, facts: FieldFacts | None) -> str | None:
    """Why a new value may not be what the old one meant; `None` where there is no doubt.

    The words name no stored value: they become a comment in a source file.

    :param facts: of the field, where a field is meant.
    """
    kind, to = bson_type(before), bson_type(after)
    if is_array(after) and not is_array(before):
        return _of_list(before)
    if isinstance(before, DBRef):
        return _of_reference(before, facts)
    if kind == to or not kind or not to:
        return None
    if to == "date":
        return _of_date(before, after)
    if to == "bool":
        return _of_bool(before)
    if to in _NUMBERS:
        return _of_number(before, after)
    if to == "string" and kind in _NUMBERS:
        # MongoDB writes six digits of a double.
        same = "e" not in after.lower() and _as_decimal(before) == _as_decimal(after)
        return None if same else "the text does not hold all digits of the number"
    return None


def _of_list(before: Any) -> str | None:
    if isinstance(before, str):
        if not before.strip():
            return "an empty text becomes the one item of a list"
        if _SEVERAL.search(before):
            return "a text may be several items"
    if isinstance(before, Mapping):
        if not before:
            return "an empty document becomes the one item of a list"
        if all(str(name).isdecimal() for name in before):
            return "a document with numbers as names may be the list itself"
    return None


def _of_reference(before: DBRef, facts: FieldFacts | None) -> str | None:
    if facts is None or not facts.is_reference:
        return None
    try:
        there = untouched_collection(facts.source.document_type)
    except MongoEngineException:
        return "the class that is referred to is not known"
    if before.collection != there.name or before.database not in (None, there.database.name):
        return f"a DBRef refers to another collection than {there.full_name}"
    return None


def _of_date(before: Any, after: Any) -> str | None:
    if isinstance(before, ObjectId):
        return "the time at which an ObjectId was made becomes the date"
    kind = bson_type(before)
    if isinstance(after, DatetimeMS):
        return f"a {kind} becomes a date that Python cannot hold"
    after = after.replace(tzinfo=None)
    if kind == "string":
        plausible = after.year in _YEARS
    else:
        plausible = kind not in _NUMBERS or _FIRST <= after < _LAST
    return None if plausible else f"a {kind} becomes a date in the year {after.year}"


def _of_bool(before: Any) -> str | None:
    if isinstance(before, str):
        sure = re.match(_YES_OR_NO, before, re.IGNORECASE) is not None
    else:
        sure = bson_type(before) in _NUMBERS and _as_decimal(before) in (0, 1)
    return None if sure else f"a {bson_type(before)} that says neither yes nor no becomes a bool"


def _of_number(before: Any, after: Any) -> str | None:
    doubt = f"a {bson_type(before)} becomes a number that says something else"
    if isinstance(before, bool):
        return None
    if isinstance(before, str):
        if bson_type(after) in _INTEGERS and re.match(_LEADING_ZERO, before):
            return doubt
    elif bson_type(before) not in _NUMBERS:
        return doubt
    return None if _as_decimal(before) == _as_decimal(after) else doubt


def _as_decimal(value: Any) -> Decimal | None:
    if isinstance(value, Decimal128):
        value = value.to_decimal()
    try:
        # Of a float what it is written as: 0.1 is meant as a tenth.
        return Decimal(str(value).strip())
    except InvalidOperation:
        return None
