"""The guard of a large document: what it compares goes beside the update, where there is room.

A command has room for one document of the greatest size with its filter and its update together.
Its variables have as much room once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import bson

from lazymig.engines.access import Raw
from lazymig.engines.store import Store

__all__ = ["LARGE", "MOST", "bytes_of", "set_apart"]

# The bytes of a filter with its update from which on they are seen to, and of what there is room
# for: MongoDB has 16 KiB beside a document of the greatest size, which are not for this alone.
LARGE: Final = 15 << 20
MOST: Final = (16 << 20) + 16_000


def bytes_of(store: Store, query: Raw, update: Any, array_filters: Any) -> int:
    """The bytes of a filter with its update.

    :raises Exception: they cannot be encoded.
    """
    if store.is_imitation:
        return 0
    command = {"q": query, "u": update, "arrayFilters": array_filters or []}
    return len(bson.encode(command, codec_options=store.collection.codec_options))


def set_apart(guard: Sequence[Raw]) -> tuple[list[Raw], dict[str, Any]]:
    """The conditions of a guard with their values in variables, and these variables.

    :param guard: conditions as `ReadDocument.guard` gives them.
    """
    conditions: list[Raw] = []
    variables: dict[str, Any] = {}
    for condition in guard:
        ((name, compared),) = condition.items()
        if name == "$expr":
            reference, value = compared["$eq"]
        elif isinstance(compared, Mapping) and "$eq" in compared:
            reference, value = f"${name}", {"$literal": compared["$eq"]}
        else:
            conditions.append(condition)
            continue
        variable = f"read{len(variables)}"
        variables[variable] = value
        conditions.append({"$expr": {"$eq": [reference, f"$${variable}"]}})
    return conditions, variables
