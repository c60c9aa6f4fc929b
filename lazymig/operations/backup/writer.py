"""BackupWriter: pre-images on disk before a chunk is written; `restore.py` puts them back."""

from __future__ import annotations

import errno
import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import Raw
from lazymig.errors import BackupFailed, BackupUnreadable
from lazymig.operations.backup.files import (
    EMPTY,
    BackupFiles,
    DataFile,
    checked_database,
    raw_batches,
)
from lazymig.operations.backup.folder import Folder
from lazymig.operations.backup.metadata import Metadata
from lazymig.operations.backup.records import (
    COMMITTED,
    HEAD_SIZE,
    OPEN,
    ChunkAttempt,
    Head,
    Member,
    RecordFile,
)
from lazymig.operations.backup.saved import Saved, fate_of
from lazymig.raw.elements import scanned

__all__ = ["BackupWriter"]

logger = logging.getLogger(__name__)

_LEVEL = 1


class BackupWriter(AbstractContextManager["BackupWriter"]):
    """The backup of one run of one collection, in `PATH/<database>/<collection>.bson.gz`.

    The runner calls, for each attempt at a chunk: `begin`; `save`, once or more; then it writes to
    MongoDB; then `seal`; and once the transaction is committed `commit`, or `abandon` if it
    certainly is not. Where that is not known it calls neither: `restore` decides by what is stored.

    Memory holds the `_id`s of one chunk and two answers of the server, however large the chunk is.
    An existing backup of the collection in `path` is continued. Not for several threads at once.

    :param path: the folder of the backup; folders that are missing are made.
    :param collection: a PyMongo collection.
    :param run_id: any BSON value, for the records.
    :param shard_key: the fields, besides `_id`, that `restore` puts into the filters of its writes.
    :raises BackupFailed: the files cannot be written, or another process writes them.
    :raises BackupUnreadable: the files that are there are damaged, or of another collection.
    :raises pymongo.errors.PyMongoError: options and indexes of the collection cannot be read.
    """

    def __init__(
        self,
        path: Path | str,
        collection: Collection[Any],
        *,
        run_id: Any,
        shard_key: Sequence[str] = (),
    ) -> None:
        self._path = Path(path)
        self._collection = collection
        self._run_id = run_id
        self._number = 0
        self._rule = ""
        self._unsealed: ChunkAttempt | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lazymig-backup")
        self._saved = Saved(collection, self._pool)
        self._forget()
        self._shard_key = list(shard_key)
        database = checked_database(collection.database.name)
        files = BackupFiles.of(collection.name)
        with ExitStack() as opened, self._reported():
            opened.callback(self._pool.shutdown)
            self._folder = Folder(self._path, database, writable=True)
            opened.callback(self._folder.close)
            if self._folder.holds(files.data) and not self._folder.holds(files.records):
                raise BackupUnreadable(
                    "this dump was not written by lazymig, or its records are lost; choose another "
                    "path",
                    path=self._folder.path / files.data,
                )
            self._records = RecordFile(self._folder, files.records, writable=True)
            opened.callback(self._records.close)
            self._records.lock()
            self._open(files, opened)
            opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self.close()

    def begin(self, rule: str) -> None:
        """Begin an attempt at a chunk; one before that was sealed, but no more, stays in doubt."""
        if self._members and not self._sealed:
            if not self._session:
                self._unsealed = ChunkAttempt(self._number, self._rule, False, self._members)
            self.abandon()
        self._forget()
        if rule != self._rule:
            self._saved.sparse = False
        self._rule = rule
        self._number += 1
        self._before = self._records.head

    def save(self, query: Raw, session: Any = None) -> int:
        """Append the documents that a query finds now, as they are stored; gives their number.

        They are on disk on return. A document that this attempt has saved before is left out.

        :param session: the session of the transaction that is going to change them, if there is
            one.
        :raises BackupFailed: nothing is to be written to MongoDB; the files are as they were.
        :raises pymongo.errors.PyMongoError: the documents cannot be read; the files are as they
            were.
        """
        self._session = session is not None and session.in_transaction
        start = self._data.end, self._records.end, self._records.head, len(self._saved)
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        running: Future[bytes] | None = None
        checksum = 0
        try:
            with closing(raw_batches(self._collection, query, session)) as cursor:
                for batch in cursor:
                    added = self._saved.add(batch)
                    if running is not None:
                        checksum = self._append(running.result(), checksum)
                    running = self._pool.submit(compressor.compress, added)
            count = len(self._saved) - start[-1]
            if running is None or not count:
                self._take_back(*start)
                return 0
            checksum = self._append(running.result() + compressor.flush(), checksum)
            self._record_save(start[0], count, checksum)
        except BaseException:
            self._take_back(*start)
            raise
        return count

    def seal(self, session: Any = None) -> None:
        """Record what the attempt has left of the documents saved; to be called before the commit.

        :param session: the session of the transaction.
        :raises BackupFailed: the transaction is to be aborted.
        :raises pymongo.errors.PyMongoError: the documents cannot be read.
        """
        if not self._members:
            return
        left = self._saved.left(session)
        with self._reported():
            self._records.add({"seal": self._number, "left": left})
            self._count(OPEN)
        self._sealed = True

    def commit(self) -> None:
        """Note that the attempt is committed.

        This never fails: where it cannot be noted, the attempt stays in doubt.
        """
        if self._sealed:
            try:
                self._records.mark(COMMITTED)
            except OSError:
                logger.warning(
                    "%s: that a chunk is committed could not be noted in %s; a restore finds out",
                    self._collection.full_name,
                    self._records.path,
                )
        self._forget()

    def abandon(self) -> None:
        """Take the attempt out of the files, for it has certainly not been committed.

        One that was not a transaction stays: it may have written a part.
        """
        if self._members and self._session:
            with self._reported():
                self._cut(self._before)
        self._forget()

    @property
    def unsealed(self) -> str | None:
        """The rule of the last attempt, if that was broken off outside of a transaction.

        Then it may have written a part, and has not noted what.
        """
        return None if self._unsealed is None else self._unsealed.rule

    def unsealed_pre_images(self) -> Iterator[tuple[bytes, bytes]]:
        """The documents that this attempt has found, each with its element `_id`."""
        if self._unsealed is not None:
            for batch in self._batches(self._unsealed):
                yield from scanned(batch)

    def seal_unsealed(self, left: bytes) -> None:
        """Record what this attempt has left.

        :param left: a digest for each pre-image.
        :raises BackupFailed: it cannot be recorded.
        """
        assert self._unsealed is not None
        with self._reported():
            self._records.add({"seal": self._unsealed.number, "left": left})
            self._count(self._records.head.mark)
        self._before = self._records.head
        self._unsealed = None

    def close(self) -> None:
        """Close the files; an attempt that was not sealed is abandoned."""
        try:
            if self._members and not self._sealed:
                self.abandon()
        finally:
            self._pool.shutdown()
            self._data.close()
            self._records.close()
            self._folder.close()

    # Writing

    def _forget(self) -> None:
        """Forget the attempt."""
        self._saved.clear()
        self._members: list[Member] = []
        self._session = False
        self._sealed = False

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Report what the file system refuses."""
        try:
            yield
        except OSError as exc:
            remedy = "choose another path"
            if isinstance(exc, BlockingIOError):
                remedy = f"wait for its end, or {remedy}"
            elif exc.errno in (errno.ENOSPC, errno.EDQUOT):
                remedy = f"make room there, or {remedy}, and resume the run"
            name = str(self._collection.full_name)
            place = exc.filename or self._path
            raise BackupFailed(
                f"{name}: the backup in {place} cannot be written: {exc.strerror}; {remedy}",
                path=self._path,
                collection=name,
                run=self._run_id,
            ) from exc

    def _append(self, compressed: bytes, checksum: int) -> int:
        """Append a part of a member; gives the checksum of all its parts so far."""
        with self._reported():
            self._data.append(compressed)
        return zlib.crc32(compressed, checksum)

    def _record_save(self, start: int, count: int, checksum: int) -> None:
        member = Member(start, self._data.end - start, count, checksum)
        with self._reported():
            self._data.sync()
            self._records.add(
                {
                    "save": self._number,
                    "earlier": self._before.mark,
                    "rule": self._rule,
                    "session": self._session,
                    "member": member,
                }
            )
            if not self._session:
                # This record alone has what the write that follows has changed.
                self._count(OPEN)
        self._members.append(member)
        # A seal belongs to the last attempt.
        self._unsealed = None

    def _count(self, mark: int) -> None:
        """Let all that is in the files count."""
        self._records.fix(Head(self._records.end, self._data.end, mark))

    def _cut(self, head: Head) -> None:
        """Let no more count than before, and cut off the rest."""
        if self._records.head != head:
            self._records.fix(head)
        self._records.truncate(head.records_end)
        self._data.truncate(head.data_end)

    def _take_back(self, data_end: int, records_end: int, head: Head, known: int) -> None:
        """Be as before a save."""
        with suppress(OSError):
            if self._records.head != head:
                self._records.fix(head)
            self._records.truncate(records_end)
            self._data.truncate(data_end)
        self._saved.drop(known)

    # Opening

    def _open(self, files: BackupFiles, opened: ExitStack) -> None:
        """Continue the files that are there, once they are found sound; or begin them.

        What does not count was being written when a run was killed, and is cut off.
        """
        # In this order: a dump without records is somebody else's.
        if self._records.end <= HEAD_SIZE and not self._folder.holds(files.data):
            self._records.begin()
        else:
            self._records.read_head()
        self._data = DataFile(self._folder, files.data, writable=True)
        opened.callback(self._data.close)
        last = self._records.check(self._data)
        known: Raw = self._records.opening
        if known and known["collection"] != self._collection.name:
            raise BackupUnreadable(
                f"it is the backup of the collection {known['collection']!r}; choose another path",
                path=self._records.path,
            )
        metadata = Metadata(self._folder, files, self._collection)
        metadata.check(known.get("metadata"))
        self._cut(self._records.head)
        if not self._data.end:
            self._data.append(EMPTY)
            self._data.sync()
        self._records.add(
            {
                "open": self._run_id,
                "database": self._collection.database.name,
                "collection": self._collection.name,
                "shard_key": self._shard_key,
                "at": datetime.now(timezone.utc),
                "metadata": metadata.written(),
            }
        )
        self._count(self._records.head.mark)
        self._folder.sync()
        if last is not None:
            self._number = last.number
            if last.left is None:
                self._unsealed = last
            elif last.doubtful:
                mark = fate_of(last, self._batches(last), self._collection)
                if mark != OPEN:
                    self._records.mark(mark)

    def _batches(self, attempt: ChunkAttempt) -> Iterator[bytes]:
        for member in attempt.members:
            yield from self._data.batches(member.offset, member.length)
