"""The forms of rules that are translated, with documents of every day for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from lazymig.rules.rule import Rule
from tests.rules.translating.documents import values
from tests.rules.translating.rules import TARGET, rule_of, setting

Raw = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A rule, and documents of every day that it is written for."""

    body: str
    everyday: Sequence[Raw]
    target: Mapping[str, Any] = field(default_factory=lambda: TARGET)
    name: str = ""

    def __str__(self) -> str:
        return self.name or " ".join(self.body.split())[:80]

    def rule(self) -> Rule:
        return rule_of(self.body, self.target)

    def near(self) -> st.SearchStrategy[Raw]:
        """Documents with the fields of those of every day, most values of which are theirs."""
        # Made once, not for each document that is drawn.
        near = [
            st.fixed_dictionaries(
                {name: st.one_of(st.just(value), _near(value)) for name, value in one.items()}
            )
            for one in self.everyday
        ]
        return st.sampled_from(range(len(near))).flatmap(near.__getitem__)


def _near(value: Any) -> st.SearchStrategy[Any]:
    """Values that are like this one, but for a part of it."""
    if isinstance(value, dict) and value:
        fields = {name: st.one_of(st.just(one), _near(one)) for name, one in value.items()}
        return st.one_of(st.fixed_dictionaries({}, optional=fields), values)
    if isinstance(value, list) and value:
        return st.one_of(
            st.lists(st.one_of(*map(st.just, value), *map(_near, value)), max_size=4), values
        )
    return values


def moved(expression: str, *everyday: Any) -> Case:
    """A rule that moves `x` to `y` by an expression."""
    return Case(setting(expression), [{"x": value} for value in everyday], name=expression)


