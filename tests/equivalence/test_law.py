"""The law: lazymig on old documents, and plain MongoEngine on migrated ones, are the same."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import pytest
from bson import DBRef, ObjectId, json_util
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from mongoengine import get_connection
from mongoengine.base.common import _document_registry
from pymongo import WriteConcern
from pymongo.database import Database

from lazymig import ConvergenceWarning, DocumentMigration
from lazymig.odm.querysets.rewrites import rewrites_of
from tests.equivalence.changes import (
    IDS,
    KNOWN_IDS,
    MORE_IDS,
    CannotApply,
    Change,
    Draw,
    Group,
    Raw,
    World,
)
from tests.equivalence.circumstances import (
    Circumstances,
    draw_circumstances,
    with_second_manager,
)
from tests.equivalence.operations import (
    KINDS,
    MANY,
    RETURNING,
    UPDATING_MANY,
    WRITING_NOTHING,
    Operation,
    draw_operation,
    worlds_of,
)
from tests.equivalence.worlds import WORLDS, bases_of
from tests.support.commands import CommandLog

PARTED = frozenset({"average", "distinct", "item_frequencies", "sum"})
LONG = settings().max_examples > 800
WRITES = frozenset({"bulkWrite", "delete", "findAndModify", "insert", "update"})
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


def _define(world: World, changes: tuple[Change, ...], lazy: bool, on_error: str) -> Models:
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
        methods["on_error"] = on_error
        base = handlers[group.owner] = type("Rules", (base,), methods)
    bodies = {owner: {"migration_handler": rules} for owner, rules in handlers.items()}
    owners = [group.owner for group in world.groups]
    with warnings.catch_warnings():
        # Some of the changes alone may lead in a circle.
        warnings.filterwarnings("ignore", ".* matches .* again", ConvergenceWarning)
        classes = world.define(bases_of(world, lazy), with_second_manager(bodies, owners))
    registry = dict(_document_registry)
    _document_registry.clear()
    _document_registry.update(before)
    return Models(classes, registry, handlers)


@contextmanager
def known(models: Models) -> Iterator[None]:
    """Let MongoEngine know these classes, and no others, within the block."""
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
        self.indexed = False

    def of(self, world: World, changes: tuple[Change, ...], on_error: str = "raise") -> Models:
        """The models with these rules, defined once; without any they are plain."""
        key = (world.name, tuple(change.name for change in changes), on_error)
        if key not in self.models:
            self.models[key] = _define(world, changes, bool(changes), on_error)
        return self.models[key]

    def fill(self, world: World, documents: list[Raw], around: Circumstances) -> None:
        """Store documents, what lies beside them, and indexes."""
        if around.indexes or self.indexed:
            # MongoEngine creates its own again when it meets the collection anew.
            self.database.subject.drop()
            for models in self.models.values():
                for model in models.classes.values():
                    if hasattr(model, "_disconnect"):
                        model._disconnect()
            for index in around.indexes:
                index.create(self.database)
            self.indexed = bool(around.indexes)
        for name in ("subject", *world.beside):
            self.database[name].delete_many({})
            rows = documents if name == "subject" else [dict(raw) for raw in world.beside[name]]
            if rows:
                self.database[name].insert_many(rows)

    def add(self, newcomer: Raw) -> None:
        """Store one more document."""
        self.database.subject.insert_one(newcomer)

    def stored(self, world: World, apart: Raw | None = None) -> str:
        """Everything stored but what a query finds, in a form that tells all BSON types apart."""
        others = {"$nor": [apart]} if apart else {}
        rows = {
            name: sorted(_text(raw) for raw in self.database[name].find(others))
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
    if isinstance(value, ObjectId) and value not in KNOWN_IDS:
        return "new"
    return value


def outcome_of(models: Models, operation: Operation, arrive: Callable[[], None]) -> str:
    """What an operation gives through these models, or the class of what it raises."""
    with known(models), _session(operation.around):
        try:
            return _text(operation.run(models.classes[operation.model], arrive))
        except Exception as exc:  # noqa: BLE001 - the same is expected of both
            return f"raised {type(exc).__name__}"


@contextmanager
def _session(around: Circumstances) -> Iterator[None]:
    session = get_connection().start_session() if around.bound else nullcontext()
    with session as opened, opened.bind() if opened is not None else nullcontext():
        yield


@st.composite
def cases(draw: Draw, kind: str, *names: str) -> Case:
    """One of these worlds, rules, documents in the shapes between them, such an operation."""
    world = WORLDS[draw(st.sampled_from(names or worlds_of(kind)))]
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
    if kind in MANY and documents:
        documents = [
            {**documents[number % len(documents)], "_id": document_id}
            for number, document_id in enumerate(MORE_IDS[: draw(st.integers(120, 300))])
        ]
    operation = draw_operation(draw, kind, world, draw_circumstances(draw, world))
    return Case(world, tuple(chosen), documents, operation, newcomer)


@dataclass(frozen=True)
class Trial:
    """What an operation gave and left on migrated documents, and on old ones through lazymig.

    `was_old`: there was a document to migrate. `made_old`: the operation has written an old shape.
    `writes`: the commands by which lazymig wrote. `is_shown`: stages can show every rule.
    `is_parted`: few old documents were read apart from all others.
    """

    expected: str
    expected_rows: str
    found: str
    found_rows: str
    was_old: bool
    made_old: bool
    writes: tuple[str, ...] = ()
    is_shown: bool = False
    is_parted: bool = False


def is_shown(models: Models, operation: Operation) -> bool:
    """Whether stages can show every rule to an operation, for any document."""
    rewrites = rewrites_of(models.classes[operation.model])
    if rewrites is None or "collation" in dict(operation.around.options):
        return False
    return not rewrites.shown(range(len(rewrites.rules))).inexact


def carry_out(laboratory: Laboratory, case: Case, log: CommandLog | None = None) -> Trial | None:
    """Do it both ways; `None` if the case is outside of the law.

    :param log: of the commands that MongoEngine's client sends.
    """
    world, operation = case.world, case.operation
    laboratory.fill(world, case.documents, operation.around)
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
        expected = outcome_of(laboratory.of(world, ()), operation, arrive_migrated)
        made_old = laboratory.stale(case)
        laboratory.migrate(case)
    except CannotApply:
        return None
    if match_again or laboratory.stale(case):
        return None
    expected_rows = laboratory.stored(world)

    laboratory.fill(world, case.documents, operation.around)
    models = laboratory.of(world, case.changes)
    if log is not None:
        log.clear()
    found = outcome_of(models, operation, lambda: laboratory.add(case.newcomer))
    writes = () if log is None else tuple(name for name in log.names if name in WRITES)
    is_parted = log is not None and any(
        name == "aggregate" and "$unionWith" in str(command["pipeline"])
        for name, command in log.commands
    )
    with known(models):
        shows = is_shown(models, operation)
        for owner, rules in models.handlers.items():
            rules(models.classes[owner]).migrate_pending()
    found_rows = laboratory.stored(world)
    return Trial(
        expected,
        expected_rows,
        found,
        found_rows,
        was_old,
        made_old,
        writes=writes,
        is_shown=shows,
        is_parted=is_parted,
    )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_operations_on_old_documents_are_those_on_migrated_ones(
    monitored_db: Database[Raw], command_log: CommandLog, kind: str
) -> None:
    """An operation gives and leaves the same, be documents old or migrated; a read writes none."""
    laboratory = Laboratory(monitored_db)
    seen: Counter[str] = Counter()

    # The same cases in each `make test`, new ones in each run of the long profile.
    @settings(max_examples=EXAMPLES // len(KINDS) + 1, derandomize=not LONG)
    @given(cases(kind))
    def holds(case: Case) -> None:
        trial = carry_out(laboratory, case, command_log)
        assume(trial is not None)
        assert trial is not None
        if kind in WRITING_NOTHING and trial.is_shown:
            assert not trial.writes
        if not (trial.made_old and case.operation.kind in RETURNING):
            assert trial.found == trial.expected, "results"
        # How far an update came before MongoDB refused a document is a matter of natural order.
        refused = trial.expected.startswith("raised OperationError")
        if not (refused and case.operation.kind in UPDATING_MANY):
            assert trial.found_rows == trial.expected_rows, "what is stored"
        seen["cases"] += 1
        seen["old"] += trial.was_old
        seen["shown"] += trial.was_old and trial.is_shown
        seen["parted"] += trial.is_parted

    holds()
    assert seen["old"] >= seen["cases"] // 3
    # Of so few cases by default, it may be that no world has rules which can all be shown.
    if LONG and kind in WRITING_NOTHING:
        assert seen["shown"] > 0
    if LONG and kind in PARTED:
        assert seen["parted"] > 0
