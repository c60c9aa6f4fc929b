"""The layers of the package: imports go down only, and private names stay behind their door."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import mongoengine
import pytest

PACKAGE = Path(__file__).parents[1] / "lazymig"

# From bottom to top; rooms of one storey may import each other.
STOREYS = (
    {"errors"},
    {"characters", "locks", "redaction", "signals"},
    {"raw"},
    {"query"},
    {"updates"},
    {"rules"},
    {"engines"},
    {"odm"},
    {"operations"},
    {"reports"},
    {"codegen"},
    {"migration"},
    {"", "demo", "testing"},
    {"cli"},
    {"__main__"},
)
HEIGHT = {room: height for height, rooms in enumerate(STOREYS) for room in rooms}

PURE = {"gridfs", "mongoengine", "mongomock", "pymongo"}
FORBIDDEN = {
    "raw": PURE,
    "query": PURE,
    "updates": PURE,
    "rules": PURE,
    "engines": {"mongoengine", "mongomock"},
}


def names_defined(tree: ast.Module) -> Iterator[str]:
    """Give the names of functions, classes, variables, attributes and keys that a file sets."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
            # The metaclasses put attributes into the namespace of a class.
            case ast.Subscript(slice=ast.Constant(value=str(name)), ctx=ast.Store()):
                yield name


@cache
def private_names() -> frozenset[str]:
    """The private names that MongoEngine defines; those in double underscores are Python's."""
    return frozenset(
        name
        for path in Path(mongoengine.__file__).parent.rglob("*.py")
        for name in names_defined(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        if name.startswith("_") and not name.startswith("__")
    )


@dataclass(frozen=True)
class Module:
    """One file of the package; it is parsed by the test that wants to see inside."""

    parts: tuple[str, ...]
    is_package: bool
    text: str

    @classmethod
    def read(cls, path: Path) -> Module:
        """Read one file."""
        inner = path.relative_to(PACKAGE).with_suffix("").parts
        is_package = inner[-1] == "__init__"
        parts = ("lazymig", *(inner[:-1] if is_package else inner))
        return cls(parts, is_package, path.read_text(encoding="utf-8"))

    @cached_property
    def tree(self) -> ast.Module:
        """The text, parsed."""
        return ast.parse(self.text, self.name)

    @property
    def name(self) -> str:
        """The dotted name."""
        return ".".join(self.parts)

    @property
    def room(self) -> str:
        """The folder or file right under lazymig; "" for the front door."""
        return self.parts[1] if len(self.parts) > 1 else ""

    def imports(self) -> Iterator[tuple[int, str, str]]:
        """Give line, absolute module and imported name ("" for a plain import)."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((node.lineno, self._absolute(node), alias.name) for alias in node.names)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        up = node.level - self.is_package
        base = self.parts[: len(self.parts) - up]
        return ".".join((*base, *([node.module] if node.module else [])))


def room_of(module: str, name: str) -> str:
    """Name the room that an import of lazymig reaches; "" is the front door."""
    parts = module.split(".")
    if len(parts) > 1:
        return parts[1]
    return name if name in HEIGHT else ""


def upward_arrows(module: Module) -> list[str]:
    """List the imports that go from a lower storey to a higher one."""
    return [
        f"{module.name}:{line} imports {target} {name}".rstrip()
        for line, target, name in module.imports()
        if target.split(".")[0] == "lazymig"
        and HEIGHT.get(room_of(target, name), len(STOREYS)) > HEIGHT[module.room]
    ]


def foreign_imports(module: Module) -> list[str]:
    """List the imports of libraries that the module's room must not know."""
    return [
        f"{module.name}:{line} imports {target}"
        for line, target, _ in module.imports()
        if target.split(".")[0] in FORBIDDEN.get(module.room, ())
    ]


def private_touches(module: Module) -> list[str]:
    """List the uses of MongoEngine's private names."""
    found = [
        f"{module.name}:{line} imports {target}.{name}"
        for line, target, name in module.imports()
        if target.split(".")[0] == "mongoengine"
        and any(part.startswith("_") for part in (*target.split("."), name))
    ]
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in private_names()
            # An object's own attribute may be called as one of MongoEngine's is.
            and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
        ):
            found.append(f"{module.name}:{node.lineno} touches {node.attr}")
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"getattr", "hasattr", "setattr"}
        ):
            found.extend(
                f"{module.name}:{node.lineno} touches {argument.value}"
                for argument in node.args
                if isinstance(argument, ast.Constant) and argument.value in private_names()
            )
    return found


