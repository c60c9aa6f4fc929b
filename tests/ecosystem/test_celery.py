"""Celery: tasks in a pool of forked processes that load and query old documents at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ecosystem.twins import Shop, Twins, needed

needed("celery", "celery")

ROOT = Path(__file__).parents[2]
PROCESSES = 3


def _played(shop: Shop, uri: str, folder: Path) -> Any:
    """What comes of the tasks with a worker of its own on one of the twins."""
    for name in ("messages", "results", "control"):
        (folder / name).mkdir(parents=True)
    environment = {
        **os.environ,
        "SHOP_SIDE": "lazy" if shop.lazy else "plain",
        "SHOP_URI": uri,
        "SHOP_DATABASE": shop.database.name,
        "SHOP_FOLDER": str(folder),
    }
    worker = [sys.executable, "-W", "ignore", "-m", "celery", "-A", "tests.ecosystem.celery_shop"]
    worker += ["worker", "--pool", "prefork", "--concurrency", str(PROCESSES), "--loglevel", "INFO"]
    worker += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = folder / "worker.log"
    with log.open("wb") as output:
        running = subprocess.Popen(
            worker, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "tests.ecosystem.celery_shop"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        finally:
            running.terminate()
            try:
                running.wait(timeout=30)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
    assert done.returncode == 0, done.stderr[-4000:] + log.read_text()[-4000:]
    return json.loads(done.stdout)


@pytest.mark.filterwarnings("ignore")
def test_tasks_give_what_they_give_on_migrated_documents(
    twins: Twins, server_uri: str, tmp_path: Path
) -> None:
    """The processes of a pool, all at once on the same books, find and leave the same."""
    processes = []

    def play(shop: Shop) -> Any:
        found = _played(shop, server_uri, tmp_path / ("lazy" if shop.lazy else "plain"))
        processes.append(found.pop("processes"))
        return found

    found = twins.same(play)
    assert found["icy"] == ["Winter", "Midwinter"]
    assert found["total"] == 7741
    assert min(processes) > 1
