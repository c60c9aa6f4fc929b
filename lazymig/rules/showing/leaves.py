"""The ends of the paths of an update: new values, as expressions over those before."""

from __future__ import annotations

from dataclasses import dataclass

from lazymig.query.expressing import Expression

__all__ = ["NewValue", "Unshown"]


class Unshown(Exception):
    """What an update leaves is not known as an expression; the text completes "because it ..."."""


@dataclass(frozen=True, slots=True, eq=False)
class NewValue:
    """What becomes of one value.

    `value`: the new one; nothing (missing) takes it away. It is asked only where `exact` is true
    and `refused` is not, and raises nothing there. `refused`: a total expression that is true where
    MongoDB refuses the update, whatever `exact` says; `exact`: one that is false where it is not
    known what becomes of the value.
    """

    value: Expression
    exact: Expression = True
    refused: Expression = False
