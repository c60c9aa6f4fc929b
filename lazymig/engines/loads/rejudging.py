"""Documents that match a rule once more after all rules were applied, and whose doing that is.

That of a rule: the proof that it ends its match takes the parents of a dotted path for
sub-documents. That of a later rule, which brings back what an earlier one has ended. Or that of
somebody else, such as an old version of the application, who has written the document between
the rules' write and the reading that follows it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import Raw, all_of, key_of
from lazymig.engines.driver_errors import is_document_error, waited_too_long
from lazymig.engines.loads.batch import BatchMigration
from lazymig.engines.reading.decoding import decode, judge
from lazymig.engines.reading.marks import marks_writes
from lazymig.engines.refusals import failure_of_rule, failure_of_server, still_matches
from lazymig.engines.store import as_applied
from lazymig.errors import MigrationConflict, MigrationError
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan, feeds

__all__ = ["Rejudged", "rejudge", "written_back"]

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Rejudged:
    """What became of the documents, by their index in the batch.

    `again` are the rules to apply once more, because somebody else has written the document.
    """

    failures: dict[int, MigrationError] = field(default_factory=dict)
    again: dict[int, Sequence[BoundRule]] = field(default_factory=dict)


def rejudge(
    migration: BatchMigration, matching: Mapping[int, tuple[Raw, Sequence[BoundRule]]]
) -> Rejudged:
    """Find out why documents match rules of a migration that has just been run.

    :param matching: for each document its fresh contents, whole, and the rules.
    """
    rejudged = Rejudged()
    for index, (document, rules) in matching.items():
        again = []
        for rule in rules:
            if not _concerns(migration, rule, document):
                continue
            error = _Retrial(migration, rule, document).error()
            if error is not None:
                rejudged.failures[index] = error
                break
            again.append(rule)
        else:
            if again:
                rejudged.again[index] = again
    return rejudged


def written_back(plan: Plan, rules: Sequence[BoundRule], document_id: object) -> MigrationConflict:
    """The error for a document that others have given an old shape at each attempt."""
    names = ", ".join(rule.name for rule in rules)
    return MigrationConflict(
        f"somebody else writes the document into an old shape (that of {names}) again and again "
        "while it is brought up to date; does an old version of the application still run? Load "
        "the document again, and let all versions write the new shape",
        model=plan.model_name,
        document_id=document_id,
    )


def _concerns(migration: BatchMigration, rule: BoundRule, document: Raw) -> bool:
    """Return whether a rule that matches should not, as far as the rules are the reason."""
    plan = migration.plan
    if rule.once is not None or (key_of(document["_id"]), rule.name) in migration.left_alone:
        # It has seen the document, and has set no update for it that would end its match.
        return False
    later = [each for each in plan.starting if each.number > rule.number]
    if not any(feeds(each, rule) for each in later):
        return True
    if rule.kind == "static" and not rule.varies and rule.name not in plan.warned:
        # Said once: the two would take turns at each load.
        plan.warned.add(rule.name)
        logger.warning(
            "%s.%s matches again after all rules (_id: %r), so it is applied at each load; let no "
            "later rule write what its target looks for",
            plan.model_name,
            rule.name,
            document["_id"],
        )
    return False


class _Retrial:
    """One rule, applied once more to one document, which comes back as the update has left it.

    No other write comes between the two: what matches then does so by the rule's own doing.
    """

    def __init__(self, migration: BatchMigration, rule: BoundRule, document: Raw) -> None:
        self.store = migration.job.store
        self.collection = migration.collection
        self.deadline = migration.deadline
        self.rule = as_applied(self.store, rule)
        self.document = document

    def error(self) -> MigrationError | None:
        """The error if the rule itself leaves the document as it is."""
        rule = self.rule
        if rule.kind != "static" or rule.varies:
            # Each of its updates was seen to end the match.
            return None
        if self.store.is_imitation or self.store.in_transaction:
            # Nobody else can have written meanwhile.
            return still_matches(rule, self.document["_id"])
        return self._try()

    @marks_writes
    def _try(self) -> MigrationError | None:
        rule, document_id = self.rule, self.document["_id"]
        try:
            evaluation = rule.evaluate()
        except Exception as exc:
            return failure_of_rule(rule, document_id, exc)
        query = all_of(self.store.locate(self.document), self.store.query_of(rule))
        try:
            with self.deadline.within():
                found = self.store.find_and_update(
                    query, evaluation.update, evaluation.array_filters
                )
        except (OperationFailure, DocumentTooLarge) as exc:
            if isinstance(exc, OperationFailure) and waited_too_long(exc):
                return None
            if not is_document_error(exc):
                raise
            return failure_of_server(rule, document_id, exc, exc)
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            # Whoever tries again says so.
            return None
        if found is None or not self._is_met_by(found, query):
            return None
        return still_matches(rule, document_id)

    def _is_met_by(self, found: Any, query: Raw) -> bool:
        """Return whether the target matches what the update has made of the document."""
        fresh = decode(found, self.collection.codec_options)
        met = None if self.rule.matcher is None else judge(self.rule.matcher, fresh)
        # Compared as bytes: in Python what is not a number does not equal itself.
        return found in list(self.store.find(query)) if met is None else met
