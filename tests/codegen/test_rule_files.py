"""Rules in handlers' files: added without touching another line, and found again."""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import itertools
import os
import stat
import sys
import types
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from bson import Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mongoengine import Document

from lazymig import DocumentMigration
from lazymig.codegen.handler_file import (
    Edit,
    add_rules,
    handler_place,
    new_handler_file,
    next_number,
)
from lazymig.codegen.rule_lines import removable_lines
from lazymig.codegen.rule_source import RuleSource
from lazymig.errors import HandlerFileError, RuleDefinitionError
from tests.support.handlers import handler, model, rule
from tests.support.programs import find_ruff

_NUMBERS = itertools.count()

SIMPLE: dict[str, Any] = {"target": {"a": 1}, "update": {"$set": {"a": 2}}}


RUFF = find_ruff()


def lazy(number: int, words: str = "new", **given: Any) -> RuleSource:
    """A lazy rule's source."""
    return RuleSource(number, words, **{**SIMPLE, **given})


def bulk(number: int, words: str = "new", **given: Any) -> RuleSource:
    """A bulk rule's source."""
    return lazy(number, words, scope="bulk", **given)


def written(folder: Path, text: str, name: str = "handlers.py") -> Path:
    """A file with this text, its line endings as they are."""
    path = folder / name
    path.write_bytes(text.encode())
    return path


def removed_lines(edit: Edit) -> list[str]:
    """The lines of a file that an edit takes away, line endings included."""
    before, after = (text.splitlines(keepends=True) for text in (edit.before or "", edit.after))
    return [line[2:] for line in difflib.ndiff(before, after) if line.startswith("- ")]


@pytest.fixture
def imported(tmp_path: Path) -> Iterator[Any]:
    """Import a text as a module of a name of its own, from a file."""
    names = []

    def load(text: str) -> types.ModuleType:
        name = f"handlers_{next(_NUMBERS)}"
        path = written(tmp_path, text, f"{name}.py")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        names.append(name)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in names:
        del sys.modules[name]


# --- Where a rule is added ------------------------------------------------------------------

