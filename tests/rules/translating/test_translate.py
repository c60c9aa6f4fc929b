"""Which rules are translated, which are left to Python, and why."""

from __future__ import annotations

import enum
import linecache
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

import pytest
from pymongo.database import Database

from lazymig.query.operators import parse
from lazymig.rules.rule import Rule, RuleHandler, evaluate
from lazymig.rules.translating.text import SPACE
from lazymig.rules.translating.translate import translate
from lazymig.rules.translation import LeftToPython, Translation
from lazymig.updates.convergence import ends_match
from tests.rules.translating.cases import CASES
from tests.rules.translating.rules import TARGET, rule_of, setting, translation_of

Raw = dict[str, Any]

NO_EQUAL = "calls {}, for which the server has no equal"
FACTOR = 100
PAIRS = (("a", 1), ("b", 2))
_STATES = {1: "new", 2: {"name": "sent", "tags": ["a"]}}
NAMES = ["a", "b"]
KINDS = {"a", 1}
rate = 100
rates = {"a": 1}
EMPTY: Raw = {}


class Prices:
    CENTS = 5
    cents = 5


class Color(enum.Enum):
    RED = "red"


def cents(amount):
    """A hundredth of a unit."""
    return round(amount * FACTOR)


def cleaned(text):
    """Without spaces, in lower case."""
    if not text:
        return "none"
    text = text.strip()
    return text.lower()


# What the ordinary idioms of a rule come to; the reason where they are left.
IDIOMS: list[tuple[str, str | None]] = [
    ('d["x"].lower()', None),
    ('d["x"].split(",")', None),
    ('d["x"] * 2', None),
    ('int(d["x"])', None),
    ('float(d["x"])', None),
    ('str(d["x"])', None),
    ('round(d["x"] * 100)', None),
    ("f\"{d['x']}!\"", None),
    ('"%s!" % d["x"]', None),
    ('"a" + d["x"]', None),
    ('len(d["x"])', None),
    ('datetime.fromisoformat(d["x"])', None),
    (
        'datetime.strptime(d["x"], "%Y")',
        NO_EQUAL.format("datetime.strptime"),
    ),
    (
        'datetime.fromtimestamp(d["x"])',
        NO_EQUAL.format("datetime.fromtimestamp"),
    ),
    ('[i for i in d["x"]]', None),
    ('sorted(d["x"])', NO_EQUAL.format("sorted")),
    ('list(d["x"])', None),
    ('{**d["x"], "a": 1}', None),
    ('dict(d["x"])', None),
    ('ObjectId(d["x"])', None),
    ('{"a": d["x"]["b"]}', None),
    ('{1: "new"}[d["x"]]', None),
    ('{1: "new"}.get(d["x"], "old")', None),
    ('d["x"] if isinstance(d["x"], str) else ""', None),
    ('d.get("x") or 0', None),
    ('d["x"].strip().title()', None),
    ('",".join(d["x"])', None),
    ('sum(d["x"])', None),
    ('d["x"][0]', None),
    ('d["x"] is None', None),
    ('bool(d["x"])', None),
    ('Decimal(d["x"])', NO_EQUAL.format("Decimal")),
]


@pytest.mark.parametrize(("expression", "reason"), IDIOMS)
def test_the_ordinary_idioms(expression: str, reason: str | None) -> None:
    """Of the ordinary idioms of rules, those are translated that have an exact equal."""
    found = translation_of(rule_of(setting(expression)))
    assert (found.reason if isinstance(found, LeftToPython) else None) == reason


CHANGES = ", which may change; write it in capitals if it never does"
OUTSIDE: Raw = {
    "rate": rate,
    "rates": rates,
    "Prices": Prices,
    "EMPTY": EMPTY,
    "ODD": {"a": object()},
    "TABLE": {"a": {"b": 1}, "l": []},
}

