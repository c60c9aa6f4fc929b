"""The golden files: old documents, and what rules make of them, as extended JSON in a folder."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

from bson import json_util
from bson.binary import UuidRepresentation

from lazymig.testing.assertions import assert_migrates
from lazymig.testing.scratch import Scope, scratch
from lazymig.testing.shapes import compared

__all__ = ["GoldenCase", "golden_cases"]

_KEYS: Final = ("model", "scope", "before", "after")
_SCOPES: Final = ("lazy", "bulk", "all")

# UUIDs stay binary values, which every client can store, whatever its own representation.
_READ: Final = json_util.JSONOptions(
    tz_aware=False, uuid_representation=UuidRepresentation.UNSPECIFIED
)


@dataclass(frozen=True, slots=True)
class GoldenCase:
    """One golden file.

    :param path: the file; a JSON object with `before` and `after`, raw documents in extended JSON,
        and optionally `model`, as `package.module:Class`, and `scope`, as in `migrated`.
    :param model: the model of a file that names none.
    """

    path: Path
    model: Any = None

    @property
    def name(self) -> str:
        """The name of the file, without its ending."""
        return self.path.stem

    def __str__(self) -> str:
        return self.name

    def check(self) -> None:
        """Assert that the rules make `after` of `before`; see `assert_migrates`.

        :raises AssertionError: they do not; the message begins with the path of the file.
        :raises ValueError: the file is no golden file, or lacks `after`.
        :raises MigrationError: a rule failed.
        """
        __tracebackhide__ = True
        content = self._read()
        if "after" not in content:
            raise ValueError(
                f"{self.path}: has no 'after'; pytest --lazymig-update-golden writes what the "
                "rules make of 'before'"
            )
        try:
            assert_migrates(
                self._model_of(content),
                _decoded(content["before"]),
                _decoded(content["after"]),
                scope=_scope_of(content),
            )
        except AssertionError as error:
            raise AssertionError(f"{self.path}: {error}") from None

    def update(self) -> bool:
        """Write what the rules make of `before` into the file as `after`, if it is not there yet.

        :return: whether the file was changed.
        :raises ValueError: the file is no golden file.
        :raises MigrationError: a rule failed.
        """
        content = self._read()
        model, before = self._model_of(content), _decoded(content["before"])
        with scratch(model) as place:
            place.insert([before])
            place.apply(_scope_of(content))
            (after,) = place.read()
            codec_options = place.codec_options
        if "after" in content:
            expected = {**_decoded(content["after"]), "_id": after["_id"]}
            if not compared(expected, after, codec_options):
                return False
        if "_id" not in before:
            del after["_id"]
        options = json_util.RELAXED_JSON_OPTIONS.with_options(
            uuid_representation=codec_options.uuid_representation
        )
        content["after"] = json.loads(json_util.dumps(after, json_options=options))
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        self.path.write_text(text, encoding="utf-8")
        return True

    def _read(self) -> dict[str, Any]:
        """The file's JSON object, with the extended JSON in it as it is written."""
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.path}: is no JSON: {error}") from error
        if not isinstance(content, dict) or not isinstance(content.get("before"), dict):
            raise ValueError(
                f"{self.path}: is no golden file; write an object with the documents 'before' and "
                "'after'"
            )
        unknown = sorted(content.keys() - set(_KEYS))
        if unknown:
            raise ValueError(
                f"{self.path}: has the unknown key {unknown[0]!r}; use {', '.join(_KEYS)}"
            )
        if content.get("scope", "lazy") not in _SCOPES:
            raise ValueError(
                f"{self.path}: scope is {content['scope']!r}; use {', '.join(_SCOPES)}"
            )
        return content

    def _model_of(self, content: Mapping[str, Any]) -> Any:
        name = content.get("model")
        if name is None:
            if self.model is None:
                raise ValueError(
                    f"{self.path}: names no model; add 'model': 'package.module:Class'"
                )
            return self.model
        module, colon, attributes = str(name).partition(":")
        if not colon:
            raise ValueError(f"{self.path}: model is {name!r}; write 'package.module:Class'")
        try:
            found: Any = import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{self.path}: the model {name} cannot be imported: {error}; correct 'model', "
                "or let pytest's setting 'pythonpath' name the folder of the package"
            ) from error
        for attribute in attributes.split("."):
            if not hasattr(found, attribute):
                raise ValueError(f"{self.path}: {module} has no {attributes!r}; correct 'model'")
            found = getattr(found, attribute)
        return found


def golden_cases(folder: str | os.PathLike[str], model: Any = None) -> list[GoldenCase]:
    """The golden files of a folder and the folders in it, in the order of their paths.

    :param model: the model of files that name none.
    :raises FileNotFoundError: there is no such folder, or no golden file in it.
    """
    cases = [GoldenCase(path, model) for path in sorted(Path(folder).rglob("*.json"))]
    if not cases:
        raise FileNotFoundError(f"{folder}: holds no golden files (*.json); correct the folder")
    return cases


def _scope_of(content: Mapping[str, Any]) -> Scope:
    return cast("Scope", content.get("scope", "lazy"))


def _decoded(document: Mapping[str, Any]) -> dict[str, Any]:
    decoded: dict[str, Any] = json_util.loads(json.dumps(document), json_options=_READ)
    return decoded
