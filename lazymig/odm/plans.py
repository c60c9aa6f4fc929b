"""From models and their handlers to plans: which rules a collection's documents obey."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, TypeVar

from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.odm.rule_warnings import (
    warn_of_cycles,
    warn_of_order,
    warn_of_settling,
    warn_of_unfinished,
)
from lazymig.odm.schema import (
    class_name,
    class_names,
    document_parents,
    document_subclasses,
    inherits,
    is_timeseries,
    knows_path,
    leads_to_items,
    list_crossed,
    shard_key_of,
    stores_no_null,
)
from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.discovery import discover
from lazymig.rules.handover import in_order_of_handover
from lazymig.rules.list_paths import check_item_paths, check_list_paths
from lazymig.rules.order import starting_rules
from lazymig.rules.plan import Family, Plan
from lazymig.rules.remedies import said_of_intermediate
from lazymig.rules.unfinished import until_unfinished

__all__ = [
    "FAMILY",
    "ROOT",
    "bind_rules",
    "family_for",
    "family_of",
    "forget_plans",
    "legacy_names",
    "once_per_family",
    "owner_of",
    "plan_for",
    "plans_of",
    "root_of",
]

_T = TypeVar("_T")

logger = logging.getLogger(__name__)

_BOUND = "_lazymig_bound"
# Where the root class of a collection keeps its family, and each class its root.
FAMILY = "_lazymig_family"
_PLANS = "_lazymig_plans"
ROOT = "_lazymig_root"


def _handler_of(model: Any) -> Any:
    return getattr(model, "migration_handler", None)


def _parent_of(model: Any) -> Any:
    for parent in document_parents(model):
        if hasattr(parent, "migration_handler"):
            return parent
    return None


def root_of(model: Any) -> Any:
    """The first class, from the top, of a model's collection that lazymig serves."""
    root = model.__dict__.get(ROOT)
    if root is None:
        root = model
        while (parent := _parent_of(root)) is not None:
            root = parent
        # Asked for at each load; a class never changes its bases.
        setattr(model, ROOT, root)
    return root


def owner_of(model: Any) -> Any:
    """The class, from the top, that a model has its handler from."""
    handler = _handler_of(model)
    while (parent := _parent_of(model)) is not None and _handler_of(parent) is handler:
        model = parent
    return model


def bind_rules(handler_class: Any, model: Any) -> tuple[BoundRule, ...]:
    """Probe the rules of a handler for a model, once.

    :raises RuleDefinitionError: a rule, or the handler, is written wrongly.
    """
    bound: dict[Any, tuple[BoundRule, ...]] | None = model.__dict__.get(_BOUND)
    if bound is None:
        bound = {}
        setattr(model, _BOUND, bound)
    if handler_class not in bound:
        bound[handler_class] = tuple(_probe(handler_class, model))
    return bound[handler_class]


def _probe(handler_class: Any, model: Any) -> Iterable[BoundRule]:
    declared = discover(handler_class)
    rules = until_unfinished(declared)
    warn_of_unfinished(model, declared[len(rules) :])
    if rules and is_timeseries(model):
        raise RuleDefinitionError(
            "has rules for a time-series collection, whose documents MongoDB does not update one "
            "by one; write changed measurements to a new collection instead",
            model=model.__name__,
        )
    found = []
    for rule in rules:
        bound = bind(rule, handler_class, model)
        if bound is None:
            continue
        for path in _better_covered(bound, model):
            logger.debug(
                "%s.%s: an index holds missing and null alike, and the model stores no null in %r: "
                "with the target {%r: None} a count needs the index alone",
                model.__name__,
                bound.name,
                path,
                path,
            )
        found.append(bound)
    if not inherits(model):
        _check_paths(found, model)
    lazy = [rule for rule in found if rule.scope == "lazy"]
    if not handler_class.write_on_load:
        _check_shown(lazy, model)
    warn_of_order(model, lazy)
    warn_of_cycles(model, lazy)
    warn_of_settling(model, lazy)
    return found


def _check_shown(rules: Iterable[BoundRule], model: Any) -> None:
    """Hold rules against a handler whose loads write nothing.

    :raises RuleDefinitionError: one of them cannot be shown without a write.
    """
    # Most applications show nothing, and do not pay for it.
    from lazymig.engines.loads.shown_steps import reason_unshown  # noqa: PLC0415

    for rule in rules:
        if (reason := reason_unshown(rule)) is not None:
            raise RuleDefinitionError(
                f"cannot be shown without a write, because it {reason}, and the handler has "
                "write_on_load = False; write the rule otherwise, make it an allmigration rule, or "
                "let loads write",
                model=model.__name__,
                rule=rule.name,
            )


