"""The rules of one model as the engines use them, and which documents they concern."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from lazymig.locks import cached_property
from lazymig.query.indexable import indexable
from lazymig.query.joining import all_of, any_of
from lazymig.query.operators import parse
from lazymig.query.tree import And, Node
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.dependencies import footprint_of, with_dependencies
from lazymig.rules.once import CLAIM
from lazymig.updates.knowledge import implies_presence

__all__ = ["Family", "Plan", "feeds", "full_name", "target_of"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The rules of one handler for one model.

    `class_filter` is the condition on `_cls` that is part of every target, `None` where the handler
    concerns every document of the collection. `inherited_filters` widens it to the documents of
    subclasses whose own handlers have inherited a rule, by the rule's name. `starting` are the
    lazy rules that a match starts, each without the documents for which it waits (see `order`);
    `lazy` has them with their own targets. `warned` are the names of rules whose match was found to
    come back.
    `shard_key` are the dotted paths of the model's shard key, `_id` left out.
    """

    doc_class: Any
    handler_class: Any
    lazy: tuple[BoundRule, ...]
    bulk: tuple[BoundRule, ...]
    class_filter: Mapping[str, Any] | None
    inherited_filters: Mapping[str, Mapping[str, Any] | None]
    on_error: Literal["raise", "skip"]
    lazy_timeout: float | None
    validates: bool
    starting: tuple[BoundRule, ...]
    shard_key: tuple[str, ...] = ()
    warned: set[str] = field(default_factory=set)
    _narrowed: dict[tuple[int, ...], Plan | None] = field(
        init=False, repr=False, default_factory=dict
    )

    @property
    def model_name(self) -> str:
        """The model's name, for messages."""
        return str(self.doc_class.__name__)

    @property
    def model_class(self) -> str:
        """The model's name with its module, which distinguishes it from others of the same name."""
        return full_name(self.doc_class)

    @property
    def started_by_errors(self) -> tuple[BoundRule, ...]:
        """The lazy rules that no match starts, for no document."""
        return tuple(rule for rule in self.lazy if not self.starts(rule))

    def starts(self, rule: BoundRule) -> bool:
        """Return whether a match starts a lazy rule, for some documents at least."""
        return any(each.name == rule.name for each in self.starting)

    @property
    def claims(self) -> bool:
        """Return whether a rule leaves its claim in documents for the time of its work."""
        return any(rule.once is not None for rule in (*self.lazy, *self.bulk))

    def query_of(self, rule: BoundRule) -> dict[str, Any]:
        """The query for the documents that a rule with a target has to change."""
        return all_of(self.class_filter, rule.target)

    def tree_of(self, rule: BoundRule) -> Node | None:
        """The tree of `query_of`, where the rule's target was parsed when it was bound."""
        if rule.matcher is None:
            return None
        tree = rule.matcher.tree
        return And((parse(self.class_filter), tree)) if self.class_filter else tree

    def query_of_any(self, rules: Sequence[BoundRule]) -> dict[str, Any]:
        """The query for the documents that one of these rules, all with targets, has to change."""
        return all_of(self.class_filter, any_of([target_of(rule) for rule in rules]))

    @cached_property
    def search(self) -> Mapping[str, Any]:
        """The query for what the starting rules have to change, worded for their indexes."""
        return indexable(any_of([self.query_of(rule) for rule in self.starting]))

    def reported_query_of(self, rule: BoundRule) -> dict[str, Any]:
        """The query of reports: with the documents of subclasses that inherit the rule."""
        return all_of(self.widest_filter_of(rule), rule.target)

    def widest_filter_of(self, rule: BoundRule) -> Mapping[str, Any] | None:
        """The condition on `_cls` of all documents that have this rule, subclasses' included."""
        return self.inherited_filters.get(rule.name, self.class_filter)

    def needing_query_of(self, rule: BoundRule) -> dict[str, Any]:
        """The query for the documents for which a rule with a target must not be deleted."""
        target = target_of(rule)
        if rule.once is not None:
            # What the owner of a claim has left when it died is taken out by its rule alone.
            target = any_of([target, {f"{CLAIM}.rule": rule.name}])
        return all_of(self.widest_filter_of(rule), target)

    def judge(
        self, documents: Sequence[Mapping[str, Any]], among: Sequence[int] | None = None
    ) -> tuple[dict[int, list[BoundRule]], dict[int, list[BoundRule]]]:
        """Find the documents that a rule's target matches, and those that only MongoDB can judge.

        :param documents: whole raw documents.
        :param among: the indexes of the documents that this plan concerns; `None` for all.
        :return: rules by index of the document: certain matches, and questions.
        """
        certain: dict[int, list[BoundRule]] = {}
        open_questions: dict[int, list[BoundRule]] = {}
        batch = documents if among is None else [documents[index] for index in among]
        for rule in self.starting:
            matcher = rule.matcher
            assert matcher is not None
            for position in matcher.screen(batch):
                verdict = matcher.judge(batch[position])
                if verdict is False:
                    continue
                index = position if among is None else among[position]
                found = certain if verdict else open_questions
                found.setdefault(index, []).append(rule)
        return certain, open_questions

    def concerned_by(self, carried: Sequence[str] | None, excluded: Sequence[str]) -> Plan | None:
        """This plan with the rules that write a path which a projection carries, and their needs.

        :param carried: the paths an inclusion carries, `None` where everything is carried but
            what `excluded` names.
        :return: the same plan if all rules are concerned, `None` if none is.
        """
        carrying = tuple(
            index
            for index, rule in enumerate(self.starting)
            if _writes_carried(rule, carried, excluded)
        )
        if carrying not in self._narrowed:
            footprints = [footprint_of(rule, self.class_filter) for rule in self.starting]
            self._narrowed[carrying] = self.narrowed(with_dependencies(footprints, carrying))
        return self._narrowed[carrying]

    def narrowed(self, indexes: Sequence[int]) -> Plan | None:
        """This plan with these of its starting rules: the same plan if all, `None` if none."""
        concerned = tuple(self.starting[index] for index in indexes)
        if not concerned:
            return None
        if concerned == self.starting:
            return self
        return replace(self, starting=concerned)

    def may_rescue(self, carried: Sequence[str] | None, excluded: Sequence[str]) -> bool:
        """Return whether a rule that no match starts may write what a projection carries."""
        return any(_writes_carried(rule, carried, excluded) for rule in self.started_by_errors)


