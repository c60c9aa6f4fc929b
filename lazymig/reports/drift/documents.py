"""Which documents a report is about: those of a model, or a sample of them."""

from __future__ import annotations

from typing import Any

from lazymig.errors import RunOptionError
from lazymig.odm.plans import legacy_names
from lazymig.odm.schema import class_names, document_parents, is_concrete

__all__ = ["check_model", "check_sample_size", "documents_of"]


def check_model(model: Any) -> None:
    """Refuse what is no model.

    :raises TypeError: it is no Document class, or an abstract one.
    """
    if not is_concrete(model):
        raise TypeError(f"{model!r} has no documents; give a MongoEngine Document class")


def check_sample_size(sample_size: Any) -> None:
    """Refuse what is no number of documents.

    :raises RunOptionError: neither `None` nor a number from 1 on.
    """
    if sample_size is None:
        return
    if isinstance(sample_size, bool) or not isinstance(sample_size, int) or sample_size < 1:
        raise RunOptionError(
            f"is {sample_size!r}; use a number of documents from 1 on, or None for all",
            option="sample_size",
        )


def documents_of(model: Any, sample_size: int | None) -> list[dict[str, Any]]:
    """The stages that pick the documents of a model: those of a subclass are told by `_cls`."""
    stages: list[dict[str, Any]] = []
    if document_parents(model):
        names = [*class_names(model), *_former_names(model)]
        stages.append({"$match": {"_cls": {"$in": names}}})
    if sample_size is not None:
        stages.append({"$sample": {"size": sample_size}})
    return stages


def _former_names(model: Any) -> tuple[str, ...]:
    return legacy_names(model) if hasattr(model, "migration_handler") else ()
