"""The standing of a model's rules: what they have left, who waits for them, and which can go.

`finish` and `get_deprecated()` ask here, `status` and the page by `looks`. A collection
or database that does not exist is not made by looking at it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import ids_of, key_of, on_primary
from lazymig.engines.pending import RuleStatus, find_active, status_of
from lazymig.odm.sealed import read_sealed
from lazymig.operations.journal.entries import Sample
from lazymig.operations.journal.refusals import Refusal, refusals
from lazymig.operations.model_view import ModelView
from lazymig.raw.json_values import NOT_IN_JSON, Bounds, JsonValue
from lazymig.rules.bound_rule import Form
from lazymig.rules.plan import Plan
from lazymig.rules.remedies import said_of_python
from lazymig.rules.rule import Scope
from lazymig.rules.translation import LeftToPython

__all__ = [
    "ModelStanding",
    "RuleStanding",
    "WaitingRule",
    "active_rules",
    "collections_in",
    "exists",
    "standing_of",
    "statuses_of",
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
    return statuses_of(collection, plan, journal)[0]


def statuses_of(
    collection: Collection[Any], plan: Plan, journal: str
) -> tuple[list[RuleStatus], list[Refusal]]:
    """One status for each rule, and the documents that wait in quarantine for one of them.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
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
class WaitingRule(JsonValue):
    """A method that is no rule yet, as `lazymig new` writes it, or a rule that waits for one.

    :ivar unfinished: it has its line TODO; otherwise it waits for one before it that has.
    """

    name: str
    scope: Scope
    unfinished: bool


@dataclass(frozen=True, slots=True)
class ModelStanding(JsonValue):
    """Where the rules of a model stand.

    :ivar collection: its name, with the database.
    :ivar at: the time of this look, naive UTC by the server.
    :ivar since: the time of the last look, `None` if there was none.
    :ivar total: the documents of the model; of a whole collection an estimate.
    :ivar left: those that a rule matches and will not match once it was applied, each once.
    :ivar at_least: there is a rule whose documents cannot be counted, or one that is not finished,
        so that more may be left.
    :ivar quarantined: the documents that bulk runs have refused and that still wait, each once.
    :ivar waiting: what is no rule yet, and the rules that wait for it.
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
    waiting: tuple[WaitingRule, ...]
    views: tuple[ModelView, ...]
    quarantine: tuple[Refusal, ...] = field(metadata=NOT_IN_JSON)
    samples: tuple[Sample, ...] = field(metadata=NOT_IN_JSON)
    refusal: OperationFailure | None = field(default=None, metadata=NOT_IN_JSON)

    @property
    def complete(self) -> bool:
        """Return whether no document needs any of its rules any more, and all are finished."""
        return not self.waiting and all(rule.removable for rule in self.rules)

    @property
    def rule_count(self) -> int:
        """The rules, those included that are not finished."""
        return len(self.rules) + len(self.waiting)

    @property
    def share(self) -> float:
        """The share of the documents of which nothing is left to do, from 0 to 1."""
        # Of no documents all is done.
        return (self.total - self.left) / self.total if self.left else 1.0
