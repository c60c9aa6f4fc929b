"""History: the journal of bulk runs as others read it, and what they ask of a run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.database import Database

from lazymig.engines.access import Raw
from lazymig.errors import Remedy, RunError, RunNotActive, RunNotFound
from lazymig.odm.schema import collection_of
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import leases_of, now_in
from lazymig.operations.journal.entries import KEEP_RUNS, Quarantined, Run, Sample
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.records import checked_run, understood
from lazymig.operations.journal.retention import forget, prune
from lazymig.operations.throttling.limits import CHANGEABLE, Limits
from lazymig.redaction import without_secrets

__all__ = ["History"]

_ID_DIGITS = 24
_HEX = re.compile(r"[0-9a-f]{1,24}")


class History:
    """The journal of one database.

    :param source: the database, or a MongoEngine document class that is stored in it.
    :param journal: the name of the journal's collection.

    A run is named by its id, or by the first hexadecimal digits of its id where no other run's id
    begins with them. Every method raises `pymongo.errors.PyMongoError` where the connection or the
    rights fail.
    """

    def __init__(self, source: Any, journal: str = JOURNAL) -> None:
        # A model's `_id`s read as those of its documents do.
        place = collection_of(source) if isinstance(source, type) else source
        database: Database[Any] = place.database if isinstance(source, type) else place
        self._journal = Journal(database, journal, codec_options=place.codec_options)
        self._entries = self._journal.collection

    def runs(self, limit: int | None = 20, collection: str | None = None) -> list[Run]:
        """The runs, newest first.

        :param limit: how many at most; `None` for all.
        :param collection: only the runs over the collection of this name.
        """
        if limit is not None and limit < 1:
            raise ValueError(f"limit is {limit}; use a number above 0, or None for all")
        query = {} if collection is None else {"collection": collection}
        return self._read(query, limit)

    def run(self, run_id: ObjectId | str) -> Run:
        """One run.

        :raises RunNotFound: there is none, or several ids begin like that, or another program or
            version has written what is there.
        """
        found = self._read({"_id": self._ids_like(run_id)}, 2, strict=True)
        name = self._entries.full_name
        if not found:
            raise RunNotFound(
                f"{name}: there is no run {run_id}", run=run_id, remedy=Remedy("list_runs")
            )
        if len(found) > 1:
            raise RunNotFound(
                f"{name}: several runs have an id that begins with {run_id}; give more of it",
                run=run_id,
            )
        return found[0]

    def pause(self, run_id: ObjectId | str, by: str | None = None) -> None:
        """Ask a run to wait before its next chunk until `resume` or `stop`.

        :param by: who asks; the run shows it.
        :raises RunNotFound: there is no such run.
        :raises RunNotActive: nobody is at work on it.
        """
        self._ask(run_id, {"action": "pause", "by": by})

    def resume(self, run_id: ObjectId | str, by: str | None = None) -> None:
        """Ask a paused run to continue; it keeps the limits that it was given meanwhile.

        :raises RunNotFound: there is no such run.
        :raises RunNotActive: nobody is at work on it. Such a run is resumed by the option `resume`
            of `migrate_all` or `migrate_pending`.
        """
        self._ask(run_id, {"action": "run", "by": by})

    def stop(self, run_id: ObjectId | str, by: str | None = None) -> None:
        """Ask a run to end after its current chunk; it can be resumed later.

        :raises RunNotFound: there is no such run.
        :raises RunNotActive: nobody is at work on it.
        """
        self._ask(run_id, {"action": "stop", "by": by})

    def slow(self, run_id: ObjectId | str, by: str | None = None, **limits: float | None) -> None:
        """Give a run other limits from its next chunk on.

        :param limits: `max_rate`, `max_replication_lag`, `max_latency`, `nice`, as for a new run;
            `None` or 0 for no limit. Those that are not named stay as they are.
        :raises TypeError: no limit is named, or one that cannot be set from here.
        :raises RunOptionError: a limit has a value that it cannot have.
        :raises RunNotFound: there is no such run.
        :raises RunNotActive: nobody is at work on it.
        """
        if not limits or not limits.keys() <= CHANGEABLE.keys():
            raise TypeError(f"slow() takes one or more of {', '.join(CHANGEABLE)}")
        if limits.get("nice", 0) is None:
            limits["nice"] = 0.0
        Limits(**limits)  # type: ignore[arg-type]
        self._ask(run_id, {f"limits.{name}": value for name, value in limits.items()}, by)

    def quarantined(
        self, run_id: ObjectId | str | None = None, limit: int | None = 1000
    ) -> list[Quarantined]:
        """The documents that runs have left as they were, newest first.

        :param run_id: only those of this run.
        :param limit: how many at most; `None` for all.
        :raises RunNotFound: there is no such run.
        """
        query = {} if run_id is None else {"run": self.run(run_id).id}
        found = self._journal.quarantine.find(query, [("at", -1), ("document_id", 1)])
        return list(itertools.islice(found, limit))

    def samples(
        self, model: Any = None, collection: str | None = None, limit: int | None = None
    ) -> list[Sample]:
        """What was left at the times that were kept, oldest first.

        :param model: only those of this model, a class or its name.
        :param collection: only those of the collection of this name.
        :param limit: the newest, so many at most; `None` for all.
        """
        query: dict[str, Any] = {"kind": "sample"}
        if model is not None:
            query["model"] = model.__name__ if isinstance(model, type) else model
        if collection is not None:
            query["collection"] = collection
        newest = self._entries.find(query).sort([("since", -1), ("_id", -1)]).limit(limit or 0)
        known = understood("sample", newest, self._entries.full_name)
        return list(map(Sample.read, known))[::-1]

    def prune(self, keep_runs: int = KEEP_RUNS) -> int:
        """Forget the oldest ended runs of each collection, and what they have in quarantine.

        A run that has not ended stays, unless it has given no sign of life for a week and holds no
        lease either.

        :param keep_runs: how many of the newest ended runs of each collection stay.
        :returns: how many runs were forgotten.
        :raises ValueError: `keep_runs` is below 0.
        """
        return prune(self._entries, keep_runs)

    def delete(self, run_id: ObjectId | str) -> None:
        """Forget a run, and what it has in quarantine. It cannot be resumed any more.

        :raises RunNotFound: there is no such run.
        :raises RunError: a process is at work on it.
        """
        run = self.run(run_id)
        if run.active:
            raise RunError(
                f"{self._full_name(run)}: run {run.id} is {run.state} on {run.host} "
                f"(pid {run.pid}); stop it first",
                collection=self._full_name(run),
                run=run.id,
            )
        forget(self._entries, run.id)

    def _read(self, query: Raw, limit: int | None, *, strict: bool = False) -> list[Run]:
        """The runs of a query.

        :param strict: a record that is not understood is an error.
        """
        found = self._entries.aggregate(
            [
                {"$match": {"kind": "run", **query}},
                {"$sort": {"started": -1, "_id": -1}},
                {"$addFields": {"now": now_in(self._entries)}},
            ]
        )
        name = self._entries.full_name
        known = (checked_run(entry, name) for entry in found)
        readable = known if strict else understood("run", found, name)
        entries = list(itertools.islice(readable, limit))
        holders: dict[Any, datetime] = {}
        if any(entry["state"] == "running" for entry in entries):
            holders = leases_of(self._entries.database)
        waiting = self._in_quarantine([entry["_id"] for entry in entries])
        return [
            Run.read(entry, holders.get(entry["_id"]), waiting.get(entry["_id"], 0))
            for entry in entries
        ]

    def _in_quarantine(self, runs: Sequence[ObjectId]) -> dict[ObjectId, int]:
        """How many documents are in the quarantine of each run."""
        if not runs:
            return {}
        counted = self._entries.aggregate(
            [
                {"$match": {"kind": "quarantine", "run": {"$in": list(runs)}}},
                {"$group": {"_id": "$run", "documents": {"$sum": 1}}},
            ]
        )
        return {each["_id"]: each["documents"] for each in counted}

    def _ids_like(self, run_id: ObjectId | str) -> Any:
        if isinstance(run_id, ObjectId):
            return run_id
        digits = run_id.lower()
        if not _HEX.fullmatch(digits):
            raise RunNotFound(
                f"{self._entries.full_name}: {run_id!r} is no run's id",
                run=run_id,
                remedy=Remedy("list_runs"),
            )
        return {
            "$gte": ObjectId(digits.ljust(_ID_DIGITS, "0")),
            "$lte": ObjectId(digits.ljust(_ID_DIGITS, "f")),
        }

    def _ask(
        self, run_id: ObjectId | str, values: Mapping[str, Any], by: str | None = None
    ) -> None:
        run = self.run(run_id)
        named = {} if by is None else {"by": by}
        asked = {
            f"control.{key}": without_secrets(value) for key, value in {**values, **named}.items()
        }
        done = run.active and self._entries.update_one(
            {"_id": run.id, "state": "running"},
            {"$set": asked, "$currentDate": {"control.at": True}},
        )
        if done and done.matched_count:
            return
        if run.state == "dead":
            problem = f"gives no sign of life since {run.heartbeat:%Y-%m-%d %H:%M:%S} UTC"
        else:
            problem = f"is {run.state}" if not run.active else "has just ended"
        raise RunNotActive(
            f"{self._full_name(run)}: run {run.id} {problem}",
            collection=self._full_name(run),
            run=run.id,
            remedy=None if run.state == "finished" else Remedy("resume"),
        )

    def _full_name(self, run: Run) -> str:
        return f"{self._entries.database.name}.{run.collection}"
