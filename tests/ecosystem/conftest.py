"""The fixtures of the twins; a test file whose models need other bases has its own `bases`."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import MongoClient

from tests.ecosystem.twins import Bases, Twins


@pytest.fixture
def bases() -> Bases:
    """MongoEngine's own classes."""
    return Bases()


@pytest.fixture
def twins(client: MongoClient[dict[str, Any]], server_uri: str, bases: Bases) -> Twins:
    """The shop twice; see `tests/ecosystem/twins.py`."""
    return Twins(client, server_uri, bases)
