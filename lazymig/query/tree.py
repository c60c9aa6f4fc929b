"""The tree of a query: questions on paths, joined by "and", "or" and "not".

`operators` parses it, `matching` compiles it, the facts on updates answer it; `clauses` makes it
small and writes it back as a query.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from lazymig.raw.encoding import UNSTORABLE, encoded
from lazymig.raw.values import REGEX, bracket

if TYPE_CHECKING:
    from lazymig.query.checks import Judge, Test

__all__ = [
    "And",
    "Compare",
    "Denial",
    "Leaf",
    "Node",
    "Not",
    "Opaque",
    "Or",
    "Path",
    "conjuncts",
    "identity",
    "is_expression",
    "is_reference",
]

Path: TypeAlias = "tuple[str, ...]"


@dataclass(slots=True, eq=False)
class Node:
    """A query, or a part of one; it is never changed.

    The rest is noted by `clauses`, of the nodes that it makes: the key that equal ones share, how
    deep and how large they are, and the first components of the paths that they read (None if they
    do not say which). `expressions` is how many operators, names and constants the `$expr`s in
    there have. `says` and `heeds` are for `facts`.
    """

    key: Hashable = field(init=False, default=None, repr=False)
    depth: int = field(init=False, default=1, repr=False)
    leaves: int = field(init=False, default=1, repr=False)
    expressions: int = field(init=False, default=0, repr=False)
    roots: frozenset[str] | None = field(init=False, default=None, repr=False)
    says: frozenset[Hashable] | None = field(init=False, default=None, repr=False)
    heeds: frozenset[Hashable] | None = field(init=False, default=None, repr=False)


@dataclass(slots=True, eq=False)
class Leaf(Node):
    """What is asked at one path: a question (`Compare`), or that the answer is no (`Denial`).

    `path` is () for an element of an array itself. The rest is noted by `clauses`: `dotted` is the
    path as a query names it; `choices` are the values of an equality or `$in` without patterns, by
    what is one to MongoDB; `meets_missing` says whether one of them is equal to what is missing,
    None: perhaps; `is_exact`, whether those that are numbers are plain integers. `needs` and
    `judge` are for `facts`.
    """

    path: Path
    operator: str
    operand: Any
    denied: bool = field(init=False, default=False, repr=False)
    dotted: str = field(init=False, default="", repr=False)
    choices: Mapping[Hashable, Any] | None = field(init=False, default=None, repr=False)
    meets_missing: bool | None = field(init=False, default=False, repr=False)
    is_exact: bool = field(init=False, default=True, repr=False)
    needs: frozenset[str] | None = field(init=False, default=None, repr=False)
    judge: Judge | None = field(init=False, default=None, repr=False)


@dataclass(slots=True, eq=False)
class Compare(Leaf):
    """One positive question on one path.

    `options` are the letters beside a `$regex`, or the operators beside a `$near`. `inner` is the
    tree of what `$elemMatch` asks of an element. `test` is what `predicates` compiles the question
    to, once.
    """

    options: Any = None
    inner: Node | None = None
    test: Test | None = field(init=False, default=None, repr=False)
    opposite: Denial | None = field(init=False, default=None, repr=False)

    def condition(self) -> Any:
        """Return what MongoDB takes after the path, in the shortest form."""
        operator, operand, options = self.operator, self.operand, self.options
        if operator == "$eq" and bracket(operand) != REGEX and not is_expression(operand):
            return operand
        if operator == "$regex" and bracket(operand) == REGEX and options is None:
            return operand
        if isinstance(options, str):
            options = {"$options": options}
        return {operator: operand, **(options or {})}


@dataclass(slots=True, eq=False)
class Denial(Leaf):
    """The negation of one question, as `clauses` has it: a condition on a path, like `$ne`."""

    part: Compare
    denied: bool = field(init=False, default=True, repr=False)

    def condition(self) -> Any:
        """Return what MongoDB takes after the path, in the shortest form."""
        if self.operator == "$exists":
            return {"$exists": False}
        if bracket(self.operand) == REGEX or self.operator not in _OPPOSITES:
            return {"$not": self.part.condition()}
        return {_OPPOSITES[self.operator]: self.operand}


@dataclass(slots=True, eq=False)
class And(Node):
    """Every part holds. `settled`: none of them is known to be needless beside the others."""

    parts: tuple[Node, ...]
    settled: bool = field(init=False, default=False, repr=False)


@dataclass(slots=True, eq=False)
class Or(Node):
    """Some part holds. `settled`: so are the parts."""

    parts: tuple[Node, ...]
    settled: bool = field(init=False, default=False, repr=False)


@dataclass(slots=True, eq=False)
class Not(Node):
    """The part does not hold."""

    part: Node


_OPPOSITES: Final = {"$eq": "$ne", "$in": "$nin"}


@dataclass(slots=True, eq=False)
class Opaque(Node):
    """What only MongoDB answers: a name with its value, as they stand in the query.

    An `$expr` may be known to `evaluating`.

    `reads` are the paths that it reads, None if it does not say which. `problem`: why MongoDB
    would refuse it, where it would.
    """

    name: str = ""
    value: Any = None
    reads: frozenset[str] | None = None
    problem: str = ""


def conjuncts(node: Node) -> Iterator[Node]:
    """Yield the nodes that all have to hold, none of them an `And`."""
    if isinstance(node, And):
        for part in node.parts:
            yield from conjuncts(part)
    else:
        yield node


def identity(value: Any) -> Hashable:
    """Return what only values have in common that are one to MongoDB; of one it cannot take: none.

    Not by Python's equality, for which 1, 1.0 and True are one.
    """
    try:
        return encoded(value)
    except UNSTORABLE:
        return object()


def is_expression(value: Any) -> bool:
    """Return whether MongoDB takes a value for operators; a DBRef is a value."""
    if not isinstance(value, Mapping):
        return False
    first = next(iter(value), "")
    if not isinstance(first, str):
        return False
    return first.startswith("$") and not ("$ref" in value and "$id" in value)


def is_reference(name: str) -> bool:
    """Return whether a name that begins with `$` is a field of a DBRef, and no operator."""
    return name in ("$ref", "$id", "$db")