METHOD = """\
    def migration02__new(self) -> None:
        self.target = {"a": 1}
        self.update = {"$set": {"a": 2}}
"""
ALL_METHOD = METHOD.replace("migration02", "allmigration02")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "class H(Base):\n    def migration01__a(self):\n        pass\n",
            "class H(Base):\n    def migration01__a(self):\n        pass\n\n" + METHOD,
            id="at the end of the file",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self):\n        pass",
            "class H(Base):\n    def migration01__a(self):\n        pass\n\n" + METHOD[:-1],
            id="no final newline",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self): pass\n\n    def allmigration01__b(self):"
            "\n        pass\n\n\nx = 1\n",
            "class H(Base):\n    def migration01__a(self): pass\n\n" + METHOD + "\n"
            "    def allmigration01__b(self):\n        pass\n\n\nx = 1\n",
            id="before the bulk rules",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self): pass\n    def other(self): pass\n",
            "class H(Base):\n    def migration01__a(self): pass\n\n" + METHOD + "\n"
            "    def other(self): pass\n",
            id="no blank lines between methods",
        ),
        pytest.param(
            "class H(Base):\n    def allmigration01__b(self): pass\n\n    def other(self): pass\n",
            "class H(Base):\n    def allmigration01__b(self): pass\n\n    def other(self): pass\n\n"
            + METHOD,
            id="no rule of the scope",
        ),
        pytest.param(
            'class H(Base):\n    """Doc."""\n\n    see_through = False\n\n\nclass J: pass\n',
            'class H(Base):\n    """Doc."""\n\n    see_through = False\n\n'
            + METHOD
            + "\n\nclass J: pass\n",
            id="attributes only",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self):\n        pass\n        # of the body\n"
            "    # of the method\n\n    # of the next\n    def other(self): pass\n",
            "class H(Base):\n    def migration01__a(self):\n        pass\n        # of the body\n"
            "    # of the method\n\n" + METHOD + "\n    # of the next\n    def other(self): pass\n",
            id="comments between methods",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self):\n        pass\n"
            "    # of the next\n    @deco\n    # too\n    def other(self): pass\n",
            "class H(Base):\n    def migration01__a(self):\n        pass\n\n" + METHOD + "\n"
            "    # of the next\n    @deco\n    # too\n    def other(self): pass\n",
            id="a comment of the next method",
        ),
        pytest.param(
            "class H(Base):\n    def migration01__a(self):\n        pass\n"
            "    # one\n\n    # two\n\n"
            "# of the file\nx = 1\n",
            "class H(Base):\n    def migration01__a(self):\n        pass\n"
            "    # one\n\n    # two\n\n" + METHOD + "\n# of the file\nx = 1\n",
            id="comments at the end of the class",
        ),
        pytest.param(
            "class H(Base):\n    @deco\n    @deco(1)\n    def migration01__a(self): pass\n",
            "class H(Base):\n    @deco\n    @deco(1)\n    def migration01__a(self): pass\n\n"
            + METHOD,
            id="decorators",
        ),
        pytest.param(
            "class H(Base):\n    if X:\n        def migration01__a(self): pass\n    else:\n"
            "        migration01__a = None\n    y = 1\n",
            "class H(Base):\n    if X:\n        def migration01__a(self): pass\n    else:\n"
            "        migration01__a = None\n\n" + METHOD + "\n    y = 1\n",
            id="the last rule under a condition",
        ),
        pytest.param(
            "class H(Base):\n    migration01__a = made()\n    y = 1\n",
            "class H(Base):\n    migration01__a = made()\n\n" + METHOD + "\n    y = 1\n",
            id="a rule that is assigned",
        ),
        pytest.param(
            'class H(Base):\n    def migration01__a(self):\n        self.x = """\n# no comment\n'
            '    def fake(self): pass\n"""\n',
            'class H(Base):\n    def migration01__a(self):\n        self.x = """\n# no comment\n'
            '    def fake(self): pass\n"""\n\n' + METHOD,
            id="a text of several lines",
        ),
        pytest.param(
            'class H(Base):\n    x = """\x0c\u2028\x85"""\n\x0c\n# c\n',
            'class H(Base):\n    x = """\x0c\u2028\x85"""\n\n' + METHOD + "\x0c\n# c\n",
            id="characters that end lines elsewhere",
        ),
        pytest.param("class H(Base): pass\n", "class H(Base):\n" + METHOD, id="pass in the line"),
        pytest.param(
            "class H(Base): ...  # c", "class H(Base):  # c\n" + METHOD[:-1], id="... in the line"
        ),
        pytest.param("class H(Base): pass;\n", "class H(Base):\n" + METHOD, id="a semicolon"),
        pytest.param(
            "class H(\n    Base,\n): pass  # c\nx = 1\n",
            "class H(\n    Base,\n):  # c\n" + METHOD + "x = 1\n",
            id="a header of several lines",
        ),
        pytest.param("class H(Base):\n    pass\n", "class H(Base):\n" + METHOD, id="only pass"),
        pytest.param(
            'class H(Base):\n    """Doc."""\n    ...\n\n\nx = 1\n',
            'class H(Base):\n    """Doc."""\n\n' + METHOD + "\n\nx = 1\n",
            id="a docstring and ...",
        ),
        pytest.param(
            'class H(Base):\n    """Doc."""\n',
            'class H(Base):\n    """Doc."""\n\n' + METHOD,
            id="only a docstring",
        ),
        pytest.param(
            "class H(Base):\n    # nothing\n    pass\n",
            "class H(Base):\n    # nothing\n\n" + METHOD,
            id="a comment above pass",
        ),
        pytest.param(
            "class H(Base):\n    pass  # yet\n",
            "class H(Base):\n    pass  # yet\n\n" + METHOD,
            id="a comment behind pass",
        ),
        pytest.param(
            "class H(Base):  # rules\n\n    def migration01__a(self): return 1; x = 2\n",
            "class H(Base):  # rules\n\n    def migration01__a(self): return 1; x = 2\n\n" + METHOD,
            id="several statements in a line",
        ),
    ],
)
def test_a_rule_stands_behind_the_last_one_of_its_scope(
    tmp_path: Path, text: str, expected: str
) -> None:
    """A lazy rule is added below the last lazy rule, or at the end of the class."""
    edit = add_rules(written(tmp_path, text), "H", [lazy(2)])
    assert edit.after == expected
    assert edit.before == text


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("unit", ["    ", "  ", "\t", "   "])
def test_indentation_and_line_endings_are_the_files(
    tmp_path: Path, unit: str, newline: str
) -> None:
    """New lines are indented and ended as the others are, in nested classes and conditions."""
    text = dedent("""\
        import sys
        if sys:
            class Outer:
                class H(Base):
                    def migration01__a(self):
                        pass

                x = 1
        """)
    expected = text.replace(
        "pass\n",
        "pass\n\n" + "".join(f"        {line}\n" for line in METHOD.splitlines()),
    )
    text, expected = (
        each.replace("    ", unit).replace("\n", newline) for each in (text, expected)
    )
    edit = add_rules(written(tmp_path, text), "Outer.H", [lazy(2)])
    assert edit.after == expected


