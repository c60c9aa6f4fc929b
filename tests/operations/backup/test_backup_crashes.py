"""A backup whose process is killed, or whose machine loses power, at any moment: it is restored."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from bson.raw_bson import RawBSONDocument

from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from tests.support.backups import OLD, RENEW, fill, run, stored, transaction

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks /proc for paths")


class Disk:
    """What is done to the files of a folder, in order, and with each the state of MongoDB.

    From it the files are made as they are if all ends after some of this.
    """

    def __init__(self, folder, collection, monkeypatch):
        self.folder = folder
        self.collection = collection
        self.log = []
        self.states = [stored(collection)]
        self._write, self._truncate, self._sync = os.write, os.ftruncate, os.fsync
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.truncate)
        monkeypatch.setattr(os, "fsync", self.sync)

    def note(self, fd, kind, *what):
        path = Path(f"/proc/self/fd/{fd}").readlink()
        # The metadata are written under another name first, and no restore needs them.
        if path.parent == self.folder and path.suffix != ".part":
            self.log.append((len(self.states) - 1, path.name, kind, *what))

    def write(self, fd, data):
        self.note(fd, "write", os.lseek(fd, 0, os.SEEK_CUR), bytes(data))
        return self._write(fd, data)

    def truncate(self, fd, size):
        self.note(fd, "truncate", size)
        return self._truncate(fd, size)

    def sync(self, fd):
        self.note(fd, "sync")
        return self._sync(fd)

    def committed(self):
        """Note that MongoDB holds something else from now on."""
        self.states.append(stored(self.collection))

    def killed(self, count, draw):
        """The files after so many operations, the last of them done in part."""
        files = {}
        for _, name, kind, *what in self.log[: count - 1]:
            _apply(files, name, kind, what)
        _, name, kind, *what = self.log[count - 1]
        if kind == "write" and what[0]:
            # The head is written as a whole; anything else may be broken off.
            what[1] = what[1][: draw.randrange(len(what[1]) + 1)]
        _apply(files, name, kind, what)
        return files

    def powerless(self, count, draw):
        """The files after so many operations, each that was not synced done or not."""
        files = {}
        synced = {}
        for number, (_, name, kind, *_what) in enumerate(self.log[:count]):
            if kind == "sync":
                synced[name] = number
        for number, (_, name, kind, *what) in enumerate(self.log[:count]):
            if number < synced.get(name, -1) or draw.random() < 0.5:
                _apply(files, name, kind, what)
        return files


def _apply(files, name, kind, what):
    content = files.setdefault(name, b"")
    if kind == "write":
        at, data = what
        content = content.ljust(at, b"\x00")
        files[name] = content[:at] + data + content[at + len(data) :]
    elif kind == "truncate":
        files[name] = content[: what[0]]


def written(path, collection, disk):
    """Two runs of several chunks, of which some are abandoned, and one is in doubt."""
    for number in range(2):
        with BackupWriter(path, collection, run_id=number) as writer:
            for first in (0, 4):
                writer.begin("migration01__new")
                with transaction(collection) as session:
                    query = {"_id": {"$gte": first, "$lt": first + 4}}
                    writer.save(query, session)
                    collection.update_many(query, {"$inc": {"n": 1}}, session=session)
                    writer.seal(session)
                    if number == 1 and first == 4:
                        session.abort_transaction()
                if number == 1 and first == 4:
                    writer.abandon()
                    continue
                disk.committed()
                if number == 0:
                    writer.commit()
            writer.begin("migration02__m")
            writer.save({"_id": 8})
            writer.seal()
            writer.commit()


@pytest.mark.parametrize("way", ["killed", "powerless"])
def test_whatever_was_done_last_the_backup_is_restored(database, tmp_path, monkeypatch, way):
    """Every document is as before the runs; so it is if another run has gone on into the backup."""
    fill(database.post, 10)
    before = stored(database.post)
    with monkeypatch.context() as patch:
        disk = Disk(tmp_path / "first" / database.name, database.post, patch)
        written(tmp_path / "first", database.post, disk)
    assert len(disk.log) > 30
    draw = random.Random(way)
    folder = tmp_path / "second" / database.name
    folder.mkdir(parents=True)
    for count in range(1, len(disk.log) + 1):
        for _ in range(1 if way == "killed" else 3):
            state = disk.states[disk.log[count - 1][0]]
            for resumed in (False, True):
                for file in folder.iterdir():
                    file.unlink()
                for name, content in getattr(disk, way)(count, draw).items():
                    (folder / name).write_bytes(content)
                if stored(database.post) != state:
                    database.post.delete_many({})
                    database.post.insert_many([RawBSONDocument(each) for each in state])
                if resumed:
                    run(folder.parent, database.post, OLD, RENEW)
                if resumed or (folder / "post.lazymig").exists():
                    report = restore(folder.parent, database)
                    assert report.conflict_count == 0, count
                assert stored(database.post) == before, count
