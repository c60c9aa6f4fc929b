"""Chunks backed up as a run does it, and backups read without lazymig."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from lazymig.operations.backup.folder import Folder
from lazymig.operations.backup.records import RecordFile
from lazymig.operations.backup.restore import RestoreReport
from lazymig.operations.backup.writer import BackupWriter

Raw = dict[str, Any]

OLD: Raw = {"new": {"$exists": False}}
RENEW: Raw = {"$set": {"new": True}}

# The reasons of conflicts.
CHANGED = "it was changed since"
BETWEEN = "it was changed by others between two changes of the backup"
DELETED = "it was deleted since"


@contextmanager
def transaction(collection: Any) -> Iterator[Any]:
    """A session in a transaction, committed at the end."""
    client = collection.database.client
    with client.start_session() as session, session.start_transaction():
        yield session


def change(
    writer: BackupWriter,
    collection: Any,
    query: Raw = OLD,
    update: Raw | Callable[[Any], Any] = RENEW,
    rule: str = "migration01__new",
) -> int:
    """Back up and change what a query finds, in one transaction; gives what `save` gave.

    :param update: an update, or a function that is given the session and writes.
    """
    writer.begin(rule)
    with transaction(collection) as session:
        count = writer.save(query, session)
        if callable(update):
            update(session)
        else:
            collection.update_many(query, update, session=session)
        writer.seal(session)
    writer.commit()
    return count


def run(path: Path, collection: Any, query: Raw = OLD, update: Raw = RENEW, **options: Any) -> None:
    """A run of one chunk."""
    with BackupWriter(path, collection, run_id="run", **options) as writer:
        change(writer, collection, query, update)


def read_dump(file: Path) -> list[Raw]:
    """The documents of a dump, as anybody reads them."""
    with gzip.open(file) as stream:
        return list(bson.decode_file_iter(stream))


def stored(collection: Any) -> list[bytes]:
    """The documents of a collection, byte for byte, in the order of their `_id`s."""
    raw = collection.with_options(codec_options=CodecOptions(document_class=RawBSONDocument))
    return [document.raw for document in raw.find().sort("_id", 1)]


def dump_of(path: Path, collection: Any) -> Path:
    """The dump of a collection."""
    return path / collection.database.name / f"{collection.name}.bson.gz"


def records_of(path: Path, collection: Any) -> Path:
    """The records beside it."""
    return path / collection.database.name / f"{collection.name}.lazymig"


def fill(collection: Any, count: int, **fields: Any) -> None:
    """Insert documents that are numbered from 0."""
    collection.insert_many([{"_id": i, "text": f"text {i}" * 20, **fields} for i in range(count)])


def attempts(path: Path, collection: Any) -> list[Any]:
    """What the records tell."""
    folder = Folder(path, collection.database.name, writable=False)
    file = RecordFile(folder, records_of(path, collection).name, writable=False)
    try:
        file.read_head()
        return list(file.attempts())
    finally:
        file.close()
        folder.close()


def counts(report: RestoreReport) -> tuple[int, int, int]:
    """Documents restored, unchanged, and in conflict."""
    return report.restored, report.unchanged, report.conflict_count


def reasons(report: RestoreReport) -> dict[Any, str]:
    """Why documents are in conflict, by their `_id`s."""
    return {conflict.document_id: conflict.reason for conflict in report.conflicts}
