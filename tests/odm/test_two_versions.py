"""An old and a new version of an application, as two processes at once on one collection."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
STEPS = 80


class Process:
    """A version in a process of its own; each call waits for its answer."""

    def __init__(self, process: Any) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._process.stdin.write(json.dumps([name, arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, f"{name}{arguments} ended the process"
            return json.loads(answer)

        return call


@contextmanager
def version(name: str, uri: str, database: str) -> Iterator[Process]:
    """The process of a version, which ends with its input."""
    command = [sys.executable, "-m", "tests.support.two_versions", name, uri, database]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Process(process)


def _expected(truth: dict[int, list[Any]]) -> list[list[Any]]:
    return [[number, *truth[number]] for number in sorted(truth)]


@pytest.mark.parametrize("seed", range(2))
def test_both_versions_are_right_all_the_time(server_uri, database, seed):
    """Each reads what the other has written; what the new one only read is as the old one left it.

    The new version reads, saves what no rule writes, and deletes; the old one does what it likes.
    """
    chance = random.Random(seed)
    truth: dict[int, list[Any]] = {}
    with (
        version("old", server_uri, database.name) as old,
        version("new", server_uri, database.name) as new,
    ):
        for step in range(STEPS):
            doing = chance.choice(["create", "move", "rename", "rename by new", "delete", "read"])
            number = chance.choice(sorted(truth)) if truth else None
            if doing == "create" or number is None:
                truth[step] = [f"name {step}", f"mail {step}", step]
                old.create(step, *truth[step])
            elif doing == "move":
                truth[number][1] = f"mail {step}"
                old.move(number, truth[number][1])
            elif doing == "delete":
                chance.choice([old, new]).delete(number)
                del truth[number]
            elif doing != "read":
                truth[number][0] = f"name {step}"
                (new if doing == "rename by new" else old).rename(number, truth[number][0])
            first, second = chance.sample([old, new], 2)
            assert first.everything() == _expected(truth)
            assert second.everything() == _expected(truth)
            for number, (_name, mail, _level) in list(truth.items())[:2]:
                assert first.find(mail) == second.find(mail) == [number]
        assert new.louder() == [truth[number][1].upper() for number in sorted(truth)]

    # Taken back without a trace: what is stored is what the old version would have stored alone.
    assert list(database.account.find().sort("_id", 1)) == [
        {"_id": number, "name": name, "mail": mail, "level": str(level)}
        for number, (name, mail, level) in sorted(truth.items())
    ]


def test_what_the_new_version_saves_is_in_todays_shape(server_uri, database):
    """A save that meets a rule brings its document up to date, and only that one."""
    with (
        version("old", server_uri, database.name) as old,
        version("new", server_uri, database.name) as new,
    ):
        old.create(1, "a", "a@b", 1)
        old.create(2, "b", "b@b", 2)
        new.move(1, "c@b")
        assert new.everything() == [[1, "a", "c@b", 1], [2, "b", "b@b", 2]]

    assert list(database.account.find().sort("_id", 1)) == [
        {"_id": 1, "name": "a", "level": 1, "email": "c@b", "loud": "A@B"},
        {"_id": 2, "name": "b", "mail": "b@b", "level": "2"},
    ]
