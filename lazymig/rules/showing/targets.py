"""The target of a rule, as an expression over the whole document that is total."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lazymig.query.expressing import Expression, expressed
from lazymig.query.tree import And, Compare, Denial, Node, Not, Opaque, Or
from lazymig.rules.showing.logic import all_hold, any_holds, negated
from lazymig.rules.showing.rows import Unshown
from lazymig.rules.showing.whole import over_whole
from lazymig.updates.raising import computable

__all__ = ["concerned"]


def concerned(node: Node, total: Sequence[Expression] = ()) -> Expression:
    """Return what a target asks, as an expression that raises for no document.

    :param total: operands of `$expr` that are known to raise for none.
    :raises Unshown: no such expression is known.
    """
    if isinstance(node, (And, Or)):
        parts = [concerned(part, total) for part in node.parts]
        return all_hold(parts) if isinstance(node, And) else any_holds(parts)
    if isinstance(node, (Not, Denial)):
        return negated(concerned(node.part, total))
    if isinstance(node, Opaque) and node.name == "$expr" and not node.problem:
        if node.value not in total and computable(node.value) is not True:
            raise Unshown("asks by an $expr that MongoDB may be unable to compute for a document")
        return over_whole(node.value)
    found = expressed(node, "$$ROOT")
    if found is None:
        asked = ", ".join(dict.fromkeys(_operators_in(node)))
        raise Unshown(f"asks what only MongoDB can judge: {asked}")
    return found


def _operators_in(node: Node) -> Iterator[str]:
    if isinstance(node, Compare):
        yield node.operator
        if node.inner is not None:
            yield from _operators_in(node.inner)
    elif isinstance(node, Opaque):
        yield node.name
    elif isinstance(node, (Not, Denial)):
        yield from _operators_in(node.part)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _operators_in(part)
