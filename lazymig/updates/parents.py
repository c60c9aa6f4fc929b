"""The parents of the paths that a rule names: sub-documents, or arrays of them.

MongoDB treats a path through an array in several ways: operators refuse it, `$unset` does nothing,
stages write each element. A proof has to hold for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lazymig.query.operators import comparands
from lazymig.query.tree import And, Compare, Node, Not, Or, Path
from lazymig.updates.knowledge import ARRAY_TYPE, BARREN, Document, Fact, ask, is_present
from lazymig.updates.operators import OPERATORS
from lazymig.updates.update import SET_STAGES, read_paths, unset_stage_paths

__all__ = ["ELEMENT", "Parents", "Path", "assumable", "questions"]

ELEMENT: Final = "$[]"
"""The component of a path that stands for the elements of an array."""


@dataclass(frozen=True, slots=True)
class Parents:
    """What is at the parents of written paths, as far as the target says it.

    `assumed` are paths that are taken for sub-documents where the target does not exclude arrays.
    Of the paths that were asked about, `relied` collects these, `open_to_arrays` the others that
    may have an array.
    """

    target: Node
    assumed: frozenset[Path] = frozenset()
    relied: set[Path] = field(default_factory=set)
    open_to_arrays: set[Path] = field(default_factory=set)

    def may_be_array(self, path: Path) -> bool:
        """Return whether a document that matches may have an array at a path."""
        if ELEMENT not in path and self.excludes(path, ARRAY_TYPE):
            return False
        if path in self.assumed:
            self.relied.add(path)
            return False
        self.open_to_arrays.add(path)
        return True

    def holds_document(self, path: Path) -> bool:
        """Return whether there is a sub-document at a path, or in the array that is there."""
        return ELEMENT not in path and self.excludes(path, BARREN)

    def excludes(self, path: Path, fact: Fact) -> bool:
        """Return whether no document matches that has what `fact` says at a path without arrays."""
        for name in reversed(path):
            fact = Document({name: fact}, exists=is_present(fact))
        return ask(self.target, fact) is False


def assumable(target: Node, update: Any) -> frozenset[Path]:
    """Return the parents that may be taken for sub-documents.

    They are those above the dotted paths that target and update name, except where the target
    itself asks for something that an array may answer.
    """
    asked = list(questions(target, (), positive=True))
    named = [*(path for path, _, _ in asked), *_update_paths(update)]
    parents = {path[:end] for path in named for end in range(1, len(path)) if _is_name(path[end])}
    spoken_of = {path for path, leaf, positive in asked if not _is_neutral(leaf, positive=positive)}
    spoken_of |= {
        path[:end] for path in named for end in range(1, len(path)) if path[end].isdecimal()
    }
    return frozenset(parents - spoken_of)


def _is_name(part: str) -> bool:
    return part != ELEMENT and not part.isdecimal()


def questions(
    formula: Node, prefix: Path, *, positive: bool
) -> Iterator[tuple[Path, Compare, bool]]:
    """Yield each condition of a formula with its path, and whether it is asked for or ruled out."""
    if isinstance(formula, Not):
        yield from questions(formula.part, prefix, positive=not positive)
    elif isinstance(formula, (And, Or)):
        for part in formula.parts:
            yield from questions(part, prefix, positive=positive)
    elif isinstance(formula, Compare):
        path = (*prefix, *formula.path)
        yield path, formula, positive
        if formula.inner is not None:
            yield from questions(formula.inner, (*path, ELEMENT), positive=positive)


def _is_neutral(leaf: Compare, *, positive: bool) -> bool:
    """Return whether a question about a parent leaves open that it is a sub-document."""
    if leaf.operator == "$exists":
        return True
    if leaf.operator == "$eq":
        return leaf.operand is None
    if leaf.operator == "$in":
        return all(one is None for one in comparands(leaf))
    return positive and leaf.operator == "$type" and leaf.operand in ("object", ["object"], 3, [3])


def _update_paths(update: Any) -> Iterator[Path]:
    """Yield the paths that an update names; the names in an object literal are none of them."""
    if isinstance(update, Mapping):
        for operator, fields in update.items():
            for path, value in fields.items():
                yield _parts(path)
                if OPERATORS[operator].moves:
                    yield _parts(value)
        return
    for stage in update:
        ((name, value),) = stage.items()
        names = value if name in SET_STAGES else unset_stage_paths(name, value)
        yield from map(_parts, names or ())
    yield from map(_parts, read_paths(update) or ())


def _parts(path: str) -> Path:
    return tuple(ELEMENT if part.startswith("$") else part for part in path.split("."))
