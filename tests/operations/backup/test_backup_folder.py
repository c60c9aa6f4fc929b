"""A backup in a folder that somebody else has prepared: no link is followed, nobody looks in."""

from __future__ import annotations

import os
import stat

import pytest

from lazymig.errors import BackupFailed, BackupUnreadable
from lazymig.operations.backup.restore import restore
from tests.support.backups import counts, dump_of, fill, records_of, run, stored

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and modes of POSIX")


def other_files(path, database):
    """The files of a backup of the collection `post`, by what they are."""
    folder = path / database.name
    return [
        records_of(path, database.post),
        dump_of(path, database.post),
        folder / "post.metadata.json.gz",
    ]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_file_is_not_followed(database, tmp_path, number, there):
    """What it leads to is neither written nor read, nor made where there is nothing."""
    fill(database.post, 3)
    before = stored(database.post)
    victim = tmp_path / "victim"
    if there:
        victim.write_bytes(b"precious")
    link = other_files(tmp_path, database)[number]
    link.parent.mkdir()
    link.symlink_to(victim)
    with pytest.raises((BackupFailed, BackupUnreadable)):
        run(tmp_path, database.post)
    assert victim.read_bytes() == b"precious" if there else not victim.exists()
    assert stored(database.post) == before


@pytest.mark.parametrize("number", range(2))
def test_a_file_that_became_a_link_is_not_read(database, tmp_path, number):
    """A restore says so, also where the link leads to the file itself."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    after = stored(database.post)
    file = other_files(tmp_path, database)[number]
    elsewhere = tmp_path / "elsewhere"
    file.rename(elsewhere)
    file.symlink_to(elsewhere)
    with pytest.raises(BackupUnreadable, match="it is a link, which is not followed"):
        restore(tmp_path, database)
    assert stored(database.post) == after


def test_a_link_in_place_of_the_folder_is_not_followed(database, tmp_path):
    """Nothing is written where it leads; the folder that the user names may be reached by one."""
    fill(database.post, 3)
    before = stored(database.post)
    (tmp_path / "victim").mkdir()
    backup = tmp_path / "backup"
    backup.mkdir()
    (backup / database.name).symlink_to(tmp_path / "victim")
    with pytest.raises(BackupFailed, match="it is a link, which is not followed"):
        run(backup, database.post)
    with pytest.raises(BackupUnreadable, match="it is a link, which is not followed"):
        restore(backup, database)
    assert list((tmp_path / "victim").iterdir()) == []
    assert stored(database.post) == before
    (backup / database.name).unlink()
    (tmp_path / "link").symlink_to(backup)
    run(tmp_path / "link", database.post)
    assert counts(restore(tmp_path / "link", database)) == (3, 0, 0)


def test_a_file_of_two_folders_is_not_written(database, tmp_path):
    """A hard link would let the backup be read by another name."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    os.link(dump_of(tmp_path, database.post), tmp_path / "other name")
    with pytest.raises(BackupFailed, match=r"post\.bson\.gz cannot be written: it is in another"):
        run(tmp_path, database.post, {}, {"$inc": {"n": 1}})
    assert counts(restore(tmp_path, database)) == (3, 0, 0)


def test_what_is_no_file_is_not_waited_for(database, tmp_path):
    """A pipe in the place of a file is refused at once."""
    dump = dump_of(tmp_path, database.post)
    dump.parent.mkdir()
    os.mkfifo(records_of(tmp_path, database.post))
    with pytest.raises(BackupFailed, match="it is no regular file"):
        run(tmp_path, database.post)


def test_a_prepared_folder_becomes_the_owners_alone(database, tmp_path):
    """A folder and files that others may read are closed to them when they are written."""
    fill(database.post, 3)
    run(tmp_path, database.post)
    folder = tmp_path / database.name
    for path in (folder, *folder.iterdir()):
        path.chmod(0o777)
    run(tmp_path, database.post, {}, {"$inc": {"n": 1}})
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_of_another_user_is_refused(database, tmp_path, monkeypatch):
    """Who cannot close it to its owner writes nothing into it."""
    folder = tmp_path / database.name
    folder.mkdir(0o777)
    folder.chmod(0o777)

    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(BackupFailed, match="it belongs to another user"):
        run(tmp_path, database.post)
    assert list(folder.iterdir()) == []
