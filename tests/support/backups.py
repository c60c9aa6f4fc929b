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

from lazymig.operations.backup import BackupWriter

Raw = dict[str, Any]

OLD: Raw = {"new": {"$exists": False}}
RENEW: Raw = {"$set": {"new": True}}


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
