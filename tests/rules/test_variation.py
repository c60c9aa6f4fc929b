"""Static updates that differ from call to call."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from bson import ObjectId

from lazymig.rules.binding import bind
from lazymig.rules.discovery import discover
from lazymig.rules.rule import RuleHandler

_numbers = itertools.count()


def _utc() -> datetime:
    return datetime.now(timezone.utc).replace(tzinfo=None)


def _local() -> datetime:
    return datetime.now(timezone.utc).astimezone().replace(tzinfo=None)


class Post:
    """Stands for a model: binding asks for its name alone."""


def _varies(value: Callable[[], Any]) -> bool:
    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.update = {"$set": {"a": value()}}

    handler = type("Rules", (RuleHandler,), {"migration01__a": method})
    bound = bind(discover(handler)[0], handler, Post)
    assert bound is not None
    assert (bound.kind, bound.converges) == ("static", True)
    return bound.varies


@pytest.mark.parametrize(
    "value",
    [
        lambda: uuid.uuid4().hex,
        uuid.uuid4,
        ObjectId,
        random.random,
        lambda: random.choice(["x", "y"]),
        lambda: next(_numbers),
        lambda: {"at": _utc(), "token": uuid.uuid4().hex},
        lambda: [1, random.random()],
        lambda: datetime(2020, 1, 1) + timedelta(days=random.randrange(10_000)),
    ],
)
def test_what_is_drawn_by_lot_or_counted_varies(value: Callable[[], Any]) -> None:
    """Identifiers, random values and counters differ from call to call."""
    assert _varies(value) is True


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1,
        list,
        lambda: float("nan"),
        lambda: {"a": [datetime(2020, 1, 1)]},
        _local,
        _utc,
        lambda: datetime.now(timezone.utc),
        lambda: datetime.now(timezone(timedelta(hours=5))),
        lambda: _local() + timedelta(days=30),
        lambda: {"created": _local(), "by": "lazymig"},
    ],
)
def test_constants_and_the_time_do_not_vary(value: Callable[[], Any]) -> None:
    """The time of the call stands for the time of the migration, which is one for many."""
    assert _varies(value) is False
