"""The settings of a call: a configuration file, then the environment, then options; later wins."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lazymig.cli.failures import Misuse
from lazymig.operations.journal import JOURNAL

if sys.version_info >= (3, 11):
    import tomllib
else:
    # mypy checks for 3.10, wherever it runs.
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

__all__ = ["VARIABLES", "Settings", "load_settings"]

# In the current folder, or the nearest above it; the first that is there and has settings is read.
_OWN_FILE = "lazymig.toml"
_SHARED_FILE = "pyproject.toml"

VARIABLES: Mapping[str, str] = {
    "models": "LAZYMIG_MODELS",
    "uri": "LAZYMIG_URI",
    "alias": "LAZYMIG_ALIAS",
    "app": "LAZYMIG_APP",
    "journal": "LAZYMIG_JOURNAL",
    "format": "LAZYMIG_FORMAT",
}
"""The environment variable of each setting."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the models are and how the database is reached.

    :ivar models: `package.module:Model` or `package.module`.
    :ivar uri: a connection string; `None`: the application connects by itself.
    :ivar alias: MongoEngine's alias of the connection that `uri` is for.
    :ivar app: `package.module`, or `package.module:function`, that connects.
    :ivar journal: the name of the journal's collection.
    :ivar format: a command that formats a Python file, which is put after its words; `new` calls it
        for the file that it has written.
    :ivar folder: where the configuration file is, so that modules there can be imported; `None`
        without one.
    :ivar sources: where each setting comes from, for messages.
    """

    models: tuple[str, ...] = ()
    uri: str | None = field(default=None, repr=False)
    alias: str = "default"
    app: str | None = None
    journal: str = JOURNAL
    format: str | None = None
    folder: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    options: Mapping[str, Any], environment: Mapping[str, str], folder: Path
) -> Settings:
    """Read the settings of a call.

    :param options: values by the names of settings; one that is empty was not given.
    :param folder: the configuration file is looked for there, then in the folders above it.
    :raises Misuse: a file cannot be read, belongs to another user, or has a setting that there is
        not.
    """
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    place, from_file = _from_file(folder)
    layers = (
        from_file,
        {
            variable: {name: environment[variable]}
            for name, variable in VARIABLES.items()
            if environment.get(variable)
        },
        {f"--{name}": {name: value} for name, value in options.items() if value},
    )
    for layer in layers:
        for source, values in layer.items():
            found.update(values)
            sources.update(dict.fromkeys(values, source))
    if isinstance(found.get("models"), str):
        found["models"] = found["models"].replace(",", " ").split()
    found["models"] = tuple(found.get("models", ()))
    return Settings(**found, folder=place, sources=sources)


def _from_file(start: Path) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    """The folder of the configuration file, and its settings by its name."""
    for folder in (start, *start.parents):
        for file in (_OWN_FILE, _SHARED_FILE):
            name = file if folder == start else str(folder / file)
            table = _table_of(folder / file, name)
            if table is None:
                continue
            if folder != start and not _is_trusted(folder / file):
                # Its settings name modules that are imported.
                raise Misuse(f"{name} belongs to another user; call lazymig in its folder")
            return folder, {name: _checked(table, name)}
    return None, {}


def _table_of(path: Path, name: str) -> Any:
    """What a file sets; `None` if there is no such file, or nothing in it is for lazymig."""
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Misuse(f"{name} cannot be read: {error.strerror}; check its rights") from error
    except ValueError as error:
        raise Misuse(f"{name} is no TOML: {error}; fix it") from error
    table = content.get("tool", {}).get("lazymig")
    return content if table is None and path.name == _OWN_FILE else table


def _is_trusted(path: Path) -> bool:
    """Return whether a file is the user's own, or the system's."""
    get_user = getattr(os, "getuid", None)
    return get_user is None or path.stat().st_uid in (0, get_user())


def _checked(table: Any, file: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise Misuse(f"{file}: tool.lazymig is no table; write [tool.lazymig]")
    for name, value in table.items():
        if name not in VARIABLES:
            close = difflib.get_close_matches(name, VARIABLES, 1)
            remedy = f"did you mean {close[0]}?" if close else f"there are {', '.join(VARIABLES)}"
            raise Misuse(f"{file}: there is no setting {name!r}; {remedy}")
        several = name == "models" and isinstance(value, list)
        if not all(isinstance(one, str) and one for one in (value if several else [value])):
            kind = "a string or a list of strings" if name == "models" else "a string"
            raise Misuse(f"{file}: {name} is {value!r}; write {kind}")
    return dict(table)
