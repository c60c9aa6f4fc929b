"""The limits of the house: how large things may be, and how docstrings begin."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lazymig"

METHODS, LINES_OF_FUNCTION, LINES_OF_MODULE, PARAMETERS, SHARE_OF_FOLDER = 20, 60, 450, 7, 0.2

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A file of the package; it is parsed by the test that wants to see inside."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """The text, parsed."""
        return ast.parse(self.text, self.path)

    @property
    def docstring(self) -> str:
        """The docstring of the module."""
        return ast.get_docstring(self.tree) or ""

    def nodes(self) -> Iterator[tuple[str, ast.AST]]:
        """Each class and function with its name, those around it included."""
        yield from _inside(self.path, self.tree)

    def functions(self) -> Iterator[tuple[str, Function]]:
        """Each function with its name."""
        for name, node in self.nodes():
            if isinstance(node, Function):
                yield name, node


def _inside(name: str, node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.ClassDef, Function)):
            inner = f"{name}:{child.name}" if ":" not in name else f"{name}.{child.name}"
            yield inner, child
            yield from _inside(inner, child)
        else:
            yield from _inside(name, child)


def large_classes(module: Module) -> Iterator[str]:
    """The classes of too many methods; properties count, overloads do not."""
    for name, node in module.nodes():
        if isinstance(node, ast.ClassDef):
            methods = [
                one.name
                for one in node.body
                if isinstance(one, Function)
                and not any(ast.unparse(by).endswith("overload") for by in one.decorator_list)
            ]
            if len(methods) > METHODS:
                yield name


def long_functions(module: Module) -> Iterator[str]:
    """The functions of too many lines."""
    for name, node in module.functions():
        if (node.end_lineno or 0) - node.lineno + 1 > LINES_OF_FUNCTION:
            yield name


def long_modules(module: Module) -> Iterator[str]:
    """The modules of too many lines whose docstring does not say: long, because ..."""
    if module.text.count("\n") > LINES_OF_MODULE and "because" not in module.docstring:
        yield module.path


def many_parameters(module: Module) -> Iterator[str]:
    """The functions of too many parameters; those of click's commands are options."""
    for name, node in module.functions():
        given = node.args
        own = [
            one
            for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)
            if one.arg not in {"self", "cls"}
        ]
        if len(own) > PARAMETERS and not _is_command(node):
            yield name


def positional_booleans(module: Module) -> Iterator[str]:
    """The parameters that are booleans and may be given by position."""
    for name, node in module.functions():
        if not _is_command(node):
            for one in (*node.args.posonlyargs, *node.args.args):
                if one.annotation is not None and ast.unparse(one.annotation) == "bool":
                    yield f"{name}({one.arg})"


def _is_command(node: Function) -> bool:
    """Return whether click calls the function, with its options by name."""
    return any(
        re.search(r"\b(command|group|option|argument|pass_\w+)\b", ast.unparse(one))
        for one in node.decorator_list
    )


def questions(module: Module) -> Iterator[str]:
    """The modules whose docstring asks instead of naming."""
    if re.match(r"(What|Which|Where|How|When|Who|Why)\b", module.docstring):
        yield module.path


def other_booleans(module: Module) -> Iterator[str]:
    """The functions that give a boolean and whose docstring says so in other words."""
    for name, node in module.functions():
        said = ast.get_docstring(node)
        gives = node.returns is not None and ast.unparse(node.returns) == "bool"
        is_property = any("property" in ast.unparse(one) for one in node.decorator_list)
        says = re.search(r"\breturn:? whether\b", said or "", re.IGNORECASE) or (
            is_property and said and said.startswith("Whether ")
        )
        if gives and said and not says and not node.name.startswith("__"):
            yield name


