"""The journal of bulk runs, as the runner writes it; `history` reads it and sends requests.

One collection, by default `lazymig_journal` in the database of the collections that are run over.
Its entries are told apart by `kind`; docs/journal.md lists their keys.

run          one bulk run: what, by whom, with which options, how far, and what is asked of it
lease        who runs over a collection at this moment (see `lease`); always in `lazymig_journal`
quarantine   a document that a run left as it was, with the error
sample       how many documents each rule of a model had left at some time
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, Literal
from uuid import UUID

from bson import Binary, ObjectId
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import ReadPreference, ReturnDocument, UpdateOne, WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import MigrationError, Remedy, RunNotActive, RunNotFound, RunTakenOver
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.records import fault_of, understood
from lazymig.raw.elements import known_again
from lazymig.redaction import without_secrets
from lazymig.rules.rule import Scope

__all__ = [
    "JOURNAL",
    "KEEP_RUNS",
    "Action",
    "Control",
    "Journal",
    "NewRun",
    "RunEntry",
    "client_now",
    "journal_collection",
    "lease_collection",
    "leases_of",
]

logger = logging.getLogger(__name__)

Action = Literal["run", "pause", "stop"]

KEEP_RUNS = 100

_UNAUTHORIZED = 13

_MOST_SAMPLES = 1000
_SAMPLE_INTERVAL = timedelta(minutes=1)
_MOST_SESSIONS = 100
_LONGEST_TEXT = 2000

# Keys of any size must fit into one command.
_RELEASED_AT_ONCE = 1000

# A run that was killed never ends by itself; without a sign of life for so long it counts as ended.
_ABANDONED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is known of a run before it begins.

    `collection` and the names in `rules`, each with its digest, are names; `options` are plain
    values without secrets. `lease` is how many seconds the run may be silent before it counts as
    dead; of the ended runs over the same collection the newest `keep_runs` stay in the journal.
    `skipped` are the names of rules that are not to be applied.
    """

    model: str
    collection: str
    handler: str
    scope: Scope
    rules: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    note: str | None = None
    lease: float = 15.0
    keep_runs: int = KEEP_RUNS
    skipped: frozenset[str] = frozenset()
    id: ObjectId = field(default_factory=ObjectId)


@dataclass(frozen=True, slots=True)
class Control:
    """What is asked of a run: its next action, limits by their option's name, and who asked."""

    action: Action = "run"
    limits: Mapping[str, Any] = field(default_factory=dict)
    by: str | None = None

    @classmethod
    def read(cls, stored: Raw) -> Control:
        """Take it from the `control` of a run entry."""
        return cls(stored["action"], dict(stored["limits"]), stored["by"])


@dataclass(slots=True)
class RunEntry:
    """A run of ours, as its entry was when it was begun or resumed.

    `steps` has for each rule, in order: `name`, `digest`, `state` (`pending`, `running`, `done`,
    `skipped`),
    `at` (`None`, or a mapping with the `_id` of the last document that is done), `done`, `total`,
    `exact`, `matched`, `modified`, `quarantined`, `passes`, `repeatable`, `seconds`, `edited`.
    `token` is the proof that the run is ours. `options` and `note` are those that it goes on with,
    `former_options` those of each session before, of the newest 100, oldest first.
    """

    id: ObjectId
    token: ObjectId
    model: str
    collection: str
    handler: str
    scope: Scope
    steps: list[dict[str, Any]]
    options: dict[str, Any]
    former_options: tuple[dict[str, Any], ...]
    note: str | None
    started: datetime
    waited: dict[str, float]
    control: Control

    @classmethod
    def read(cls, stored: Raw) -> RunEntry:
        """Take it from a run entry."""
        return cls(
            id=stored["_id"],
            token=stored["token"],
            model=stored["model"],
            collection=stored["collection"],
            handler=stored["handler"],
            scope=stored["scope"],
            steps=[dict(step) for step in stored["rules"]],
            options=dict(stored["options"]),
            former_options=tuple(dict(each["options"]) for each in stored["sessions"][:-1]),
            note=stored["note"],
            started=stored["started"],
            waited=dict(stored["waited"]),
            control=Control.read(stored["control"]),
        )


