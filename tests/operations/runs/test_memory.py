"""The memory of a bulk run is that of a chunk, however large the collection is."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from pymongo.database import Database

from benchmarks import memory
from tests.support.items import RULES, Item, ItemMigration

CHUNK = 200
# Apart enough for what the garbage collector has not met yet to be little beside the difference.
SMALL, LARGE = 800, 3200


def _peak(database: Database[Any], count: int, **options: Any) -> int:
    """The most bytes that a run over so many old items holds at once."""
    database["item"].delete_many({})
    filler = "x" * 500
    database["item"].insert_many(
        {"_id": number, "v": 1, "n": 0, "filler": filler} for number in range(count)
    )
    gc.collect()
    tracemalloc.start()
    try:
        report = ItemMigration(Item).migrate_all(chunk_size=CHUNK, again=True, **options)
        peak: int = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [rule.modified for rule in report.rules] == [count] * RULES
    return peak


@pytest.mark.parametrize("kind", ["plain", "transactions", "backup"])
def test_memory_does_not_grow_with_the_collection(
    mongoengine_db: Database[Any], tmp_path: Path, kind: str
) -> None:
    """A run keeps nothing of the documents behind it, not even their `_id`s."""

    def options(name: str) -> dict[str, Any]:
        return (
            {"backup": tmp_path / name} if kind == "backup" else {"transactions": kind != "plain"}
        )

    _peak(mongoengine_db, CHUNK, **options("first"))
    small = _peak(mongoengine_db, SMALL, **options("small"))
    large = _peak(mongoengine_db, LARGE, **options("large"))
    # A kept `_id` takes 28 bytes, and 8 in a list. The garbage of other threads counts too.
    assert large - small < 36 * (LARGE - SMALL)


@pytest.mark.parametrize("kind", ["static", "reads self.doc, with backup"])
def test_the_benchmark_measures_a_run(
    server_uri: str, database: Database[Any], capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """The process of a benchmark fills a collection, runs over it, and tells its peak memory."""
    place = ["50", "--uri", server_uri, "--database", database.name]
    memory.main([*place, "--task", "fill"])
    database["template"].aggregate([{"$out": "person"}])
    memory.main([*place, "--task", kind])
    field = "state" if kind == "static" else "initial"
    assert database["person"].count_documents({field: {"$exists": True}}) == 50
    filled, ran = map(int, capsys.readouterr().out.split())
    assert ran >= filled > 0
