"""Whether BSON can encode a value, and a stand-in for values that are not known yet."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions

__all__ = ["ANY_UUID", "ANY_VALUE", "AnyValue", "encoded"]


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


def encoded(value: Any) -> Hashable:
    """Return what only values have in common that BSON encodes alike, in every representation.

    :raises BSONError, ValueError, TypeError, OverflowError, RecursionError: BSON cannot encode it.
    """
    try:
        return bson.encode({"": value})
    except ValueError:
        # A UUID is refused by default. It equals no `Binary`, as far as is known here.
        return "with a UUID", bson.encode({"": value}, codec_options=ANY_UUID)