LEFT: list[tuple[str, str, str]] = [
    ("self.update = {'$set': {'y': datetime.now()}}", "datetime.now()", "calls datetime.now, f"),
    ("self.update = {'$set': {'y': d}}", "", "takes the document as a whole"),
    ("self.update = {'$inc': {'y': d['x']}}", "", "updates with $inc"),
    ("self.update = [{'$set': {'y': 1}}]", "", "sets an update whose form is computed"),
    ("while d['x']: pass", "while d['x']:", "loops with while"),
    ("try:\n    y = d['x']\nexcept KeyError:\n    y = 1", "try:", "catches exceptions"),
    ("self.update = {'$set': {d['x']: 1}}", "d['x']", "makes a dict with a key that is computed"),
    ("self.update = {'$set': {'y': self.collection.name}}", "", "asks for the collection"),
    ("self.update = {'$set': {'y': [d['x'], rate]}}", "rate", f"reads rate{CHANGES}"),
    ("self.update = {'$set': {'y': rates[d['x']]}}", "rates", f"reads rates{CHANGES}"),
    ("self.update = {'$set': {'y': 'a' in rates}}", "rates", f"reads rates{CHANGES}"),
    ("self.update = {'$set': {'y': Prices.cents}}", "Prices.cents", f"reads Prices.cents{CHANGES}"),
    ("self.update = {'$set': {'y': d['x'] in EMPTY}}", "EMPTY", "reads EMPTY, which is empty when"),
    ("self.update = {'$set': {'y': ODD['a']}}", "ODD", "reads ODD, which holds a object"),
    ("from math import pi\nself.update = {'$set': {'y': pi}}", "", f"reads pi{CHANGES}"),
    ("self.update = {'$set': {'y.0': d['x']}}", "", "writes the path 'y.0', which"),
    ("self.update = {'$set': {'y': d['x'] < 'a'}}", "", "compares other things than numbers"),
    ("self.update = {'$set': {'y': {'$a': d['x']}}}", "", "makes a document with the key '$a'"),
    ("self.update = {'$set': {'y': d['x'].pop()}}", "", "changes what is not its own"),
    ("self.update = {'$set': {'y': lambda x: 1}}", "lambda x: 1", "has a lambda, which"),
    ("if d['x']:\n    return", "", "sets no update"),
    ("print(d['x'])", "", NO_EQUAL.format("print")),
    ("self.target = {'y': d['x']}", "self.target", "sets its target after it has read"),
    ("self.update = {'$set': {'y': 1}}\nself.array_filters = [{}]", "", "sets array filters"),
]


@pytest.mark.parametrize(("body", "expression", "reason"), LEFT)
def test_what_is_left_says_why(body: str, expression: str, reason: str) -> None:
    """A rule that is left names the first expression without an equal, its line and the reason."""
    found = translation_of(rule_of(body, **OUTSIDE))
    assert isinstance(found, LeftToPython)
    assert found.reason.startswith(reason.strip())
    assert found.line is not None
    assert not expression or found.expression == expression


HELPED: list[tuple[Callable[[Any], None], Raw, Any]] = []


def helped(document: Raw, expected: Any) -> Callable[[Callable[[Any], None]], None]:
    """A rule, a document and what it makes of it."""
    return lambda rule: HELPED.append((rule, document, expected))


class Handler(RuleHandler):
    UNIT = "EUR"
    unit = "EUR"
    LEVELS: ClassVar = {"a": 1}

    def doubled(self, value):
        return value * 2

    @staticmethod
    def quoted(text, mark="'"):
        return mark + text + mark


