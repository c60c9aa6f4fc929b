"""Pre-forking servers: workers that are forked after the models are defined."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

ROOT = Path(__file__).parents[2]
DOCUMENTS = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


@pytest.mark.parametrize("way", ["lazily", "again"])
def test_forked_workers_see_migrated_documents(
    database: Database[Any], server_uri: str, way: str
) -> None:
    """Parent and workers find the same; each rule is written once, and each effect happens once."""
    database["item"].insert_many(
        [
            {"_id": number, "label": f"name {number}", "text": "word " * (number % 5)}
            for number in range(DOCUMENTS)
        ]
    )
    program = [sys.executable, "-W", "ignore", "-m", "tests.ecosystem.forks"]
    done = subprocess.run(
        [*program, server_uri, database.name, str(DOCUMENTS), way],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout)
    assert len(results) == 5
    for found in results:
        assert found["names"] == sorted(f"name {number}" for number in range(DOCUMENTS))
        assert found["found"] == [1] * 5
        assert found["listed"] == [number for number in range(DOCUMENTS) if number % 5 >= 3]
        assert found["sum"] == sum(number % 5 for number in range(DOCUMENTS))
    assert list(database["item"].find().sort("_id", 1)) == [
        {
            "_id": number,
            "name": f"name {number}",
            "times": 2,
            "words": number % 5,
            "mailed": True,
        }
        for number in range(DOCUMENTS)
    ]
    mails = list(database["mail"].find())
    assert sorted(mail["to"] for mail in mails) == list(range(DOCUMENTS))
    assert len({mail["by"] for mail in mails}) > 1
