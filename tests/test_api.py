"""The public interface: what is documented, what is there, and what was there before."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from mongoengine import Document, QuerySet

import lazymig

ROOT = Path(__file__).parents[1]
# Each public name, one a line, with its parameters. A line that goes, or changes, is a change that
# users notice: docs/stability.md says what has to be done before.
GOLDEN = Path(__file__).parent / "public_api.txt"
MONGOENGINES = {*dir(QuerySet), *dir(Document)}
MODULES = ("lazymig", "lazymig.testing", "lazymig.signals")


def documented() -> set[str]:
    """The names that the page of the API has directives for."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?:auto(?:class|function|exception)|py:class):: ([A-Za-z_]+)", page))


def public_names() -> list[str]:
    """All that the golden list should hold, as it is today."""
    return sorted({line for name in MODULES for line in _lines_of(name)})


def _lines_of(module_name: str) -> Iterator[str]:
    module = importlib.import_module(module_name)
    for name in module.__all__:
        value = getattr(module, name)
        full = f"{module_name}.{name}"
        if inspect.isclass(value):
            yield from _lines_of_class(full, value)
        elif inspect.isfunction(value):
            yield f"{full}({_parameters(value)})"
        else:
            yield full


def _lines_of_class(full: str, value: type) -> Iterator[str]:
    """The class, its bases among the public exceptions, and what it has of its own or ours."""
    bases = [base.__name__ for base in value.__bases__ if issubclass(value, BaseException)]
    yield f"{full}{f' <- {bases}' if bases else ''}"
    if value.__name__ in called():
        yield f"{full}({_parameters(vars(value)['__init__'])})"
    members = {
        name: one
        for base in reversed(value.__mro__)
        if base.__module__.partition(".")[0] == "lazymig"
        for name, one in (*dict.fromkeys(_annotated(base)).items(), *vars(base).items())
        if not name.startswith("_") and name not in MONGOENGINES
    }
    for name, one in members.items():
        function = getattr(one, "__func__", one)
        if inspect.isfunction(function):
            yield f"{full}.{name}({_parameters(function)})"
        else:
            yield f"{full}.{name}"


def called() -> set[str]:
    """The classes of which users make instances by calling them, as the page of the API says."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    named = re.findall(r"autoclass:: ([A-Za-z_]+)$", page, re.MULTILINE)
    return {name for name in named if "__init__" in vars(getattr(lazymig, name))}


def _annotated(value: type) -> list[str]:
    return list(vars(value).get("__annotations__", {}))


def _parameters(function: object) -> str:
    """The names by which and order in which it takes arguments; `=` for those with a default."""
    given = inspect.signature(function)  # type: ignore[arg-type]
    words = []
    for one in given.parameters.values():
        if one.name in {"self", "cls"}:
            continue
        if one.kind is one.KEYWORD_ONLY and "*" not in "".join(words):
            words.append("*")
        stars = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        words.append(f"{stars}{one.name}{'' if one.default is one.empty else '='}")
    return ", ".join(words)


def test_the_page_of_the_api_has_every_name_and_no_other() -> None:
    """What `lazymig` exports has a directive in docs/api.md, and what has one is exported."""
    assert documented() | {"signals"} == set(lazymig.__all__)


def test_the_signals_are_documented() -> None:
    """Each signal has an entry on the page of the API, and each entry is a signal."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    entries = set(re.findall(r"py:data:: signals\.(\w+)", page))
    assert entries == set(lazymig.signals.__all__)


def test_the_test_kit_is_documented() -> None:
    """Each name of `lazymig.testing` is on the page about tests."""
    page = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
    kit = importlib.import_module("lazymig.testing")
    assert [name for name in kit.__all__ if f"`{name}" not in page] == []


def test_documented_imports_are_public() -> None:
    """What the pages import from lazymig is exported by the module that they name."""
    wrong = []
    for page in sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]):
        for module, names in re.findall(
            r"^(?:>>> )?from (lazymig[\w.]*) import (.+)$", page.read_text("utf-8"), re.MULTILINE
        ):
            exported = getattr(importlib.import_module(module), "__all__", ())
            wrong += [
                (page.name, module, name)
                for name in re.findall(r"[A-Za-z_]\w*", names.partition("#")[0])
                if name not in exported and name != "as"
            ]
    assert wrong == []


def test_nothing_public_is_lost() -> None:
    """The golden list has every public name with its parameters; a removal is seen, and meant.

    `python -m tests.test_api` writes the list anew.
    """
    assert public_names() == GOLDEN.read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("module", MODULES)
def test_what_is_exported_is_written_in_order(module: str) -> None:
    """Each public module has a sorted `__all__`, written as a literal that tools can read."""
    path = importlib.import_module(module).__file__
    assert path is not None
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    (written,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    assert written == sorted(set(written))


if __name__ == "__main__":
    GOLDEN.write_text("".join(f"{line}\n" for line in public_names()), encoding="utf-8")