def target_of(rule: BoundRule) -> Mapping[str, Any]:
    """The target of a rule that has one."""
    assert rule.target is not None
    return rule.target


def full_name(model: Any) -> str:
    """A class's name with its module."""
    return f"{model.__module__}.{model.__qualname__}"


def feeds(rule: BoundRule, later: BoundRule) -> bool:
    """Return whether a rule may write what the target of another one reads."""
    if rule.writes is None or later.reads is None:
        return True
    return any(overlaps(path, read) for path in rule.writes for read in later.reads)


def _writes_carried(
    rule: BoundRule, carried: Sequence[str] | None, excluded: Sequence[str]
) -> bool:
    """Return whether what a projection shows may be another once the rule was applied."""
    if rule.writes is None:
        return True
    for path in rule.writes:
        # A sub-document that comes into being shows, empty, though the path in it is not asked for.
        shown = path.partition(".")[0] if _brings_forth_parent(rule, path) else path
        if carried is not None:
            if any(overlaps(shown, wanted) for wanted in carried):
                return True
        elif not any(shown == gone or shown.startswith(f"{gone}.") for gone in excluded):
            return True
    return False


def _brings_forth_parent(rule: BoundRule, path: str) -> bool:
    parent, _, _name = path.rpartition(".")
    if not parent or rule.matcher is None or path not in (rule.creates or ()):
        return False
    return not implies_presence(rule.matcher.tree, tuple(parent.split(".")))


@dataclass(frozen=True, eq=False)
class Family:
    """All plans of one collection: whose rules a document obeys is said by its `_cls`.

    `root` is the plan of documents whose class is unknown, former or the root class. The classes
    are in the order in which their rules are applied to a document that is handed over.
    """

    root: Plan | None
    by_class: Mapping[str, Plan | None]
    only: Plan | None = field(init=False)
    validates: bool = field(init=False)

    def __post_init__(self) -> None:
        uniform = all(plan is self.root for plan in self.by_class.values())
        object.__setattr__(self, "only", self.root if uniform else None)
        object.__setattr__(self, "validates", any(plan.validates for plan in self.plans))

    @property
    def plans(self) -> list[Plan]:
        """Every plan, once, in the order of the classes."""
        found: dict[int, Plan] = {}
        for plan in (*self.by_class.values(), self.root):
            if plan is not None:
                found.setdefault(id(plan), plan)
        return list(found.values())

    @cached_property
    def up_to_date(self) -> Mapping[str, Any] | None:
        """The query for the documents that no rule concerns; `None` where no query says so.

        None does where a rule starts on errors, waits for another one, or leaves its claim.
        """
        plans = self.plans
        if self.validates or any(plan.claims or plan.starting != plan.lazy for plan in plans):
            return None
        old = [plan.query_of(rule) for plan in plans for rule in plan.starting]
        return {"$nor": old} if old else None

    def plan_of(self, document: Mapping[str, Any]) -> Plan | None:
        """The plan that a raw document obeys."""
        if self.only is not None:
            return self.only
        name = document.get("_cls")
        return self.by_class.get(name, self.root) if isinstance(name, str) else self.root

    def split(
        self, documents: Sequence[Mapping[str, Any]]
    ) -> list[tuple[Plan, Sequence[int] | None]]:
        """The plans of a batch, each with the indexes of its documents (`None`: all of them)."""
        if self.only is not None:
            return [(self.only, None)]
        groups: dict[int, tuple[Plan, list[int]]] = {}
        for index, document in enumerate(documents):
            plan = self.plan_of(document)
            if plan is not None:
                groups.setdefault(id(plan), (plan, []))[1].append(index)
        return list(groups.values())
