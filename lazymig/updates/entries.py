"""The keys that an expression leaves out as it copies the fields of a sub-document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from lazymig.query.expressions import constant_text

__all__ = ["keys_left_out"]

# A pattern that finds these strings alone, as `re.escape` writes them.
_ONLY_THESE: Final = re.compile(r"\\A\(\?:(?P<names>(?:[^\\()\[\]{}.*+?^$]|\\[^A-Za-z0-9])*)\)\\z")
_BARS: Final = re.compile(r"(?<!\\)((?:\\\\)*)\|")


def keys_left_out(entries: Any) -> frozenset[str]:
    """Return keys that the object has not which `$arrayToObject` makes of `entries`.

    Known are `$filter`s over `$objectToArray` by constant keys, and a `$map` that keeps the keys.
    """
    if isinstance(entries, list) and len(entries) == 1:
        entries = entries[0]
    if not isinstance(entries, Mapping):
        return frozenset()
    mapped = entries.get("$map")
    if isinstance(mapped, Mapping):
        made = mapped.get("in")
        key = f"$${mapped.get('as', 'this')}.k"
        keeps = isinstance(made, Mapping) and made.keys() == {"k", "v"} and made["k"] == key
        return keys_left_out(mapped.get("input")) if keeps else frozenset()
    chosen = entries.get("$filter")
    if isinstance(chosen, Mapping):
        key = f"$${chosen.get('as', 'this')}.k"
        return _refused(chosen.get("cond"), key) | keys_left_out(chosen.get("input"))
    return frozenset()


def _refused(condition: Any, key: str) -> frozenset[str]:
    """Return strings for which a condition on a key is false."""
    if not isinstance(condition, Mapping) or len(condition) != 1:
        return frozenset()
    ((operator, argument),) = condition.items()
    parts = argument if isinstance(argument, list) else [argument]
    if operator == "$and":
        return frozenset().union(*(_refused(part, key) for part in parts))
    if operator == "$ne" and key in parts:
        return _texts(parts)
    if operator == "$not" and len(parts) == 1 and isinstance(parts[0], Mapping):
        return _wanted(parts[0], key)
    return frozenset()


def _wanted(condition: Mapping[str, Any], key: str) -> frozenset[str]:
    """Return strings for which a condition on a key is true."""
    names: list[Any] = []
    match condition:
        case {"$eq": [*parts]} if key in parts:
            names = parts
        case {"$in": [one, [*parts]]} if one == key:
            names = parts
        case {"$in": [one, {"$literal": [*parts]}]} if one == key:
            return frozenset(part for part in parts if isinstance(part, str))
        case {"$regexMatch": {"input": one, "regex": str(pattern), **others}}:
            found = _ONLY_THESE.fullmatch(pattern)
            if one == key and found and not others:
                texts = _BARS.sub(r"\1\n", found["names"]).split("\n")
                return frozenset(re.sub(r"\\(.)", r"\1", text) for text in texts)
    return _texts(names)


def _texts(constants: Iterable[Any]) -> frozenset[str]:
    return frozenset(text for one in constants if (text := constant_text(one)) is not None)
