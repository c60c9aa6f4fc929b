"""The memory of a process: effects whose update could not be written, and effects under way."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lazymig.locks import new_lock
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.rule import Evaluation

__all__ = ["Place", "UnwrittenEffect", "at_work_on", "is_at_work_on", "unwritten"]

Place: TypeAlias = "tuple[int, str, Any]"
"""A document, the same in every thread of this process: client, collection, key of the `_id`."""

# Effects without a stored update that this process remembers.
_MOST: Final = 10_000

# The documents at whose effects this thread, or task, is at work.
_at_work: ContextVar[frozenset[Place]] = ContextVar("lazymig_at_work", default=frozenset())


@dataclass(frozen=True, slots=True)
class UnwrittenEffect:
    """An effect that has happened, and the update that goes with it; `owner` may hold the claim."""

    evaluation: Evaluation
    owner: str


class Memory:
    """The effects of this process whose update could not be written: none of them is repeated."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._entries: OrderedDict[tuple[Place, str], UnwrittenEffect] = OrderedDict()

    def get(self, place: Place, rule: BoundRule) -> UnwrittenEffect | None:
        """What is remembered of a rule's effect for a document."""
        return self._entries.get((place, rule.name))

    def keep(self, place: Place, rule: BoundRule, effect: UnwrittenEffect) -> None:
        """Remember an effect; the oldest ones are forgotten where there are too many."""
        with self._lock:
            self._entries[place, rule.name] = effect
            if len(self._entries) > _MOST:
                self._entries.popitem(last=False)

    def forget(self, place: Place, rule: BoundRule) -> None:
        """Forget an effect, whose update is written or not needed any more."""
        with self._lock:
            self._entries.pop((place, rule.name), None)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)


unwritten: Final = Memory()


def is_at_work_on(place: Place) -> bool:
    """Return whether the effect for this document is what asks."""
    return place in _at_work.get()


@contextmanager
def at_work_on(place: Place) -> Iterator[None]:
    """The time in which the effect for a document is under way."""
    token = _at_work.set(_at_work.get() | {place})
    try:
        yield
    finally:
        _at_work.reset(token)