def client_now() -> datetime:
    """This machine's time, naive UTC as MongoDB keeps it; for mongomock, which has no other."""
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def journal_collection(
    database: Database[Any],
    name: str = JOURNAL,
    codec_options: CodecOptions[Any] | None = None,
) -> Collection[Any]:
    """The journal, read from the primary and written to the majority.

    What a minority alone has seen may be rolled back, and a run that nobody knows of goes on.

    :param codec_options: by which `_id`s are encoded and decoded; without them the database's.
    """
    if is_mongomock(database):
        return database[name]
    codec = (codec_options or database.codec_options).with_options(
        document_class=dict,
        tz_aware=False,
        tzinfo=None,
        datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    )
    return database.get_collection(
        name,
        codec_options=codec,
        read_preference=ReadPreference.PRIMARY,
        read_concern=ReadConcern("local"),
        write_concern=WriteConcern("majority"),
    )


def lease_collection(database: Database[Any]) -> Collection[Any]:
    """The one place of the leases, whatever the journal's name is.

    Runs that are noted in different journals must not work on the same collection either.
    """
    return journal_collection(database)


def leases_of(database: Database[Any]) -> dict[Any, datetime]:
    """When the leases expire, by the id of the run that holds each; some may have expired."""
    leases = lease_collection(database)
    found = understood("lease", leases.find({"kind": "lease"}), leases.full_name)
    return {lease["holder"].get("run"): lease["expires"] for lease in found}


