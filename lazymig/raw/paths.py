"""The dotted paths into documents."""

from __future__ import annotations

__all__ = ["model_path", "overlaps", "root"]


def overlaps(path: str, other: str) -> bool:
    """Return whether two dotted paths are the same, or one lies below the other."""
    return path == other or path.startswith(f"{other}.") or other.startswith(f"{path}.")


def model_path(path: str) -> str:
    """Return a path without positional components and array indexes, as a model knows it."""
    first, *others = path.split(".")
    names = (part for part in others if not (part.startswith("$") or part.isdecimal()))
    return ".".join((first, *names))


def root(path: str) -> str:
    """Return the top-level field of a path."""
    return path.partition(".")[0]