def _rules_with_helpers(SUFFIX: str = "!") -> None:  # noqa: N803
    @helped({"x": 19.99}, 1999)
    def of_the_module(self):
        self.target = TARGET
        self.update = {"$set": {"y": cents(self.doc["x"])}}

    @helped({"x": " A "}, "a")
    def of_statements(self):
        self.target = TARGET
        self.update = {"$set": {"y": cleaned(self.doc["x"])}}

    @helped({"x": 2}, [4, "EUR"])
    def of_the_handler(self):
        self.target = TARGET
        self.update = {"$set": {"y": [self.doubled(self.doc["x"]), self.unit]}}

    @helped({"x": "a"}, "\"a\"'a'")
    def of_no_handler(self):
        self.target = TARGET
        x = self.doc["x"]
        self.update = {"$set": {"y": self.quoted(x, mark='"') + self.quoted(x)}}

    @helped({"x": "a"}, ["a!", "red"])
    def of_constants_around_it(self):
        self.target = TARGET
        self.update = {"$set": {"y": [self.doc["x"] + SUFFIX, Color.RED.value]}}

    @helped({"x": {"a": 5}}, {"a": 5, "b": 2})
    def of_rows(self):
        self.target = TARGET
        self.update = {"$set": {"y": {name: self.doc["x"].get(name, n) for name, n in PAIRS}}}

    @helped({"x": 2, "z": "a"}, [{"name": "sent", "tags": ["a"]}, "none", True, True, 1, 5])
    def of_tables(self):
        self.target = TARGET
        x, z = self.doc["x"], self.doc["z"]
        found = [_STATES[x], _STATES.get(z, "none"), x in _STATES, z in KINDS]
        self.update = {"$set": {"y": [*found, self.LEVELS[z], Prices.CENTS]}}

    @helped({"x": {"a": 5}}, {"a": 5, "b": 0})
    def of_lists(self):
        self.target = TARGET
        self.update = {"$set": {"y": {name: self.doc["x"].get(name, 0) for name in NAMES}}}


_rules_with_helpers()


@pytest.mark.parametrize(("method", "document", "expected"), HELPED, ids=lambda one: str(one)[:40])
def test_helpers_and_constants_are_followed(
    database: Database[Raw], method: Callable[[Any], None], document: Raw, expected: Any
) -> None:
    """Plain functions and constants that a rule uses are translated with it."""
    rule = Rule("migration01__x", 1, "lazy", method)
    found = translation_of(rule, handler_class=Handler)
    assert isinstance(found, Translation), found
    database["c"].insert_one(document)
    query = {"$expr": True if found.guard is None else found.guard}
    assert database["c"].update_one(query, found.update).matched_count == 1
    stored = database["c"].find_one()
    assert stored is not None
    assert stored["y"] == expected
    assert evaluate(rule, Handler, object, document=document).update["$set"]["y"] == expected


