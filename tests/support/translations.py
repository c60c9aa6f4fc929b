"""Rules with translations that a test states itself, whatever the library makes of their source."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.rules.translation import LeftToPython, Translation

NUMBER = {"$in": [{"$type": "$n"}, ["int", "long"]]}
"""The guard of `DOUBLING`."""

DOUBLING = Translation([{"$set": {"twice": {"$multiply": ["$n", 2]}}}], NUMBER)
"""What `doubling` does to documents whose `n` is a whole number."""

COPYING = Translation([{"$set": {"copy": "$n"}}])
"""What `copying("n", "copy")` does to all documents of its target."""


def doubling(self: Any) -> None:
    """A rule that makes `twice` of `n`, which is a number, or the text of one."""
    self.target = {"n": {"$exists": True}, "twice": {"$exists": False}}
    self.update = {"$set": {"twice": int(self.doc["n"]) * 2}}


@pytest.fixture
def computed_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """No rule is translated: what is tested is the way of those that Python computes."""
    translate_by_name(monkeypatch)


def translate_by_name(
    monkeypatch: pytest.MonkeyPatch, **translations: Translation | LeftToPython
) -> None:
    """Let binding find these translations, by the names of the rules; no other is translated."""

    def translate(rule: Any, *_: Any) -> Translation | LeftToPython:
        return translations.get(rule.name, LeftToPython(rule.name, None, "no test says how"))

    monkeypatch.setattr("lazymig.rules.translating.translate.translate", translate)
