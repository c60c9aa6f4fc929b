"""A computed rule as it is used: by its translation, where that is all the same, or in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from lazymig.query.matching import Matcher
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.tracing.paths import is_read_within
from lazymig.rules.translating import translate
from lazymig.rules.translation import LeftToPython, Translation
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import read_paths

__all__ = ["as_translated"]


def as_translated(
    bound: BoundRule, matcher: Matcher, declared_inputs: Iterable[str] | None
) -> BoundRule:
    """Give a computed rule what the server can do of it; what is known of its paths stays.

    Only an update that provably ends the match may take the method's place: of another one each
    document's own is judged.

    :param matcher: that of its target.
    :param declared_inputs: what the rule itself says that it reads; `None` if it says nothing.
    """
    rule = bound.rule
    found = translate(rule, bound.handler_class, bound.doc_class, matcher.query, matcher.tree)
    if isinstance(found, LeftToPython):
        return replace(bound, left_to_python=found)
    reason = None
    if not _is_as_declared(bound, found, declared_inputs):
        # Each update that the method computes is held against what it declares.
        reason = "it is not certain to read and write only what it declares"
    elif bound.converges is not True and not ends_match(matcher.tree, found.update):
        reason = "what it sets does not provably end the match of its target"
    if reason is not None:
        return replace(bound, left_to_python=LeftToPython(rule.name, None, reason))
    if found.guard is not None:
        return replace(bound, translation=found)
    return replace(bound, kind="static", update=found.update, converges=True, translation=found)


def _is_as_declared(
    bound: BoundRule, found: Translation, declared_inputs: Iterable[str] | None
) -> bool:
    if bound.declares and not bound.covers(found.update):
        return False
    if declared_inputs is None:
        return True
    read = read_paths(found.update)
    return read is not None and all(is_read_within(path, declared_inputs) for path in read)