_EXPRESSIONS = [
    moved('d["x"]', 1, "a", [1], {"a": 1}),
    moved('d["x"].lower()', "Anna", "anna@example.com"),
    moved('d["x"].upper()', "Anna"),
    moved('d["x"].strip()', " Anna "),
    moved('d["x"].lstrip("0")', "007"),
    moved('d["x"].rstrip(".,")', "end."),
    moved('d["x"].title()', "anna maria"),
    moved('d["x"].capitalize()', "anna"),
    moved('d["x"].split(",")', "a,b"),
    moved('d["x"].split()', "Anna Maria  Muster"),
    moved('d["x"].split(" ", 1)', "Anna Maria Muster", "Anna"),
    moved('d["x"].split(" ")[0]', "Anna Muster"),
    moved('d["x"].partition("@")[2]', "anna@example.com"),
    moved('d["x"].replace("-", "")', "12-34"),
    moved('d["x"].startswith("a")', "anna"),
    moved('d["x"].startswith(("a", "$", "."))', "anna"),
    moved('d["x"].endswith("a")', "anna"),
    moved('d["x"].isdigit()', "12", "a"),
    moved('",".join(d["x"])', ["a", "b"], []),
    moved('"-".join([d["x"], "b"])', "a"),
    moved('d["x"] + "!"', "a"),
    moved('"a" + d["x"]', "b"),
    moved("f\"{d['x']}!\"", "a", 5),
    moved("f\"{d['x']['a']} {d['x']['b']}\"", {"a": "Anna", "b": "Muster"}),
    moved('"%s-%d" % (d["x"], 5)', "a", 1),
    moved('"{}/{}".format(d["x"], "b")', "a"),
    moved('str(d["x"])', 5, "a", True, None),
    moved('int(d["x"])', "12", 12, 12.7, True),
    moved('float(d["x"])', "12.5", 12, 1.5),
    moved('bool(d["x"])', 0, 1, "", "a", None, [], {}),
    moved('not d["x"]', 0, 1, "", "a"),
    moved('len(d["x"])', "abc", [1, 2], {"a": 1}),
    moved('d["x"] * 2', 5, 1.5),
    moved('d["x"] * 100', 5, 19.99),
    moved('d["x"] + 1', 5, 1.5),
    moved('d["x"] + d["x"]', 5, 1.5, -0.0, 0.0, "a", [1]),
    moved('d["x"] + d.get("z", 0)', -0.0, 0.5),
    moved('0 + d["x"]', -0.0, 0.5),
    moved('1 - d["x"]', 5, 1.5),
    moved('0 - d["x"]', 0.0, -0.0, 0),
    moved('d["x"] * d.get("z", -1)', 0.0, -0.0, 0, 5),
    moved('d["x"] / 100', 1999, 19.99),
    moved('d["x"] // 60', 125),
    moved('d["x"] % 60', 125),
    moved('d["x"] * 1.5 + 0.1', 5, 1.5),
    moved('-d["x"]', 5, 1.5),
    moved('abs(d["x"])', -5, 1.5),
    moved('round(d["x"])', 1.6, 5),
    moved('round(d["x"], 2)', 1.666, 5),
    moved('round(d["x"] * 100)', 19.99),
    moved('int(round(d["x"] * 100))', 19.99, 5),
    moved('int(d["x"] * 100)', 19.99, 5),
    moved('int(d["x"]) * 100 + 5', "12"),
    moved('sum(d["x"])', [1, 2, 3], []),
    moved('list(d["x"])', [1]),
    moved('dict(d["x"])', {"a": 1}),
    moved('{**d["x"], "a": 1}', {"b": 2}, {"a": 0, "b": 1}),
    moved('{"a": 1, **d["x"]}', {"b": 2}, {"a": 0}),
    moved('[*d["x"], 5]', [1]),
    moved('d["x"] + [5]', [1]),
    moved('{"a": d["x"], "b": [d["x"], {}], "c": {}}', 1),
    moved('{"a": d["x"]["b"]}', {"b": 2}),
    moved('d["x"]["a"]["b"]', {"a": {"b": 2}}),
    moved('d["x"].get("a", "none")', {"a": 1}, {}),
    moved('d["x"].get("a")', {"a": 1}, {}),
    moved('d.get("z", 5)', 1),
    moved('d.get("z", {}).get("a", [])', 1),
    moved('d["x"][0]', [1, 2], "ab"),
    moved('d["x"][-1]', [1, 2]),
    moved('d["x"][:2]', [1, 2, 3], "abc"),
    moved('d["x"][1:]', [1, 2, 3], "abc"),
    moved('d["x"][-2:]', [1, 2, 3], "abc"),
    moved('d["x"] is None', None, 1),
    moved('d["x"] == "a"', "a", "b", 5, None),
    moved('d["x"] != 1', 1, 2, 1.0, True, "a"),
    moved('d["x"] == True', 1, True),
    moved('d["x"] == d.get("z")', 1),
    moved('d["x"] in ("a", "b", 1, None)', "a", "c", 1, None),
    moved('"a" in d["x"]', ["a"], "abc", {"a": 1}, {}),
    moved('1 in d["x"]', [1, 2.0], []),
    moved('d["x"] > 5', 1, 7.5),
    moved('0 < d["x"] <= 10', 1, 7.5),
    moved('"z" in d', 1),
    moved('d["x"] if isinstance(d["x"], str) else ""', "a", 1),
    moved('d["x"] if isinstance(d["x"], dict) else {"a": d["x"]}', {"b": 1}, 1),
    moved('[d["x"]] if not isinstance(d["x"], list) else d["x"]', 1, [1]),
    moved('isinstance(d["x"], (int, float))', 1, 1.5, True, "a"),
    moved('isinstance(d["x"], bool)', 1, True),
    moved('isinstance(d["x"], datetime)', 1),
    moved('d["x"] or "none"', "", "a", None, 0),
    moved('d.get("x") or 0', 0, 5, None),
    moved('d["x"] and d["x"]["a"]', {"a": 1}, None),
    moved('"z" in d and d["z"] == "a"', 1),
    moved('{1: "new", 2: "old"}[d["x"]]', 1, 2),
    moved('{1: "new", 2: "old"}.get(d["x"], "none")', 1, 2, 3, "a"),
    moved('{"a": "A", "b": "B"}.get(d["x"], d["x"])', "a", "b", "c"),
    moved('ObjectId(d["x"])', "0123456789abcdef01234567"),
    moved('datetime.fromisoformat(d["x"])', "2020-01-31", "2020-01-31T10:20:30"),
    moved('datetime.fromisoformat(d["x"]) if d["x"] else None', "2020-01-31", ""),
]