def _better_covered(rule: BoundRule, model: Any) -> Iterator[str]:
    """The fields that a rule adds where they are missing, though it could ask for null as well."""
    if rule.scope != "lazy" or rule.target is None or not isinstance(rule.update, Mapping):
        return
    added = rule.update.get("$set", {})
    for path, condition in rule.target.items():
        adds = condition == {"$exists": False} and added.get(path) is not None
        if adds and stores_no_null(model, path):
            yield path


def _check_paths(rules: Sequence[BoundRule], model: Any) -> None:
    """Hold what rules write against the fields of a model.

    :raises UpdateQueryError: the model does not know a path, or a path does not lead to it.
    """
    for place, rule in enumerate(rules, 1):
        for path in sorted(rule.promises):
            if knows_path(model, path) is False:
                remedy = said_of_intermediate(path, rules[place:]) or (
                    "add the field to the model, or correct the path (rules use database field "
                    "names)"
                )
                raise UpdateQueryError(
                    f"writes {path!r}, which the model does not know; {remedy}",
                    model=model.__name__,
                    rule=rule.name,
                )
    check_list_paths(rules, partial(list_crossed, model), model.__name__)
    check_item_paths(rules, partial(leads_to_items, model), model.__name__)


def _legacy_of(owner: Any) -> tuple[str, ...]:
    """The former `_cls` values that an owner's handler declares, not those it has inherited."""
    declared: tuple[str, ...] = _handler_of(owner).legacy_classes
    parent = _parent_of(owner)
    if parent is not None and getattr(_handler_of(parent), "legacy_classes", ()) is declared:
        return ()
    return declared


def plans_of(model: Any) -> list[Plan]:
    """The plans of all handlers of a model's collection.

    :raises UpdateQueryError: a rule writes a path that no class of the collection knows.
    """
    return list(_plans_of(root_of(model)).values())


def _plans_of(root: Any) -> dict[Any, Plan]:
    """The plan of every class that brings a handler of its own, by class."""
    plans: dict[Any, Plan] | None = root.__dict__.get(_PLANS)
    if plans is None:
        plans = _make_plans(root)
        setattr(root, _PLANS, plans)
    return plans


def _make_plans(root: Any) -> dict[Any, Plan]:
    members: dict[Any, list[str]] = {}
    without: list[str] = []
    for model in (root, *document_subclasses(root)):
        if _handler_of(model) is None:
            without.append(class_name(model))
        else:
            members.setdefault(owner_of(model), []).append(class_name(model))
    for owner, names in members.items():
        names.extend(name for name in _legacy_of(owner) if name not in names)

    plans = {}
    for owner in members:
        rules = bind_rules(_handler_of(owner), owner)
        _check_paths(rules, owner)
        inherited = {
            rule.name: _class_filter(root, owner, members, without, _heirs(rule, owner, members))
            for rule in rules
        }
        plans[owner] = _plan(
            _handler_of(owner),
            owner,
            rules,
            _class_filter(root, owner, members, without, {owner}),
            inherited,
        )
    return plans


def _heirs(rule: BoundRule, owner: Any, members: dict[Any, list[str]]) -> set[Any]:
    """The owner, and the subclasses' owners whose handlers have inherited this very rule."""
    return {owner} | {
        other
        for other in members
        if issubclass(other, owner)
        and getattr(_handler_of(other), rule.name, None) is rule.rule.method
    }


def _class_filter(
    root: Any, owner: Any, members: dict[Any, list[str]], without: list[str], included: set[Any]
) -> dict[str, Any] | None:
    """The condition on `_cls` that finds the documents of these owners' handlers.

    It is alike in every process, in whatever order that has imported the classes.
    """
    own = [name for other in members if other in included for name in members[other]]
    if owner is not root or document_parents(root):
        return {"_cls": {"$in": sorted(own)}}
    others = [name for other in members if other not in included for name in members[other]]
    others = [name for name in (*others, *without) if name not in own]
    return {"_cls": {"$nin": sorted(others)}} if others else None