def test_a_class_may_be_indented_in_its_own_way(tmp_path: Path) -> None:
    """The indentation in a method is that of its class, not that of the rest of the file."""
    text = "if x:\n    y = 1\nclass H(Base):\n  z = 1\n"
    edit = add_rules(written(tmp_path, text), "H", [lazy(2)])
    assert edit.after == text + "\n" + METHOD.replace("    ", "  ")


def test_long_values_are_broken_where_they_stand(tmp_path: Path) -> None:
    """The deeper a class stands, the earlier its lines are broken; a tab is four columns."""
    text = "if x:\n\tclass O:\n\t\tclass H(Base):\n\t\t\tpass\n"
    new = lazy(1, target={"a": "b" * 30, "c": "d" * 20}, comments=["word " * 40])
    edit = add_rules(written(tmp_path, text), "H", [new])
    assert max(len(line.expandtabs(4)) for line in edit.after.splitlines()) <= 88
    assert '\t\t\t\tself.target = {\n\t\t\t\t\t"a":' in edit.after


@pytest.mark.parametrize(
    ("raw", "quoted"),
    [
        ("# -*- coding: latin-1 -*-\nx = 'é'\nclass H(Base): pass\n".encode("latin-1"), '"\\xe9"'),
        (b"\xef\xbb\xbf" + "x = 'é'\nclass H(Base):\n    pass\n".encode(), '"é"'),
    ],
    ids=["latin-1", "byte order mark"],
)
def test_the_encoding_is_the_files(tmp_path: Path, raw: bytes, quoted: str) -> None:
    """Bytes before the class stay as they are, and a character that may be missing is escaped."""
    path = tmp_path / "handlers.py"
    path.write_bytes(raw)
    add_rules(path, "H", [lazy(1, target={"a": "é"})]).write()
    after = path.read_bytes()
    assert after.startswith(raw[: raw.index(b"class")])
    assert f'{{"a": {quoted}}}' in after.decode("latin-1" if quoted[1] == "\\" else "utf-8")
    assert compile(after, "handlers.py", "exec")


def test_several_rules_are_added_at_once(tmp_path: Path) -> None:
    """Each scope's rules stand together in their order, each behind its last one."""
    text = dedent("""\
        class H(Base):
            def migration01__a(self): pass

            def allmigration01__b(self): pass

            def other(self): pass
        """)
    edit = add_rules(written(tmp_path, text), "H", [bulk(2), lazy(2), lazy(3), bulk(3)])
    (cls,) = ast.parse(edit.after).body
    assert isinstance(cls, ast.ClassDef)
    assert [each.name for each in cls.body if isinstance(each, ast.FunctionDef)] == [
        "migration01__a",
        "migration02__new",
        "migration03__new",
        "allmigration01__b",
        "allmigration02__new",
        "allmigration03__new",
        "other",
    ]
    edit = add_rules(written(tmp_path, "class H(Base): pass\n"), "H", [bulk(2), lazy(2)])
    assert edit.after == "class H(Base):\n" + METHOD + "\n" + ALL_METHOD
    edit = add_rules(written(tmp_path, "class H(Base):\n    x = 1\n"), "H", [bulk(2), lazy(2)])
    assert edit.after == "class H(Base):\n    x = 1\n\n" + METHOD + "\n" + ALL_METHOD
    text = "class H(Base):\n    x = 1\n"
    assert add_rules(written(tmp_path, text), "H", []).after == text


# --- Whatever the file ----------------------------------------------------------------------

BODY_PARTS = st.sampled_from(
    [
        "def migration01__a(self):\n    self.target = {}\n",
        "def migration03__c(self): pass\n",
        "@staticmethod\n# between\n@deco\ndef allmigration02__b(self):\n    pass\n    # inner\n",
        "def other(self):\n    x = '''\n# text\n  '''\n",
        "see_through = True\n",
        "# a comment\n",
        "\n",
        "\n\n",
        "if x:\n    def migration04__d(self): pass\n    # inner\n",
        "class Inner:\n    def migration02__new(self): pass\n",
        "x = [\n1,\n  2]  # c\n",
        '"""Text."""\n',
        "pass\n",
        "...  # c\n",
    ]
)
HEADS = st.lists(
    st.sampled_from(
        [
            '"""Doc."""\n',
            "# comment\n",
            "\n",
            "import os\n",
            "import datetime as dt\n",
            "from bson import (\n    Binary,\n    Int64,\n)\n",
            "from bson.objectid import ObjectId as Key\n",
            "from lazymig import DocumentMigration\n",
            "from .base import Base\n",
            "x = 1\n",
        ]
    ),
    max_size=8,
    unique=True,
)
UNITS = st.sampled_from(["    ", "  ", "\t"])


