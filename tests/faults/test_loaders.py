"""Two loaders of the same old documents at the same moment: each rule is applied once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from tests.support.loader import counting_model, values

ROOT = Path(__file__).parents[2]
COUNT = 400
LOADERS = 2
EXPECTED = [[n, 2, 1, 1, 1, ["x"]] for n in range(COUNT)]


@pytest.fixture
def old_posts(mongoengine_db: Database[Any]) -> Database[Any]:
    """A database with old posts that know nothing but their key."""
    mongoengine_db["post"].insert_many([{"_id": n} for n in range(COUNT)])
    return mongoengine_db


def _stored(database: Database[Any]) -> list[list[Any]]:
    names = ("_id", "version", "count", "copied", "n", "log")
    return [[doc[name] for name in names] for doc in database["post"].find().sort("_id")]


def _each(post: Any) -> list[Any]:
    return [post.objects.get(key=n) for n in range(40)]


@pytest.mark.parametrize(
    "load",
    [
        lambda post: post.objects.order_by("key"),
        lambda post: _each(post) and post.objects.order_by("key"),
        lambda post: sorted(post.objects.in_bulk(list(range(COUNT))).values(), key=lambda p: p.key),
    ],
    ids=["iteration", "get", "in_bulk"],
)
def test_threads_apply_each_rule_once(old_posts: Database[Any], load: Any) -> None:
    """Threads that load the same documents at once each see every rule applied once."""
    post = counting_model()
    barrier = threading.Barrier(LOADERS, timeout=30)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        results.append(values(load(post)))

    threads = [threading.Thread(target=work) for _ in range(LOADERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _stored(old_posts) == EXPECTED
    assert results == [EXPECTED] * LOADERS


def test_processes_apply_each_rule_once(server_uri: str, old_posts: Database[Any]) -> None:
    """Processes that load the same documents at once each see every rule applied once."""
    command = [sys.executable, "-m", "tests.support.loader", server_uri, old_posts.name]
    loaders = [
        subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(LOADERS)
    ]
    try:
        for loader in loaders:
            assert loader.stdout is not None
            assert loader.stdout.readline() == "ready\n"
        for loader in loaders:
            assert loader.stdin is not None
            loader.stdin.write("go\n")
            loader.stdin.flush()
        results = [json.loads(loader.communicate(timeout=60)[0]) for loader in loaders]
    finally:
        for loader in loaders:
            loader.kill()
            loader.wait()
    assert _stored(old_posts) == EXPECTED
    assert results == [EXPECTED] * LOADERS
