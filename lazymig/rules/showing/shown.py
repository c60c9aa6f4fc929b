"""A rule as expressions: which documents it concerns, and what each of them becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressing import Expression, depth_of
from lazymig.query.matching import compile_query
from lazymig.query.tree import Node
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.rewrite.steps import Step
from lazymig.rules.showing.logic import all_hold
from lazymig.rules.showing.paths import shown_fields
from lazymig.rules.showing.piping import shown_stage
from lazymig.rules.showing.rows import Unshown
from lazymig.rules.showing.targets import concerned
from lazymig.updates.update import check_update, each_of

__all__ = [
    "CannotShow",
    "ShownChange",
    "ShownRule",
    "gap_of",
    "shown_rule",
    "shown_steps",
    "shown_update",
]

# MongoDB takes documents of up to 200 levels, and the stages that expressions stand in have some.
_DEEPEST: Final = 170


class CannotShow(Exception):
    """A rule is not known as stages.

    :ivar rule: the rule's name.
    :ivar reason: what completes "the rule cannot be shown, because it ...".
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule = rule
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.rule} cannot be shown, because it {self.reason}"


@dataclass(frozen=True, slots=True, eq=False)
class ShownChange:
    """One step of an update, for a document for which the target holds.

    `fields`: new values of top-level fields, over the document before; what gives nothing takes the
    field away. Or `root`: the whole new document. Either is asked only where `exact` is true and
    `refused` is not, and raises nothing there. `exact`: True, or a total expression; where it is
    false, it is not known here what MongoDB makes of the document. `refused`: False, or a total
    expression; where it is true, MongoDB refuses the update, whatever `exact` says, and the
    document stays as the earlier rules made it.
    """

    fields: Mapping[str, Expression] | None
    root: Expression | None = None
    exact: Expression = True
    refused: Expression = False


@dataclass(frozen=True, slots=True, eq=False)
class ShownRule:
    """One rule: where `target`, a total expression, is true, its changes, one after the other."""

    name: str
    target: Expression
    changes: tuple[ShownChange, ...]

    @property
    def writes(self) -> frozenset[str] | None:
        """The top-level fields that may change; None: any."""
        written: set[str] = set()
        for change in self.changes:
            if change.fields is None:
                return None
            written.update(change.fields)
        return frozenset(written)


def shown_update(
    name: str,
    target: Mapping[str, Any],
    update: Any,
    array_filters: Any = None,
    *,
    tree: Node | None = None,
) -> ShownRule:
    """Return a rule of a target and an update as expressions.

    :param tree: that of the target, where it is parsed already.
    :raises CannotShow: it is not known as expressions, or MongoDB would refuse it for any document.
    """
    return _shown(name, target, (update, array_filters), tree=tree)


def shown_rule(
    rule: BoundRule, target: Mapping[str, Any], collection: Any = None, *, tree: Node | None = None
) -> ShownRule:
    """Return a rule as a whole.

    Where a guard says for which documents it is translated, it is exact for those alone.

    :param target: the query for the documents that the rule concerns.
    :param collection: the PyMongo collection, where the rule may ask for it.
    :param tree: that of the target, where it is parsed already.
    :raises CannotShow: it is not known as expressions.
    :raises Exception: whatever a static rule raises.
    """
    if rule.translation is not None:
        guard = rule.translation.guard
        update: Any = rule.translation.update
        found = _shown(rule.name, target, (update, None), tree=tree, raises=False)
        if guard is None:
            return found
        first, *others = found.changes
        guarded = ShownChange(
            first.fields, first.root, all_hold([guard, first.exact]), first.refused
        )
        return ShownRule(rule.name, found.target, (guarded, *others))
    return _shown(rule.name, target, _update_of(rule, collection), tree=tree)


def shown_steps(
    rule: BoundRule, steps: Sequence[Step], collection: Any = None
) -> tuple[ShownRule | CannotShow, ...]:
    """Return the steps of a rule, each as it is shown, or the reason why it is not.

    :param steps: what `steps_of` gives for the rule.
    :param collection: the PyMongo collection, where the rule may ask for it.
    :raises Exception: whatever a static rule raises.
    """
    found: list[ShownRule | CannotShow] = []
    for place, step in enumerate(steps):
        try:
            found.append(_shown_step(rule, step, place, collection))
        except CannotShow as refusal:
            # Without the frames that it was raised through, and what they hold.
            found.append(refusal.with_traceback(None))
    return tuple(found)


