"""The standing of a model's rules: what they have left, who waits for them, and which can go.

`status`, `finish`, `get_deprecated()` and the page ask here. A collection or database that does not
exist is not made by looking at it; only the journal is written, with what was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import ids_of, indexable_in, is_mongomock, key_of, on_primary
from lazymig.engines.pending import RuleStatus, find_active, status_of
from lazymig.odm.plans import plan_for
from lazymig.odm.sealed import read_sealed
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.refusals import refusals
from lazymig.operations.views import ModelView, views_of
from lazymig.raw.json_values import NOT_IN_JSON, Bounds, JsonValue
from lazymig.reports.drift.documents import class_filter_of
from lazymig.reports.query_plans import scan_warnings
from lazymig.rules.bound_rule import Form
from lazymig.rules.plan import Plan
from lazymig.rules.remedies import said_of_python
from lazymig.rules.rule import Scope
from lazymig.rules.translation import LeftToPython

__all__ = [
    "ModelStanding",
    "RuleStanding",
    "active_rules",
    "documents_left",
    "exists",
    "look",
    "standing_of",
]


def exists(collection: Collection[Any]) -> bool:
    """Return whether there is a collection, as far as that can be found out.

    Who may not list the collections may read this one all the same.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    try:
        return collection.name in collection.database.list_collection_names()
    except OperationFailure:
        return True


def _holds_some(collection: Collection[Any]) -> bool:
    """Return whether there is a collection; all are listed only if this one is empty."""
    return any(True for _ in ids_of(on_primary(collection), {}, limit=1)) or exists(collection)


def standing_of(collection: Collection[Any], plan: Plan, journal: str) -> list[RuleStatus]:
    """One status for each rule, lazy rules first, each scope in order.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    statuses = status_of(collection, plan, read_sealed(collection, plan))
    if not any(status.remaining for status in statuses) and not _holds_some(collection):
        return [replace(status, exists=False) for status in statuses]
    waiting = _waiting(collection, plan, journal)
    return [replace(status, quarantined=waiting[status.name]) for status in statuses]


def active_rules(collection: Collection[Any], plan: Plan, journal: str) -> set[str]:
    """The names of the rules that must stay.

    These are the rules that still match a stored document or that cannot be asked about, and those
    that a document in quarantine waits for. Of a collection that does not exist nothing is known:
    all rules stay.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    rules = (*plan.lazy, *plan.bulk)
    active = find_active(collection, plan, read_sealed(collection, plan))
    matched = any(rule.target is not None and rule.name in active for rule in rules)
    if not matched and not _holds_some(collection):
        return {rule.name for rule in rules}
    return active | _waiting(collection, plan, journal).keys()


def _waiting(collection: Collection[Any], plan: Plan, journal: str) -> Counter[str]:
    """How many documents wait in quarantine for each rule; several runs may have refused one."""
    pairs = {(each.rule, key_of(each.document_id)) for each in refusals(collection, plan, journal)}
    return Counter(name for name, _key in pairs)


@dataclass(frozen=True, slots=True)
class RuleStanding(JsonValue):
    """Where one rule stands.

    :ivar remaining: documents that its target matches; `None` if the target needs a document.
    :ivar total: documents that the rule is for.
    :ivar done: the share of them that it does not match, from 0 to 1; `None` if unknown.
    :ivar rate: documents per second that were brought up to date since the last look; below 0 if
        more old ones came; `None` if unknown.
    :ivar quarantined: documents that bulk runs have refused by it and that still wait for it.
    :ivar removable: no document needs it any more.
    :ivar sealed: MongoDB refuses documents that its target matches.
    :ivar form: `"static"`, `"translated"` (the server computes it) or `"python"`.
    :ivar left_to_python: why a computed rule is not translated; `None` for others.
    :ivar settles: the operations that have old documents migrated by it first, in words; `None` if
        there are none.
    :ivar warning: that each query which meets it reads the whole collection; `None` if none does.
    """

    name: str
    scope: Scope
    remaining: int | None
    total: int
    done: Annotated[float, Bounds(0, 1)] | None
    rate: float | None
    quarantined: int
    removable: bool
    sealed: bool
    form: Form
    left_to_python: LeftToPython | None
    settles: str | None
    warning: str | None
    status: RuleStatus = field(metadata=NOT_IN_JSON)

    @property
    def lasts(self) -> bool:
        """Return whether documents may still match once it was applied: a bulk rule's alone."""
        return self.scope == "bulk" and self.status.converges is False

    @property
    def remarks(self) -> tuple[str, ...]:
        """Who computes what the rule writes; for Python, why, what settles, and what would not.

        Empty for a rule that reads no document.
        """
        if self.form == "translated":
            return ("translated: the server computes what the method would",)
        if self.form == "python" and self.left_to_python is None:
            return ("computed in Python",)
        return said_of_python(self.left_to_python, self.settles)


@dataclass(frozen=True, slots=True)
class ModelStanding(JsonValue):
    """Where the rules of a model stand.

    :ivar collection: its name, with the database.
    :ivar at: the time of this look, naive UTC by the server.
    :ivar since: the time of the last look, `None` if there was none.
    :ivar views: lazymig's views of the collection, those of other models included.
    :ivar total: the documents of the model; of a whole collection an estimate.
    :ivar samples: the looks so far, the oldest first, this one at the end; empty without rules.
    :ivar refusal: why this look could not be kept; `None` if it was, or was not to be.
    """

    model: str
    collection: str
    at: datetime
    since: datetime | None
    rules: tuple[RuleStanding, ...]
    views: tuple[ModelView, ...]
    total: int = field(metadata=NOT_IN_JSON)
    samples: tuple[Sample, ...] = field(metadata=NOT_IN_JSON)
    refusal: OperationFailure | None = field(default=None, metadata=NOT_IN_JSON)


