"""Looks at models: what their rules have left, compared with former looks, which the journal keeps.

Nothing but the journal is written; of a collection that does not exist it keeps nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import indexable_in, is_mongomock, key_of, on_primary
from lazymig.engines.pending import RuleStatus
from lazymig.engines.views import views_on
from lazymig.odm.indexes import needed_indexes
from lazymig.odm.plans import plan_for
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.operations.model_view import ModelView
from lazymig.operations.rule_indexes import indexed_rules
from lazymig.reports.drift.documents import class_filter_of
from lazymig.reports.query_plans import scan_warnings
from lazymig.reports.status import ModelStanding, RuleStanding, WaitingRule, statuses_of
from lazymig.rules.plan import Plan
from lazymig.rules.unfinished import is_unfinished, waiting_rules

__all__ = ["Looks", "look"]


def look(
    model: Any, collection: Collection[Any], *, journal: str = JOURNAL, keep: bool = True
) -> ModelStanding:
    """Count what each rule of a model has left, and compare that with all former looks.

    :param model: a document class, with or without rules.
    :param collection: the collection of the model.
    :param journal: the name of the journal's collection, where looks are kept.
    :param keep: keep this one. Of a collection that does not exist none is kept.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    return Looks(journal, keep=keep, former=None).at(model, collection)


class Looks:
    """Looks at models, one after the other. What they have in common is asked once.

    :param journal: the name of the journal's collection, where looks are kept.
    :param keep: keep each. Of a collection that does not exist none is kept.
    :param former: with how many of its former looks each is compared; `None` for all.
    """

    def __init__(
        self, journal: str = JOURNAL, *, keep: bool = True, former: int | None = 1
    ) -> None:
        self._journal = journal
        self._keep = keep
        self._former = former
        self._journals: dict[Any, Journal] = {}
        self._times: dict[Any, datetime] = {}

    def at(self, model: Any, collection: Collection[Any]) -> ModelStanding:
        """Count what each rule of a model has left; see `look`.

        :raises pymongo.errors.PyMongoError: the connection, or the right to read.
        """
        handler = getattr(model, "migration_handler", None)
        if handler is None:
            total = _Totals(collection).of(class_filter_of(model))
            return _standing_of_model(model, collection, total)
        plan = plan_for(handler, model)
        statuses, waiting = statuses_of(collection, plan, self._journal)
        samples, refusal = self._samples(model, collection, statuses)
        totals = _Totals(collection)
        rules = _rules(collection, plan, statuses, samples, totals)
        left = _documents_left(collection, plan, rules)
        unfinished = tuple(
            WaitingRule(rule.name, rule.scope, is_unfinished(rule))
            for rule in waiting_rules(handler)
        )
        total = totals.of(plan.class_filter)
        return replace(
            # The total may be an estimate.
            _standing_of_model(model, collection, max(left, total)),
            at=samples[-1].at if samples else client_now(),
            since=samples[-2].at if len(samples) > 1 else None,
            left=left,
            at_least=bool(unfinished) or any(status.undetermined for status in statuses),
            quarantined=len({key_of(each.document_id) for each in waiting}),
            rules=rules,
            waiting=unfinished,
            views=_views(model, collection),
            quarantine=tuple(waiting),
            samples=tuple(samples),
            refusal=refusal,
        )

    def _samples(
        self, model: Any, collection: Collection[Any], statuses: Sequence[RuleStatus]
    ) -> tuple[list[Sample], OperationFailure | None]:
        """The samples of a model, a fresh one at the end, and why that was not kept."""
        if not statuses:
            return [], None
        name = collection.name
        history = History(collection.database, self._journal)
        samples = history.samples(model, name, limit=self._former)
        remaining = {status.name: status.remaining for status in statuses}
        # The clocks may differ, and time must not run back.
        at = max([self._now(collection), *(sample.at for sample in samples[-1:])])
        samples.append(Sample(model.__name__, name, at, remaining))
        # A look at what is not there would make the journal, and its database.
        if self._keep and all(status.exists for status in statuses):
            try:
                self._kept_in(collection.database).sample(model.__name__, name, remaining)
            except OperationFailure as refusal:
                # Whoever may only read gets the counts all the same.
                return samples, refusal
        return samples, None

    def _kept_in(self, database: Any) -> Journal:
        if database not in self._journals:
            self._journals[database] = Journal(database, self._journal)
        return self._journals[database]

    def _now(self, collection: Collection[Any]) -> datetime:
        """The time, naive UTC, by the clock that looks are kept with."""
        if is_mongomock(collection):
            return client_now()
        client = collection.database.client
        if client not in self._times:
            time: datetime = client.admin.command("hello")["localTime"]
            self._times[client] = time.replace(tzinfo=None)
        return self._times[client]


