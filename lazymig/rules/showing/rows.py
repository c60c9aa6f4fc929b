"""The update operators that are shown: one row each, for what becomes of the value at its path.

A new operator is a new row. One without a row makes its rule one that cannot be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressing import literal
from lazymig.rules.showing import arrays, numbers
from lazymig.rules.showing.leaves import NewValue, Unshown

__all__ = ["ROWS", "NewValue", "ShownOperator", "Unshown"]


@dataclass(frozen=True, slots=True, eq=False)
class ShownOperator:
    """One update operator.

    `leaf`: from the value at the path and the operand; the value is given as a path or a variable
    (`$a.b`, `$$e1`), so that it costs nothing to name it many times. `creates`: it puts something
    at a path where nothing is, parents included; one that does not is asked only of values that are
    there. `goes_nowhere`: a path through what has no such field is nothing to it, and not refused.

    :raises Unshown: by `leaf`: the operand is one that no expression is known for.
    """

    leaf: Callable[[str, Any], NewValue]
    creates: bool = True
    goes_nowhere: bool = False


ROWS: Final[Mapping[str, ShownOperator]] = {
    "$addToSet": ShownOperator(arrays.with_members),
    "$bit": ShownOperator(numbers.with_bits),
    "$inc": ShownOperator(numbers.added),
    "$max": ShownOperator(numbers.greatest),
    "$min": ShownOperator(numbers.least),
    "$mul": ShownOperator(numbers.multiplied),
    "$pop": ShownOperator(arrays.popped, creates=False),
    "$pull": ShownOperator(arrays.pulled, creates=False),
    "$pullAll": ShownOperator(arrays.pulled_all, creates=False),
    "$push": ShownOperator(arrays.pushed),
    "$set": ShownOperator(lambda _value, operand: NewValue(literal(operand))),
    "$setOnInsert": ShownOperator(
        lambda value, _operand: NewValue(value), creates=False, goes_nowhere=True
    ),
    "$unset": ShownOperator(
        lambda _value, _operand: NewValue("$$REMOVE"), creates=False, goes_nowhere=True
    ),
}
"""The operators that are shown, besides `$rename`, which has two paths."""
