"""The rules as queries see through them: a target, and what is known of what an update leaves.

What a step makes of a query is said in `rewriting`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lazymig.query.clauses import TRUE, Clause, read
from lazymig.query.context import simplified
from lazymig.query.matching import compile_query
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.updates.knowledge import (
    ABSENT,
    UNKNOWN,
    Absent,
    Unknown,
    Value,
    constant,
    implies_presence,
)
from lazymig.updates.update import SET_STAGES, assignments, check_update, each_of, unset_stage_paths

__all__ = ["Effect", "Moved", "Step", "compile_step", "opaque_step", "step_of"]


@dataclass(frozen=True, slots=True)
class Moved:
    """What was stored at `source`; if nothing was, nothing happens. `certain`: something was."""

    source: str
    certain: bool


Effect: TypeAlias = "Value | Absent | Moved | Unknown"


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One converging lazy rule: its target, and what it leaves at the paths that it writes.

    `effects` is None if those paths are not known. `roots` are their first components.
    """

    name: str
    target: Mapping[str, Any] | None
    condition: Clause
    effects: Mapping[str, Effect] | None
    roots: frozenset[str]

    def touches(self, path: str) -> bool:
        """Return whether the rule may change what a condition on `path` answers."""
        root = path.partition(".")[0]
        if self.effects is None:
            return root != "_id"
        if root not in self.roots:
            return False
        return any(True for _ in self.related(path))

    def related(self, path: str) -> Iterator[tuple[str, Effect]]:
        """Yield the effects at, above and beneath a path."""
        plain = _without_indexes(path)
        for place, effect in (self.effects or {}).items():
            if overlaps(place, path) or (isinstance(effect, Unknown) and overlaps(place, plain)):
                yield place, effect


def _without_indexes(path: str) -> str:
    if "." not in path:
        return path
    first, *others = path.split(".")
    return ".".join((first, *(name for name in others if not name.isdecimal())))


# --- What a rule leaves -----------------------------------------------------------------


def compile_step(
    name: str, target: Mapping[str, Any], update: Any, array_filters: Any = None
) -> Step:
    """Return a static rule as `rewrite` takes it.

    Constants of `$set`, `$unset` and `$rename` are known exactly; anything else is opaque: a
    query that reads its paths is refused. Nothing is raised, and nothing is changed.
    """
    try:
        tree = compile_query(target).tree
        check_update(update, array_filters)
    except ValueError:
        return opaque_step(name, None, None)
    if not isinstance(update, Mapping):
        return opaque_step(name, target, _pipeline_paths(update))
    effects: dict[str, Effect] = {}
    for kind, fields in update.items():
        for path, value in fields.items():
            if kind == "$rename":
                if _is_plain(path) and _is_plain(value):
                    effects[path] = ABSENT
                    certain = implies_presence(tree, tuple(path.split(".")))
                    effects[value] = Moved(path, certain)
                else:
                    effects[_written_place(path)] = effects[_written_place(value)] = UNKNOWN
            elif kind == "$set" and _is_plain(path):
                effects[path] = constant(value)
            elif kind == "$unset" and _is_plain(path):
                effects[path] = ABSENT
            elif kind != "$setOnInsert":
                effects[_written_place(path)] = UNKNOWN
    return _step(name, target, effects)


def step_of(rule: BoundRule, target: Mapping[str, Any], collection: Any = None) -> Step:
    """The step of a rule.

    :param target: the query for the documents that the rule concerns.
    :param collection: the PyMongo collection, where the rule may ask for it.
    :raises Exception: whatever a static rule raises.
    """
    if rule.kind != "static" or rule.varies:
        return opaque_step(rule.name, target, rule.writes)
    evaluation = rule.evaluate(collection=collection)
    if evaluation.update != rule.update:
        # A value such as the present time: what it will be is not known yet.
        return opaque_step(rule.name, target, rule.writes)
    return compile_step(rule.name, target, evaluation.update, evaluation.array_filters)


def opaque_step(name: str, target: Mapping[str, Any] | None, writes: frozenset[str] | None) -> Step:
    """Return a rule of which only the paths are known that it may write (None: any path)."""
    return _step(name, target, None if writes is None else dict.fromkeys(writes, UNKNOWN))


def _step(
    name: str, target: Mapping[str, Any] | None, effects: Mapping[str, Effect] | None
) -> Step:
    condition = TRUE if target is None else simplified(read(target))
    roots = frozenset(path.partition(".")[0] for path in effects or ())
    return Step(name, target, condition, effects, roots)


def _is_plain(path: str) -> bool:
    """Return whether a path names neither elements of an array nor, perhaps, their indexes."""
    return not any(part.isdecimal() or part.startswith("$") for part in path.split(".")[1:])


def _written_place(path: str) -> str:
    first, *others = path.split(".")
    place = [first]
    for part in others:
        if part.isdecimal():
            break  # an element may come into being, and with it whatever is beside the path
        if not part.startswith("$"):
            place.append(part)
    return ".".join(place)


def _pipeline_paths(stages: Sequence[Mapping[str, Any]]) -> frozenset[str] | None:
    items = each_of(stages)
    if items is not None:
        return items.writes
    found: set[str] = set()
    for stage in stages:
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            found.update(_written_place(".".join(parts)) for parts, _ in assignments(value))
        else:
            paths = unset_stage_paths(name, value)
            if paths is None:
                return None
            found.update(map(_written_place, paths))
    return frozenset(found)
