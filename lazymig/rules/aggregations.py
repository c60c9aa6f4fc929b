"""Which paths of the stored documents an aggregation reads, as far as that can be told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lazymig.rules.matching import query_paths

__all__ = ["aggregated_paths"]

# Behind one of these stages nothing is left of a document but what the stage names.
_SHAPING: Final = frozenset({"$bucket", "$bucketAuto", "$count", "$group", "$sortByCount"})

# These hand on every field, or, as `$project`, may do so.
_PASSING: Final = frozenset(
    {"$addFields", "$limit", "$match", "$project", "$sample", "$set", "$skip", "$sort", "$unwind"}
)

# These read stored documents again, or write them, wherever they stand.
_REACHING: Final = frozenset({"$facet", "$graphLookup", "$lookup", "$merge", "$out", "$unionWith"})

# These read fields that no string beginning with "$" names.
_HIDDEN: Final = frozenset(
    {"$accumulator", "$function", "$getField", "$setField", "$unsetField", "$where"}
)


def aggregated_paths(pipeline: Any) -> frozenset[str] | None:
    """Return paths that include all that a pipeline reads of the documents that enter it.

    :param pipeline: a list of stages.
    :return: dotted paths; `None` if it reads whole documents, or if that cannot be told.
    """
    if not isinstance(pipeline, Sequence) or not all(
        isinstance(stage, Mapping) and len(stage) == 1 for stage in pipeline
    ):
        return None
    stages = [next(iter(stage.items())) for stage in pipeline]
    if any(name in _REACHING for name, _ in stages):
        return None
    found: set[str] = set()
    for name, body in stages:
        paths = _read_by(name, body)
        if paths is None:
            return None
        found |= paths
        if name in _SHAPING or (name == "$project" and _includes(body)):
            return frozenset(found)
    return None


def _read_by(name: str, body: Any) -> frozenset[str] | None:
    if name not in _SHAPING and name not in _PASSING:
        return None
    paths = set()
    for text in _strings(body):
        if text in _HIDDEN or text.startswith(("$$ROOT", "$$CURRENT")):
            return None
        if text.startswith("$") and not text.startswith("$$"):
            # Operators count as paths too: no field is named like one.
            paths.add(text[1:])
    if name == "$match":
        read = query_paths(body) if isinstance(body, Mapping) else None
        return None if read is None else read | paths
    if name in ("$project", "$sort") and isinstance(body, Mapping):
        paths.update(str(key).partition(".")[0] for key in body)
    return frozenset(paths)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _strings(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _strings(inner)


def _includes(projection: Any) -> bool:
    """Whether a projection names what it keeps, instead of what it leaves out."""
    return isinstance(projection, Mapping) and any(
        key != "_id" and value not in (0, False) and not isinstance(value, Mapping)
        for key, value in projection.items()
    )
