"""The paths of computed rules, as their source tells them; or their author; or nobody."""

from __future__ import annotations

import collections
import copy
import dataclasses
import enum
import functools
import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lazymig.errors import RuleDefinitionError, UpdateQueryError
from lazymig.rules.binding import bind
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.declared import is_read_within, within
from lazymig.rules.discovery import discover
from lazymig.rules.once import once
from lazymig.rules.rule import Rule, RuleHandler, evaluate
from lazymig.rules.tracing.paths import trace
from lazymig.updates.update import check_update, written_paths
from tests.rules.tracing import rule_sources

OLD = "old_name"
NAMES = {"p": "a", "q": "b"}
PAIRS = (("m", "mail"), ("n", "name"))
UPDATE = {"$set": {"g": 1}}


EXPECTED: dict[str, tuple[Any, set[str], set[str]]] = {}


def tells(writes: set[str], reads: set[str]) -> Callable[[Any], Any]:
    """Mark a method with the paths that it writes, and the fields that it reads."""

    def mark(method: Any) -> Any:
        EXPECTED[method.__name__] = method, writes, reads
        return method

    return mark


class Post:
    """Stands for a model."""


class Move(NamedTuple):
    """From one field to another."""

    old: str
    new: str


class Field(str, enum.Enum):
    """Names of fields."""

    FIRST = "first"
    SECOND = "second"


@dataclasses.dataclass
class Spec:
    """From one field to another."""

    old: str
    new: str = "fresh"


