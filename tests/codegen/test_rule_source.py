"""Rules as source code, giving back the values it was made of."""

from __future__ import annotations

import importlib.util
import itertools
import math
import re
import subprocess
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from textwrap import dedent
from typing import Any

import bson
import pytest
from bson import (
    SON,
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lazymig import DocumentMigration, UnfinishedRuleWarning
from lazymig.codegen.rule_source import RuleSource, source_of_proposal
from lazymig.errors import RuleDefinitionError
from lazymig.odm.plans import plan_for
from lazymig.raw.encoding import ANY_UUID
from lazymig.reports.drift.proposals import RuleProposal
from lazymig.rules.discovery import discover
from lazymig.rules.unfinished import is_unfinished
from tests.support.handlers import model
from tests.support.programs import find_ruff

RUFF = find_ruff()
needs_ruff = pytest.mark.skipif(RUFF is None, reason="ruff is not installed")

# One file name for each module that is imported, whatever hypothesis repeats.
_NUMBERS = itertools.count()

TEXTS = st.one_of(
    st.text(max_size=30),
    st.text("ab '\"\\\n", max_size=150),
    st.text("漢a é\u0301\u200b", max_size=90),
)
KEYS = st.one_of(st.text("abc.$", min_size=1, max_size=40), st.text(min_size=1, max_size=5))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(-(2**63), 2**63 - 1).map(Int64),
    st.floats(allow_nan=False),
    TEXTS,
    st.binary(max_size=90),
    st.builds(Binary, st.binary(max_size=90), st.integers(0, 8)),
    st.uuids(),
    st.binary(min_size=12, max_size=12).map(ObjectId),
    st.datetimes().map(lambda value: value.replace(fold=0)),
    st.datetimes(timezones=st.just(timezone(timedelta(hours=5, minutes=30)))),
    st.binary(min_size=16, max_size=16).map(Decimal128.from_bid),
    st.sampled_from(["0", "-1.50", "NaN", "-Infinity", "1E+6000"]).map(Decimal128),
    st.builds(Timestamp, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
    st.sampled_from([MinKey(), MaxKey()]),
    st.builds(Regex, TEXTS, st.sampled_from(["", "i", "imsx"])),
    st.sampled_from(
        [
            re.compile(r"^\d+$", re.IGNORECASE),
            re.compile("a'\"b", re.MULTILINE | re.DOTALL),
            re.compile(rb"\w \"", re.VERBOSE | re.DOTALL),
            re.compile("(?i)a", re.ASCII),
        ]
    ),
    st.builds(Code, TEXTS),
    st.integers(-(2**62), 2**62).map(DatetimeMS),
)


def _nested(inner: Any) -> Any:
    return st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(KEYS, inner, max_size=5),
        st.builds(Code, TEXTS, st.dictionaries(KEYS, inner, max_size=2)),
        st.builds(DBRef, KEYS, inner, st.none() | KEYS),
        st.builds(DBRef, KEYS, inner, extra=inner),
    )


VALUES = st.recursive(SCALARS, _nested, max_leaves=20)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=5)

slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _identity(value: Any) -> Any:
    """What tells a value from all others: its type, and that of each value in it."""
    if isinstance(value, Mapping):
        return [(key, _identity(each)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [_identity(each) for each in value]
    if isinstance(value, float):
        return float, math.copysign(1, value), repr(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return datetime, value.astimezone(timezone.utc).isoformat()
    if isinstance(value, Code):
        return Code, str.__str__(value), _identity(value.scope)
    if isinstance(value, DBRef):
        return DBRef, _identity(value.as_doc())
    if isinstance(value, Decimal128):
        return Decimal128, value.bid
    if isinstance(value, Binary):
        return Binary, bytes(value), value.subtype
    if isinstance(value, re.Pattern):
        return re.Pattern, value.pattern, value.flags
    if isinstance(value, Regex):
        return Regex, value.pattern, value.flags
    return type(value), repr(value)


def _module(rule: RuleSource) -> str:
    return (
        f"from lazymig import DocumentMigration\n\n\nclass Rules(DocumentMigration):\n{rule.source}"
    )


def _imported(folder: Path, text: str) -> Any:
    name = f"rules_{next(_NUMBERS)}"
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _set_by(folder: Path, rule: RuleSource) -> Any:
    """The handler after its rule was imported from a file and run."""
    handler = _imported(folder, _module(rule)).Rules(object)
    getattr(handler, rule.name)()
    return handler


def _ruff(*arguments: str, text: str) -> subprocess.CompletedProcess[str]:
    assert RUFF is not None
    return subprocess.run(
        [RUFF, *arguments, "--isolated", "--line-length", "100", "--stdin-filename", "x.py", "-"],
        input=text,
        encoding="utf-8",
        capture_output=True,
        check=False,
    )


@slow
@given(DOCUMENTS, VALUES, st.lists(DOCUMENTS, max_size=2))
@example({"a": ["x" * 300, b"\xff" * 90]}, Code("y " * 90, {"z": 1}), [])
@example(
    {"k" * 95: "", "l" * 95: b""}, [DBRef("c", b"", extra="x" * 90), Code("", {"a": "b" * 90})], []
)
def test_the_source_gives_back_the_values(
    tmp_path_factory: pytest.TempPathFactory, target: Any, value: Any, filters: Any
) -> None:
    """A module made of the source and its imports sets the values, type by type, in order."""
    update = {"$set": {"field": value}}
    rule = RuleSource(1, "set field", target=target, update=update, array_filters=filters)
    handler = _set_by(tmp_path_factory.getbasetemp(), rule)
    assert _identity(handler.target) == _identity(target)
    assert _identity(handler.update) == _identity(update)
    assert _identity(handler.array_filters) == _identity(filters)


def test_a_decimal_that_has_no_text_is_written_by_its_bytes(tmp_path: Path) -> None:
    """PyMongo 4.9 fails to print a significand of more than 34 digits."""
    value = Decimal128.from_bid(b"\xff" * 14 + b"\xed\x31")
    handler = _set_by(tmp_path, RuleSource(1, "set field", target={"a": value}, update={}))
    assert handler.target["a"].bid == value.bid


@slow
@given(DOCUMENTS, VALUES)
def test_the_values_are_the_same_to_mongodb(
    tmp_path_factory: pytest.TempPathFactory, target: Any, value: Any
) -> None:
    """What the source sets is encoded to the same BSON."""
    update = [{"$set": {"field": value}}]
    handler = _set_by(
        tmp_path_factory.getbasetemp(), RuleSource(1, "field", target=target, update=update)
    )
    try:
        expected = bson.encode({"t": target, "u": update}, codec_options=ANY_UUID)
    except (bson.errors.BSONError, ValueError, OverflowError):
        # Keys and patterns with a null character, for example.
        return
    assert (
        bson.encode({"t": handler.target, "u": handler.update}, codec_options=ANY_UUID) == expected
    )


def test_long_values_are_broken_at_their_brackets() -> None:
    """A value that does not fit in a line has a line for each item; what fits stays in one."""
    update = {"$set": {"a" * 40: {"b" * 40: ["c" * 10]}, "d": ObjectId(b"0" * 12)}}
    rule = RuleSource(1, "x", target={"e": {"f": {"$in": ["g" * 72]}}}, update=update)
    assert dedent(rule.source) == dedent(f"""\
        def migration01__x(self) -> None:
            from bson import ObjectId

            self.target = {{
                "e": {{
                    "f": {{
                        "$in": [
                            "{"g" * 72}",
                        ],
                    }},
                }},
            }}
            self.update = {{
                "$set": {{
                    "{"a" * 40}": {{
                        "{"b" * 40}": ["{"c" * 10}"],
                    }},
                    "d": ObjectId("303030303030303030303030"),
                }},
            }}
        """)


@pytest.mark.parametrize(
    ("value", "source"),
    [
        ("it's", '"it\'s"'),
        ('say "a"', "'say \"a\"'"),
        ("'\"", "'\\'\"'"),
        ("a\nb\x00\u200b", '"a\\nb\\x00\\u200b"'),
        ("é漢", '"é漢"'),
        (1e16, "1e+16"),
        (float("inf"), 'float("inf")'),
        (-0.0, "-0.0"),
        (datetime(2020, 1, 2), "datetime(2020, 1, 2, 0, 0)"),
        (datetime(2020, 1, 2, 3), "datetime(2020, 1, 2, 3, 0)"),
        (datetime(2020, 1, 2, 0, 0, 5), "datetime(2020, 1, 2, 0, 0, 5)"),
        (
            datetime(2020, 1, 2, tzinfo=timezone(timedelta(hours=-1))),
            "datetime(2020, 1, 2, 1, 0, tzinfo=timezone.utc)",
        ),
        (Regex("\\d\\"), 'Regex("\\\\d\\\\")'),
        (Regex('\\d"'), "Regex('\\\\d\"')"),
        (Regex(r"^\d", "im"), 'Regex(r"^\\d", "im")'),
        (re.compile("a", re.IGNORECASE), 're.compile("a", re.IGNORECASE)'),
        (Binary(b"a", 5), 'Binary(b"a", 5)'),
        (b"a", 'b"a"'),
        (Int64(1), "Int64(1)"),
        (Decimal128("1.50"), 'Decimal128("1.50")'),
        (uuid.UUID(int=1), 'UUID("00000000-0000-0000-0000-000000000001")'),
        (Timestamp(1, 2), "Timestamp(1, 2)"),
        (MinKey(), "MinKey()"),
        (DatetimeMS(5), "DatetimeMS(5)"),
        (DBRef("c", 1, "d", e=2), 'DBRef("c", 1, "d", {"e": 2})'),
        (Code("f", {"a": 1}), 'Code("f", {"a": 1})'),
        (SON([("b", 1), ("a", (1, 2))]), '{"b": 1, "a": [1, 2]}'),
    ],
)
def test_values_read_as_an_engineer_writes_them(value: Any, source: str) -> None:
    """Each type has its plain literal."""
    rule = RuleSource(1, "x", target={}, update={"$set": {"x": value}})
    assert f'        self.update = {{"$set": {{"x": {source}}}}}\n' in rule.source


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (object(), "at '\\$set.a.0' a object"),
        ({1, 2}, "at '\\$set.a.0' a set"),
        ({1: 2}, "at '\\$set.a.0' a int"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), "a datetime"),
    ],
)
def test_what_cannot_be_written_is_refused(value: Any, problem: str) -> None:
    """A value that source cannot say is an error that names the rule and the place."""
    with pytest.raises(RuleDefinitionError, match=rf"migration01__x: self\.update has.*{problem}"):
        RuleSource(1, "x", target={}, update={"$set": {"a": [value]}})


