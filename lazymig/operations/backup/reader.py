"""The backup of a collection, opened to be put back, and found sound as a whole before that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from lazymig.engines.access import Raw
from lazymig.errors import BackupUnreadable
from lazymig.operations.backup.files import BackupFiles, DataFile
from lazymig.operations.backup.folder import Folder
from lazymig.operations.backup.records import ABORTED, HEAD_SIZE, ChunkAttempt, RecordFile
from lazymig.raw.elements import scanned

__all__ = ["BackupReader", "check_backup", "collections_in", "opened_backup"]


class BackupReader(AbstractContextManager["BackupReader"]):
    """The backup of one collection; nobody writes it while it is open.

    `opening` is what the run has noted of the collection; empty where nothing was backed up.

    :raises BackupUnreadable: it is damaged, no backup of lazymig, or being written.
    """

    def __init__(self, folder: Folder, files: BackupFiles) -> None:
        self.path = folder.path / files.records
        with ExitStack() as opened, self._reported():
            if not folder.holds(files.records):
                raise BackupUnreadable(
                    f"{files.records} is missing, without which nobody knows what of this dump was "
                    "committed; put it there, or take the dump away if it is not lazymig's",
                    path=folder.path / files.data,
                )
            self._records = RecordFile(folder, files.records, writable=False)
            opened.callback(self._records.close)
            self._records.lock(shared=True)
            holds_data = folder.holds(files.data)
            if self._records.end > HEAD_SIZE or holds_data:
                # Before there is a dump, nothing is lost with what a kill has left of a head.
                self._records.read_head()
                self._data = DataFile(folder, files.data, writable=False)
                opened.callback(self._data.close)
                self._records.check(self._data)
            self.opening: Raw = self._records.opening
            collection = self.opening.get("collection")
            if collection is not None and BackupFiles.of(collection) != files:
                raise BackupUnreadable(
                    f"it is the backup of the collection {collection!r}, whose files have other "
                    "names; give them back the names that they had",
                    path=self.path,
                )
            self._opened = opened.pop_all()

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    @contextmanager
    def _reported(self) -> Iterator[None]:
        """Report what the file system refuses."""
        try:
            yield
        except BlockingIOError as exc:
            raise BackupUnreadable(
                f"{exc.strerror}; stop that run, or wait for its end", path=self.path
            ) from exc
        except OSError as exc:
            raise BackupUnreadable(
                f"{exc.filename or 'it'} cannot be read: {exc.strerror}; name a complete backup",
                path=self.path,
            ) from exc

    def attempts(self) -> Iterator[ChunkAttempt]:
        """The attempts that have, or may have, changed something."""
        if self._records.head.data_end:
            yield from (each for each in self._records.attempts() if each.mark != ABORTED)

    def pre_images(self, attempt: ChunkAttempt) -> Iterator[tuple[bytes, bytes]]:
        """The documents that an attempt has found, each with its element `_id`."""
        for member in attempt.members:
            for batch in self._data.batches(member.offset, member.length):
                yield from scanned(batch)


@contextmanager
def opened_backup(path: Path | str, database: str) -> Iterator[tuple[Folder, list[BackupFiles]]]:
    """The folder of a database in a backup, and what is in it: all of it was found sound.

    :raises BackupUnreadable: there is none, or something of it is damaged, or being written.
    """
    try:
        folder = Folder(Path(path), database, writable=False)
    except FileNotFoundError:
        raise _no_backup(path, database) from None
    except OSError as exc:
        raise BackupUnreadable(
            f"{exc.filename or 'it'} cannot be read: {exc.strerror}; name a complete backup",
            path=path,
        ) from exc
    try:
        found = BackupFiles.within(folder)
        if not found:
            raise _no_backup(path, database)
        for files in found:
            with BackupReader(folder, files):
                pass
        yield folder, found
    finally:
        folder.close()


def check_backup(path: Path | str, database: str) -> None:
    """Read the whole backup of a database, and compare it with its checksums.

    :raises BackupUnreadable: there is none, or something of it is damaged, or being written.
    """
    with opened_backup(path, database):
        pass


def collections_in(path: Path | str, database: str) -> list[str]:
    """The names of the collections that a backup of a database has documents of.

    :raises BackupUnreadable: there is none, or something of it is damaged, or being written.
    """
    names = []
    with opened_backup(path, database) as (folder, found):
        for files in found:
            with BackupReader(folder, files) as reader:
                names.append(str(reader.opening.get("collection", files.name)))
    return names


def _no_backup(path: Any, database: str) -> BackupUnreadable:
    return BackupUnreadable(
        f"there is no backup of lazymig of the database {database!r}; name the folder that was "
        "given as backup, and the database that was migrated",
        path=path,
    )
