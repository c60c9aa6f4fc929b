"""MongoEngine's connections in worker processes: each process has its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mongoengine.connection import (
    DEFAULT_CONNECTION_NAME,
    _connection_settings,
    _connections,
    disconnect,
    get_connection,
)
from mongoengine.errors import MongoEngineException

from lazymig.locks import after_fork

__all__ = ["Address", "address_of", "collection_at"]

# Clients that this process has inherited by a fork, by alias. They are not closed: that would
# speak on the sockets of the parent.
_inherited: dict[str, Any] = {}


@dataclass(frozen=True)
class Address:
    """Where a collection is, for another process: MongoEngine's alias and settings, and names.

    It carries the password, so it is never logged or stored; its `repr` leaves the settings out.
    """

    alias: str
    settings: dict[str, Any] = field(repr=False)
    database: str
    collection: str


def address_of(model: Any, collection: Any) -> Address:
    """The address of a collection that is reached through the connection of a model.

    :raises MongoEngineException: the model's connection is not registered with MongoEngine.
    """
    alias = model._meta.get("db_alias", DEFAULT_CONNECTION_NAME)
    if alias not in _connection_settings:
        raise MongoEngineException(
            f"{model.__name__}: no connection is registered for the alias {alias!r}; call "
            "mongoengine.connect() before the run"
        )
    settings = dict(_connection_settings[alias])
    # Who listens to commands listens to those of one process.
    settings.pop("event_listeners", None)
    return Address(alias, settings, collection.database.name, collection.name)


def collection_at(address: Address) -> Any:
    """The collection at an address, through a connection of this very process.

    A connection that the application has made here by itself is used. Otherwise the alias is
    registered with the settings of the address, so that models work in rules as well.
    """
    alias = address.alias
    if alias in _inherited and _connections.get(alias) is _inherited[alias]:
        del _connections[alias]
        disconnect(alias)
    if alias not in _connection_settings:
        _connection_settings[alias] = dict(address.settings)
    return get_connection(alias)[address.database][address.collection]


def _note_inherited() -> None:
    _inherited.update(_connections)


after_fork(_note_inherited)
