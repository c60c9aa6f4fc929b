"""A backup whose run is killed, whose disk is full, or whose folder holds something else."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bson
import pytest
from pymongo.errors import OperationFailure

from lazymig import History
from lazymig.errors import BackupFailed, BackupUnreadable
from lazymig.operations.backup import records as backup_records
from lazymig.operations.backup.records import COMMITTED, HEAD_SIZE
from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from tests.support.backups import (
    OLD,
    RENEW,
    attempts,
    change,
    counts,
    dump_of,
    fill,
    read_dump,
    records_of,
    run,
    stored,
    transaction,
)
from tests.support.items import Item, ItemMigration, done
from tests.support.runner import ROOT, command


def left_by_a_kill(path: Path, collection: Any, stage: str) -> None:
    """What the files are when a run is killed at a stage of its second chunk."""
    writer = BackupWriter(path, collection, run_id="killed")
    change(writer, collection, {**OLD, "_id": {"$lt": 10}})
    writer.begin("migration01__new")
    if stage == "begun":
        return
    with transaction(collection) as session:
        writer.save({**OLD, "_id": {"$lt": 20}}, session)
        if stage == "saved":
            session.abort_transaction()
            return
        collection.update_many({**OLD, "_id": {"$lt": 20}}, RENEW, session=session)
        writer.seal(session)
        if stage == "sealed":
            session.abort_transaction()
            return
    if stage == "committed":
        return
    writer.commit()


STAGES = ["begun", "saved", "sealed", "committed", "noted"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_at_any_stage_is_continued(database, tmp_path, stage):
    """The next run's chunks come behind what is certain; the file stays one gzip stream."""
    fill(database.post, 30)
    left_by_a_kill(tmp_path, database.post, stage)
    run(tmp_path, database.post)
    saved = [document["_id"] for document in read_dump(dump_of(tmp_path, database.post))]
    in_doubt = list(range(10, 20)) if stage == "sealed" else []
    assert saved == [*range(10), *in_doubt, *range(10, 30)]
    told = attempts(tmp_path, database.post)
    assert not any(attempt.doubtful for attempt in told)
    assert sum(attempt.count for attempt in told if attempt.mark == COMMITTED) == 30


@pytest.mark.parametrize("torn", ["data", "records"])
def test_files_torn_at_any_byte_are_continued(database, tmp_path, torn):
    """A member or a record of which a kill left only a part does not count yet, and is cut off."""
    fill(database.post, 3)
    dump, records = dump_of(tmp_path, database.post), records_of(tmp_path, database.post)
    run(tmp_path, database.post)
    earlier = {dump: dump.read_bytes(), records: records.read_bytes()}
    database.post.update_many({}, {"$unset": {"new": 1}})
    run(tmp_path, database.post)
    later = {dump: dump.read_bytes(), records: records.read_bytes()}
    # Before both are on disk, the head of the records stays as it was.
    head = earlier[records][:HEAD_SIZE]
    later[records] = head + later[records][HEAD_SIZE:]
    file, beside = (dump, earlier) if torn == "data" else (records, later)
    for cut in range(len(earlier[file]), len(later[file]), 3):
        for path, content in {**beside, file: later[file][:cut]}.items():
            path.write_bytes(content)
        BackupWriter(tmp_path, database.post, run_id=1).close()
        saved = [document["_id"] for document in read_dump(dump)]
        assert saved in ([0, 1, 2], [0, 1, 2, 0, 1, 2])
        run(tmp_path, database.post, {"_id": 1}, {"$inc": {"n": 1}})
        assert [document["_id"] for document in read_dump(dump)] == [*saved, 1]


@pytest.mark.parametrize("left", [0.0, 0.5, 1.0])
def test_power_lost_while_an_attempt_was_abandoned(database, tmp_path, left):
    """It counts no more before it is cut off, whatever of it is left."""
    fill(database.post, 20)
    dump, records = dump_of(tmp_path, database.post), records_of(tmp_path, database.post)
    with BackupWriter(tmp_path, database.post, run_id="killed") as writer:
        change(writer, database.post, {**OLD, "_id": {"$lt": 10}})
        head, size = records.read_bytes()[:HEAD_SIZE], dump.stat().st_size
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            writer.save(OLD, session)
            writer.seal(session)
            session.abort_transaction()
        more = dump.read_bytes()[size:]
        told = records.read_bytes()[HEAD_SIZE:]
    records.write_bytes(head + told)
    dump.write_bytes(dump.read_bytes()[:size] + more[: int(len(more) * left)])
    run(tmp_path, database.post)
    assert [document["_id"] for document in read_dump(dump)] == list(range(20))
    assert counts(restore(tmp_path, database)) == (20, 0, 0)


