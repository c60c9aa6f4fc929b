"""The question whether one query follows from another, by their logic alone."""

from __future__ import annotations

from lazymig.query.clauses import reduced
from lazymig.query.tree import And, Node, Not, Opaque, Or

__all__ = ["implies"]


def implies(stronger: Node, weaker: Node) -> bool:
    """Return whether it is seen that whatever answers `stronger` answers `weaker`, too.

    What the questions themselves ask is not looked at: an equality does not imply presence.
    """
    if isinstance(weaker, And):
        return all(implies(stronger, part) for part in weaker.parts)
    if reduced(stronger).key == reduced(weaker).key and _is_repeatable(weaker):
        return True
    if isinstance(stronger, Or):
        return all(implies(part, weaker) for part in stronger.parts)
    if isinstance(weaker, Or) and any(implies(stronger, part) for part in weaker.parts):
        return True
    return isinstance(stronger, And) and any(implies(part, weaker) for part in stronger.parts)


def _is_repeatable(node: Node) -> bool:
    """Return whether a document that has not changed is known to answer the same again."""
    if isinstance(node, (And, Or)):
        return all(map(_is_repeatable, node.parts))
    if isinstance(node, Not):
        return _is_repeatable(node.part)
    # `$rand` and `$sampleRate` answer otherwise each time.
    return not isinstance(node, Opaque) or (node.name == "$expr" and "$rand" not in str(node.value))
