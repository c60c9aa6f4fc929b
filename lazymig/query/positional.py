"""The positional operator `$`, which stands for the array element that a filter has found.

MongoDB takes it from an array condition of the filter that is not below an `$or`, so the filter has
to be sent as the user wrote it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["is_positional_projection", "is_positional_update"]


def is_positional_update(update: Any) -> bool:
    """Return whether an update names the array element that its filter has found.

    :param update: operators or a pipeline, which knows no positional operator.
    """
    if not isinstance(update, Mapping):
        return False
    return any(_names_element(fields) for fields in update.values() if isinstance(fields, Mapping))


def is_positional_projection(projection: Mapping[str, Any] | None) -> bool:
    """Return whether a projection names the array element that the filter has found."""
    return _names_element(projection or ())


def _names_element(paths: Iterable[str]) -> bool:
    return any("$" in path and "$" in path.split(".") for path in paths)
