"""What a backup looks like on disk: names, records, gzip members, raw BSON.

Beside each `<collection>.bson.gz` stands `<collection>.lazymig`, which tells what of it was
committed. It is a sequence of records, each a header and a BSON document: `open` (a run begins),
`save` (a gzip member with pre-images), `seal` (what the attempt has left of them). The header ends
in a mark, the one byte that is ever written again.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import struct
import sys
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote
from weakref import WeakValueDictionary

import bson
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo.collection import Collection

from lazymig.engines.access import Raw, is_mongomock, on_primary
from lazymig.errors import BackupUnreadable

if sys.platform != "win32":
    import fcntl

__all__ = [
    "ABORTED",
    "COMMITTED",
    "DIGEST_SIZE",
    "FORMAT",
    "MISSING",
    "OPEN",
    "Attempt",
    "BackupFiles",
    "DataFile",
    "RecordFile",
    "attempts_of",
    "by_elements",
    "condition",
    "decoded_id",
    "digest",
    "is_odd",
    "raw_batches",
    "scan",
    "scanned",
]

FORMAT = 1
DIGEST_SIZE = 16
# In place of the digest of a document that is no longer there.
MISSING = bytes(DIGEST_SIZE)

# The marks of a record.
OPEN, COMMITTED, ABORTED = 0, 1, 2

# Documents per answer of the server: enough to make a round trip cheap, few enough that reading
# and compressing go on side by side within a chunk.
_BATCH = 2000

_LONGEST_NAME = 238
_HEADER = struct.Struct("<III")
_MARK_AT = _HEADER.size
_HEADER_SIZE = _HEADER.size + 1
_READ_SIZE = 1 << 20

_size_at = struct.Struct("<i").unpack_from
_OBJECT_ID = b"\x07_id\x00"

# The length of a BSON value by its type; of those with a length in front, what comes on top of it.
_FIXED = {1: 8, 6: 0, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8, 19: 16, 127: 0, 255: 0}
_PREFIXED = {2: 4, 3: 0, 4: 0, 5: 5, 12: 16, 13: 4, 14: 4, 15: 0}
_REGEX = 11
_TIMESTAMP = 17
_NO_TIME = bytes(8)
_DOLLAR = ord("$")


# Raw BSON


def digest(document: bytes) -> bytes:
    """The digest by which two states of a document are told apart."""
    return hashlib.blake2b(document, digest_size=DIGEST_SIZE).digest()


def _elements(batch: bytes, start: int) -> Iterator[tuple[int, int, int]]:
    """Where each element of the document at `start` begins, its value begins, and it ends."""
    at, end = start + 4, start + _size_at(batch, start)[0] - 1
    while at < end:
        value = batch.index(0, at + 1) + 1
        following = value + _length_of_value(batch, batch[at], value)
        yield at, value, following
        at = following


def _id_element(batch: bytes, start: int) -> bytes:
    """The element `_id` (type, name, value) of the document that begins at `start`."""
    for at, value, following in _elements(batch, start):
        if batch[at + 1 : value] == b"_id\x00":
            return batch[at:following]
    raise ValueError("a document has no _id")


def is_odd(document: bytes) -> bool:
    """Whether MongoDB would not store the document as it is if it were inserted, or a replacement.

    It takes the present time for a `Timestamp(0, 0)`, and may refuse a name that begins with `$`;
    both only at the top level.
    """
    if b"$" not in document and _NO_TIME not in document:
        return False
    return any(
        document[at + 1] == _DOLLAR
        or (document[at] == _TIMESTAMP and document[value:following] == _NO_TIME)
        for at, value, following in _elements(document, 0)
    )


def _length_of_value(batch: bytes, kind: int, at: int) -> int:
    if kind in _FIXED:
        return _FIXED[kind]
    if kind in _PREFIXED:
        return int(_size_at(batch, at)[0]) + _PREFIXED[kind]
    if kind == _REGEX:
        options = batch.index(0, at) + 1
        return batch.index(0, options) + 1 - at
    raise ValueError(f"BSON type {kind} is not known")


def scan(batch: bytes) -> tuple[list[bytes], list[int], list[int]]:
    """Of each document of a batch the element `_id`, where it begins and where it ends.

    This runs for every document of a collection, twice.
    """
    elements: list[bytes] = []
    bounds = [0]
    at, end = 0, len(batch)
    while at < end:
        if batch[at + 4 : at + 9] == _OBJECT_ID:
            elements.append(batch[at + 4 : at + 21])
        else:
            elements.append(_id_element(batch, at))
        at += _size_at(batch, at)[0]
        bounds.append(at)
    return elements, bounds[:-1], bounds[1:]


def scanned(batch: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each document of a batch, with its element `_id`."""
    for element, start, end in zip(*scan(batch), strict=True):
        yield element, batch[start:end]


def _whole_documents(piece: bytes) -> int:
    """The byte behind the last document that is complete."""
    at, end = 0, len(piece)
    while end - at >= 4:
        size = _size_at(piece, at)[0]
        if size < 5:
            raise ValueError("no document is that short")
        if at + size > end:
            break
        at += size
    return at


