"""Two runners that start at the same moment."""

from __future__ import annotations

import subprocess
from typing import Any

from pymongo.database import Database

from lazymig import History
from tests.support.items import done, fill, stored
from tests.support.runner import ROOT, command

COUNT = 3000
RUNNERS = 3


def test_of_two_runners_one_gets_the_collection(
    server_uri: str, mongoengine_db: Database[Any]
) -> None:
    """Of runners that start at once one works; the others are told who does; nothing is doubled."""
    fill(mongoengine_db, COUNT)
    runners = [
        subprocess.Popen(
            command(server_uri, mongoengine_db.name, "none", 1, chunk_size=100),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(RUNNERS)
    ]
    ends = [runner.communicate(timeout=120) for runner in runners]
    finished = [out for out, _ in ends if out == "finished\n"]
    refused = [err for _, err in ends if "CollectionLocked" in err]
    assert len(finished) + len(refused) == RUNNERS
    runs = History(mongoengine_db).runs()
    assert {run.state for run in runs} == {"finished"}
    assert len(runs) == len(finished) >= 1
    # A runner that came after the end of another one has counted once more.
    expected = [{**item, "k": len(finished)} for item in done(COUNT)]
    assert stored(mongoengine_db) == expected
