"""Convergence: whether it is proved that no document matches a target any more after its update.

The one door to the rooms that prove it: `formulas`, `knowledge`, `aftermath` and `pipelines`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazymig.rules.aftermath import after_operators
from lazymig.rules.formulas import parse
from lazymig.rules.knowledge import ask
from lazymig.rules.pipelines import after_pipeline

__all__ = ["ends_match", "keeps_match"]


def ends_match(target: Mapping[str, Any], update: Any, array_filters: Any = None) -> bool:
    """Tell whether it is proved that no document matches `target` any more after `update`.

    `target` is a MongoDB query and `update` an update that `check_update` accepts. True means: for
    every document that matches, the server either rejects the update, or the updated document does
    not match. False means that this is not so, or could not be proved. Raises ValueError for a
    malformed target.

    One assumption is made: wherever a path of the target or of the update names a field beneath
    another (`blog_post.tags`), what lies there is a sub-document and not an array, unless a
    positional component says so (`items.$[].qty`: then `items` is an array, and its elements are no
    arrays). Where it does not hold, MongoDB rejects the update or leaves it without effect; who
    relies on a proof must look at the document again after the update.

    The method is abstract interpretation: from the update is derived what is known of every
    document afterwards (a constant, a type, presence, absence), and the target is evaluated over
    that knowledge in three-valued logic.
    """
    return _answer_after(target, update, array_filters) is False


def keeps_match(target: Mapping[str, Any], update: Any, array_filters: Any = None) -> bool:
    """Tell whether it is proved that every document matches `target` after `update`.

    As in `ends_match`, with the same assumption; a document that MongoDB refuses keeps its match.
    """
    return _answer_after(target, update, array_filters) is True


def _answer_after(target: Mapping[str, Any], update: Any, array_filters: Any) -> bool | None:
    """What every updated document answers to the target; `None` if that is not known."""
    formula = parse(target)
    after = (
        after_pipeline(formula, update)
        if isinstance(update, list)
        else after_operators(formula, update, array_filters or [])
    )
    return ask(formula, after)