class Builder:
    """An update in the making."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def set(self, path: str, value: Any) -> Builder:
        """Take one more field."""
        self.fields[path] = value
        return self

    def build(self) -> dict[str, Any]:
        """The update."""
        return {"$set": self.fields, "$unset": dict.fromkeys(["gone"], "")}


def made(**fields: Any) -> dict[str, Any]:
    """An update by names."""
    return {"$set": fields}


def unsetting(*names: str) -> Callable[[Any], Any]:
    """A decorator that takes fields away beside what a rule does."""

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def wrapper(self: Any) -> None:
            method(self)
            self.update.setdefault("$unset", {}).update(dict.fromkeys(names, ""))

        return wrapper

    return decorate


class Base(RuleHandler):
    """Rules that others inherit."""

    KEPT = ("k", "l")

    def start(self) -> None:
        """What subclasses go on with."""
        self.update = {"$set": {"base": len(self.doc["below"])}}

    @staticmethod
    def plain(value: Any) -> dict[str, Any]:
        """A field."""
        return {"plain": value}

    @classmethod
    def of_class(cls, value: Any) -> dict[str, Any]:
        """Two fields."""
        return dict.fromkeys(cls.KEPT, value)

    @property
    def shown(self) -> dict[str, Any]:
        """A field that is computed from another."""
        return {"shown": len(self.doc["seen"])}


class Idioms(Base):
    """One method for each way to say an update."""

    @tells({"items"}, {"items"})
    def comprehension(self) -> None:
        self.update = {"$set": {"items": [{"c": round(i["p"])} for i in self.doc["items"]]}}

    @tells({"m", "n", "mail", "name"}, {"m", "n"})
    def names_and_branches(self) -> None:
        doc = self.doc
        update: dict[str, Any] = {}
        for old, new in PAIRS:
            if old in doc:
                update.setdefault("$set", {})[new] = str(doc[old])
                update.setdefault("$unset", {})[old] = ""
        self.update = update

    @tells({"a", "b", "c", "d", "e", "f"}, {"x"})
    def steps(self) -> None:
        self.update = {"$set": {}}
        fields = self.update["$set"]
        fields["a"] = int(self.doc["x"])
        fields |= {"b": 1}
        fields.update(c=2)
        fields.update([("d", 3)])
        self.update["$inc"] = {"e": 1}
        self.update |= {"$unset": {"f": ""}}

    @tells(
        {"price_cents", "price_currency", "x.price", "y", "z.price", "old_name"}, {"price", "key"}
    )
    def texts(self) -> None:
        part = "price"
        self.update = {
            "$set": {
                f"{part}_cents": int(self.doc["price"] * 100),
                part + "_currency": "EUR",
                "x.%s" % part: 1,  # noqa: UP031
                "y.{}".format(self.doc["key"]): 2,
                ".".join(("z", part)): 3,
                OLD.upper().lower(): 4,
            }
        }

    @tells({"log", "from", "to", "items.q", "list.z", "more"}, {"x"})
    def positions(self) -> None:
        self.update = {
            "$push": {"log": {"$each": list(self.doc["x"])}},
            "$rename": {"from": "to"},
            "$set": {"items.$[i].q": 1, "list.0.z": 2, f"more.{len(self.doc['x'])}.c": 3},
        }

    @tells({"plain", "k", "l", "shown", "put"}, {"x", "seen"})
    def helpers(self) -> None:
        value = int(self.doc["x"])
        fields = {**self.plain(value), **self.of_class(value), **self.shown}
        self._put(fields, "put")
        self.update = made(**fields)

    def _put(self, fields: dict[str, Any], path: str) -> None:
        fields[path] = self.doc.get("x")

    @tells({"base", "child"}, {"below"})
    def inherited(self) -> None:
        super().start()
        self.update["$set"]["child"] = 1  # type: ignore[index,call-overload]

    @tells({"a", "u", "v"}, {"b"})
    @unsetting("u", "v")
    def wrapped(self) -> None:
        self.update = {"$set": {"a": str(self.doc["b"])}}

    @tells({"a", "b", "gone"}, {"x"})
    def builder(self) -> None:
        self.update = Builder().set("a", int(self.doc["x"])).set("b", 2).build()

    @tells({"a", "b"}, {"a", "b"})
    def default_mapping(self) -> None:
        update: Any = collections.defaultdict(dict)
        for key in ("a", "b"):
            update["$set"][key] = int(self.doc[key])
        self.update = dict(update)

    @tells({"a", "b", "n"}, {"x"})
    def mappings(self) -> None:
        words = self.doc["x"].split()
        self.update = {
            "$set": dict(zip(("a", "b"), words, strict=False)),
            "$unset": {new: "" for new in NAMES.values() if new != "a"},
            "$inc": dict((name, 1) for name in ["n"]),  # noqa: C402
        }

    @tells({"g", "more", "f"}, {"x"})
    def constants(self) -> None:
        update = copy.deepcopy(UPDATE)
        update["$set"]["more"] = len(self.doc["x"])
        self.update = {**update, "$unset": {Move("f", "t").old: ""}}

    @tells({"first", "second", "fresh"}, {"source"})
    def classes_of_constants(self) -> None:
        spec = Spec("source")
        self.update = {
            "$set": {field.value: len(self.doc[spec.old]) for field in Field},
            "$unset": {spec.new: ""},
        }

    @tells({"a", "b", "c", "d", "e", "f"}, {"x", "y", "e", "f"})
    def functions(self) -> None:
        def pairs() -> Any:
            yield "a", int(self.doc["x"])
            yield "b", 2

        build = functools.partial(made, c=1)
        self.update = build(d=int(self.doc["y"]))
        self.update["$set"].update(dict(pairs()))
        self.update["$set"] = functools.reduce(
            lambda had, key: {**had, key: self.doc[key]}, ("e", "f"), self.update["$set"]
        )

    @tells({"a", "b"}, {"x", "y", "by", "factor"})
    def callbacks(self) -> None:
        self.update = {
            "$set": {
                "a": sorted(self.doc["x"], key=lambda one: one[self.doc["by"]]),
                "b": list(map(lambda one: one * self.doc["factor"], self.doc["y"])),  # noqa: C417
            }
        }

    @tells({"a", "b", "c", "d", "x"}, {"x"})
    def patterns(self) -> None:
        match self.doc["x"]:
            case str() as text:
                self.update = {"$set": {"a": text}}
            case {"k": value, **rest}:
                self.update = {"$set": {"b": value, "c": rest}}
            case [first, *_]:
                self.update = {"$set": {"d": first}}
            case _:
                self.update = {"$unset": {"x": ""}}

    @tells({"error", "value", "y"}, {"x", "y"})
    def exceptions(self) -> None:
        try:
            value = int(self.doc["x"])
        except (TypeError, ValueError) as error:
            self.update = {"$set": {"error": str(error)}}
            return
        self.update = {"$set": {"value": value}}
        with suppress(KeyError):
            self.update = {"$set": {"y": self.doc["y"]}}

    @tells({"count"}, {"x"})
    def walrus(self) -> None:
        if (value := self.doc.get("x")) and (count := len(value)):
            self.update = {"$set": {"count": count}}

    @tells({"a", "b", "c", "d"}, {"a", "b"})
    def loops(self) -> None:
        fields: dict[str, Any] = {}
        for key in ("a", "b"):
            if key not in self.doc:
                key = "c"  # noqa: PLW2901
                continue
            fields[key] = 1
            if len(fields) > 1:
                key = "d"  # noqa: PLW2901
                break
        fields[key] = 2
        self.update = {"$set": fields}

    @tells({"flat"}, {"tree"})
    def recursion(self) -> None:
        fields: dict[str, Any] = {}

        def walk(value: Any, path: str) -> None:
            if isinstance(value, dict):
                for key, one in value.items():
                    walk(one, f"{path}.{key}")
            else:
                fields[path] = value

        walk(self.doc["tree"], "flat")
        self.update = {"$set": fields}

    @tells({"a", "b"}, {"x"})
    def assigned_by_inner(self) -> None:
        def add(key: str, value: Any) -> None:
            nonlocal fields
            fields = {**fields, key: value}

        fields: dict[str, Any] = {}
        add("a", 1)
        add("b", int(self.doc["x"]))
        setattr(self, "update", {"$set": fields})  # noqa: B010

    @tells({"a", "b"}, {"x"})
    def lists(self) -> None:
        parts: list[Any] = []
        parts.append(("$set", {"a": int(self.doc["x"])}))
        parts += [("$unset", {"b": ""})]
        self.target, self.update = {}, dict(itertools.chain(parts))

    @tells({"a"}, {"x"})
    def kept_on_self(self) -> None:
        self._parts: dict[str, Any] = {}
        self._fill()
        self.update = {"$set": self._parts}

    def _fill(self) -> None:
        self._parts["a"] = int(self.doc["x"])

    @tells({"x", "y"}, {"x"})
    def evaluated(self, text: str = "int(doc['x'])") -> None:
        doc = self.doc
        self.update = {"$set": {"y": eval(text)}, "$unset": {"x": ""}}
        del doc

    @tells({"a"}, {"x"})
    def callable_default(self, update: Any = lambda doc: {"$set": {"a": len(doc["x"])}}) -> None:
        self.update = update(self.doc) if callable(update) else update

    @tells({"b"}, {"x"})
    def constant_default(self, flag: bool = False) -> None:
        self.update = {"$set": {"a" if flag else "b": len(self.doc["x"])}}

    @tells({"a"}, {"x"})
    def by_model(self) -> None:
        if self.doc_class is Post:
            self.update = {"$set": {"a": len(self.doc["x"])}}
        else:
            self.update = {"$set": {"b": 1}}

    @tells({"a.b", "c"}, {"x", "first", "last"})
    def pipeline(self) -> None:
        name = "first" if isinstance(self.doc["x"], str) else "last"
        self.update = [{"$set": {"a.b": {"$concat": [f"${name}.n", "-"]}}}, {"$unset": ["c"]}]

    @tells({"a", "b"}, {"x", "y"})
    def types(self) -> None:
        if type(self.doc["x"]) is ObjectId or self.doc.get("y") is None:
            self.update = {"$set": {"a": 1}}
        else:
            self.update = {"$set": {"b": 1}}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_an_idiom_writes_and_reads_is_known(name: str) -> None:
    """For each way to say an update in ordinary Python its paths are told, and no others."""
    method, writes, reads = EXPECTED[name]
    found = trace(method, Idioms, Post)
    assert (found.unknown, found.writes, found.inputs) == (None, writes, reads)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=60)
@given(rule_sources.sources(), st.lists(rule_sources.documents(), min_size=1, max_size=3))
def test_no_rule_writes_or_reads_more_than_is_known(
    source: str, documents: list[dict[str, Any]]
) -> None:
    """Whatever a rule of ordinary Python does to a document, its paths are among those known."""
    handler = rule_sources.compiled(source)
    method: Any = vars(handler)["migration01__x"]
    known = trace(method, handler, Post)
    rule = Rule("migration01__x", 1, "lazy", method)
    for document in documents:
        try:
            seen = evaluate(rule, handler, Post, document=document)
        except Exception:  # noqa: BLE001 - that is the rule's own affair
            continue
        if known.inputs is not None and seen.read is not None:
            assert not seen.read.read_whole
            assert [
                key for key in seen.read.keys_read if not is_read_within(key, known.inputs)
            ] == []
        try:
            check_update(seen.update, seen.array_filters)
        except ValueError:
            continue
        if known.writes is not None:
            written = written_paths(seen.update)
            assert [path for path in written or () if not within(path, known.writes)] == []


class Odd(dict[str, Any]):
    """A mapping that fills itself in."""

    def fill(self, value: Any) -> None:
        """Take a field of which no call tells."""
        self["$set"] = {"odd": value}


class Setter:
    """An object that is filled in by `object[key] = value`."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}

    def __setitem__(self, key: str, value: Any) -> None:
        self.fields[key + "_set"] = value

    def __iter__(self) -> Any:
        return iter(self.fields.items())

    def __enter__(self) -> Setter:
        self.fields["entered"] = 1
        return self

    def __exit__(self, *_error: object) -> None:
        self.fields["left"] = 1


