"""Workers of an executor that are killed in the middle of a chunk."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from lazymig import History, WorkerFailed
from tests.support.items import (
    KILL_FILE,
    AlwaysDeadlyMigration,
    DeadlyMigration,
    Item,
    fill,
    stored,
)

COUNT = 600


def _pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))


@pytest.mark.parametrize("given", ["callable", "pool"])
def test_a_killed_worker_loses_no_document(
    mongoengine_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: str,
) -> None:
    """The chunk of a worker that was killed is given out again, and nothing is done twice."""
    fill(mongoengine_db, COUNT)
    mongoengine_db["item"].update_one({"_id": 250}, {"$set": {"v": 7}})
    kill_file = tmp_path / "kill"
    kill_file.touch()
    monkeypatch.setenv(KILL_FILE, str(kill_file))
    pool = None if given == "callable" else _pool()
    report = DeadlyMigration(Item).migrate_all(executor=pool or _pool, chunk_size=100)
    if pool is not None:
        pool.shutdown()
    assert not kill_file.exists()
    assert report.complete
    assert {(raw["w"], raw["copies"]) for raw in stored(mongoengine_db)} == {(0, 1)}


def test_a_chunk_that_kills_every_worker_ends_the_run(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After three dead workers a chunk is given to no other; the run says where, and can go on."""
    fill(mongoengine_db, COUNT)
    mongoengine_db["item"].update_one({"_id": 250}, {"$set": {"v": 7}})
    migration = AlwaysDeadlyMigration(Item)
    with pytest.raises(WorkerFailed, match=r"3 workers died.*199"):
        migration.migrate_all(executor=_pool, chunk_size=100)
    (run,) = History(mongoengine_db).runs()
    assert (run.state, run.rules[0].done) == ("failed", 200)
    monkeypatch.setenv(KILL_FILE, str(os.getpid()))
    assert migration.migrate_all(resume=True).complete
    assert mongoengine_db["item"].count_documents({"w": 1}) == COUNT
