"""The rules of a handler's documents as they are shown, for calls by hand."""

from __future__ import annotations

from typing import Any

from lazymig.errors import ShowError
from lazymig.odm.plans import family_for
from lazymig.rules.showing.shown import CannotShow, ShownRule, shown_rule

__all__ = ["shown_rules_of"]


def shown_rules_of(handler_class: Any, model: Any, collection: Any = None) -> tuple[ShownRule, ...]:
    """The lazy rules that a match starts, in their order, as expressions over stored documents.

    They are those of the whole collection: of the subclasses with handlers of their own, too.

    :param collection: the PyMongo collection, where a rule asks for it.
    :raises ShowError: one of them is not known as expressions.
    :raises RuleDefinitionError: a rule is written wrongly for this model.
    """
    shown: list[ShownRule] = []
    for plan in family_for(handler_class, model).plans:
        for rule in plan.starting:
            try:
                shown.append(
                    shown_rule(rule, plan.query_of(rule), collection, tree=plan.tree_of(rule))
                )
            except CannotShow as refusal:
                raise ShowError(
                    f"cannot be shown, because it {refusal.reason}; bring its documents up to date "
                    "by migrate_pending() and take the rule out, or say what it sets by operators "
                    "or a pipeline",
                    model=plan.model_name,
                    rule=rule.name,
                ) from None
    return tuple(shown)
