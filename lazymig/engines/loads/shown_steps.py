"""The rules of a plan as pieces of one pipeline: what MongoDB computes, and where it stops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

from lazymig.query.expressing import Expression
from lazymig.query.matching import compile_query
from lazymig.redaction import excerpt
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan, feeds
from lazymig.rules.rewrite.steps import steps_of
from lazymig.rules.showing.rows import Unshown
from lazymig.rules.showing.shown import CannotShow, ShownChange, ShownRule, shown_rule, shown_steps
from lazymig.rules.showing.stages import MARK, stages_of
from lazymig.rules.showing.targets import concerned
from lazymig.rules.varying_calls import varying_call_of

__all__ = ["LEFT", "Piece", "ShownPlan", "reason_unshown", "shown_plan"]

LEFT: Final = f"{MARK}_left"
"""The field that names a rule whose match is not ended, in a document that was to be shown."""

# For a document that it concerns, MongoDB does not know what becomes of it.
_STOP: Final = (ShownChange({}, exact=False),)


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A rule, or the half of one.

    :param shown: the rule as expressions, or the documents at which a pipeline stops for it.
    :param computed: it is computed here, for one document after the other.
    :param surely: it concerns the documents at which a pipeline stops; otherwise some of them.
    :param reason: why it can be neither computed nor shown.
    """

    rule: BoundRule
    shown: ShownRule
    computed: bool = False
    surely: bool = True
    reason: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ShownPlan:
    """The rules of a plan in their order; a piece goes by its place.

    Documents of which MongoDB knows no more bear, after the stages, the mark of `stages_of` with
    the place, as a text, in place of a name.
    """

    pieces: tuple[Piece, ...]
    _left: list[dict[str, Any]]
    _stages: dict[int, list[dict[str, Any]]] = field(default_factory=dict)

    def stages_from(self, place: int) -> list[dict[str, Any]]:
        """The stages for documents that the pieces before this place have been applied to."""
        if place not in self._stages:
            rules = [piece.shown for piece in self.pieces[place:]]
            self._stages[place] = [*stages_of(rules, marks=True, refusals=True), *self._left]
        return self._stages[place]


_known: Final[WeakKeyDictionary[Plan, dict[bool, ShownPlan]]] = WeakKeyDictionary()


def shown_plan(plan: Plan, *, after_error: bool) -> ShownPlan:
    """The rules of a plan that a match starts, or all lazy ones after an error."""
    known = _known.setdefault(plan, {})
    if after_error not in known:
        known[after_error] = _shown_plan(plan, after_error=after_error)
    return known[after_error]


def reason_unshown(rule: BoundRule) -> str | None:
    """Return what completes "the rule cannot be shown, because it ..."; `None` if it can be.

    :raises Exception: whatever a static rule raises.
    """
    if rule.once is not None:
        return "has effects elsewhere, and is applied once to each document"
    if rule.by_hand:
        return "writes by itself"
    if rule.form == "python":
        call = varying_call_of(rule.rule)
        return None if call is None else f"calls {call}, which gives another value each time"
    try:
        _as_expressions(rule, rule.target)
    except CannotShow as refusal:
        return refusal.reason
    return None


def _shown_plan(plan: Plan, *, after_error: bool) -> ShownPlan:
    rules = plan.lazy if after_error else plan.starting
    pieces = [
        replace(piece, shown=replace(piece.shown, name=str(place)))
        for place, piece in enumerate(each for rule in rules for each in _pieces(plan, rule))
    ]
    left = [] if after_error else _left_stages(plan, pieces)
    return ShownPlan(tuple(pieces), left)


def _pieces(plan: Plan, rule: BoundRule) -> Iterator[Piece]:
    try:
        reason = reason_unshown(rule)
    except Exception as exc:
        # The rule itself, which may ask for anything.
        reason = f"raised {type(exc).__name__}: {excerpt(exc)}"
    if reason is not None:
        yield _stop_of(plan, rule, reason)
    elif rule.form == "python":
        yield _stop_of(plan, rule)
    else:
        yield Piece(rule, _as_expressions(rule, plan.query_of(rule)))
        for half in rule.halves()[1:]:
            # What says which half it is raises for no document.
            guard = None if rule.translation is None else rule.translation.guard
            yield _stop_of(plan, half, total=[{"$not": [guard]}])


def _as_expressions(rule: BoundRule, query: Any) -> ShownRule:
    """The rule for the documents for which its guard holds, if it has one.

    :raises CannotShow: it is not known as expressions.
    """
    if len(rule.halves()) == 1:
        return shown_rule(rule, query)
    found = shown_steps(rule, steps_of(rule, query))[0]
    if isinstance(found, CannotShow):
        raise found
    return found


def _stop_of(
    plan: Plan, rule: BoundRule, reason: str | None = None, total: Sequence[Expression] = ()
) -> Piece:
    """The piece of a rule that MongoDB does not compute.

    :param total: operands of `$expr` in its target that raise for no document.
    """
    query = (plan.class_filter or {}) if rule.target is None else plan.query_of(rule)
    target: Expression
    try:
        target, surely = concerned(compile_query(query).tree, total), True
    except Unshown:
        target, surely = True, False
    shown = ShownRule(rule.name, target, _STOP)
    return Piece(rule, shown, computed=reason is None, surely=surely, reason=reason)


def _left_stages(plan: Plan, pieces: Sequence[Piece]) -> list[dict[str, Any]]:
    """The stage that finds what static rules leave as old as it was.

    The proof that a rule ends its match takes the parents of a dotted path for sub-documents.
    """
    branches = [
        {"case": piece.shown.target, "then": piece.shown.name}
        for piece in pieces
        if piece.rule.kind == "static"
        and piece.reason is None
        and not piece.computed
        and not any(feeds(later, piece.rule) for later in _after(piece.rule, plan.starting))
    ]
    if not branches:
        return []
    return [{"$set": {LEFT: {"$switch": {"branches": branches, "default": "$$REMOVE"}}}}]


def _after(rule: BoundRule, rules: Iterable[BoundRule]) -> Iterator[BoundRule]:
    return (each for each in rules if each.number > rule.number)
