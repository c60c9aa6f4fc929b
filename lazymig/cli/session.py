"""One call of a command: its settings, the application's models, and the way to the database."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import mongoengine
import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConfigurationError, ConnectionFailure, PyMongoError
from pymongo.uri_parser import parse_uri

from lazymig.cli.failures import Misuse
from lazymig.cli.masking import masked
from lazymig.cli.models import Which, call_app, find_models, make_importable
from lazymig.cli.output import Output
from lazymig.cli.settings import Settings, load_settings
from lazymig.engines.access import is_mongomock
from lazymig.locks import cached_property
from lazymig.odm.schema import untouched_collection
from lazymig.reports.status import collections_in, exists
from lazymig.rules.plan import full_name

__all__ = ["Invocation", "Target"]

# Seconds after which a database that does not answer is given up.
_PATIENCE = 15.0

_ENCODE = "in user name and password : / ? # [ ] @ and % must be percent-encoded"


@dataclass(frozen=True)
class Target:
    """A model and its collection. No index is created by the way to it."""

    model: Any
    collection: Collection[Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.model.__name__)

    @property
    def full_name(self) -> str:
        """The model's name with its module."""
        return full_name(self.model)

    @property
    def migration(self) -> Any:
        """The calls of the model's handler."""
        return self.model.migration_handler(self.model)

    @cached_property
    def exists(self) -> bool:
        """Return whether there is the collection, as far as that can be found out."""
        return exists(self.collection)


class Invocation:
    """What a command has at hand; to be closed.

    A command asks once for its models, targets or databases: each prepares all that it needs.

    :param options: what was given on the command line, by the names of settings.
    """

    def __init__(self, output: Output, options: dict[str, Any]) -> None:
        self.output = output
        self._options = options
        self._closing = ExitStack()

    @cached_property
    def settings(self) -> Settings:
        """The settings of the call.

        :raises Misuse: a configuration file is wrong.
        """
        settings = load_settings(self._options, os.environ, Path.cwd())
        if settings.uri is not None:
            self.output.mask.learn(settings.uri)
        return settings

    def models(self, which: Which = "migrated") -> list[Any]:
        """The models of the call.

        :param which: see `find_models`.
        :raises Misuse: none is named, or there are no such models.
        """
        if not self.settings.models:
            raise Misuse(
                "no models are named; name them with --models, in LAZYMIG_MODELS, or as models in "
                "[tool.lazymig] of pyproject.toml"
            )
        self._import_app()
        return find_models(self.settings.models, which)

    def targets(self, which: Which = "migrated") -> list[Target]:
        """The models of the call with their collections, in databases that answer.

        :raises Misuse: as from `models`, or no database is named.
        :raises pymongo.errors.PyMongoError: a database does not answer.
        """
        models = self.models(which)
        self._connect()
        targets = [Target(model, untouched_collection(model)) for model in models]
        self._reach(target.collection.database for target in targets)
        return targets

    def warn_of_missing(self, targets: Iterable[Target]) -> None:
        """Say which collections there are not: an empty or wrong database looks like a done one."""
        names: dict[Database[Any], frozenset[str] | None] = {}
        for target in targets:
            database = target.collection.database
            if database not in names:
                names[database] = collections_in(database)
            known = names[database]
            if known is not None and target.collection.name not in known:
                self.output.warn(
                    f"{target.name}: the collection {target.collection.full_name} does not exist; "
                    "is this the right database?"
                )

    def databases(self) -> list[Database[Any]]:
        """The database of the URI; without one those of the models; without them that of the alias.

        :raises Misuse: as from `targets`.
        :raises pymongo.errors.PyMongoError: a database does not answer.
        """
        if self.settings.uri is None and self.settings.models:
            return list(dict.fromkeys(target.collection.database for target in self.targets("all")))
        self._import_app()
        self._connect()
        database = mongoengine.get_db(self.settings.alias)
        self._reach([database])
        return [database]

    def _import_app(self) -> None:
        """Let the application's modules be imported, and import the one that connects."""
        make_importable(self.settings.folder or Path.cwd())
        if self.settings.app is not None:
            call_app(self.settings.app)

    def _connect(self) -> None:
        """Connect MongoEngine to the URI of the settings, if there is one.

        The application was imported before: what it has connected by itself under the alias is
        replaced.
        """
        uri = self.settings.uri
        if uri is None:
            return
        alias = self.settings.alias
        parsed = _parsed(uri, self.settings.sources["uri"])
        options = {option.lower() for option in parsed["options"]}
        # What MongoEngine takes by itself, without its warning.
        more = {} if "uuidrepresentation" in options else {"uuidRepresentation": "pythonLegacy"}
        mongoengine.disconnect(alias)
        try:
            mongoengine.connect(host=uri, alias=alias, **more)
        except mongoengine.ConnectionFailure as error:
            raise ConfigurationError(str(error)) from error
        self._closing.callback(mongoengine.disconnect, alias)

    def _reach(self, databases: Iterable[Database[Any]]) -> None:
        """See that the servers answer; the driver's own patience is too long for a terminal."""
        seen: list[Any] = []
        for database in databases:
            if is_mongomock(database) or database.client in seen:
                continue
            client = database.client
            seen.append(client)
            with pymongo.timeout(min(_PATIENCE, client.options.server_selection_timeout)):
                client.admin.command("ping")

    def __enter__(self) -> Invocation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing.close()


def _parsed(uri: str, source: str) -> dict[str, Any]:
    """A connection string, read; what is wrong with it is reported without its password.

    :raises Misuse: it is invalid, or names no database.
    :raises ConnectionFailure: it names hosts by a DNS entry that cannot be found.
    """
    if _has_raw_at(uri):
        raise Misuse(f"the connection string ({source}) is not right: {_ENCODE}")
    try:
        parsed = dict(parse_uri(uri))
    except (ValueError, PyMongoError) as error:
        if type(error.__context__).__module__.startswith("dns."):
            raise ConnectionFailure(f"its name cannot be resolved: {error}") from None
        raise Misuse(f"the connection string ({source}) is not right: {_why(uri, error)}") from None
    if not parsed["database"]:
        raise Misuse(
            f"the connection string ({source}) names no database; write "
            "mongodb://host:port/DATABASE"
        )
    return parsed


def _has_raw_at(uri: str) -> bool:
    """Return whether there is an @ after the hosts, which were cut short by a raw / then."""
    _scheme, _found, rest = uri.partition("://")
    _hosts, _slash, path = rest.partition("?")[0].partition("/")
    return "@" in path


def _why(uri: str, error: Exception) -> str:
    """The parser's words may be a part of the password, so it is asked about the rest alone."""
    scheme, found, rest = uri.partition("://")
    _userinfo, at, hosts = rest.rpartition("@")
    if not at:
        return str(error)
    try:
        parse_uri(f"{scheme}{found}{hosts}")
    except (ValueError, PyMongoError) as other:
        return masked(str(other))
    return _ENCODE
