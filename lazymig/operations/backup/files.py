"""The files of a backup: their names, their gzip members, and what fills them.

Beside each `<collection>.bson.gz` stands `<collection>.lazymig`, which says what of it was
committed: see `records.py`.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from pymongo.collection import Collection

from lazymig.engines.access import Raw, on_primary
from lazymig.errors import BackupUnreadable
from lazymig.operations.backup.folder import Folder
from lazymig.raw.elements import in_condition, scanned, size_at

__all__ = [
    "DIGEST_SIZE",
    "EMPTY",
    "MISSING",
    "BackupFiles",
    "DataFile",
    "File",
    "batched",
    "by_elements",
    "checked_database",
    "digest",
    "raw_batches",
    "stored_now",
]

T = TypeVar("T")

DIGEST_SIZE = 16
# In place of the digest of a document that is no longer there.
MISSING = bytes(DIGEST_SIZE)

# The gzip member of no document: every dump begins with it, so that it is a gzip stream always.
EMPTY = bytes.fromhex("1f8b08000000000000ff0300") + bytes(8)

# Documents per answer of the server: enough to make a round trip cheap, few enough that reading
# and compressing happen side by side within a chunk.
_BATCH = 2000

# Documents, and their bytes, that are held in memory at once.
_MOST_HELD = 1000
_MOST_BYTES_HELD = 1 << 24

_LONGEST_NAME = 238
_READ_SIZE = 1 << 20
_DATA, _RECORDS = ".bson.gz", ".lazymig"


def digest(document: bytes) -> bytes:
    """The digest by which two states of a document are distinguished."""
    return hashlib.blake2b(document, digest_size=DIGEST_SIZE).digest()


def _whole_documents(piece: bytes) -> int:
    """The byte after the last document that is complete."""
    at, end = 0, len(piece)
    while end - at >= 4:
        size = size_at(piece, at)[0]
        if size < 5:
            raise ValueError("no document is that short")
        if at + size > end:
            break
        at += size
    return at


# Collections


def by_elements(elements: Sequence[bytes]) -> Raw:
    """The query for the documents with these `_id`s, as they are stored."""
    return {"_id": in_condition(elements)}


def raw_batches(collection: Collection[Any], query: Raw, session: Any) -> Any:
    """A cursor over what the primary stores, in batches of concatenated BSON documents."""
    return on_primary(collection).find_raw_batches(query, batch_size=_BATCH, session=session)


def stored_now(collection: Collection[Any], elements: Sequence[bytes]) -> dict[bytes, bytes]:
    """What is stored now of the documents with these `_id`s."""
    with closing(raw_batches(collection, by_elements(elements), None)) as cursor:
        return dict(pair for batch in cursor for pair in scanned(batch))


def batched(
    pairs: Iterable[tuple[bytes, T]], size_of: Callable[[T], int]
) -> Iterator[dict[bytes, T]]:
    """What belongs to some documents, in parts that are bounded in number and in bytes."""
    part: dict[bytes, T] = {}
    size = 0
    for element, each in pairs:
        part[element] = each
        size += size_of(each)
        if len(part) == _MOST_HELD or size >= _MOST_BYTES_HELD:
            yield part
            part, size = {}, 0
    if part:
        yield part


# Names


def checked_database(name: str) -> str:
    """The name of a database, which is the name of its folder.

    :raises ValueError: it is no name of a folder.
    """
    if name in ("", ".", "..") or Path(name).name != name or "\x00" in name:
        raise ValueError(f"database {name!r} is not the name of a folder")
    return name


@dataclass(frozen=True)
class BackupFiles:
    """The names of the files of one collection in a backup; escaped as mongodump does."""

    name: str

    @classmethod
    def of(cls, collection: str) -> BackupFiles:
        """The files for a collection."""
        # mongorestore unescapes a plus sign or not, depending on its version; none is left here.
        name = quote(collection, safe="")
        if len(name) > _LONGEST_NAME:
            hashed = hashlib.sha1(collection.encode(), usedforsecurity=False).digest()
            name = name[:208] + "%24" + base64.urlsafe_b64encode(hashed).rstrip(b"=").decode()
        return cls(name)

    @classmethod
    def within(cls, folder: Folder) -> list[BackupFiles]:
        """The files of all collections that a folder has records or pre-images of, in order."""
        ends = (_RECORDS, _DATA)
        found = {
            name.removesuffix(end) for name in folder.names() for end in ends if name.endswith(end)
        }
        return [cls(name) for name in sorted(found)]

    @property
    def data(self) -> str:
        """The pre-images, as `mongodump --gzip` writes documents."""
        return self.name + _DATA

    @property
    def metadata(self) -> str:
        """Options and indexes, as `mongodump --gzip` writes them."""
        return f"{self.name}.metadata.json.gz"

    @property
    def part(self) -> str:
        """What the metadata are written to first; of a length of its own, for names are limited."""
        return f"{digest(self.name.encode()).hex()}.part"

    @property
    def records(self) -> str:
        """What was committed, and what was left; mongorestore skips this file."""
        return self.name + _RECORDS


# Files


class File:
    """A file of the owner alone that grows, and shrinks to where it was if growing fails."""

    def __init__(self, folder: Folder, name: str, *, writable: bool) -> None:
        self.path = folder.path / name
        self._fd = folder.open(name, writable=writable)
        self.end = os.fstat(self._fd).st_size

    def append(self, data: bytes) -> None:
        """Append some bytes."""
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

    def write(self, at: int, data: bytes) -> None:
        """Write some bytes over those that are there."""
        os.lseek(self._fd, at, os.SEEK_SET)
        if os.write(self._fd, data) < len(data):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self.path))

    def read(self, at: int, size: int) -> bytes:
        """The bytes from one on; less than asked for at the end."""
        os.lseek(self._fd, at, os.SEEK_SET)
        pieces = []
        while size and (piece := os.read(self._fd, size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)

    def measure(self) -> None:
        """Learn how long it is now."""
        self.end = os.fstat(self._fd).st_size

    def truncate(self, size: int) -> None:
        """Cut off what follows after so many bytes."""
        if size < self.end:
            os.ftruncate(self._fd, size)
            self.end = size

    def sync(self) -> None:
        """Have it on disk."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class DataFile(File):
    """The pre-images: gzip members of concatenated BSON documents."""

    def checksum(self, offset: int, length: int) -> int:
        """The CRC-32 of a member, as it is on disk."""
        found = 0
        stop = offset + length
        for at in range(offset, stop, _READ_SIZE):
            found = zlib.crc32(self.read(at, min(_READ_SIZE, stop - at)), found)
        return found

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
                    raise self.damage(offset) from exc
                if whole:
                    yield rest[:whole]
                    rest = rest[whole:]
                compressed = inflate.unconsumed_tail
        if rest or not inflate.eof:
            raise self.damage(offset)

    def damage(self, offset: int) -> BackupUnreadable:
        """The error for a member that is damaged."""
        return BackupUnreadable(
            f"the pre-images from byte {offset} on are damaged; restore another copy of this file",
            path=self.path,
        )
