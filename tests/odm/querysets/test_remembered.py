"""What queries remember of their rules, while other threads forget it."""

from __future__ import annotations

import dataclasses
from typing import Any

from bson.codec_options import DEFAULT_CODEC_OPTIONS
from mongoengine import StringField

from lazymig.odm.querysets.rewrites import Rewrites, rewrites_of
from lazymig.query.remembered import remember
from tests.support.handlers import handler, model, rule

RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


class _Forgotten(dict[Any, Any]):
    """A memory that another thread empties as soon as something is put into it."""

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key, value)
        self.clear()


def _forgetful(known: Any) -> Any:
    """A dataclass with memories that forget at once."""
    fields = vars(known)
    names = [one.name for one in dataclasses.fields(known) if one.name.startswith("_")]
    return dataclasses.replace(
        known, **{name: _Forgotten() for name in names if isinstance(fields[name], dict)}
    )


def test_what_another_thread_forgets_is_there_for_who_has_made_it(mongoengine_db: Any) -> None:
    """Every question to the rules of a collection is answered, whoever empties the memories."""
    rewrites: Rewrites | None = rewrites_of(
        model(handler(migration01__mail=RENAME), email=StringField())
    )
    assert rewrites is not None
    first = frozenset({0})
    again = _forgetful(rewrites)
    for ask in (
        lambda known: known.writing(("email",)),
        lambda known: known.using(("email",)),
        lambda known: known.asking(("mail",)),
        lambda known: known.with_dependencies(first),
        lambda known: known.parted(first, {"n": 1}),
        lambda known: known.shown(first).stages(),
        lambda known: known.seen_through({"email": 1}, set())[0],
    ):
        assert ask(again) == ask(rewrites)

    shown = rewrites.shown(first)
    forgetful = _forgetful(shown)
    assert forgetful.stages(marks=True) == shown.stages(marks=True)
    encoded = shown.encoded(None, DEFAULT_CODEC_OPTIONS)
    assert forgetful.encoded(None, DEFAULT_CODEC_OPTIONS) == encoded


def test_a_memory_stays_small() -> None:
    """Where there are too many, all are forgotten but the last."""
    known: dict[int, int] = {}
    for number in range(10):
        assert remember(known, number, number * 2, 3) == number * 2
        assert len(known) <= 3
    assert known[9] == 18
