"""The options and indexes of a collection in its backup, for `mongorestore`."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Callable
from typing import Any, TypeVar

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.json_util import CANONICAL_JSON_OPTIONS, dumps
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import Raw
from lazymig.errors import BackupUnreadable
from lazymig.operations.backup.files import BackupFiles, File
from lazymig.operations.backup.folder import Folder

__all__ = ["Metadata"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

_UNAUTHORIZED = 13


class Metadata:
    """The file of a collection's options and indexes, as `mongodump --gzip` writes it.

    :param folder: where the file is, or is to be.
    """

    def __init__(self, folder: Folder, files: BackupFiles, collection: Collection[Any]) -> None:
        self._folder = folder
        self._files = files
        self._collection = collection

    def check(self, recorded: Raw | None) -> None:
        """Look whether the file is as it was recorded, if it is there.

        :raises BackupUnreadable: it is damaged.
        """
        if recorded is None or not self._folder.holds(self._files.metadata):
            return
        if self._state() != recorded:
            raise BackupUnreadable(
                "it is damaged; put another copy of it there, or delete it: then it is written "
                "anew, and no document is lost",
                path=self._folder.path / self._files.metadata,
            )

    def written(self) -> Raw:
        """Write the file if it is not there; gives what is to be recorded of it."""
        if not self._folder.holds(self._files.metadata):
            text = dumps(
                self._content(), json_options=CANONICAL_JSON_OPTIONS, separators=(",", ":")
            )
            # Under another name first: a kill leaves no half of it.
            part = File(self._folder, self._files.part, writable=True)
            try:
                part.truncate(0)
                part.append(gzip.compress(text.encode(), mtime=0))
                part.sync()
            finally:
                part.close()
            self._folder.replace(self._files.metadata, by=self._files.part)
        return self._state()

    def _state(self) -> dict[str, int]:
        file = File(self._folder, self._files.metadata, writable=True)
        try:
            return {"length": file.end, "checksum": zlib.crc32(file.read(0, file.end))}
        finally:
            file.close()

    def _content(self) -> dict[str, Any]:
        entry = self._permitted("listCollections", "options", self._entry) or {}
        metadata: dict[str, Any] = {}
        if entry.get("options"):
            metadata["options"] = entry["options"]
        metadata["indexes"] = self._permitted("listIndexes", "indexes", self._indexes) or []
        if "uuid" in entry.get("info", {}):
            metadata["uuid"] = bytes(entry["info"]["uuid"]).hex()
        metadata["collectionName"] = self._collection.name
        metadata["type"] = entry.get("type", "collection")
        return metadata

    def _entry(self) -> dict[str, Any]:
        database = self._collection.database.with_options(codec_options=DEFAULT_CODEC_OPTIONS)
        entries = database.list_collections(filter={"name": self._collection.name})
        return dict(next(iter(entries), {}))

    def _indexes(self) -> list[Any]:
        return list(self._collection.list_indexes())

    def _permitted(self, action: str, what: str, ask: Callable[[], T]) -> T | None:
        """What is asked for; `None`, and a warning, where the user may not ask."""
        try:
            return ask()
        except OperationFailure as exc:
            if exc.code != _UNAUTHORIZED:
                raise
            logger.warning(
                "%s: the backup goes without the collection's %s, for the user has no right to "
                "%s; restore() needs none of them, mongorestore would make the collection without",
                self._collection.full_name,
                what,
                action,
            )
            return None
