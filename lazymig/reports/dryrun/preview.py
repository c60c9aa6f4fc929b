"""The preview of a run: counts and query plans of the rules, and their work on copies of a sample.

The collection itself is only read.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import (
    Description,
    Raw,
    describe,
    indexable_in,
    is_mongomock,
    on_primary,
)
from lazymig.engines.query_plans import stages_of, summary_of
from lazymig.errors import RunOptionError
from lazymig.odm.loading import Build
from lazymig.query.indexable import indexable
from lazymig.redaction import excerpt
from lazymig.reports.dryrun.rehearsal import Rehearsal, kind_of, rules_of
from lazymig.reports.dryrun.report import (
    PreviewReport,
    QueryPlan,
    RulePreview,
    SamplePreview,
)
from lazymig.reports.query_plans import LARGE, scan_warning
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.remedies import said_of_python, what_settles
from lazymig.rules.rewrite.rewriting import (
    CannotRewrite,
    Step,
    is_concerned,
    opaque_step,
    rewrite,
    step_of,
)
from lazymig.rules.rule import Scope

__all__ = ["LARGE", "PreviewReport", "QueryPlan", "RulePreview", "SamplePreview", "preview_of"]


def preview_of(
    plan: Plan,
    collection: Collection[Any],
    *,
    builder: Build,
    sample: int = 20,
    scope: Scope | None = None,
    large: int = LARGE,
) -> PreviewReport:
    """Say what a run of the rules of a plan would do. The collection is only read.

    A random sample of the documents that match is copied into a scratch collection, where MongoDB
    applies the rules in order. It is dropped before this returns or raises. No signals are sent.

    :param builder: builds instances of the model, see `lazymig.odm.loading.builder_of`.
    :param sample: the most documents to try the rules on; 0 for none.
    :param scope: the rules of `"lazy"` or `"bulk"` alone; `None` for the lazy and then the bulk
        ones.
    :param large: the documents above which a collection scan is warned of.
    :raises RunOptionError: `sample` or `scope` is invalid.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise RunOptionError(f"is {sample!r}; use a number of documents from 0 on", option="sample")
    if scope not in (None, "lazy", "bulk"):
        raise RunOptionError(f"is {scope!r}; use 'lazy', 'bulk' or None", option="scope")
    scopes: tuple[Scope, ...] = ("lazy", "bulk") if scope is None else (scope,)
    description = describe(collection)
    total = on_primary(collection).estimated_document_count()
    rehearsal = Rehearsal(plan, builder, scopes)
    rehearsal.run(collection, description, partial(rehearsal.sampled, collection, sample))
    counted = _Counting(collection, plan, description, total, large)
    return PreviewReport(
        model=plan.model_name,
        collection=str(collection.full_name),
        total=total,
        rules=tuple(counted.rule(each, rehearsal) for each in rules_of(plan, scopes)),
        samples=rehearsal.samples(),
        problems=tuple(rehearsal.problems),
    )


class _Counting:
    """Counts the documents of the rules, one after the other, and asks how they are found."""

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        description: Description | None,
        total: int,
        large: int,
    ) -> None:
        self.collection = collection
        self.plan = plan
        self.collated = description is None or "collation" in description.options
        self.total = total
        self.large = large
        self.earlier: list[Step] = []

    def rule(self, rule: BoundRule, rehearsal: Rehearsal) -> RulePreview:
        """The preview of the next rule."""
        problems = [*self._known_of(rule), *rehearsal.problems_of(rule)]
        query = self.plan.query_of(rule)
        remaining = reached = plan = None
        if rule.target is not None:
            remaining = self._count(query)
            try:
                plan = self._plan_of(rule, query)
            except OperationFailure as exc:
                problems.append(f"MongoDB does not explain its plan: {excerpt(exc)}")
            reached = self._reached(query, remaining)
        self.earlier.extend(self._steps_of(rule, query, has_effects=rule.name in rehearsal.not_run))
        return RulePreview(
            name=rule.name,
            scope=rule.scope,
            kind=kind_of(rule),
            remaining=remaining,
            reached=reached,
            plan=plan,
            problems=tuple(problems),
            form=rule.form,
            left_to_python=rule.left_to_python,
            in_python=self._in_python(rule),
        )

    def _known_of(self, rule: BoundRule) -> Iterator[str]:
        """What is to be known of a rule before any document is looked at."""
        if rule.scope == "lazy" and rule.target is None:
            yield (
                "no match starts it: it runs on documents that fail to load or to validate, on "
                "loads and in a run"
            )
        elif rule.scope == "lazy" and not self.plan.starts(rule):
            yield (
                "no match starts it on loads: there it runs on documents that fail to load or to "
                "validate; a run refuses those that would still match after it"
            )
        if rule.varies:
            yield (
                "its update differs from call to call: each document is given one of its own; for "
                "one value for all, make it outside of the rule"
            )
        yield from said_of_python(rule.left_to_python, what_settles(rule))

    def _in_python(self, rule: BoundRule) -> int | None:
        """How many documents a translated rule leaves to Python; an imitation cannot count them."""
        if rule.form != "translated":
            return None
        *exact, rest = rule.halves()
        if is_mongomock(self.collection):
            return None
        return self._count(self.plan.query_of(rest)) if exact else 0

    def _count(self, query: Raw) -> int:
        return on_primary(self.collection).count_documents(indexable_in(self.collection, query))

    def _reached(self, query: Raw, remaining: int) -> int | None:
        # What a rule sets is compared with a target by its exact characters.
        if self.collated and is_concerned(query, self.earlier):
            return None
        try:
            rewritten = rewrite(query, self.earlier)
        except CannotRewrite:
            return None
        return remaining if rewritten is query else self._count(rewritten)

    def _steps_of(self, rule: BoundRule, query: Raw, *, has_effects: bool) -> list[Step]:
        """What a rule does to the documents of the later ones."""
        if rule.scope == "lazy" and rule.target is None:
            # Documents that do not load or validate get every rule.
            return [
                opaque_step(each.name, self.plan.query_of(each), each.writes)
                for each in self.plan.lazy
            ]
        if has_effects or (rule.scope == "lazy" and not self.plan.starts(rule)):
            return [opaque_step(rule.name, query, rule.writes)]
        try:
            return [step_of(rule, query, self.collection)]
        except Exception:  # noqa: BLE001 - the rehearsal reports what the rule raises
            return [opaque_step(rule.name, query, rule.writes)]

    def _plan_of(self, rule: BoundRule, query: Raw) -> QueryPlan | None:
        if is_mongomock(self.collection):
            return None
        stages = stages_of(self.collection, indexable(query))
        warning = None
        if any(stage == "COLLSCAN" for stage, _index in stages) and self.total > self.large:
            warning = scan_warning(self.plan, rule, self.total)
        return QueryPlan(
            summary_of(stages),
            tuple(dict.fromkeys(index for _stage, index in stages if index)),
            warning,
        )