_ITEMS: list[Raw] = [
    {"x": [{"qty": 2, "a": "b"}, {"a": "c", "qty": 0.5}]},
    {"x": []},
]
_LOOPS = [
    moved('[i for i in d["x"]]', [1, "a", None]),
    moved('[i["qty"] for i in d["x"]]', [{"qty": 1}]),
    moved('[i * 2 for i in d["x"] if i > 1]', [1, 2, 3.5]),
    moved('[i.strip() for i in d["x"] if i]', ["a ", ""]),
    moved('[i["a"] for i in d["x"] if isinstance(i, dict) and "a" in i]', [{"a": 1}, 5, {}]),
    moved('[{"n": i["qty"], "a": i.get("a", "")} for i in d["x"]]', [{"qty": 1}]),
    moved('[{**i, "n": i["qty"] + 1} for i in d["x"]]', [{"qty": 1, "a": 2}]),
    moved('[{k: v for k, v in i.items() if k != "qty"} for i in d["x"]]', [{"qty": 1, "a": 2}]),
    moved('{k: v for k, v in d["x"].items() if v is not None}', {"a": 1, "b": None}),
    moved('{k: str(v) for k, v in d["x"].items()}', {"a": 1, "b": None}),
    moved('{i["a"]: i["qty"] for i in d["x"]}', [{"a": "b", "qty": 1}, {"a": "c", "qty": 1}]),
    moved('[k for k in d["x"].keys()]', {"a": 1}),
    moved('[{"k": k, "v": v} for k, v in d["x"].items()]', {"a": 1}),
    moved('[v for v in d["x"].values() if v]', {"a": 1, "b": 0}),
    moved('{k: d["x"][k] for k in ("a", "b")}', {"a": 1, "b": 0}),
    moved('{k: d["x"][k] for k in ("a", "b") if k in d["x"]}', {"a": 1, "b": 0}, {"b": 2}),
    moved('[d[k] for k in ("x", "z") if k in d]', 1),
    moved('" ".join(i for i in d["x"] if i)', ["a", "", "b"]),
    moved('any(i == "a" for i in d["x"])', ["a"], []),
    moved('all(isinstance(i, str) for i in d["x"])', ["a"], [1]),
    moved('sum(i["qty"] for i in d["x"])', [{"qty": 1}, {"qty": 3}]),
    moved('len([i for i in d["x"] if i != "a"])', ["a", "b"]),
]

