"""The chains of changes in a backup: from each document's first pre-image to what is stored now."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import count
from typing import Any, Final, NamedTuple

from lazymig.errors import BackupUnreadable
from lazymig.operations.backup.files import DIGEST_SIZE, digest
from lazymig.operations.backup.reader import BackupReader
from lazymig.operations.backup.records import ChunkAttempt

__all__ = ["UNKNOWN", "Chain", "Origin"]

UNKNOWN: Final = b""
"""In place of the digest that an attempt which was broken off has not noted."""

_CHAIN = """
    CREATE TABLE chain (
        id BLOB PRIMARY KEY,
        number INTEGER NOT NULL,
        origin BLOB NOT NULL,
        expected BLOB NOT NULL,
        doubtful BLOB,
        broken INTEGER NOT NULL
    ) WITHOUT ROWID
"""
_FIRST = "SELECT expected, doubtful, broken FROM chain WHERE id = ? AND number = ?"
# The next change of a document must have found what the one before has left, or might have left
# if it was committed at all; or the document was back where it was at first.
_NOTE = """
    INSERT INTO chain VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (id) DO UPDATE SET
        broken = excluded.origin != origin
            AND (broken OR (excluded.origin != expected AND excluded.origin IS NOT doubtful)),
        expected = excluded.expected,
        doubtful = excluded.doubtful
"""


class Origin(NamedTuple):
    """The first pre-image of a document, and what the document may have become since."""

    document: bytes
    accepted: tuple[bytes, ...]
    broken: bool


class Chain:
    """The changes of each document of a backup, in order, in a file that SQLite removes.

    `len` is the number of the documents.

    :raises BackupUnreadable: there is no room for the file.
    """

    def __init__(self, backup: BackupReader) -> None:
        self._backup = backup
        # Without a name it is a file of its own.
        self._rows = sqlite3.connect("")
        try:
            self._note_changes()
        except sqlite3.OperationalError as exc:
            self.close()
            raise BackupUnreadable(
                f"its changes cannot be put in order: {exc}; make room where SQLite keeps "
                "temporary files, or set SQLITE_TMPDIR",
                path=backup.path,
            ) from exc

    def __len__(self) -> int:
        return self._total

    def close(self) -> None:
        """Remove the file."""
        self._rows.close()

    def origins(self) -> Iterator[tuple[bytes, Origin]]:
        """The documents, each once, by the element `_id`."""
        numbers = count()
        for attempt in self._backup.attempts():
            for element, document in self._backup.pre_images(attempt):
                row = self._rows.execute(_FIRST, (element, next(numbers))).fetchone()
                if row is not None:
                    expected, doubtful, broken = row
                    yield element, Origin(document, (expected, doubtful), bool(broken))

    def _note_changes(self) -> None:
        self._rows.executescript(_CHAIN)
        numbers = count()
        for attempt in self._backup.attempts():
            self._rows.executemany(_NOTE, self._notes(attempt, numbers))
        (total,) = self._rows.execute("SELECT count(*) FROM chain").fetchone()
        self._total = int(total)

    def _notes(self, attempt: ChunkAttempt, numbers: Iterator[int]) -> Iterator[tuple[Any, ...]]:
        """The rows for an attempt: the pre-images of the backup are numbered."""
        at = 0
        for element, document in self._backup.pre_images(attempt):
            origin = digest(document)
            left = attempt.left and attempt.left[at : at + DIGEST_SIZE]
            at += DIGEST_SIZE
            expected, doubtful = (origin, left or UNKNOWN) if attempt.doubtful else (left, None)
            yield element, next(numbers), origin, expected, doubtful
