"""The update operators that are shown: one row each, for what becomes of the value at its path.

A new operator is a new row. One without a row makes its rule one that cannot be shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressing import literal
from lazymig.rules.showing import arrays, numbers
from lazymig.rules.showing.leaves import Leaf, Unshown

__all__ = ["ROWS", "Leaf", "Row", "Unshown"]


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
    "$addToSet": Row(arrays.with_members),
    "$bit": Row(numbers.with_bits),
    "$inc": Row(numbers.added),
    "$max": Row(numbers.greatest),
    "$min": Row(numbers.least),
    "$mul": Row(numbers.multiplied),
    "$pop": Row(arrays.popped, creates=False),
    "$pull": Row(arrays.pulled, creates=False),
    "$pullAll": Row(arrays.pulled_all, creates=False),
    "$push": Row(arrays.pushed),
    "$set": Row(lambda _value, operand: Leaf(literal(operand))),
    "$setOnInsert": Row(lambda value, _operand: Leaf(value), creates=False, goes_nowhere=True),
    "$unset": Row(lambda _value, _operand: Leaf("$$REMOVE"), creates=False, goes_nowhere=True),
}
"""The operators that are shown, besides `$rename`, which has two paths."""