class Properties(Idioms):
    """A handler that does something where an attribute is set."""

    @property
    def goal(self) -> Any:
        """The field that is set."""
        return None

    @goal.setter
    def goal(self, value: Any) -> None:
        self.update = {"$set": {"goal": value}}

    def by_property(self) -> None:
        """Set the update by a property."""
        self.goal = len(self.doc["x"])

    def by_special_methods(self) -> None:
        """Set the update by an object with methods of its own."""
        with Setter() as fields:
            fields["a"] = len(self.doc["x"])
        other = Setter()
        other["b"] = 1
        self.update = {"$set": {**dict(other), **fields.fields}}

    def by_odd_mapping(self) -> None:
        """Set an update of a class of its own."""
        update = Odd()
        update.fill(len(self.doc["x"]))
        self.update = update


def test_methods_that_python_calls_are_followed() -> None:
    """Setters of properties, `object[key] = value`, `with` and walks count as calls."""
    goal = trace(vars(Properties)["by_property"], Properties, Post)
    assert (goal.writes, goal.inputs) == ({"goal"}, {"x"})
    special = trace(vars(Properties)["by_special_methods"], Properties, Post)
    assert special.writes is None or special.writes >= {"a_set", "b_set", "entered", "left"}
    odd = trace(vars(Properties)["by_odd_mapping"], Properties, Post)
    assert odd.writes is None


