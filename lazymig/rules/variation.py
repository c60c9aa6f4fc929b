"""The variation of static updates that differ from call to call, as a random value does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from lazymig.raw.encoding import UNSTORABLE, stored_bytes
from lazymig.rules.rule import Evaluation, Rule, RuleHandler, evaluate

__all__ = ["varies_by_call"]

# A choice between two values comes out the same so often in a row in one of 128 cases.
_CALLS = 8

# Dates are stored in milliseconds, and a clock may have less.
_PRECISION = timedelta(milliseconds=1)


def varies_by_call(rule: Rule, handler_class: type[RuleHandler], doc_class: Any) -> bool:
    """Call a static rule some times: return whether what it sets differs by more than the time.

    A date that goes with the clock, as `datetime.now()` does, stands for the time of the migration:
    that is one for many documents.

    :raises Exception: whatever the rule raises.
    """
    former: Evaluation | None = None
    began = datetime.now(timezone.utc)
    for _call in range(_CALLS):
        starts = datetime.now(timezone.utc)
        again = evaluate(rule, handler_class, doc_class, status=True)
        if former is not None:
            passed = datetime.now(timezone.utc) - began
            for value, other in _differences(_set_by(former), _set_by(again)):
                if not _goes_with_the_clock(value, other, passed):
                    return True
        former, began = again, starts
    return False


def _set_by(evaluation: Evaluation) -> tuple[Any, Any]:
    return evaluation.update, evaluation.array_filters


def _differences(first: Any, again: Any) -> Iterator[tuple[Any, Any]]:
    """The values that differ between two calls."""
    if isinstance(first, Mapping) and isinstance(again, Mapping) and list(first) == list(again):
        for name in first:
            yield from _differences(first[name], again[name])
    elif _are_lists(first, again) and len(first) == len(again):
        for one, other in zip(first, again, strict=True):
            yield from _differences(one, other)
    elif not _are_equal(first, again):
        yield first, again


def _are_lists(first: Any, again: Any) -> bool:
    return isinstance(first, (list, tuple)) and isinstance(again, (list, tuple))


def _are_equal(first: Any, again: Any) -> bool:
    if type(first) is type(again) and first == again:
        return True
    try:
        # What BSON stores as the same, such as two values that are no number.
        return stored_bytes(first) == stored_bytes(again)
    except UNSTORABLE:
        return bool(first == again)


def _goes_with_the_clock(value: Any, other: Any, passed: timedelta) -> bool:
    if not isinstance(value, datetime) or not isinstance(other, datetime):
        return False
    if (value.tzinfo is None) is not (other.tzinfo is None):
        return False
    return timedelta(0) <= other - value <= passed + _PRECISION
