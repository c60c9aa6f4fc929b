"""Documents of former classes, which a model's querysets find too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lazymig.odm.plans import legacy_names
from lazymig.odm.querysets.cursors import CursorQuerySet
from lazymig.odm.querysets.rewrites import rewrites_of
from lazymig.odm.schema import subclasses_of

__all__ = ["FormerClassesQuerySet", "former_names"]


class FormerClassesQuerySet(CursorQuerySet):
    """Puts the former classes of the model into its queries, unless they show what is stored."""

    # MongoEngine's condition on `_cls` with the former classes of the model.
    _lazymig_wider: Mapping[str, Any] | None = None

    # MongoEngine's query, and the wider one in its place.
    _lazymig_widened: tuple[Any, Any] | None = None

    _lazymig_of_clones = (*CursorQuerySet._lazymig_of_clones, "_lazymig_wider")

    def _lazymig_begin(self) -> None:
        if self._cls_query:
            self._lazymig_wider = _wider(self._document)

    def no_sub_classes(self) -> Any:
        """Filter for only the instances of this specific document."""
        queryset = super().no_sub_classes()
        queryset._lazymig_wider = None
        return queryset

    @property
    def _query(self) -> Any:
        query = super()._query
        wider = self._lazymig_wider
        if query is None or wider is None or not self._cls_query or self._lazymig_shows_stored():
            return query
        widened = self._lazymig_widened
        if widened is None or widened[0] is not query:
            widened = self._lazymig_widened = (query, _with_classes(query, wider))
        return widened[1]

    def _lazymig_narrow(self) -> bool:
        """Leave the former classes out of the query, and return whether there were any."""
        wide = self._lazymig_wider is not None and bool(self._cls_query)
        self._lazymig_wider = None
        return wide


def former_names(model: Any) -> list[str]:
    """The former classes whose documents are those of a model as they are stored.

    A former class that a rule names is found by seeing through that rule, exactly.
    """
    rewrites = rewrites_of(model)
    named = frozenset() if rewrites is None else rewrites.classes
    return [name for name in legacy_names(model) if name not in named]


def _with_classes(query: Mapping[str, Any], wider: Mapping[str, Any]) -> dict[str, Any]:
    """A query of MongoEngine's with another condition on the class."""
    if "_cls" in query:
        return {**query, **wider}
    # The user asks for a class as well: MongoEngine's own condition comes first.
    return {**query, "$and": [wider, *query["$and"][1:]]}


def _wider(document: Any) -> Mapping[str, Any] | None:
    """The condition on `_cls` with the former classes; `None` if there are none."""
    names = document._subclasses
    cached: Any = document.__dict__.get("_lazymig_widened")
    if cached is None or cached[0] is not names:
        # Within no_sub_classes() a model that has subclasses stands for itself alone.
        alone = len(names) == 1 and any(True for _ in subclasses_of(document))
        former = () if alone else former_names(document)
        all_names = [*names, *(name for name in former if name not in names)]
        wider = {"_cls": {"$in": all_names}} if len(all_names) > len(names) else None
        cached = (names, wider)
        document._lazymig_widened = cached
    found: Mapping[str, Any] | None = cached[1]
    return found
