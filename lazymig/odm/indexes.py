"""The indexes that a model declares, and those that its rules need, against the database's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mongoengine import Document

from lazymig.odm.plans import owner_of, plan_for, root_of
from lazymig.odm.schema import document_subclasses
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule_indexes import (
    IndexSpec,
    Needed,
    index_name,
    index_of_nothing,
    indexes_for,
    is_rule_index,
)

__all__ = [
    "NeededIndexes",
    "compare_indexes",
    "needed_by_others",
    "needed_indexes",
    "without_rule_indexes",
]

Index = tuple[tuple[str, Any], ...]


def compare_indexes(model: Any) -> tuple[list[Index], list[Index]]:
    """The declared indexes that the database lacks, and those in it that nobody declares.

    :return: fields and directions of each, as `Document.compare_indexes` gives them.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list indexes.
    """
    with _no_index_created(model):
        compared = without_rule_indexes(model, model.compare_indexes())
    missing, extra = ([_index(keys) for keys in compared[side]] for side in ("missing", "extra"))
    return list(dict.fromkeys(missing)), list(dict.fromkeys(extra))


def without_rule_indexes(model: Any, compared: Mapping[str, Any]) -> dict[str, Any]:
    """What `Document.compare_indexes` says, as it would be without the indexes of rules.

    MongoEngine tells indexes apart by their keys alone, so that one of a rule may be taken for the
    declared index, too, that is missing.
    """
    information = model._get_collection().index_information()
    own = [info["key"] for name, info in information.items() if not is_rule_index(name)]
    of_rules = [info["key"] for name, info in information.items() if is_rule_index(name)]
    missing, extra = list(compared["missing"]), list(compared["extra"])
    for key in of_rules:
        if key in extra:
            extra.remove(key)
    for index in model.list_indexes():
        hidden = index in of_rules and index not in own and index not in missing
        # MongoEngine counts any index that begins with _cls for this one.
        if hidden and not (index == [("_cls", 1)] and any(each[0][0] == "_cls" for each in own)):
            missing.append(index)
    return {**compared, "missing": missing, "extra": extra}


@dataclass(frozen=True, slots=True)
class NeededIndexes:
    """A rule, and the indexes that it needs, by their names."""

    rule: BoundRule
    needed: Needed
    specs: Mapping[str, IndexSpec]


def needed_indexes(plan: Plan) -> list[NeededIndexes]:
    """The indexes of each rule of a plan, lazy rules first, each scope in order.

    A rule that a subclass's handler has inherited shares those of the class that defines it.
    """
    plans = list(_plans_of_collection(plan))
    return [_needed_by(rule, plan, plans) for rule in (*plan.lazy, *plan.bulk)]


def needed_by_others(plan: Plan) -> list[NeededIndexes]:
    """The indexes that rules of other handlers of a plan's collection need."""
    others = (each for each in _plans_of_collection(plan) if each.doc_class is not plan.doc_class)
    return [each for other in others for each in needed_indexes(other)]


def _needed_by(rule: BoundRule, plan: Plan, plans: list[Plan]) -> NeededIndexes:
    method = rule.rule.method
    named = [each for each in plans if _method_of(each, rule.name) is not None]
    sharing = (
        each
        for each in named
        if _method_of(each, rule.name) is method and issubclass(plan.doc_class, each.doc_class)
    )
    owner = next(sharing, plan)
    renamed: Mapping[str, str] = {}
    if isinstance(rule.update, Mapping):
        renamed = rule.update.get("$rename", {})
    classes = owner.widest_filter_of(rule)
    needed = indexes_for(rule.target, classes, renamed)
    found = list(needed.specs)
    if not classes:
        sorted_by = _first_keys(plan.doc_class)
        named_apart = (
            index_of_nothing(rule.target, source, path)
            for source, path in renamed.items()
            if path in sorted_by
        )
        found += [spec for spec in named_apart if spec is not None]
    # Another class of the collection may have another rule of this name.
    first = named[0] if named else owner
    is_other = _method_of(first, rule.name) is not method
    name = f"{rule.name}_{owner.model_name}" if is_other else rule.name
    specs = {index_name(name, number): spec for number, spec in enumerate(found, start=1)}
    return NeededIndexes(rule, needed, specs)


def _first_keys(model: Any) -> set[str]:
    """The paths by which the indexes that a model declares are sorted first."""
    specs = model._meta.get("index_specs") or ()
    return {keys[0][0] for spec in specs if (keys := spec.get("fields"))}


def _plans_of_collection(plan: Plan) -> Iterator[Plan]:
    """The plans of the handlers of a plan's collection, those of parents first."""
    root = root_of(plan.doc_class)
    for model in (root, *document_subclasses(root)):
        handler = getattr(model, "migration_handler", None)
        if handler is not None and owner_of(model) is model:
            yield plan_for(handler, model)


def _method_of(plan: Plan, name: str) -> Any:
    rules = (each for each in (*plan.lazy, *plan.bulk) if each.name == name)
    return next((each.rule.method for each in rules), None)


def _index(keys: Any) -> Index:
    return tuple((str(name), direction) for name, direction in keys)


@contextmanager
def _no_index_created(model: Any) -> Iterator[None]:
    """Let MongoEngine look up the collections of a model and its kin without creating indexes.

    A class that MongoEngine has used before has its indexes already. The others forget what they
    were asked here, so that their first use creates them as ever.
    """
    tree: list[Any] = [
        cls
        for cls in model.__mro__
        if isinstance(cls, type) and issubclass(cls, Document) and cls is not Document
    ]
    tree.extend(cls for base in tuple(tree) for cls in document_subclasses(base))
    fresh = {
        cls: cls._meta.get("auto_create_index", True)
        for cls in dict.fromkeys(tree)
        if getattr(cls, "_collection", None) is None and not cls._meta.get("abstract")
    }
    for cls in fresh:
        cls._meta["auto_create_index"] = False
    try:
        yield
    finally:
        for cls, creates in fresh.items():
            cls._meta["auto_create_index"] = creates
            cls._collection = None
