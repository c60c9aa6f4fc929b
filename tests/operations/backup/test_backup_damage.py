"""Backups of which a file was cut, or a single bit changed: an error, or the right restore."""

from __future__ import annotations

import random

import pytest
from bson.raw_bson import RawBSONDocument

from lazymig.errors import BackupUnreadable
from lazymig.operations.backup.restore import restore
from lazymig.operations.backup.writer import BackupWriter
from tests.support.backups import (
    OLD,
    RENEW,
    change,
    dump_of,
    fill,
    records_of,
    run,
    stored,
    transaction,
)

# Of each damage, to a backup that is finished and to one of a killed run.
ROUNDS = 100


def backed_up(path, database, *, killed):
    """Two collections with several chunks, rules and runs behind them; gives them as they were.

    :param killed: the last run of one was killed before it noted that its chunk is committed, while
        it wrote the next.
    """
    collections = [database.post, database.user]
    for collection in collections:
        fill(collection, 12)
    before = [stored(collection) for collection in collections]
    for collection in collections:
        with BackupWriter(path, collection, run_id=1) as writer:
            change(writer, collection, {**OLD, "_id": {"$lt": 6}})
            change(writer, collection, OLD)
        with BackupWriter(path, collection, run_id=2) as writer:
            writer.begin("migration02__n")
            writer.save({"_id": {"$lt": 3}})
            collection.update_many({"_id": {"$lt": 3}}, {"$inc": {"n": 1}})
            writer.seal()
            writer.commit()
    if killed:
        writer = BackupWriter(path, database.post, run_id=3)
        writer.begin("migration03__m")
        with transaction(database.post) as session:
            writer.save({}, session)
            database.post.update_many({}, {"$inc": {"m": 1}}, session=session)
            writer.seal(session)
        for file in (dump_of, records_of):
            torn = file(path, database.post)
            torn.write_bytes(torn.read_bytes() + b"\x1f\x8b\x08 torn")
    return before


def cut(content, draw):
    """The first bytes alone."""
    return content[: draw.randrange(len(content))]


def flipped(content, draw):
    """The bytes with one bit changed."""
    place = draw.randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


class Scene:
    """A backup and the collections behind it, made again before each round."""

    def __init__(self, path, database, *, killed):
        self.path = path / "backup"
        self.database = database
        self.collections = [database.post, database.user]
        self.before = backed_up(self.path, database, killed=killed)
        self.after = self.stored()
        self.files = {file: file.read_bytes() for file in sorted(self.path.rglob("*.*"))}

    def stored(self):
        return [stored(collection) for collection in self.collections]

    def content(self):
        return {file: file.read_bytes() for file in sorted(self.path.rglob("*.*"))}

    def reset(self):
        for file in self.path.rglob("*.*"):
            file.unlink()
        for file, content in self.files.items():
            file.write_bytes(content)
        if self.stored() != self.after:
            for collection, documents in zip(self.collections, self.after, strict=True):
                collection.delete_many({})
                collection.insert_many([RawBSONDocument(document) for document in documents])


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("damage", [cut, flipped])
def test_a_damaged_file_is_an_error_or_does_not_matter(database, tmp_path, damage, killed):
    """Nothing is put back from a damaged backup, and nothing is written into it."""
    draw = random.Random(f"{damage.__name__} {killed}")
    scene = Scene(tmp_path, database, killed=killed)
    outcomes = {"error": 0, "right": 0}
    for number in range(ROUNDS):
        file = draw.choice(list(scene.files))
        damaged = damage(scene.files[file], draw)
        file.write_bytes(damaged)
        files = scene.content()
        try:
            report = restore(scene.path, database)
        except BackupUnreadable:
            outcomes["error"] += 1
            assert scene.stored() == scene.after, (number, file)
        else:
            outcomes["right"] += 1
            assert report.conflict_count == 0, (number, file)
            assert scene.stored() == scene.before, (number, file)
        assert scene.content() == files
        scene.reset()
        file.write_bytes(damaged)
        refused = continued(scene, files)
        if not refused:
            assert restore(scene.path, database).conflict_count == 0, (number, file)
            assert scene.stored() == scene.before, (number, file)
        scene.reset()
    assert outcomes["error"] > ROUNDS / 4


