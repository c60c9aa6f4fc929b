"""The warnings of a model's rules, when its class is defined or the model is first used."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Sequence
from types import FrameType
from typing import Any

from lazymig.errors import ConvergenceWarning, SettlingWarning, UnfinishedRuleWarning
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.cycles import certain_cycles
from lazymig.rules.order import held_back
from lazymig.rules.remedies import (
    how_to_converge,
    how_to_translate,
    operator_for,
    said_of_python,
    what_settles,
)
from lazymig.rules.rule import Rule

__all__ = ["warn_of_cycles", "warn_of_order", "warn_of_settling", "warn_of_unfinished"]

logger = logging.getLogger(__name__)

# The packages whose frames stand between a warning and the class that it is about.
_NOT_THE_USERS = frozenset({"lazymig", "mongoengine"})


def warn_of_order(model: Any, lazy: Sequence[BoundRule]) -> None:
    """Warn of the rules that no match starts, and say which others wait for them."""
    waiting = held_back(lazy)
    for rule in lazy:
        others = ", ".join(waiting.get(rule.name, ()))
        if rule.target is None:
            if others:
                logger.warning(
                    "%s.%s: its target needs the document, so no match starts it, nor the later "
                    "rules that read or write what it may write: %s; set self.target before "
                    "self.doc is read",
                    model.__name__,
                    rule.name,
                    others,
                )
        elif rule.converges is False:
            held = f"; until then {others} will wait for it where its target matches"
            warnings.warn(
                f"{model.__name__}.{rule.name}: its update does not provably end the match of its "
                "target, so a match does not start it: it runs when a document fails to load or to "
                f"validate, and in bulk runs{held if others else ''}; {how_to_converge(rule)}",
                ConvergenceWarning,
                stacklevel=_users_level(),
            )


def warn_of_cycles(model: Any, lazy: Sequence[BoundRule]) -> None:
    """Warn of rules that bring each of their documents back under the target of an earlier one."""
    for rule, later in certain_cycles(lazy):
        warnings.warn(
            f"{model.__name__}.{later.name}: after its update each document matches {rule.name} "
            "again, which ran before it, so that a run is not complete; let it write what "
            f"{rule.name} would make of that, or give it the smaller number",
            ConvergenceWarning,
            stacklevel=_users_level(),
        )


def warn_of_settling(model: Any, lazy: Sequence[BoundRule]) -> None:
    """Warn of rules that are computed in Python, where there is a form that would not be.

    That is, where pipelines have an operator for the very function that was called. What else could
    be said is in reports, and in the log.
    """
    for rule in lazy:
        settles, left = what_settles(rule), rule.left_to_python
        if settles is None or left is None:
            continue
        operator = operator_for(left)
        if operator is None:
            said = "; ".join(said_of_python(left, settles))
            logger.info("%s.%s: %s", model.__name__, rule.name, said)
            continue
        warnings.warn(
            f"{model.__name__}.{rule.name} is computed in Python, because {left}, so that "
            f"{settles} migrate old documents before they answer; {how_to_translate(left)}",
            SettlingWarning,
            stacklevel=_users_level(),
        )


def warn_of_unfinished(model: Any, waiting: Sequence[Rule]) -> None:
    """Warn of a rule that is not written yet, and say which others wait for it.

    :param waiting: that rule, and those after it.
    """
    if not waiting:
        return
    first, *others = waiting
    code = first.method.__code__
    held = f", and until then {', '.join(rule.name for rule in others)} will not run" * bool(others)
    warnings.warn(
        f"{model.__name__}.{first.name}: it is no rule yet{held}; finish it, and delete its line "
        f"TODO ({code.co_filename}:{code.co_firstlineno})",
        UnfinishedRuleWarning,
        stacklevel=_users_level(),
    )


def _users_level() -> int:
    """How far up the stack the first frame outside of lazymig and MongoEngine is.

    That is where the user's class is defined, or the model is first used. Asked by a function that
    warns, it is the `stacklevel` of the warning.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _package_of(frame) in _NOT_THE_USERS:
        level, frame = level + 1, frame.f_back
    return level


def _package_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
