"""Marks of the engines' own writes, of which one may have happened since a moment."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from pymongo.collection import Collection

from lazymig.locks import new_lock

__all__ = ["Mark", "marks_writes"]


class _Writes:
    """How many pieces of work that may write to a collection were started, and are finished."""

    __slots__ = ("finished", "started")

    def __init__(self) -> None:
        self.started = 0
        self.finished = 0


# By name of the collection, in whatever deployment: at worst a mark is disturbed without need.
_writes: dict[str, _Writes] = {}
_lock = new_lock()


def _writes_to(collection: Collection[Any]) -> _Writes:
    name = str(collection.full_name)
    return _writes.get(name) or _writes.setdefault(name, _Writes())


class Mark:
    """A moment in the life of a collection, as far as this process writes to it."""

    __slots__ = ("_finished", "_writes")

    def __init__(self, collection: Collection[Any]) -> None:
        self._writes = _writes_to(collection)
        self._finished = self._writes.finished

    @property
    def is_undisturbed(self) -> bool:
        """Return whether no engine was at work on the collection at the mark, or has been since."""
        return self._writes.started == self._finished


class _Works(Protocol):
    @property
    def collection(self) -> Collection[Any]: ...


_Worker = TypeVar("_Worker", bound=_Works)
_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def marks_writes(
    method: Callable[Concatenate[_Worker, _Parameters], _Result],
) -> Callable[Concatenate[_Worker, _Parameters], _Result]:
    """Method decorator: while this runs, its object may write to its `collection`."""

    @functools.wraps(method)
    def marked(self: _Worker, /, *args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        writes = _writes_to(self.collection)
        with _lock:
            writes.started += 1
        try:
            return method(self, *args, **kwargs)
        finally:
            with _lock:
                writes.finished += 1

    return marked
