"""The ways that a function may take, as a tree of decisions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lazymig.rules.translating.scope import all_of, choice

__all__ = ["Fork", "Way", "condition_of", "decided", "leaves"]

_Leaf = TypeVar("_Leaf")


@dataclass(frozen=True, slots=True)
class Fork(Generic[_Leaf]):
    """Two ways, and the expression that decides between them."""

    test: Any
    yes: Way[_Leaf]
    no: Way[_Leaf]


@dataclass(frozen=True, slots=True)
class Way(Generic[_Leaf]):
    """What has to hold on a way, and its end: a fork, or what is there."""

    conditions: list[Any]
    end: Fork[_Leaf] | _Leaf


def leaves(outcome: Way[_Leaf]) -> Iterator[_Leaf]:
    """Yield the end of each way."""
    end = outcome.end
    if isinstance(end, Fork):
        yield from leaves(end.yes)
        yield from leaves(end.no)
    else:
        yield end


def decided(outcome: Way[_Leaf], expression: Callable[[_Leaf], Any]) -> Any:
    """Return one expression for all ways; it is exact where the conditions hold."""
    end = outcome.end
    if isinstance(end, Fork):
        return choice(end.test, decided(end.yes, expression), decided(end.no, expression))
    return expression(end)


def condition_of(outcome: Way[_Leaf], usable: Callable[[_Leaf], bool]) -> Any:
    """Return the expression that is true where all conditions of the way hold that is taken."""
    end = outcome.end
    if isinstance(end, Fork):
        last = choice(end.test, condition_of(end.yes, usable), condition_of(end.no, usable))
    else:
        last = usable(end)
    return all_of([*outcome.conditions, last])