def gap_of(rule: BoundRule, step: Step) -> ShownRule:
    """Return a step of which only the target is known: it is exact for none of its documents.

    They are left as the earlier rules made them, get no later rule, and can be marked.

    :raises CannotShow: no expression says what the target asks for.
    """
    if step.target is None:
        raise CannotShow(rule.name, "has a target or an update that MongoDB would refuse")
    try:
        target = concerned(compile_query(step.target).tree, _added_expressions(rule, step.target))
    except Unshown as refusal:
        raise CannotShow(rule.name, str(refusal)) from None
    fields = None if step.effects is None else {name: f"${name}" for name in sorted(step.roots)}
    whole = "$$ROOT" if fields is None else None
    return ShownRule(rule.name, target, (ShownChange(fields, whole, exact=False),))


def _shown_step(rule: BoundRule, step: Step, place: int, collection: Any) -> ShownRule:
    target = step.target
    if target is None:
        raise CannotShow(rule.name, "has a target or an update that MongoDB would refuse")
    total = _added_expressions(rule, target)
    if rule.translation is not None:
        if place:
            raise CannotShow(rule.name, "is computed in Python for some of its documents")
        update: Any = rule.translation.update
        return _shown(rule.name, target, (update, None), total=total, raises=False)
    return _shown(rule.name, target, _update_of(rule, collection), total=total)


def _added_expressions(rule: BoundRule, target: Mapping[str, Any]) -> list[Expression]:
    """The operands of `$expr` that `steps_of` has added to a target: they never raise."""
    own = _expressions_asked(rule.target)
    return [one for one in _expressions_asked(target) if one not in own]


def _expressions_asked(query: Any) -> list[Expression]:
    """The operands of `$expr` in a query."""
    if isinstance(query, Mapping):
        found = [one for value in query.values() for one in _expressions_asked(value)]
        return [query["$expr"], *found] if "$expr" in query else found
    if isinstance(query, (list, tuple)):
        return [one for value in query for one in _expressions_asked(value)]
    return []


def _update_of(rule: BoundRule, collection: Any) -> tuple[Any, Any]:
    """The update of a static rule, and its array filters."""
    if rule.by_hand:
        raise CannotShow(rule.name, "writes by itself")
    if rule.once is not None:
        raise CannotShow(rule.name, "has effects elsewhere, and is applied once to each document")
    if rule.kind != "static":
        raise CannotShow(
            rule.name, f"is computed in Python: {rule.left_to_python or 'it reads self.doc'}"
        )
    if rule.varies:
        raise CannotShow(rule.name, "sets another value at each call")
    evaluation = rule.evaluate(collection=collection)
    if evaluation.update != rule.update:
        raise CannotShow(rule.name, "sets another value at each call, such as the present time")
    return evaluation.update, evaluation.array_filters


def _shown(
    name: str,
    target: Mapping[str, Any],
    update: tuple[Any, Any],
    *,
    tree: Node | None = None,
    total: Sequence[Expression] = (),
    raises: bool = True,
) -> ShownRule:
    """As `shown_update`.

    :param update: with its array filters.
    :param total: operands of `$expr` in the target that are known to raise for no document.
    :param raises: whether expressions of the update may.
    """
    given, array_filters = update
    try:
        tree = tree or compile_query(target).tree
        check_update(given, array_filters)
        items = each_of(given)
        if items is not None and "$expr" in items.target:
            total = [*total, items.target["$expr"]]
        changes = _changes(tree, given, array_filters, raises=raises)
        found = ShownRule(name, concerned(tree, total), changes)
    except Unshown as refusal:
        raise CannotShow(name, str(refusal)) from None
    except ValueError as error:
        raise CannotShow(name, f"would be refused by MongoDB: {error}") from None
    if max(map(depth_of, _expressions(found))) > _DEEPEST:
        raise CannotShow(name, "makes expressions that are too deep for MongoDB")
    return found


def _changes(
    target: Node, update: Any, array_filters: Any, *, raises: bool
) -> tuple[ShownChange, ...]:
    if isinstance(update, Mapping):
        fields, exact, refused = shown_fields(target, update, array_filters)
        return (ShownChange(fields, None, exact, refused),)
    stages = [shown_stage(stage, raises=raises) for stage in update]
    return tuple(ShownChange(one.fields, one.root, one.exact, one.refused) for one in stages)


def _expressions(rule: ShownRule) -> list[Expression]:
    found = [rule.target]
    for change in rule.changes:
        found += [change.root, change.exact, change.refused, *(change.fields or {}).values()]
    return found
