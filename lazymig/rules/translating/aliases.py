"""The names of containers: one that has two is not changed under one of them."""

from __future__ import annotations

from collections.abc import Iterable

from lazymig.rules.translating.symbols import Record, Row, Symbol

__all__ = ["Aliases"]


class Aliases:
    """Which containers may have another name, and from which something may have one.

    `reads` counts how often a container of the document was asked for, by its field; `changed` are
    the fields whose containers the rule has changed in their place.
    """

    def __init__(self) -> None:
        # The symbols are kept, so that no other has their id.
        self._escaped: dict[int, Symbol] = {}
        self._looked_into: dict[int, Symbol] = {}
        self.reads: dict[str, int] = {}
        self.changed: set[str] = set()

    def escape(self, symbol: Symbol) -> None:
        """Note that a container may have another name from here on."""
        self._escaped[id(symbol)] = symbol

    def look_into(self, symbol: Symbol) -> None:
        """Note that something in a container may have a name from here on."""
        self._looked_into[id(symbol)] = symbol

    def share(self, container: Symbol) -> None:
        """Note that what a container holds is in another one, too."""
        held: Iterable[Symbol] = ()
        if isinstance(container, Row):
            held = container.items
        elif isinstance(container, Record):
            held = container.items.values()
        for symbol in held:
            self.escape(symbol)

    def has_escaped(self, symbol: Symbol) -> bool:
        """Return whether a container may have another name."""
        return id(symbol) in self._escaped

    def has_been_used(self, symbol: Symbol) -> bool:
        """Return whether a container, or anything in it, may have another name."""
        return self.has_escaped(symbol) or id(symbol) in self._looked_into

    def read(self, name: str) -> None:
        """Note that a field of the document was asked for, with its container."""
        self.reads[name] = self.reads.get(name, 0) + 1