def test_a_rule_imports_what_it_needs() -> None:
    """The method begins with what its source uses, each once, sorted by module."""
    rule = RuleSource(
        1,
        "x",
        target={"a": ObjectId(), "b": ObjectId(), "c": uuid.uuid4()},
        update={"$set": {"d": Int64(1), "e": datetime.now(tz=timezone.utc), "f": re.compile("a")}},
    )
    assert rule.source.splitlines()[1:6] == [
        "        from bson import Int64, ObjectId",
        "        from datetime import datetime, timezone",
        "        import re",
        "        from uuid import UUID",
        "",
    ]
    assert "import" not in RuleSource(1, "x", target={}, update={"$set": {"a": 1}}).source


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"number": 3, "words": "add enabled"}, "migration03__add_enabled"),
        ({"number": 12, "words": "Rename 'a.b' to c!"}, "migration12__Rename_a_b_to_c"),
        ({"number": 7, "words": "x", "digits": 3}, "migration007__x"),
        ({"number": 7, "words": "x", "digits": 1}, "migration7__x"),
        ({"number": 100, "words": "x"}, "migration100__x"),
        ({"number": 1, "words": "x", "scope": "bulk"}, "allmigration01__x"),
        ({"number": 1, "words": "ﬁx größe"}, "migration01__fix_größe"),
    ],
)
def test_names_are_made_of_words(given: dict[str, Any], name: str) -> None:
    """Number, scope and words give a name that Python and lazymig take for a rule's."""
    rule = RuleSource(target={}, update={}, **given)
    assert rule.name == name
    assert f"    def {name}(self) -> None:\n" in rule.source


@pytest.mark.parametrize("words", ["", "  ", "__", "?!"])
def test_words_that_are_none_are_refused(words: str) -> None:
    """A name without words is an error."""
    with pytest.raises(RuleDefinitionError, match="say in words"):
        RuleSource(1, words)


