"""Views of MongoDB that show a collection in today's shape: made, brought up to date, dropped."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure

from lazymig.engines import views as stored
from lazymig.engines.access import is_mongomock, on_primary
from lazymig.engines.driver_errors import is_away, waited_too_long
from lazymig.engines.views import Namespace, Stages
from lazymig.errors import RunOptionError, ShowError, ViewError
from lazymig.odm.plans import root_of
from lazymig.odm.querysets.former import former_names
from lazymig.odm.schema import class_names, document_parents, document_subclasses
from lazymig.odm.showing import shown_rules_of
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.operations.model_view import ModelView
from lazymig.redaction import excerpt
from lazymig.rules.showing.shown import ShownRule
from lazymig.rules.showing.stages import MARK, stages_of

__all__ = ["create_view", "drop_view", "views_of"]

logger = logging.getLogger(__name__)

_NOT_FOUND: Final = 26
_EXISTS: Final = 48
_OBJECT_TOO_LARGE: Final = 10334

# How often what was there is looked at again because somebody else has made or dropped it.
_LOOKS: Final = 3

_RIGHTS: Final[Mapping[str, str]] = {
    "listed": "no right to see what is there (listCollections), which the role read gives",
    "read": "no right to read the collection (find), which the role read gives",
    "created": "no right to create it (createCollection), which the role readWrite gives",
    "changed": "no right to change it (collMod), which the role dbAdmin gives; or drop it and "
    "create it again, between which there is none",
    "dropped": "no right to drop it (dropCollection), which the role readWrite gives",
}
_REMEDIES: Final[Mapping[int | None, str]] = {
    73: "choose another name",
    165: "create it of the collection below, not of a view of views",
}
_OTHERWISE: Final = "see what MongoDB says, and call it again"

_TOO_LARGE: Final = (
    "its stages are larger than MongoDB takes (16 MB); finish rules and delete them, and create it "
    "then"
)
_OLD: Final = "is older than the rules; create it again, which brings it up to date"


def create_view(
    collection: Collection[Any], handler_class: Any, model: Any, name: str
) -> ModelView:
    """Create a view of a model's documents in today's shape, or bring it up to date.

    :param name: that of the view, in the database of the collection.
    :raises ShowError: a rule cannot be shown.
    :raises ViewError: there are documents that cannot be shown yet; the name is that of something
        else; there is no server, or no collection; MongoDB refuses it, or the rights.
    :raises RunOptionError: `name` is no text.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    place = _ViewName(collection, model.__name__, name)
    collation = place.source().collation
    shown = shown_rules_of(handler_class, model, collection)
    stages = stored.encoded_stages(collection, _pipeline(shown, model))
    for _ in range(_LOOKS):
        found = place.found()
        if found is not None:
            place.check_own(found, collation)
        if found is None or found.stages != stages:
            place.check_exact(shown, model)
        if found is None:
            done = place.created(stages, collation)
        else:
            done = found.stages == stages or place.changed(stages)
        if done:
            return ModelView(name, place.model, str(collection.full_name), True, None)
    raise place.error("somebody else creates and drops it; call it again when that is over")


def drop_view(collection: Collection[Any], model: Any, name: str) -> None:
    """Drop a view of a collection that lazymig has made, of whichever model.

    :raises ViewError: there is none, or it is something else, or cannot be dropped.
    :raises RunOptionError: `name` is no text.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    place = _ViewName(collection, model.__name__, name)
    found = place.found()
    if found is None:
        others = ", ".join(each.name for each in stored.views_on(collection))
        raise place.error(
            f"there is none; lazymig's views of {collection.name} are: {others or 'none'}"
        )
    if found.model is None or found.on != collection.name:
        raise place.error(f"{_described(found)}; lazymig drops its own views of a collection alone")
    place.dropped()


def views_of(collection: Collection[Any], handler_class: Any, model: Any) -> list[ModelView]:
    """List the views of a collection that lazymig has made, those of other models too. Only reads.

    :raises pymongo.errors.PyMongoError: the connection, or the right to list collections.
    """
    if is_mongomock(collection):
        return []
    handlers = _handlers_by_model(model)
    handlers[model.__name__] = handler_class, model
    return [_listed(collection, found, handlers) for found in stored.views_on(collection)]


def _pipeline(shown: Sequence[ShownRule], model: Any) -> list[dict[str, Any]]:
    """The pipeline of a view; alike in every process that has the same rules."""
    return [stored.made_by_lazymig(model.__name__), *stages_of(shown), *_members(model)]


def _members(model: Any) -> list[dict[str, Any]]:
    """The stage that leaves the documents of a model, by the class that they have today."""
    if not document_parents(model):
        return []
    former = former_names(model) if hasattr(model, "migration_handler") else ()
    return [{"$match": {"_cls": {"$in": sorted({*class_names(model), *former})}}}]


def _handlers_by_model(model: Any) -> dict[str, tuple[Any, Any]]:
    """The classes of a model's collection that have rules, by name, each with its handler."""
    root = root_of(model)
    classes = (root, *document_subclasses(root))
    return {
        cls.__name__: (cls.migration_handler, cls)
        for cls in classes
        if getattr(cls, "migration_handler", None) is not None
    }


def _listed(
    collection: Collection[Any], found: Namespace, handlers: Mapping[str, tuple[Any, Any]]
) -> ModelView:
    assert found.model is not None
    reason = None
    if found.model not in handlers:
        reason = f"is of {found.model}, which has no rules any more; drop it if nobody reads it"
    else:
        try:
            shown = shown_rules_of(*handlers[found.model], collection)
            pipeline = _pipeline(shown, handlers[found.model][1])
            if stored.encoded_stages(collection, pipeline) != found.stages:
                reason = _OLD
        except ShowError as error:
            reason = f"is older than the rules, which cannot be shown: {error}"
    return ModelView(found.name, found.model, str(collection.full_name), reason is None, reason)