MODULES = [
    Module(path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted(PACKAGE.rglob("*.py"))
]
# Signatures that are others' to choose, whichever file they are in.
MONGOENGINE = "MongoEngine calls and overrides it with this signature"
CLICK = "click calls it with this signature"
PICKLE = "pickles of querysets call it by position"
DICTATED = {
    "_from_son(_auto_dereference)": MONGOENGINE,
    "_from_son(created)": MONGOENGINE,
    "_new_joined(live)": PICKLE,
    "_save_create(force_insert)": MONGOENGINE,
    "count(with_limit_and_skip)": MONGOENGINE,
    "delete(_from_doc_delete)": MONGOENGINE,
    "item_frequencies(map_reduce)": MONGOENGINE,
    "item_frequencies(normalize)": MONGOENGINE,
    "main(standalone_mode)": CLICK,
    "_write_schema(value)": CLICK,
    "run(as_json)": CLICK,
    "run(debug)": CLICK,
    "update(full_result)": MONGOENGINE,
    "update(multi)": MONGOENGINE,
    "update(upsert)": MONGOENGINE,
}
Check = Callable[[Module], Iterator[str]]

CHECKS: tuple[Check, ...] = (
    large_classes,
    long_functions,
    long_modules,
    many_parameters,
    positional_booleans,
    questions,
    other_booleans,
)
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)


@cache
def _found(check: Check) -> list[str]:
    """Those that a check finds in the package, without those whose signature is dictated."""
    found = [name for module in MODULES for name in check(module)]
    return [name for name in found if _own_name(name) not in DICTATED]


def _own_name(name: str) -> str:
    return name.rsplit(":", 1)[-1].rsplit(".", 1)[-1]


@each_check
def test_the_limits_are_kept(check: Check) -> None:
    """Nothing breaks a limit of the house."""
    assert _found(check) == []


def test_what_is_dictated_is_there() -> None:
    """Each signature that is excused for others' sake exists."""
    there = {_own_name(name) for module in MODULES for name in positional_booleans(module)}
    assert sorted(set(DICTATED) - there) == []


def test_no_folder_holds_most_of_the_files() -> None:
    """The largest folder has at most a fifth of all modules directly in it."""
    folders = Counter(str(Path(module.path).parent) for module in MODULES)
    ((_, most),) = folders.most_common(1)
    assert most <= SHARE_OF_FOLDER * len(MODULES)


def test_each_class_has_a_name_of_its_own() -> None:
    """No two classes of the package have the same name, so that a name finds what it means."""
    names = Counter(
        node.name
        for module in MODULES
        for _, node in module.nodes()
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def _lines(count: int, indent: str = "") -> str:
    return "".join(f"{indent}a{number} = 1\n" for number in range(count))


def _methods(count: int) -> str:
    return "".join(f"    def m{number}(self): ...\n" for number in range(count))


@pytest.mark.parametrize(
    ("check", "source", "found"),
    [
        (large_classes, "class A:\n" + _methods(21), ["m.py:A"]),
        (large_classes, "class A:\n" + _methods(20), []),
        (long_functions, "def f():\n" + _lines(60, "    "), ["m.py:f"]),
        (long_functions, "def f():\n" + _lines(59, "    "), []),
        (long_modules, '"""The values."""\n' + _lines(450), ["m.py"]),
        (long_modules, '"""The values: long, because they are one table."""\n' + _lines(450), []),
        (many_parameters, "class A:\n def f(self, a, b, c, d, *, e, f, g, h): ...", ["m.py:A.f"]),
        (many_parameters, "class A:\n def f(self, a, b, c, d, *, e, f, g): ...", []),
        (many_parameters, "@click.option('a')\ndef f(a, b, c, d, e, f, g, h): ...", []),
        (positional_booleans, "def f(a: int, b: bool = True): ...", ["m.py:f(b)"]),
        (positional_booleans, "def f(a: int, *, b: bool = True): ...", []),
        (questions, '"""Which rules there are."""', ["m.py"]),
        (questions, '"""The rules."""', []),
        (other_booleans, 'def f() -> bool:\n    """True if so."""', ["m.py:f"]),
        (other_booleans, 'def f() -> bool:\n    """Return whether so."""', []),
        (other_booleans, 'def f() -> bool:\n    """Do it; return whether it was done."""', []),
        (other_booleans, '@property\ndef f() -> bool:\n    """Whether so."""', []),
    ],
)
def test_what_breaks_a_limit_is_found(check: Check, source: str, found: list[str]) -> None:
    """Each check finds what is one beyond its limit, and nothing that is at it."""
    assert list(check(Module("m.py", source))) == found
