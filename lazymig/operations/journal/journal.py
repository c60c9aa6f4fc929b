"""Journal: the runs of a journal's collection, as the runner writes them.

`history` reads them and sends requests; see `collection` for what else is there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions
from pymongo import ReturnDocument
from pymongo.client_session import ClientSession
from pymongo.database import Database

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import Remedy, RunNotActive, RunNotFound, RunTakenOver
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import (
    client_now,
    ensure_indexes,
    journal_collection,
)
from lazymig.operations.journal.entries import Control, NewRun, RunEntry, short
from lazymig.operations.journal.quarantine import Quarantine
from lazymig.operations.journal.records import FORMAT, checked_run, refusing_newer, understood
from lazymig.operations.journal.retention import add_sample, prune
from lazymig.operations.journal.rule_run import RuleRun
from lazymig.redaction import without_secrets
from lazymig.rules.rule import Scope

__all__ = ["Journal"]

_MOST_SESSIONS = 100


class Journal:
    """The journal in one database.

    :param database: the database of the collections that are run over.
    :param codec_options: those of the collection that is run over, if they are not the database's:
        only with them an `_id` is noted as it is stored, and comes back as it is read there. UUIDs
        of two representations differ by nothing else.
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
        self.quarantine = Quarantine(self.collection)
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
                RuleRun(name, digest, "skipped" if name in run.skipped else "pending").to_bson()
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
        prune(self.collection, run.keep_runs, run.collection)
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
        :raises RunError: a newer version has begun the latest one.
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
        state: RuleRun,
        *,
        waited: Mapping[str, float],
        session: ClientSession | None = None,
    ) -> Control:
        """Write how far a rule is, and give what is asked of the run; one round trip.

        :param position: the rule's place in `entry.rules`.
        :param waited: seconds that the run has waited, by reason.
        :raises RunTakenOver: the run is no longer ours.
        """
        # Key by key: those that a later version has added to the rule stay as they are.
        values = {f"rules.{position}.{key}": value for key, value in state.to_bson().items()}
        values |= _waits(None, waited)
        return self._report(entry, values, "heartbeat", session)

    def hold(self, entry: RunEntry, session_id: Raw) -> None:
        """Write in which session the run opens its transactions, before the first one.

        :raises RunTakenOver: the run is no longer ours.
        """
        self._report(entry, {"session": dict(session_id)}, "heartbeat")

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

    def finish(self, entry: RunEntry, state: str, error: str | None = None) -> None:
        """Write that the run has ended.

        :param state: `finished`, `stopped` or `failed`.
        :param error: the text of the error that ended it.
        :raises RunTakenOver: the run is no longer ours.
        """
        values = {"state": state, "error": short(error), "waiting": None}
        self._report(entry, values, "ended")

    def reopen(self, entry: RunEntry, rules: Sequence[str]) -> None:
        """Write which rules match documents again, because of a later one; before the end.

        :raises RunTakenOver: the run is no longer ours.
        """
        self._report(entry, {"reopened": list(rules)}, "heartbeat")

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
        return RunEntry.read(checked_run(stored, self.collection.full_name))

    def sample(self, model: str, collection: str, remaining: Mapping[str, int | None]) -> None:
        """Keep how many documents each rule of a model has left now."""
        self._ensure_indexes()
        add_sample(self.collection, model, collection, remaining)

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
        """The run with this id, if it can be resumed."""
        what: dict[str, Any] = {"collection": self._full_name(mine["collection"]), "run": run_id}
        run: Raw | None = self.collection.find_one({**mine, "_id": run_id})
        if run is None:
            raise RunNotFound(
                f"{mine['model']}: the journal has no {mine['scope']} run {run_id} over "
                f"{what['collection']}",
                **what,
                remedy=Remedy("list_runs"),
            )
        checked_run(run, self.collection.full_name)
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
        name = self.collection.full_name
        run = next(understood("run", refusing_newer(found, name), name), None)
        if run is None:
            return None
        later = {
            **mine,
            "state": "finished",
            "started": {"$gt": run["started"]},
            "rules.name": {"$all": [step["name"] for step in run["rules"]]},
        }
        return None if self.collection.find_one(later, {"_id": 1}) is not None else run

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
        if not self._indexed:
            ensure_indexes(self.collection)
            self._indexed = True


def _begun() -> dict[str, Any]:
    """What the entry of a run says once this process runs it."""
    return {
        "format": FORMAT,
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
    return {**process, "options": options, "note": short(note)}


def _waits(waiting: str | None, waited: Mapping[str, float]) -> dict[str, Any]:
    """Why a run waits, and its seconds by reason; what a user's callable says may hold secrets."""
    seconds: dict[str, float] = {}
    for reason, spent in waited.items():
        # Reasons may differ in their connection strings alone.
        kept = without_secrets(reason)
        seconds[kept] = seconds.get(kept, 0.0) + spent
    return {"waiting": without_secrets(waiting), "waited": seconds}