def _described(found: Namespace) -> str:
    if found.kind != "view":
        return "this is the name of a collection"
    if found.model is None:
        return "this is the name of a view that lazymig has not made"
    return f"this is the name of lazymig's view of {found.model}, made of {found.on}"


class _ViewName:
    """A name for a view of a collection, and what becomes of what has it.

    :raises RunOptionError: it is no text.
    :raises ViewError: the collection is not on a server.
    """

    def __init__(self, collection: Collection[Any], model: str, name: Any) -> None:
        if not isinstance(name, str):
            raise RunOptionError(f"is {name!r}; give the name of a view", option="name")
        self.model = model
        self._collection = collection
        self._name = name
        self._place = str(collection.full_name)
        if is_mongomock(collection):
            raise self.error(f"{self._place} is mongomock's, and views need a MongoDB server")
        if name.startswith("system."):
            # MongoDB takes it for a missing right, whoever asks.
            raise self.error("such names are MongoDB's own; choose another name")

    def error(self, problem: str) -> ViewError:
        """The error that refuses what was asked for."""
        return ViewError(problem, model=self.model, view=self._name, collection=self._place)

    def source(self) -> Namespace:
        """What the view is to be made of."""
        found = self._look(self._collection.name)
        if found is None:
            raise self.error(
                f"{self._collection.full_name} does not exist; is this the right database?"
            )
        if found.kind == "timeseries":
            raise self.error(
                f"{self._place} is a time-series collection, whose documents no rule brings up to "
                "date"
            )
        return found

    def found(self) -> Namespace | None:
        """What has the name; `None` for nothing."""
        return self._look(self._name)

    def check_own(self, found: Namespace, collation: bytes | None) -> None:
        """See that what has the name is lazymig's view of this model and this collection."""
        if found.on != self._collection.name or found.model != self.model:
            raise self.error(f"{_described(found)}; nothing of it was changed: choose another name")
        if found.collation != collation:
            raise self.error(
                f"its collation is not that of {self._collection.name}, and MongoDB does not "
                "change it; drop the view and create it again"
            )

    def check_exact(self, shown: Sequence[ShownRule], model: Any) -> None:
        """See that there is no document of which only MongoDB could say what a rule makes of it."""
        if all(change.exact is True for rule in shown for change in rule.changes):
            return
        mark = f"{MARK}.unshown"
        pipeline = [
            *stages_of(shown, marks=True),
            *_members(model),
            {"$match": {mark: {"$exists": True}}},
            {"$group": {"_id": f"${mark}", "documents": {"$sum": 1}}},
            {"$sort": {"_id": 1}},
        ]
        try:
            found = list(on_primary(self._collection).aggregate(pipeline))
        except DocumentTooLarge as exc:
            raise self.error(_TOO_LARGE) from exc
        except OperationFailure as exc:
            if exc.code != UNAUTHORIZED:
                raise
            raise self.error(_RIGHTS["read"]) from exc
        if found:
            counts = ", ".join(f"{each['_id']}: {each['documents']:,}" for each in found)
            raise self.error(
                "documents are stored of which only their migration shows what a rule makes of "
                f"them ({counts}); bring them up to date first, by migrate_pending() or lazymig "
                "migrate --scope lazy"
            )

    def created(self, stages: Stages, collation: bytes | None) -> bool:
        """Create the view; return whether nobody else has taken the name meanwhile."""
        collection, name = self._collection, self._name
        return self._carried_out(
            "created", lambda: stored.make_view(collection, name, stages, collation), _EXISTS
        )

    def changed(self, stages: Stages) -> bool:
        """Give the view other stages; return whether nobody else has dropped it meanwhile."""
        collection, name = self._collection, self._name
        return self._carried_out(
            "changed", lambda: stored.change_view(collection, name, stages), _NOT_FOUND
        )

    def dropped(self) -> None:
        """Drop the view, if it is still there."""
        database, name = self._collection.database, self._name
        self._carried_out("dropped", lambda: stored.drop_view(database, name), _NOT_FOUND)

    def _carried_out(self, done: str, command: Callable[[], None], expected: int) -> bool:
        """Carry out a change of the view.

        :param done: what is to become of it.
        :param expected: the code of an error by which somebody else was faster.
        :return: whether it was not that error.
        """
        try:
            command()
        except DocumentTooLarge as exc:
            raise self.error(_TOO_LARGE) from exc
        except OperationFailure as exc:
            if exc.code == expected:
                return False
            if is_away(exc):
                raise
            raise self.error(_problem_of(exc, done)) from exc
        logger.info("%s: the view %s was %s", self._place, self._name, done)
        return True

    def _look(self, name: str) -> Namespace | None:
        try:
            return stored.named_in(self._collection.database, name)
        except OperationFailure as exc:
            if is_away(exc):
                raise
            raise self.error(_problem_of(exc, "listed")) from exc


def _problem_of(exc: OperationFailure, done: str) -> str:
    if exc.code == UNAUTHORIZED:
        return _RIGHTS[done]
    if exc.code == _OBJECT_TOO_LARGE:
        return _TOO_LARGE
    if waited_too_long(exc):
        return (
            f"an open transaction that has read it holds it, so it was not {done}; call it again "
            "when that is over"
        )
    return f"MongoDB refuses it: {excerpt(exc)}; {_REMEDIES.get(exc.code, _OTHERWISE)}"
