"""Bulk runs beside application threads that load, save and delete the same documents."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from mongoengine import IntField
from pymongo.database import Database

from tests.support.handlers import handler, model, rule

COUNT = 1500


def _copy(self: Any) -> None:
    self.target = {"w": {"$exists": False}}
    self.update = {"$set": {"w": self.doc["n"]}, "$inc": {"copies": 1}}


def _post() -> Any:
    rules = handler(
        migration01__turn=rule({"v": 1}, {"$set": {"v": 2}, "$inc": {"n": 1}}),
        migration02__copy=_copy,
    )
    names = ("v", "n", "w", "copies", "touched")
    return model(rules, **{name: IntField() for name in names})


@pytest.mark.parametrize("with_backup", [False, True], ids=["plain", "backup"])
def test_loads_saves_and_deletes_lose_nothing(
    mongoengine_db: Database[Any], tmp_path: Path, with_backup: bool
) -> None:
    """What the application writes and deletes during a run stays, and no rule is applied twice."""
    collection = mongoengine_db["post"]
    collection.insert_many([{"_id": number, "v": 1, "n": 0} for number in range(COUNT)])
    post = _post()
    stop = threading.Event()
    touched: set[int] = set()
    deleted: set[int] = set()
    errors: list[Exception] = []

    def application(seed: int) -> None:
        choose = random.Random(seed)
        mine = [number for number in range(COUNT) if number % 3 == seed]
        choose.shuffle(mine)
        try:
            for number in mine:
                if stop.is_set():
                    return
                if number % 10 == 0:
                    post.objects(key=number).delete()
                    deleted.add(number)
                else:
                    document = post.objects.get(key=number)
                    document.touched = number
                    document.save()
                    touched.add(number)
        except Exception as exc:  # noqa: BLE001 - it is looked at in the main thread
            errors.append(exc)

    threads = [threading.Thread(target=application, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    options: dict[str, Any] = {"backup": tmp_path / "backup"} if with_backup else {}
    report = post.migration_handler(post).migrate_pending(chunk_size=100, **options)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert report.complete
    stored = {raw["_id"]: raw for raw in collection.find()}
    assert stored.keys() == set(range(COUNT)) - deleted
    for number, raw in stored.items():
        expected = {"_id": number, "v": 2, "n": 1, "w": 1, "copies": 1}
        if number in touched:
            expected["touched"] = number
        assert raw == expected
