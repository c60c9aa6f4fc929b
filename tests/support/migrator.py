"""Other processes that write in between two commands of a load."""

from __future__ import annotations

from typing import Any

from pymongo import monitoring


class Migrator(monitoring.CommandListener):
    """Brings the documents up to date, as a run in another process does, before the n-th find.

    :param before: `None` for a writer who comes before every one.
    """

    def __init__(self, collection: Any, update: Any, before: int | None) -> None:
        self.collection, self.update, self.before, self.finds = collection, update, before, 0

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Count, and write if it is this command's turn."""
        if event.command_name == "find":
            self.finds += 1
            if self.before in (None, self.finds):
                self.collection.update_many({}, self.update)

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to do."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to do."""
