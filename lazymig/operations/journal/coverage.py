"""The marks of rules that were applied to a collection, whose targets do not show that they were.

The target of a rule that is not proved to end its match finds a document again, which the next run
would change a second time. So the run that begins with such a rule leaves a mark, which outlives
the run's own entry: it is in the collection of the leases, whatever the journal's name is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.database import Database

from lazymig.engines.access import Raw
from lazymig.errors import Remedy, RunError
from lazymig.operations.journal.collection import journal_collection, lease_collection
from lazymig.operations.journal.entries import RunEntry
from lazymig.operations.journal.records import FORMAT, is_newer
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.rule import Scope

__all__ = ["Coverage", "is_marked"]

logger = logging.getLogger(__name__)


def is_marked(rule: BoundRule, scope: Scope) -> bool:
    """Return whether it has to be noted where a rule was applied.

    A lazy rule refuses an update that would leave its match, and a once rule one of which that is
    not known.
    """
    return scope == "bulk" and rule.converges is not True and rule.once is None


class Coverage:
    """The marks of the rules of a model on one collection."""

    def __init__(self, database: Database[Any], collection: str, model: str) -> None:
        self._database = database
        self._marks: Collection[Any] = lease_collection(database)
        self._of = {"collection": collection, "model": model}
        self._place = f"{database.name}.{collection}"

    def begun(self, entry: RunEntry, rule: str, digest: str, journal: str) -> None:
        """Note that a run is about to apply a rule; before its first write.

        :raises RunError: a newer version has noted something of the rule.
        """
        key = self._key(rule, digest)
        mark = self._marks.find_one({"_id": key}) or {}
        if is_newer(mark) is not None:
            raise self._unreadable(rule, mark)
        self._marks.update_one(
            {"_id": key},
            {
                "$set": {
                    **key,
                    "format": FORMAT,
                    "run": entry.id,
                    "journal": journal,
                    "done": False,
                },
                "$currentDate": {"at": True},
            },
            upsert=True,
        )

    def done(self, entry: RunEntry, rule: str, digest: str, *, all_ended: bool) -> None:
        """Note that the run was past every document; what another run has noted since stays.

        :param all_ended: each update of this run ended its match: what matches now is new.
        """
        mine = {"_id": self._key(rule, digest), "run": entry.id}
        if all_ended:
            self._marks.delete_one(mine)
        else:
            self._marks.update_one(mine, {"$set": {"done": True}, "$currentDate": {"at": True}})

    def covered(
        self,
        rules: Sequence[tuple[BoundRule, str]],
        run: ObjectId | None = None,
        *,
        again: bool = False,
    ) -> dict[str, ObjectId]:
        """The rules that are not to be applied again, each with the run that has applied it.

        :param rules: rules that are marked, with their digests.
        :param run: the run that is to apply them, if it has begun.
        :param again: it has begun so as to apply them again: only later runs count.
        :raises RunError: a run has applied one to a part of the documents, and has not finished.
        :raises pymongo.errors.PyMongoError: the connection or the rights.
        """
        keys = [self._key(rule.name, digest) for rule, digest in rules]
        found = {each.get("rule"): each for each in self._marks.find({"_id": {"$in": keys}})}
        covered = {}
        for rule, digest in rules:
            mark = found.get(rule.name)
            if mark is None:
                continue
            marked_by = mark.get("run")
            if is_newer(mark) is not None:
                raise self._unreadable(rule.name, mark)
            if marked_by == run or self._ends_matches(rule, mark):
                continue
            if again and run is not None and marked_by < run:
                continue
            # Whoever was stopped may have noted a beginning after the end.
            if mark.get("done") is not True and not self._is_done(rule, digest, mark):
                raise RunError(
                    f"{self._of['model']}.{rule.name}: run {marked_by} has applied the rule to a "
                    f"part of {self._place}, and its target does not show to which",
                    collection=self._place,
                    run=marked_by,
                    remedy=Remedy("resume_or_again", run=str(marked_by)),
                )
            covered[rule.name] = marked_by
            logger.warning(
                "%s.%s: run %s has applied the rule to all of %s, and its target does not "
                "show which documents are new since, so it is skipped; %s",
                self._of["model"],
                rule.name,
                marked_by,
                self._place,
                Remedy("again"),
            )
        return covered

    def _unreadable(self, rule: str, mark: Raw) -> RunError:
        return RunError(
            f"{self._of['model']}.{rule}: what was noted of its application to {self._place} "
            f"cannot be read, because {is_newer(mark)}; use that version",
            collection=self._place,
            run=mark.get("run"),
        )

    def _ends_matches(self, rule: BoundRule, mark: Raw) -> bool:
        """Return whether all that a run wrote by a rule ended its match, as far as is noted."""
        if rule.converges is False or rule.by_hand:
            return False
        return any(step.get("repeatable") is True for step in self._steps_of(rule, mark))

    def _is_done(self, rule: BoundRule, digest: str, mark: Raw) -> bool:
        """Return whether the run itself has noted that it was past every document with a rule."""
        return any(
            step.get("state") == "done" and step.get("digest") == digest
            for step in self._steps_of(rule, mark)
        )

    def _steps_of(self, rule: BoundRule, mark: Raw) -> list[Raw]:
        entries = journal_collection(self._database, str(mark.get("journal")))
        run: Raw = entries.find_one({"_id": mark.get("run")}, {"rules": 1}) or {}
        return [step for step in run.get("rules") or () if step.get("name") == rule.name]

    def _key(self, rule: str, digest: str) -> dict[str, Any]:
        """The digest is part of it: what a former text has done is known when that comes back."""
        return {"kind": "coverage", **self._of, "rule": rule, "digest": digest}
