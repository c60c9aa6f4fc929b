"""Sessions that are bound to a block, which PyMongo does from 4.17 on."""

from __future__ import annotations

from typing import Final

import pytest
from pymongo.client_session import ClientSession

__all__ = ["BINDS", "needs_bound_sessions"]

BINDS: Final = hasattr(ClientSession, "bind")

needs_bound_sessions = pytest.mark.skipif(not BINDS, reason="PyMongo before 4.17 binds no session")
