"""From raw documents to MongoEngine documents: migrated first, built, and rescued if that fails.

The slow but complete way, document by document or in a batch. The queryset has a short cut for
batches in which nothing is the matter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

from pymongo.errors import PyMongoError

from lazymig.engines.access import Positional
from lazymig.engines.loads.lazy import Failure, refresh, refresh_partial, rescue
from lazymig.engines.loads.shown import Shown
from lazymig.engines.reading.decoding import Undecoded
from lazymig.errors import LazyMigError, ShowError
from lazymig.odm.marks import note_rescued, unmark
from lazymig.odm.unwritten import writes_nothing
from lazymig.rules.once import CLAIM
from lazymig.rules.plan import Family, Plan

__all__ = [
    "LEFT_OUT",
    "Build",
    "DocumentLeftOut",
    "Loading",
    "Source",
    "asked_for",
    "asks_for_all",
    "builder_of",
    "builds_bytes",
    "current_source",
    "is_broken",
    "may_rescue",
    "reading_from",
    "without_claim",
]

Build = Callable[..., Any]


# Stands for a document that an iteration passes over: deleted meanwhile, or skipped on an error.
LEFT_OUT: Final = object()


class DocumentLeftOut(Exception):
    """Raised inside MongoEngine's loading where a single document turns out to be `LEFT_OUT`."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where raw documents were read, and how.

    :param projection: the projection they were read with, `None` for whole documents.
    :param hide_id: `_id` was fetched only to migrate by; the application had excluded it.
    :param lone: one document is asked for, so that leaving it out would deny that it exists.
    :param classes: the `_cls` values that belong to the answer; `None` if all do.
    :param positional: the filter that a positional projection takes its elements from.
    :param image: they are what was stored before a write: to be shown, not to be migrated.
    """

    collection: Any
    projection: Mapping[str, Any] | None = None
    hide_id: bool = False
    lone: bool = False
    classes: frozenset[str] | None = None
    positional: Positional | None = None
    image: bool = False


# Where the raw document comes from that MongoEngine is about to build, if that is certain.
_reading: ContextVar[Source | None] = ContextVar("lazymig_reading", default=None)


@contextmanager
def reading_from(source: Source | None) -> Iterator[None]:
    """Name the source of the raw documents that MongoEngine builds within the block."""
    token = _reading.set(source)
    try:
        yield
    finally:
        _reading.reset(token)


def current_source() -> Source | None:
    """The source of the raw document at hand; `None` where it is not certain."""
    return _reading.get()


def asked_for(family: Family, projection: Mapping[str, Any] | None) -> Mapping[Plan, Plan] | None:
    """The plans, narrowed to the rules that write a path which a projection carries.

    `None` for whole documents, an empty mapping where no rule is concerned.
    """
    if not projection:
        return None
    carried, excluded = _paths_of(projection)
    asked = {}
    for plan in family.plans:
        narrowed = plan.concerned_by(carried, excluded)
        if narrowed is not None:
            asked[plan] = narrowed
    return asked


def asks_for_all(family: Family, asked: Mapping[Plan, Plan] | None) -> bool:
    """Return whether documents loaded with this answer of `asked_for` obey every rule then."""
    if asked is None:
        return True
    # A projection may hide the class that says whose rules a document obeys.
    plan = family.only
    return plan is not None and asked.get(plan) is plan


def may_rescue(family: Family, projection: Mapping[str, Any] | None) -> bool:
    """Return whether a rule that only errors start may write a path which a projection carries."""
    carried, excluded = _paths_of(projection or {})
    return any(plan.may_rescue(carried, excluded) for plan in family.plans)


def _paths_of(projection: Mapping[str, Any]) -> tuple[list[str] | None, list[str]]:
    """The paths that a projection carries (`None`: all but the others), and those it excludes.

    `$slice` by itself leaves the other fields in; `$elemMatch` and other expressions do not.
    """
    carried: list[str] = []
    excluded: list[str] = []
    inclusive = False
    for path, value in projection.items():
        if isinstance(value, Mapping):
            if "$meta" in value:
                continue
            inclusive = inclusive or "$slice" not in value
            carried.append(path)
        elif value:
            inclusive = True
            carried.append(path)
        else:
            excluded.append(path)
    if not inclusive:
        return None, excluded
    if "_id" not in excluded:
        carried.append("_id")
    return carried, excluded


@dataclass(frozen=True, slots=True)
class Loading:
    """How raw documents of one source become documents of MongoEngine.

    :param build: see `builder_of`.
    :param asked: see `asked_for`; only for projected documents.
    :param for_read: a load, which writes nothing where that is asked for.
    """

    family: Family
    source: Source
    build: Build
    asked: Mapping[Plan, Plan] | None = None
    for_read: bool = False

    def show(self, raw: Any) -> Any:
        """Build one document, whatever its shape.

        :raises Exception: MongoEngine's own, with a note.
        """
        item = raw.error if isinstance(raw, Undecoded) else self._build_item(raw)[0]
        if not isinstance(item, Exception):
            return item
        plan = self.family.plan_of(raw)
        if plan is not None and not isinstance(item, (LazyMigError, PyMongoError)):
            _add_note(item, plan, raw.get("_id"))
        raise item

    def load(self, raws: Sequence[Any]) -> list[Any]:
        """Migrate, build and rescue a batch.

        :return: for each document an instance, `LEFT_OUT`, or the exception to raise in its place.
        :raises pymongo.errors.PyMongoError: the connection or the rights.
        """
        return self.build_all(self.bring_up(raws))

    def loaded(self, raws: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """The instances of a batch that are not left out, each with its `_id`.

        :raises Exception: the one that stands in the place of a document.
        """
        for stored, item in zip(raws, self.load(raws), strict=True):
            if isinstance(item, Exception):
                raise item
            if item is not LEFT_OUT:
                yield stored["_id"], item

    def bring_up(self, raws: Sequence[Any]) -> Sequence[Any]:
        """The raw documents of a batch, up to date; the same object if they were.

        `None` for documents that have been deleted, or that belong to another class now.
        """
        items: Sequence[Any] = raws
        source = self.source
        if self.asked is None:
            items = refresh(source.collection, raws, self.family, unwritten=self._writes_nothing)
        elif self.asked:
            items = refresh_partial(
                source.collection,
                raws,
                self.family,
                self.asked,
                source.projection,
                source.positional,
                unwritten=self._writes_nothing,
            )
        if source.classes is None or items is raws:
            return items
        return [
            None if isinstance(item, Mapping) and item.get("_cls") not in source.classes else item
            for item in items
        ]

    def build_all(self, items: Sequence[Any]) -> list[Any]:
        """Build, and rescue if need be, what `bring_up` has given; see `load`."""
        results: list[Any] = []
        broken: list[int] = []
        for index, item in enumerate(items):
            result, needs_rescue = self._build_item(item)
            results.append(result)
            if needs_rescue:
                broken.append(index)
        if broken:
            self._rescue(items, results, broken)
        return results

    def _writes_nothing(self, family: Family) -> bool:
        return self.for_read and writes_nothing(family)

    def _build_item(self, item: Any) -> tuple[Any, bool]:
        """An instance, or what stands for it; and whether the rules may still help the document."""
        if item is None:
            return LEFT_OUT, False
        if isinstance(item, Failure):
            return self._build_failed(item), False
        plan = self.family.plan_of(item)
        may_help = plan is not None and bool(plan.lazy) and "_id" in item
        if isinstance(item, Undecoded):
            return item.error, may_help
        try:
            document = self._build_shown(item)
        except (LazyMigError, PyMongoError) as exc:
            # Another document's error, met while this one was built, or the connection's.
            return exc, False
        except Exception as exc:
            return exc, may_help
        validated = plan is not None and plan.validates and not self.source.projection
        return document, validated and _is_invalid(document)

    def _build_failed(self, failure: Failure) -> Any:
        """What stands for a document that was not migrated: its error or, skipped, its old form."""
        if failure.plan.on_error == "raise" or isinstance(failure.error, ShowError):
            return failure.error
        try:
            document = self._build_shown(dict(failure.document))
        except Exception as exc:
            if not self.source.lone:
                return LEFT_OUT
            return _add_note(exc, failure.plan, failure.document.get("_id"))
        unmark(document)
        return document

    def _rescue(self, items: Sequence[Any], results: list[Any], broken: Sequence[int]) -> None:
        """Try all rules on the documents that failed, in one batch, and build them again.

        A document that no rule helps keeps its result: MongoEngine's own exception with a note, or,
        where it merely is invalid, the instance, which plain MongoEngine would load too.
        """
        source = self.source
        failed = [items[index] for index in broken]
        fresh = rescue(
            source.collection,
            failed,
            self.family,
            source.projection,
            None,
            source.positional,
            unwritten=self._writes_nothing,
        )
        for index, item in zip(broken, fresh, strict=True):
            plan = self.family.plan_of(items[index])
            assert plan is not None
            if item is None:
                results[index] = LEFT_OUT
            elif isinstance(item, Failure):
                results[index] = self._build_failed(item)
            elif source.classes is not None and item.get("_cls") not in source.classes:
                results[index] = LEFT_OUT
            elif item == items[index]:
                if isinstance(results[index], Exception):
                    _add_note(results[index], plan, item["_id"])
            else:
                try:
                    document = results[index] = self._build_shown(copy(item))
                except Exception as exc:
                    results[index] = _add_note(exc, plan, item["_id"])
                else:
                    if isinstance(item, Shown):
                        note_rescued(document)

    def _build_shown(self, raw: Any) -> Any:
        if self.source.hide_id:
            raw = {key: value for key, value in raw.items() if key != "_id"}
        return self.build(raw)


def _is_invalid(document: Any) -> bool:
    try:
        # The model's own clean() may change the document; loading must not.
        document.validate(clean=False)
    except Exception:
        # Besides ValidationError: TypeError (EnumField), KeyError, AttributeError.
        return True
    return False


def builder_of(model: Any) -> Build:
    """MongoEngine's way from a raw document to an instance, past the mixin's own.

    A class that overrides that way by itself is asked as it is: without a source, the mixin's
    own only passes the document on.
    """
    build: Build = model.__dict__.get("_lazymig_door") or model._from_son
    return build


def builds_bytes(model: Any) -> bool:
    """Return whether documents may be given to a model as bytes: it has no own way to load them."""
    return model.__dict__.get("_lazymig_door") is not None


def without_claim(build: Build) -> Build:
    """The same way, for raw documents that may carry the claim of a once rule, which is no data."""

    def build_without_claim(raw: Any, *args: Any, **options: Any) -> Any:
        if isinstance(raw, dict) and CLAIM in raw:
            raw = {name: value for name, value in raw.items() if name != CLAIM}
        return build(raw, *args, **options)

    return build_without_claim


def is_broken(raw: Mapping[str, Any], build: Build) -> bool:
    """Return whether a raw document fails to load, or to validate, through the model."""
    try:
        document = build(dict(raw))
    except (LazyMigError, PyMongoError):
        raise
    except Exception:
        return True
    return _is_invalid(document)


def _add_note(error: Exception, plan: Plan, document_id: Any) -> Exception:
    """MongoEngine's own exception, with the rules that were tried in vain."""
    names = ", ".join(rule.name for rule in plan.lazy)
    note = (
        f"lazymig: no rule of {plan.handler_class.__name__} made this document loadable "
        f"(_id: {document_id!r}); tried: {names}"
    )
    if sys.version_info >= (3, 11):
        error.add_note(note)
    elif error.args and isinstance(error.args[0], str):
        error.args = (f"{error.args[0]}\n{note}", *error.args[1:])
    return error
