"""Raw BSON: documents that only pass through, their elements, and conditions on a stored value.

No codec is met but where a value gets a name. So a date beyond Python's, a string that is not UTF-8
or a key that comes twice is no obstacle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bson import Binary, ObjectId, decode, encode
from bson.binary import UuidRepresentation
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions, DatetimeConversion
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

__all__ = [
    "RawDocument",
    "StoredValue",
    "condition",
    "element_at",
    "element_of",
    "faithful",
    "fields_of",
    "id_element",
    "in_condition",
    "is_odd",
    "known_again",
    "scan",
    "scanned",
    "size_at",
    "tolerant_options",
    "tolerantly_decoded",
    "value_of",
    "with_any_date",
    "without_fields",
]

size_at = struct.Struct("<i").unpack_from
_OBJECT_ID = b"\x07_id\x00"

# The length of a BSON value by its type; of those with a length in front, what comes on top of it.
_FIXED = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
_PREFIXED = {2: 4, 3: 0, 4: 0, 5: 5, 12: 16, 13: 4, 14: 4, 15: 0}
_REGEX = 11
_TIMESTAMP = 17
_DOCUMENT = 3
_NO_TIME = bytes(8)
_DOLLAR = ord("$")
_ID_KIND = 7

# How a `StoredValue` is noted: the first of the types of binary data that are free for users.
_STORED_SUBTYPE = 128
_STORED = b"lazymig: "


class RawDocument(RawBSONDocument):
    """A document that is sent as it is: PyMongo decodes any other one to learn if it is empty."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return True


