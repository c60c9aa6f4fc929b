"""What a call works with: a configuration file, then the environment, then options; later wins."""

from __future__ import annotations

import difflib
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

# Both in the current directory; the first that is there and has settings is read.
_OWN_FILE = "lazymig.toml"
_SHARED_FILE = "pyproject.toml"

VARIABLES: Mapping[str, str] = {
    "models": "LAZYMIG_MODELS",
    "uri": "LAZYMIG_URI",
    "alias": "LAZYMIG_ALIAS",
    "app": "LAZYMIG_APP",
    "journal": "LAZYMIG_JOURNAL",
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
    :ivar sources: where each setting comes from, for messages.
    """

    models: tuple[str, ...] = ()
    uri: str | None = field(default=None, repr=False)
    alias: str = "default"
    app: str | None = None
    journal: str = JOURNAL
    sources: Mapping[str, str] = field(default_factory=dict)


def load_settings(
    options: Mapping[str, Any], environment: Mapping[str, str], folder: Path
) -> Settings:
    """Read the settings of a call.

    :param options: values by the names of settings; one that is empty was not given.
    :param folder: where the configuration files are looked for.
    :raises Misuse: a file cannot be read, or has a setting that there is not.
    """
    found: dict[str, Any] = {}
    sources: dict[str, str] = {}
    layers = (
        _from_file(folder),
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
    return Settings(**found, sources=sources)


def _from_file(folder: Path) -> dict[str, dict[str, Any]]:
    """The settings of the configuration file, by its name."""
    for name in (_OWN_FILE, _SHARED_FILE):
        path = folder / name
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except OSError as error:
            raise Misuse(f"{name} cannot be read: {error.strerror}; check its rights") from error
        except ValueError as error:
            raise Misuse(f"{name} is no TOML: {error}; mend it") from error
        table = content.get("tool", {}).get("lazymig")
        if table is None and name == _OWN_FILE:
            table = content
        if table is not None:
            return {name: _checked(table, name)}
    return {}


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
