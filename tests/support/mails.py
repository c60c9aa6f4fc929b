"""A model whose rule sends mails, and a process of its own that loads its documents.

`python -m tests.support.mails URI DATABASE [_ID]` says "ready" once it is connected, waits for a
line on its input, and prints which documents it has loaded. It kills itself in the effect for the
document with `_ID`.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import mongoengine
from mongoengine import BooleanField, IntField, StringField

from lazymig import once
from tests.support.handlers import handler, model

CLAIM = "_lazymig"

# What a test does in the middle of an effect, with the rule's `self`.
Effect = Callable[[Any], None]


def send_mail(rule: Any) -> None:
    """The effect: one entry in the collection `mail` of the same database."""
    rule.collection.database["mail"].insert_one({"post": rule.doc["_id"]})


def mailing(
    effect: Effect = send_mail, target: Any = None, update: Any = None, **options: Any
) -> Callable[[Any], None]:
    """A once rule that does something for each document that was not mailed, then marks it."""

    def method(self: Any) -> None:
        self.target = target or {"mailed": {"$exists": False}}
        self.update = update or {"$set": {"mailed": True}}
        if not self.status:
            effect(self)

    return once(**options)(method)


def mailed_post(method: Any = None, scope: str = "", **attributes: Any) -> Any:
    """A model `Post` with this once rule alone."""
    name = f"{scope}migration01__mail"
    return post_with({name: method or mailing()}, **attributes)


def post_with(rules: dict[str, Any], **attributes: Any) -> Any:
    """A model `Post` with these rules."""
    return model(
        handler(**rules, **attributes), mailed=BooleanField(), n=IntField(), name=StringField()
    )


def mails(database: Any) -> dict[Any, int]:
    """How often a mail was sent for each document."""
    return dict(Counter(mail["post"] for mail in database["mail"].find()))


def claimed(database: Any) -> list[Any]:
    """The `_id`s of the documents that carry a claim."""
    query = {CLAIM: {"$exists": True}}
    return [document["_id"] for document in database["post"].find(query).sort("_id")]


def claim(
    database: Any,
    document_id: Any,
    seconds: float = 60,
    owner: str = "somebody",
    rule: str = "migration01__mail",
) -> datetime:
    """Let somebody who does nothing more claim a document; return when the claim ends."""
    now = database.client.admin.command("hello")["localTime"] if _is_real(database) else None
    start = now or datetime.now(timezone.utc).replace(tzinfo=None)
    until = start.replace(microsecond=0) + timedelta(seconds=seconds)
    database["post"].update_one(
        {"_id": document_id}, {"$set": {CLAIM: {"rule": rule, "owner": owner, "until": until}}}
    )
    return until


def _is_real(database: Any) -> bool:
    return type(database).__module__.startswith("pymongo")


def main() -> None:
    """Load all posts, and report."""
    uri, name, *fatal = sys.argv[1:]

    def effect(rule: Any) -> None:
        if str(rule.doc["_id"]) in fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        send_mail(rule)

    post = mailed_post(mailing(effect))
    mongoengine.connect(name, host=uri, uuidRepresentation="standard")
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps([[each.key, each.mailed] for each in post.objects.order_by("key")]))
    mongoengine.disconnect()


if __name__ == "__main__":
    main()
