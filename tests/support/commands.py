"""A log of the commands that a PyMongo client sends."""

from __future__ import annotations

from typing import Any

from pymongo import MongoClient, monitoring

_NOISE = frozenset({"hello", "ismaster", "isMaster", "endSessions"})


class CommandLog(monitoring.CommandListener):
    """The commands started since the last `clear()`, handshakes and goodbyes left out.

    `client` is a client of its own that carries the listener.
    """

    client: MongoClient[dict[str, Any]]

    def __init__(self) -> None:
        self.commands: list[tuple[str, dict[str, Any]]] = []

    @property
    def names(self) -> list[str]:
        """The names of the commands, in the order in which they were sent."""
        return [name for name, _ in self.commands]

    def clear(self) -> None:
        """Forget everything so far."""
        self.commands.clear()

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Keep one command; PyMongo calls this."""
        if event.command_name not in _NOISE:
            self.commands.append((event.command_name, dict(event.command)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Nothing to keep: the start was kept."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Nothing to keep: the start was kept."""
