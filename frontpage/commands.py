"""The commands of the README with the output that they really give."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from lazymig.testing.mongod import EmbeddedServer

__all__ = ["COMMANDS", "console", "outputs", "replaced"]

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("status",),
    ("migrate", "--yes", "--backup", "before"),
    ("finish",),
)
OLD, NEW = 1_200, 34
# The block that is made here begins with the first of these lines, and is closed by the second.
_BLOCK = re.compile(r"(?<=```console\n)\$ lazymig status\n.*?(?=```\n)", re.DOTALL)
_MODELS = re.compile(r"```python\n(from mongoengine import .*?)```\n", re.DOTALL)


def outputs(page: str) -> list[str]:
    """What the commands print, one after the other, over the models of the page.

    :param page: the README; its first block of models is the module that is worked on.
    :raises ValueError: it has no such block.
    """
    models = _MODELS.search(page)
    if models is None:
        raise ValueError("the page has no block of models")
    with (
        tempfile.TemporaryDirectory(prefix="lazymig-frontpage-") as name,
        EmbeddedServer() as server,
    ):
        folder = Path(name)
        (folder / "shop.py").write_text(models[1], encoding="utf-8")
        (folder / "lazymig.toml").write_text('models = ["shop"]\n', encoding="utf-8")
        client: MongoClient[dict[str, Any]]
        with MongoClient(server.uri) as client:
            old = [{"name": f"User {number}"} for number in range(OLD)]
            new = [{"name": f"New user {number}", "enabled": True} for number in range(NEW)]
            client["shop"]["user"].insert_many([*old, *new])
        uri = server.uri.replace("/?", "/shop?")
        return [_run(folder, uri, *words) for words in COMMANDS]


def _run(folder: Path, uri: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lazymig", *words],
        capture_output=True,
        check=True,
        cwd=folder,
        encoding="utf-8",
        env={**os.environ, "LAZYMIG_URI": uri, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=300,
    )
    return done.stdout


def console(printed: Sequence[str]) -> str:
    """The commands and what they print, as on a terminal."""
    parts = [
        f"$ lazymig {' '.join(words)}\n{output.rstrip()}\n"
        for words, output in zip(COMMANDS, printed, strict=True)
    ]
    return "\n".join(parts)


def replaced(page: str, block: str) -> str:
    """The page with the block in the place of the one that it has.

    :raises ValueError: it has none, or several.
    """
    written, count = _BLOCK.subn(lambda _: block, page)
    if count != 1:
        raise ValueError(f"{count} blocks of the page begin with $ lazymig status; one is made")
    return written
