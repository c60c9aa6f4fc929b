"""Sessions that are bound to a block, which PyMongo does from 4.17 on, and open transactions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database

__all__ = ["BINDS", "held", "needs_bound_sessions"]

BINDS: Final = hasattr(ClientSession, "bind")

needs_bound_sessions = pytest.mark.skipif(not BINDS, reason="PyMongo before 4.17 binds no session")


@contextmanager
def held(client: MongoClient[Any], database: Database[Any], key: Any) -> Iterator[None]:
    """An open transaction that has changed a post, taken back in the end."""
    with client.start_session() as session:
        session.start_transaction()
        posts = client[database.name]["post"]
        posts.update_one({"_id": key}, {"$set": {"held": 1}}, session=session)
        yield
        assert session.in_transaction
        session.abort_transaction()
