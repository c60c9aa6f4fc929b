"""The question whether one query follows from another, by their logic alone."""

from __future__ import annotations

from lazymig.query.clauses import reduced
from lazymig.query.tree import And, Node, Or

__all__ = ["implies"]


def implies(stronger: Node, weaker: Node) -> bool:
    """Return whether it is seen that whatever answers `stronger` answers `weaker`, too.

    What the questions themselves ask is not looked at: an equality does not imply presence.
    """
    if isinstance(weaker, And):
        return all(implies(stronger, part) for part in weaker.parts)
    if reduced(stronger).key == reduced(weaker).key:
        return True
    if isinstance(stronger, Or):
        return all(implies(part, weaker) for part in stronger.parts)
    if isinstance(weaker, Or) and any(implies(stronger, part) for part in weaker.parts):
        return True
    return isinstance(stronger, And) and any(implies(part, weaker) for part in stronger.parts)