def _plan(
    handler_class: Any,
    model: Any,
    rules: tuple[BoundRule, ...],
    class_filter: dict[str, Any] | None,
    inherited_filters: dict[str, dict[str, Any] | None],
) -> Plan:
    lazy = tuple(rule for rule in rules if rule.scope == "lazy")
    starting = starting_rules(lazy, class_filter)
    validates = handler_class.validate_on_load
    return Plan(
        doc_class=model,
        handler_class=handler_class,
        lazy=lazy,
        bulk=tuple(rule for rule in rules if rule.scope == "bulk"),
        class_filter=class_filter,
        inherited_filters=inherited_filters,
        on_error=handler_class.on_error,
        lazy_timeout=handler_class.lazy_timeout,
        validates=len(starting) < len(lazy) if validates is None else validates and bool(lazy),
        starting=starting,
        shard_key=shard_key_of(model),
    )


def family_of(model: Any) -> Family | None:
    """The plans of a model's collection; `None` if no class has a lazy rule or a once rule.

    :raises UpdateQueryError: a rule writes a path that no class of the collection knows.
    """
    root = root_of(model)
    try:
        family: Family | None = root.__dict__[FAMILY]
    except KeyError:
        family = _make_family(root)
        setattr(root, FAMILY, family)
    return family


def _make_family(root: Any) -> Family | None:
    plans = _plans_of(root)
    lazy = {owner: plan if plan.lazy or plan.claims else None for owner, plan in plans.items()}
    if not any(lazy.values()):
        return None
    by_class: dict[str, Plan | None] = {}
    # In the order of their names: a process may have imported the classes in any other.
    for model in (root, *sorted(document_subclasses(root), key=class_name)):
        by_class[class_name(model)] = None if _handler_of(model) is None else lazy[owner_of(model)]
    for owner, plan in lazy.items():
        for name in _legacy_of(owner):
            by_class.setdefault(name, plan)
    # Below a class that lazymig does not serve, documents of unknown classes are not ours.
    own = None if document_parents(root) else lazy.get(root)
    found = dict.fromkeys(plan for plan in (own, *by_class.values()) if plan is not None)
    order: list[Plan | None] = [None, *in_order_of_handover(list(found))]
    names = sorted(by_class, key=lambda name: order.index(by_class[name]))
    return Family(own, {name: by_class[name] for name in names})


def once_per_family(make: Callable[[Family], _T]) -> Callable[[Family], _T]:
    """Decorator: what is made of a family is kept with it."""
    name = f"{make.__module__}.{make.__qualname__}"

    @wraps(make)
    def known(family: Family) -> _T:
        try:
            made: _T = family.__dict__[name]
        except KeyError:
            made = family.__dict__[name] = make(family)
        return made

    return known


def legacy_names(model: Any) -> tuple[str, ...]:
    """The former `_cls` values whose documents are documents of this model."""
    names: list[str] = []
    for other in (model, *document_subclasses(model)):
        if _handler_of(other) is not None and owner_of(other) is other:
            names.extend(name for name in _legacy_of(other) if name not in names)
    return tuple(names)


def plan_for(handler_class: Any, model: Any) -> Plan:
    """The plan of a handler for a model, be it the model's own handler or another.

    :raises RuleDefinitionError: a rule is written wrongly for this model.
    """
    if _handler_of(model) is not handler_class:
        return _plan_of_other(handler_class, model)
    owner = owner_of(model)
    plans = _plans_of(root_of(model))
    plan = plans[owner]
    if model is owner:
        return plan
    names = [
        class_name(cls)
        for cls in (model, *document_subclasses(model))
        if _handler_of(cls) is handler_class and owner_of(cls) is owner
    ]
    return replace(plan, class_filter={"_cls": {"$in": sorted(names)}}, inherited_filters={})


def _plan_of_other(handler_class: Any, model: Any) -> Plan:
    """The plan of a handler that is not the model's own: for calls by hand, on any Document."""
    rules = bind_rules(handler_class, model)
    _check_paths(rules, model)
    class_filter = None
    if document_parents(model):
        names = {*class_names(model), *handler_class.legacy_classes}
        class_filter = {"_cls": {"$in": sorted(names)}}
    return _plan(handler_class, model, rules, class_filter, {})


def family_for(handler_class: Any, model: Any) -> Family:
    """The plans by which a handler migrates single documents of a model.

    :raises RuleDefinitionError: a rule is written wrongly for this model.
    """
    family = family_of(model) if _handler_of(model) is handler_class else None
    return family if family is not None else Family(plan_for(handler_class, model), {})


def forget_plans(model: Any) -> None:
    """Let plans be made anew: a class has been added to the model's collection."""
    root = root_of(model)
    for name in (FAMILY, _PLANS):
        if name in root.__dict__:
            delattr(root, name)
