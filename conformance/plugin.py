"""The pytest plugin of one pass: where the server is, what the models inherit, how each test ends.

It is loaded into MongoEngine's suite by name, and told what to do by environment variables.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import mongoengine
import pytest
from mongoengine.base.metaclasses import TopLevelDocumentMetaclass
from pymongo import MongoClient

from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["ADDRESS", "MODE", "OUTCOMES", "PASSES"]

MODE = "LAZYMIG_CONFORMANCE_MODE"
ADDRESS = "LAZYMIG_CONFORMANCE_ADDRESS"
OUTCOMES = "LAZYMIG_CONFORMANCE_OUTCOMES"

PASSES = ("plain", "mixin", "rule")
"""MongoEngine alone; every model with the mixin; every model with a pending rule besides."""

# The suite's server, which it takes for granted in connection strings and in arguments.
_HOST = re.compile(r"\b(localhost|127\.0\.0\.1)(?::27017)?(?=[,/?]|$)")


class NeverMatching(DocumentMigration):
    """One lazy rule that no document of the suite needs."""

    def migration01__no_document_has_it(self) -> None:
        """Take away a field that no model has."""
        self.target = {"lazymig_conformance": {"$exists": True}}
        self.update = {"$unset": {"lazymig_conformance": ""}}


class _Outcomes:
    """Writes the outcome of each test, by its name, when the pass ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self._outcomes[report.nodeid] = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._outcomes[report.nodeid] = "not collected"

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps(self._outcomes), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the pass that the environment names."""
    _redirect_clients(os.environ[ADDRESS])
    mode = os.environ[MODE]
    if mode != "plain":
        _put_into_models(with_rule=mode == "rule")
    config.pluginmanager.register(_Outcomes(Path(os.environ[OUTCOMES])))


def _redirect_clients(address: str) -> None:
    """Let clients of the suite's usual server connect to this one."""
    port = int(address.partition(":")[2])
    original = MongoClient.__init__

    def redirected(host: Any) -> Any:
        if isinstance(host, (list, tuple)):
            return [redirected(one) for one in host]
        if not isinstance(host, str) or not host.startswith(("mongodb://", "localhost:")):
            return host
        return _HOST.sub(rf"\1:{port}", host)

    def __init__(  # noqa: N807 - it stands in for one
        self: Any, host: Any = None, port_given: Any = None, *args: Any, **options: Any
    ) -> None:
        asked = options.pop("port", port_given)
        original(
            self, redirected(host), port if asked in (None, 27017) else asked, *args, **options
        )

    MongoClient.__init__ = __init__  # type: ignore[method-assign]


def _put_into_models(*, with_rule: bool) -> None:
    """Let each model that inherits from MongoEngine's own classes inherit from the mixin first."""
    original = TopLevelDocumentMetaclass.__new__
    roots = (mongoengine.Document, mongoengine.DynamicDocument)

    def __new__(  # noqa: N807 - it stands in for one
        mcs: Any, name: str, bases: tuple[type, ...], attrs: dict[str, Any]
    ) -> Any:
        if any(base in roots for base in bases) and not any(
            issubclass(base, LazyMigrationMixin) for base in bases
        ):
            bases = (LazyMigrationMixin, *bases)
            # A time-series collection refuses rules.
            if with_rule and "timeseries" not in attrs.get("meta", {}):
                attrs = {"migration_handler": NeverMatching, **attrs}
        return original(mcs, name, bases, attrs)

    TopLevelDocumentMetaclass.__new__ = __new__
