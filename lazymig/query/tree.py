"""The tree of a query: questions on paths, joined by "and", "or" and "not".

`operators` parses it, `matching` compiles it, the facts on updates answer it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from bson.errors import BSONError

from lazymig.raw.encoding import encoded

if TYPE_CHECKING:
    from lazymig.query.checks import Test

__all__ = [
    "And",
    "Compare",
    "Node",
    "Not",
    "Opaque",
    "Or",
    "Path",
    "conjuncts",
    "fingerprint",
]

Path: TypeAlias = "tuple[str, ...]"


@dataclass(frozen=True, slots=True)
class Compare:
    """One positive question on one path; `path` is () for an element of an array itself.

    `options` are the letters beside a `$regex`. `inner` is the tree of what `$elemMatch` asks of an
    element. `test` is what `predicates` compiles the question to, once.
    """

    path: Path
    operator: str
    operand: Any
    options: Any = None
    inner: Node | None = field(default=None, compare=False)
    test: Test | None = field(default=None, init=False, repr=False, compare=False)

    def condition(self) -> dict[str, Any]:
        """Return the question as MongoDB writes it after a path."""
        options = {} if self.options is None else {"$options": self.options}
        return {self.operator: self.operand, **options}


@dataclass(frozen=True, slots=True)
class And:
    """Every part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds."""

    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Node


@dataclass(frozen=True, slots=True)
class Opaque:
    """What only MongoDB answers; or, if the operator is `$expr`, what `evaluating` may know."""

    operator: str = ""
    operand: Any = None


Node: TypeAlias = "Compare | And | Or | Not | Opaque"


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the nodes that all have to hold, none of them an `And`."""
    if isinstance(node, And):
        for part in node.parts:
            yield from conjuncts(part)
    else:
        yield node


def fingerprint(node: Node) -> Hashable:
    """Return a value that is equal for nodes that ask the same; unequal may mean nothing."""
    if isinstance(node, And):
        return frozenset(map(fingerprint, conjuncts(node)))
    if isinstance(node, Or):
        return "or", frozenset(map(fingerprint, node.parts))
    if isinstance(node, Not):
        return "not", fingerprint(node.part)
    try:
        if isinstance(node, Opaque):
            # `$rand` and `$sampleRate` answer otherwise each time.
            settled = node.operator == "$expr" and "$rand" not in str(node.operand)
            return (node.operator, encoded(node.operand)) if settled else object()
        return node.path, encoded(node.condition())
    except (BSONError, ValueError):
        return object()
