"""The knowledge of every document that an update of items leaves: what `each` has written."""

from __future__ import annotations

from lazymig.query.implication import implies
from lazymig.query.operators import parse
from lazymig.query.tree import Node
from lazymig.updates.each import Each
from lazymig.updates.item_change import ItemChange
from lazymig.updates.items import ANY_KEY
from lazymig.updates.knowledge import (
    ABSENT,
    PRESENT,
    SINGLE,
    UNKNOWN,
    Arrays,
    Document,
    Elements,
    Fact,
    OneOf,
    ask,
    is_present,
)
from lazymig.updates.parents import ELEMENT, Parents
from lazymig.updates.pipelines import expressed

__all__ = ["after_items", "ends_own_match"]


def after_items(parents: Parents, update: Each) -> Document:
    """Return what is known of the documents that a target found, after `update`.

    `parents` knows the target.
    """
    root, *steps = update.parts
    if ANY_KEY in steps:
        return Document({root: UNKNOWN}, exists=True)
    changed = Elements(
        "$[each]",
        update.change.condition,
        _item(update.change, parents),
        filtered=True,
        nested=parents.may_be_array((*update.parts, ELEMENT)),
    )
    fact: Fact = OneOf((changed, SINGLE))
    for step in reversed(steps):
        fact = Document({step: fact}, array=Arrays.ALIKE)
    return Document({root: fact}, exists=True)


def ends_own_match(update: Each, target: Node) -> bool:
    """Return whether no document matches any more, because none has an old item.

    True means that the target implies the one that `update` brings.
    """
    if not implies(target, parse(update.target)):
        return False
    return ask(update.change.condition, _item(update.change, Parents(target))) is False


def _item(change: ItemChange, parents: Parents) -> Document:
    """Return what is known of an old item that was changed."""
    fields: dict[str, Fact] = dict.fromkeys(change.removed, ABSENT)
    fields |= dict.fromkeys(change.rename.values(), UNKNOWN)
    for name, value in change.set.items():
        given = expressed(change.written(value), parents)
        certain = change.signs_of(value) is None and not _may_be_absent(given)
        fields[name] = given if certain else UNKNOWN
    for name, value in change.add.items():
        given = expressed(change.written(value), parents)
        fields[name] = UNKNOWN if _may_be_absent(given) else OneOf((given, PRESENT))
    return Document(fields, exists=True)


def _may_be_absent(fact: Fact) -> bool:
    if isinstance(fact, OneOf):
        return any(map(_may_be_absent, fact.facts))
    return not is_present(fact)
