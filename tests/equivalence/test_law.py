"""The law: lazymig on old documents, and plain MongoEngine on migrated ones, are the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from bson import DBRef, ObjectId, json_util
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mongoengine.base.common import _document_registry
from pymongo import WriteConcern
from pymongo.database import Database

from lazymig import DocumentMigration
from tests.equivalence.changes import IDS, CannotApply, Change, Draw, Group, Raw, World
from tests.equivalence.operations import (
    KINDS,
    RETURNING,
    UPDATING_MANY,
    Operation,
    draw_operation,
    worlds_of,
)
from tests.equivalence.worlds import WORLDS, bases_of

LONG = settings().max_examples > 800
EXAMPLES = settings().max_examples // 2 if LONG else 400


@dataclass
class Case:
    """A collection in mixed shapes, the rules it has been through, and what is done to it."""

    world: World
    changes: tuple[Change, ...]
    documents: list[Raw]
    operation: Operation
    newcomer: Raw

    def __repr__(self) -> str:
        lines = [f"{change.name}: {change.target} -> {change.update}" for change in self.changes]
        rows = [str(document) for document in (*self.documents, self.newcomer)]
        return "\n  ".join([f"\n{self.world.name}", *lines, *rows, str(self.operation)])


@dataclass(frozen=True)
class Models:
    """The classes of a world, with lazymig or without, and the table in which they are known."""

    classes: dict[str, Any]
    registry: dict[str, Any]
    handlers: dict[str, Any]


def _define(world: World, changes: tuple[Change, ...], lazy: bool) -> Models:
    before = dict(_document_registry)
    handlers: dict[str, Any] = {}
    base: type = DocumentMigration
    for group in world.groups if lazy else ():
        methods: Raw = {
            f"migration{number:02}__{change.name}": change.method()
            for number, change in enumerate(changes, start=1)
            if change.of in group.rules
        }
        methods["legacy_classes"] = world.legacy_classes
        base = handlers[group.owner] = type("Rules", (base,), methods)
    bodies = {owner: {"migration_handler": rules} for owner, rules in handlers.items()}
    classes = world.define(bases_of(world, lazy), bodies)
    registry = dict(_document_registry)
    _document_registry.clear()
    _document_registry.update(before)
    return Models(classes, registry, handlers)


@contextmanager
def _known(models: Models) -> Iterator[None]:
    before = dict(_document_registry)
    _document_registry.clear()
    _document_registry.update(models.registry)
    try:
        yield
    finally:
        _document_registry.clear()
        _document_registry.update(before)


class Laboratory:
    """Two databases of the same name but for a letter, and the models defined so far."""

    def __init__(self, database: Database[Raw]) -> None:
        self.database = database.with_options(write_concern=WriteConcern(w=1, j=False))
        self.models: dict[Any, Models] = {}

    def of(self, world: World, changes: tuple[Change, ...]) -> Models:
        """The models with these rules, defined once; without any they are plain."""
        key = (world.name, tuple(change.name for change in changes))
        if key not in self.models:
            self.models[key] = _define(world, changes, lazy=bool(changes))
        return self.models[key]

    def fill(self, world: World, documents: list[Raw]) -> None:
        """Store documents, and what lies beside them."""
        for name in ("subject", *world.beside):
            self.database[name].delete_many({})
            rows = documents if name == "subject" else [dict(raw) for raw in world.beside[name]]
            if rows:
                self.database[name].insert_many(rows)

    def add(self, newcomer: Raw) -> None:
        """Store one more document."""
        self.database.subject.insert_one(newcomer)

    def stored(self, world: World) -> str:
        """Everything stored, in a form that tells all BSON types apart."""
        rows = {
            name: sorted(_text(raw) for raw in self.database[name].find())
            for name in ("subject", *world.beside)
        }
        return json_util.dumps(rows, indent=1)

    def migrate(self, case: Case) -> None:
        """Apply every rule, in order, to every document, without lazymig."""
        for group, change in _applied(case):
            change.apply(self.database.subject, group.concern)

    def stale(self, case: Case) -> bool:
        """Whether a rule matches a stored document."""
        targets = [{"$and": [group.concern, one.target]} for group, one in _applied(case)]
        return self.database.subject.find_one({"$or": targets}) is not None


def _applied(case: Case) -> list[tuple[Group, Change]]:
    return [
        (group, change)
        for group in case.world.groups
        for change in case.changes
        if change.of in group.rules
    ]


def _text(value: Any) -> str:
    return str(
        json_util.dumps(
            _masked(value), json_options=json_util.CANONICAL_JSON_OPTIONS, sort_keys=True
        )
    )


def _masked(value: Any) -> Any:
    """The `_id`s that a server has made up are all alike."""
    if isinstance(value, dict):
        return {str(key): _masked(item) for key, item in value.items()}
    if isinstance(value, tuple) and value[:1] == ("any order",):
        return sorted(map(_text, value[1]))
    if isinstance(value, (list, tuple)):
        if value[:1] == ["any order"]:
            return sorted(map(_text, value[1]))
        return [_masked(item) for item in value]
    if isinstance(value, DBRef):
        return [value.collection, _masked(value.id)]
    if isinstance(value, ObjectId) and value not in IDS:
        return "new"
    return value


def _outcome(models: Models, operation: Operation, arrive: Callable[[], None]) -> str:
    with _known(models):
        try:
            return _text(operation.run(models.classes[operation.model], arrive))
        except Exception as exc:  # noqa: BLE001 - the same is expected of both
            return f"raised {type(exc).__name__}"


@st.composite
def cases(draw: Draw, kind: str) -> Case:
    """A world, rules, documents in the shapes between them, an operation of this kind."""
    world = WORLDS[draw(st.sampled_from(worlds_of(kind)))]
    chosen = draw(st.lists(st.sampled_from(world.changes), min_size=1, max_size=4, unique_by=id))
    if draw(st.integers(0, 3)):
        chosen.sort(key=world.changes.index)
    documents = []
    for number in range(draw(st.integers(1, 5)) + 1):
        document: Raw = {"_id": IDS[number], **world.document(draw)}
        for change in reversed(chosen):
            if draw(st.booleans()):
                change.before(draw, document)
        documents.append(document)
    newcomer = documents.pop()
    operation = draw_operation(draw, kind, world)
    return Case(world, tuple(chosen), documents, operation, newcomer)


@dataclass(frozen=True)
class Trial:
    """What an operation gave and left on migrated documents, and on old ones through lazymig.

    `was_old`: there was a document to migrate. `made_old`: the operation has written an old shape.
    """

    expected: str
    expected_rows: str
    found: str
    found_rows: str
    was_old: bool
    made_old: bool


def carry_out(laboratory: Laboratory, case: Case) -> Trial | None:
    """Do it both ways; `None` if the case is outside of the law."""
    world, operation = case.world, case.operation
    laboratory.fill(world, case.documents)
    was_old = laboratory.stale(case)
    match_again = False

    def arrive_migrated() -> None:
        nonlocal match_again
        laboratory.add(case.newcomer)
        laboratory.migrate(case)
        match_again = laboratory.stale(case)

    try:
        laboratory.migrate(case)
        if laboratory.stale(case):
            return None
        expected = _outcome(laboratory.of(world, ()), operation, arrive_migrated)
        made_old = laboratory.stale(case)
        laboratory.migrate(case)
    except CannotApply:
        return None
    if match_again or laboratory.stale(case):
        return None
    expected_rows = laboratory.stored(world)

    laboratory.fill(world, case.documents)
    models = laboratory.of(world, case.changes)
    found = _outcome(models, operation, lambda: laboratory.add(case.newcomer))
    with _known(models):
        for owner, rules in models.handlers.items():
            rules(models.classes[owner]).migrate_pending()
    return Trial(expected, expected_rows, found, laboratory.stored(world), was_old, made_old)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_operations_on_old_documents_are_those_on_migrated_ones(
    mongoengine_db: Database[Raw],
) -> None:
    """An operation gives and leaves the same, be documents old or migrated."""
    laboratory = Laboratory(mongoengine_db)
    seen: Counter[str] = Counter()

    for kind in KINDS:
        # By kind, for what is drawn in a row is much alike.
        # The same cases in each `make test`, new ones in each run of the long profile.
        @settings(max_examples=EXAMPLES // len(KINDS) + 1, derandomize=not LONG)
        @given(cases(kind))
        def holds(case: Case) -> None:
            trial = carry_out(laboratory, case)
            assume(trial is not None)
            assert trial is not None
            if not (trial.made_old and case.operation.kind in RETURNING):
                assert trial.found == trial.expected, "results"
            # How far an update came before MongoDB refused a document is a matter of natural order.
            refused = trial.expected.startswith("raised OperationError")
            if not (refused and case.operation.kind in UPDATING_MANY):
                assert trial.found_rows == trial.expected_rows, "what is stored"
            seen["cases"] += 1
            seen["old"] += trial.was_old
            seen["raised"] += trial.expected.startswith("raised")

        holds()
    assert seen["cases"] >= EXAMPLES
    assert seen["old"] >= seen["cases"] // 2
    assert seen["raised"] <= seen["cases"] // 3
