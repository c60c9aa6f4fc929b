"""The folder that a backup of a database is in: of its owner alone, and no link in it is followed.

Somebody else may have made it, and have put a link into it that leads what is written elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["Folder"]

# Where files are reached by the folder itself, a link that is put in its place leads nowhere.
_BY_FOLDER = os.open in os.supports_dir_fd and os.rename in os.supports_dir_fd
_SAFE = (
    getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    # A pipe that waits for its other end would keep the run waiting.
    | getattr(os, "O_NONBLOCK", 0)
)


class Folder:
    """The folder of a database within a backup, opened; it may be no link.

    `path` may lead over links, for the user has named it.

    :param path: the folder of the backup.
    :param name: the name of the database.
    :param writable: make what is missing, and let nobody but the owner in.
    :raises OSError: it is not there, no folder, a link, or somebody else's.
    """

    def __init__(self, path: Path, name: str, *, writable: bool) -> None:
        self.path = path / name
        self._fd = -1
        if writable:
            for missing in reversed([each for each in (path, *path.parents) if not each.exists()]):
                missing.mkdir(0o700, exist_ok=True)
        if not _BY_FOLDER:
            if writable:
                self.path.mkdir(0o700, exist_ok=True)
            self._check(self.path.lstat())
            return
        parent = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if writable:
                try:
                    os.mkdir(name, 0o700, dir_fd=parent)
                except FileExistsError:
                    pass
                else:
                    os.fsync(parent)
            self._check(os.stat(name, dir_fd=parent, follow_symlinks=False))
            self._fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _SAFE, dir_fd=parent)
        finally:
            os.close(parent)
        if writable:
            try:
                _keep_to_owner(self._fd, 0o700, str(self.path))
            except OSError:
                self.close()
                raise

    def _check(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(self.path))
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.path))

    def close(self) -> None:
        """Close it; files that were opened stay open."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def open(self, name: str, *, writable: bool) -> int:
        """Open a file, which is made with mode 0600, or gets it; gives its descriptor.

        :raises OSError: it cannot be opened, or is a link or no regular file.
        """
        flags = (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY) | _SAFE
        place = str(self.path / name)
        try:
            fd = os.open(self._at(name), flags, 0o600, **self._within)
        except OSError as exc:
            if exc.errno in (errno.ELOOP, errno.EMLINK):
                raise OSError(exc.errno, "it is a link, which is not followed", place) from exc
            raise OSError(exc.errno, exc.strerror, place) from exc
        try:
            _check_file(os.fstat(fd), place, writable=writable)
            if writable and _BY_FOLDER:
                _keep_to_owner(fd, 0o600, place)
        except OSError:
            os.close(fd)
            raise
        return fd

    def holds(self, name: str) -> bool:
        """Return whether there is a file, or anything else, of this name."""
        return self.identity(name) is not None

    def identity(self, name: str) -> tuple[int, int] | None:
        """What distinguishes a file from all others; `None` where there is none."""
        try:
            found = os.lstat(self._at(name), **self._within)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def names(self) -> list[str]:
        """What it holds, in order."""
        with os.scandir(self._fd if _BY_FOLDER else self.path) as found:
            return sorted(each.name for each in found)

    def replace(self, name: str, by: str) -> None:
        """Let one file take the place of another."""
        if _BY_FOLDER:
            os.replace(by, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
        else:
            (self.path / by).replace(self.path / name)

    def sync(self) -> None:
        """Have the names of new files on disk, too."""
        if _BY_FOLDER:
            os.fsync(self._fd)

    def _at(self, name: str) -> str:
        return name if _BY_FOLDER else str(self.path / name)

    @property
    def _within(self) -> dict[str, int]:
        return {"dir_fd": self._fd} if _BY_FOLDER else {}


def _check_file(found: os.stat_result, place: str, *, writable: bool) -> None:
    """Refuse what is no file, or would be written in another folder, too."""
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", place)
    if writable and found.st_nlink > 1:
        raise OSError(errno.EMLINK, "it is in another folder, too (a hard link)", place)


def _keep_to_owner(fd: int, mode: int, place: str) -> None:
    """Let nobody but the owner in, where the file system knows owners."""
    found = os.fstat(fd)
    if stat.S_IMODE(found.st_mode) == mode:
        return
    try:
        os.fchmod(fd, mode)
    except OSError as exc:
        if found.st_uid != os.geteuid():
            text = "it belongs to another user, who could read what is written"
            raise OSError(exc.errno, text, place) from exc
