"""Memories of limited size that threads share without a lock."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar

__all__ = ["remember"]

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def remember(known: dict[_Key, _Value], key: _Key, value: _Value, most: int) -> _Value:
    """Keep a value, and return it: another thread may forget it at once.

    Read by `known.get(key)`, for the same reason.

    :param most: where there are so many, all are forgotten: what is asked again is soon there.
    """
    if len(known) >= most:
        known.clear()
    known[key] = value
    return value
