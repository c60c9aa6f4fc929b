"""The rules that an operation needs applied, and the other rules that these depend on.

To apply some rules of a collection and leave the others for later is right only if nothing shows
that the others were passed over: neither now nor when all rules are applied in order afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule

__all__ = ["Footprint", "Paths", "footprint_of", "meet", "with_dependencies"]

Paths = Collection[str] | None
"""Dotted paths; `None` where they are not all known, so that it may be any path but `_id`."""

_ANY_CLASS = frozenset({"_cls"})


@dataclass(frozen=True, slots=True, eq=False)
class Footprint:
    """The paths that a rule touches.

    `conditions` decide whether it is applied, `inputs` are what its update is computed from.
    `chain` distinguishes the rules of handlers for different classes of one collection. `part_of`
    is the same for the halves of one rule, no two of which concern the same document.
    """

    conditions: Paths
    inputs: Paths
    writes: Paths
    chain: int = 0
    part_of: int | None = None


def footprint_of(
    rule: BoundRule, class_filter: Mapping[str, Any] | None = None, chain: int = 0
) -> Footprint:
    """The footprint of a rule that a match starts.

    :param class_filter: the condition on `_cls` that is part of its target, if there is one.
    """
    reads = rule.reads
    if reads is not None and class_filter:
        reads |= _ANY_CLASS
    return Footprint(reads, rule.inputs, rule.writes, chain)


def meet(paths: Paths, others: Paths) -> bool:
    """Return whether one of these paths is one of the others, or lies above or below one."""
    if paths is None or others is None:
        known = others if paths is None else paths
        return known is None or any(path != "_id" for path in known)
    plain = [_plain(path) for path in others]
    return any(overlaps(path, other) for path in map(_plain, paths) for other in plain)


@lru_cache(maxsize=4096)
def _plain(path: str) -> str:
    """The path without what names elements of an array."""
    first, *rest = path.split(".")
    return ".".join((first, *(part for part in rest if not _names_element(part))))


def _names_element(part: str) -> bool:
    return part.isdecimal() or part.startswith("$")


def with_dependencies(
    footprints: Sequence[Footprint], needed: Iterable[int], restarted: Iterable[int] = ()
) -> list[int]:
    """The rules that are to be applied, in their order, for these rules to have had their effect.

    :param footprints: of all rules, in the order in which they are applied.
    :param needed: the indexes of the rules that the operation needs.
    :param restarted: the indexes of those that may match again because of what it writes.
    :return: indexes, `needed` included. Whatever is not among them can be applied later, with the
        same result as if all had been applied in order now.
    """
    found = set(needed)
    again = set(restarted)
    if len(found) == len(footprints):
        return sorted(found)
    related = _related(footprints)
    size = -1
    while size < len(found) + len(again):
        size = len(found) + len(again)
        for first, second in related:
            earlier, later = footprints[first], footprints[second]
            if second in found:
                found.add(first)
            if (
                first in found
                and second not in found
                and meet(later.writes, earlier.conditions)
                and _is_restored(footprints, found, first)
            ):
                found.add(second)
            # What is applied anew has to meet what it would have met after all the others.
            if not again.isdisjoint((first, second)):
                found.update((first, second))
            if first in again and meet(earlier.writes, later.conditions):
                again.add(second)
    return sorted(found)


def _related(footprints: Sequence[Footprint]) -> list[tuple[int, int]]:
    """The pairs of rules whose order may matter, the earlier one first."""
    hands_over = any(meet(one.writes, _ANY_CLASS) for one in footprints)
    # Only those of which the first components of a path are the same.
    by_root: dict[str, list[int]] = {}
    anywhere: list[int] = []
    related: list[tuple[int, int]] = []
    for second, later in enumerate(footprints):
        roots = _roots(later)
        near: Iterable[int] = range(second)
        if roots is not None:
            near = sorted({*anywhere, *(n for root in roots for n in by_root.get(root, ()))})
        for first in near:
            earlier = footprints[first]
            if earlier.part_of is not None and earlier.part_of == later.part_of:
                continue
            if (hands_over or earlier.chain == later.chain) and _order_matters(earlier, later):
                related.append((first, second))
        if roots is None:
            anywhere.append(second)
        for root in roots or ():
            by_root.setdefault(root, []).append(second)
    return related


def _roots(rule: Footprint) -> set[str] | None:
    roots: set[str] = set()
    for paths in (rule.conditions, rule.inputs, rule.writes):
        if paths is None:
            return None
        roots.update(path.partition(".")[0] for path in paths)
    return roots


def _order_matters(earlier: Footprint, later: Footprint) -> bool:
    """Return whether one of two rules may write what the other touches."""
    return _uses(later, earlier.writes) or any(
        meet(later.writes, paths) for paths in (earlier.conditions, earlier.inputs)
    )


def _uses(rule: Footprint, paths: Paths) -> bool:
    return any(meet(paths, own) for own in (rule.conditions, rule.inputs, rule.writes))


def _is_restored(footprints: Sequence[Footprint], found: set[int], index: int) -> bool:
    """Return whether a later one among those found may make this rule match again.

    Then the rules after it that write what it asks for may be all that keeps it from matching.
    """
    rule = footprints[index]
    return any(later > index and meet(footprints[later].writes, rule.conditions) for later in found)
