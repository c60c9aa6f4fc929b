"""A version of an application: `python -m tests.support.two_versions NAME URI DATABASE`.

It reads calls from its input, a line each, `[name, arguments]` as JSON, and prints the answers.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from typing import Any

import mongoengine
from mongoengine import Document, IntField, StringField

from lazymig import LazyMigrationMixin
from tests.support.handlers import handler, rule


class OldAccount(Document):
    """Plain MongoEngine, and strict: it refuses a field that it does not know."""

    id = IntField(primary_key=True)
    name = StringField()
    mail = StringField()
    level = StringField()
    meta = {"collection": "account"}


def _number(self: Any) -> None:
    self.target = {"level": {"$type": "string"}}
    self.update = {"$set": {"level": int(self.doc["level"])}}


def _shout(self: Any) -> None:
    self.target = {"loud": {"$exists": False}}
    self.update = {"$set": {"loud": copy.copy(self.doc.get("email") or "").upper()}}


class NewAccount(LazyMigrationMixin, Document):
    """A field renamed, another of another type, and one that only Python computes."""

    id = IntField(primary_key=True)
    name = StringField()
    email = StringField()
    level = IntField()
    loud = StringField()
    meta = {"collection": "account"}
    migration_handler = handler(
        write_on_load=False,
        migration01__rename=rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}}),
        migration02__number=_number,
        migration03__shout=_shout,
    )


class Version:
    """What either version does; `mail` is the name of the field in which it has the address."""

    def __init__(self, model: Any, mail: str) -> None:
        self.model = model
        self.mail = mail

    def shown(self, account: Any) -> list[Any]:
        """The values of a document, by today's types."""
        level = None if account.level is None else int(account.level)
        return [account.id, account.name, getattr(account, self.mail), level]

    def create(self, number: int, name: str, mail: str, level: int) -> None:
        """Store a new account, in the shape of this version."""
        typed = level if self.model is NewAccount else str(level)
        self.model(id=number, name=name, level=typed, **{self.mail: mail}).save(force_insert=True)

    def rename(self, number: int, name: str) -> None:
        """Load an account, change its name, and save it."""
        account = self.model.objects.get(id=number)
        account.name = name
        account.save()

    def move(self, number: int, mail: str) -> None:
        """Load an account, change its address, and save it."""
        account = self.model.objects.get(id=number)
        setattr(account, self.mail, mail)
        account.save()

    def delete(self, number: int) -> None:
        """Load an account and delete it."""
        self.model.objects.get(id=number).delete()

    def everything(self) -> list[Any]:
        """All accounts."""
        return [self.shown(account) for account in self.model.objects.order_by("id")]

    def find(self, mail: str) -> list[int]:
        """The accounts of an address."""
        return sorted(account.id for account in self.model.objects(**{self.mail: mail}))

    def louder(self) -> list[str]:
        """What only today's version has."""
        return [account.loud for account in self.model.objects.order_by("id")]


def main(name: str, uri: str, database: str) -> None:
    """Answer calls until the input ends."""
    mongoengine.connect(database, host=uri, uuidRepresentation="standard")
    version = Version(OldAccount, "mail") if name == "old" else Version(NewAccount, "email")
    for line in sys.stdin:
        called, arguments = json.loads(line)
        method: Callable[..., Any] = getattr(version, called)
        sys.stdout.write(json.dumps(method(*arguments)) + "\n")
        sys.stdout.flush()
    mongoengine.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