@st.composite
def sources(draw: st.DrawFn) -> str:
    """Files with a class `H`, somewhere, with anything in it."""
    unit = draw(UNITS)
    margin = ""
    lines = ["from __future__ import annotations\n"] if draw(st.booleans()) else []
    lines += draw(HEADS)
    for outer in draw(
        st.lists(st.sampled_from(["if x:\n", "class O:\n", "def f():\n"]), max_size=2)
    ):
        lines.append(margin + outer)
        margin += unit
    lines.append(f"{margin}class H(Base):  # header\n")
    for part in draw(st.lists(BODY_PARTS, max_size=6)):
        body = part.replace("    ", unit).splitlines(keepends=True)
        inside = False
        for line in body:
            # Lines of a text of several lines are not indented.
            lines.append(line if inside or not line.strip() else margin + unit + line)
            inside ^= line.count("'''") == 1
    if not any(line.strip() and not line.strip().startswith("#") for line in lines[-1:]):
        lines.append(f"{margin}{unit}pass\n")
    lines += draw(st.lists(st.sampled_from(["\n", "# end\n", "y = 1\n"]), max_size=3))
    text = "".join(lines)
    text = text if draw(st.booleans()) else text.rstrip("\n")
    return text.replace("\n", draw(st.sampled_from(["\n", "\r\n"])))


def _without(tree: ast.AST, names: set[str]) -> str:
    """A dump of a module without some methods of `H`, and without placeholders."""
    for node in ast.walk(tree):
        for block in ("body", "orelse"):
            statements = getattr(node, block, None)
            if not isinstance(statements, list):
                continue
            if isinstance(node, ast.ClassDef) and node.name == "H":
                statements = [
                    each
                    for each in statements
                    if not (isinstance(each, ast.FunctionDef) and each.name in names)
                ]
            statements = [each for each in statements if not isinstance(each, ast.Pass)]
            setattr(node, block, statements)
    return ast.dump(tree)


@settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=200)
@given(sources(), st.booleans())
def test_an_edit_adds_its_rules_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, text: str, both: bool
) -> None:
    """Whatever is in a file, an edit takes no line away, and adds the methods alone."""
    path = written(tmp_path_factory.getbasetemp(), text)
    update = {"$set": {"a": ObjectId(), "b": Int64(1), "c": datetime(2020, 1, 1)}}
    rules = [lazy(9, update=update)] + ([bulk(9, update=update)] if both else [])
    try:
        ast.parse(text)
    except SyntaxError:
        with pytest.raises(HandlerFileError, match="is not valid Python: line"):
            add_rules(path, "H", rules)
        return
    edit = add_rules(path, "H", rules)
    last = text.splitlines(keepends=True)[-1]
    assert [
        line for line in removed_lines(edit) if line.strip() not in ("pass", "...") and line != last
    ] == []
    names = {each.name for each in rules}
    before, after = ast.parse(text), ast.parse(edit.after)
    handlers = [
        each for each in ast.walk(after) if isinstance(each, ast.ClassDef) and each.name == "H"
    ]
    (cls,) = handlers
    there = [each.name for each in cls.body if isinstance(each, ast.FunctionDef)]
    assert [there.count(name) for name in names] == [1] * len(names)
    assert _without(after, names) == _without(before, names)
    assert edit.after.endswith(("\n", "\r\n")) == text.endswith(("\n", "\r\n"))
    assert ("\r\n" in text) == ("\r\n" in edit.after) or "\n" not in text
    assert not edit.after.replace("\r\n", "").count("\n") or "\r\n" not in text
    assert [line for line in edit.after.splitlines() if line.strip().startswith("#")] == [
        line for line in text.splitlines() if line.strip().startswith("#")
    ]


# --- Imports --------------------------------------------------------------------------------

ALL: dict[str, Any] = {
    "a": ObjectId(b"0" * 12),
    "b": Int64(1),
    "c": uuid.UUID(int=0),
    "d": datetime(2020, 1, 1),
}


@pytest.mark.parametrize(
    "head",
    [
        "def ObjectId(x): return 5\n",
        "ObjectId = datetime = UUID = 5\n",
        "import datetime, uuid, bson\n",
        "from datetime import datetime as ObjectId\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from bson import ObjectId\n",
    ],
)
def test_what_a_rule_imports_clashes_with_nothing(tmp_path: Path, imported: Any, head: str) -> None:
    """Whatever a file calls ObjectId, or datetime, a new rule sets its own values."""
    text = f"from lazymig import DocumentMigration\n{head}class H(DocumentMigration):\n    x = 1\n"
    edit = add_rules(written(tmp_path, text), "H", [lazy(1, target=ALL)])
    assert edit.after.startswith(text)
    rules = imported(edit.after).H(object)
    rules.migration01__new()
    assert rules.target == ALL
    assert isinstance(rules.target["b"], Int64)