def look(
    model: Any, collection: Collection[Any], *, journal: str = JOURNAL, keep: bool = True
) -> ModelStanding:
    """Count what each rule of a model has left, and compare that with the last look.

    :param model: a document class, with or without rules.
    :param collection: the collection of the model.
    :param journal: the name of the journal's collection, where looks are kept.
    :param keep: keep this one. Of a collection that does not exist none is kept.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    handler = getattr(model, "migration_handler", None)
    plan = None if handler is None else plan_for(handler, model)
    statuses = [] if plan is None else standing_of(collection, plan, journal)
    samples, refusal = _samples(model, collection, statuses, journal, keep=keep)
    at = samples[-1].at if samples else client_now()
    last = samples[-2] if len(samples) > 1 else None
    everyone = class_filter_of(model) if plan is None else _class_filter(plan)
    filters = [everyone, *(_class_filter(plan, status.name) for status in statuses)]
    totals: dict[str, int] = {}
    for each in filters:
        if repr(each) not in totals:
            totals[repr(each)] = _count(collection, each)
    warnings = {} if plan is None else scan_warnings(collection, plan)
    return ModelStanding(
        model=model.__name__,
        collection=str(collection.full_name),
        at=at,
        since=None if last is None else last.at,
        rules=tuple(
            _standing(status, totals[repr(class_filter)], last, at, warnings.get(status.name))
            for status, class_filter in zip(statuses, filters[1:], strict=True)
        ),
        views=_views(model, collection),
        total=totals[repr(everyone)],
        samples=tuple(samples),
        refusal=refusal,
    )


def _views(model: Any, collection: Collection[Any]) -> tuple[ModelView, ...]:
    """The views of a collection; none where they cannot be asked for, or nothing has rules."""
    handler = getattr(model, "migration_handler", None)
    if handler is None:
        return ()
    try:
        return tuple(views_of(collection, handler, model))
    except OperationFailure:
        # Who may not list the collections has the counts all the same.
        return ()


def _samples(
    model: Any,
    collection: Collection[Any],
    statuses: Sequence[RuleStatus],
    journal: str,
    *,
    keep: bool,
) -> tuple[list[Sample], OperationFailure | None]:
    """The samples of a model, a fresh one at the end, and why that was not kept."""
    if not statuses:
        return [], None
    samples = [
        sample
        for sample in History(collection.database, journal).samples(model)
        if sample.collection == collection.name
    ]
    remaining = {status.name: status.remaining for status in statuses}
    # The clocks may differ, and time must not run back.
    at = max([_now(collection), *(sample.at for sample in samples[-1:])])
    samples.append(Sample(model.__name__, collection.name, at, remaining))
    # A look at what is not there would make the journal, and its database.
    if keep and all(status.exists for status in statuses):
        try:
            Journal(collection.database, journal).sample(model.__name__, collection.name, remaining)
        except OperationFailure as refusal:
            # Whoever may only read gets the counts all the same.
            return samples, refusal
    return samples, None


def _class_filter(plan: Plan | None, rule: str | None = None) -> Any:
    """The condition on `_cls` of the documents of a plan, or of one of its rules."""
    assert plan is not None
    return (
        plan.class_filter if rule is None else plan.inherited_filters.get(rule, plan.class_filter)
    )


def documents_left(
    collection: Collection[Any], plan: Plan | None, rules: Sequence[RuleStanding]
) -> int:
    """The documents that a rule matches, and will not match once it was applied; each once."""
    matching = {rule.name: rule.remaining for rule in rules if rule.remaining and not rule.lasts}
    if plan is None or len(matching) < 2:
        return sum(matching.values())
    queries = [
        indexable_in(collection, plan.reported_query_of(rule))
        for rule in (*plan.lazy, *plan.bulk)
        if rule.name in matching
    ]
    return on_primary(collection).count_documents({"$or": queries})


def _count(collection: Collection[Any], class_filter: Mapping[str, Any] | None) -> int:
    reader = on_primary(collection)
    return (
        reader.count_documents(class_filter)
        if class_filter
        else (reader.estimated_document_count())
    )


def _now(collection: Collection[Any]) -> datetime:
    """The time, naive UTC, by the clock that looks are kept with."""
    if is_mongomock(collection):
        return client_now()
    time: datetime = collection.database.client.admin.command("hello")["localTime"]
    return time.replace(tzinfo=None)


def _standing(
    status: RuleStatus, total: int, last: Sample | None, at: datetime, warning: str | None = None
) -> RuleStanding:
    remaining = status.remaining
    done = rate = None
    if remaining is not None:
        # The total may be an estimate.
        total = max(total, remaining)
        if status.exists:
            done = (total - remaining) / total if remaining else 1.0
        before = None if last is None else last.remaining.get(status.name)
        if last is not None and before is not None and at > last.at:
            rate = (before - remaining) / (at - last.at).total_seconds()
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
        form=status.form,
        left_to_python=status.left_to_python,
        settles=status.settles,
        warning=warning,
        status=status,
    )
