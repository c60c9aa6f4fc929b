"""The encoding of values as BSON, and a stand-in for values that are not known yet."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Final
from uuid import UUID

import bson
from bson import DBRef
from bson.codec_options import CodecOptions
from bson.errors import BSONError

__all__ = [
    "ANY_UUID",
    "ANY_VALUE",
    "UNSTORABLE",
    "AnyValue",
    "as_read_back",
    "encoded",
    "stored_bytes",
]


class AnyValue:
    """The type of `ANY_VALUE`, its only instance."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ANY_VALUE"

    def __copy__(self) -> AnyValue:
        return self

    def __deepcopy__(self, memo: object) -> AnyValue:
        return self


ANY_VALUE: Final = AnyValue()
"""Some BSON value, not known before the rule runs; may stand in an update wherever a value may."""


ANY_UUID: Final = CodecOptions[dict[str, Any]](uuid_representation=4)
"""To find out whether BSON can encode a value: the representation of UUIDs is the client's."""


UNSTORABLE: Final = (BSONError, ValueError, OverflowError, TypeError, RecursionError)
"""What is raised for values that BSON cannot encode."""


def stored_bytes(value: Any) -> bytes:
    """Return what is stored of a value, under an empty name; equal for what is stored alike.

    :raises: an error of `UNSTORABLE`.
    """
    return bson.encode({"": value}, codec_options=ANY_UUID)


def encoded(value: Any) -> Hashable:
    """Return what only values have in common that BSON encodes alike, in every representation.

    :raises BSONError, ValueError, TypeError, OverflowError, RecursionError: BSON cannot encode it.
    """
    try:
        return bson.encode({"": value})
    except ValueError:
        # A UUID is refused by default. It equals no `Binary`, as far as is known here.
        return "with a UUID", stored_bytes(value)


def as_read_back(value: Any) -> Any:
    """Return a value as it is read back after it was stored; what is not known is ANY_VALUE."""
    if value is ANY_VALUE or isinstance(value, UUID):
        return value  # how a UUID is stored, the client decides: as binary data in any case
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return {key: as_read_back(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_read_back(item) for item in value]
    return bson.decode(bson.encode({"v": value}, codec_options=ANY_UUID))["v"]
