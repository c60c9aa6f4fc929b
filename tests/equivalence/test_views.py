"""Views of old documents, and the same documents migrated, are the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import assume, given, settings
from pymongo.database import Database

from lazymig import ShowError, ViewError
from lazymig.odm.schema import document_parents
from tests.equivalence.changes import CannotApply, Raw
from tests.equivalence.circumstances import NOTHING
from tests.equivalence.test_law import LONG, Case, Laboratory, _text, cases, known

EXAMPLES = settings().max_examples // 4 if LONG else 60


def _views_of(laboratory: Laboratory, case: Case) -> dict[str, list[str]] | None:
    """What the view of each model with rules holds; `None` if one cannot be shown."""
    models = laboratory.of(case.world, case.changes)
    found: dict[str, list[str]] = {}
    with known(models):
        for owner, rules in models.handlers.items():
            migration = rules(models.classes[owner])
            name = f"today_{owner}"
            try:
                migration.create_view(name)
            except (ShowError, ViewError):
                return None
            view = laboratory.database[name]
            found[owner] = sorted(map(_text, view.find()))
            assert sorted(map(_text, view.aggregate([]))) == found[owner]
            migration.drop_view(name)
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_view_of_old_documents_is_the_migrated_collection(mongoengine_db: Database[Raw]) -> None:
    """A view of a model holds what plain MongoEngine finds once all documents are migrated."""
    laboratory = Laboratory(mongoengine_db)
    seen: Counter[str] = Counter()

    @settings(max_examples=EXAMPLES, derandomize=not LONG)
    @given(cases("list"))
    def holds(case: Case) -> None:
        world = case.world
        laboratory.fill(world, case.documents, NOTHING)
        was_old, stored = laboratory.stale(case), laboratory.stored(world)
        seen["drawn"] += 1
        views = _views_of(laboratory, case)
        assert laboratory.stored(world) == stored
        assume(views is not None)
        assert views is not None
        try:
            laboratory.migrate(case)
        except CannotApply:
            assume(False)
        assume(not laboratory.stale(case))
        plain = laboratory.of(world, ())
        with known(plain):
            for owner, rows in views.items():
                model = plain.classes[owner]
                # That of a root holds documents of unknown classes, too.
                documents: Any = laboratory.database.subject.find()
                if document_parents(model):
                    documents = model.objects.as_pymongo()
                assert rows == sorted(map(_text, documents)), owner
        seen["shown"] += was_old

    holds()
    assert seen["shown"] >= seen["drawn"] // 3
