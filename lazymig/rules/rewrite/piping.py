"""The effects of the stages of a pipeline, and the documents for which they are certain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazymig.query.expressing import Expression
from lazymig.query.tree import Node
from lazymig.rules.rewrite.effects import (
    ComputedEffect,
    Copied,
    Effect,
    NoExpression,
    is_plain,
    over_effects,
)
from lazymig.updates.knowledge import ABSENT, UNKNOWN, Value, constant
from lazymig.updates.parents import Parents
from lazymig.updates.raising import both_hold, computable
from lazymig.updates.update import SET_STAGES, assignments, unset_stage_paths

__all__ = ["Piped", "piped", "written_place"]


class Piped:
    """The effects of the stages read so far, on documents that a target finds.

    `certain`: where they are known, an expression that never raises; True: everywhere.
    """

    def __init__(self, target: Node, guard: Expression | None) -> None:
        self.effects: dict[str, Effect] = {}
        self.certain: Expression = True
        self._parents = Parents(target)
        self._guard = guard

    def read(self, stage: Mapping[str, Any]) -> bool:
        """Take in one more stage, and return whether it says which paths it writes."""
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            # All expressions of a stage see the document as the stage found it.
            found = [
                (".".join(parts), self._effect_of(expression))
                for parts, expression in assignments(value)
            ]
            for path, effect in found:
                self._put(path, effect)
            return True
        paths = unset_stage_paths(name, value)
        for path in paths or ():
            self._put(path, self._removal(path))
        return paths is not None

    def _removal(self, path: str) -> Effect:
        if "." in path and any(
            effect is not ABSENT and (each == path or each.startswith(f"{path}."))
            for each, effect in self.effects.items()
        ):
            # An earlier stage has brought its parents into being, which stay.
            return ComputedEffect("$$REMOVE")
        return ABSENT

    def _put(self, path: str, effect: Effect) -> None:
        place = path if is_plain(path) else written_place(path)
        above = [each for each in self.effects if place.startswith(f"{each}.")]
        if above:
            self.effects[above[0]] = UNKNOWN
            return
        for each in [each for each in self.effects if each.startswith(f"{place}.")]:
            del self.effects[each]
        self.effects[place] = effect if place == path else UNKNOWN
        if effect is not UNKNOWN:
            self._hold_no_arrays(place)

    def _hold_no_arrays(self, place: str) -> None:
        """Stages write a path in every element of an array on it: not so here."""
        if self._guard is not None:
            return
        parts = tuple(place.split("."))
        for end in range(1, len(parts)):
            if self._parents.may_be_array(parts[:end]):
                is_array = {"$isArray": ["$" + ".".join(parts[:end])]}
                self._require({"$not": [is_array]})

    def _require(self, condition: Expression) -> None:
        if self.certain is True or repr(condition) not in repr(self.certain):
            self.certain = both_hold(self.certain, condition)

    def _effect_of(self, expression: Any) -> Effect:
        if isinstance(expression, str) and expression.startswith("$"):
            return self._effect_of_path(expression)
        if isinstance(expression, Mapping) and expression.keys() == {"$literal"}:
            return constant(expression["$literal"])
        if not isinstance(expression, (Mapping, list, tuple)):
            return constant(expression)
        return self._computed(expression)

    def _effect_of_path(self, text: str) -> Effect:
        if text.startswith("$$"):
            return self._computed(text)
        path = text[1:]
        for place, effect in self.effects.items():
            if path == place or path.startswith(f"{place}."):
                if isinstance(effect, Copied) and self._is_copyable(effect.source):
                    path = effect.source + path[len(place) :]
                    break
                if path == place and isinstance(effect, Value):
                    return effect
                return self._computed(text)
            if place.startswith(f"{path}."):
                return UNKNOWN
        return Copied(path) if self._is_copyable(path) else self._computed(text)

    def _is_copyable(self, path: str) -> bool:
        """Return whether a query finds at a path what an expression does."""
        parts = tuple(path.split("."))
        return is_plain(path) and not any(
            self._parents.may_be_array(parts[:end]) for end in range(1, len(parts))
        )

    def _computed(self, expression: Any) -> Effect:
        try:
            value = over_effects(expression, self.effects)
            if self._guard is not None:
                return ComputedEffect(value, self._guard)
            where = computable(expression)
            if where is None:
                return UNKNOWN
            if where is True:
                return ComputedEffect(value)
            where = over_effects(where, self.effects)
        except NoExpression:
            return UNKNOWN
        self._require(where)
        return ComputedEffect(value, where)


def piped(
    target: Node, stages: Sequence[Mapping[str, Any]], guard: Expression | None = None
) -> Piped | None:
    """Read the stages of a pipeline.

    :param target: finds the documents that the pipeline is applied to.
    :param guard: is known to be true for them, and an array on a written path or an expression
        that raises to be ruled out by that.
    :return: None if it is not said which paths are written.
    """
    found = Piped(target, guard)
    return found if all(found.read(stage) for stage in stages) else None


def written_place(path: str) -> str:
    """Return the path above which nothing changes where one is written that names elements."""
    first, *others = path.split(".")
    place = [first]
    for part in others:
        if part.isdecimal():
            break  # an element may come into being, and with it whatever is beside the path
        if not part.startswith("$"):
            place.append(part)
    return ".".join(place)