def _elements(batch: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Where each element of the document at `start` begins, its value begins, and it ends."""
    at, end = start + 4, start + int(size_at(batch, start)[0]) - 1
    while at < end:
        value = batch.index(0, at + 1) + 1
        following = value + _length_of_value(batch, batch[at], value)
        yield at, value, following
        at = following


def _length_of_value(batch: bytes, kind: int, at: int) -> int:
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _PREFIXED:
        return int(size_at(batch, at)[0]) + _PREFIXED[kind]
    if kind == _REGEX:
        options = batch.index(0, at) + 1
        return batch.index(0, options) + 1 - at
    raise ValueError(f"BSON type {kind} is not known")


def id_element(batch: bytes, start: int = 0) -> bytes:
    """The element `_id` (type, name, value) of the document that begins at `start`.

    :raises ValueError: the document has none.
    """
    found = _element(batch, start, b"_id")
    if found is None:
        raise ValueError("a document has no _id")
    return found


def element_at(document: bytes, path: str) -> bytes | None:
    """The element at a dotted path through sub-documents; `None` where there is none.

    Of a key that comes twice it is the first, as MongoDB takes it.
    """
    first, _, rest = path.partition(".")
    found = _element(document, 0, first.encode())
    if found is None or not rest:
        return found
    return element_at(_value(found), rest) if found[0] == _DOCUMENT else None


def _element(batch: bytes, start: int, name: bytes) -> bytes | None:
    for at, value, following in _elements(batch, start):
        if batch[at + 1 : value - 1] == name:
            return batch[at:following]
    return None


def _value(element: bytes) -> bytes:
    return element[element.index(0, 1) + 1 :]


def fields_of(document: bytes) -> Iterator[tuple[str, bytes]]:
    """The elements of a document by their names, each as a document of its own."""
    for at, value, following in _elements(document, 0):
        name = document[at + 1 : value - 1].decode("utf-8", "backslashreplace")
        yield name, bytes(_document(document[at:following]).raw)


def without_fields(document: bytes, prefix: str) -> bytes:
    """The document without the fields whose names begin so."""
    begins = prefix.encode()
    kept = [
        document[at:following]
        for at, _value_at, following in _elements(document, 0)
        if not document.startswith(begins, at + 1)
    ]
    return bytes(_document(b"".join(kept)).raw)


def is_odd(document: bytes) -> bool:
    """Return whether MongoDB would alter the document if it were inserted, or a replacement.

    It takes the present time for a `Timestamp(0, 0)`, and may refuse a name that begins with `$`;
    both only at the top level.
    """
    if b"$" not in document and _NO_TIME not in document:
        return False
    return any(
        document[at + 1] == _DOLLAR
        or (document[at] == _TIMESTAMP and document[value:following] == _NO_TIME)
        for at, value, following in _elements(document, 0)
    )


def scan(batch: bytes) -> tuple[list[bytes], list[int], list[int]]:
    """Of each document of a batch the element `_id`, where it begins and where it ends.

    This runs for every document of a collection, twice.
    """
    elements: list[bytes] = []
    bounds = [0]
    at, end = 0, len(batch)
    while at < end:
        if batch[at + 4 : at + 9] == _OBJECT_ID:
            elements.append(batch[at + 4 : at + 21])
        else:
            elements.append(id_element(batch, at))
        at += size_at(batch, at)[0]
        bounds.append(at)
    return elements, bounds[:-1], bounds[1:]


def scanned(batch: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each document of a batch, with its element `_id`."""
    for element, start, end in zip(*scan(batch), strict=True):
        yield element, batch[start:end]


# Conditions


def condition(operator: str, element: bytes) -> RawDocument:
    """The condition `{operator: value}` with the value of an element as it is stored."""
    return _document(_named(operator, element))


def in_condition(elements: Sequence[bytes], operator: str = "$in") -> RawDocument:
    """The condition `{"$in": [...]}` with the values of elements as they are stored."""
    array = b"".join(_named(str(index), element) for index, element in enumerate(elements))
    return _document(b"\x04" + operator.encode() + b"\x00" + _document(array).raw)


def _named(name: str, element: bytes) -> bytes:
    return element[:1] + name.encode() + b"\x00" + _value(element)


def _document(elements: bytes) -> RawDocument:
    return RawDocument(struct.pack("<i", len(elements) + 5) + elements + b"\x00")


# Values


class StoredValue(Binary):
    """A value that Python cannot hold as it is stored: its element, to make conditions of.

    BSON has it as binary data of a type and a beginning of its own, so that it can be noted; what
    is read back is made one of these again by `known_again`.
    """

    @classmethod
    def of(cls, element: bytes) -> StoredValue:
        """The value of an element."""
        noted: StoredValue = cls(_STORED + _named("", element), _STORED_SUBTYPE)
        return noted

    @property
    def element(self) -> bytes:
        """An element with this value; its name is empty."""
        return bytes(self[len(_STORED) :])

    @property
    def named(self) -> Any:
        """The value as far as Python can say it."""
        return value_of(self.element, DEFAULT_CODEC_OPTIONS)

    def __repr__(self) -> str:
        return repr(self.named)


class KeptDocument(dict[str, Any]):
    """A decoded document that keeps its bytes: Python cannot hold every value as it is stored."""

    __slots__ = ("data",)

    def __init__(self, document: Mapping[str, Any], data: bytes) -> None:
        super().__init__(document)
        self.data = data

    def literal(self, name: str | None = None) -> RawDocument:
        """The expression for a field as it is stored; for the whole document without a name."""
        element = b"\x03\x00" + self.data
        if name is not None:
            element = _element(self.data, 0, name.encode()) or element
        return _document(_named("$literal", element))


def known_again(value: Any) -> Any:
    """A value that was noted in BSON, as it was before."""
    if isinstance(value, Binary) and value.subtype == _STORED_SUBTYPE and value.startswith(_STORED):
        return StoredValue(value, value.subtype)
    return value


def faithful(element: bytes, options: CodecOptions[Any]) -> Any:
    """The value of an element as Python knows it, if it would be stored as the same bytes again.

    Any other one is a `StoredValue`.
    """
    if element[0] == _ID_KIND:
        return ObjectId(_value(element))
    with suppress(Exception):
        document = _document(_named("v", element)).raw
        value = decode(document, codec_options=with_any_date(options))["v"]
        if encode({"v": value}, codec_options=options) == document:
            return value
    return StoredValue.of(element)


def with_any_date(options: CodecOptions[Any]) -> CodecOptions[Any]:
    """The options for `_id`s: one that Python has no date for still names its document."""
    return options.with_options(datetime_conversion=DatetimeConversion.DATETIME_AUTO)


def element_of(value: Any, options: CodecOptions[Any]) -> bytes:
    """An element with a value that `faithful` has given."""
    if isinstance(value, StoredValue):
        return value.element
    return encode({"v": value}, codec_options=options)[4:-1]


def value_of(element: bytes, options: CodecOptions[Any]) -> Any:
    """The value of an element as Python knows it.

    A value that the options cannot decode is named all the same: a date beyond Python's is a
    `DatetimeMS`, a byte that is no UTF-8 is escaped, and of anything else the bytes are given.
    """
    document = _document(_named("v", element)).raw
    # A decoder of the application may raise anything.
    with suppress(Exception):
        return decode(document, codec_options=options)["v"]
    with suppress(BSONError, ValueError):
        return tolerantly_decoded(bytes(document), options)["v"]
    return Binary(_value(element))


def tolerantly_decoded(document: bytes, options: CodecOptions[Any]) -> dict[str, Any]:
    """A document in the types of the `bson` package alone, whatever dates and texts it holds.

    :raises bson.errors.BSONError: it cannot be decoded for another reason.
    """
    lenient = tolerant_options(options)
    try:
        return decode(document, codec_options=lenient)
    except (BSONError, ValueError):
        # What is marked as a UUID need not be one.
        as_bytes = lenient.with_options(uuid_representation=UuidRepresentation.UNSPECIFIED)
        return decode(document, codec_options=as_bytes)


def tolerant_options(options: CodecOptions[Any]) -> CodecOptions[Any]:
    """The options for the types of the `bson` package alone, which no date or text can fail."""
    return CodecOptions(
        uuid_representation=options.uuid_representation,
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
        unicode_decode_error_handler="backslashreplace",
    )
