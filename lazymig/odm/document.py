"""LazyMigrationMixin: the base by which a model has old documents migrated as they are loaded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from bson.raw_bson import RawBSONDocument
from mongoengine import EmbeddedDocument
from mongoengine.base import BaseDocument

import lazymig.odm.querysets.queryset  # noqa: F401 - it joins itself to MongoEngine's querysets
from lazymig.engines.reading.decoding import Undecoded, decode
from lazymig.errors import RuleDefinitionError
from lazymig.odm.handler import MigrationHandler
from lazymig.odm.loading import (
    LEFT_OUT,
    DocumentLeftOut,
    Loading,
    Source,
    asked_for,
    asks_for_all,
    current_source,
    reading_from,
    without_claim,
)
from lazymig.odm.marks import marking
from lazymig.odm.plans import bind_rules, forget_plans, owner_of, root_of
from lazymig.odm.querysets.joining import watch_querysets
from lazymig.odm.references import watch_references
from lazymig.odm.saving import SavingDocument
from lazymig.odm.schema import document_subclasses, is_concrete
from lazymig.odm.sealed import family_in
from lazymig.odm.stored import shown_as_stored
from lazymig.odm.versions import watch_sessions
from lazymig.rules.bound_rule import BoundRule

__all__ = ["LazyMigrationMixin"]

watch_querysets()
watch_references()
watch_sessions()


class LazyMigrationMixin(SavingDocument):
    """Inherit it before Document, and name the rules.

    ::

        class User(LazyMigrationMixin, Document):
            migration_handler = UserMigration

    A document of the model, or of a subclass, that is loaded in an old shape is migrated in the
    database and loaded again. Without a handler, or once a handler has no rules left, the model
    is a plain MongoEngine model.

    :raises TypeError: the mixin is listed after Document, or in an EmbeddedDocument.
    :raises RuleDefinitionError: the handler or one of its rules is written wrongly.
    """

    migration_handler: ClassVar[type[MigrationHandler] | None] = None

    # Whether documents of the collection may carry the claim of a once rule; and whether querysets
    # migrate, `None` for an abstract class, which has none.
    _lazymig_claimed: ClassVar[bool] = False
    _lazymig_live: ClassVar[bool | None] = None

    if TYPE_CHECKING:
        # A Document's own, which type checkers cannot see from here.
        _meta: ClassVar[dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not issubclass(cls, BaseDocument):
            return
        _check_bases(cls)
        _check_handler(cls)
        if not is_concrete(cls):
            return
        forget_plans(cls)
        root = root_of(cls)
        tree = (root, *document_subclasses(root, defining=cls))
        rules = [rule for model in tree for rule in _rules_of(model)]
        claimed = any(rule.once is not None for rule in rules)
        live = claimed or any(rule.scope == "lazy" for rule in rules)
        for model in tree:
            _install(model, live=live, claimed=claimed)

    @classmethod
    def compare_indexes(cls) -> dict[str, Any]:
        """Compare the declared indexes with those in the database, the rules' indexes left out."""
        # Only this call pays for the import.
        from lazymig.odm.indexes import without_rule_indexes  # noqa: PLC0415

        plain: Any = super()
        return without_rule_indexes(cls, plain.compare_indexes())

    @classmethod
    def _from_son(cls, son: Any, _auto_dereference: bool = True, created: bool = False) -> Any:
        """MongoEngine's one way from raw documents to instances.

        A raw document of which it is not certain where it was read is built as it is.
        """
        plain = super()._from_son
        source = current_source()
        if source is None and not cls._lazymig_claimed:
            return plain(son, _auto_dereference=_auto_dereference, created=created)
        if cls._lazymig_claimed:
            plain = without_claim(plain)
        build = partial(plain, _auto_dereference=_auto_dereference, created=created)
        if source is None:
            return build(son)
        # References that are loaded while this document is built have sources of their own.
        with reading_from(None):
            return _load_one(cls, source, son, build)


def _load_one(cls: Any, source: Source, son: Any, build: Any) -> Any:
    family = family_in(cls, source.collection)
    if isinstance(son, RawBSONDocument):
        son = decode(son, source.collection.codec_options)
    if family is not None and source.image:
        return Loading(family, source, build).show(son)
    is_raw = isinstance(son, (dict, Undecoded))
    if family is None or shown_as_stored(cls) or not is_raw or "_id" not in son:
        return build(son)
    asked = asked_for(family, source.projection)
    if asks_for_all(family, asked):
        build = marking(build, source.collection)
    (item,) = Loading(family, source, build, asked, for_read=True).load([son])
    if isinstance(item, Exception):
        raise item
    if item is LEFT_OUT:
        raise DocumentLeftOut
    return item


def _check_bases(cls: type) -> None:
    if issubclass(cls, EmbeddedDocument):
        raise TypeError(
            f"{cls.__name__}: an EmbeddedDocument has no collection; put LazyMigrationMixin and "
            "the rules, with dotted paths, on the Document that embeds it"
        )
    order = cls.__mro__
    if order.index(LazyMigrationMixin) > order.index(BaseDocument):
        bases = ", ".join(base.__name__ for base in cls.__bases__ if base is not LazyMigrationMixin)
        raise TypeError(
            f"{cls.__name__}: LazyMigrationMixin is listed after Document, where it does not see "
            "documents being loaded; list the mixin before Document: "
            f"class {cls.__name__}(LazyMigrationMixin, {bases})"
        )


def _check_handler(cls: Any) -> None:
    handler = cls.migration_handler
    if handler is None or (isinstance(handler, type) and issubclass(handler, MigrationHandler)):
        return
    raise RuleDefinitionError(
        f"migration_handler is no DocumentMigration but {handler!r}; name a subclass of "
        "DocumentMigration (the class, not an instance)",
        model=cls.__name__,
    )


def _rules_of(model: Any) -> tuple[BoundRule, ...]:
    """The rules that concern a model; one may decide by its class that it does not."""
    handler = getattr(model, "migration_handler", None)
    return () if handler is None else bind_rules(handler, owner_of(model))


def _install(model: Any, *, live: bool, claimed: bool) -> None:
    """Put lazymig in the way of a model's loads, or out of the way of a model without rules."""
    model._lazymig_claimed = claimed
    model._lazymig_live = live
    own = model.__dict__.get("_from_son")
    if own is not None and own is model.__dict__.get("_lazymig_short_cut"):
        del model._from_son
        del model._lazymig_short_cut
    if model._from_son.__func__ is not LazyMigrationMixin._from_son.__func__:  # type: ignore[attr-defined]
        # The class has its own way, which ends in the mixin's.
        model._lazymig_door = None
        return
    plain: Any = super(LazyMigrationMixin, model)._from_son
    model._lazymig_door = without_claim(plain) if claimed else plain
    if not live:
        short_cut: Any = classmethod(plain.__func__)
        model._from_son = model._lazymig_short_cut = short_cut
