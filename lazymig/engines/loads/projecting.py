"""A projection of `find` as stages of an aggregation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["projection_stages"]


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
