"""The restore of a backup: each document as it was before the first change that is in the files."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bson.codec_options import DatetimeConversion
from bson.errors import InvalidBSON
from pymongo import InsertOne, ReplaceOne, UpdateOne
from pymongo.database import Database
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from lazymig.engines.access import is_mongomock, writable
from lazymig.engines.driver_errors import is_document_error
from lazymig.engines.validators import INVALID, Validator, read_validator, seals_in_refusal
from lazymig.errors import LeaseLost, RunOptionError
from lazymig.operations.backup.chain import UNKNOWN, Chain, Origin
from lazymig.operations.backup.files import batched, digest, stored_now
from lazymig.operations.backup.reader import BackupReader, opened_backup
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import (
    UNAUTHORIZED,
    journal_collection,
)
from lazymig.operations.journal.lease import Lease
from lazymig.operations.runs.outlasting import FIRST_PAUSE, PATIENCE, outlast
from lazymig.operations.runs.transactions import on_its_own
from lazymig.raw.elements import (
    RawDocument,
    condition,
    element_at,
    is_odd,
    value_of,
)

__all__ = ["RestoreConflict", "RestoreReport", "restore"]

logger = logging.getLogger(__name__)

# Conflicts that a report lists.
_MOST_CONFLICTS = 1000

# A write holds the document twice, and the server takes 16 MiB; beyond this, only its size is
# compared again.
_MOST_COMPARED = 12 << 20

# An upsert with this matches nothing, so that it inserts, or fails on the `_id` that is there.
_NOTHING: dict[str, Any] = {"$nor": [{}]}

_DELETED = "it was deleted since"
_CHANGED = "it was changed since"
_BROKEN_OFF = (
    "a run that was broken off may have changed it, or somebody else; resume the run, which finds "
    "out where it can"
)
_CHANGED_BETWEEN = "it was changed by others between two changes of the backup"
_CHANGED_NOW = "it was changed while it was restored"


@dataclass(frozen=True, slots=True)
class RestoreConflict:
    """A document that was left alone: the collection with its database, the `_id`, the reason.

    An `_id` that Python cannot hold is named as far as it can be said.
    """

    collection: str
    document_id: Any
    reason: str


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore did: documents put back, and documents that were as before already.

    `conflicts` lists at most 1,000 documents that were left alone, `conflict_count` counts all.
    `refused` of them MongoDB does not take, not even by force. `seals` are the sealed rules, as
    `Model.rule`, that look for such documents: once `unseal()` has taken them out, a restore puts
    these back.
    """

    restored: int
    unchanged: int
    conflicts: tuple[RestoreConflict, ...]
    conflict_count: int
    seconds: float
    collections: tuple[str, ...]
    refused: int = 0
    seals: tuple[str, ...] = ()


@dataclass(slots=True)
class _RestoreCounts:
    restored: int = 0
    unchanged: int = 0
    conflict_count: int = 0
    conflicts: list[RestoreConflict] = field(default_factory=list)
    collections: list[str] = field(default_factory=list)
    refused: int = 0
    seals: dict[str, None] = field(default_factory=dict)

    def add(self, other: _RestoreCounts) -> None:
        self.restored += other.restored
        self.unchanged += other.unchanged
        self.conflict_count += other.conflict_count
        self.conflicts += other.conflicts[: _MOST_CONFLICTS - len(self.conflicts)]
        self.refused += other.refused
        self.seals |= other.seals

    def report(self, seconds: float) -> RestoreReport:
        return RestoreReport(
            restored=self.restored,
            unchanged=self.unchanged,
            conflicts=tuple(self.conflicts),
            conflict_count=self.conflict_count,
            seconds=seconds,
            collections=tuple(self.collections),
            refused=self.refused,
            seals=tuple(self.seals),
        )


