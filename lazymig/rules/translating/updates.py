"""The update of a translated rule: the stages of a pipeline, of what each way of the rule sets."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any, Final

from lazymig.raw.encoding import ANY_VALUE
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.outcomes import Way, decided, leaves
from lazymig.rules.translating.symbols import (
    MISSING,
    REMOVED,
    TYPES,
    Constant,
    Left,
    Record,
    Symbol,
    Types,
    as_computed,
)
from lazymig.updates.update import check_update

__all__ = ["Changes", "changes_of", "stages"]

_TRANSLATED: Final = frozenset({"$set", "$unset", "$rename"})
_PARENTS: Final[Types] = frozenset({"object", MISSING})


@dataclass(frozen=True, slots=True)
class Changes:
    """What one way of a rule sets, by paths, and removes."""

    sets: dict[str, Any] = field(default_factory=dict)
    removes: list[str] = field(default_factory=list)


def changes_of(context: Context, update: Symbol, node: ast.AST) -> Changes:
    """Read an update of operators; what it needs of the parents of its paths is required.

    :raises Left: it is none that can be translated.
    """
    if not isinstance(update, Record):
        raise Left(node, "sets an update whose form is computed")
    changes = Changes()
    form: dict[str, dict[str, Any]] = {}
    for operator, fields in update.items.items():
        if operator not in _TRANSLATED:
            raise Left(node, f"updates with {operator}")
        if not isinstance(fields, Record):
            raise Left(node, f"gives {operator} computed paths")
        form[operator] = {}
        for path, value in fields.items.items():
            _check_path(path, node)
            given = value.value if isinstance(value, Constant) else ANY_VALUE
            form[operator][path] = given
            if operator == "$set":
                _require_parents(context, path, _PARENTS, node)
                changes.sets[path] = as_computed(value, node).expression
            elif operator == "$unset":
                _require_parents(context, path, TYPES - {"array"}, node)
                changes.removes.append(path)
            else:
                _rename(context, changes, path, given, node)
    _check(form, node)
    return changes


def _check(form: Any, node: ast.AST) -> None:
    try:
        check_update(form)
    except ValueError as exc:
        raise Left(node, f"sets an update that MongoDB refuses: {exc}") from exc


def _check_path(path: Any, node: ast.AST) -> None:
    parts = path.split(".") if isinstance(path, str) else [""]
    for part in parts:
        if not part or part.startswith("$") or part.isdecimal() or "\x00" in part:
            raise Left(node, f"writes the path {path!r}, which may name an element of a list")


def _require_parents(context: Context, path: str, types: Types, node: ast.AST) -> None:
    parts = path.split(".")
    for end in range(1, len(parts)):
        context.require(context.field(".".join(parts[:end])), types, node, "writes below a list")


def _rename(context: Context, changes: Changes, source: str, to: Any, node: ast.AST) -> None:
    """A move, of a field that is there; without one MongoDB would leave all as it is."""
    _check_path(to, node)
    _require_parents(context, source, frozenset({"object"}), node)
    _require_parents(context, to, _PARENTS, node)
    value = context.present(context.field(source), node)
    changes.sets[to] = value.expression
    changes.removes.append(source)


# --- Stages ---------------------------------------------------------------------------------


def stages(outcome: Way[Changes | None]) -> list[dict[str, Any]]:
    """Return the pipeline that does what the way of each document does.

    All expressions of the first stage see the document as it was; what all ways remove is removed
    after it.
    """
    ends = [end for end in leaves(outcome) if end is not None]
    removed = set(ends[0].removes).intersection(*(end.removes for end in ends[1:]))
    written = {path for end in ends for path in (*end.sets, *end.removes)} - removed
    found: list[dict[str, Any]] = []
    if written:
        fields = {path: _value_at(outcome, path) for path in sorted(written, key=_order)}
        found.append({"$set": fields})
    if removed:
        found.append({"$unset": sorted(removed)})
    return found


def keep_parents(context: Context, changes: Changes, written: set[str], node: ast.AST) -> None:
    """Require the parents of paths that another way writes: a stage would make them here, too."""
    for path in sorted(written - changes.sets.keys()):
        _require_parents(context, path, frozenset({"object"}), node)


def _value_at(outcome: Way[Changes | None], path: str) -> Any:
    def expression(changes: Changes | None) -> Any:
        if changes is None:
            return None
        if path in changes.removes:
            return REMOVED
        return changes.sets.get(path, f"${path}")

    return decided(outcome, expression)


def _order(path: str) -> list[tuple[bool, int, str]]:
    """The order in which update operators make new fields."""
    return [(False, 0, part) for part in path.split(".")]
