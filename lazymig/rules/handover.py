"""The order of the handlers of a collection: one that hands documents over comes first."""

from __future__ import annotations

from collections.abc import Sequence

from lazymig.query.operators import parse
from lazymig.rules.cycles import facts_left
from lazymig.rules.plan import Plan
from lazymig.updates.convergence import leads_to

__all__ = ["in_order_of_handover"]


def in_order_of_handover(plans: Sequence[Plan], *, bulk: bool = False) -> list[Plan]:
    """Return the plans so that each comes after those that may change the class to one of its own.

    The rules of the class that a document has become are still to come. Plans that hand documents
    to and fro have no such order; these, and all others, stay as they are.

    :param bulk: what bulk rules hand over counts, too.
    """
    left, found = list(plans), list[Plan]()
    while left:
        free = [plan for plan in left if not any(_hands_over(one, plan, bulk=bulk) for one in left)]
        first = (free or left)[0]
        left = [plan for plan in left if plan is not first]
        found.append(first)
    return found


def _hands_over(plan: Plan, other: Plan, *, bulk: bool) -> bool:
    """Return whether a rule may make documents of a plan those of another one."""
    if plan is other or other.class_filter is None:
        return False
    rules = (*plan.lazy, *plan.bulk) if bulk else plan.lazy
    changing = [rule for rule in rules if "_cls" in (rule.writes or ())]
    if not changing:
        return False
    classes = parse(other.class_filter)
    return any(
        not (facts := facts_left(rule)) or leads_to(facts, classes) is not False
        for rule in changing
    )
