"""Rules as a read shows them: the stages in front of it, and what these leave to be settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import bson
from bson.codec_options import CodecOptions, TypeRegistry
from bson.raw_bson import RawBSONDocument

from lazymig.query.remembered import remember
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.rewrite.steps import Step
from lazymig.rules.showing.shown import CannotShow, ShownRule, gap_of, shown_steps
from lazymig.rules.showing.stages import stages_of

__all__ = ["ShownRules", "shown_rules"]

# More pipelines are forgotten all at once.
_MOST_KNOWN: Final = 64

# An application may have encoders for types of its own, which may change.
_NO_TYPES: Final = TypeRegistry()


@dataclass(frozen=True, eq=False)
class ShownRules:
    """Some rules of a collection, in their order, as stages show them.

    :param rules: of one that cannot be shown there is the target alone: a document that it concerns
        is left as the earlier rules have made it, gets no later rule, and can be marked.
    :param reasons: why rules cannot be shown, by their indexes among the steps.
    :param inexact: whether stages may meet documents that have to be settled before they are shown:
        those of the rules that cannot be shown, and those for which another one is not exact.
    :param blind: why it cannot even be said which documents these are: no expression says what a
        target asks for. None: it can be said.
    """

    rules: tuple[ShownRule, ...]
    reasons: Mapping[int, CannotShow]
    inexact: bool
    blind: CannotShow | None = None
    _known: dict[Any, list[Any]] = field(default_factory=dict, repr=False)

    @property
    def settled(self) -> frozenset[int]:
        """The indexes of the steps that cannot be shown."""
        return frozenset(self.reasons)

    def stages(
        self, reads: frozenset[str] | None = None, *, marks: bool = False
    ) -> list[dict[str, Any]]:
        """The stages after which each document is as the rules will leave it; see `stages_of`.

        :param reads: the paths that are read afterwards; `None` for any.
        :param marks: whether a document that has to be settled before is marked.
        """
        key = reads, marks, None
        found = self._known.get(key)
        if found is None:
            found = stages_of(self.rules, reads, marks=marks)
            remember(self._known, key, found, _MOST_KNOWN)
        return list(found)

    def encoded(
        self, reads: frozenset[str] | None, codec: CodecOptions[Any], *, marks: bool = False
    ) -> Sequence[Mapping[str, Any]]:
        """The same stages as PyMongo would send them: to encode them takes longer than to send.

        :param codec: the options of the collection that they are sent to.
        """
        if codec.type_registry != _NO_TYPES:
            return self.stages(reads, marks=marks)
        key = reads, marks, codec.uuid_representation
        found = self._known.get(key)
        if found is None:
            stages = self.stages(reads, marks=marks)
            found = [RawBSONDocument(bson.encode(stage, codec_options=codec)) for stage in stages]
            remember(self._known, key, found, _MOST_KNOWN)
        return list(found)


def shown_rules(rules: Sequence[tuple[BoundRule, Sequence[Step], Sequence[int]]]) -> ShownRules:
    """Rules as they are shown, or why they are not.

    :param rules: each with its steps, one or two, and the indexes of these.
    """
    shown: list[ShownRule] = []
    reasons: dict[int, CannotShow] = {}
    blind: CannotShow | None = None
    for rule, steps, indexes in rules:
        for index, step, found in zip(indexes, steps, shown_steps(rule, steps), strict=True):
            if not isinstance(found, CannotShow):
                shown.append(found)
                continue
            reasons[index] = found
            try:
                shown.append(gap_of(rule, step))
            except CannotShow:
                blind = blind or found
    inexact = any(change.exact is not True for one in shown for change in one.changes)
    return ShownRules(tuple(shown), reasons, inexact or blind is not None, blind)
