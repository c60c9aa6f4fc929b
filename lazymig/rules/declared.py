"""The paths that a rule says or is known to read or write, and whether others are among them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lazymig.raw.paths import model_path, root

__all__ = ["check_declared", "is_read_within", "within"]


def check_declared(name: str, paths: Any) -> frozenset[str]:
    """Return the paths that a rule declares as `self.writes` or `self.reads`.

    :raises ValueError: it is no collection of dotted paths.
    """
    if isinstance(paths, (str, bytes, Mapping)) or not isinstance(
        paths, (tuple, list, set, frozenset)
    ):
        raise ValueError(
            f"sets self.{name} to {paths!r}; use a tuple of dotted paths in database field names, "
            f"such as self.{name} = ('items', 'address.city')"
        )
    for path in paths:
        if not isinstance(path, str) or not all(path.split(".")) or path.startswith("$"):
            raise ValueError(
                f"names {path!r} in self.{name}; use dotted paths in database field names"
            )
        if name == "writes" and root(path) == "_id":
            raise ValueError(
                f"names {path!r} in self.writes; the _id of a stored document cannot be changed"
            )
    return frozenset(map(model_path, paths))


def within(path: str, known: Iterable[str]) -> bool:
    """Return whether a path is one of those that are known, or lies below one."""
    return any(path == one or path.startswith(f"{one}.") for one in known)


def is_read_within(key: str, inputs: Iterable[str]) -> bool:
    """Return whether a top-level key is one of the paths that a rule is known to read."""
    return key == "_id" or any(root(key) == root(one) for one in inputs)
