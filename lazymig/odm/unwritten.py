"""Loads that write nothing: by a handler, for a block, or for the whole process."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from lazymig.errors import RuleDefinitionError
from lazymig.odm.plans import once_per_family, root_of
from lazymig.odm.schema import is_concrete
from lazymig.odm.stored import check_models
from lazymig.rules.plan import Family

__all__ = ["without_writing", "writes_nothing"]

_VARIABLE: Final = "LAZYMIG_WRITE_ON_LOAD"

_models: ContextVar[tuple[Any, ...]] = ContextVar("lazymig_without_writing", default=())


def _written_in_process(value: str | None) -> bool:
    """Return whether loads of this process write, by the variable of the environment.

    :raises RuleDefinitionError: it is neither `1` nor `0`.
    """
    if value not in (None, "0", "1"):
        raise RuleDefinitionError(
            f"the environment variable {_VARIABLE} is {value!r}; set it to 0, so that loads show "
            "old documents in today's shape and write nothing, or to 1, or do not set it"
        )
    return value != "0"


# It is read once: a process does not change its ways.
_writes: Final = _written_in_process(os.environ.get(_VARIABLE))


@contextmanager
def without_writing(*models: Any) -> Iterator[None]:
    """Show old documents of these models in today's shape, and write nothing for it.

    Within the `with` block loads of these models, and of all others in their collections, start no
    write, in this thread or task. `save`, `update`, `modify` and `delete` bring what is stored up
    to date first, as ever. A read that cannot be answered without a write raises `ShowError`.

    :param models: document classes.
    :raises TypeError: there is none, or one of them is no class.
    """
    check_models("without_writing", models)
    token = _models.set((*_models.get(), *models))
    try:
        yield
    finally:
        _models.reset(token)


def writes_nothing(family: Family) -> bool:
    """Return whether loads of a collection's documents show them without a write at this moment."""
    if not _writes or _is_declared(family):
        return True
    models = _models.get()
    return bool(models) and any(_belongs_to(plan.doc_class, models) for plan in family.plans)


@once_per_family
def _is_declared(family: Family) -> bool:
    """Return whether a handler of the collection says that its loads write nothing."""
    return any(not plan.handler_class.write_on_load for plan in family.plans)


def _belongs_to(model: Any, models: Sequence[Any]) -> bool:
    if issubclass(model, tuple(models)):
        return True
    roots = [root_of(each) for each in models if hasattr(each, "_meta") and is_concrete(each)]
    return root_of(model) in roots
