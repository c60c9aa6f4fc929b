"""The records of a backup: what of its dump was committed, and what the run has left.

The file begins with a head, which names the bytes of it and of the dump that count, and what became
of the last attempt. It is less than a sector, so that a disk writes it as a whole, and is
the one place that is ever written again. A sequence of records follows, each a length, a
checksum and a BSON document: `open` (a run begins), `save` (a gzip member with pre-images), `seal`
(what the attempt has left of them). What counts must be sound; what follows was being written
when a run was killed.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import bson

from lazymig.engines.access import Raw
from lazymig.errors import BackupUnreadable
from lazymig.locks import new_lock
from lazymig.operations.backup.files import EMPTY, DataFile, File
from lazymig.operations.backup.folder import Folder

if sys.platform != "win32":
    import fcntl

__all__ = [
    "ABORTED",
    "COMMITTED",
    "FORMAT",
    "HEAD_SIZE",
    "OPEN",
    "ChunkAttempt",
    "Head",
    "Member",
    "RecordFile",
]

FORMAT = 2

# What became of an attempt.
OPEN, COMMITTED, ABORTED = 0, 1, 2

_MAGIC = b"lazymig"
_HEAD = struct.Struct("<7sBQQB")
_CHECKSUM = struct.Struct("<I")
HEAD_SIZE = 64
_SEALED_SIZE = HEAD_SIZE - _CHECKSUM.size
_RECORD = struct.Struct("<II")


class Head(NamedTuple):
    """The bytes of the records, and of the dump, that count; what became of the last attempt."""

    records_end: int
    data_end: int
    mark: int

    def to_bytes(self) -> bytes:
        """The head as it is on disk."""
        body = _HEAD.pack(_MAGIC, FORMAT, *self).ljust(_SEALED_SIZE, b"\x00")
        return body + _CHECKSUM.pack(zlib.crc32(body))


# Before there is a dump.
_FIRST_HEAD = Head(HEAD_SIZE, 0, OPEN)


class Member(NamedTuple):
    """A gzip member of the dump: where it is, how long, how many documents, and its CRC-32."""

    offset: int
    length: int
    documents: int
    checksum: int

    @property
    def end(self) -> int:
        """The byte after it."""
        return self.offset + self.length


@dataclass
class ChunkAttempt:
    """One attempt at a chunk: its gzip members, what it has left, and whether it was committed.

    `session` is whether it was a transaction. `left` holds a digest for each pre-image, in the
    order of the members.
    """

    number: int
    rule: str
    session: bool
    members: list[Member] = field(default_factory=list)
    left: bytes | None = None
    mark: int = OPEN

    @property
    def count(self) -> int:
        """The pre-images."""
        return sum(member.documents for member in self.members)

    @property
    def doubtful(self) -> bool:
        """Return whether it may have been committed; without a transaction, a seal decides."""
        return self.mark == OPEN and (self.session or self.left is None)


# The record files that this process has open, by device and inode. Their locks belong to the
# process: they keep none of its threads out, and whoever closes such a file drops them all.
_in_use: WeakValueDictionary[tuple[int, int], RecordFile] = WeakValueDictionary()
_guard = new_lock()


class RecordFile(File):
    """The records of one collection.

    `head` is what counts, and `opening` is the last record `open` that was read.

    :raises BlockingIOError: this process has it open already.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, folder: Folder, name: str, *, writable: bool) -> None:
        with _guard:
            if (found := folder.identity(name)) is not None and found in _in_use:
                raise BlockingIOError(errno.EAGAIN, "this process uses it already")
            super().__init__(folder, name, writable=writable)
            status = os.fstat(self._fd)
            self._key = status.st_dev, status.st_ino
            _in_use[self._key] = self
        self.head = _FIRST_HEAD
        self.opening: Raw = {}

    def close(self) -> None:
        """Close it, which ends its lock, and leave it to the next."""
        with _guard:
            super().close()
            if _in_use.get(self._key) is self:
                del _in_use[self._key]

    def lock(self, *, shared: bool = False) -> None:
        """Keep other processes from writing this backup until this one ends or closes the file.

        :raises BlockingIOError: another process has it.
        """
        if sys.platform == "win32":
            return
        # Of this process alone: a lock that forked workers inherit could outlive a killed runner.
        try:
            fcntl.lockf(self._fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno in (errno.EACCES, errno.EAGAIN):
                raise BlockingIOError(errno.EAGAIN, "another process uses it") from exc
        self.measure()

    # The head

    def begin(self) -> None:
        """Write the head of a file that is new."""
        self.fix(_FIRST_HEAD)

    def fix(self, head: Head) -> None:
        """Let what counts be so much from now on; it is on disk before that, and that on return.

        Whoever loses power in between has the one head or the other.
        """
        self.sync()
        self._write_head(head)
        self.sync()

    def mark(self, mark: int) -> None:
        """Note what became of the last attempt, in place: this takes no room on a full disk."""
        self._write_head(self.head._replace(mark=mark))

    def _write_head(self, head: Head) -> None:
        self.write(0, head.to_bytes())
        self.end = max(self.end, HEAD_SIZE)
        self.head = head

    def read_head(self) -> None:
        """Learn what counts.

        :raises BackupUnreadable: the head is damaged or of another format, or the file has less.
        """
        content = self.read(0, HEAD_SIZE)
        body, checksum = content[:_SEALED_SIZE], content[_SEALED_SIZE:]
        if len(content) < HEAD_SIZE or checksum != _CHECKSUM.pack(zlib.crc32(body)):
            raise self.damage(0)
        magic, version, *head = _HEAD.unpack_from(body)
        if magic != _MAGIC:
            raise self.damage(0)
        if version != FORMAT:
            raise BackupUnreadable(
                f"its format is {version}, and this version of lazymig knows {FORMAT}; use the "
                "version that wrote it",
                path=self.path,
            )
        self.head = Head(*head)
        if self.end < self.head.records_end:
            raise BackupUnreadable(
                f"it ends at byte {self.end}, and {self.head.records_end} bytes are committed; "
                "restore another copy of this file",
                path=self.path,
            )

    # Records

    def add(self, body: Raw) -> None:
        """Append a record; it does not count yet."""
        encoded = bson.encode(body)
        size = struct.pack("<I", len(encoded))
        self.append(size + _CHECKSUM.pack(zlib.crc32(encoded, zlib.crc32(size))) + encoded)

    def _records(self) -> Iterator[dict[str, Any]]:
        at, end = HEAD_SIZE, self.head.records_end
        while at < end:
            header = self.read(at, _RECORD.size)
            start = at + _RECORD.size
            length, checksum = _RECORD.unpack(header) if start <= end else (end, 0)
            if start + length > end:
                raise self.damage(at)
            body = self.read(start, length)
            if zlib.crc32(body, zlib.crc32(header[:4])) != checksum:
                raise self.damage(at)
            yield bson.decode(body)
            at = start + length

    def attempts(self) -> Iterator[ChunkAttempt]:
        """The attempts that the records hold, in order.

        :raises BackupUnreadable: a record is damaged.
        """
        current: ChunkAttempt | None = None
        for body in self._records():
            if "open" in body:
                self.opening = body
            elif "save" in body:
                if current is None or current.number != body["save"]:
                    if current is not None:
                        current.mark = body["earlier"]
                        yield current
                    current = ChunkAttempt(body["save"], body["rule"], body["session"])
                current.members.append(Member(*body["member"]))
            elif current is not None and current.number == body["seal"]:
                current.left = bytes(body["left"])
        if current is not None:
            current.mark = self.head.mark
            yield current

    def check(self, data: DataFile) -> ChunkAttempt | None:
        """Read all that counts, of the records and of the dump; gives the last attempt.

        :raises BackupUnreadable: something of it is damaged or missing.
        """
        if not self.head.data_end and data.end > len(EMPTY):
            raise BackupUnreadable(
                "this dump was not written by lazymig; choose another path", path=data.path
            )
        if data.end < self.head.data_end:
            raise BackupUnreadable(
                f"it ends at byte {data.end}, and {self.head.data_end} bytes are committed; "
                "restore another copy of this file",
                path=data.path,
            )
        if data.read(0, min(len(EMPTY), self.head.data_end)) != EMPTY[: self.head.data_end]:
            raise data.damage(0)
        last: ChunkAttempt | None = None
        end = min(len(EMPTY), self.head.data_end)
        for attempt in self.attempts():
            last = attempt
            for member in attempt.members:
                if member.offset != end:
                    raise self.damage(HEAD_SIZE)
                if data.checksum(member.offset, member.length) != member.checksum:
                    raise data.damage(member.offset)
                end = member.end
        if end != self.head.data_end:
            raise self.damage(HEAD_SIZE)
        return last

    def damage(self, at: int) -> BackupUnreadable:
        """The error for records that are damaged."""
        return BackupUnreadable(
            f"the records from byte {at} on are damaged; restore another copy of this file",
            path=self.path,
        )
