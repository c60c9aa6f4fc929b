"""The checks of an update before it runs, and the paths that it writes, reads and names.

What an update does to the documents that a target finds is the subject of `convergence`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import bson

from lazymig.characters import cut
from lazymig.query.expressions import expression_paths
from lazymig.query.operators import is_expression
from lazymig.raw.encoding import ANY_UUID, ANY_VALUE, UNSTORABLE
from lazymig.raw.paths import model_path
from lazymig.redaction import excerpt
from lazymig.updates.each import Each
from lazymig.updates.operators import OPERATORS

__all__ = [
    "SET_STAGES",
    "NamedPath",
    "assignments",
    "check_update",
    "created_paths",
    "each_of",
    "filter_identifiers",
    "filtered_paths",
    "named_paths",
    "read_paths",
    "removed_paths",
    "unset_stage_paths",
    "written_paths",
]


SET_STAGES: Final = ("$set", "$addFields")
"""The stages of a pipeline that write fields."""


_REPLACE_STAGES: Final = ("$replaceRoot", "$replaceWith")
_STAGES: Final = (*SET_STAGES, "$unset", "$project", *_REPLACE_STAGES)


# --- Checks -----------------------------------------------------------------------------


def check_update(update: Any, array_filters: Any = None) -> None:
    """Raise ValueError if `update` is no update that MongoDB could accept for stored documents.

    `update` is a mapping of update operators or a list of pipeline stages, in database field
    names, and may contain `ANY_VALUE`; `array_filters` is as in PyMongo. The message says what is
    wrong, naming operator and path, and what to do. Stricter than mongomock and as strict as the
    server about conflicting paths; what depends on a stored document is left to the server.
    """
    if isinstance(update, list) and update:
        if array_filters is not None:
            raise ValueError(
                "array_filters cannot be combined with a pipeline; "
                "drop array_filters, or write the update with operators"
            )
        for stage in update:
            _check_stage(stage)
        return
    if not isinstance(update, Mapping) or not update:
        raise ValueError(
            f"the update is {_brief(update)}; "
            "give a mapping of update operators or a list of pipeline stages, not empty"
        )
    _check_operators(update)
    _check_array_filters(update, array_filters)


def _check_operators(update: Mapping[str, Any]) -> None:
    plain = [key for key in update if not str(key).startswith("$")]
    if len(plain) == len(update):
        raise ValueError(
            f"the update is a replacement document ({_names(plain)}); "
            "put the fields into an operator such as $set"
        )
    if plain:
        raise ValueError(
            f"the update mixes operators with plain fields ({_names(plain)}); "
            "put the fields into an operator such as $set"
        )
    written: list[tuple[str, str]] = []
    for operator, fields in update.items():
        if operator not in OPERATORS:
            raise ValueError(
                f"{operator} is not an update operator; use one of {', '.join(sorted(OPERATORS))}"
            )
        if not isinstance(fields, Mapping) or not fields:
            raise ValueError(
                f"{operator} is given {_brief(fields)}; give it a mapping of paths, not empty"
            )
        for path, value in fields.items():
            _check_path(operator, path)
            written.append((operator, path))
            if OPERATORS[operator].moves:
                _check_move(operator, path, value)
                written.append((operator, value))
            _check_encodes(operator, path, value)
    _check_conflicts(written)


def _check_move(operator: str, source: str, destination: Any) -> None:
    if not isinstance(destination, str):
        raise ValueError(
            f"{operator} of '{source}' is given {_brief(destination)}; "
            "give the new path as a string"
        )
    _check_path(operator, destination)
    if source == destination:
        raise ValueError(f"{operator} of '{source}' to itself; give another path, or drop it")
    for path in (source, destination):
        if any(part.startswith("$") for part in path.split(".")):
            raise ValueError(
                f"{operator} with the positional path '{path}'; "
                "in elements of arrays it renames nothing, use each() or a pipeline with $map"
            )


def _check_path(operator: str, path: Any) -> None:
    if not isinstance(path, str) or not all(path.split(".")):
        raise ValueError(
            f"{operator} has the path {_brief(path)}; "
            "give a string with no empty component before, between or after the dots"
        )
    if path.split(".")[0] == "_id":
        raise ValueError(
            f"{operator} writes '{path}'; the _id of a stored document cannot be changed, "
            "insert a new document instead"
        )


def _check_encodes(operator: str, path: str, value: Any) -> None:
    try:
        bson.encode({"value": _without_any(value)}, codec_options=ANY_UUID)
    except UNSTORABLE as error:
        raise ValueError(
            f"{operator} of '{path}' holds a value that BSON cannot encode ({excerpt(error)}); "
            "convert it to a BSON type"
        ) from error


def _check_conflicts(written: Sequence[tuple[str, str]]) -> None:
    # Sorted by components, a path is followed directly by itself or by a path beneath it.
    ordered = sorted((tuple(path.split(".")), operator, path) for operator, path in written)
    for (parts, operator, path), (other_parts, other, other_path) in pairwise(ordered):
        if other_parts[: len(parts)] == parts:
            raise ValueError(
                f"{operator} of '{path}' and {other} of '{other_path}' conflict; "
                "write each path once, and never together with its parent"
            )


def _check_stage(stage: Any) -> None:
    if not isinstance(stage, Mapping) or len(stage) != 1:
        raise ValueError(f"a pipeline stage is {_brief(stage)}; give a mapping with one operator")
    ((name, value),) = stage.items()
    if name not in _STAGES:
        raise ValueError(
            f"{name} is not a stage that an update may use; use one of {', '.join(_STAGES)}"
        )
    if name == "$unset":
        paths = [value] if isinstance(value, str) else value
        if not isinstance(paths, list) or not paths:
            raise ValueError(
                f"the stage $unset is given {_brief(value)}; give it a path or a list of paths"
            )
        for path in paths:
            _check_path(name, path)
        _check_conflicts([(name, path) for path in paths])
        return
    if name != "$replaceWith" and (not isinstance(value, Mapping) or not value):
        raise ValueError(f"the stage {name} is given {_brief(value)}; give it a mapping, not empty")
    if name in SET_STAGES:
        for path in value:
            _check_path(name, path)
        _check_conflicts([(name, path) for path in value])
        for path, expression in value.items():
            _check_encodes(name, path, expression)
        for parts, expression in assignments(value):
            if isinstance(expression, Mapping) and not expression:
                raise ValueError(
                    f"the stage {name} sets '{'.'.join(parts)}' to an empty document, which "
                    'MongoDB refuses there; write {"$literal": {}}'
                )
    elif name == "$replaceRoot" and set(value) != {"newRoot"}:
        raise ValueError("the stage $replaceRoot takes one field; give it as newRoot")
    else:
        _check_encodes(name, "", value)


def _check_array_filters(update: Mapping[str, Any], array_filters: Any) -> None:
    declared: set[str] = set()
    if array_filters is not None:
        if not isinstance(array_filters, list):
            raise ValueError(f"array_filters is {_brief(array_filters)}; give a list of mappings")
        for condition in array_filters:
            if not isinstance(condition, Mapping) or not condition:
                raise ValueError(
                    f"array_filters contains {_brief(condition)}; give mappings, not empty"
                )
            identifiers = set(filter_identifiers(condition))
            if len(identifiers) != 1:
                raise ValueError(
                    f"an array filter names {_names(sorted(identifiers))}; "
                    "each filter names one identifier"
                )
            problem = _problem_of_identifier(next(iter(identifiers)))
            if problem:
                raise ValueError(problem)
            if identifiers & declared:
                raise ValueError(
                    f"array_filters names {_names(identifiers)} twice; "
                    "join its conditions in one filter"
                )
            declared |= identifiers
    used = {
        part[2:-1]
        for fields in update.values()
        for path in fields
        for part in path.split(".")
        if part.startswith("$[") and part != "$[]"
    }
    if used - declared:
        raise ValueError(
            f"no array filter for {_names(sorted(used - declared))}; add it to array_filters"
        )
    if declared - used:
        raise ValueError(
            f"array_filters names {_names(sorted(declared - used))}, which no path uses; "
            "drop the filter, or use its identifier as $[identifier]"
        )


def _problem_of_identifier(identifier: str) -> str | None:
    if re.fullmatch(r"[a-z][a-zA-Z0-9]*", identifier):
        return None
    return (
        f"an array filter names {identifier!r}; "
        "begin the identifier with a small letter, and use letters and digits only"
    )


def filter_identifiers(condition: Mapping[str, Any]) -> Iterator[str]:
    """Yield the identifier of every path in one of `array_filters`."""
    for name in _filter_names(condition):
        yield name.split(".")[0]


def _filter_names(condition: Mapping[str, Any]) -> Iterator[str]:
    for key, value in condition.items():
        if not key.startswith("$"):
            yield key
        elif isinstance(value, list):
            for part in value:
                if isinstance(part, Mapping):
                    yield from _filter_names(part)


def _without_any(value: Any) -> Any:
    if value is ANY_VALUE:
        return None
    if isinstance(value, Mapping):
        return {key: _without_any(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_any(item) for item in value]
    return value


def _brief(value: Any) -> str:
    return cut(repr(value), 60)


def _names(names: Any) -> str:
    return ", ".join(f"'{name}'" for name in names) or "nothing"


# --- Paths -----------------------------------------------------------------------------


def each_of(update: Any) -> Each | None:
    """Return an update as what `each` made of it; None: it is another one, or was changed since."""
    if isinstance(update, Each) and len(update) == 1 and update[0] is update.stage:
        return update
    return None


def written_paths(update: Any) -> frozenset[str] | None:
    """Return the dotted paths that a well-formed update may change; None: not known.

    Positional components and array indexes are left out: `items.$[e].qty` gives `items.qty`, so
    that paths compare with a model's. `$setOnInsert` writes nothing, for nothing is upserted. What
    `each` made writes fields of items, though it assigns the list.
    """
    items = each_of(update)
    if items is not None:
        return items.writes
    written: set[str] = set()
    for _, path in _changes(update):
        if path is None:
            return None
        written.add(path)
    return frozenset(written)


@dataclass(frozen=True, slots=True)
class NamedPath:
    """A path as an update operator names it; `destination` is where `$rename` moves it."""

    operator: str
    path: str
    destination: str | None = None


def named_paths(update: Any) -> frozenset[NamedPath]:
    """Return the paths that the operators of a well-formed update name; a pipeline has none."""
    if not isinstance(update, Mapping):
        return frozenset()
    return frozenset(
        NamedPath(operator, path, value if OPERATORS[operator].moves else None)
        for operator, fields in update.items()
        if OPERATORS[operator].writes
        for path, value in fields.items()
    )


def read_paths(update: Any) -> frozenset[str] | None:
    """Return the paths whose values an update puts elsewhere: those that a pipeline names.

    None if they are not known, as with `$$ROOT` or `$getField`. Operators compute from nothing but
    the paths that they write.
    """
    items = each_of(update)
    if items is not None:
        return items.reads
    return expression_paths(update) if isinstance(update, (list, tuple)) else frozenset()


def filtered_paths(update: Any, array_filters: Any) -> frozenset[str]:
    """Return the paths by which `array_filters` choose the elements of arrays that are written."""
    arrays: dict[str, set[str]] = {}
    for fields in update.values() if isinstance(update, Mapping) else ():
        for path in fields:
            parts = path.split(".")
            for place, part in enumerate(parts):
                if part.startswith("$["):
                    arrays.setdefault(part[2:-1], set()).add(model_path(".".join(parts[:place])))
    found: set[str] = set()
    for condition in array_filters or ():
        for name in _filter_names(condition):
            identifier, _, rest = name.partition(".")
            for array in arrays.get(identifier, ()):
                found.add(model_path(f"{array}.{rest}") if rest else array)
    return frozenset(found)


def removed_paths(update: Any) -> frozenset[str]:
    """Return the paths that `update` takes away: a model may no longer know them."""
    items = each_of(update)
    if items is not None:
        return items.removes
    removed: set[str] = set()
    for removes, path in _changes(update):
        if path is not None:
            (removed.add if removes else removed.discard)(path)
    return frozenset(removed)


def created_paths(update: Any) -> frozenset[str] | None:
    """Return the paths that are meant to be there after `update`; None: not known.

    These are all written paths but those taken away. A field that a pipeline sets in one stage and
    unsets in a later one is not among them.
    """
    items = each_of(update)
    if items is not None:
        return items.creates
    created: set[str] = set()
    for removes, path in _changes(update):
        if path is None:
            return None
        if removes:
            created = {one for one in created if one != path and not one.startswith(path + ".")}
        else:
            created.add(path)
    return frozenset(created)


def _changes(update: Any) -> Iterator[tuple[bool, str | None]]:
    """Yield (takes away?, path) in the order of execution; the path None: not known."""
    if isinstance(update, Mapping):
        for operator, fields in update.items():
            row = OPERATORS[operator]
            for path, value in fields.items() if row.writes else ():
                yield row.removes, model_path(path)
                if row.moves:
                    yield False, model_path(value)
        return
    for stage in update:
        ((name, value),) = stage.items()
        if name in SET_STAGES:
            for parts, expression in assignments(value):
                yield expression == "$$REMOVE", model_path(".".join(parts))
        else:
            paths = unset_stage_paths(name, value)
            if paths is None:
                yield False, None
            else:
                for path in paths:
                    yield True, model_path(path)


def assignments(
    fields: Mapping[str, Any], prefix: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path, expression) of a $set stage, where nested documents are merged, not set."""
    for key, expression in fields.items():
        path = (*prefix, *key.split("."))
        if isinstance(expression, Mapping) and expression and not is_expression(expression):
            yield from assignments(expression, path)
        else:
            yield path, expression


def unset_stage_paths(name: str, value: Any) -> list[str] | None:
    """Return what an $unset stage, or a $project that only excludes, takes away; else None."""
    if name == "$unset":
        return [value] if isinstance(value, str) else list(value)
    excludes = name == "$project" and all(
        isinstance(flag, (bool, int)) and not flag and path != "_id" for path, flag in value.items()
    )
    return list(value) if excludes else None
