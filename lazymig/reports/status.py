"""The standing of a model's rules: what they have left, who waits for them, and which can go.

`status`, `finish`, `get_deprecated()` and the page ask here. A collection or database that does not
exist is not made by looking at it; only the journal is written, with what was counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import ids_of, indexable_in, is_mongomock, key_of, on_primary
from lazymig.engines.pending import RuleStatus, find_active, status_of
from lazymig.engines.views import views_on
from lazymig.odm.indexes import needed_indexes
from lazymig.odm.plans import plan_for
from lazymig.odm.sealed import read_sealed
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import client_now
from lazymig.operations.journal.entries import Sample
from lazymig.operations.journal.history import History
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.refusals import Refusal, refusals
from lazymig.operations.model_view import ModelView
from lazymig.operations.rule_indexes import indexed_rules
from lazymig.raw.json_values import NOT_IN_JSON, Bounds, JsonValue
from lazymig.reports.drift.documents import class_filter_of
from lazymig.reports.query_plans import scan_warnings
from lazymig.rules.bound_rule import Form
from lazymig.rules.plan import Plan
from lazymig.rules.remedies import said_of_python
from lazymig.rules.rule import Scope
from lazymig.rules.translation import LeftToPython

__all__ = [
    "Looks",
    "ModelStanding",
    "RuleStanding",
    "active_rules",
    "collections_in",
    "exists",
    "look",
    "standing_of",
]


def exists(collection: Collection[Any]) -> bool:
    """Return whether there is a collection, as far as that can be found out.

    Who may not list the collections may read this one all the same.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    names = collections_in(collection.database)
    return names is None or collection.name in names


def collections_in(database: Any) -> frozenset[str] | None:
    """The names of the collections of a database; `None` if they may not be listed.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    try:
        return frozenset(database.list_collection_names())
    except OperationFailure:
        return None


def _holds_some(collection: Collection[Any]) -> bool:
    """Return whether there is a collection; all are listed only if this one is empty."""
    return any(True for _ in ids_of(on_primary(collection), {}, limit=1)) or exists(collection)


def standing_of(collection: Collection[Any], plan: Plan, journal: str) -> list[RuleStatus]:
    """One status for each rule, lazy rules first, each scope in order.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    return _statuses(collection, plan, journal)[0]


def _statuses(
    collection: Collection[Any], plan: Plan, journal: str
) -> tuple[list[RuleStatus], list[Refusal]]:
    """One status for each rule, and the documents that wait in quarantine for one of them."""
    statuses = status_of(collection, plan, read_sealed(collection, plan))
    if not any(status.remaining for status in statuses) and not _holds_some(collection):
        return [replace(status, exists=False) for status in statuses], []
    waiting = refusals(collection, plan, journal)
    counts = _by_rule(waiting)
    return [replace(status, quarantined=counts[status.name]) for status in statuses], waiting


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
    return active | _by_rule(refusals(collection, plan, journal)).keys()


def _by_rule(waiting: Sequence[Refusal]) -> Counter[str]:
    """How many documents wait in quarantine for each rule; several runs may have refused one."""
    pairs = {(each.rule, key_of(each.document_id)) for each in waiting}
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
    :ivar indexed: its old documents are found by indexes that hold what is old alone; `None` if
        none can serve it, or that is not known.
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
    indexed: bool | None
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
    :ivar total: the documents of the model; of a whole collection an estimate.
    :ivar left: those that a rule matches and will not match once it was applied, each once.
    :ivar at_least: there is a rule whose documents cannot be counted, so that more may be left.
    :ivar quarantined: the documents that bulk runs have refused and that still wait, each once.
    :ivar views: lazymig's views of the collection, those of other models included.
    :ivar quarantine: the refusals of these documents; several runs may have refused one.
    :ivar samples: the looks so far, the oldest first, this one at the end; empty without rules.
    :ivar refusal: why this look could not be kept; `None` if it was, or was not to be.
    """

    derived: ClassVar[tuple[str, ...]] = ("complete",)

    model: str
    collection: str
    at: datetime
    since: datetime | None
    total: int
    left: int
    at_least: bool
    quarantined: int
    rules: tuple[RuleStanding, ...]
    views: tuple[ModelView, ...]
    quarantine: tuple[Refusal, ...] = field(metadata=NOT_IN_JSON)
    samples: tuple[Sample, ...] = field(metadata=NOT_IN_JSON)
    refusal: OperationFailure | None = field(default=None, metadata=NOT_IN_JSON)

    @property
    def complete(self) -> bool:
        """Return whether no document needs any of its rules any more."""
        return all(rule.removable for rule in self.rules)

    @property
    def share(self) -> float:
        """The share of the documents of which nothing is left to do, from 0 to 1."""
        # Of no documents all is done.
        return (self.total - self.left) / self.total if self.left else 1.0


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
        statuses, waiting = _statuses(collection, plan, self._journal)
        samples, refusal = self._samples(model, collection, statuses)
        totals = _Totals(collection)
        rules = _rules(collection, plan, statuses, samples, totals)
        left = _documents_left(collection, plan, rules)
        total = totals.of(plan.class_filter)
        return replace(
            # The total may be an estimate.
            _standing_of_model(model, collection, max(left, total)),
            at=samples[-1].at if samples else client_now(),
            since=samples[-2].at if len(samples) > 1 else None,
            left=left,
            at_least=any(status.undetermined for status in statuses),
            quarantined=len({key_of(each.document_id) for each in waiting}),
            rules=rules,
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
