"""Orders over today's shape, as far as stored documents can be sorted or found for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lazymig.raw.paths import overlaps
from lazymig.rules.rewrite.effects import Copied, Effect, Moved
from lazymig.rules.rewrite.steps import Step
from lazymig.updates.knowledge import Absent, Value

__all__ = ["Order", "apart_from_nothing", "stored_order"]

Order = Sequence[tuple[str, int]]
"""Dotted paths, each with 1 or -1."""


def stored_order(step: Step, order: Order) -> list[tuple[str, int]] | None:
    """Return how documents are sorted, before a rule, that are to come in an order after it.

    :param step: the rule; it concerns each of the documents, and MongoDB refuses it for none.
    :return: an order by the paths whose values are going to be moved or copied; None: there is
        none, as values are computed.
    """
    found: dict[str, int] = {}
    for path, direction in order:
        source = path
        if step.touches(path):
            place = _written_at(step, path)
            effect = None if place is None else (step.effects or {})[place]
            if isinstance(effect, (Value, Absent)):
                # The same for all of them.
                continue
            moved = _source(effect)
            if place is None or moved is None:
                return None
            source = moved + path[len(place) :]
        # Documents that are equal by a key are equal by it a second time.
        found.setdefault(source, direction)
    return list(found.items())


def _written_at(step: Step, path: str) -> str | None:
    """The written path that a path is, or lies beneath, if no other one has to do with it."""
    met = [place for place in step.effects or {} if overlaps(place, path)]
    if len(met) != 1 or not (path == met[0] or path.startswith(f"{met[0]}.")):
        return None
    return met[0]


def _source(effect: Effect | None) -> str | None:
    if isinstance(effect, Copied) or (isinstance(effect, Moved) and effect.certain):
        return effect.source
    return None


def apart_from_nothing(query: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return a query for the same documents, those with null or nothing at a path by themselves.

    In ascending order these come first, and all that are still old may stand among them in the
    index. MongoDB merges the two branches in the order of the path, and may answer the one by an
    index that holds no old document.
    """
    return {"$or": [{"$and": [query, {path: None}]}, {"$and": [query, {path: {"$ne": None}}]}]}