# --- Errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "problem"),
    [
        ("class A: pass\nclass B:\n    class C: pass\n", "H", "no class H; it has A, B, B.C"),
        ("x = 1\n", "H", "no class H; it has no class"),
        ("class H: pass\nclass H: pass\n", "H", "has 2 classes H, in the lines 1, 2"),
        ("class A:\n    class H: pass\nclass B:\n    class H: pass\n", "H", "2 classes H"),
        ("class H: a = 1; b = 2\n", "H", "line 1: put the body of the class into lines"),
        ("class H(:\n    pass\n", "H", r"is not valid Python: line 1: "),
        ("class H:\n    x = (1,\n", "H", r"is not valid Python: line 2: .*never closed"),
        ("class H:\n    x = 'a\\d'\n  y = 1\n", "H", r"is not valid Python: line 3: "),
        ("class H:\n\\\n  pass\n\0", "H", "is not valid Python: "),
        ("# coding: nonsense\n", "H", "cannot be decoded: unknown encoding"),
    ],
)
def test_a_file_that_cannot_be_edited_says_why(
    tmp_path: Path, text: str, name: str, problem: str
) -> None:
    """The error names the file, and what is there instead."""
    path = written(tmp_path, text)
    with pytest.raises(HandlerFileError, match=problem) as caught:
        add_rules(path, name, [lazy(1)])
    assert caught.value.path == str(path)
    assert path.read_bytes() == text.encode()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """A file that is not in its encoding, or not there, is an error."""
    path = tmp_path / "handlers.py"
    with pytest.raises(HandlerFileError, match="cannot be read: No such file"):
        add_rules(path, "H", [lazy(1)])
    path.write_bytes(b"x = '\xff'\nclass H: pass\n")
    with pytest.raises(HandlerFileError, match="cannot be decoded"):
        add_rules(path, "H", [lazy(1)])


def test_a_qualified_name_tells_classes_apart(tmp_path: Path) -> None:
    """Of two classes of a name, the qualified name finds the right one."""
    text = (
        "class A:\n    class H:\n        x = 1\nclass B:\n    class H:\n        x = 2\n"
        "class H:\n    x = 3\n"
    )
    path = written(tmp_path, text)
    for name, mark in (("A.H", "x = 1"), ("B.H", "x = 2"), ("H", "x = 3")):
        after = add_rules(path, name, [lazy(1)]).after
        assert after.index(mark) < after.index("def migration01__new")
        assert after.count("x = ") == 3
        other = after[after.index("def migration01__new") :]
        assert other.count("class H") == {"A.H": 2, "B.H": 1, "H": 0}[name]


@pytest.mark.parametrize(
    ("body", "new", "problem"),
    [
        ("def migration01__a(self): pass", [lazy(1)], "migration01__a in .* name or number"),
        ("def migration001_a(self): pass", [lazy(1)], "migration001_a in"),
        ("def migration02__new(self): pass", [lazy(2)], "migration02__new in"),
        ("migration02__new = None", [lazy(2)], "migration02__new in"),
        ("if x:\n        def migration02__b(self): pass", [lazy(2)], "migration02__b in"),
        ("x = 1", [lazy(2), lazy(2, "other")], "migration02__new in"),
    ],
)
def test_a_number_is_given_once(
    tmp_path: Path, body: str, new: list[RuleSource], problem: str
) -> None:
    """A rule whose name or number its class has already is refused, and nothing is edited."""
    path = written(tmp_path, f"class H(Base):\n    {body}\n")
    with pytest.raises(RuleDefinitionError, match=f"H.migration0.*: {problem}"):
        add_rules(path, "H", new)


def test_the_scopes_are_numbered_apart(tmp_path: Path) -> None:
    """A bulk rule may have a lazy rule's number, and an inner class has numbers of its own."""
    text = (
        "class H(Base):\n    def migration02__a(self): pass\n\n"
        "    class Inner:\n        def allmigration02__a(self): pass\n"
    )
    assert ALL_METHOD in add_rules(written(tmp_path, text), "H", [bulk(2)]).after


# --- Writing --------------------------------------------------------------------------------


def test_an_edit_replaces_the_file_at_once(tmp_path: Path) -> None:
    """The file's mode and a link to it stay; the old contents are there until the new ones are."""
    path = written(tmp_path, "class H(Base): pass\n")
    path.chmod(0o640)
    link = tmp_path / "link.py"
    link.symlink_to(path)
    with path.open("rb") as old:
        edit = add_rules(link, "H", [lazy(2)])
        assert path.read_text() == "class H(Base): pass\n"
        edit.write()
        assert old.read() == b"class H(Base): pass\n"
    assert link.is_symlink()
    assert path.read_text() == "class H(Base):\n" + METHOD
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["handlers.py", "link.py"]


