"""Rules that are begun and not finished: methods with a line TODO, which `lazymig new` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lazymig.rules.discovery import discover
from lazymig.rules.rule import Rule

__all__ = ["UNANSWERED", "UNFINISHED", "is_unfinished", "until_unfinished", "waiting_rules"]

UNFINISHED: Final = "TODO: write the rule, then delete this line"
"""What the last line of a skeleton raises."""

UNANSWERED: Final = "TODO: answer the question above, then delete this line"
"""What the last line of a rule raises that asks a question."""

_MARKS = frozenset((UNFINISHED, UNANSWERED))


def is_unfinished(rule: Rule) -> bool:
    """Return whether a rule still has its line TODO, wherever in the method that stands."""
    code = getattr(rule.method, "__code__", None)
    return code is not None and not _MARKS.isdisjoint(code.co_consts)


def until_unfinished(rules: Sequence[Rule]) -> Sequence[Rule]:
    """The rules before the first unfinished one: nobody knows what those after it will meet.

    :param rules: in their order.
    """
    place = next((place for place, rule in enumerate(rules) if is_unfinished(rule)), len(rules))
    return rules[:place]


def waiting_rules(handler_class: type) -> Sequence[Rule]:
    """The first unfinished rule of a handler, and all after it; empty if there is none."""
    rules = discover(handler_class)
    return rules[len(until_unfinished(rules)) :]