MODULES = [Module.read(path) for path in sorted(PACKAGE.rglob("*.py"))]
each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)


@each_module
def test_every_module_lives_in_a_room_of_the_design(module: Module) -> None:
    """No module lives outside of the rooms that the design names."""
    assert module.room in HEIGHT


@each_module
def test_imports_go_down_only(module: Module) -> None:
    """A module imports nothing of lazymig that lies on a higher storey."""
    assert upward_arrows(module) == []


@each_module
def test_lower_rooms_know_no_driver_and_no_mapper(module: Module) -> None:
    """The rules know neither PyMongo nor MongoEngine, and the engines know no MongoEngine."""
    assert foreign_imports(module) == []


@pytest.mark.parametrize(
    "module", [one for one in MODULES if one.room != "odm"], ids=lambda module: module.name
)
def test_only_odm_touches_private_names_of_mongoengine(module: Module) -> None:
    """No room but odm uses a private name of MongoEngine."""
    assert private_touches(module) == []


def _planted(room: str, source: str) -> Module:
    return Module(("lazymig", room, "planted"), is_package=False, text=source)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("rules", "from lazymig.engines.loads.lazy import migrate_batch"),
        ("rules", "from ..engines import lazy"),
        ("rules", "import lazymig"),
        ("engines", "from lazymig import odm"),
        ("errors", "import lazymig.signals"),
        ("operations", "def late():\n    from lazymig.cli import main"),
        ("odm", "from lazymig.unheard_of import thing"),
        ("testing", "from lazymig.cli.main import main"),
    ],
)
def test_an_upward_arrow_is_seen(room: str, source: str) -> None:
    """Every spelling of an upward import is found."""
    assert len(upward_arrows(_planted(room, source))) == 1


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("engines", "from lazymig.query.matching import compile_query"),
        ("engines", "from . import lazy"),
        ("migration", "from lazymig.operations import journal"),
        ("cli", "from lazymig import operations"),
        ("cli", "def late():\n    from lazymig.demo.__main__ import main"),
        ("testing", "import lazymig"),
    ],
)
def test_a_downward_arrow_is_allowed(room: str, source: str) -> None:
    """An import of the same or a lower storey is no fault."""
    assert upward_arrows(_planted(room, source)) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("rules", "import pymongo.errors"),
        ("rules", "from mongoengine import Document"),
        ("engines", "from mongoengine.queryset import QuerySet"),
    ],
)
def test_a_foreign_import_is_seen(room: str, source: str) -> None:
    """A library that a room must not know is found."""
    assert len(foreign_imports(_planted(room, source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from mongoengine.base.common import _document_registry",
        "import mongoengine._private",
        "model._from_son({})",
        "getattr(model, '_meta')",
    ],
)
def test_a_private_touch_is_seen(source: str) -> None:
    """A private name of MongoEngine is found as an import, an attribute and a string."""
    assert len(private_touches(_planted("engines", source))) == 1


def test_the_private_names_are_those_of_mongoengine() -> None:
    """MongoEngine's own source says which names are private, however they are set there."""
    known = {
        "_from_son",
        "_get_collection",
        "_meta",
        "_fields",
        "_subclasses",
        "_document_registry",
    }
    assert sorted(known - private_names()) == []
    assert len(private_names()) > 100