def test_an_edit_of_a_changed_file_is_refused(tmp_path: Path) -> None:
    """What somebody has written meanwhile is never overwritten."""
    path = written(tmp_path, "class H(Base): pass\n")
    edit = add_rules(path, "H", [lazy(2)])
    path.write_text("class H(Base): pass\n# mine\n")
    with pytest.raises(HandlerFileError, match="has changed; make the edit again"):
        edit.write()
    path.unlink()
    with pytest.raises(HandlerFileError, match="has changed"):
        edit.write()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full the file is what it was, and no part of the new one is left."""
    path = written(tmp_path, "class H(Base): pass\n")
    edit = add_rules(path, "H", [lazy(2)])

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HandlerFileError, match=r"handlers\.py: cannot be written: No space left"):
        edit.write()
    assert [each.read_text() for each in tmp_path.iterdir()] == ["class H(Base): pass\n"]


def test_the_diff_shows_what_is_added(tmp_path: Path) -> None:
    """`patch` is a unified diff, also of a file without a final newline."""
    path = written(tmp_path, "class H(Base):\n    x = '\u2028'")
    edit = add_rules(path, "H", [lazy(2)])
    assert edit.patch(Path("/elsewhere")).startswith(f"--- a/{path}\n+++ b/{path}\n@@ ")
    assert edit.patch(tmp_path) == (
        f"--- a/{path.name}\n+++ b/{path.name}\n@@ -1,2 +1,6 @@\n class H(Base):\n"
        "-    x = '\u2028'\n\\ No newline at end of file\n+    x = '\u2028'\n+\n"
        + "".join(f"+{line}\n" for line in METHOD.splitlines())
        + "\\ No newline at end of file\n"
    )


# --- New files ------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package `shop` with a model `Order` in `shop.models`, and the folder it is in."""
    folder = tmp_path / "shop"
    folder.mkdir()
    written(folder, "", "__init__.py")
    written(
        folder,
        "from mongoengine import Document\nfrom lazymig import LazyMigrationMixin\n\n"
        "class Order(LazyMigrationMixin, Document): pass\n",
        "models.py",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "shop"]:
        del sys.modules[name]


def test_a_new_file_has_a_handler_that_works(package: Path) -> None:
    """The file can be imported by the name that the advice gives, and its rules are there."""
    order = importlib.import_module("shop.models").Order
    path = package / "order_rules.py"
    new = [lazy(1, target=ALL), bulk(1)]
    edit = new_handler_file(path, "OrderMigration", new, model=order)
    assert edit.before is None
    assert not path.exists()
    edit.write()
    assert edit.advice == (
        f"In {package / 'models.py'}, give Order its handler:\n\n"
        "    from shop.order_rules import OrderMigration\n\n"
        "    class Order(...):\n        migration_handler = OrderMigration\n"
    )
    rules = importlib.import_module("shop.order_rules").OrderMigration
    assert issubclass(rules, DocumentMigration)
    handler_object = rules(order)
    handler_object.migration01__new()
    assert handler_object.target == ALL
    assert rules.allmigration01__new
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    patch = edit.patch(package.parent)
    assert patch.startswith("--- /dev/null\n+++ b/shop/order_rules.py\n@@ -0,0 +1,")


def test_a_model_without_the_mixin_is_told_of_it(tmp_path: Path) -> None:
    """The advice names all that the model lacks; a handler without rules is valid."""

    class Plain(Document):
        meta = {"abstract": True}

    edit = new_handler_file(tmp_path / "rules.py", "Rules", [], model=Plain)
    assert "Plain needs LazyMigrationMixin as its first base, too." in edit.advice
    assert "    from rules import Rules\n" in edit.advice
    assert compile(edit.after, "rules.py", "exec")


def test_a_new_file_overwrites_none(tmp_path: Path) -> None:
    """A file that is there, or has come into being, is left alone; a name must be one."""
    path = tmp_path / "rules.py"
    edit = new_handler_file(path, "Rules", [], model=Document)
    path.write_text("mine")
    with pytest.raises(HandlerFileError, match="has come into being"):
        edit.write()
    with pytest.raises(HandlerFileError, match="is there already"):
        new_handler_file(path, "Rules", [], model=Document)
    assert path.read_text() == "mine"
    for name in ("my rules", "class", ""):
        with pytest.raises(HandlerFileError, match="is not a valid name for a class"):
            new_handler_file(tmp_path / "new.py", name, [], model=Document)
    with pytest.raises(HandlerFileError, match="cannot be written: No such file"):
        new_handler_file(tmp_path / "none" / "new.py", "Rules", [], model=Document).write()