_STATEMENTS = [
    Case(
        """
        if "z" in d:
            self.update = {"$set": {"y": d["z"]}, "$unset": {"x": "", "z": ""}}
        else:
            self.update = {"$set": {"y": 0}, "$unset": {"x": ""}}
        """,
        [{"x": 1}, {"x": 1, "z": 2, "y": 3}],
        name="a branch for each update",
    ),
    Case(
        """
        if not d["x"]:
            self.update = {"$unset": {"x": ""}}
            return
        value = d["x"]
        if isinstance(value, str):
            value = value.strip()
        elif isinstance(value, int):
            value = str(value)
        self.update = {"$set": {"y.a": value}, "$unset": {"x": ""}}
        """,
        [{"x": 1, "y": {}}, {"x": " a", "y": {"a": 1}}],
        name="an early return",
    ),
    Case(
        """
        if d["x"] == "a":
            self.update = {"$set": {"y": 1}, "$unset": {"x": ""}}
        """,
        [{"x": "a"}],
        name="no update",
    ),
    Case(
        """
        removed = {"x": "", "y": ""}
        values = {"z.b": d["x"], "z.a": 1, "w": d.get("y"), "a": 2}
        self.update = {"$set": values, "$unset": removed}
        """,
        [{"x": 1, "z": {"c": 1}}, {"x": 1, "y": 2}],
        name="several paths",
    ),
    Case(
        """
        self.update = {"$rename": {"x": "y"}, "$set": {"z": d["x"]}, "$unset": {"w.a": ""}}
        """,
        [{"x": 1, "y": 5, "w": {"a": 1}}, {"x": 2}],
        name="a rename",
    ),
    Case(
        """
        self.update = {"$set": {"y": d["z"], "z": d["y"]}, "$unset": {"x": ""}}
        """,
        [{"x": 1, "y": 5, "z": 2}],
        name="an exchange",
    ),
    Case(
        """
        first, last = d["x"].split(" ", 1)
        self.update = {"$set": {"y": {"first": first, "last": last}}, "$unset": {"x": ""}}
        """,
        [{"x": "Anna Maria Muster"}],
        name="two names of one",
    ),
    Case(
        """
        first, _, last = d["x"].partition(" ")
        self.update = {"$set": {"y": first, "z": last or None}, "$unset": {"x": ""}}
        """,
        [{"x": "Anna Maria Muster"}, {"x": "Anna"}],
        name="a partition",
    ),
    Case(
        """
        values = {}
        for name in ("y", "z"):
            if name in d:
                values[name] = str(d[name])
        values["n"] = 1
        self.update = {"$set": values, "$unset": {"x": ""}}
        """,
        [{"x": 1, "y": 2}, {"x": 1, "z": "a"}],
        name="a loop over names",
    ),
    Case(
        """
        self.update = {"$set": {"y": 1}, "$unset": {"x": ""}}
        if "z" in d:
            self.update["$set"]["w"] = d["z"]
        """,
        [{"x": 1}, {"x": 1, "z": 2}],
        name="an update that grows",
    ),
    Case(
        """
        self.update = {"$set": {"y": 1}} if d["x"] == 1 else {"$set": {"z": 1}, "$unset": {"x": ""}}
        """,
        [{"x": 1}, {"x": 2}],
        name="a choice of updates",
    ),
    Case(
        """
        out = []
        for item in d["x"]:
            out.append({"n": item["qty"], "a": item.get("a")})
        self.update = {"$set": {"y": out}, "$unset": {"x": ""}}
        """,
        _ITEMS,
        name="a loop that appends",
    ),
    Case(
        """
        out = [0]
        for item in d["x"]:
            if not isinstance(item, dict):
                continue
            if item["qty"] == 0:
                number = 1
            else:
                number = item["qty"]
                if number > 5:
                    continue
            out.append(number)
        self.update = {"$set": {"y": out}, "$unset": {"x": ""}}
        """,
        [*_ITEMS, {"x": [{"qty": 0}, 5, {"qty": 7}]}],
        name="a loop that skips",
    ),
    Case(
        """
        out = []
        for item in d["x"]:
            item = dict(item)
            item["n"] = item.pop("qty")
            item.pop("a", None)
            item["cents"] = 100
            out.append(item)
        self.update = {"$set": {"x": out, "y": 2}}
        """,
        _ITEMS,
        name="a loop that changes copies",
    ),
    Case(
        """
        items = d["x"]
        for item in items:
            item["n"] = item.pop("qty")
            if "a" in item:
                del item["a"]
        self.update = {"$set": {"x": items}}
        """,
        _ITEMS,
        name="a loop that changes items",
    ),
    Case(
        """
        new = dict(d["x"])
        new["n"] = new.pop("a", 0)
        new.update({"k": 1})
        self.update = {"$set": {"y": new}, "$unset": {"x": ""}}
        """,
        [{"x": {"a": 1, "b": 2}}, {"x": {"n": 1}}],
        name="a changed copy",
    ),
    Case(
        """
        out = {}
        out["a"] = d["x"]
        if d["x"]:
            out["b"] = [d["x"]]
        out["c"] = {"a": 1}
        out["c"]["b"] = 2
        self.update = {"$set": {"y": out}, "$unset": {"x": ""}}
        """,
        [{"x": 1}, {"x": 0}],
        name="a dict that grows",
    ),
    Case(
        """
        if not isinstance(d["x"], str) or "@" not in d["x"]:
            raise ValueError(d["x"])
        self.update = {"$set": {"y": d["x"].lower()}, "$unset": {"x": ""}}
        """,
        [{"x": "A@b"}],
        name="a rule that raises",
    ),
]

CASES: list[Case] = [*_EXPRESSIONS, *_LOOPS, *_STATEMENTS]
