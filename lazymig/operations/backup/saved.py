"""The documents that an attempt at a chunk has saved, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import Raw
from lazymig.operations.backup.files import (
    DIGEST_SIZE,
    MISSING,
    by_elements,
    digest,
    raw_batches,
)
from lazymig.operations.backup.records import ABORTED, COMMITTED, OPEN, ChunkAttempt
from lazymig.raw.elements import condition, scan, scanned

__all__ = ["Saved", "fate_of"]

# `_id`s in one query; the command stays far below the 16 MiB that the server takes.
_MOST_IDS = 10_000

# By what the elements `_id` of one type are ordered, for the types whose order is simple.
_ORDERS: dict[int, Callable[[bytes], Any] | None] = {
    2: lambda element: element[9:],
    7: None,
    16: lambda element: int.from_bytes(element[5:], "little", signed=True),
    18: lambda element: int.from_bytes(element[5:], "little", signed=True),
}


class Saved:
    """The `_id`s of the documents saved, each with the position of its pre-image.

    `sparse`: between the documents of a rule are so many others that no range of `_id`s is read.

    :param pool: a thread that fetches the next batch.
    """

    def __init__(self, collection: Collection[Any], pool: ThreadPoolExecutor) -> None:
        self._collection = collection
        self._pool = pool
        self._positions: dict[bytes, int] = {}
        self.sparse = False

    def __len__(self) -> int:
        return len(self._positions)

    def clear(self) -> None:
        """Forget all."""
        self._positions = {}

    def add(self, batch: bytes) -> bytes:
        """Give those documents of a batch a position that have none yet; return them."""
        elements, starts, ends = scan(batch)
        known = len(self._positions)
        if self._positions.keys().isdisjoint(elements):
            positions = range(known, known + len(elements))
            self._positions.update(zip(elements, positions, strict=True))
            if len(self._positions) == known + len(elements):
                return batch
            # The batch holds a document twice; its position is to be the one where it is written.
            self.drop(known)
        pieces = []
        for element, start, end in zip(elements, starts, ends, strict=True):
            if element not in self._positions:
                self._positions[element] = len(self._positions)
                pieces.append(batch[start:end])
        return b"".join(pieces)

    def drop(self, known: int) -> None:
        """Forget all but the first so many documents."""
        for _ in range(known, len(self._positions)):
            self._positions.popitem()

    def left(self, session: Any) -> bytes:
        """The digests of the documents saved, as they are now, by their positions."""
        left = [MISSING] * len(self._positions)
        found = 0
        if not self.sparse and (bounds := self._bounds()) is not None:
            found, others = self._fill(left, raw_batches(self._collection, bounds, session))
            self.sparse = others > len(left)
        if found < len(left):
            missing = [
                element
                for element, position in self._positions.items()
                if left[position] is MISSING
            ]
            for first in range(0, len(missing), _MOST_IDS):
                query = by_elements(missing[first : first + _MOST_IDS])
                self._fill(left, raw_batches(self._collection, query, session))
        return b"".join(left)

    def _bounds(self) -> Raw | None:
        """The range of the `_id`s saved, where one query has it: quicker than a long `$in`."""
        kinds = {element[0] for element in self._positions}
        if len(kinds) != 1 or not kinds <= _ORDERS.keys():
            return None
        order = _ORDERS[kinds.pop()]
        first, last = min(self._positions, key=order), max(self._positions, key=order)
        return {"$and": [{"_id": condition("$gte", first)}, {"_id": condition("$lte", last)}]}

    def _fill(self, left: list[bytes], cursor: Any) -> tuple[int, int]:
        """Fill in the digests of what a cursor gives, unless it gives too many other documents.

        Gives the number of documents filled in, and that of the other ones.
        """
        position_of = self._positions.get
        found = others = 0
        for batch in self._ahead(cursor):
            elements, starts, ends = scan(batch)
            for element, start, end in zip(elements, starts, ends, strict=True):
                position = position_of(element)
                if position is None:
                    others += 1
                else:
                    left[position] = digest(batch[start:end])
                    found += 1
            if others > len(left):
                break
        return found, others

    def _ahead(self, cursor: Any) -> Iterator[bytes]:
        """The batches of a cursor, each fetched while the one before is worked on."""
        coming: Future[bytes | None] | None = None
        try:
            batch = next(cursor, None)
            while batch is not None:
                if cursor.alive:
                    coming = self._pool.submit(partial(copy_context().run, next, cursor, None))
                    yield batch
                    batch = coming.result()
                else:
                    yield batch
                    batch = None
        finally:
            if coming is not None:
                coming.exception()
            cursor.close()


def fate_of(attempt: ChunkAttempt, batches: Iterable[bytes], collection: Collection[Any]) -> int:
    """Decide by what is stored whether the last attempt of a killed run was committed.

    :param batches: its pre-images.
    :returns: `COMMITTED`, `ABORTED`, or `OPEN` where that cannot be decided.
    """
    assert attempt.left is not None
    mark = OPEN
    position = 0
    for batch in batches:
        states: dict[bytes, tuple[bytes, bytes]] = {}
        for element, document in scanned(batch):
            left = attempt.left[position : position + DIGEST_SIZE]
            states[element] = digest(document), left
            position += DIGEST_SIZE
        query = by_elements(list(states))
        for found in raw_batches(collection, query, None):
            for element, document in scanned(found):
                before, left = states.get(element, (MISSING, MISSING))
                now = digest(document)
                if now == left != before:
                    return COMMITTED
                if now == before != left:
                    mark = ABORTED
    return mark
