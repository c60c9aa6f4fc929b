"""Clients that outlive a test: to open one takes longer than most tests do."""

from __future__ import annotations

import os
from typing import Any

from pymongo import MongoClient

__all__ = ["kept_client"]


class _KeptClient(MongoClient[Any]):
    """A client that MongoEngine's `disconnect()` does not close; the process does, as it ends."""

    def close(self) -> None:
        """Stay open for the next test."""


# A forked process shares no connection with its parent.
_kept: list[tuple[int, dict[str, Any], _KeptClient]] = []


def kept_client(**settings: Any) -> MongoClient[Any]:
    """The client of these settings; pass it to MongoEngine as its `mongo_client_class`."""
    for process, those, client in _kept:
        if process == os.getpid() and those == settings:
            return client
    client = _KeptClient(**settings)
    _kept.append((os.getpid(), settings, client))
    return client
