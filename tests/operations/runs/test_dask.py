"""Chunks in the worker processes of a Dask cluster: done once, whatever becomes of a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, LocalCluster
from pymongo.database import Database

from lazymig import History
from tests.support.commands import CommandLog
from tests.support.items import (
    KILL_FILE,
    RULES,
    DeadlyMigration,
    Item,
    ItemMigration,
    done,
    fill,
    stored,
)

COUNT = 600


@contextmanager
def _cluster() -> Iterator[Client]:
    """Two worker processes, and a client that gives them work."""
    with (
        LocalCluster(
            n_workers=2,
            processes=True,
            threads_per_worker=1,
            dashboard_address=None,
            silence_logs=50,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_every_chunk_is_done_once(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """The workers of a cluster do each chunk once, in each run; the runner does none of them."""
    with _cluster() as client:
        executor = client.get_executor()
        # The chunks of the second run are equal to those of the first one.
        for _ in range(2):
            monitored_db["item"].delete_many({})
            fill(monitored_db, COUNT)
            command_log.clear()
            report = ItemMigration(Item).migrate_all(executor=executor, chunk_size=50, again=True)
            assert [rule.modified for rule in report.rules] == [COUNT] * RULES
            assert stored(monitored_db) == done(COUNT)
            written = [
                body["updates"][0]["u"]
                for name, body in command_log.commands
                if name == "update" and body["update"] == "item"
            ]
            assert written
            assert not any({"w", "h"} & update.get("$set", {}).keys() for update in written)


@pytest.mark.parametrize("allowed_failures", [3, 0])
def test_a_killed_worker_loses_no_document(
    mongoengine_db: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    allowed_failures: int,
) -> None:
    """Dask gives the chunk of a dead worker to another one; if it gives up, the run does so."""
    fill(mongoengine_db, COUNT)
    mongoengine_db["item"].update_one({"_id": 250}, {"$set": {"v": 7}})
    kill_file = tmp_path / "kill"
    kill_file.touch()
    monkeypatch.setenv(KILL_FILE, str(kill_file))
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": allowed_failures}),
        _cluster() as client,
    ):
        report = DeadlyMigration(Item).migrate_all(executor=client.get_executor(), chunk_size=50)
    assert not kill_file.exists()
    assert report.complete
    assert {(raw["w"], raw["copies"]) for raw in stored(mongoengine_db)} == {(0, 1)}
    (run,) = History(mongoengine_db).runs()
    assert run.rules[0].done == COUNT
