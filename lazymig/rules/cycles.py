"""Lazy rules that bring documents back under the target of an earlier one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lazymig.rules.convergence import leads_to
from lazymig.rules.discovery import BoundRule
from lazymig.rules.plan import feeds

__all__ = ["certain_cycles", "may_be_reopened"]


def certain_cycles(lazy: Sequence[BoundRule]) -> Iterator[tuple[BoundRule, BoundRule]]:
    """The pairs of a rule and a later one after which each document matches the first again."""
    for position, rule in enumerate(lazy):
        for later in lazy[position + 1 :]:
            if _leads_back(later, rule) is True:
                yield rule, later


def may_be_reopened(lazy: Sequence[BoundRule]) -> list[BoundRule]:
    """The rules whose target may match again after a later one, as far as is known."""
    return [
        rule
        for position, rule in enumerate(lazy)
        if rule.target is not None
        and any(
            feeds(later, rule) and _leads_back(later, rule) is not False
            for later in lazy[position + 1 :]
        )
    ]


def _leads_back(later: BoundRule, rule: BoundRule) -> bool | None:
    """Whether all documents of a rule match an earlier one after it; `None` where that differs."""
    if later.update is None or later.target is None or rule.target is None:
        return None
    if not feeds(later, rule) or any("$[" in named.path for named in later.named_paths):
        # What it leaves alone matches afterwards if it has matched before.
        return None
    return leads_to(later.target, later.update, rule.target)
