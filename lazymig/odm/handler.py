"""The declarations of a handler beside its rules, checked when its class is defined."""

from __future__ import annotations

from typing import Any, Literal

from lazymig.errors import RuleDefinitionError
from lazymig.rules.discovery import discover
from lazymig.rules.rule import RuleHandler

__all__ = ["MigrationHandler"]


class MigrationHandler(RuleHandler):
    """The rules of a model and how they are applied; `DocumentMigration` is its public face."""

    validate_on_load: bool | None = None
    legacy_classes: tuple[str, ...] = ()
    on_error: Literal["raise", "skip"] = "raise"
    lazy_timeout: float | None = 5
    see_through: bool = True
    write_on_load: bool = True
    settle_limit: int | None = 10_000
    seal_refresh: float | None = 30

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        discover(cls)
        _check_attributes(cls)


def _are_seconds(value: Any) -> bool:
    """Return whether a value is a number above 0, or `None`."""
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _check_attributes(cls: type[MigrationHandler]) -> None:
    problem = None
    if cls.on_error not in ("raise", "skip"):
        problem = f"on_error is {cls.on_error!r}; use 'raise' or 'skip'"
    elif cls.validate_on_load not in (None, True, False):
        problem = f"validate_on_load is {cls.validate_on_load!r}; use None, True or False"
    elif not isinstance(cls.legacy_classes, tuple) or not all(
        isinstance(name, str) for name in cls.legacy_classes
    ):
        problem = f"legacy_classes is {cls.legacy_classes!r}; use a tuple of former _cls values"
    elif not _are_seconds(cls.lazy_timeout):
        problem = f"lazy_timeout is {cls.lazy_timeout!r}; use a number of seconds above 0, or None"
    elif not _are_seconds(cls.seal_refresh):
        problem = f"seal_refresh is {cls.seal_refresh!r}; use a number of seconds above 0, or None"
    elif cls.see_through not in (True, False):
        problem = f"see_through is {cls.see_through!r}; use True or False"
    elif cls.write_on_load not in (True, False):
        problem = f"write_on_load is {cls.write_on_load!r}; use True or False"
    elif cls.settle_limit is not None and (
        isinstance(cls.settle_limit, bool)
        or not isinstance(cls.settle_limit, int)
        or cls.settle_limit < 0
    ):
        problem = f"settle_limit is {cls.settle_limit!r}; use a number of documents, or None"
    if problem is not None:
        raise RuleDefinitionError(problem, model=cls.__name__)
