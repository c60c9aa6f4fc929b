"""The lazy rules that bring documents back under the target of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from lazymig.query.tree import Node
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import feeds
from lazymig.updates.convergence import ends_match, facts_after, leads_to
from lazymig.updates.knowledge import Fact

__all__ = ["certain_cycles", "facts_left", "may_be_reopened", "may_lead_to"]

# So many take a tenth of a second when the class is defined.
_MOST_PAIRS: Final = 5_000


def certain_cycles(lazy: Sequence[BoundRule]) -> Iterator[tuple[BoundRule, BoundRule]]:
    """The pairs of a rule and a later one after which each document matches the first again.

    And stays so: no rule after both writes what the first looks for, and none hands documents to
    the rules of another class. Among hundreds of rules on one path nothing is certain; a run finds
    what it has brought back.
    """
    if any("_cls" in (rule.writes or ()) for rule in lazy):
        return
    pairs = list(islice(_answers(lazy), _MOST_PAIRS))
    last = {rule.name: (rule, later, answer) for rule, later, answer in pairs}
    if len(pairs) < _MOST_PAIRS:
        for rule, later, answer in last.values():
            if answer is True and not _is_left_nothing(later, rule):
                yield rule, later


def _is_left_nothing(later: BoundRule, rule: BoundRule) -> bool:
    """Return whether an earlier rule ends the match of a later one, of documents that both match.

    As where both look for what a document does not have yet.
    """
    if rule.update is None or rule.matcher is None or later.matcher is None:
        return False
    if any("$[" in named.path for named in rule.named_paths):
        return False
    return (
        bool(rule.matcher.judge({}))
        and bool(later.matcher.judge({}))
        and ends_match(later.matcher.tree, rule.update)
    )


def may_be_reopened(lazy: Sequence[BoundRule]) -> list[BoundRule]:
    """The rules whose target may match again after a later one, as far as is known."""
    found = {rule.name: rule for rule, _, answer in _answers(lazy) if answer is not False}
    return list(found.values())


def may_lead_to(rule: BoundRule, other: BoundRule) -> bool:
    """Return whether a rule may leave a document as the target of another one looks for it."""
    if not feeds(rule, other):
        return False
    facts = facts_left(rule)
    if not facts or other.matcher is None:
        return True
    return leads_to(facts, other.matcher.tree) is not False


def _answers(lazy: Sequence[BoundRule]) -> Iterator[tuple[BoundRule, BoundRule, bool | None]]:
    """Yield each rule with the later ones that may write what it looks for.

    And whether all documents of the later one match it then, or none; `None` where that differs.
    """
    targets: list[tuple[BoundRule, Node]] = []
    for later in lazy:
        facts: list[Fact] | None = None
        for rule, target in targets:
            if not feeds(later, rule):
                continue
            facts = facts_left(later) if facts is None else facts
            yield rule, later, leads_to(facts, target) if facts else None
        if later.matcher is not None:
            targets.append((later, later.matcher.tree))


def facts_left(rule: BoundRule) -> list[Fact]:
    """What is known of the documents of a rule after it; nothing where the document decides."""
    if rule.update is None or rule.matcher is None:
        return []
    if any("$[" in named.path for named in rule.named_paths):
        return []
    return facts_after(rule.matcher.tree, rule.update)