ALIASES = [
    "a = {}; b = a; b['k'] = 1; self.update = {'$set': {'y': a}}",
    "a = {'s': {}}; b = a['s']; b['k'] = 1; self.update = {'$set': {'y': a}}",
    "a = {'s': {}}; b = dict(a); b['s']['k'] = 1; self.update = {'$set': {'y': a}}",
    "a = {'s': {}}; b = {**a}; b['s']['k'] = 1; self.update = {'$set': {'y': a}}",
    "a = {'s': {}}; b = a.get('s'); b['k'] = 1; self.update = {'$set': {'y': a}}",
    "a = []; b = [a]; a.append(1); self.update = {'$set': {'y': b}}",
    "a = {}\nfor b in [a]:\n    b['k'] = 1\nself.update = {'$set': {'y': a}}",
    "a = [{}]\nfor b in a:\n    b['k'] = 1\nself.update = {'$set': {'y': a}}",
    "a = dict(d['x'])\nb = [a]\na['k'] = 1\nself.update = {'$set': {'y': b}}",
    "d['x']['k'] = 1\nself.update = {'$set': {'y': d['x']}}",
    "a = d['x']\na['k'] = 1\nself.update = {'$set': {'y': d['x']}}",
    "a = d['x']\nb = a\nfor i in a:\n    i['k'] = 1\nself.update = {'$set': {'y': b}}",
    "a = d['x']\nb = a[0]\nfor i in a:\n    i['k'] = 1\nself.update = {'$set': {'y': b}}",
    "a = d['x']\nb = d['x']\nfor i in a:\n    i['k'] = 1\nself.update = {'$set': {'y': b}}",
    "a = d['x']\nfor i in a:\n    i['k'] = 1\nself.update = {'$set': {'y': d['x']}}",
    "a = {'k': 1}\nb = a.pop('k') if d['x'] else 2\nself.update = {'$set': {'y': a}}",
    "a = {}\na, b = a, a\nb['k'] = 1\nself.update = {'$set': {'y': a}}",
    "a = b = {}; b['k'] = 1; self.update = {'$set': {'y': a}}",
    "self.update = {'$set': {'y': 1}}; u = self.update; u['$set']['z'] = d['x']",
    "a = {'k': 1}\nfor i in d['x']:\n    a.pop('k', 0)\nself.update = {'$set': {'y': a}}",
    "a = {'k': 1}\nfor i in d['x']:\n    a['k'] = i\nself.update = {'$set': {'y': a}}",
    "a = 1\nfor i in d['x']:\n    a += i\nself.update = {'$set': {'y': a}}",
    "a = 1\nfor i in d['x']:\n    a = i\nself.update = {'$set': {'y': a}}",
    "a = []\nfor i in d['x']:\n    a.append(len(a))\nself.update = {'$set': {'y': a}}",
    "a = {}\ndef f(): pass\nself.update = {'$set': {'y': a}}",
    "a = TABLE; a['k'] = d['x']; self.update = {'$set': {'y': a}}",
    "a = dict(TABLE); a['a']['k'] = d['x']; self.update = {'$set': {'y': a}}",
    "a = TABLE['a']; a['k'] = d['x']; self.update = {'$set': {'y': a}}",
    "TABLE['k'] = d['x']; self.update = {'$set': {'y': TABLE}}",
    "a = TABLE['l']; a.append(d['x']); self.update = {'$set': {'y': a}}",
    "a = TABLE.get('l'); a.append(d['x']); self.update = {'$set': {'y': a}}",
    "TABLE.pop('a'); self.update = {'$set': {'y': d['x']}}",
    "for i in TABLE.values():\n    i['k'] = 1\nself.update = {'$set': {'y': d['x']}}",
]


@pytest.mark.parametrize("body", ALIASES)
def test_what_has_two_names_is_left(body: str) -> None:
    """A container that is changed under one of its names is none that is translated."""
    assert isinstance(translation_of(rule_of(body, **OUTSIDE)), LeftToPython)


def test_a_table_is_the_one_of_the_definition(database: Database[Raw]) -> None:
    """What a table comes to hold later changes no translation."""
    table = {"a": {"n": [1]}}
    found = translation_of(rule_of(setting('TABLE[d["x"]]'), TABLE=table))
    assert isinstance(found, Translation), found
    table["a"]["n"].append(2)
    database["c"].insert_one({"x": "a"})
    assert database["c"].update_one({"$expr": found.guard}, found.update).matched_count == 1
    assert database["c"].find_one({}, {"_id": 0}) == {"y": {"n": [1]}}


def test_white_space_is_that_of_python() -> None:
    """What is stripped is what Python strips."""
    assert "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1)))) == SPACE


def test_a_move_needs_no_guard() -> None:
    """A rule that moves and nests what its target asks for is one update for all documents."""
    rule = rule_of(setting('{"a": d["x"], "b": [d["x"]]}'))
    assert translation_of(rule) == Translation(
        [{"$set": {"y": {"$mergeObjects": [{"a": "$x", "b": ["$x"]}]}}}, {"$unset": ["x"]}]
    )


RETYPED = [
    ('int(d["x"])', {"x": {"$type": "string"}}),
    ('float(d["x"])', {"x": {"$type": "int"}}),
    ('str(d["x"])', {"x": {"$type": "int"}}),
    ('{"a": d["x"]}', {"x": {"$type": "string"}}),
    ('round(d["x"] * 100)', {"x": {"$type": "double"}}),
    ('datetime.fromisoformat(d["x"])', {"x": {"$type": "string"}}),
    ('ObjectId(d["x"])', {"x": {"$type": "string"}}),
    ('d["x"] == "yes"', {"x": {"$type": "string"}}),
]