# What is not told


def _bound(method: Any, name: str = "migration01__x", base: type = RuleHandler) -> BoundRule:
    handler = type("Rules", (base,), {name: method})
    result = bind(discover(handler)[0], handler, Post)
    assert result is not None
    return result


def _rule(compute: Callable[[Any], Any], **declared: Any) -> Any:
    def method(self: Any) -> None:
        self.target = {"x": {"$exists": True}}
        for name, paths in declared.items():
            setattr(self, name, paths)
        self.update = compute(self.doc)

    return method


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        (lambda doc: {"$set": {str(doc["k"]): 1}}, "`str(doc['k'])`"),
        (lambda doc: {"$set": {f"x_{key}": 1 for key in doc["x"]}}, "f'x_{key}'"),
        (lambda doc: {"$set": dict(doc["x"])}, "dict(doc['x'])"),
        (lambda doc: {"$set": {**doc["x"], "a": 1}}, "doc['x']"),
        (lambda doc: dict(doc["update"]), "dict(doc['update'])"),
        (lambda doc: {"$set" if doc else str(doc["op"]): {"a": 1}}, "doc['op']"),
        (lambda doc: [{"$replaceWith": {"a": len(doc["x"])}}], "{'a': len(doc['x'])}"),
    ],
)
def test_paths_that_cannot_be_known_are_asked_for(compute: Any, said: str) -> None:
    """A rule whose paths its source does not tell is refused, with expression and remedy."""
    with pytest.raises(RuleDefinitionError) as caught:
        _bound(_rule(compute))
    assert (caught.value.model, caught.value.rule) == ("Post", "migration01__x")
    assert said in str(caught.value)
    assert "self.writes = (" in str(caught.value)
    assert "of test_source.py" in str(caught.value)


