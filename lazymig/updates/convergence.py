"""The convergence of rules: whether it is proved that no document matches after its update.

Its parts are `knowledge`, `parents`, `operators`, `aftermath` and `pipelines`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from lazymig.query.operators import parse
from lazymig.query.tree import Node
from lazymig.updates.after_items import after_items, ends_own_match
from lazymig.updates.aftermath import after_operators
from lazymig.updates.knowledge import Fact, ask
from lazymig.updates.parents import Parents, Path, assumable
from lazymig.updates.pipelines import after_pipeline
from lazymig.updates.update import each_of

__all__ = ["assumed_parents", "ends_match", "facts_after", "keeps_match", "leads_to"]


Target: TypeAlias = "Mapping[str, Any] | Node"
"""A MongoDB query, or what was parsed of it before."""


def _tree_of(target: Target) -> Node:
    return parse(target) if isinstance(target, Mapping) else target


def ends_match(target: Target, update: Any, array_filters: Any = None) -> bool:
    """Return whether it is proved that no document matches `target` any more after `update`.

    `target` is a MongoDB query, or its tree, and `update` an update that `check_update` accepts.
    True means: for every document that matches, the server either rejects the update, or the
    updated document does not match. False means that this is not so, or could not be proved. Raises
    ValueError for a malformed target.

    One assumption is made, and only where nothing can be proved without it (`assumed_parents` gives
    its paths): above a dotted path of the target or of the update there is no array, and in an
    array no other one. It matters to `$unset`, which has no effect in an array; to stages, which
    leave an empty array empty; and to elements of arrays in arrays. It is never made for a parent
    of which the target itself asks more than whether it is there, or an object.

    The method is abstract interpretation: from the update is derived what is known of every
    document afterwards (a constant, a type, presence, absence), and the target is evaluated over
    that knowledge in three-valued logic.
    """
    items = each_of(update) if isinstance(update, list) else None
    if items is not None and ends_own_match(items, _tree_of(target)):
        return True
    return any(answer is False for answer, _ in _answers_after(target, update, array_filters))


def keeps_match(target: Target, update: Any, array_filters: Any = None) -> bool:
    """Return whether it is proved that every document matches `target` after `update`.

    As in `ends_match`, without any assumption; a document that MongoDB refuses keeps its match.
    """
    answer, _ = next(_answers_after(target, update, array_filters))
    return answer is True


def facts_after(target: Target, update: Any) -> list[Fact]:
    """Return what is known of every document of a target after an update without array filters.

    First without any assumption, then, if that may prove more, with all that `ends_match` assumes.
    """
    return [after for after, _ in _facts_after(_tree_of(target), update, None)]


def leads_to(facts: Sequence[Fact], goal: Node) -> bool | None:
    """Return whether each document of which these facts are known matches a query, or none does.

    `None`: it is not the same for all, or could not be proved. That none does is proved as in
    `ends_match`, that each does as in `keeps_match`.
    """
    answers = [ask(goal, fact) for fact in facts]
    if answers[0] is True:
        return True
    return False if False in answers else None


def assumed_parents(
    target: Mapping[str, Any], update: Any, array_filters: Any = None
) -> frozenset[str]:
    """Return the paths at which a document must have no array, for `ends_match` to be right.

    `$[]` stands for the elements of an array. Empty if nothing is assumed, or nothing proved.
    """
    for answer, relied in _answers_after(target, update, array_filters):
        if answer is False:
            return frozenset(map(".".join, relied))
    return frozenset()


def _answers_after(
    target: Target, update: Any, array_filters: Any
) -> Iterator[tuple[bool | None, set[Path]]]:
    """Yield what every updated document answers to the target, and the paths that it relies on."""
    formula = _tree_of(target)
    for after, parents in _facts_after(formula, update, array_filters):
        yield ask(formula, after), parents.relied


def _facts_after(formula: Node, update: Any, array_filters: Any) -> Iterator[tuple[Fact, Parents]]:
    """Yield what is known of every updated document.

    First without any assumption, then, if that may prove more, with all that can be assumed.
    """
    items = each_of(update) if isinstance(update, list) else None
    for assumed in (frozenset(), assumable(formula, update)):
        parents = Parents(formula, assumed)
        if items is not None:
            after = after_items(parents, items)
        elif isinstance(update, list):
            after = after_pipeline(parents, update)
        else:
            after = after_operators(parents, update, array_filters or [])
        yield after, parents
        if not parents.open_to_arrays:
            break
