"""Leases of runners that are dead, which are over without anybody having to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from lazymig import CollectionLocked
from lazymig.operations.journal.collection import client_now, lease_collection

__all__ = ["once_expired"]


def once_expired(database: Database[Any], work: Callable[[], Any]) -> Any:
    """Do something that the lease of the items prevents; then end the lease, and do it."""
    with pytest.raises(CollectionLocked):
        work()
    lease_collection(database).update_one(
        {"_id": "lease:item"}, {"$set": {"expires": client_now() - timedelta(days=1)}}
    )
    return work()
