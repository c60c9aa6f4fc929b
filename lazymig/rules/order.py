"""The order of lazy rules on a load: which of them a match starts, and what these wait for.

Rules run in the order of their numbers. A rule that no match starts holds back every later one that
does not commute with it, for the documents that it matches: these get both, in order, when all
rules are applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lazymig.query.joining import any_of
from lazymig.query.matching import compile_query, query_paths
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import target_of

__all__ = ["commute", "held_back", "starting_rules"]


class _Order:
    """The lazy rules of one handler, one after the other."""

    def __init__(self, condition: Mapping[str, Any] | None) -> None:
        # A rule reads what says whether a document is one of its handler's.
        self._always_read = query_paths(condition) if condition else frozenset()
        self.starting: list[BoundRule] = []
        self._undone: list[BoundRule] = []
        # For each rule that is left undone for some documents, those that it waits for: rules that
        # are left undone for all of their documents.
        self._awaited: dict[str, list[BoundRule]] = {}
        # For each rule that is left undone, the rules that no match starts by themselves.
        self.causes: dict[str, list[str]] = {}

    def add(self, rule: BoundRule) -> None:
        """Take up the next rule: it starts, it starts for some documents, or it does not."""
        before = [each for each in self._undone if not commute(each, rule, self._always_read)]
        causes = [] if rule.starts_on_match else [rule.name]
        causes += [cause for each in before for cause in self.causes[each.name]]
        if not causes:
            self.starting.append(rule)
            return
        self._undone.append(rule)
        self.causes[rule.name] = list(dict.fromkeys(causes))
        awaited = {other.name: other for each in before for other in self._awaited_by(each)}
        known = all(other.target is not None for other in awaited.values())
        if rule.starts_on_match and known:
            self._awaited[rule.name] = list(awaited.values())
            self.starting.append(self._waiting(rule, before))

    def _awaited_by(self, rule: BoundRule) -> list[BoundRule]:
        return self._awaited.get(rule.name, [rule])

    def _waiting(self, rule: BoundRule, before: Sequence[BoundRule]) -> BoundRule:
        """The rule with a target that leaves out what earlier ones are still to change."""
        undone = {each.name for each in before if each.name not in self._awaited}
        left_out: list[Mapping[str, Any]] = []
        for each in before:
            if each.name in undone:
                left_out.append(target_of(each))
                continue
            # It waits for some of its documents; those of `undone` are left out already.
            targets = [
                target_of(other) for other in self._awaited[each.name] if other.name not in undone
            ]
            if targets:
                left_out.append({"$and": [target_of(each), any_of(targets)]})
        own, nothing_of = target_of(rule), {"$nor": left_out}
        target = {"$and": [own, nothing_of]} if "$nor" in own else {**own, **nothing_of}
        return replace(
            rule,
            target=target,
            matcher=compile_query(target),
            plain=rule,
        )


def starting_rules(
    lazy: Sequence[BoundRule], condition: Mapping[str, Any] | None = None
) -> tuple[BoundRule, ...]:
    """The lazy rules that a match starts, each with the target for which it may run at once.

    A rule that has to wait for an earlier one is given a target without the documents of that one;
    the rule as it is declared is its `plain`. If it is not known which documents these are, it is
    not among the rules that a match starts.

    :param lazy: the lazy rules of a handler in their order.
    :param condition: what is part of every target, `None` for nothing.
    """
    return tuple(_ordered(lazy, condition).starting)


def held_back(lazy: Sequence[BoundRule]) -> dict[str, list[str]]:
    """The names of the rules that wait for one that no match starts, by the name of that one."""
    order = _ordered(lazy, None)
    held: dict[str, list[str]] = {}
    for name, causes in order.causes.items():
        for cause in causes:
            if cause != name:
                held.setdefault(cause, []).append(name)
    return held


def commute(
    earlier: BoundRule, later: BoundRule, always_read: frozenset[str] | None = frozenset()
) -> bool:
    """Return whether it is known to make no difference which of two rules is applied first.

    :param always_read: paths that every rule reads besides, `None` if they are not known.
    """
    return not (
        _meet(earlier.writes, later.writes)
        or _meet(earlier.writes, _read_by(later, always_read))
        or _meet(later.writes, _read_by(earlier, always_read))
    )


def _read_by(rule: BoundRule, always_read: frozenset[str] | None) -> frozenset[str] | None:
    if rule.reads is None or rule.inputs is None or always_read is None:
        return None
    return rule.reads | rule.inputs | always_read


def _meet(paths: frozenset[str] | None, others: frozenset[str] | None) -> bool:
    """Return whether two sets of paths have one in common; `None` stands for any path."""
    if paths is None or others is None:
        return paths != frozenset() and others != frozenset()
    return any(overlaps(path, other) for path in paths for other in others)


def _ordered(lazy: Sequence[BoundRule], condition: Mapping[str, Any] | None) -> _Order:
    order = _Order(condition)
    for rule in lazy:
        order.add(rule)
    return order