def test_a_bulk_rule_may_write_what_nobody_knows() -> None:
    """No query sees through a bulk rule, so that its paths may stay unknown."""
    bound = _bound(_rule(lambda doc: {"$set": {str(doc["k"]): 1}}), "allmigration01__x")
    assert bound.writes is None


def test_a_rule_without_source_is_run_with_symbols() -> None:
    """Where there is no source to be read, a run that sees every branch tells the paths."""
    namespace: dict[str, Any] = {}
    exec(
        "def simple(self):\n"
        "    self.target = {'a': {'$exists': True}}\n"
        "    self.update = {'$set': {'b': self.doc['a'] if self.doc['c'] else 1}}\n"
        "def counting(self):\n"
        "    self.target = {'a': {'$exists': True}}\n"
        "    self.update = {'$set': {'b': len(self.doc['a'])}}\n"
        "def asking(self):\n"
        "    self.target = {'a': {'$exists': True}}\n"
        "    if self.doc.get('a') is None: self.update = {'$set': {'b': 1}}\n"
        "    else: self.update = {'$set': {'c': 1}}\n",
        namespace,
    )
    bound = _bound(namespace["simple"])
    assert (bound.writes, bound.inputs) == ({"b"}, {"a", "c"})
    place = r"source of {} \(line \d of <string>\) is not there to be read.*self\.writes = "
    for name in ("counting", "asking"):
        with pytest.raises(RuleDefinitionError, match=place.format(name)):
            _bound(namespace[name])


def test_a_rule_that_is_too_long_is_named(tmp_path: Path) -> None:
    """The message says which function it is, where it stands, and what to declare."""
    file = tmp_path / "long_rules.py"
    lines = (
        "class Rules:",
        "    def counting(self):",
        "        self.target = {'a': {'$exists': True}}",
        "        n = len(self.doc['a'])",
        *["        n = n + len(str(n))"] * 3000,
        "        self.update = {'$set': {'b': n}}",
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), namespace)
    place = r"Rules\.counting \(line 2 of long_rules\.py\) is too long to be followed"
    with pytest.raises(RuleDefinitionError, match=rf"{place}.*declare .*self\.writes = "):
        _bound(namespace["Rules"].counting)


# What a rule declares


def test_declared_paths_win() -> None:
    """A rule that declares its paths is taken at its word, and held to it for each document."""
    compute = lambda doc: {"$set": {str(doc["k"]): len(doc["x"])}}  # noqa: E731
    bound = _bound(_rule(compute, writes=("a", "b.$[].c"), reads=["k", "x.deep"]))
    assert (bound.writes, bound.inputs, bound.declares) == ({"a", "b.c"}, {"k", "x.deep"}, True)
    assert bound.evaluate(document={"_id": 1, "k": "a", "x": ""}).update == {"$set": {"a": 0}}
    assert bound.evaluate(document={"_id": 1, "k": "b.c.d", "x": ""}).update is not None
    with pytest.raises(UpdateQueryError, match=r"writes 'z' for a document.*self\.writes"):
        bound.evaluate(document={"_id": 1, "k": "z", "x": ""})
    with pytest.raises(UpdateQueryError, match=r"reads other.*self\.reads"):
        _bound(_rule(lambda doc: {"$set": {"a": doc["other"]}}, reads=("k",))).evaluate(
            document={"_id": 1, "other": 1}
        )


