"""Documents that MongoDB holds and Python cannot: made by PyMongo, or of raw BSON by elements."""

from __future__ import annotations

import random
import struct
from typing import Any

import bson
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument

from lazymig.raw.elements import scanned

Element = bytes

FAR = 253_402_300_800_000
BAD = b"caf\xe9"


def element(kind: int, name: bytes, value: bytes) -> Element:
    """An element of a document."""
    return bytes([kind]) + name + b"\x00" + value


def document(*elements: Element) -> bytes:
    """A document of elements."""
    inside = b"".join(elements)
    return struct.pack("<i", len(inside) + 5) + inside + b"\x00"


def text(content: bytes) -> bytes:
    """The value of a string, of whatever bytes."""
    return struct.pack("<i", len(content) + 1) + content + b"\x00"


def date(milliseconds: int) -> bytes:
    """The value of a date, however far away."""
    return struct.pack("<q", milliseconds)


def whole(number: int) -> bytes:
    """The value of a whole number."""
    return struct.pack("<i", number)


# What a codec refuses or would alter, each by its own.
FIELDS: dict[str, bytes] = {
    "late date": element(9, b"d1", date(FAR)),
    "last date": element(9, b"d2", date(2**63 - 1)),
    "first date": element(9, b"d3", date(-(2**63))),
    "string": element(2, b"s1", text(BAD)),
    "surrogate": element(2, b"s2", text(b"\xed\xa0\x80")),
    "name": element(2, b"\xff", text(b"x")),
    "twice": element(16, b"t", whole(1)) + element(2, b"t", text(b"2")),
    "inner": element(3, b"sub", document(element(2, b"s", text(BAD)), element(9, b"d", date(FAR)))),
    "inner twice": element(
        3, b"sub2", document(element(16, b"t", whole(1)), element(16, b"t", whole(2)))
    ),
    "list": element(4, b"list", document(element(2, b"0", text(BAD)), element(9, b"1", date(FAR)))),
    "list with gaps": element(
        4, b"gaps", document(element(16, b"7", whole(1)), element(16, b"7", whole(2)))
    ),
    "symbol": element(14, b"sym", text(BAD)),
    "undefined": element(6, b"undef", b""),
    "pointer": element(12, b"ptr", text(b"db.c") + bytes(12)),
    "regex": element(11, b"re", BAD + b"\x00i\x00"),
    "code": element(13, b"js", text(BAD)),
    "uuid of four bytes": element(5, b"u", struct.pack("<i", 4) + b"\x04abcd"),
    "not a number": element(1, b"nan", bytes.fromhex("010000000000f87f")),
}

# What MongoDB would alter or refuse in an insert.
STRANGE: dict[str, bytes] = {
    "dollar": element(2, b"$odd", text(BAD)),
    "no time": element(17, b"time", bytes(8)),
}


def ids(number: int) -> dict[str, bytes]:
    """Elements `_id`, one of each kind."""
    digits = b"%06d" % number
    inner = document(element(2, b"s", text(BAD + digits)), element(9, b"d", date(FAR + number)))
    twice = document(element(16, b"t", whole(1)), element(16, b"t", whole(number)))
    return {
        "number": element(16, b"_id", whole(number)),
        "date": element(9, b"_id", date(FAR + number)),
        "string": element(2, b"_id", text(BAD + digits)),
        "object": element(3, b"_id", inner),
        "object twice": element(3, b"_id", twice),
        "binary": element(5, b"_id", struct.pack("<i", 6) + b"\x04" + digits),
    }


def documents(count: int, seed: int = 1, *, strange: bool = False) -> list[bytes]:
    """Odd documents, each with an `_id` of its own, in turn of each kind.

    :param strange: also with what an insert would alter or refuse.
    """
    draw = random.Random(seed)
    pool = list({**FIELDS, **(STRANGE if strange else {})}.values())
    made = []
    for number in range(count):
        kinds = list(ids(number).values())
        fields = draw.sample(pool, draw.randrange(1, len(pool) // 2))
        made.append(document(kinds[number % len(kinds)], *fields))
    return made


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


def stored(collection: Any) -> dict[bytes, bytes]:
    """The documents of a collection by their `_id`s, byte for byte."""
    return dict(pair for batch in collection.find_raw_batches({}) for pair in scanned(batch))
