"""The rehearsal: the rules of a plan at work on copies; the collection itself is only read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError

from lazymig.engines.access import (
    Description,
    Raw,
    all_of,
    by_ids,
    id_of_raw,
    ids_of,
    key_of,
    not_by_ids,
    on_primary,
    read_raw,
    readable,
)
from lazymig.engines.bulk import Work
from lazymig.engines.computed.outcome import Demand
from lazymig.engines.refusals import still_matches
from lazymig.engines.scratch import ScratchCollection, scratch_like
from lazymig.errors import MigrationError
from lazymig.odm.loading import Build
from lazymig.odm.plans import root_of
from lazymig.odm.stored import as_stored
from lazymig.raw.differences import diff_documents
from lazymig.redaction import excerpt
from lazymig.reports.dryrun.report import RuleKind, SamplePreview
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["Rehearsal", "kind_of", "rules_of"]


def rules_of(plan: Plan, scopes: Iterable[Scope]) -> Iterator[BoundRule]:
    """The rules of these scopes, each scope in order."""
    for scope in scopes:
        yield from plan.lazy if scope == "lazy" else plan.bulk


def kind_of(rule: BoundRule) -> RuleKind:
    """What kind of rule it is; an effect outside of the document goes before all else."""
    if rule.once is not None:
        return "once"
    return "by_hand" if rule.by_hand else rule.computed.kind


def _reason_not_to_run(rule: BoundRule) -> str | None:
    """Why a rule must not run on copies, where its effects outside of the document are real."""
    kind = kind_of(rule)
    if kind == "once":
        return "it is marked once: it has effects outside of the document"
    if kind == "by_hand":
        return "it writes by itself"
    if rule.asks:
        return "it uses self.collection or self.status, so it may write by itself"
    return None


@dataclass(slots=True)
class _Copy:
    """A sampled document, and what has become of its copy.

    `stored_id` is the `_id` as queries take it, `document_id` as far as Python can say it.
    `changes` has for each change the rule, and the raw copy before and after it.
    """

    document_id: Any
    stored_id: Any
    before: dict[str, Any]
    raw: Any
    after: dict[str, Any] | None
    rules: list[str] = field(default_factory=list)
    changes: list[tuple[str, Any, Any]] = field(default_factory=list)
    not_run: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class Rehearsal:
    """The rules at work on copies of a sample.

    `failures` has, by the name of a rule, the errors of the copies for which it failed, by the key
    of their `_id`; `raised` has what a rule raised before it met a copy.
    """

    def __init__(self, plan: Plan, build: Build, scopes: Sequence[Scope]) -> None:
        self.plan = plan
        self.build = build
        self.scopes = scopes
        self.not_run = {
            rule.name: reason
            for rule in rules_of(plan, scopes)
            if (reason := _reason_not_to_run(rule)) is not None
        }
        self.problems: list[str] = []
        self.by_rule: dict[str, list[str]] = {}
        self.failures: dict[str, dict[Any, MigrationError]] = {}
        self.raised: dict[str, str] = {}
        self.copies: dict[Any, _Copy] = {}

    def problems_of(self, rule: BoundRule) -> Iterator[str]:
        """What the rehearsal has shown of a rule."""
        if rule.name in self.not_run:
            yield f"not run on the samples, because {self.not_run[rule.name]}"
        yield from self.by_rule.get(rule.name, ())

    def samples(self) -> tuple[SamplePreview, ...]:
        """The samples, as the copies are now."""
        return tuple(
            SamplePreview(
                each.document_id,
                tuple(each.rules),
                each.before,
                each.after,
                () if each.after is None else diff_documents(each.before, each.after),
                "; ".join(each.problems) or None,
                tuple(each.not_run),
            )
            for each in self.copies.values()
        )

    def run(
        self,
        collection: Collection[Any],
        description: Description | None,
        choose: Callable[[], list[Any]],
    ) -> None:
        """Choose documents, copy, apply, load and validate.

        :param choose: gives raw documents of the collection, each once; not asked for a view.
        """
        if description is not None and description.kind != "collection":
            self.problems.append(
                f"no samples, and no run: {collection.full_name} is a {description.kind}, whose "
                "documents MongoDB does not update one by one"
            )
            return
        documents = choose()
        if not documents:
            return
        description = description or Description("collection", {})
        scratch = None
        try:
            with scratch_like(collection, description, documents) as scratch:
                self._take(scratch, documents)
                for scope in self.scopes:
                    self._apply_scope(scratch.collection, scope)
        except OperationFailure as exc:
            self.copies.clear()
            self.problems.append(
                f"no samples: MongoDB refused to try the rules in a scratch collection: "
                f"{excerpt(exc)}"
            )
        finally:
            if scratch is not None:
                self.problems.extend(scratch.problems)
        for each in self.copies.values():
            trouble = self._trouble(collection, each)
            if trouble is not None:
                each.problems.append(trouble)

    def sampled(self, collection: Collection[Any], size: int) -> list[Any]:
        """Random documents, each once: of those that a target matches, of all, or half of each."""
        rules = [rule for rule in rules_of(self.plan, self.scopes) if rule.name not in self.not_run]
        targets = [rule.target for rule in rules if rule.target is not None]
        found: dict[Any, Any] = {}
        if targets:
            from_targets = size if len(targets) == len(rules) else (size + 1) // 2
            query = all_of(self.plan.class_filter, {"$or": targets})
            self._draw(collection, query, from_targets, found)
        if len(targets) < len(rules):
            self._draw(collection, all_of(self.plan.class_filter), size - len(found), found)
        return list(found.values())

    def _draw(
        self, collection: Collection[Any], query: Raw, size: int, found: dict[Any, Any]
    ) -> None:
        if size < 1:
            return
        stages: list[dict[str, Any]] = [{"$match": query}] if query else []
        stages.append({"$sample": {"size": size}})
        # $sample may give a document twice.
        for raw in read_raw(collection).aggregate(stages, allowDiskUse=True):
            found.setdefault(key_of(id_of_raw(raw, collection)), raw)

    def _take(self, scratch: ScratchCollection, documents: Sequence[Any]) -> None:
        """Take up what has been copied, in the order of the sample."""
        copied = {
            key_of(id_of_raw(raw, scratch.collection))
            for raw in read_raw(scratch.collection).find({}, {"_id": 1})
        }
        for raw in documents:
            key = key_of(id_of_raw(raw, scratch.collection))
            if key in copied:
                before, after = (readable(raw, scratch.collection) for _ in range(2))
                stored_id = id_of_raw(raw, scratch.collection)
                self.copies[key] = _Copy(before["_id"], stored_id, before, raw, after)

    def _apply_scope(self, scratch: Collection[Any], scope: Scope) -> None:
        """Do what a run of this scope does, in the same order."""
        refused: dict[Any, Any] = {}
        if scope == "bulk":
            for rule in self.plan.bulk:
                self._apply(scratch, rule, scope, None, refused)
            return
        for rule in self.plan.lazy:
            if rule.target is None:
                self._rescue(scratch, self.copies, refused)
                continue
            left = self._apply(scratch, rule, scope, None, refused)
            if left and not self.plan.starts(rule):
                self._rescue_left(scratch, rule, left, refused)

    def _rescue(
        self, scratch: Collection[Any], copies: Mapping[Any, _Copy], refused: dict[Any, Any]
    ) -> None:
        """Apply all lazy rules, in order, to those copies that do not load or validate."""
        broken = [
            each.stored_id
            for key, each in copies.items()
            if key not in refused and self._trouble(scratch, each) is not None
        ]
        if broken:
            for rule in self.plan.lazy:
                self._apply(scratch, rule, "lazy", by_ids(broken), refused, demand="nothing")

    def _rescue_left(
        self,
        scratch: Collection[Any],
        rule: BoundRule,
        left: Mapping[Any, MigrationError],
        refused: dict[Any, Any],
    ) -> None:
        """Do for copies that a rule was not applied to what a run does: repair the broken ones."""
        copies = {key: self.copies[key] for key in left}
        broken = {
            key: each for key, each in copies.items() if self._trouble(scratch, each) is not None
        }
        for key, error in left.items():
            if key not in broken:
                self._refuse(rule, error, refused)
        self._rescue(scratch, broken, refused)
        within = by_ids([each.stored_id for each in broken.values()])
        work = Work(scratch, self.plan, "lazy", within)
        for each in self._matching(work, rule) if broken else ():
            if key_of(each.stored_id) not in refused:
                self._refuse(rule, still_matches(rule, each.stored_id), refused)
        self._report_failures(rule)

    def _apply(
        self,
        scratch: Collection[Any],
        rule: BoundRule,
        scope: Scope,
        within: Raw | None,
        refused: dict[Any, Any],
        demand: Demand | None = None,
    ) -> dict[Any, MigrationError]:
        """Apply one rule; a document for which it fails gets no later one of this scope.

        :return: the errors of copies that it was not applied to, though it may repair them.
        """
        spared = not_by_ids(list(refused.values())) if refused else None
        work = Work(scratch, self.plan, scope, within, spared, demand=demand)
        if rule.name in self.not_run:
            if rule.target is not None:
                for each in self._matching(work, rule):
                    if rule.name not in each.not_run:
                        each.not_run.append(rule.name)
            return {}
        try:
            tally = work.apply(rule)
        except PyMongoError:
            raise
        except Exception as exc:  # noqa: BLE001 - a rule may raise anything
            self.raised[rule.name] = f"it raised {type(exc).__name__}: {excerpt(exc)}"
            self._note(rule, self.raised[rule.name])
            self._read_again(scratch, rule)
            return {}
        repairs = scope == "lazy" and demand is None and not self.plan.starts(rule)
        left = {}
        for error in tally.errors:
            key = key_of(error.document_id)
            if repairs and key in tally.unwritten:
                left[key] = error
            else:
                self._refuse(rule, error, refused)
        if not left:
            self._report_failures(rule)
        if tally.matched or tally.errors:
            self._read_again(scratch, rule)
        if rule.target is not None and tally.matched and demand is None:
            again = [
                each
                for each in self._matching(work, rule)
                if not each.problems and key_of(each.stored_id) not in left
            ]
            if again:
                self._note(
                    rule,
                    f"it still matches {_of_samples(again, self.copies)} after it was applied; let "
                    "its update end the match of its target",
                )
        return left

    def _refuse(self, rule: BoundRule, error: MigrationError, refused: dict[Any, Any]) -> None:
        key = key_of(error.document_id)
        refused[key] = error.document_id
        self.copies[key].problems.append(str(error))
        self.failures.setdefault(rule.name, {})[key] = error

    def _report_failures(self, rule: BoundRule) -> None:
        """Report for how many copies a rule failed, and why it did for the first."""
        errors = list(self.failures.get(rule.name, {}).values())
        if errors:
            self._note(rule, f"it failed for {_of_samples(errors, self.copies)}: {errors[0]}")

    def _matching(self, work: Work, rule: BoundRule) -> list[_Copy]:
        query = work.documents_of(rule.target)
        keys = {key_of(each) for each in ids_of(on_primary(work.collection), query)}
        return [each for key, each in self.copies.items() if key in keys]

    def _note(self, rule: BoundRule, problem: str) -> None:
        self.by_rule.setdefault(rule.name, []).append(problem)

    def _read_again(self, scratch: Collection[Any], rule: BoundRule) -> None:
        """Note which copies a rule has changed."""
        raws = {key_of(id_of_raw(raw, scratch)): raw for raw in read_raw(scratch).find()}
        for key, each in self.copies.items():
            former, each.raw = each.raw, raws.get(key)
            after = None if each.raw is None else readable(each.raw, scratch)
            if after is None:
                changed = each.after is not None
            else:
                changed = each.after is None or bool(diff_documents(each.after, after))
            each.after = after
            if changed:
                each.changes.append((rule.name, former, each.raw))
            if changed and rule.name not in each.rules:
                each.rules.append(rule.name)

    def _trouble(self, collection: Collection[Any], each: _Copy) -> str | None:
        """What the model says of a copy; `None` if it loads and is valid, or is gone."""
        if each.raw is None:
            return None
        # What a model looks up while it validates must not be migrated by that.
        with as_stored(root_of(self.plan.doc_class)):
            what = "it does not load"
            try:
                document = self.build(readable(each.raw, collection, as_is=True))
                what = "it is not valid"
                document.validate(clean=False)
            except PyMongoError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever a model raises
                return f"{what}: {type(exc).__name__}: {exc}"
        return None


def _of_samples(some: Sequence[Any], copies: Mapping[Any, _Copy]) -> str:
    return f"{len(some)} of {len(copies)} sampled documents"
