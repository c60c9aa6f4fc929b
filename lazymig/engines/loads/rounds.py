"""A batch of stale documents on its way through the rules, round by round, until none is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from pymongo.errors import PyMongoError

from lazymig.engines.access import Positional, Raw, all_of, by_ids, key_of
from lazymig.engines.deadline import Deadline
from lazymig.engines.driver_errors import waited_too_long
from lazymig.engines.loads.attempt import Job
from lazymig.engines.loads.batch import BatchMigration, announce_failure
from lazymig.engines.loads.failure import Failure
from lazymig.engines.loads.rejudging import rejudge, written_back
from lazymig.engines.reading.decoding import Undecoded, decode
from lazymig.engines.store import Store
from lazymig.errors import MigrationTimeout
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.once import CLAIM
from lazymig.rules.plan import Family, Plan

__all__ = ["Reading", "Rounds", "Stale"]

Stale: TypeAlias = Mapping[Plan, Mapping[int, Sequence[BoundRule]]]
"""The rules that a document starts, by its index in the batch, for each plan."""

# So often the rules are applied to a document that somebody else writes back meanwhile.
_MOST_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class Reading:
    """How the documents of a batch were read, and are read again.

    `old` is the query for documents that are still old, where that cannot be seen in what is read.
    """

    projection: Mapping[str, Any] | None = None
    positional: Positional | None = None
    old: Raw | None = None

    def read(
        self, store: Store, documents: Iterable[Raw], *, but: Raw | None = None
    ) -> dict[Any, Raw]:
        """What is stored of these documents now, by the key of the `_id`.

        :param but: a query for documents to leave out.
        """
        stored = {key_of(document["_id"]): document for document in documents}
        ids = [document["_id"] for document in stored.values()]
        fields = dict(self.projection or {})
        metadata = [
            key for key, value in fields.items() if isinstance(value, Mapping) and "$meta" in value
        ]
        for key in metadata:
            del fields[key]
        query = all_of(
            by_ids(ids),
            None if self.positional is None else self.positional.query,
            None if but is None else {"$nor": [but]},
        )
        cursor = store.find(query, fields or None, len(ids))
        if self.positional is not None and self.positional.collation is not None:
            cursor.collation(self.positional.collation)
        found: dict[Any, Raw] = {}
        for answer in cursor:
            fresh = decode(answer, store.collection.codec_options)
            key = key_of(fresh["_id"])
            # A text score exists only in the answer to the text query.
            scores = {name: stored[key][name] for name in metadata if name in stored[key]}
            whole = isinstance(fresh, Undecoded) or not scores
            found[key] = fresh if whole else {**fresh, **scores}
        return found


class Rounds:
    """The documents of one load, and what became of them.

    `current` is what each of them is as matters stand: its stored contents, a failure, or `None`
    where it is gone.
    """

    def __init__(
        self,
        store: Store,
        documents: Sequence[Raw],
        family: Family,
        find_stale: Callable[[Sequence[Raw]], Stale],
        reading: Reading,
        applied: dict[Any, list[str]] | None = None,
    ) -> None:
        self.store = store
        self.family = family
        self.find_stale = find_stale
        self.reading = reading
        self.applied = applied
        self.current: list[Raw | Failure | None] = list(documents)
        self._doubtful: Mapping[int, Raw] = {}
        self._done: dict[int, set[Plan]] = {}
        self._attempts: Counter[int] = Counter()
        self._deadlines: dict[Plan, Deadline] = {}

    def run(self, stale: Stale, *, after_error: bool = False) -> list[Raw | Failure | None]:
        """Apply the rules and read again, as long as a document calls for others, or once more.

        :raises MigrationTimeout: the wait for a document has left no time to read the others.
        :raises pymongo.errors.PyMongoError: the connection, the rights; it is reading that is slow.
        """
        try:
            while stale:
                migrations = self._apply(stale, after_error=after_error)
                stale = self._left(stale, migrations, after_error=after_error)
                # In the first round the rules are tried on an error; what is left is matching.
                after_error = False
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            late = exc
        else:
            return self.current
        failures = [each for each in self.current if isinstance(each, Failure)]
        if all(isinstance(self.current[index], Failure) for index in self._doubtful) and failures:
            # Nothing depends on what is stored of documents that have failed.
            return self.current
        errors = (each.error for each in failures)
        raise next((error for error in errors if isinstance(error, MigrationTimeout)), late)

    def _apply(self, stale: Stale, *, after_error: bool) -> dict[Plan, BatchMigration]:
        """One round: the documents are current after it."""
        migrations: dict[Plan, BatchMigration] = {}
        touched: dict[int, Raw] = {}
        for plan, matches in stale.items():
            batch = {index: _raw(self.current[index]) for index in matches}
            touched.update(batch)
            job = Job(
                self.store.for_plan(plan),
                plan,
                after_error=after_error,
                whole=self.reading.projection is None,
                applied=self.applied,
            )
            migration = migrations[plan] = BatchMigration(job, batch, matches)
            migration.run(self._deadlines.get(plan))
            self._deadlines[plan] = migration.deadline
            for index in matches:
                self._done.setdefault(index, set()).add(plan)
        for migration in migrations.values():
            self._fail(migration.failures)
        self._read_again(touched)
        return migrations

    def _read_again(self, touched: Mapping[int, Raw]) -> None:
        """Put what is stored in place of documents, and note which of them may still be old.

        A failure stays, unless its document is gone.
        """
        old, reading = self.reading.old, self.reading
        doubtful = self._doubtful = touched
        if old is None or reading.positional is not None:
            found = reading.read(self.store, touched.values())
            if old is not None:
                # A filter for `$` takes no further condition of any kind.
                ids = [document["_id"] for document in touched.values()]
                left = self.store.keys_matching([all_of(by_ids(ids), old)], len(ids))
                doubtful = _of_keys(touched, left)
        else:
            found = reading.read(self.store, touched.values(), but=old)
            missing = {key_of(document["_id"]) for document in touched.values()} - found.keys()
            doubtful = _of_keys(touched, missing)
            if missing:
                found.update(reading.read(self.store, doubtful.values()))
        for index, document in touched.items():
            fresh = found.get(key_of(document["_id"]))
            if fresh is None or not isinstance(self.current[index], Failure):
                self.current[index] = fresh
        self._doubtful = doubtful

    def _fail(self, failures: Mapping[int, Failure]) -> None:
        for index, failure in failures.items():
            if self.current[index] is not None:
                self.current[index] = failure

    def _left(
        self, former: Stale, migrations: Mapping[Plan, BatchMigration], *, after_error: bool
    ) -> Stale:
        """The rules for the next round."""
        if after_error and self.family.only is not None:
            return {}
        indexes = [
            index
            for index in self._doubtful
            if isinstance(self.current[index], Mapping)
            and not isinstance(self.current[index], Undecoded)
        ]
        if not indexes:
            return {}
        found = self.find_stale([_raw(self.current[index]) for index in indexes])
        left: dict[Plan, dict[int, Sequence[BoundRule]]] = {}
        for plan, matches in found.items():
            again: dict[int, Sequence[BoundRule]] = {}
            for position, rules in matches.items():
                index = indexes[position]
                if plan not in self._done[index]:
                    # A rule has handed it over to those of another class.
                    left.setdefault(plan, {})[index] = rules
                elif plan in migrations and index in former.get(plan, ()) and not after_error:
                    again[index] = rules
            if again:
                once_more = self._once_more(migrations[plan], again)
                if once_more:
                    left.setdefault(plan, {}).update(once_more)
        return left

    def _once_more(
        self, migration: BatchMigration, matching: Mapping[int, Sequence[BoundRule]]
    ) -> dict[int, Sequence[BoundRule]]:
        """The rules for documents that somebody else has written since they were applied."""
        plan = migration.plan
        rejudged = rejudge(migration, self._whole(plan, matching))
        failures = rejudged.failures
        for index, rules in list(rejudged.again.items()):
            self._attempts[index] += 1
            if self._attempts[index] == _MOST_ATTEMPTS or migration.deadline.is_over:
                document_id = _raw(self.current[index])["_id"]
                failures[index] = written_back(plan, rules, document_id)
                del rejudged.again[index]
        for error in failures.values():
            announce_failure(self.store.collection, plan, error)
        self._fail(
            {
                index: Failure(_raw(self.current[index]), plan, error)
                for index, error in failures.items()
            }
        )
        return rejudged.again

    def _whole(
        self, plan: Plan, matching: Mapping[int, Sequence[BoundRule]]
    ) -> dict[int, tuple[Raw, Sequence[BoundRule]]]:
        """The whole documents, with the rules of which each is known to match one at least."""
        documents = {
            index: document
            for index in matching
            if CLAIM not in (document := _raw(self.current[index]))
        }
        if self.reading.projection is None:
            return {index: (document, matching[index]) for index, document in documents.items()}
        whole = Reading().read(self.store, documents.values())
        found = {}
        for index, document in documents.items():
            fresh = whole.get(key_of(document["_id"]))
            if fresh is None or CLAIM in fresh:
                continue
            certain, uncertain = plan.judge([fresh])
            found[index] = fresh, certain.get(0) or uncertain.get(0) or matching[index]
        return found


def _of_keys(documents: Mapping[int, Raw], keys: Container[Any]) -> dict[int, Raw]:
    return {index: each for index, each in documents.items() if key_of(each["_id"]) in keys}


def _raw(document: Raw | Failure | None) -> Raw:
    assert isinstance(document, Mapping)
    return document