def test_the_backup_of_another_collection_is_left_alone(database, tmp_path):
    """Files under the name of the collection that are of another one are refused."""
    run(tmp_path, database.post)
    for path in (tmp_path / database.name).iterdir():
        path.rename(path.with_name(path.name.replace("post", "user")))
    with pytest.raises(BackupUnreadable, match="the backup of the collection 'post'"):
        BackupWriter(tmp_path, database.user, run_id=1)
    with pytest.raises(BackupUnreadable, match="the backup of the collection 'post'"):
        restore(tmp_path, database)


def test_a_format_of_the_future_is_refused(database, tmp_path, monkeypatch):
    """Files of another format are neither continued nor restored."""
    with monkeypatch.context() as patch:
        patch.setattr(backup_records, "FORMAT", 3)
        run(tmp_path, database.post)
    with pytest.raises(BackupUnreadable, match="its format is 3, and this version"):
        BackupWriter(tmp_path, database.post, run_id=1)
    with pytest.raises(BackupUnreadable, match="its format is 3, and this version"):
        restore(tmp_path, database)


def test_room_that_was_never_filled_is_no_record(database, tmp_path):
    """Zeros behind the records, as a machine that lost power leaves them, are cut off."""
    database.post.insert_one({"_id": 1})
    run(tmp_path, database.post)
    with records_of(tmp_path, database.post).open("ab") as records:
        records.write(bytes(5000))
    run(tmp_path, database.post)
    assert len(attempts(tmp_path, database.post)) == 1