@pytest.mark.parametrize("scope", ["lazy", "bulk"])
@pytest.mark.parametrize(
    "given",
    [
        {},
        {"target": {"a": 1}},
        {"update": {"$set": {"a": 1}}},
        {"reads_document": True},
        {"target": {"a": {"$exists": False}}, "update": {"$set": {"a": 1}}, "held": True},
    ],
)
def test_an_unfinished_rule_is_never_applied(tmp_path: Path, scope: Any, given: Any) -> None:
    """A skeleton, or a rule that is held, is valid Python and no rule, and the model says so.

    Without its line TODO, one that was held is a rule.
    """
    rule = RuleSource(1, "change", scope=scope, **given)
    rules = _imported(tmp_path, _module(rule)).Rules
    assert issubclass(rules, DocumentMigration)
    told = rf"Post\.{rule.name}: it is no rule yet; finish it, and delete its line TODO \(.*:\d+\)"
    with pytest.warns(UnfinishedRuleWarning, match=told):
        post = model(rules)
    plan = plan_for(rules, post)
    assert (plan.lazy, plan.bulk) == ((), ())
    text = rule.source
    assert "delete the last line" in " ".join(text.split()) or "delete this line" in text
    *finished, last = text.splitlines()
    assert last.strip().startswith('raise NotImplementedError("TODO: ')
    module = _module(rule).replace(f"{text}", "\n".join([*finished, ""]))
    if given.get("held"):
        assert not is_unfinished(discover(_imported(tmp_path, module).Rules)[0])


@needs_ruff
@pytest.mark.parametrize("given", [{}, {"target": {"a": 1}}, {"reads_document": True}])
def test_a_skeleton_passes_ruff(given: Any) -> None:
    """`ruff` has nothing to say of a skeleton."""
    rule = RuleSource(1, "change", **given)
    text = f"class Rules:\n{rule.source}"
    result = _ruff("check", "--select", "E,F,W,B,PIE,ERA,RET", "--no-cache", text=text)
    assert result.stdout == "All checks passed!\n"


@slow
@given(st.text(max_size=200))
@example("a\n    def migration02__evil(self): pass")
@example("a\r    import os\x0c\x85\u2028b")
@example("fmt: off")
@example("noqa")
@example("type: ignore")
@example("ruff: noqa")
def test_a_comment_is_nothing_but_a_comment(comment: str) -> None:
    """Whatever a comment says, it adds comment lines alone, and none that orders a tool about."""
    plain = RuleSource(1, "x", target={}, update={"$set": {"a": 1}}).source
    told = RuleSource(1, "x", target={}, update={"$set": {"a": 1}}, comments=[comment]).source
    above = told.removesuffix(plain)
    assert len(above) == len(told) - len(plain)
    for line in above.split("\n")[:-1]:
        assert re.match(r"    #( |$)", line)
        assert line.isprintable()
        assert not re.match(r"    # ((fmt|type|ruff|mypy) ?:|noqa\b)", line)


def test_paragraphs_of_a_comment_stay_apart() -> None:
    """Each paragraph begins in a new line, and long ones are wrapped between words."""
    rule = RuleSource(
        1, "x", target={}, update={"$set": {"a": 1}}, comments=["one", "two " * 30, "three\nfour"]
    )
    comments = [line for line in rule.source.splitlines() if line.startswith("    #")]
    assert comments[0] == "    # one"
    assert comments[1].endswith("# " + "two " * 19 + "two")
    assert comments[-2:] == ["    # three", "    # four"]


def test_characters_that_a_file_lacks_are_escaped() -> None:
    """In a file that is not in Unicode, source is ASCII and gives the same values."""
    rule = RuleSource(
        1, "x", target={"é": "漢"}, update={"$set": {"a": "\U0001f600"}}, comments=["ß"]
    )
    text = "\n".join(rule.lines("    ", "    ", ascii_only=True))
    assert text.isascii()
    assert '{"\\xe9": "\\u6f22"}' in text
    assert '"\\U0001f600"' in text
    assert "# \\xdf" in text


@pytest.mark.parametrize("asks", [True, False])
def test_a_proposal_becomes_a_rule(tmp_path: Path, asks: bool) -> None:
    """Name, values and comments are the proposal's; it is held only if it asks something."""
    proposal = RuleProposal(
        words="correct_items",
        scope="bulk",
        target={"items.kind": "a"},
        update={"$set": {"items.$[item].kind": "b"}},
        array_filters=({"item.kind": "a"},),
        comments=("Is it b?",),
        asks=asks,
    )
    rule = source_of_proposal(proposal, 4)
    assert rule.name == proposal.name(4)
    assert "    # Is it b?\n    def allmigration04__correct_items(self)" in rule.source
    handler = _set_by(tmp_path, rule)
    assert handler.target == proposal.target
    assert handler.update == proposal.update
    assert handler.array_filters == [{"item.kind": "a"}]
    assert ("raise" in source_of_proposal(proposal, 4, held=True).source) is asks
    assert source_of_proposal(proposal, 4, digits=3).name == "allmigration004__correct_items"