# --- Numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "lazy_number", "bulk_number"),
    [
        ([], (1, 2), (1, 2)),
        (["migration01__a", "migration07__b"], (8, 2), (1, 2)),
        (["migration001__a"], (2, 3), (1, 3)),
        (["migration9__a"], (10, 1), (1, 1)),
        (["migration10__a", "allmigration2_b"], (11, 2), (3, 1)),
        (["allmigration0003__a"], (1, 4), (4, 4)),
    ],
)
def test_the_next_number_is_behind_all_others(
    names: list[str], lazy_number: tuple[int, int], bulk_number: tuple[int, int]
) -> None:
    """A hole is never filled, and the digits are those of the handler's rules."""
    rules = handler(**{name: rule({}, {}) for name in names})
    assert next_number(rules, "lazy") == lazy_number
    assert next_number(rules, "bulk") == bulk_number


def test_numbers_are_shared_with_parents_and_children() -> None:
    """The next number is free in the handlers that inherit, too, and behind inherited rules."""
    base = handler(migration01__a=rule({}, {}))
    child = type("Child", (base,), {"migration05__b": rule({}, {})})
    assert next_number(base, "lazy") == (6, 2)
    assert next_number(child, "lazy") == (6, 2)
    grandchild = type("Grandchild", (child,), {"migration05__b": None})
    assert next_number(grandchild, "lazy") == (2, 2)


# --- What can go ----------------------------------------------------------------------------

FINISHED = '''\
from lazymig import DocumentMigration


def deco(method):
    return method


def assigned(self):
    self.target = {}


class Base(DocumentMigration):
    # Section.

    # Why there is
    # this rule.
    @deco
    # Between.
    @deco
    def migration01__a(self):
        """Doc."""
        self.target = """
        # text
        """
        # End of it.

    # Not of it.

    def migration02__b(self): pass
    # Of the next.
    migration03__c = assigned  # here

    if deco:
        def allmigration01__d(self):
            pass


class Child(Base):
    """Overrides."""

    def migration02__b(self):
        pass


class Other(Base):
    def migration09__x(self):
        pass
'''


def _lines(text: str, first: int, last: int) -> str:
    return "".join(text.splitlines(keepends=True)[first - 1 : last])


def test_the_lines_of_rules_are_found(imported: Any) -> None:
    """Decorators, comments right above and in the body belong to a rule; nothing else does."""
    module = imported(FINISHED)
    names = ["migration01__a", "migration02__b", "migration03__c", "allmigration01__d"]
    found = removable_lines(module.Base, names)
    assert [(each.rule, each.first, each.last) for each in found] == [
        ("migration01__a", 15, 25),
        ("migration02__b", 29, 29),
        ("migration03__c", 30, 31),
        ("allmigration01__d", 34, 35),
    ]
    for each in found:
        assert each.path == Path(module.__file__)
        assert each.handler == "Base"
        assert each.text == _lines(FINISHED, each.first, each.last)
    assert [each.emptied for each in found] == [None, None, None, "a block of Base"]


@pytest.mark.parametrize("rest", ['"""Doc."""', "...", "pass", "'a'; pass", "limit = 1", "print()"])
def test_what_does_nothing_is_not_left(imported: Any, rest: str) -> None:
    """A docstring, or a placeholder, is no code that is left once the rules of a class are gone."""
    text = (
        "from lazymig import DocumentMigration\n\n\nclass H(DocumentMigration):\n"
        f"    {rest}\n    def migration01__a(self): pass\n    def migration02__b(self): pass\n"
    )
    module = imported(text)
    is_code = rest in ("limit = 1", "print()")
    both = removable_lines(module.H, ["migration01__a", "migration02__b"])
    assert [each.emptied for each in both] == [None if is_code else "H"] * 2
    (first,) = removable_lines(module.H, ["migration01__a"])
    assert first.emptied is None


def test_a_file_without_these_lines_still_works(imported: Any) -> None:
    """Deleting the lines, with a `pass` where nothing is left, leaves the other rules."""
    module = imported(FINISHED)
    found = removable_lines(module.Base, ["migration01__a", "allmigration01__d"])
    lines = FINISHED.splitlines(keepends=True)
    for each in reversed(found):
        indent = lines[each.last - 1][: -len(lines[each.last - 1].lstrip())]
        lines[each.first - 1 : each.last] = [f"{indent}pass\n"] if each.emptied else []
    left = imported("".join(lines)).Base
    assert not hasattr(left, "migration01__a")
    assert not hasattr(left, "allmigration01__d")
    assert left.migration02__b
    assert left.migration03__c