def test_damage_is_no_torn_tail(database, tmp_path):
    """Records that are damaged in the middle are reported, and nothing is cut off."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    records = records_of(tmp_path, database.post)
    content = bytearray(records.read_bytes())
    for place in (3, 40):
        damaged = content.copy()
        damaged[place] ^= 1
        records.write_bytes(damaged)
        with pytest.raises(BackupUnreadable, match=r"post\.lazymig: the records from byte 0 on"):
            BackupWriter(tmp_path, database.post, run_id=2)
        assert records.read_bytes() == damaged
    records.write_bytes(content)
    dump = dump_of(tmp_path, database.post)
    dump.write_bytes(dump.read_bytes()[:-1])
    with pytest.raises(BackupUnreadable, match="ends at byte"):
        BackupWriter(tmp_path, database.post, run_id=2)


def test_a_foreign_dump_is_left_alone(database, tmp_path):
    """A folder that mongodump has written is refused, and its files are not touched."""
    dump = dump_of(tmp_path, database.post)
    dump.parent.mkdir()
    dump.write_bytes(gzip.compress(bson.encode({"_id": 1})))
    for _ in range(2):
        with pytest.raises(BackupUnreadable, match="was not written by lazymig"):
            BackupWriter(tmp_path, database.post, run_id=1)
    assert read_dump(dump) == [{"_id": 1}]


def test_an_abandoned_attempt_leaves_nothing(database, tmp_path):
    """What was not committed is taken out of both files again."""
    fill(database.post, 3)
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        change(writer, database.post, {"_id": 0})
        before = [
            path.read_bytes() for path in sorted(dump_of(tmp_path, database.post).parent.iterdir())
        ]
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            writer.save({}, session)
            writer.seal(session)
            session.abort_transaction()
        writer.abandon()
        after = [
            path.read_bytes() for path in sorted(dump_of(tmp_path, database.post).parent.iterdir())
        ]
        assert after == before
        change(writer, database.post)
    assert [d["_id"] for d in read_dump(dump_of(tmp_path, database.post))] == [0, 1, 2]


def test_another_process_is_kept_out(database, tmp_path, server_uri):
    """Two processes never write one backup: the second is told so, and what to do."""
    script = (
        "import sys; from pymongo import MongoClient\n"
        "from lazymig.operations.backup.writer import BackupWriter\n"
        "client = MongoClient(sys.argv[1])\n"
        "BackupWriter(sys.argv[3], client[sys.argv[2]].post, run_id=1)\n"
        "print('open', flush=True); sys.stdin.read(); client.close()\n"
    )
    command = [sys.executable, "-c", script, server_uri, database.name, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"open\n"
        with pytest.raises(BackupFailed, match="another process uses it; wait for its end"):
            BackupWriter(tmp_path, database.post, run_id=2)
        other.kill()
    BackupWriter(tmp_path, database.post, run_id=2).close()


def full_disk(monkeypatch, call: str, calls_before: int, part: int = 0) -> None:
    """Let the disk be full from a call of `os.write` or `os.fsync` on; a part is still written."""
    real = getattr(os, call)
    left = [calls_before]

    def refuse(fd, *args):
        left[0] -= 1
        if left[0] >= 0:
            return real(fd, *args)
        if part and left[0] == -1:
            return real(fd, bytes(args[0])[:part])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)


@pytest.mark.parametrize(
    ("call", "calls_before", "part"),
    [("write", 0, 0), ("write", 0, 7), ("write", 1, 0), ("write", 1, 9), ("fsync", 0, 0)],
)
def test_a_full_disk_stops_before_the_write(
    database, tmp_path, monkeypatch, call, calls_before, part
):
    """The error names collection, path and remedy; the files stay as they were, and go on."""
    fill(database.post, 3)
    with BackupWriter(tmp_path, database.post, run_id="r1") as writer:
        change(writer, database.post, {"_id": 0})
        folder = dump_of(tmp_path, database.post).parent
        before = {path: path.read_bytes() for path in folder.iterdir()}
        with monkeypatch.context() as patch, transaction(database.post) as session:
            writer.begin("migration01__new")
            full_disk(patch, call, calls_before, part)
            with pytest.raises(BackupFailed, match="No space left on device; make room") as raised:
                writer.save(OLD, session)
            writer.abandon()
        assert {path: path.read_bytes() for path in folder.iterdir()} == before
        assert (raised.value.path, raised.value.run) == (str(tmp_path), "r1")
        assert raised.value.collection == database.post.full_name
        assert raised.value.collection in str(raised.value)
        assert change(writer, database.post) == 2
    assert [d["_id"] for d in read_dump(dump_of(tmp_path, database.post))] == [0, 1, 2]


def test_a_full_disk_at_the_seal_stops_the_commit(database, tmp_path, monkeypatch):
    """Where what was left cannot be recorded, the transaction is not to be committed."""
    database.post.insert_one({"_id": 1})
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            writer.save({}, session)
            with monkeypatch.context() as patch:
                full_disk(patch, "write", 0, part=20)
                with pytest.raises(BackupFailed):
                    writer.seal(session)
            session.abort_transaction()
        writer.abandon()
        assert change(writer, database.post) == 1
    assert len(read_dump(dump_of(tmp_path, database.post))) == 1


def test_a_full_disk_takes_no_commit_back(database, tmp_path, monkeypatch):
    """The transaction is committed: `commit` does not fail, and the doubt is settled later."""
    database.post.insert_one({"_id": 1})
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        with transaction(database.post) as session:
            writer.save({}, session)
            database.post.update_one({}, RENEW, session=session)
            writer.seal(session)
        with monkeypatch.context() as patch:
            full_disk(patch, "write", 0)
            writer.commit()
    assert [each.doubtful for each in attempts(tmp_path, database.post)] == [True]
    BackupWriter(tmp_path, database.post, run_id=2).close()
    assert [each.doubtful for each in attempts(tmp_path, database.post)] == [False]


# A runner in a process whose files cannot grow beyond a size: the kernel refuses it in the middle
# of a write, as it does on a full disk.
LIMITED = """
import resource, signal, sys
from tests.support.runner import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
main(*sys.argv[2:])
"""


@pytest.mark.skipif(os.name != "posix", reason="only there a process can limit its files")
@pytest.mark.parametrize(
    ("payload", "limit", "full"),
    [(200, 100_000, dump_of), (0, 8_000, records_of)],
    ids=["at the pre-images", "at the seal"],
)
def test_a_run_whose_disk_is_full(server_uri, mongoengine_db, tmp_path, payload, limit, full):
    """It writes no chunk that is not backed up; with room it is resumed, and undone as a whole."""
    items = mongoengine_db.item
    items.insert_many([{"_id": n, "v": 1, "n": 0, "s": os.urandom(payload)} for n in range(900)])
    before = stored(items)
    path = tmp_path / "backup"
    _, _, _, *arguments = command(
        server_uri, mongoengine_db.name, "none", 1, chunk_size=300, backup=str(path)
    )
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )
    assert ended.returncode == 1
    last_line = ended.stderr.rstrip().splitlines()[-1]
    assert last_line.startswith("lazymig.errors.BackupFailed: ")
    assert os.strerror(errno.EFBIG) in last_line
    assert items.count_documents({"v": 2}) == 300
    assert stored(items)[300:] == before[300:]
    # The disk was full at this file, and what did not fit was taken back.
    assert 0.5 * limit < full(path, items).stat().st_size < limit
    (broken,) = History(mongoengine_db).runs()
    assert (broken.state, broken.rules[0].done) == ("failed", 300)
    report = ItemMigration(Item).migrate_all(chunk_size=300, backup=path, resume=True)
    assert (report.run_id, report.complete) == (broken.id, True)
    assert list(items.find({}, {"s": 0}).sort("_id")) == done(900)
    assert counts(restore(path, mongoengine_db)) == (900, 0, 0)
    assert stored(items) == before


def test_a_folder_that_cannot_be_made(database, tmp_path):
    """A path below a file is reported as the backup's fault."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BackupFailed, match="cannot be written"):
        BackupWriter(tmp_path / "file", database.post, run_id=1)


def test_a_failed_read_leaves_no_trace(database, tmp_path):
    """If MongoDB refuses the query, the files are as before."""
    database.post.insert_one({"_id": 1})
    with BackupWriter(tmp_path, database.post, run_id=1) as writer:
        writer.begin("migration01__new")
        size = dump_of(tmp_path, database.post).stat().st_size
        with pytest.raises(OperationFailure):
            writer.save({"$nope": 1})
        assert dump_of(tmp_path, database.post).stat().st_size == size
