"""The documents that a report is about: those of a model, or a sample of them."""

from __future__ import annotations

from typing import Any

from lazymig.errors import RunOptionError
from lazymig.odm.plans import legacy_names
from lazymig.odm.schema import class_names, document_parents, is_concrete

__all__ = ["check_model", "check_sample_size", "class_filter_of", "documents_of"]


def check_model(model: Any) -> None:
    """Reject what is no model.

    :raises TypeError: it is no Document class, or an abstract one.
    """
    if not is_concrete(model):
        raise TypeError(f"{model!r} has no documents; give a MongoEngine Document class")


def check_sample_size(sample_size: Any) -> None:
    """Reject what is no number of documents.

    :raises RunOptionError: neither `None` nor a number from 1 on.
    """
    if sample_size is None:
        return
    if isinstance(sample_size, bool) or not isinstance(sample_size, int) or sample_size < 1:
        raise RunOptionError(
            f"is {sample_size!r}; use a number of documents from 1 on, or None for all",
            option="sample_size",
        )


def class_filter_of(model: Any) -> dict[str, Any] | None:
    """The condition on `_cls` for the documents of a subclass; `None` for those of a root."""
    if not document_parents(model):
        return None
    former = legacy_names(model) if hasattr(model, "migration_handler") else ()
    return {"_cls": {"$in": [*class_names(model), *former]}}


def documents_of(model: Any, sample_size: int | None) -> list[dict[str, Any]]:
    """The stages that pick the documents of a model, or a random sample of them."""
    class_filter = class_filter_of(model)
    stages: list[dict[str, Any]] = [] if class_filter is None else [{"$match": class_filter}]
    if sample_size is not None:
        stages.append({"$sample": {"size": sample_size}})
    return stages