def continued(scene, files):
    """Let another run write into the backup; return whether it was refused, and left it alone."""
    for collection in scene.collections:
        try:
            run(scene.path, collection, {}, {"$set": {"more": 1}})
        except BackupUnreadable:
            others = {file for file in files if not file.name.startswith(collection.name)}
            now = scene.content()
            assert {file: now[file] for file in files if file not in others} == {
                file: files[file] for file in files if file not in others
            }
            return True
    return False


def test_a_lost_sidecar_is_an_error(database, tmp_path):
    """Without its records a dump is neither put back in part, nor continued."""
    scene = Scene(tmp_path, database, killed=False)
    records_of(scene.path, database.user).unlink()
    files = scene.content()
    with pytest.raises(BackupUnreadable, match=r"user\.bson\.gz: user\.lazymig is missing"):
        restore(scene.path, database)
    with pytest.raises(BackupUnreadable, match="was not written by lazymig, or its records"):
        run(scene.path, database.user)
    assert scene.content() == files
    assert scene.stored() == scene.after


def test_the_damage_of_one_collection_keeps_all_as_they_are(database, tmp_path):
    """All files are looked at before the first document is put back."""
    scene = Scene(tmp_path, database, killed=False)
    dump = dump_of(scene.path, database.user)
    dump.write_bytes(flipped(dump.read_bytes(), random.Random(1)))
    with pytest.raises(BackupUnreadable, match=r"user\.bson\.gz"):
        restore(scene.path, database)
    assert scene.stored() == scene.after


def test_damaged_metadata_are_told_and_written_anew(database, tmp_path):
    """The options and indexes are no document's: a restore goes without, a run says what to do."""
    scene = Scene(tmp_path, database, killed=False)
    metadata = scene.path / database.name / "post.metadata.json.gz"
    content = metadata.read_bytes()
    metadata.write_bytes(content[:-1])
    with pytest.raises(BackupUnreadable, match="it is damaged; put another copy of it there, or"):
        run(scene.path, database.post)
    metadata.unlink()
    run(scene.path, database.post, {}, RENEW)
    assert metadata.read_bytes() == content
    assert restore(scene.path, database).conflict_count == 0
    assert scene.stored() == scene.before


@pytest.mark.parametrize("content", [b"", bytes(20), bytes(64)])
def test_an_early_kill_leaves_nothing_to_restore(database, tmp_path, content):
    """What is left of the head, without a dump, is that of a run that had just begun."""
    fill(database.post, 3)
    before = stored(database.post)
    records = records_of(tmp_path, database.post)
    records.parent.mkdir()
    records.write_bytes(content)
    assert restore(tmp_path, database).collections == ()
    run(tmp_path, database.post)
    assert restore(tmp_path, database).restored == 3
    assert stored(database.post) == before


def test_a_dump_that_took_the_place_is_left_alone(database, tmp_path):
    """Where a run was killed before it made its dump, one that is there is somebody else's."""
    run(tmp_path, database.post)
    dump, records = dump_of(tmp_path, database.post), records_of(tmp_path, database.post)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lazymig.operations.backup.writer.DataFile", None)
        dump.unlink()
        records.unlink()
        with pytest.raises(TypeError):
            BackupWriter(tmp_path, database.post, run_id=1)
    dump.write_bytes(b"somebody else's documents")
    for use in (restore, lambda path, _: BackupWriter(path, database.post, run_id=1)):
        with pytest.raises(BackupUnreadable):
            use(tmp_path, database)
    assert dump.read_bytes() == b"somebody else's documents"