@pytest.mark.parametrize(
    ("name", "paths"),
    [
        ("writes", "a"),
        ("writes", {"a": 1}),
        ("writes", 1),
        ("writes", ("a", 1)),
        ("writes", ("a..b",)),
        ("writes", ("$set",)),
        ("writes", ("_id",)),
        ("reads", ("",)),
        ("reads", "a"),
    ],
)
def test_a_wrong_declaration_is_refused(name: str, paths: Any) -> None:
    """What is no collection of dotted paths cannot be declared."""
    with pytest.raises(RuleDefinitionError, match=f"self.{name}"):
        _bound(_rule(lambda doc: {"$set": {"a": len(doc["x"])}}, **{name: paths}))


def test_a_static_rule_is_held_to_its_declaration() -> None:
    """A rule that reads no document and writes other paths than declared is refused at once."""

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": False}}
        self.writes = ("b",)
        self.update = {"$set": {"a": 1}}

    with pytest.raises(UpdateQueryError, match="writes 'a'"):
        _bound(method)


def test_a_rule_that_needs_the_document_for_its_target_has_known_paths() -> None:
    """The paths of an undetermined rule are told by its source, or asked for."""

    def method(self: Any) -> None:
        if "x" in self.doc:
            self.target = {"x": {"$exists": True}}
            self.update = {"$unset": {"x": ""}}

    def computed(self: Any) -> None:
        self.target = {"x": self.doc["x"]}
        self.update = {"$set": {str(self.doc["x"]): 1}}

    bound = _bound(method)
    assert (bound.kind, bound.writes, bound.inputs) == ("undetermined", {"x"}, {"x"})
    with pytest.raises(RuleDefinitionError, match=r"self\.writes"):
        _bound(computed)


def test_the_paths_of_a_once_rule_are_known() -> None:
    """A rule with an effect is never run to be looked at; its source tells what it writes."""

    def method(self: Any) -> None:
        self.target = {"mailed": {"$exists": False}}
        raise AssertionError(self.doc["mail"])
        self.update = {"$set": {"mailed": True}}

    bound = _bound(once(method))
    assert (bound.writes, bound.inputs) == ({"mailed"}, {"mail"})


# By hand


def test_only_the_handlers_own_attributes_count() -> None:
    """`collection` or `status` of anything else than the handler says nothing about a rule."""

    def reference(self: Any) -> None:
        self.target = {"on": {"$exists": True}}
        on = self.doc["on"]
        status = {"status": on.status, "collection": "collection"}
        self.update = {"$set": {"about": on.collection, "more": status["status"]}}

    def alias(self: Any) -> None:
        self.target = {"on": {"$exists": True}}
        handler = self
        if self.doc["on"]:
            getattr(handler, "collection").insert_one({})  # noqa: B009

    def helper(self: Any) -> None:
        self.target = {"on": {"$exists": True}}
        if self.doc["on"]:
            self.write()

    def write(self: Any) -> None:
        self.collection.insert_one({})

    assert _bound(reference).asks == frozenset()
    assert _bound(alias).asks == {"collection"}
    writing = type("Writing", (RuleHandler,), {"write": write})
    assert _bound(helper, base=writing).asks == {"collection"}


def test_a_rule_that_keeps_still_for_reports_is_not_by_hand() -> None:
    """A rule that returns if `self.status` and sets an update afterwards writes by its update."""

    def method(self: Any) -> None:
        self.target = {"a": {"$exists": True}}
        if self.status:
            return
        self.update = {"$set": {"b": len(self.doc["a"])}}

    bound = _bound(method)
    assert (bound.by_hand, bound.writes, bound.asks) == (False, {"b"}, {"status"})
