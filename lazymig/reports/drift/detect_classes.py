"""Findings about documents whose `_cls` names no class of the model, and the rules for them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from lazymig.raw.differences import MISSING
from lazymig.reports.drift.counts import Count
from lazymig.reports.drift.drafts import Draft, UnknownClass
from lazymig.reports.drift.field_counts import FieldCounts
from lazymig.reports.drift.model_paths import ModelPath
from lazymig.reports.drift.proposals import reclassified
from lazymig.reports.drift.similarity import successors
from lazymig.reports.drift.sites import IS_MISSING, RuleSite
from lazymig.reports.texts import documents

__all__ = ["class_drafts"]


def class_drafts(counts: FieldCounts, unknown: Iterable[UnknownClass]) -> Iterator[Draft]:
    """The findings about classes of documents, then those of embedded documents."""
    for each in unknown:
        yield _of_documents(counts, each)
    for place in counts.layout.places:
        for text, count in counts.rows.classes.get(place.index, {}).items():
            yield _of_embedded(counts, place, text or None, count)


def _of_documents(counts: FieldCounts, unknown: UnknownClass) -> Draft:
    root = counts.layout.roots[0]
    site = RuleSite(root, (None,), "_cls")
    right = unknown.successors[0] if unknown.successors and counts.by_class else None
    draft = _draft(site, unknown.name, right, unknown.count, "The model's documents")
    draft.classes = unknown.successors[:1] or (root.owner.name,)
    draft.values_in = _class_in
    draft.candidates = unknown.successors
    draft.query = site.query(_condition(unknown.name))
    return draft


def _of_embedded(counts: FieldCounts, place: ModelPath, name: str | None, count: Count) -> Draft:
    assert place.facts is not None
    classes = place.facts.embedded()
    likely = successors(name, {each.name: each.fields for each in classes})
    generic = place.facts.label == "GenericEmbeddedDocumentField"
    right = likely[0] if generic or len(classes) > 1 or classes[0].inherits else None
    site = counts.site([place], "_cls")
    draft = _draft(site, name, right, count, f"Documents of {classes[0].name}")
    draft.classes = (place.objects[0].owner.name,)
    draft.message = f"{place.path} has {draft.message}"
    draft.values_in = counts.values_in([place], "_cls")
    draft.candidates = likely
    draft.query = counts.query([place], _condition(name), "_cls")
    return draft


def _draft(site: RuleSite, name: str | None, right: str | None, count: Count, whose: str) -> Draft:
    """A finding about an unknown class, or about none.

    :param right: the class that the documents are likely to be of; `None`: they have no `_cls`.
    """
    question = (
        f"{whose} have no _cls: may it be removed?"
        if right is None
        else f"Are these documents of the class {right!r}?"
    )
    what = "no _cls" if name is None else f"the unknown _cls {name!r}"
    return Draft(
        kind="unknown_class",
        classes=(),
        path=site.path,
        message=f"{what} in {documents(count.documents)}",
        count=count.documents,
        ids=count.ids,
        shows=partial(_is_class, name),
        proposal=reclassified(site, name, right, question),
    )


def _condition(name: str | None) -> Mapping[str, Any]:
    return IS_MISSING if name is None else {"$eq": name}


def _class_in(document: Mapping[str, Any]) -> Iterator[Any]:
    yield document.get("_cls", MISSING)


def _is_class(name: str | None, value: Any) -> bool:
    return value in (None, MISSING) if name is None else bool(value == name)
