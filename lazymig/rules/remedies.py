"""Advice for a rule whose update does not end the match of its target."""

from __future__ import annotations

from typing import Final

from lazymig.rules.bound_rule import BoundRule
from lazymig.updates.update import each_of

__all__ = ["how_to_converge"]

_REMOVERS: Final = frozenset({"$unset", "$rename"})

# What is there after them may match as what was there before.
_CHANGERS: Final = frozenset({"$bit", "$currentDate", "$inc", "$max", "$min", "$mul", "$pop"})


def how_to_converge(rule: BoundRule) -> str:
    """Return what to change in target or update, by the operators of the update."""
    items = each_of(rule.update)
    if items is not None and rule.target != items.target:
        return f"set no self.target, as each() brings its own: {items.target}"
    if items is not None:
        return "let the update change what its where asks for"
    operators = {named.operator for named in rule.named_paths}
    removed = sorted(
        named.path
        for named in rule.named_paths
        if named.operator in _REMOVERS and "$" not in named.path
    )
    if removed:
        present = {removed[0]: {"$exists": True}}
        return f"let the target ask for what the update takes away, such as {present}"
    if operators and operators <= _CHANGERS:
        return (
            "what it changes may match as before, so let the update also set a field of the model "
            "that the target asks to be missing"
        )
    if operators and operators <= {"$pull", "$pullAll"}:
        return "let the target ask for the elements that the update takes out"
    return "narrow the target to documents that lack what the update writes"