def _standing_of_model(model: Any, collection: Collection[Any], total: int) -> ModelStanding:
    """The standing of a model without rules."""
    return ModelStanding(
        model=model.__name__,
        collection=str(collection.full_name),
        at=client_now(),
        since=None,
        total=total,
        left=0,
        at_least=False,
        quarantined=0,
        rules=(),
        waiting=(),
        views=(),
        quarantine=(),
        samples=(),
    )


def _rules(
    collection: Collection[Any],
    plan: Plan,
    statuses: Sequence[RuleStatus],
    samples: Sequence[Sample],
    totals: _Totals,
) -> tuple[RuleStanding, ...]:
    """The standing of each rule.

    :param samples: the last is that of this look.
    """
    filters = [plan.inherited_filters.get(each.name, plan.class_filter) for each in statuses]
    needed = needed_indexes(plan)
    indexed = indexed_rules(collection, needed)
    served = {status.name for status in statuses if status.sealed or indexed.get(status.name)}
    # A sealed rule is met by no query, and one that has its indexes is found by them.
    unserved = [each for each in needed if each.rule.name not in served]
    warnings = scan_warnings(collection, plan, unserved)
    return tuple(
        replace(
            _standing(status, totals.of(class_filter), samples),
            indexed=indexed.get(status.name),
            warning=warnings.get(status.name),
        )
        for status, class_filter in zip(statuses, filters, strict=True)
    )


def _views(model: Any, collection: Collection[Any]) -> tuple[ModelView, ...]:
    """The views of a collection; none where they cannot be asked for."""
    try:
        if is_mongomock(collection) or not views_on(collection):
            return ()
        # Most collections have none, and pay for no import of what writes their stages.
        from lazymig.operations.views import views_of  # noqa: PLC0415

        return tuple(views_of(collection, model.migration_handler, model))
    except OperationFailure:
        # Who may not list the collections has the counts all the same.
        return ()


def _documents_left(collection: Collection[Any], plan: Plan, rules: Sequence[RuleStanding]) -> int:
    """The documents that a rule matches, and will not match once it was applied; each once."""
    matching = {rule.name: rule.remaining for rule in rules if rule.remaining and not rule.lasts}
    if len(matching) < 2:
        return sum(matching.values())
    queries = [
        indexable_in(collection, plan.reported_query_of(rule))
        for rule in (*plan.lazy, *plan.bulk)
        if rule.name in matching
    ]
    return on_primary(collection).count_documents({"$or": queries})


class _Totals:
    """The documents of a collection by the classes that they are of, each counted once."""

    def __init__(self, collection: Collection[Any]) -> None:
        self._reader = on_primary(collection)
        self._known: dict[str, int] = {}

    def of(self, class_filter: Mapping[str, Any] | None) -> int:
        """How many documents a condition on `_cls` holds for; without one an estimate."""
        key = repr(class_filter)
        if key not in self._known:
            self._known[key] = (
                self._reader.count_documents(class_filter)
                if class_filter
                else self._reader.estimated_document_count()
            )
        return self._known[key]


def _standing(status: RuleStatus, total: int, samples: Sequence[Sample]) -> RuleStanding:
    remaining = status.remaining
    done = rate = None
    if remaining is not None:
        # The total may be an estimate.
        total = max(total, remaining)
        if status.exists:
            done = (total - remaining) / total if remaining else 1.0
        rate = _rate(status.name, remaining, samples)
    return RuleStanding(
        name=status.name,
        scope=status.scope,
        remaining=remaining,
        total=total,
        done=done,
        rate=rate,
        quarantined=status.quarantined,
        removable=status.removable,
        sealed=status.sealed,
        indexed=None,
        form=status.form,
        left_to_python=status.left_to_python,
        settles=status.settles,
        warning=None,
        status=status,
    )


def _rate(rule: str, remaining: int, samples: Sequence[Sample]) -> float | None:
    """Documents per second that became less from the last look to this one, the last sample."""
    if len(samples) < 2:
        return None
    last, now = samples[-2:]
    before = last.remaining.get(rule)
    if before is None or now.at <= last.at:
        return None
    return (before - remaining) / (now.at - last.at).total_seconds()
