"""gevent: two hundred greenlets that load, query and show the same old documents at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pymongo.database import Database

ROOT = Path(__file__).parents[2]
GREENLETS = 200


def _old(number: int) -> dict[str, Any]:
    return {
        "_id": number,
        "label": f"name {number}",
        "text": "word " * (number % 5),
        "items": [{"n": number}, {"n": number + 1}],
    }


def test_greenlets_see_migrated_documents(database: Database[Any], server_uri: str) -> None:
    """Each finds what it would find on migrated documents; each rule is written once to each."""
    database["item"].insert_many([_old(number) for number in range(2 * GREENLETS)])
    program = [sys.executable, "-m", "gevent.monkey", "--module", "tests.ecosystem.greenlets"]
    done = subprocess.run(
        [*program, server_uri, database.name, str(GREENLETS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    results = json.loads(done.stdout)
    for number, found in enumerate(results):
        near = [(number + step) % GREENLETS for step in range(2)]
        assert found["names"] == [f"name {key}" for key in near]
        assert found["words"] == [key % 5 for key in near]
        assert found["numbers"] == [n for key in near for n in (key, key + 1)]
        assert found["found"] == 1
        long = [key for key in near if key % 5 >= 3]
        assert found["listed"] == sorted(long, key=lambda key: f"name {key}", reverse=True)
        assert found["raw"] == 1
        other = GREENLETS + number
        assert found["shown"] == [f"name {other}", other % 5]
    stored = list(database["item"].find().sort("_id", 1))
    migrated = [
        {
            "_id": number,
            "name": f"name {number}",
            "words": number % 5,
            "times": 2,
            "items": [{"number": number}, {"number": number + 1}],
        }
        for number in range(GREENLETS)
    ]
    assert stored[:GREENLETS] == migrated
    # A block of one greenlet is none of another's.
    assert stored[GREENLETS:] == [_old(number) for number in range(GREENLETS, 2 * GREENLETS)]
