"""Pre-images on disk before a chunk is written; `restoring.py` puts them back."""

from __future__ import annotations

import errno
import gzip
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from contextvars import copy_context
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from pymongo.collection import Collection

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import BackupFailed, BackupUnreadable
from lazymig.operations.backup_files import (
    ABORTED,
    COMMITTED,
    DIGEST_SIZE,
    FORMAT,
    MISSING,
    Attempt,
    BackupFiles,
    DataFile,
    RecordFile,
    attempts_of,
    by_elements,
    condition,
    digest,
    raw_batches,
    scan,
    scanned,
)

__all__ = ["BackupWriter"]

logger = logging.getLogger(__name__)

_LEVEL = 1
# The gzip stream of a collection without pre-images.
_EMPTY = gzip.compress(b"", _LEVEL, mtime=0)

# `_id`s in one query; the command stays far below the 16 MiB that the server takes.
_MOST_IDS = 10_000

# By what the elements `_id` of one type are ordered, for the types whose order is simple.
_ORDERS: dict[int, Callable[[bytes], Any] | None] = {
    2: lambda element: element[9:],
    7: None,
    16: lambda element: int.from_bytes(element[5:], "little", signed=True),
    18: lambda element: int.from_bytes(element[5:], "little", signed=True),
}


class BackupWriter:
    """The backup of one run of one collection, in `PATH/<database>/<collection>.bson.gz`.

    The runner calls, for each attempt at a chunk: `begin`; `save`, once or more; then it writes to
    MongoDB; then `seal`; and once the transaction is committed `commit`, or `abandon` if it
    certainly is not. Where that is not known it calls neither: `restore` decides by what is stored.

    Memory holds the `_id`s of one chunk and two answers of the server, however large the chunk is.
    An existing backup of the collection in `path` is continued. Not for several threads at once.

    :param path: the folder of the backup; folders that are missing are made.
    :param collection: a PyMongo (or mongomock) collection.
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
        self._sparse = False
        self._forget()
        database, name = collection.database.name, collection.name
        files = BackupFiles.of(self._path, database, name)
        with ExitStack() as opened, self._reported():
            _make_folders(files.folder)
            self._records = RecordFile(files.records, writable=True)
            opened.callback(self._records.close)
            self._records.lock()
            last, data_end = self._recorded(files)
            # In this order: a dump without records is somebody else's.
            self._records.add(
                {
                    "open": run_id,
                    "format": FORMAT,
                    "database": database,
                    "collection": name,
                    "shard_key": list(shard_key),
                    "at": datetime.now(timezone.utc),
                }
            )
            self._records.sync()
            self._data = DataFile(files.data, writable=True)
            opened.callback(self._data.close)
            # What no record tells of was being written when a run was killed.
            self._data.truncate(data_end)
            if self._data.end < data_end:
                self._data.truncate(0)
                self._data.append(_EMPTY)
            if not files.metadata.exists():
                _write_metadata(files, collection)
            _sync_folder(files.folder)
            if last is not None and last.doubtful and last.left is not None:
                self._settle(last)
            opened.pop_all()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="lazymig-backup")

    def __enter__(self) -> BackupWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def begin(self, rule: str) -> None:
        """Begin an attempt at a chunk; one before that was sealed, but no more, stays in doubt."""
        if self._saves and not self._sealed:
            self.abandon()
        self._forget()
        if rule != self._rule:
            self._sparse = False
        self._rule = rule
        self._number += 1
        self._records_at, self._data_at = self._records.end, self._data.end

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
        start = self._data.end, self._records.end, len(self._positions)
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
        running: Future[bytes] | None = None
        try:
            with closing(raw_batches(self._collection, query, session)) as cursor:
                for batch in cursor:
                    added = self._new_documents(batch)
                    if running is not None:
                        self._append(running.result())
                    running = self._pool.submit(compressor.compress, added)
            count = len(self._positions) - start[-1]
            if running is None or not count:
                self._take_back(*start)
                return 0
            self._append(running.result() + compressor.flush())
            self._record_save(start[0], count)
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
        if not self._saves:
            return
        left = self._left(session)
        with self._reported():
            sealed_at = self._records.add({"seal": self._number, "left": left})
            self._records.sync()
        self._sealed_at, self._sealed = sealed_at, True

    def commit(self) -> None:
        """Note that the attempt is committed.

        This never fails: where it cannot be noted, the attempt stays in doubt.
        """
        if self._sealed:
            try:
                self._records.mark(self._sealed_at, COMMITTED)
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
        if self._saves and self._session:
            # In this order: what no record tells of is cut off when the files are opened again.
            with self._reported():
                self._records.truncate(self._records_at)
                self._data.truncate(self._data_at)
        self._forget()

    def close(self) -> None:
        """Close the files; an attempt that was not sealed is abandoned."""
        try:
            if self._saves and not self._sealed:
                self.abandon()
        finally:
            self._pool.shutdown()
            self._data.close()
            self._records.close()

    # Writing

    def _forget(self) -> None:
        """Forget the attempt."""
        self._positions: dict[bytes, int] = {}
        self._saves = 0
        self._session = False
        self._sealed = False
        self._sealed_at = 0

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
            raise BackupFailed(
                f"{name}: the backup in {self._path} cannot be written: {exc.strerror}; {remedy}",
                path=self._path,
                collection=name,
                run=self._run_id,
            ) from exc

    def _append(self, compressed: bytes) -> None:
        with self._reported():
            self._data.append(compressed)

    def _record_save(self, start: int, count: int) -> None:
        with self._reported():
            self._data.sync()
            self._records.add(
                {
                    "save": self._number,
                    "rule": self._rule,
                    "session": self._session,
                    "offset": start,
                    "length": self._data.end - start,
                    "count": count,
                }
            )
            if not self._session:
                # Nothing but this record tells what the write that follows has changed.
                self._records.sync()
        self._saves += 1

    def _take_back(self, data_end: int, records_end: int, known: int) -> None:
        """Be as before a save."""
        with suppress(OSError):
            self._records.truncate(records_end)
            self._data.truncate(data_end)
        self._drop_positions(known)

    def _new_documents(self, batch: bytes) -> bytes:
        """Give those documents of a batch a position that have none yet; return them."""
        elements, starts, ends = scan(batch)
        known = len(self._positions)
        if self._positions.keys().isdisjoint(elements):
            positions = range(known, known + len(elements))
            self._positions.update(zip(elements, positions, strict=True))
            if len(self._positions) == known + len(elements):
                return batch
            # The batch holds a document twice; its position is to be the one where it is written.
            self._drop_positions(known)
        pieces = []
        for element, start, end in zip(elements, starts, ends, strict=True):
            if element not in self._positions:
                self._positions[element] = len(self._positions)
                pieces.append(batch[start:end])
        return b"".join(pieces)

    def _drop_positions(self, known: int) -> None:
        for _ in range(known, len(self._positions)):
            self._positions.popitem()

    # Reading again

    def _left(self, session: Any) -> bytes:
        """The digests of the documents saved, as they are now, by their positions."""
        left = [MISSING] * len(self._positions)
        found = 0
        if not self._sparse and (bounds := self._bounds()) is not None:
            found, strangers = self._fill(left, raw_batches(self._collection, bounds, session))
            self._sparse = strangers > len(left)
        if found < len(left):
            missing = [
                element
                for element, position in self._positions.items()
                if left[position] is MISSING
            ]
            for first in range(0, len(missing), _MOST_IDS):
                query = by_elements(self._collection, missing[first : first + _MOST_IDS])
                self._fill(left, raw_batches(self._collection, query, session))
        return b"".join(left)

    def _bounds(self) -> Raw | None:
        """The range of the `_id`s saved, where one query can tell it: quicker than a long `$in`."""
        kinds = {element[0] for element in self._positions}
        if is_mongomock(self._collection) or len(kinds) != 1 or not kinds <= _ORDERS.keys():
            return None
        order = _ORDERS[kinds.pop()]
        first, last = min(self._positions, key=order), max(self._positions, key=order)
        return {"$and": [{"_id": condition("$gte", first)}, {"_id": condition("$lte", last)}]}

    def _fill(self, left: list[bytes], cursor: Any) -> tuple[int, int]:
        """Fill in the digests of what a cursor gives, unless it gives too many other documents.

        Gives the number of documents filled in, and that of the other ones.
        """
        position_of = self._positions.get
        found = strangers = 0
        for batch in self._ahead(cursor):
            elements, starts, ends = scan(batch)
            for element, start, end in zip(elements, starts, ends, strict=True):
                position = position_of(element)
                if position is None:
                    strangers += 1
                else:
                    left[position] = digest(batch[start:end])
                    found += 1
            if strangers > len(left):
                break
        return found, strangers

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

    # Opening

    def _recorded(self, files: BackupFiles) -> tuple[Attempt | None, int]:
        """The last attempt that the records tell of, and the byte behind the data they tell of.

        Cuts off a torn record, and an attempt that was certainly not committed.
        """
        last: Attempt | None = None
        for attempt in attempts_of(self._records.records()):
            last = attempt
        size = files.data.stat().st_size if files.data.exists() else 0
        if not self._records.sound:
            if files.data.exists():
                raise BackupUnreadable(
                    "this dump was not written by lazymig; choose another path", path=files.data
                )
        elif (name := self._records.opening["collection"]) != self._collection.name:
            raise BackupUnreadable(
                f"it is the backup of the collection {name!r}; choose another path",
                path=self._records.path,
            )
        records_end, data_end = self._records.sound, len(_EMPTY)
        if last is not None:
            self._number, data_end = last.number, last.data_end
            if last.is_cut_off(size):
                records_end, data_end, last = last.records_at, last.data_at, None
            if size < data_end:
                raise BackupUnreadable(
                    f"it ends at byte {size}, and {data_end} bytes are recorded; restore another "
                    "copy of this file, or choose another path",
                    path=files.data,
                )
        self._records.truncate(records_end)
        return last, data_end

    def _settle(self, attempt: Attempt) -> None:
        """Decide by what is stored whether the last attempt of a killed run was committed."""
        assert attempt.left is not None
        batches = (batch for member in attempt.members for batch in self._data.batches(*member))
        aborted = False
        position = 0
        for batch in batches:
            states: dict[bytes, tuple[bytes, bytes]] = {}
            for element, document in scanned(batch):
                left = attempt.left[position : position + DIGEST_SIZE]
                states[element] = digest(document), left
                position += DIGEST_SIZE
            query = by_elements(self._collection, list(states))
            for found in raw_batches(self._collection, query, None):
                for element, document in scanned(found):
                    before, left = states.get(element, (MISSING, MISSING))
                    now = digest(document)
                    if now == left != before:
                        self._records.mark(attempt.sealed_at, COMMITTED)
                        return
                    aborted = aborted or now == before != left
        if aborted:
            self._records.mark(attempt.sealed_at, ABORTED)


def _make_folders(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the owner alone."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(0o700, exist_ok=True)


def _sync_folder(folder: Path) -> None:
    """Have the names of new files on disk, too."""
    if os.name != "posix":
        return
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _write_metadata(files: BackupFiles, collection: Collection[Any]) -> None:
    """Write what `mongodump --gzip` writes beside the documents."""
    entries: Any = ()
    if not is_mongomock(collection):
        database = collection.database.with_options(codec_options=DEFAULT_CODEC_OPTIONS)
        entries = database.list_collections(filter={"name": collection.name})
    entry: dict[str, Any] = next(iter(entries), {})
    metadata: dict[str, Any] = {}
    if entry.get("options"):
        metadata["options"] = entry["options"]
    metadata["indexes"] = list(collection.list_indexes())
    if "uuid" in entry.get("info", {}):
        metadata["uuid"] = bytes(entry["info"]["uuid"]).hex()
    metadata["collectionName"] = collection.name
    metadata["type"] = entry.get("type", "collection")
    text = dumps(metadata, json_options=CANONICAL_JSON_OPTIONS, separators=(",", ":"))
    # Under another name first: a kill leaves no half of it.
    part = DataFile(files.part, writable=True)
    try:
        part.truncate(0)
        part.append(gzip.compress(text.encode(), mtime=0))
        part.sync()
    finally:
        part.close()
    part.path.replace(files.metadata)