@pytest.mark.parametrize(("expression", "target"), RETYPED)
def test_the_update_ends_the_match(expression: str, target: Raw) -> None:
    """What a retyping leaves is seen to match its target no more."""
    rule = rule_of(f'self.update = {{"$set": {{"x": {expression}}}}}', target)
    found = translation_of(rule, target)
    assert isinstance(found, Translation), found
    assert ends_match(parse(target), found.update)


def test_a_handler_of_its_own_kind_is_left() -> None:
    """A handler that gives another document than the stored one is not read."""

    class Odd(RuleHandler):
        @property
        def doc(self):
            return {}

    found = translation_of(rule_of(setting('d["x"]')), handler_class=Odd)
    assert isinstance(found, LeftToPython)
    assert found.reason == "has a handler with a doc of its own"


def test_a_method_without_source_is_left() -> None:
    """A rule whose source is not there is computed in Python."""
    scope: Raw = {}
    exec("def rule(self):\n    self.update = {'$set': {'y': self.doc['x']}}\n", scope)
    rule = Rule("migration01__x", 1, "lazy", scope["rule"])
    found = translate(rule, RuleHandler, object, TARGET, parse(TARGET))
    assert isinstance(found, LeftToPython)
    assert "cannot be read" in found.reason


@pytest.mark.parametrize(
    "stored", ["d['x'] * 3", "d['x'] * 2.0", "d['x'] * True", "2 * d['x']", "d['x'] + 2"]
)
def test_a_source_that_has_changed_is_not_translated(stored: str) -> None:
    """What runs is what was compiled, whatever has become of the file since."""
    rule = rule_of(setting("d['x'] * 2"))
    assert isinstance(rule.method, FunctionType)
    assert isinstance(translation_of(rule), Translation)

    file = rule.method.__code__.co_filename
    size, time, lines, name = linecache.cache[file]
    changed = [line.replace("d['x'] * 2", stored) for line in lines]
    linecache.cache[file] = (size, time, changed, name)

    found = translation_of(rule)
    assert isinstance(found, LeftToPython)
    assert found.reason == "needs the source of rule, whose file has another today"


def test_a_default_collation_changes_nothing(database: Database[Raw]) -> None:
    """What a rule compares is compared by characters, whatever the collection's collation is."""
    collation = {"locale": "en", "strength": 1, "alternate": "shifted", "numericOrdering": True}
    texts = ["a", "A", "á", "B", "", "\x00", "-", " ", "a-", "new", "NEW", "01", "1", "2020-01-31"]
    drawn = [{"x": one} for one in [*texts, texts, dict.fromkeys("aAb", "A"), 1, None]]
    collection = database.create_collection("c", collation=collation)
    for case in CASES:
        if case.target is not TARGET:
            continue
        rule, found = case.rule(), translation_of(case.rule())
        assert isinstance(found, Translation)
        collection.delete_many({})
        stored = [{"_id": number, **one} for number, one in enumerate(drawn)]
        collection.insert_many(stored)
        query = {} if found.guard is None else {"$expr": found.guard}
        guarded = {one["_id"] for one in collection.find(query, {"_id": 1})}
        collection.update_many(query, found.update)
        left = {one["_id"]: one for one in collection.find()}
        for one in stored:
            if one["_id"] in guarded:
                database["python"].replace_one({"_id": one["_id"]}, one, upsert=True)
                update = evaluate(rule, RuleHandler, object, document=one).update
                database["python"].update_one({"_id": one["_id"]}, update)
                assert left[one["_id"]] == database["python"].find_one({"_id": one["_id"]}), case


@pytest.mark.parametrize("last", ["a", "é"])
def test_a_long_text_raises_nothing(database: Database[Raw], last: str) -> None:
    """The guard of a text of many megabytes is true or false, and no error."""
    found = translation_of(rule_of(setting('d["x"].lower()')))
    assert isinstance(found, Translation)
    database["c"].insert_one({"x": "A" * 14_000_000 + last})
    assert database["c"].count_documents({"$expr": found.guard}) == (last == "a")
