"""The effects of an update: what it leaves at the paths it writes; and expressions over them.

Everything is said of the document as it is stored before the update.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from lazymig.query.expressing import Expression, literal
from lazymig.raw.paths import overlaps
from lazymig.updates.knowledge import Absent, Unknown, Value

__all__ = [
    "ComputedEffect",
    "Copied",
    "Effect",
    "Moved",
    "NoExpression",
    "is_plain",
    "over_effects",
]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was stored at `source`; if nothing was, nothing happens. `certain`: something was."""

    source: str
    certain: bool


@dataclass(frozen=True, slots=True)
class Copied:
    """What is stored at `source`, above which there is no array; nothing, if nothing is."""

    source: str


@dataclass(frozen=True, slots=True, eq=False)
class ComputedEffect:
    """What an expression gives, which may be nothing.

    It raises nothing where `guard` is true, an expression that never does; None: everywhere.
    """

    expression: Expression
    guard: Expression | None = None

    @property
    def total(self) -> Expression:
        """The same where the guard is true, and null elsewhere."""
        if self.guard is None:
            return self.expression
        return {"$cond": [self.guard, self.expression, None]}


Effect: TypeAlias = "Value | Absent | Moved | Copied | ComputedEffect | Unknown"


class NoExpression(Exception):
    """What an expression reads is not known, or cannot be said of the document before."""


def is_plain(path: str) -> bool:
    """Return whether a path names neither elements of an array nor, perhaps, their indexes."""
    return not any(part.isdecimal() or part.startswith("$") for part in path.split(".")[1:])


def over_effects(expression: Expression, effects: Mapping[str, Effect]) -> Expression:
    """Return what an expression gives after an update, as an expression over the document before.

    :raises NoExpression: it is not known.
    """
    reader = _Reader(effects, expression)
    inner = reader.read(expression)
    # Variables, so that MongoDB does not compute with constants before it looks at a document.
    return {"$let": {"vars": reader.values, "in": inner}} if reader.values else inner


_READ_WHOLE: Final = ("$$ROOT", "$$CURRENT")


class _Reader:
    """The reading of one expression; `values` are the variables that it needs."""

    def __init__(self, effects: Mapping[str, Effect], expression: Expression) -> None:
        self.values: dict[str, Expression] = {}
        self._effects = effects
        self._names: dict[str, str] = {}
        # A variable of its own must not hide one of ours from a part of it.
        taken = map(int, re.findall(r"\bw(\d{1,6})\b", repr(expression)))
        self._next = max(taken, default=0) + 1

    def read(self, expression: Expression) -> Expression:
        if isinstance(expression, str):
            return self._path(expression) if expression.startswith("$") else expression
        if isinstance(expression, (list, tuple)):
            return [self.read(one) for one in expression]
        if not isinstance(expression, Mapping):
            return expression
        if "$getField" in expression:
            argument = expression["$getField"]
            if not isinstance(argument, Mapping) or "input" not in argument:
                raise NoExpression
        if "$let" in expression and "CURRENT" in expression["$let"].get("vars", ()):
            raise NoExpression
        return {
            name: value if name == "$literal" else self.read(value)
            for name, value in expression.items()
        }

    def _path(self, text: str) -> Expression:
        path = text[1:]
        if text.startswith("$$"):
            variable, _, path = text.partition(".")
            if variable not in _READ_WHOLE:
                return text
            if not path:
                if self._effects:
                    raise NoExpression
                return text
        for place, effect in self._effects.items():
            if overlaps(place, path):
                if not (path == place or path.startswith(f"{place}.")):
                    raise NoExpression
                return self._after(place, effect, path[len(place) :])
        return text

    def _after(self, place: str, effect: Effect, rest: str) -> Expression:
        if isinstance(effect, Copied) or (isinstance(effect, Moved) and effect.certain):
            return f"${effect.source}{rest}"
        name = self._names.get(place)
        if name is None:
            value = _value_of(place, effect)
            name = self._names[place] = f"w{self._next}"
            self._next += 1
            self.values[name] = value
        return f"$${name}{rest}"


def _value_of(place: str, effect: Effect) -> Expression:
    if isinstance(effect, Value):
        return literal(effect.value)
    if isinstance(effect, Absent):
        return "$$REMOVE"
    if isinstance(effect, ComputedEffect):
        return effect.total
    if isinstance(effect, Moved):
        nothing = {"$eq": [{"$type": f"${effect.source}"}, "missing"]}
        return {"$cond": [nothing, f"${place}", f"${effect.source}"]}
    raise NoExpression