class Journal:
    """The journal in one database.

    :param database: the database of the collections that are run over.
    :param codec_options: those of the collection that is run over, if they are not the database's:
        only with them an `_id` is noted as it is stored, and comes back as it is read there. UUIDs
        of two representations are told apart by nothing else.
    :param model_class: the name, with its module, of the class that is run over. Runs that it
        begins have it, and the latest run is one of this class or of one that is not known. A run
        that is named may be one of a class that was moved to another module since.

    Every method raises `pymongo.errors.PyMongoError` where the connection or the rights fail. A
    checkpoint, a beat and an end may be repeated: they set what they are given.
    """

    def __init__(
        self,
        database: Database[Any],
        name: str = JOURNAL,
        *,
        codec_options: CodecOptions[Any] | None = None,
        model_class: str | None = None,
    ) -> None:
        self.collection = journal_collection(database, name, codec_options)
        self.model_class = model_class
        self._indexed = False

    def begin(self, run: NewRun) -> RunEntry:
        """Write the entry of a new run, and forget the oldest ended ones of its collection.

        To begin the same run twice is to begin it once.
        """
        self._ensure_indexes()
        entry = {
            "_id": run.id,
            "kind": "run",
            "model": run.model,
            "model_class": self.model_class,
            "collection": run.collection,
            "handler": run.handler,
            "scope": run.scope,
            "rules": [
                _new_step(name, digest, "skipped" if name in run.skipped else "pending")
                for name, digest in run.rules
            ],
            "options": without_secrets(dict(run.options)),
            "note": without_secrets(run.note),
            "lease": run.lease,
            "waited": {},
            "ended": None,
            **_begun(),
        }
        session = _session(entry, entry["options"], run.note)
        stored = self._stamp({"_id": entry["_id"]}, entry, [session], begins=True)
        assert stored is not None
        self.prune(run.keep_runs, run.collection)
        return RunEntry.read(stored)

    def resume(
        self,
        model: str,
        collection: str,
        scope: Scope,
        run_id: ObjectId | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        note: str | None = None,
        lease: float | None = None,
    ) -> RunEntry | None:
        """Take over a run that has not finished, as one that is running again.

        The lease of the collection must be held. What was asked of the run before is forgotten.

        :param run_id: that run; without it the latest one, unless a later run with the same rules
            has finished.
        :param options: those of this session, as in `NewRun`; the run has them from now on, all of
            them. What the sessions before had stays with them.
        :param note: of this session; without it the run keeps the one that it has.
        :param lease: of this session, as in `NewRun`.
        :returns: `None` if there is none.
        :raises RunNotFound: there is no such run of this model, collection and scope.
        :raises RunNotActive: that run has finished.
        """
        self._ensure_indexes()
        mine = {"kind": "run", "collection": collection, "model": model, "scope": scope}
        if run_id is None:
            known = [self.model_class, None]
            of_class = {} if self.model_class is None else {"model_class": {"$in": known}}
            found = self._latest_unfinished({**mine, **of_class})
        else:
            found = self._by_id(mine, run_id)
        if found is None:
            return None
        changes = {
            "ended": None,
            "reopened": [],
            "options": found["options"] if options is None else without_secrets(dict(options)),
            "note": found["note"] if note is None else without_secrets(note),
            "lease": found["lease"] if lease is None else lease,
            **_begun(),
        }
        query = {"_id": found["_id"], "token": found["token"], "state": {"$ne": "finished"}}
        sessions = [*found["sessions"], _session(changes, changes["options"], note)]
        stored = self._stamp(query, changes, sessions[-_MOST_SESSIONS:])
        if stored is None:
            raise self._taken_over(found["_id"], collection)
        return RunEntry.read(stored)

    def checkpoint(
        self,
        entry: RunEntry,
        position: int,
        *,
        at: Raw | None,
        done: int,
        matched: int,
        modified: int,
        quarantined: int,
        passes: int,
        repeatable: bool,
        seconds: float,
        waiting: str | None,
        waited: Mapping[str, float],
        total: int | None,
        exact: bool,
        state: str,
        session: ClientSession | None = None,
    ) -> Control:
        """Write how far a rule is, and give what is asked of the run; one round trip.

        All counts are those of the rule since the run began.

        :param position: the rule's place in `entry.steps`.
        :param at: where the rule is to go on: a mapping with the `_id` of the last document that
            is done; `None` before the first.
        :param passes: how many passes over the collection have ended.
        :param repeatable: false once an update was met that must not be written twice.
        :param seconds: spent on this rule.
        :param waiting: why the run waits at this moment, `None` if it does not.
        :param waited: seconds that the run has waited, by reason.
        :param total: documents that there are to do; `exact` unless it is an estimate.
        :param state: `running` or `done`.
        :raises RunTakenOver: the run is no longer ours.
        """
        step = {
            "state": state,
            "at": at,
            "done": done,
            "total": total,
            "exact": exact,
            "matched": matched,
            "modified": modified,
            "quarantined": quarantined,
            "passes": passes,
            "repeatable": repeatable,
            "seconds": seconds,
        }
        values = {f"rules.{position}.{key}": value for key, value in step.items()}
        return self._report(entry, {**values, **_waits(waiting, waited)}, "heartbeat", session)

    def hold(self, entry: RunEntry, session_id: Raw) -> None:
        """Write in which session the run opens its transactions, before the first one.

        :raises RunTakenOver: the run is no longer ours.
        """
        self._report(entry, {"session": dict(session_id)}, "heartbeat")

    def sessions_left(self, collection: str) -> list[Raw]:
        """The sessions of runs over a collection that have not ended, the newest first.

        Whoever holds the lease of the collection knows that their processes are dead.
        """
        query = {"kind": "run", "collection": collection, "ended": None}
        found = self.collection.find({**query, "session": {"$exists": True}}, {"session": 1})
        sessions = [entry["session"] for entry in found.sort("_id", -1).limit(_MOST_SESSIONS)]
        ids = [each["id"] for each in sessions if isinstance(each, Mapping) and "id" in each]
        # A client may read back as a UUID what it can only send as binary.
        return [{"id": Binary.from_uuid(each) if isinstance(each, UUID) else each} for each in ids]

    def disown(self, run_id: ObjectId) -> None:
        """Take a run away from the process that had it, without going on with it."""
        self.collection.update_one({"_id": run_id, "kind": "run"}, {"$set": {"token": None}})

    def own(self, entry: RunEntry) -> None:
        """Make this process the owner of a run that has ended, for a retry."""
        token = ObjectId()
        self.collection.update_one({"_id": entry.id, "kind": "run"}, {"$set": {"token": token}})
        entry.token = token

    def touch(self, entry: RunEntry, session: ClientSession | None) -> None:
        """Write into the entry of a run that is retried: that fails if it is ours no more.

        :raises RunTakenOver: the run is no longer ours.
        """
        self._report(entry, {"retry.pid": os.getpid()}, "retry.at", session)

    def beat(self, entry: RunEntry, *, waiting: str | None, waited: Mapping[str, float]) -> Control:
        """Give a sign of life while there is no progress, and give what is asked of the run.

        :raises RunTakenOver: the run is no longer ours.
        """
        return self._report(entry, _waits(waiting, waited), "heartbeat")

    def edited(self, entry: RunEntry, position: int, digest: str) -> Control:
        """Write that a rule was edited since the run began, and that it begins anew.

        What was counted before stays counted, except the documents that are done.

        :raises RunTakenOver: the run is no longer ours.
        """
        begun = _new_step(entry.steps[position]["name"], digest)
        keys = ("digest", "state", "at", "done", "total", "exact", "passes", "repeatable")
        step = {**{key: begun[key] for key in keys}, "edited": True}
        values = {f"rules.{position}.{key}": value for key, value in step.items()}
        return self._report(entry, values, "heartbeat")

    def skip(self, entry: RunEntry, position: int) -> Control:
        """Write that a rule is not to be applied by the run any more.

        :raises RunTakenOver: the run is no longer ours.
        """
        return self._report(entry, {f"rules.{position}.state": "skipped"}, "heartbeat")

    def finish(self, entry: RunEntry, state: str, error: str | None = None) -> None:
        """Write that the run has ended.

        :param state: `finished`, `stopped` or `failed`.
        :param error: the text of the error that ended it.
        :raises RunTakenOver: the run is no longer ours.
        """
        values = {"state": state, "error": _short(error), "waiting": None}
        self._report(entry, values, "ended")

    def reopen(self, entry: RunEntry, rules: Sequence[str]) -> None:
        """Write which rules match documents again, because of a later one; before the end.

        :raises RunTakenOver: the run is no longer ours.
        """
        self._report(entry, {"reopened": list(rules)}, "heartbeat")

    def quarantine(
        self,
        entry: RunEntry,
        rule: str,
        errors: Sequence[MigrationError],
        session: ClientSession | None = None,
    ) -> None:
        """Keep the errors of documents that this run leaves as they are.

        A document that is there for the same rule and run already gets the new error.
        """
        if not errors:
            return
        changes = [
            (
                {"_id": {"run": entry.id, "rule": rule, "document_id": error.document_id}},
                {
                    "$set": {
                        "kind": "quarantine",
                        "run": entry.id,
                        "collection": entry.collection,
                        "rule": rule,
                        "document_id": error.document_id,
                        "error": _short(error.problem),
                        "type": type(error).__name__,
                    },
                    "$currentDate": {"at": True},
                },
            )
            for error in errors
        ]
        if is_mongomock(self.collection):
            for query, update in changes:
                self.collection.update_one(query, update, upsert=True)
            return
        self.collection.bulk_write(
            [UpdateOne(query, update, upsert=True) for query, update in changes],
            ordered=False,
            session=session,
        )

    def read(self, run_id: ObjectId, collection: str) -> RunEntry:
        """A run as it is noted, without taking it over.

        :raises RunNotFound: there is no such run over this collection.
        """
        stored = self.collection.find_one({"_id": run_id, "kind": "run", "collection": collection})
        if stored is None:
            raise RunNotFound(
                f"the journal has no run {run_id} over {collection}",
                collection=self._full_name(collection),
                run=run_id,
                remedy=Remedy("list_runs"),
            )
        self._check(stored)
        return RunEntry.read(stored)

    def _check(self, run: Raw) -> None:
        """See that the entry of a run is as this version writes it."""
        fault = fault_of("run", run)
        if fault is not None:
            raise RunNotFound(
                f"{self.collection.full_name}: the record {run['_id']} is no run that this version "
                f"knows, because {fault}: another program or version has written it",
                run=run["_id"],
            )

    def quarantined_by_rule(self, run_id: ObjectId) -> dict[str, list[Any]]:
        """The `_id`s of the documents in the quarantine of a run, by the rule that failed."""
        found: dict[str, list[Any]] = {}
        every = self.collection.find({"kind": "quarantine", "run": run_id}).sort("_id", 1)
        for entry in understood("quarantine", every, self.collection.full_name):
            document_id = known_again(entry["document_id"])
            found.setdefault(entry["rule"], []).append(document_id)
        return found

    def release(self, run_id: ObjectId, rule: str, document_ids: Sequence[Any]) -> None:
        """Take documents out of the quarantine of a run: they were migrated after all."""
        keys = [{"run": run_id, "rule": rule, "document_id": key} for key in document_ids]
        for first in range(0, len(keys), _RELEASED_AT_ONCE):
            self.collection.delete_many({"_id": {"$in": keys[first : first + _RELEASED_AT_ONCE]}})

    def quarantined_ids(self, run_id: ObjectId, within: Raw | None = None) -> list[Any]:
        """The `_id`s of the documents in the quarantine of a run, in order; once for each rule.

        :param within: a query on `_id` alone, as that of a chunk; the server compares.
        """
        query = {"kind": "quarantine", "run": run_id, **_on_document_id(within or {})}
        found = self.collection.find(query, {"document_id": 1}).sort("document_id", 1)
        return [known_again(entry["document_id"]) for entry in found if "document_id" in entry]

    def sample(self, model: str, collection: str, remaining: Mapping[str, int | None]) -> None:
        """Keep how many documents each rule has left, for a chart.

        A sample that is less than a minute younger than the last one replaces it. Of more than
        1,000 every second one of the older half goes, so that the curve keeps its beginning.
        """
        self._ensure_indexes()
        series = {"kind": "sample", "model": model, "collection": collection}
        last = self._last_sample(series)
        values = {**series, "remaining": dict(remaining)}
        if last is not None:
            self.collection.update_one(
                {"_id": last}, {"$set": values, "$currentDate": {"at": True}}, upsert=True
            )
            return
        self.collection.update_one(
            {"_id": ObjectId()},
            {"$set": values, "$currentDate": {"at": True, "since": True}},
            upsert=True,
        )
        if self.collection.count_documents(series) > _MOST_SAMPLES:
            oldest = self.collection.find(series, {"_id": 1}).sort("since", 1)
            ids = [entry["_id"] for entry in oldest.limit(_MOST_SAMPLES // 2)]
            self.collection.delete_many({"_id": {"$in": ids[1::2]}})

    def prune(self, keep_runs: int = KEEP_RUNS, collection: str | None = None) -> int:
        """Forget the oldest ended runs of each collection, and what they have in quarantine.

        A run that has not ended stays, unless it has given no sign of life for a week and holds no
        lease either.

        :param keep_runs: how many of the newest ended runs of each collection stay.
        :param collection: only the runs of this one.
        :returns: how many runs were forgotten.
        :raises ValueError: `keep_runs` is below 0.
        """
        if keep_runs < 0:
            raise ValueError(f"keep_runs is {keep_runs}; use a number of runs")
        collections = (
            self.collection.distinct("collection", {"kind": "run"})
            if collection is None
            else [collection]
        )
        now = client_now() if is_mongomock(self.collection) else "$$NOW"
        leases = leases_of(self.collection.database)
        forgotten = 0
        for name in collections:
            runs = self.collection.aggregate(
                [
                    {"$match": {"kind": "run", "collection": name}},
                    {"$sort": {"started": -1, "_id": -1}},
                    {"$addFields": {"now": now}},
                ]
            )
            ended = [
                run["_id"]
                for run in runs
                # What another program has written is not ours to forget.
                if fault_of("run", run) is None
                and (
                    run["state"] != "running"
                    or (
                        run["now"] - run["heartbeat"] > _ABANDONED
                        and leases.get(run["_id"], run["now"]) <= run["now"]
                    )
                )
            ]
            for run_id in ended[keep_runs:]:
                self.forget(run_id)
                forgotten += 1
        return forgotten

    def forget(self, run_id: ObjectId) -> None:
        """Delete the entry of a run, and what it has in quarantine."""
        self.collection.delete_many({"kind": "quarantine", "run": run_id})
        self.collection.delete_one({"_id": run_id, "kind": "run"})

    def _report(
        self,
        entry: RunEntry,
        values: Mapping[str, Any],
        stamp: str,
        session: ClientSession | None = None,
    ) -> Control:
        """Set values in the entry of a run that must still be ours."""
        given: dict[str, Any] = {} if session is None else {"session": session}
        stored = self.collection.find_one_and_update(
            {"_id": entry.id, "token": entry.token},
            {"$set": values, "$currentDate": {stamp: True}},
            projection={"control": 1, "_id": 0},
            **given,
        )
        if stored is None:
            raise self._taken_over(entry.id, entry.collection)
        return Control.read(stored["control"])

    def _stamp(
        self,
        query: Raw,
        values: Mapping[str, Any],
        sessions: Sequence[Raw],
        *,
        begins: bool = False,
    ) -> Raw | None:
        """Write an entry whose runner is this process from now on; gives it as it is then.

        The last of the sessions begins now. Every value is literal: an aggregation would take
        `$name` in a note for a path.
        """
        *earlier, session = sessions
        stored: Raw | None
        if is_mongomock(self.collection):
            now = client_now()
            stamped = {**values, "heartbeat": now, "sessions": [*earlier, {**session, "at": now}]}
            if begins:
                stamped["started"] = now
            result = self.collection.update_one(query, {"$set": stamped}, upsert=begins)
            if not result.matched_count and not begins:
                return None
            stored = self.collection.find_one({"_id": query["_id"]})
            return stored
        stamps: dict[str, Any] = {
            "heartbeat": "$$NOW",
            "sessions": {
                "$concatArrays": [
                    {"$literal": earlier},
                    [{"$mergeObjects": [{"$literal": session}, {"at": "$$NOW"}]}],
                ]
            },
        }
        if begins:
            stamps["started"] = "$$NOW"
        merged = {"$mergeObjects": ["$$ROOT", {"$literal": values}, stamps]}
        stored = self.collection.find_one_and_update(
            query,
            [{"$replaceWith": merged}],
            upsert=begins,
            return_document=ReturnDocument.AFTER,
        )
        return stored

    def _by_id(self, mine: Raw, run_id: ObjectId) -> Raw:
        """The run with this id, if it can be gone on with."""
        what: dict[str, Any] = {"collection": self._full_name(mine["collection"]), "run": run_id}
        run: Raw | None = self.collection.find_one({**mine, "_id": run_id})
        if run is None:
            raise RunNotFound(
                f"{mine['model']}: the journal has no {mine['scope']} run {run_id} over "
                f"{what['collection']}",
                **what,
                remedy=Remedy("list_runs"),
            )
        self._check(run)
        if run["state"] == "finished":
            raise RunNotActive(
                f"{mine['model']}: run {run_id} over {what['collection']} has finished; "
                "begin a new one",
                **what,
            )
        return run

    def _latest_unfinished(self, mine: Raw) -> Raw | None:
        """The newest run that has not finished, and that no later run has made needless."""
        found = self.collection.find({**mine, "state": {"$ne": "finished"}})
        found = found.sort([("started", -1), ("_id", -1)])
        run = next(understood("run", found, self.collection.full_name), None)
        if run is None:
            return None
        later = {
            **mine,
            "state": "finished",
            "started": {"$gt": run["started"]},
            "rules.name": {"$all": [step["name"] for step in run["rules"]]},
        }
        return None if self.collection.find_one(later, {"_id": 1}) is not None else run

    def _last_sample(self, series: Raw) -> ObjectId | None:
        """The `_id` of the newest sample, if its minute is not over."""
        now = client_now() if is_mongomock(self.collection) else "$$NOW"
        newest = self.collection.aggregate(
            [
                {"$match": series},
                {"$sort": {"since": -1}},
                {"$limit": 1},
                {"$project": {"since": 1, "now": now}},
            ]
        )
        for entry in newest:
            since = entry.get("since")
            if isinstance(since, datetime) and entry["now"] - since < _SAMPLE_INTERVAL:
                last: ObjectId = entry["_id"]
                return last
        return None

    def _taken_over(self, run_id: ObjectId, collection: str) -> RunTakenOver:
        now = self.collection.find_one({"_id": run_id}, {"host": 1, "pid": 1, "token": 1})
        if now is None:
            what = "its entry was deleted"
        elif now.get("token") is None:
            what = "its lease expired, and another run has taken the collection"
        else:
            what = f"{now.get('host')} (pid {now.get('pid')}) has resumed it"
        return RunTakenOver(
            f"{self._full_name(collection)}: run {run_id} is no longer this process's: {what}",
            collection=self._full_name(collection),
            run=run_id,
        )

    def _full_name(self, collection: str) -> str:
        return f"{self.collection.database.name}.{collection}"

    def _ensure_indexes(self) -> None:
        if self._indexed:
            return
        try:
            self.collection.create_index([("kind", 1), ("collection", 1), ("started", -1)])
            self.collection.create_index(
                [("run", 1), ("document_id", 1)], partialFilterExpression={"kind": "quarantine"}
            )
        except OperationFailure as exc:
            # They save time, nothing else: whoever may not make them can still run.
            if exc.code != _UNAUTHORIZED:
                raise
            logger.warning("%s: no right to make its indexes", self.collection.full_name)
        self._indexed = True


def _begun() -> dict[str, Any]:
    """What the entry of a run says once this process runs it."""
    return {
        "token": ObjectId(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "state": "running",
        "error": None,
        "waiting": None,
        "control": {"action": "run", "limits": {}, "by": None},
    }


def _session(begun: Raw, options: Raw, note: str | None) -> dict[str, Any]:
    """What an entry keeps of a session of the run; there may be many, so the note is cut."""
    process = {"host": begun["host"], "pid": begun["pid"]}
    return {**process, "options": options, "note": _short(note)}


def _new_step(name: str, digest: str, state: str = "pending") -> dict[str, Any]:
    return {
        "name": name,
        "digest": digest,
        "state": state,
        "at": None,
        "done": 0,
        "total": None,
        "exact": False,
        "matched": 0,
        "modified": 0,
        "quarantined": 0,
        "passes": 0,
        "repeatable": True,
        "seconds": 0.0,
        "edited": False,
    }


def _waits(waiting: str | None, waited: Mapping[str, float]) -> dict[str, Any]:
    """Why a run waits, and its seconds by reason; what a user's callable says may hold secrets."""
    seconds: dict[str, float] = {}
    for reason, spent in waited.items():
        # Reasons may differ in their connection strings alone.
        told = without_secrets(reason)
        seconds[told] = seconds.get(told, 0.0) + spent
    return {"waiting": without_secrets(waiting), "waited": seconds}


def _short(text: str | None) -> str | None:
    if text is None:
        return None
    text = without_secrets(text)
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 3]}..."


def _on_document_id(query: Raw) -> dict[str, Any]:
    """A query on `_id` as one on the `document_id` of a quarantine entry."""
    return dict(_renamed(query))


def _renamed(query: Raw) -> Iterator[tuple[str, Any]]:
    for key, condition in query.items():
        if key == "_id" or key.startswith("_id."):
            yield f"document{key}", condition
        elif key in ("$and", "$or"):
            yield key, [dict(_renamed(part)) for part in condition]
        else:
            raise ValueError(f"{key} in a chunk's query is no condition on _id")
