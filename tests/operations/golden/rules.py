"""The rules by which the golden files were written. Their text must stay: it has a digest there."""

from __future__ import annotations

from typing import Any

from lazymig import DocumentMigration


class GoldenMigration(DocumentMigration):
    """A rule of each kind whose progress a journal has to know."""

    def migration01__turn(self) -> None:
        """Lazy, and static."""
        self.target = {"v": 1}
        self.update = {"$set": {"v": 2}}

    def allmigration01__copy(self) -> None:
        """Bulk; it reads the document, and fails where there is no number."""
        self.target = {"n": {"$exists": True}, "m": {"$exists": False}}
        self.update = {"$set": {"m": int(self.doc["n"]) + 1}}

    def allmigration02__count(self) -> None:
        """Bulk; its target does not show where it was applied."""
        self.target = {}
        self.update = {"$inc": {"w": 1}}


def documents(count: int = 30) -> list[dict[str, Any]]:
    """Documents of the old shape."""
    return [{"_id": number, "v": 1, "n": number, "w": 0} for number in range(count)]
