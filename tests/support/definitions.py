"""What a page defines, without what it does: models and rules, as they stand or in another form."""

from __future__ import annotations

import ast
import linecache
import re
import types
from collections.abc import Iterator
from pathlib import Path

from tests.support.pages import python_blocks

__all__ = ["defined"]

_RULE = re.compile(r"^(?:all)?migration(?=\d)")


def defined(page: Path, *, scope: str | None = None, plain: bool = False) -> types.ModuleType:
    """Run what a page defines: imports, functions, classes, constants in capitals, and `db`.

    :param scope: `migration` or `allmigration`, with which the names of all rules begin then; by
        default they keep their names.
    :param plain: the models are those of plain MongoEngine, without lazymig and without rules.
    """
    tree = ast.Module(body=list(_definitions(page)), type_ignores=[])
    if plain:
        tree = _Plain().visit(tree)
    elif scope is not None:
        tree = _Scoped(scope).visit(tree)
    text = ast.unparse(ast.fix_missing_locations(tree))
    name = f"<{page.name}, {'plain' if plain else scope}>"
    # The methods of rules are read in their source.
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    module = types.ModuleType("documentation_page")
    exec(compile(text, name, "exec", dont_inherit=True), module.__dict__)
    return module


def _definitions(page: Path) -> Iterator[ast.stmt]:
    for block in python_blocks(page.read_text("utf-8")):
        for statement in ast.parse(block.source).body:
            match statement:
                case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.ClassDef():
                    yield statement
                case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper() or name == "db":
                    yield statement
                case ast.Assign(targets=[ast.Tuple() as names]) if ast.unparse(names).isupper():
                    yield statement


class _Plain(ast.NodeTransformer):
    """Models without the mixin, and no handlers."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef | None:
        bases = [ast.unparse(base) for base in node.bases]
        if bases == ["DocumentMigration"]:
            return None
        node.bases = [base for base in node.bases if ast.unparse(base) != "LazyMigrationMixin"]
        node.body = [each for each in node.body if "migration_handler" not in ast.unparse(each)]
        node.body = node.body or [ast.Pass()]
        return node


class _Scoped(ast.NodeTransformer):
    """All rules in one scope."""

    def __init__(self, scope: str) -> None:
        self._scope = scope

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.name = _RULE.sub(self._scope, node.name)
        return node