def restore(
    path: Path | str,
    database: Database[Any],
    *,
    force: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> RestoreReport:
    """Undo all runs whose backup is in a folder, in the collections of one database.

    While a collection is restored no bulk run works on it: a restore takes the same lease. A
    user who may not write `lazymig_journal` restores without it; a warning in the log says so. A
    server that is away is waited for.

    A document is put back if it is, byte for byte, as the last committed change has left it, and
    if nobody else has written it between two changes. Others are conflicts and left alone. Doing
    this twice, or after a restore that was killed, does no harm.

    :param path: the folder that was given as `backup`.
    :param database: the database; the backup must have a folder of its name.
    :param force: put back the conflicts, too: changed documents are replaced, deleted ones
        inserted.
    :param progress: called now and then with the documents done and their total, for each
        collection.
    :raises BackupUnreadable: there is no backup of this database, or it is damaged, or it is being
        written, by this process or another one. All of it is looked at first: nothing is restored.
    :raises CollectionLocked: a bulk run, or another restore, is at work on a collection; those
        that came before are restored.
    :raises LeaseLost: the lease could not be kept; doing it again continues.
    :raises RunError: it was called in a transaction, or within a time limit.
    :raises RunOptionError: it is no database of a server.
    :raises pymongo.errors.PyMongoError: the connection or the rights; documents that the server
        refuses are conflicts instead.
    """
    if is_mongomock(database):
        raise RunOptionError(
            f"{database.name} is a database of mongomock, and a restore needs a server",
            option="database",
        )
    started = time.perf_counter()
    tally = _RestoreCounts()
    with (
        on_its_own(database, database.name, "restore"),
        opened_backup(path, database.name) as (folder, found),
    ):
        for files in found:
            with BackupReader(folder, files) as backup:
                _Restore(backup, database, tally, force=force, progress=progress).run()
    return tally.report(time.perf_counter() - started)


class _Write(NamedTuple):
    """A write that puts a document back."""

    element: bytes
    document: bytes
    operation: ReplaceOne[Any] | InsertOne[Any] | UpdateOne


class _Restore:
    """One collection, put back."""

    def __init__(
        self,
        backup: BackupReader,
        database: Database[Any],
        tally: _RestoreCounts,
        *,
        force: bool,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        self._backup = backup
        self._database = database
        self._tally = tally
        self._force = force
        self._progress = progress
        self._lease: Lease | None = None
        self._part = _RestoreCounts()
        self._done = 0
        # Asked for when the first document is refused.
        self._validator: Validator | None = None

    def run(self) -> None:
        """Read the files twice: to learn each document's chain of changes, and to put back."""
        if not any(True for _ in self._backup.attempts()):
            return
        self._collection = writable(self._database[self._backup.opening["collection"]])
        self._name = str(self._collection.full_name)
        with ExitStack() as opened:
            self._take_lease(opened)
            self._tally.collections.append(self._name)
            self._chain = opened.enter_context(closing(Chain(self._backup)))
            self._put_back_all()

    def _take_lease(self, opened: ExitStack) -> None:
        """Keep bulk runs out, where the journal may be written."""
        journal = journal_collection(self._database)
        lease = Lease(journal, self._collection.name, holder={"note": "restore"})
        try:
            outlast(self._name, lease.acquire)
            opened.callback(lease.release)
            self._lease = lease
        except OperationFailure as exc:
            if exc.code != UNAUTHORIZED:
                raise
            logger.warning(
                "%s: no right to write the journal %s; restored without the lease that keeps bulk "
                "runs out",
                self._name,
                JOURNAL,
            )

    def _check_lease(self) -> None:
        lease = self._lease
        if lease is None:
            return
        until = time.monotonic() + PATIENCE
        while not lease.valid:
            if lease.taken or time.monotonic() > until:
                raise LeaseLost(
                    f"{self._name}: the lease was lost while it was restored; restore again, which "
                    "continues with the documents that are left",
                    collection=self._name,
                )
            # The server was away; the lease's own thread renews it, unless another has taken it.
            time.sleep(FIRST_PAUSE)

    # Putting back

    def _put_back_all(self) -> None:
        for origins in batched(self._chain.origins(), lambda each: len(each.document)):
            self._put_back(origins)

    def _put_back(self, origins: dict[bytes, Origin]) -> None:
        """Put back what may be put back of some documents; begin anew while the server is away."""
        sent: set[bytes] = set()
        outlast(self._name, partial(self._attempt, origins, sent))
        self._tally.add(self._part)
        self._done += len(origins)
        if self._progress is not None:
            self._progress(self._done, len(self._chain))

    def _attempt(self, origins: dict[bytes, Origin], sent: set[bytes]) -> None:
        """Put back some documents.

        :param sent: those that a former attempt may have put back; those that this one does.
        """
        self._part = _RestoreCounts()
        stored = stored_now(self._collection, list(origins))
        writes: list[_Write] = []
        for element, origin in origins.items():
            now = stored.get(element)
            if now == origin.document:
                self._part.restored += element in sent
                self._part.unchanged += element not in sent
                continue
            reason = self._reason(origin, now)
            if reason is None or self._force:
                writes.append(self._write(element, origin.document, now))
            else:
                self._conflict(element, reason)
        if writes:
            self._check_lease()
            sent.update(write.element for write in writes)
            self._carry_out(writes)

    @staticmethod
    def _reason(origin: Origin, now: bytes | None) -> str | None:
        """Why a document is left alone; `None` if it is not."""
        if now is None:
            return _DELETED
        if origin.broken:
            return _CHANGED_BETWEEN
        if digest(now) in origin.accepted:
            return None
        return _BROKEN_OFF if UNKNOWN in origin.accepted else _CHANGED

    def _write(self, element: bytes, document: bytes, now: bytes | None) -> _Write:
        odd = is_odd(document)
        raw = RawDocument(document)
        if now is None and not odd:
            return _Write(element, document, InsertOne(raw))
        query: dict[str, Any] = {
            "_id": condition("$eq", element),
            **self._shard_of(document if now is None else now),
            **(_NOTHING if now is None else {"$expr": _is_still(now, document)}),
        }
        if odd:
            # Slower, and exact: a literal is stored as it is.
            update = [{"$replaceWith": {"$literal": raw}}]
            return _Write(element, document, UpdateOne(query, update, upsert=now is None))
        return _Write(element, document, ReplaceOne(query, raw))

    def _shard_of(self, now: bytes) -> dict[str, Any]:
        """The conditions that lead a write to the shard that has the document."""
        found: dict[str, Any] = {}
        for path in self._backup.opening["shard_key"]:
            if path != "_id":
                element = element_at(now, path)
                # MongoDB takes nothing for null in a shard key.
                found[path] = {"$eq": None} if element is None else condition("$eq", element)
        return found

    def _carry_out(self, writes: list[_Write]) -> None:
        """Write; what is refused, or was changed meanwhile, is a conflict."""
        refused: dict[int, Mapping[str, Any]] = {}
        try:
            operations = [write.operation for write in writes]
            result: Any = self._collection.bulk_write(operations, ordered=False).bulk_api_result
        except BulkWriteError as exc:
            if not is_document_error(exc):
                raise
            result = exc.details
            refused = {entry["index"]: entry for entry in result["writeErrors"]}
        except InvalidBSON:
            self._carry_out_unanswered(writes)
            return
        for index, entry in refused.items():
            self._refused(writes[index].element, entry)
        written = result["nMatched"] + result["nInserted"] + result["nUpserted"]
        self._part.restored += written
        if written + len(refused) < len(writes):
            open_ones = [write for index, write in enumerate(writes) if index not in refused]
            stored = stored_now(self._collection, [write.element for write in open_ones])
            for write in open_ones:
                if stored.get(write.element) != write.document:
                    self._conflict(write.element, _CHANGED_NOW)

    def _carry_out_unanswered(self, writes: list[_Write]) -> None:
        """Write where the answers cannot be decoded: they name `_id`s, or values of an index.

        What is stored shows what was done. It was not all where an answer to one part of the
        writes has kept the driver from sending the others.
        """
        stored = stored_now(self._collection, [write.element for write in writes])
        for write in writes:
            if stored.get(write.element) != write.document:
                entry: Mapping[str, Any] | None = None
                try:
                    self._collection.bulk_write([write.operation])
                except BulkWriteError as exc:
                    if not is_document_error(exc):
                        raise
                    entry = exc.details["writeErrors"][0]
                except InvalidBSON:
                    entry = {"errmsg": "its reason cannot be decoded"}
                now = stored_now(self._collection, [write.element])
                if now.get(write.element) != write.document:
                    if entry is None:
                        self._conflict(write.element, _CHANGED_NOW)
                    else:
                        self._refused(write.element, entry)
                    continue
            self._part.restored += 1

    def _refused(self, element: bytes, entry: Mapping[str, Any]) -> None:
        """Note what MongoDB has said of a write, without the stored values that it quotes."""
        said = str(entry.get("errmsg")).partition("{")[0].strip()
        problem = said.removesuffix("dup key:").strip()
        if seals := self._seals_in(entry):
            rules = "rule" if len(seals) == 1 else "rules"
            problem = f"it has the old shape of the sealed {rules} {', '.join(seals)}"
        self._part.refused += 1
        self._part.seals |= dict.fromkeys(seals)
        self._conflict(element, f"MongoDB refused it: {problem}")

    def _seals_in(self, entry: Mapping[str, Any]) -> tuple[str, ...]:
        """The seals that have refused a write; none where they cannot be asked for."""
        if entry.get("code") != INVALID:
            return ()
        with suppress(PyMongoError):
            self._validator = self._validator or read_validator(self._collection)
        return () if self._validator is None else seals_in_refusal(self._validator, entry)

    def _conflict(self, element: bytes, reason: str) -> None:
        self._part.conflict_count += 1
        if len(self._tally.conflicts) + len(self._part.conflicts) < _MOST_CONFLICTS:
            options = self._collection.codec_options.with_options(
                datetime_conversion=DatetimeConversion.DATETIME_AUTO
            )
            document_id = value_of(element, options)
            self._part.conflicts.append(RestoreConflict(self._name, document_id, reason))


def _is_still(now: bytes, document: bytes) -> dict[str, Any]:
    """The expression for a document that has not changed since it was read."""
    if len(now) + len(document) > _MOST_COMPARED:
        return {"$eq": [{"$bsonSize": "$$ROOT"}, len(now)]}
    return {"$eq": ["$$ROOT", {"$literal": RawDocument(now)}]}
