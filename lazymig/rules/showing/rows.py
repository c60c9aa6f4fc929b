"""What an update operator makes of the value at its path, as expressions: one row each.

A new operator is a new row. One without a row makes its rule one that cannot be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressing import Expression, literal

__all__ = ["ROWS", "Leaf", "Row", "Unshown"]


class Unshown(Exception):
    """What an update leaves is not known as an expression; the text completes "because it ..."."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """What becomes of one value.

    `value`: the new one; nothing (missing) takes it away. It is asked only where `exact` is true
    and `refused` is not, and raises nothing there. `refused`: a total expression that is true where
    MongoDB refuses the update, whatever `exact` says; `exact`: one that is false where it is not
    known what becomes of the value.
    """

    value: Expression
    exact: Expression = True
    refused: Expression = False


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One update operator.

    `leaf`: from the value at the path and the operand; the value is given as a path or a variable
    (`$a.b`, `$$e1`), so that it costs nothing to name it many times. `creates`: it puts something
    at a path where nothing is, parents included; one that does not is asked only of values that are
    there. `goes_nowhere`: a path through what has no such field is nothing to it, and not refused.

    :raises Unshown: by `leaf`: the operand is one that no expression is known for.
    """

    leaf: Callable[[str, Any], Leaf]
    creates: bool = True
    goes_nowhere: bool = False


ROWS: Final[Mapping[str, Row]] = {
    "$set": Row(lambda _value, operand: Leaf(literal(operand))),
    "$unset": Row(lambda _value, _operand: Leaf("$$REMOVE"), creates=False, goes_nowhere=True),
}
"""The operators that are shown, besides `$rename`, which has two paths."""