def condition(operator: str, element: bytes) -> RawBSONDocument:
    """The condition `{operator: value}` with the value of an `_id` as it is stored."""
    return _document(element[:1] + operator.encode() + b"\x00" + element[5:])


def _document(elements: bytes) -> RawBSONDocument:
    return RawBSONDocument(struct.pack("<i", len(elements) + 5) + elements + b"\x00")


def decoded_id(element: bytes, options: CodecOptions[Any]) -> Any:
    """The `_id` as Python knows it."""
    return bson.decode(_document(element).raw, codec_options=options)["_id"]


# Collections


def by_elements(collection: Collection[Any], elements: Sequence[bytes]) -> Raw:
    """The query for the documents with these `_id`s, as they are stored."""
    if is_mongomock(collection):
        return {
            "_id": {"$in": [decoded_id(element, DEFAULT_CODEC_OPTIONS) for element in elements]}
        }
    array = b"".join(
        element[:1] + b"%d\x00" % index + element[5:] for index, element in enumerate(elements)
    )
    return {"_id": _document(b"\x04$in\x00" + _document(array).raw)}


def raw_batches(collection: Collection[Any], query: Raw, session: Any) -> Any:
    """A cursor over what the primary stores, in batches of concatenated BSON documents."""
    if is_mongomock(collection):
        return _MockCursor(collection, query)
    return on_primary(collection).find_raw_batches(query, batch_size=_BATCH, session=session)


class _MockCursor:
    """What `find_raw_batches` gives, made of what mongomock holds."""

    def __init__(self, collection: Collection[Any], query: Raw) -> None:
        documents = collection.find(query)
        self._batches = (bson.encode(document) for document in documents)
        self.alive = True

    def __iter__(self) -> Iterator[bytes]:
        return self._batches

    def __next__(self) -> bytes:
        return next(self._batches)

    def close(self) -> None:
        self._batches.close()


# Names


@dataclass(frozen=True)
class BackupFiles:
    """The files of one collection in a backup; named and escaped as mongodump does."""

    folder: Path
    name: str

    @classmethod
    def of(cls, path: Path, database: str, collection: str) -> BackupFiles:
        """The files for a collection in the backup at `path`.

        :raises ValueError: the database has a name that is no name of a folder.
        """
        if database in ("", ".", "..") or Path(database).name != database or "\x00" in database:
            raise ValueError(f"database {database!r} is not the name of a folder")
        # mongorestore unescapes a plus sign or not, depending on its version; none is left here.
        name = quote(collection, safe="")
        if len(name) > _LONGEST_NAME:
            hashed = hashlib.sha1(collection.encode(), usedforsecurity=False).digest()
            name = name[:208] + "%24" + base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        return cls(path / database, name)

    @property
    def data(self) -> Path:
        """The pre-images, as `mongodump --gzip` writes documents."""
        return self.folder / f"{self.name}.bson.gz"

    @property
    def metadata(self) -> Path:
        """Options and indexes, as `mongodump --gzip` writes them."""
        return self.folder / f"{self.name}.metadata.json.gz"

    @property
    def part(self) -> Path:
        """What the metadata are written to first; of a length of its own, for names are limited."""
        return self.folder / f"{digest(self.name.encode()).hex()}.part"

    @property
    def records(self) -> Path:
        """What was committed, and what was left; mongorestore skips this file."""
        return self.folder / f"{self.name}.lazymig"


# Files


