"""Reading the journal of bulk runs, and asking something of a run from another process."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from bson import ObjectId
from pymongo.database import Database

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import Remedy, RunError, RunNotActive, RunNotFound
from lazymig.odm.schema import collection_of
from lazymig.operations.journal.journal import (
    JOURNAL,
    KEEP_RUNS,
    Action,
    Control,
    Journal,
    client_now,
    leases_of,
)
from lazymig.operations.journal.records import fault_of, understood
from lazymig.operations.throttling.throttle import Limits
from lazymig.raw.elements import known_again
from lazymig.redaction import without_secrets
from lazymig.rules.rule import Scope

__all__ = ["History", "Quarantined", "RuleRun", "Run", "RunState", "Sample", "Session"]

RunState = Literal["running", "paused", "waiting", "stopped", "failed", "finished", "dead"]

_ID_DIGITS = 24
_HEX = re.compile(r"[0-9a-f]{1,24}")


@dataclass(frozen=True, slots=True)
class RuleRun:
    """What a run has done of one rule so far.

    `state` is `pending`, `running` or `done`. `done` of `total` documents are behind the run
    (`exact` unless the total is an estimate, `None` before it is known); `matched` and `modified`
    were counted by MongoDB, `quarantined` were left as they are. `passes` over the collection have
    ended, `seconds` were spent. `last_id` is the last `_id` done. `edited`: the rule's text was
    changed while the run was interrupted, and the rule began anew.
    """

    name: str
    digest: str
    state: str
    done: int
    total: int | None
    exact: bool
    matched: int
    modified: int
    quarantined: int
    passes: int
    seconds: float
    last_id: Any
    edited: bool


@dataclass(frozen=True, slots=True)
class Session:
    """A process that has run a part of a run: when it began, with which options and note."""

    host: str
    pid: int
    started: datetime
    options: Mapping[str, Any]
    note: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """A bulk run, as the journal had it when it was read. Times are naive UTC, by the server.

    `state` is `running`, `paused` (asked to), `waiting` (`waiting` says for what), `stopped`,
    `failed` (`error` says why), `finished`, or `dead`: it has not ended, but its process gives no
    sign of life any more. `host`, `pid` and `options` are those of the last process, `note` is the
    last that was given; `sessions` has what each process had, of the newest 100. `waited` has the
    seconds spent waiting, by reason. `control` is what is asked of the run. `in_quarantine` counts
    the documents that the run has refused and that are still in its quarantine. `model_class` is
    the model's name with its module; `None` in runs of the first versions. `reopened`
    are the rules that matched documents again when the run ended, because of a later one.
    """

    id: ObjectId
    model: str
    collection: str
    handler: str
    scope: Scope
    rules: tuple[RuleRun, ...]
    state: RunState
    host: str
    pid: int
    note: str | None
    started: datetime
    ended: datetime | None
    heartbeat: datetime
    options: Mapping[str, Any]
    waiting: str | None
    waited: Mapping[str, float]
    sessions: tuple[Session, ...]
    error: str | None
    control: Control
    in_quarantine: int = 0
    model_class: str | None = None
    reopened: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether it has finished and left no document to its rules, nor in its quarantine."""
        return self.state == "finished" and not self.in_quarantine and not self.reopened

    @property
    def active(self) -> bool:
        """Whether a process is at work on it."""
        return self.state in ("running", "paused", "waiting")

    @property
    def matched(self) -> int:
        """Documents matched, added up over the rules."""
        return sum(rule.matched for rule in self.rules)

    @property
    def modified(self) -> int:
        """Documents modified, added up over the rules."""
        return sum(rule.modified for rule in self.rules)

    @property
    def quarantined(self) -> int:
        """Documents left as they were, added up over the rules; some may be migrated by now."""
        return sum(rule.quarantined for rule in self.rules)


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A document that a run left as it was: the rule, the text and the type's name of the error."""

    run: ObjectId
    collection: str
    rule: str
    document_id: Any
    error: str
    type: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Sample:
    """How many documents each rule of a model had left at a time; `None` where that is unknown."""

    model: str
    collection: str
    at: datetime
    remaining: Mapping[str, int | None]


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
        """Ask a paused run to go on; it keeps the limits that it was given meanwhile.

        :raises RunNotFound: there is no such run.
        :raises RunNotActive: nobody is at work on it. Such a run goes on by the option `resume` of
            `migrate_all` or `migrate_pending`.
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
        known: Sequence[str] = ("max_rate", "max_replication_lag", "max_latency", "nice")
        if not limits or not set(limits) <= set(known):
            raise TypeError(f"slow() takes one or more of {', '.join(known)}")
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
        query: dict[str, Any] = {"kind": "quarantine"}
        if run_id is not None:
            query["run"] = self.run(run_id).id
        every = self._entries.find(query).sort([("at", -1), ("document_id", 1)])
        found = understood("quarantine", every, self._entries.full_name)
        return [
            Quarantined(
                run=entry["run"],
                collection=entry["collection"],
                rule=entry["rule"],
                document_id=known_again(entry["document_id"]),
                error=entry["error"],
                type=entry["type"],
                at=entry["at"],
            )
            for entry in itertools.islice(found, limit)
        ]

    def samples(self, model: Any = None) -> list[Sample]:
        """What was left at the times that were kept, oldest first.

        :param model: only those of this model, a class or its name.
        """
        query: dict[str, Any] = {"kind": "sample"}
        if model is not None:
            query["model"] = model.__name__ if isinstance(model, type) else model
        every = self._entries.find(query).sort([("since", 1), ("_id", 1)])
        return [
            Sample(entry["model"], entry["collection"], entry["at"], dict(entry["remaining"]))
            for entry in understood("sample", every, self._entries.full_name)
        ]

    def prune(self, keep_runs: int = KEEP_RUNS) -> int:
        """Forget the oldest ended runs of each collection, and what they have in quarantine.

        A run that has not ended stays, unless it has given no sign of life for a week and holds no
        lease either.

        :param keep_runs: how many of the newest ended runs of each collection stay.
        :returns: how many runs were forgotten.
        :raises ValueError: `keep_runs` is below 0.
        """
        return self._journal.prune(keep_runs)

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
        self._journal.forget(run.id)

    def _read(self, query: Raw, limit: int | None, *, strict: bool = False) -> list[Run]:
        """The runs of a query.

        :param strict: a record that is not understood is an error.
        """
        now = client_now() if is_mongomock(self._entries) else "$$NOW"
        found = self._entries.aggregate(
            [
                {"$match": {"kind": "run", **query}},
                {"$sort": {"started": -1, "_id": -1}},
                {"$addFields": {"now": now}},
            ]
        )
        name = self._entries.full_name
        readable = self._checked(found) if strict else understood("run", found, name)
        entries = list(itertools.islice(readable, limit))
        holders: dict[Any, datetime] = {}
        if any(entry["state"] == "running" for entry in entries):
            holders = leases_of(self._entries.database)
        waiting = self._in_quarantine([entry["_id"] for entry in entries])
        return [
            _run(entry, holders.get(entry["_id"]), waiting.get(entry["_id"], 0))
            for entry in entries
        ]

    def _checked(self, found: Iterable[Raw]) -> Iterator[Raw]:
        for entry in found:
            fault = fault_of("run", entry)
            if fault is not None:
                raise RunNotFound(
                    f"{self._entries.full_name}: the record {entry['_id']} is no run that this "
                    f"version knows, because {fault}: another program or version has written it",
                    run=entry["_id"],
                )
            yield entry

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


def _run(entry: Raw, lease_until: datetime | None, in_quarantine: int) -> Run:
    control = Control.read(entry["control"])
    return Run(
        id=entry["_id"],
        model=entry["model"],
        collection=entry["collection"],
        handler=entry["handler"],
        scope=entry["scope"],
        rules=tuple(_rule_run(step) for step in entry["rules"]),
        state=_state(entry, control.action, lease_until),
        host=entry["host"],
        pid=entry["pid"],
        note=entry["note"],
        started=entry["started"],
        ended=entry["ended"],
        heartbeat=entry["heartbeat"],
        options=dict(entry["options"]),
        waiting=entry["waiting"],
        waited=dict(entry["waited"]),
        sessions=tuple(
            Session(
                host=session["host"],
                pid=session["pid"],
                started=session["at"],
                options=dict(session["options"]),
                note=session["note"],
            )
            for session in entry["sessions"]
        ),
        error=entry["error"],
        control=control,
        in_quarantine=in_quarantine,
        model_class=entry.get("model_class"),
        reopened=tuple(entry.get("reopened", ())),
    )


def _state(entry: Raw, action: Action, lease_until: datetime | None) -> RunState:
    stored: RunState = entry["state"]
    if stored != "running":
        return stored
    # A single update of a large collection takes long without a word; the lease is renewed.
    silent_until = entry["heartbeat"] + timedelta(seconds=entry["lease"])
    if entry["now"] >= max(silent_until, lease_until or silent_until):
        return "dead"
    if action == "pause":
        return "paused"
    return "running" if entry["waiting"] is None else "waiting"


def _rule_run(step: Raw) -> RuleRun:
    return RuleRun(
        name=step["name"],
        digest=step["digest"],
        state=step["state"],
        done=step["done"],
        total=step["total"],
        exact=step["exact"],
        matched=step["matched"],
        modified=step["modified"],
        quarantined=step["quarantined"],
        passes=step["passes"],
        seconds=step["seconds"],
        last_id=None if step["at"] is None else known_again(step["at"]["_id"]),
        edited=step["edited"],
    )