def test_inherited_rules_are_found_where_they_are(imported: Any) -> None:
    """An override is found with what it overrides, and each tells which handlers share it."""
    module = imported(FINISHED)
    found = removable_lines(module.Child, ["migration02__b", "migration01__a"])
    name = module.__name__
    assert [(each.rule, each.handler, each.others) for each in found] == [
        ("migration02__b", "Child", ()),
        ("migration02__b", "Base", (f"{name}.Base", f"{name}.Other")),
        ("migration01__a", "Base", (f"{name}.Base", f"{name}.Other")),
    ]
    child = imported(
        f"from {name} import Base\n\n\nclass Far(Base):\n    def migration10__y(self): pass\n"
    ).Far
    near, far = removable_lines(child, ["migration10__y", "migration03__c"])
    assert near.path != far.path
    assert near.emptied == "Far"
    assert far.path == Path(module.__file__)


def test_a_rule_of_a_plain_class_is_found(imported: Any) -> None:
    """A class that is no handler may hold rules; it is not told as a handler that shares them."""
    text = (
        "from lazymig import DocumentMigration\nclass Mixin:\n    def migration01__a(self): pass\n"
        "class A(Mixin, DocumentMigration): pass\nclass B(Mixin, DocumentMigration): pass\n"
    )
    module = imported(text)
    (lines,) = removable_lines(module.A, ["migration01__a"])
    assert (lines.handler, lines.first, lines.last) == ("Mixin", 3, 3)
    assert lines.others == (f"{module.__name__}.B",)


def test_of_several_definitions_the_living_one_is_found(imported: Any) -> None:
    """Where a class or a rule is written twice, the lines are those of what was defined."""
    text = dedent("""\
        from lazymig import DocumentMigration
        if not DocumentMigration:
            class H(DocumentMigration):
                def migration01__a(self): pass
        else:
            class H(DocumentMigration):
                if True:
                    def migration01__a(self): pass
                else:
                    def migration01__a(self): pass
        """)
    (lines,) = removable_lines(imported(text).H, ["migration01__a"])
    assert (lines.first, lines.last, lines.emptied) == (8, 8, "a block of H")


def test_lines_are_those_of_the_file_as_it_is(imported: Any) -> None:
    """Lines that were added since the import are counted."""
    module = imported(FINISHED)
    path = Path(module.__file__)
    path.write_text("# new\n\n" + FINISHED)
    (lines,) = removable_lines(module.Base, ["migration02__b"])
    assert (lines.first, lines.last) == (31, 31)
    assert lines.text == "    def migration02__b(self): pass\n"


def test_rules_without_lines_are_errors(imported: Any) -> None:
    """A rule that the handler does not have, or that is not in its class's source, is an error."""
    module = imported(FINISHED)
    with pytest.raises(RuleDefinitionError, match=r"Child\.migration09__x: is no rule of this"):
        removable_lines(module.Child, ["migration09__x"])
    module.Base.migration08__late = module.assigned
    with pytest.raises(
        HandlerFileError, match=r"Base\.migration08__late is not written in its cla"
    ):
        removable_lines(module.Base, ["migration08__late"])
    assert removable_lines(module.Base, []) == []


# --- Places ---------------------------------------------------------------------------------


def test_a_handler_is_found_in_its_file(imported: Any) -> None:
    """File and qualified name are those that `add_rules` takes."""
    text = "from lazymig import DocumentMigration\nclass O:\n    class H(DocumentMigration): pass\n"
    module = imported(text)
    place = handler_place(module.O.H)
    assert place == (Path(module.__file__), "O.H")
    add_rules(place.path, place.name, [lazy(1)]).write()
    assert "def migration01__new" in place.path.read_text()


def test_a_handler_without_a_file_is_an_error() -> None:
    """A class that was made in a shell has no file to edit."""
    made = type("Made", (DocumentMigration,), {"__module__": "no_such_module"})
    with pytest.raises(HandlerFileError, match="Made of no_such_module is written in no file"):
        handler_place(made)
    with pytest.raises(HandlerFileError, match="is written in no file"):
        handler_place(int)


def test_a_written_rule_migrates(imported: Any, tmp_path: Path, mock_db: Any) -> None:
    """A rule that was added to a file brings old documents up to date."""
    text = "from lazymig import DocumentMigration\n\n\nclass H(DocumentMigration): pass\n"
    key = ObjectId()
    new = lazy(1, target={"tag": {"$exists": False}}, update={"$set": {"tag": key}})
    rules = imported(add_rules(written(tmp_path, text), "H", [new]).after).H
    post = model(rules, meta={"strict": False})
    collection = post._get_collection()
    collection.insert_one({"_id": 1})
    post.migration_handler(post).migrate_pending()
    assert collection.find_one() == {"_id": 1, "tag": key}
