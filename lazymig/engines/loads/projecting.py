"""A projection of `find`: the fields that it carries whole, and its stages in an aggregation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["carries_whole", "projection_stages"]


def carries_whole(projection: Mapping[str, Any], paths: Iterable[str]) -> bool:
    """Return whether all that may be stored at these paths is in what `find` answers.

    A field below which the projection says anything may have lost more than that: an inclusion of
    `a.b` leaves out the elements of an array `a` that are no documents.
    """
    inclusive = any(
        "$slice" not in value and "$meta" not in value if isinstance(value, Mapping) else value
        for path, value in projection.items()
        if path != "_id"
    )
    return all(
        _carries_field(projection, path.split(".")[0], inclusive=inclusive) for path in paths
    )


def _carries_field(projection: Mapping[str, Any], name: str, *, inclusive: bool) -> bool:
    if name == "_id":
        # Documents are told apart by it: they are always read with it.
        return True
    about = {
        path: value
        for path, value in projection.items()
        if path == name or path.startswith(f"{name}.")
    }
    if not inclusive:
        return not about
    return about.keys() == {name} and not isinstance(about[name], Mapping) and bool(about[name])


def projection_stages(projection: Mapping[str, Any] | None) -> list[dict[str, Any]] | None:
    """Return the stages that leave what `find` would leave; `None` if there are none.

    That is so for `$elemMatch`, the positional `$`, and a `$slice` below another field. The score
    of a text, which `$meta` asks for, is in the answer to its query alone, and left out.
    """
    cut: dict[str, Any] = {}
    fields: dict[str, Any] = {}
    for path, value in (projection or {}).items():
        if isinstance(value, Mapping):
            if value.keys() == {"$meta"}:
                continue
            if value.keys() != {"$slice"} or "." in path:
                return None
            cut[path] = _sliced(path, value["$slice"])
        elif path.endswith(".$") or ".$." in path:
            return None
        else:
            fields[path] = value
    stages = [{"$set": cut}] if cut else []
    if any(fields[path] for path in fields if path != "_id"):
        # By itself a slice leaves the other fields in; beside fields that are asked for it is one.
        fields.update(dict.fromkeys(cut, 1))
    if fields:
        stages.append({"$project": fields})
    return stages


def _sliced(path: str, operand: Any) -> Any:
    part = operand if isinstance(operand, (list, tuple)) else [operand]
    # What is no array stays as it is, and what is missing stays away.
    return {"$cond": [{"$isArray": f"${path}"}, {"$slice": [f"${path}", *part]}, f"${path}"]}
