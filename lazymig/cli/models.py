"""The models of a call, found by `package.module:Model` and `package.module`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from pymongo.errors import PyMongoError

from lazymig.cli.failures import Misuse
from lazymig.errors import LazyMigError
from lazymig.odm.plans import owner_of
from lazymig.odm.schema import is_concrete

__all__ = ["Which", "call_app", "find_models", "is_migrated", "make_importable"]

Which = Literal["migrated", "named", "all"]


def make_importable(folder: Path) -> None:
    """Let modules in a folder be imported, as `python -m` does with the current one."""
    is_current = "" in sys.path and folder == Path.cwd()
    if str(folder) not in sys.path and not is_current:
        sys.path.insert(0, str(folder))


def is_migrated(model: Any) -> bool:
    """Return whether a model has rules, or had some: whether it names a handler."""
    return getattr(model, "migration_handler", None) is not None


def find_models(names: Sequence[str], which: Which = "migrated") -> list[Any]:
    """The models of these names, in this order, each once.

    A module stands for the models in it, those that it imports included.

    :param which: `"migrated"`: those with a handler; a class that has its handler from another one
        of them is left out, because those rules are for its documents, too. `"named"`: the same,
        but a model that is named need not have one. `"all"`: those without a handler as well; a
        subclass of another one of them is left out, because its documents are that one's, too.
    :raises Misuse: there is no such module or model, or no module has one.
    """
    found: dict[Any, None] = {}
    scanned: list[str] = []
    for name in names:
        module_name, colon, class_name = name.partition(":")
        module = _imported(module_name)
        if colon:
            found[_named(module, class_name, which)] = None
            continue
        documents = [value for value in vars(module).values() if is_concrete(value)]
        models = _roots(documents) if which == "all" else _with_rules_of_their_own(documents)
        found.update(dict.fromkeys(models))
        if not models:
            scanned.append(_scan_of(name, documents))
    if not found:
        kind = "model" if which == "all" else "migrated model"
        raise Misuse(f"no {kind}: {'; '.join(scanned)}; name others with --models")
    return list(found)


def call_app(name: str) -> None:
    """Import `package.module`, or call the function `package.module:function`.

    :raises Misuse: there is no such module or function, or it raises.
    """
    module_name, colon, function_name = name.partition(":")
    module = _imported(module_name)
    if not colon:
        return
    function = getattr(module, function_name, None)
    if not callable(function):
        raise Misuse(f"{module_name} has no function {function_name!r} to call; correct --app")
    try:
        function()
    except (LazyMigError, PyMongoError):
        raise
    except Exception as error:
        raise Misuse(f"{name} raises {type(error).__name__}: {error}; fix it") from error


def _imported(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise Misuse(f"{name!r} is no module; write package.module:Model or package.module")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise Misuse(f"{name} cannot be imported: {error}; install what is missing") from error
        remedy = "call lazymig from the project's folder, or set PYTHONPATH"
        module_name, _dot, last = error.name.rpartition(".")
        close = difflib.get_close_matches(last, vars(sys.modules.get(module_name, object)), 1)
        if error.name == name and close:
            remedy = f"did you mean {module_name}:{close[0]}?"
        raise Misuse(
            f"there is no module {error.name!r} in {sys.path[0] or Path.cwd()} or where Python "
            f"looks for modules; {remedy}"
        ) from error
    except (LazyMigError, PyMongoError):
        raise
    except (Exception, SystemExit) as error:
        raise Misuse(
            f"{name} cannot be imported: {type(error).__name__}: {error}; fix it, --debug shows "
            "where"
        ) from error


def _named(module: ModuleType, class_name: str, which: Which) -> Any:
    model = getattr(module, class_name, None)
    if model is None:
        documents = [name for name, value in vars(module).items() if is_concrete(value)]
        close = difflib.get_close_matches(class_name, documents, 1)
        remedy = f"did you mean {close[0]}?" if close else f"it has {_listed(documents)}"
        raise Misuse(f"{module.__name__} has no model {class_name!r}; {remedy}")
    if not is_concrete(model):
        raise Misuse(
            f"{module.__name__}:{class_name} has no documents; name a class that inherits from "
            "Document and is not abstract"
        )
    if which == "migrated" and not is_migrated(model):
        raise Misuse(
            f"{module.__name__}:{class_name} has no rules; let it inherit LazyMigrationMixin and "
            "name a migration_handler"
        )
    return model


def _with_rules_of_their_own(documents: Sequence[Any]) -> list[Any]:
    migrated = [each for each in documents if is_migrated(each)]
    return [each for each in migrated if (owner := owner_of(each)) is each or owner not in migrated]


def _roots(documents: Sequence[Any]) -> list[Any]:
    return [each for each in documents if not any(other in documents for other in each.__mro__[1:])]


def _scan_of(name: str, documents: Sequence[Any]) -> str:
    if not documents:
        return f"{name} has no Document class"
    listed = _listed([each.__name__ for each in documents])
    return f"of {listed} in {name} none has a handler, lazymig new writes one"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) or "no Document class"
    return f"{shown} and {len(names) - 10} more" if len(names) > 10 else shown
