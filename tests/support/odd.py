"""Documents that MongoDB can hold and Python cannot."""

from __future__ import annotations

from typing import Any

import bson
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

# A date beyond the year 9999, and one before the year 1.
TOO_LATE = DatetimeMS(316_516_000_000_000)
TOO_EARLY = DatetimeMS(-99_999_999_999_999)


def with_broken_text(document: dict[str, Any], text: str = "broken") -> RawBSONDocument:
    """The document with text that is not UTF-8 in the place of this one, names included."""
    data = bson.encode(document)
    assert text.encode() in data
    return RawBSONDocument(data.replace(text.encode(), b"\xff" * len(text)))


def odd_value(kind: str, number: int) -> Any:
    """A document `{_id: number, "n": number, "odd": ...}` that PyMongo cannot decode."""
    plain: dict[str, Any] = {"_id": number, "n": number}
    values: dict[str, Any] = {
        "late": TOO_LATE,
        "early": TOO_EARLY,
        "nested": {"a": [{"b": TOO_LATE}]},
    }
    if kind == "text":
        return with_broken_text({**plain, "odd": "broken"})
    if kind == "name":
        return with_broken_text({**plain, "odd": {"broken": 1}})
    return {**plain, "odd": values[kind]}


KINDS = ("late", "early", "nested", "text", "name")
