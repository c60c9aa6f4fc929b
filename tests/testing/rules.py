"""Rules that several modules of these tests apply."""

from __future__ import annotations

from typing import Any


def fail(self: Any) -> None:
    """A rule that raises for every document that it is applied to."""
    self.target = {"tags": {"$exists": False}}
    self.update = {"$set": {"tags": [str(self.doc["_id"])]}}
    if isinstance(self.doc["_id"], int):
        raise ValueError("broken")
