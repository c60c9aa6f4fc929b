"""The retention of a journal: the oldest ended runs go, and every second of many old samples."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from lazymig.engines.access import Raw
from lazymig.operations.journal.collection import leases_of, now_in
from lazymig.operations.journal.records import FORMAT, fault_of

__all__ = ["add_sample", "forget", "prune"]

_MOST_SAMPLES = 1000
_SAMPLE_INTERVAL = timedelta(minutes=1)

# A run that was killed never ends by itself; without a sign of life for so long it counts as ended.
_ABANDONED = timedelta(days=7)


def prune(entries: Collection[Any], keep_runs: int, collection: str | None = None) -> int:
    """Forget the oldest ended runs of each collection, and what they have in quarantine.

    A run that has not ended stays, unless it has given no sign of life for a week and holds no
    lease either.

    :param entries: the journal's collection.
    :param keep_runs: how many of the newest ended runs of each collection stay.
    :param collection: only the runs of this one.
    :returns: how many runs were forgotten.
    :raises ValueError: `keep_runs` is below 0.
    """
    if keep_runs < 0:
        raise ValueError(f"keep_runs is {keep_runs}; use a number of runs")
    every = entries.distinct("collection", {"kind": "run"}) if collection is None else [collection]
    leases = leases_of(entries.database)
    forgotten = 0
    for name in every:
        runs = entries.aggregate(
            [
                {"$match": {"kind": "run", "collection": name}},
                {"$sort": {"started": -1, "_id": -1}},
                {"$addFields": {"now": now_in(entries)}},
            ]
        )
        # What another program has written is not ours to forget.
        ended = [
            run["_id"] for run in runs if fault_of("run", run) is None and _is_over(run, leases)
        ]
        for run_id in ended[keep_runs:]:
            forget(entries, run_id)
            forgotten += 1
    return forgotten


def _is_over(run: Raw, leases: Mapping[Any, datetime]) -> bool:
    if run["state"] != "running":
        return True
    is_silent: bool = run["now"] - run["heartbeat"] > _ABANDONED
    return is_silent and leases.get(run["_id"], run["now"]) <= run["now"]


def forget(entries: Collection[Any], run_id: ObjectId) -> None:
    """Delete the entry of a run, and what it has in quarantine."""
    entries.delete_many({"kind": "quarantine", "run": run_id})
    entries.delete_one({"_id": run_id, "kind": "run"})


def add_sample(
    entries: Collection[Any], model: str, collection: str, remaining: Mapping[str, int | None]
) -> None:
    """Keep how many documents each rule has left, for a chart.

    A sample that is less than a minute younger than the last one replaces it. Of more than
    1,000 every second one of the older half goes, so that the curve keeps its beginning.
    """
    series = {"kind": "sample", "model": model, "collection": collection}
    values = {**series, "format": FORMAT, "remaining": dict(remaining)}
    last = _last_sample(entries, series)
    stamps = {"at": True} if last is not None else {"at": True, "since": True}
    entries.update_one(
        {"_id": last or ObjectId()}, {"$set": values, "$currentDate": stamps}, upsert=True
    )
    if last is None and entries.count_documents(series) > _MOST_SAMPLES:
        oldest = entries.find(series, {"_id": 1}).sort("since", 1)
        ids = [entry["_id"] for entry in oldest.limit(_MOST_SAMPLES // 2)]
        entries.delete_many({"_id": {"$in": ids[1::2]}})


def _last_sample(entries: Collection[Any], series: Raw) -> ObjectId | None:
    """The `_id` of the newest sample, if its minute is not over."""
    newest = entries.aggregate(
        [
            {"$match": series},
            {"$sort": {"since": -1}},
            {"$limit": 1},
            {"$project": {"since": 1, "now": now_in(entries)}},
        ]
    )
    for entry in newest:
        since = entry.get("since")
        if isinstance(since, datetime) and entry["now"] - since < _SAMPLE_INTERVAL:
            last: ObjectId = entry["_id"]
            return last
    return None
