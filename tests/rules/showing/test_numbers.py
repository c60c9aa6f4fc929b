"""Numbers, their order and their bits as stages give them, held against the server."""

from __future__ import annotations

import random
from typing import Any

import pytest
from bson import Decimal128, Int64
from pymongo.database import Database

from lazymig.rules.showing.shown import CannotShow, shown_update
from tests.rules.showing.held_against import Raw, left_by, outcome
from tests.rules.showing.operator_cases import INTEGERS, NUMBERS, OTHERS, VALUES, values_at


def _drawn_numbers() -> list[Any]:
    drawn = random.Random(1)
    return [
        *(drawn.randrange(-(2**31), 2**31) for _ in range(8)),
        *(Int64(drawn.randrange(-(2**63), 2**63)) for _ in range(8)),
        *(drawn.uniform(-1, 1) * 10.0 ** drawn.randrange(-30, 30) for _ in range(16)),
        *(
            Decimal128(
                f"{drawn.randrange(10 ** drawn.randrange(1, 34))}E{drawn.randrange(-40, 40)}"
            )
            for _ in range(16)
        ),
    ]


@pytest.mark.parametrize("operator", ["$inc", "$mul"])
def test_numbers_are_the_same_to_the_last_digit(database: Database[Raw], operator: str) -> None:
    """Of each type with each, a sum or a product has MongoDB's type and digits, or is refused."""
    drawn = _drawn_numbers()
    documents = values_at("v", [*NUMBERS, *drawn, *OTHERS[:8], [1], {}])
    for operand in [*NUMBERS, *drawn[::4]]:
        found = outcome(database, documents, {operator: {"v": operand}})
        assert found.differ == [], operand
        assert not found.unknown
        assert found.refused < found.documents


@pytest.mark.parametrize("operator", ["$min", "$max"])
def test_the_order_is_that_of_all_types(database: Database[Raw], operator: str) -> None:
    """The lesser or the greater of two values of any types is the one that MongoDB keeps."""
    for operand in VALUES[::2]:
        found = outcome(database, values_at("v"), {operator: {"v": operand}})
        assert found.differ == [], operand
        assert not found.unknown
        assert not found.refused


def test_bits_are_those_of_integers(database: Database[Raw]) -> None:
    """Bits of an int or a long are combined with those of either, one operation after another."""
    drawn = [one for one in _drawn_numbers() if isinstance(one, int)]
    documents = values_at("v", [*INTEGERS, *drawn, None, True, "a", 1.0, Decimal128("1"), [1], {}])
    single = [
        {name: mask} for name in ("and", "or", "xor") for mask in [*INTEGERS, drawn[0], drawn[-1]]
    ]
    for operations in [*single, {"and": 5, "or": Int64(8)}, {"or": 3, "xor": 7, "and": 2}]:
        found = outcome(database, documents, {"$bit": {"v": operations}})
        assert found.differ == [], operations
        assert not found.unknown
        assert found.refused < found.documents


NAN = float("nan")
DELICATE: dict[str, tuple[Raw, Any, Any]] = {
    "an int grows into a long": ({"$inc": {"v": 1}}, 2**31 - 1, Int64(2**31)),
    "a long adds its type": ({"$inc": {"v": Int64(0)}}, 1, Int64(1)),
    "a long that grows is refused": ({"$inc": {"v": 1}}, Int64(2**63 - 1), None),
    "a long that shrinks is refused": ({"$inc": {"v": -1}}, Int64(-(2**63)), None),
    "a product of longs is refused": ({"$mul": {"v": 2}}, Int64(2**62), None),
    "a double has its digits": ({"$inc": {"v": 1.0}}, Int64(2**53 + 1), 2.0**53),
    "a decimal takes 15 of a double": (
        {"$inc": {"v": 1 / 3}},
        Decimal128("0"),
        "0.333333333333333",
    ),
    "minus zero stays": ({"$inc": {"v": 0}}, -0.0, -0.0),
    "an exponent stays": ({"$inc": {"v": 0}}, Decimal128("2E+3"), "2E+3"),
    "what is rounded away changes nothing": (
        {"$inc": {"v": Decimal128("1E-6176")}},
        Decimal128("1"),
        "1",
    ),
    "null is no number": ({"$inc": {"v": 1}}, None, None),
    "a date is no number": ({"$mul": {"v": 1}}, True, None),
    "nothing has the type of the factor": ({"$mul": {"v": Decimal128("-2.5")}}, ..., "-0.0"),
    "nothing is zero to bits": ({"$bit": {"v": {"xor": 5}}}, ..., 5),
    "the sign is a bit": ({"$bit": {"v": {"xor": -1}}}, 5, -6),
    "equal numbers are not replaced": ({"$max": {"v": 1.0}}, 1, 1),
    "NaN is less than any number": ({"$max": {"v": -1}}, NAN, -1),
    "null is less than any number": ({"$min": {"v": None}}, -5, None),
}


@pytest.mark.parametrize(("update", "value", "left"), DELICATE.values(), ids=DELICATE)
def test_the_delicate_points(database: Database[Raw], update: Raw, value: Any, left: Any) -> None:
    """Each known result is the stored one, and the one that is shown."""
    before = {} if value is ... else {"v": value}
    stored, shown = left_by(database, before, update)
    if isinstance(left, str):
        left = Decimal128(left)
    expected = {"v": left} if left is not None or "$min" in update else before
    assert repr(stored) == repr(shown) == repr(expected)
    assert type(stored["v"]) is type(shown["v"]) is type(expected["v"])


@pytest.mark.parametrize(
    ("update", "reason"),
    [
        ({"$inc": {"v": "1"}}, "gives $inc what is no number ('1')"),
        ({"$mul": {"v": True}}, "gives $mul what is no number (True)"),
        ({"$bit": {"v": {}}}, "gives $bit no operations ({})"),
        ({"$bit": {"v": {"nand": 1}}}, "gives $bit what is no operation on integers (nand: 1)"),
        ({"$bit": {"v": {"or": 1.0}}}, "gives $bit what is no operation on integers (or: 1.0)"),
        ({"$currentDate": {"v": True}}, "uses $currentDate, of which no stage gives the result"),
    ],
    ids=["text", "bool", "no bits", "no such bits", "bits of a double", "the time"],
)
def test_what_has_no_result_is_not_shown(update: Raw, reason: str) -> None:
    """What MongoDB refuses for every document, or makes of the time, is named."""
    with pytest.raises(CannotShow) as caught:
        shown_update("rule", {}, update)
    assert caught.value.reason == reason
