"""The knowledge of every document that an update of operators leaves.

Nothing is executed: it follows from the rows of the operators and the target that found the
documents. Pipelines are read in `pipelines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lazymig.query.operators import parse, parse_or_opaque
from lazymig.query.tree import And, Compare, Node, Not, Opaque, Or
from lazymig.updates.knowledge import (
    ARRAY_TYPE,
    CONTAINERS,
    PRESENT,
    UNKNOWN,
    Arrays,
    Document,
    Elements,
    Fact,
    Lacks,
    Typed,
    is_present,
)
from lazymig.updates.operators import OPERATORS
from lazymig.updates.parents import ELEMENT, Parents, Path
from lazymig.updates.update import filter_identifiers

__all__ = ["after_operators"]


def after_operators(
    parents: Parents, update: Mapping[str, Any], array_filters: Sequence[Mapping[str, Any]]
) -> Document:
    """Return what is known of the documents that a target found, after a well-formed update.

    `parents` knows the target. MongoDB refuses to write a path through an array that no positional
    component names, with one exception: `$unset` has no effect there.
    """
    after = Document({}, exists=True)
    conditions = {next(filter_identifiers(one)): _element_condition(one) for one in array_filters}
    writing = _Writing(parents, conditions)
    for operator, fields in update.items():
        leaves = OPERATORS[operator].leaves
        for path, operand in fields.items():
            for parts, fact, refused in leaves(parents.target, tuple(path.split(".")), operand):
                writing.insert(after, parts, writing.in_array(fact, parts), refused=refused)
    return after


def _element_condition(array_filter: Mapping[str, Any]) -> Node:
    """Parse `{'e.qty': ...}` as a query on one element, `{'qty': ...}`."""

    def without_identifier(formula: Node) -> Node:
        if isinstance(formula, Compare):
            return replace(formula, path=formula.path[1:])
        if isinstance(formula, Not):
            return Not(without_identifier(formula.part))
        if isinstance(formula, (And, Or)):
            return type(formula)(tuple(map(without_identifier, formula.parts)))
        return formula

    return without_identifier(parse_or_opaque(parse, array_filter))


@dataclass(frozen=True, slots=True)
class _Writing:
    """How facts are noted: what the target says of parents, and the array filters by identifier."""

    parents: Parents
    conditions: Mapping[str, Node]

    def in_array(self, fact: Fact, parts: Path) -> Fact:
        """Return the same fact; of elements that are gone, with whether others may be arrays."""
        if not isinstance(fact, Lacks):
            return fact
        plain = (ELEMENT if part.startswith("$") else part for part in parts)
        return replace(fact, nested=self.parents.may_be_array((*plain, ELEMENT)))

    def insert(
        self,
        document: Document,
        parts: Path,
        fact: Fact,
        *,
        refused: bool = True,
        above: Path = (),
    ) -> None:
        """Note that `fact` holds at the path `parts` of `document`, which is changed.

        `refused`: the server refuses to write through an array; `above` is where the document is.
        """
        head, rest = parts[0], parts[1:]
        known = document.children.get(head)
        creates = is_present(fact)
        here = (*above, head)
        if not rest:
            document.children[head] = fact
        elif rest[0].startswith("$["):
            document.children[head] = self._insert_elements(
                known, rest, fact, here, refused=refused
            )
        elif rest[0] == "$":
            document.children[head] = ARRAY_TYPE
        elif rest[0].isdecimal():
            document.children[head] = Typed(CONTAINERS) if creates else UNKNOWN
        elif isinstance(known, (Typed, Elements)) and not isinstance(fact, Document):
            # Written both by position and by name, or not tellable: only presence is certain.
            document.children[head] = PRESENT
        else:
            child = known if isinstance(known, Document) else Document({})
            self.insert(child, rest, fact, refused=refused, above=here)
            exists = child.exists or creates
            seen = isinstance(known, Document) and known.array is Arrays.NONE
            ignored = not (refused or exists or seen) and self.parents.may_be_array(here)
            document.children[head] = Document(
                child.children, exists, Arrays.ANY if ignored else Arrays.NONE
            )

    def _insert_elements(
        self, known: Fact | None, rest: Path, fact: Fact, above: Path, *, refused: bool
    ) -> Fact:
        """Return what is known of an array when `rest`, beginning with $[] or $[e], is written."""
        selector = rest[0]
        if known is not None and not (isinstance(known, Elements) and known.selector == selector):
            return ARRAY_TYPE
        here = (*above, ELEMENT)
        holder = Document({}, exists=True)
        if isinstance(known, Elements):
            holder.children[ELEMENT] = known.element
        self.insert(holder, (ELEMENT, *rest[1:]), fact, refused=refused, above=above)
        element = holder.children[ELEMENT]
        identifier = selector[2:-1]
        ignored = isinstance(element, Document) and element.array is not Arrays.NONE
        nested = ignored or (bool(identifier) and self.parents.may_be_array(here))
        condition = self.conditions.get(identifier, Opaque())
        return Elements(selector, condition, element, bool(identifier), nested)
