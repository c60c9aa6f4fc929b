"""Documents with strings that are not UTF-8, which PyMongo sends only if they are edited raw."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

Raw = dict[str, Any]

_NO_TEXTS = [
    *(b"\xff", b"\x80", b"\xc3", b"\xe2\x82", b"\xf0\x9f", b"\xed\xa0\x80", b"\xf8\x88\x80\x80"),
    *(b"\xc0\x80", b"a\x80", b"\x80a", b"\xc3a", b",\x80,", b" \x80 b", b"\xe2\x82,b", b"\xbf\xbf"),
]


def broken(documents: Iterable[Raw]) -> list[RawBSONDocument]:
    """Documents like these, with strings that are no text at each place."""
    return [
        RawBSONDocument(raw)
        for document in documents
        for bad in _NO_TEXTS
        for raw in _edited(document, bad)
    ]


def _edited(document: Raw, bad: bytes) -> Iterator[bytes]:
    # Where two marks of one length differ, and nothing else does.
    ways = zip(_changed(document, "~" * len(bad)), _changed(document, "|" * len(bad)), strict=True)
    for one, other in ways:
        raw, same = bson.encode(one), bson.encode(other)
        edited = bytearray(raw)
        places = [place for place, byte in enumerate(raw) if byte != same[place]]
        for place, byte in zip(places, bad, strict=True):
            edited[place] = byte
        yield bytes(edited)


def _changed(value: Any, mark: str) -> Iterator[Any]:
    """Like values, each with a mark at another place."""
    yield from (one for one in (mark, [mark], {"a": mark}) if not isinstance(value, dict))
    if isinstance(value, str):
        yield from (value + mark, mark + value, value[:1] + mark + value[1:])
    elif isinstance(value, list):
        for place, item in enumerate(value):
            for one in _changed(item, mark):
                yield [*value[:place], one, *value[place + 1 :]]
    elif isinstance(value, dict):
        yield {**value, mark: 1}
        for name, item in value.items():
            for one in _changed(item, mark):
                yield {**value, name: one}
