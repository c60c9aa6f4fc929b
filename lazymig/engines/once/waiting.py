"""The wait for documents that others have claimed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from typing import Any, Final

from lazymig.engines.access import Raw
from lazymig.engines.deadline import Deadline
from lazymig.engines.once.claim import Held, look, options_of
from lazymig.engines.store import Store
from lazymig.errors import MigrationInProgress
from lazymig.rules.bound_rule import BoundRule

__all__ = ["wait_for"]

# Seconds between two looks at a document that somebody else is at work on.
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5


def wait_for(
    store: Store,
    held: Mapping[Any, Held],
    deadline: Deadline | None,
    take_up: Callable[[dict[Any, Held]], Mapping[Any, Held]],
) -> dict[Any, MigrationInProgress]:
    """Wait for documents that others hold, up to their rules' `wait`.

    :param held: by the key of the `_id`.
    :param deadline: `None` for no earlier end.
    :param take_up: called with documents that are free, or whose rule concerns them no more; says
        which of them are held again.
    :return: an error for each document that is held still.
    :raises pymongo.errors.PyMongoError: as `migrate_claimed`.
    """
    until = time.monotonic() + max(options_of(each.rule).wait for each in held.values())
    if deadline is not None and deadline.left is not None:
        until = min(until, time.monotonic() + deadline.left)
    pauses = _pauses()
    now: Mapping[Any, Held] = held
    waiting = dict(held)
    while True:
        free = {key: each for key, each in waiting.items() if key not in now or not now[key].live}
        waiting = {key: now[key] for key in waiting if key not in free}
        if free:
            waiting.update(take_up(free))
        left = until - time.monotonic()
        if not waiting or left <= 0:
            return {key: each.error() for key, each in waiting.items()}
        time.sleep(min(next(pauses), left))
        # A look waits for nobody, and is what the error is made of.
        most = max(left, _LONGEST_PAUSE)
        limit = nullcontext() if deadline is None else Deadline.of(store.collection, most).within()
        with limit:
            now = _look_at_all(store, waiting.values())


def _look_at_all(store: Store, held: Iterable[Held]) -> dict[Any, Held]:
    by_rule: dict[BoundRule, list[Raw]] = {}
    for each in held:
        by_rule.setdefault(each.rule, []).append(each.document)
    found: dict[Any, Held] = {}
    for rule, documents in by_rule.items():
        found |= look(store, rule, documents)
    return found


def _pauses() -> Iterator[float]:
    """Pauses that grow, shortened by chance, so that those who wait do not come all at once."""
    pause = _FIRST_PAUSE
    while True:
        yield pause * (0.5 + secrets.randbelow(501) / 1000)
        pause = min(pause * 2, _LONGEST_PAUSE)
