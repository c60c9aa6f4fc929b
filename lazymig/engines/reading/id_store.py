"""The `_id`s of a long iteration, out of the way of its memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import bson

__all__ = ["IdStore"]

# The `_id`s of the log that are encoded together.
_BATCH: Final = 100

# The bytes of the log that are kept in memory; beyond that it goes to the database.
_IN_MEMORY: Final = 1 << 20

_TABLES: Final = """
    PRAGMA journal_mode = MEMORY;
    CREATE TABLE noted (batch BLOB);
    CREATE TABLE known (key BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE queue (position INTEGER PRIMARY KEY, key BLOB);
"""


class IdStore:
    """A log of `_id`s; once `recall()` was called, a set of them and a queue.

    The log is cheap to write and keeps little in memory. The set and the queue, like a long log,
    are in a private database of SQLite, which puts on disk what is much and removes it at the end.

    :param codec_options: those of the collection, for whatever its `_id`s are decoded to.
    """

    def __init__(self, codec_options: Any) -> None:
        self._codec_options = codec_options
        self._latest: list[Any] = []
        self._batches: list[bytes] = []
        self._size = 0
        self._database: sqlite3.Connection | None = None
        self.known = 0

    def close(self) -> None:
        """Remove everything."""
        database, self._database = self._database, None
        self._latest.clear()
        self._batches.clear()
        if database is not None:
            database.close()

    def __del__(self) -> None:
        self.close()

    def note(self, document_ids: Iterable[Any]) -> None:
        """Add to the log."""
        self._latest.extend(document_ids)
        if len(self._latest) >= _BATCH:
            batch = bson.encode({"ids": self._latest}, codec_options=self._codec_options)
            self._latest.clear()
            self._batches.append(batch)
            self._size += len(batch)
            if self._size > _IN_MEMORY:
                self._put_aside()

    def _put_aside(self) -> None:
        rows = [(batch,) for batch in self._batches]
        self._opened().executemany("INSERT INTO noted VALUES (?)", rows)
        self._batches.clear()
        self._size = 0

    def recall(self) -> None:
        """Put what the log holds into the set."""
        with self.attempt():
            for (batch,) in self._opened().execute("SELECT batch FROM noted"):
                self._add_batch(batch)
            for batch in self._batches:
                self._add_batch(batch)
            for document_id in self._latest:
                self.add(document_id)
            self._opened().execute("DELETE FROM noted")
        self._batches.clear()
        self._latest.clear()

    def _add_batch(self, batch: bytes) -> None:
        for document_id in bson.decode(batch, codec_options=self._codec_options)["ids"]:
            self.add(document_id)

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """All or nothing of what is added and queued in the block, if it raises."""
        database, known = self._opened(), self.known
        database.execute("BEGIN")
        try:
            yield
        except BaseException:
            database.execute("ROLLBACK")
            self.known = known
            raise
        database.execute("COMMIT")

    def add(self, document_id: Any) -> bool:
        """Add to the set; return whether it is new there."""
        added = self._opened().execute(
            "INSERT OR IGNORE INTO known VALUES (?)", (self.key_of(document_id),)
        )
        self.known += added.rowcount
        return added.rowcount == 1

    def queue(self, document_id: Any) -> None:
        """Append to the queue."""
        self._opened().execute("INSERT INTO queue (key) VALUES (?)", (self.key_of(document_id),))

    def head(self, count: int) -> tuple[int, list[Any]]:
        """The first `_id`s of the queue, and how far `drop` has to go to take them out of it."""
        query = "SELECT position, key FROM queue ORDER BY position LIMIT ?"
        rows = self._opened().execute(query, (count,)).fetchall()
        document_ids = [
            bson.decode(key, codec_options=self._codec_options)["_id"] for _position, key in rows
        ]
        return rows[-1][0] if rows else 0, document_ids

    def drop(self, position: int) -> None:
        """Take what is queued up to a position out of the queue."""
        self._opened().execute("DELETE FROM queue WHERE position <= ?", (position,))

    def key_of(self, document_id: Any) -> bytes:
        """A key for an `_id` of any type; equal where MongoDB holds one document."""
        return bson.encode({"_id": document_id}, codec_options=self._codec_options)

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            # Without a name it is a file of its own, of this connection alone. A queryset may be
            # iterated by one thread after another.
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.executescript(_TABLES)
        return self._database
