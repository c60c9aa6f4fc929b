"""The paths of updates through a list of the model by a name, which MongoDB does not follow.

A target may: `items.qty` finds documents with such an element. An update of operators may not, it
has to name elements: `items.$[].qty`. Old documents may have a sub-document in place of the list,
so a rule whose target says so, or that a later one makes a list of, is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from lazymig.errors import UpdateQueryError
from lazymig.query.tree import Node
from lazymig.raw.paths import model_path
from lazymig.rules.bound_rule import BoundRule
from lazymig.updates.knowledge import ARRAY_TYPE, implies_presence
from lazymig.updates.operators import OPERATORS
from lazymig.updates.parents import ELEMENT, Parents, questions
from lazymig.updates.update import NamedPath, each_of

__all__ = ["check_item_paths", "check_list_paths"]

_OBJECT: Final = ("object", 3)


def check_list_paths(
    rules: Sequence[BoundRule], list_crossed: Callable[[str], str | None], model: str
) -> None:
    """Refuse updates that MongoDB refuses, or leaves without effect, for documents of the model.

    :param rules: all rules of a handler, in their order.
    :param list_crossed: gives the first list of the model that a path goes through by a name.
    :raises UpdateQueryError: a rule has such a path.
    """
    for rule in rules:
        if rule.matcher is None:
            # What its documents look like is not known.
            continue
        for named in sorted(rule.named_paths, key=str):
            for path in filter(None, (named.path, named.destination)):
                crossed = list_crossed(path)
                if crossed is None or _is_document(rule.matcher.tree, model_path(crossed)):
                    continue
                if not any(_comes_to(rule, other, model_path(crossed)) for other in rules):
                    problem = _problem(named, path, crossed, list_crossed)
                    raise UpdateQueryError(problem, model=model, rule=rule.name)


def check_item_paths(
    rules: Sequence[BoundRule], leads_to_items: Callable[[Sequence[str]], bool | None], model: str
) -> None:
    """Refuse an `each` whose path leads to no embedded documents of the model.

    Unless another rule writes the path, or one above it: then it may lead to what was there once.

    :param rules: all rules of a handler.
    :param leads_to_items: says it of the components of a path; `None`: not known.
    :raises UpdateQueryError: a rule has such a path.
    """
    for rule in rules:
        items = each_of(rule.update)
        if items is None or leads_to_items(items.parts) is not False:
            continue
        path = items.change.path
        if not any(
            path == written or path.startswith(f"{written}.")
            for other in rules
            if other is not rule
            for written in ((path,) if other.writes is None else other.writes)
        ):
            raise UpdateQueryError(
                f"each({path!r}): the model has no list of embedded documents there; name the list "
                "itself, in database field names, with * for the keys of a map ('prices.*'); in a "
                "single embedded document use operators ('address.city')",
                model=model,
                rule=rule.name,
            )


def _is_document(target: Node, path: str) -> bool:
    """Return whether a target says that its documents have a sub-document at a path."""
    for parts, leaf, positive in questions(target, (), positive=True):
        asked = leaf.operand if isinstance(leaf.operand, list) else [leaf.operand]
        if positive and leaf.operator == "$type" and any(kind in _OBJECT for kind in asked):
            names = ".".join(part for part in parts if part != ELEMENT)
            if model_path(names) == path:
                return True
    place = tuple(path.split("."))
    return implies_presence(target, place) and Parents(target).excludes(place, ARRAY_TYPE)


def _comes_to(rule: BoundRule, other: BoundRule, path: str) -> bool:
    """Return whether another rule, which may come later, may put a list at a path."""
    if other is rule or (other.scope == rule.scope and other.number < rule.number):
        return False
    if other.writes is None:
        return True
    operators = {each.operator for each in other.named_paths if model_path(each.path) == path}
    if operators and all(OPERATORS[operator].changes_within for operator in operators):
        return False
    return any(path == written or path.startswith(f"{written}.") for written in other.writes)


def _problem(
    named: NamedPath, path: str, crossed: str, list_crossed: Callable[[str], str | None]
) -> str:
    """What is wrong, and the remedy that fits the operator."""
    operator = named.operator
    does = "MongoDB leaves it without effect" if operator == "$unset" else "MongoDB refuses it"
    if operator == "$rename":
        remedy = f"use {_renaming(named, crossed)}"
    else:
        each, spelled = path, crossed
        while (through := list_crossed(each)) is not None:
            each, spelled = f"{through}.$[]{each[len(through) :]}", through
        rest = each[len(spelled) + len(".$[].") :]
        remedy = (
            f"write {each!r}, or $[name] for the elements that array_filters choose, with a target "
            "that only documents with such elements match"
        )
        if operator == "$set" and not spelled.endswith(".$[]"):
            # Of a list in a list no target says that an element of it lacks something.
            lacking = {"$exists": False}
            remedy = (
                f"write {f'{spelled}.$[name].{rest}'!r} with the array_filters "
                f"{[{f'name.{rest}': lacking}]}, as {each!r} overwrites what other elements have "
                "there, with a target that only documents with such elements match, such as "
                f"{ {model_path(spelled): {'$elemMatch': {rest: lacking}}} }"
            )
    former = {model_path(crossed): {"$type": "object", "$not": {"$type": "array"}}}
    return (
        f"{operator} of {path!r} goes through {crossed!r}, which the model declares as a list, and "
        f"{does} in a list; {remedy}; if old documents have a sub-document there, say so in the "
        f"target ({former}), or make it a list in a later rule"
    )


def _renaming(named: NamedPath, crossed: str) -> str:
    """What renames in each element, where it can be spelled out."""
    source, goal = named.path, str(named.destination)
    old, new = (each[len(crossed) + 1 :] for each in (source, goal))
    apart = any(not each.startswith(f"{crossed}.") for each in (source, goal))
    if apart or not old.isidentifier() or not new.isidentifier():
        return f"a pipeline, which computes {model_path(crossed)!r} with $map, and $unset"
    if "." not in crossed:
        return f"each({crossed!r}, rename={ {old: new}!r}), which brings its own target"
    merged = {"$mergeObjects": ["$$this", {new: f"$$this.{old}"}]}
    mapped = {crossed: {"$map": {"input": f"${crossed}", "in": merged}}}
    return f"a pipeline: {[{'$set': mapped}, {'$unset': source}]}"
