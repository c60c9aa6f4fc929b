"""Documents of every kind that a rule may meet, more of those that are near the edge of a form."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

Raw = dict[str, Any]

_TEXTS = [
    *("", "a", "A", "aB", "new", "old", "a,b,,c", ",", "a b  c", "Hello big World", "o'neil mc-x"),
    *("0", "12", "-12", "-0", "+5", "007", " 12 ", "1_000", "5\n", "123456789012345678", "9" * 19),
    *("1.5", "-0.0", ".5", "5.", "1e5", "nan", "inf", "0x10", "\u0661", "12.", "0.1", "1.7976"),
    *("2020-01-31", "2020-02-30", "2021-02-29", "2020-1-1", "0000-01-01", "2020-01-31T10:20"),
    *("2020-01-31 10:20:30", "2020-01-31T10:20:30.123", "2020-01-31T10:20:30.123456"),
    *("2020-01-31T10:20:30Z", "2020-01-31T24:00:00", "1900-02-28", "1582-10-10", "20200131"),
    *("0123456789abcdef01234567", "0123456789ABCDEF01234567", "0123456789abcdef0123456"),
    *(
        "Ä",
        "ß",
        "\u0130",
        "\u01c5",
        "é",
        "e\u0301",
        "\U0001f600x",
        "ﬁ",
        "\u2003a\u2003",
        "\x1ca\x85",
    ),
    *(" a ", "\ta\n", "\x00a", "a\x00", "a\x00b", "\u200ba", "\ufeffa", "$a", "$$ROOT", "a.b", "K"),
]
_NUMBERS = [
    *(0, 1, -1, 2, 3, 5, -7, 10, 100, 2**31 - 1, 2**31, -(2**31), -(2**31) - 1, 2**53, 2**53 + 1),
    *(2**62, 2**63 - 1, -(2**63), Int64(0), Int64(1), Int64(5), Int64(-7), 21474837, 90071992547),
    *(0.0, -0.0, 1.0, 0.5, 1.5, 2.5, -0.5, -1.5, 0.1, 0.2, 0.3, 1.1, 2.675, 1.005, 0.285, 1e-7),
    *(4.35, 19.99, 1e15 + 0.5, 2.0**53, 1e22, 1e300, 5e-324, math.inf, -math.inf, math.nan, -1e-9),
]
_OTHERS: list[Any] = [
    *(None, None, True, False, True, False, datetime(2020, 1, 2, 3, 4, 5, 6000)),
    *(datetime(1960, 1, 1), ObjectId("5f0000000000000000000001"), Decimal128("1"), Decimal128("0")),
    *(Decimal128("NaN"), Decimal128("1.50"), Timestamp(1, 1), b"", b"ab", Binary(b"a", 5)),
    *(
        MinKey(),
        MaxKey(),
        Regex("a", "i"),
        Code("a"),
        Code("", {}),
        DBRef("a", 1),
        DBRef("a", 1, b=2),
    ),
]
_KEYS = ["a", "a", "b", "b", "k", "qty", "n", "0", "$a", "a.b", "é"]

texts = st.one_of(st.sampled_from(_TEXTS), st.text(max_size=6))
numbers = st.one_of(
    st.sampled_from(_NUMBERS),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-1000, 1000),
    st.floats(),
    st.floats(-1000, 1000).map(lambda number: round(number, 3)),
)
scalars = st.one_of(texts, numbers, st.sampled_from(_OTHERS))


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(_KEYS), inner, max_size=3),
    )


_lists = st.one_of(
    *(st.lists(one, max_size=4) for one in (texts, numbers, scalars)),
    st.lists(st.dictionaries(st.sampled_from(["qty", "a", "b"]), scalars, max_size=3), max_size=3),
)
_objects = st.dictionaries(st.sampled_from(_KEYS), scalars, max_size=3)
values = st.one_of(
    texts, numbers, scalars, _lists, _objects, st.recursive(scalars, _grown, max_leaves=6)
)

documents = st.dictionaries(st.sampled_from(["x", "x", "x", "y", "z", "w"]), values, max_size=4)
"""Documents without an `_id`, most of them with the field `x`."""
