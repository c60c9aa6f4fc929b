"""`@once`: the mark of a rule whose effect outside of the document must happen once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, overload

from lazymig.errors import RuleDefinitionError

__all__ = ["CLAIM", "OnceOptions", "once", "once_options"]

CLAIM: Final = "_lazymig"
"""The field that a document has while a once rule is at work on it."""

_MARK = "_lazymig_once"

# A lease must outlast a slow answer of the server and a pause of the garbage collector.
_SHORTEST_LEASE = 1.0

_Method = TypeVar("_Method", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class OnceOptions:
    """How a document is claimed: seconds that a claim lasts, and that others wait for it."""

    lease: float = 60.0
    wait: float = 5.0


@overload
def once(method: _Method, /) -> _Method: ...


@overload
def once(*, lease: float = ..., wait: float = ...) -> Callable[[_Method], _Method]: ...


def once(
    method: Callable[..., Any] | None = None, /, *, lease: float = 60.0, wait: float = 5.0
) -> Any:
    """Mark a rule that has an effect outside of its document: it runs once for each document.

    To be used as `@once` or `@once(lease=..., wait=...)`. The document is claimed before the rule
    runs; the rule's update and the release of the claim are one write. The rule sets a target that
    needs no document, and returns if `self.status`, or reads `self.doc`, before its effect.

    :param lease: seconds, at least 1, after which the claim of a process that has died is void. A
        process that lives renews its claim.
    :param wait: seconds that others who need the document wait for it before they raise
        `MigrationInProgress`.
    :raises RuleDefinitionError: an option has a value that it cannot have, or the decorator stands
        on something else than a function.
    """
    options = OnceOptions(
        _seconds("lease", lease, _SHORTEST_LEASE),
        _seconds("wait", wait, 0.0),
    )

    def mark(marked: Any) -> Any:
        try:
            vars(marked)[_MARK] = options
        except TypeError:
            raise RuleDefinitionError(
                f"once stands on {marked!r}, which is no rule; put it right above the def of one"
            ) from None
        return marked

    return mark if method is None else mark(method)


def once_options(method: Any) -> OnceOptions | None:
    """The options of a method that is marked with `once`; `None` for any other object."""
    options = getattr(method, _MARK, None)
    return options if isinstance(options, OnceOptions) else None


def _seconds(name: str, value: Any, least: float) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value < float("inf"):
        raise RuleDefinitionError(
            f"once({name}={value!r}): use a number of seconds, at least {least:g}"
        )
    return float(value)