class _File:
    """A file of the owner alone that grows, and shrinks to where it was if growing fails."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        mode = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        self._fd = os.open(path, mode | getattr(os, "O_BINARY", 0), 0o600)
        self.end = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        os.lseek(self._fd, self.end, os.SEEK_SET)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self.end)
            raise
        self.end += len(data)

    def read(self, at: int, size: int) -> bytes:
        os.lseek(self._fd, at, os.SEEK_SET)
        pieces = []
        while size and (piece := os.read(self._fd, size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def truncate(self, size: int) -> None:
        if size < self.end:
            os.ftruncate(self._fd, size)
            self.end = size

    def sync(self) -> None:
        os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DataFile(_File):
    """The pre-images: gzip members of concatenated BSON documents."""

    def batches(self, offset: int, length: int) -> Iterator[bytes]:
        """The documents of the member at `offset`, some at a time.

        :raises BackupUnreadable: the member is damaged.
        """
        inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        rest = b""
        stop = offset + length
        for at in range(offset, stop, _READ_SIZE):
            compressed = self.read(at, min(_READ_SIZE, stop - at))
            while compressed:
                try:
                    rest += inflate.decompress(compressed, _READ_SIZE)
                    whole = _whole_documents(rest)
                except (zlib.error, ValueError) as exc:
                    raise self._damage(offset) from exc
                if whole:
                    yield rest[:whole]
                    rest = rest[whole:]
                compressed = inflate.unconsumed_tail
        if rest or not inflate.eof:
            raise self._damage(offset)

    def _damage(self, offset: int) -> BackupUnreadable:
        return BackupUnreadable(
            f"the pre-images from byte {offset} on are damaged; restore another copy of this file",
            path=self.path,
        )


# The record files that this process has open, by device and inode. Their locks belong to the
# process: they keep none of its threads out, and whoever closes such a file drops them all.
_in_use: WeakValueDictionary[tuple[int, int], RecordFile] = WeakValueDictionary()
_guard = threading.Lock()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


class _Record(NamedTuple):
    start: int
    mark: int
    body: dict[str, Any]


@dataclass
class Attempt:
    """One attempt at a chunk: its gzip members, what it has left, and whether it was committed.

    `session` tells whether it was a transaction. `left` holds a digest for each pre-image, in the
    order of the members.
    """

    number: int
    rule: str
    session: bool
    records_at: int
    data_at: int
    members: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0
    left: bytes | None = None
    sealed_at: int = 0
    mark: int = OPEN

    @property
    def data_end(self) -> int:
        """The byte behind its last member."""
        offset, length = self.members[-1]
        return offset + length

    def is_cut_off(self, size: int) -> bool:
        """Whether a dump of this size is to have nothing of it, for it has changed nothing.

        A transaction is sealed before it commits. Of one that was abandoned when the machine lost
        power, the records may be left.
        """
        return self.session and (self.left is None or (self.mark == OPEN and self.data_end > size))

    @property
    def doubtful(self) -> bool:
        """Whether it may have been committed or not; without a transaction, a seal decides."""
        return self.mark == OPEN and (self.session or self.left is None)


class RecordFile(_File):
    """The records; a tail that a kill has torn off is ignored.

    `sound` is the byte behind the last record that was read and is complete, `opening` is the last
    record `open` that was read.

    :raises BlockingIOError: this process has it open already.
    :raises OSError: it cannot be opened.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        with _guard:
            if path.exists() and _identity(path.stat()) in _in_use:
                raise BlockingIOError(errno.EAGAIN, "this process uses it already")
            super().__init__(path, writable=writable)
            self._key = _identity(os.fstat(self._fd))
            _in_use[self._key] = self
        self.sound = 0
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

    def add(self, body: Raw) -> int:
        """Append a record; gives the byte at which it begins."""
        start = self.end
        encoded = bson.encode(body)
        sizes = struct.pack("<II", len(encoded), zlib.crc32(encoded))
        header = sizes + struct.pack("<IB", zlib.crc32(sizes), OPEN)
        self.append(header + encoded)
        return start

    def mark(self, start: int, mark: int) -> None:
        """Mark a record, in place: this takes no room on a full disk."""
        os.lseek(self._fd, start + _MARK_AT, os.SEEK_SET)
        os.write(self._fd, bytes([mark]))

    def records(self) -> Iterator[_Record]:
        """The records that were written completely.

        :raises BackupUnreadable: it is not only the tail that is unreadable.
        """
        at = self.sound = 0
        while at + _HEADER_SIZE <= self.end:
            head = self.read(at, _HEADER_SIZE)
            length, checksum, of_header = _HEADER.unpack_from(head)
            start, following = at + _HEADER_SIZE, at + _HEADER_SIZE + length
            if zlib.crc32(head[:8]) != of_header:
                if self._is_empty_from(at):
                    return
                raise self._damage(at)
            if following > self.end:
                return
            body = self.read(start, length)
            if zlib.crc32(body) != checksum:
                if following == self.end:
                    return
                raise self._damage(at)
            record = _Record(at, head[_MARK_AT], bson.decode(body))
            if "open" in record.body:
                self._check_format(record.body)
            at = self.sound = following
            yield record

    def _check_format(self, opening: Raw) -> None:
        if opening["format"] != FORMAT:
            raise BackupUnreadable(
                f"its format is {opening['format']!r}, and this version of lazymig knows {FORMAT}; "
                "use the version that wrote it",
                path=self.path,
            )
        self.opening = opening

    def _is_empty_from(self, at: int) -> bool:
        """Whether only zeros follow: room that a machine that lost power had not filled yet."""
        return all(
            not any(self.read(start, _READ_SIZE)) for start in range(at, self.end, _READ_SIZE)
        )

    def _damage(self, at: int) -> BackupUnreadable:
        return BackupUnreadable(
            f"the records from byte {at} on are damaged; restore another copy of this file",
            path=self.path,
        )


def attempts_of(records: Iterable[_Record]) -> Iterator[Attempt]:
    """The attempts that records tell of, in order."""
    current: Attempt | None = None
    for record in records:
        body = record.body
        if "save" in body:
            if current is None or current.number != body["save"]:
                if current is not None:
                    yield current
                current = Attempt(
                    number=body["save"],
                    rule=body["rule"],
                    session=body["session"],
                    records_at=record.start,
                    data_at=body["offset"],
                )
            current.members.append((body["offset"], body["length"]))
            current.count += body["count"]
        elif "seal" in body and current is not None and current.number == body["seal"]:
            current.left = bytes(body["left"])
            current.sealed_at = record.start
            current.mark = record.mark
    if current is not None:
        yield current
