"""A process of its own that loads old documents: `python -m tests.support.loader URI DATABASE`.

It says "ready" once it is connected, waits for a line on its input, and prints the values loaded.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import mongoengine
from mongoengine import IntField, ListField, StringField

from tests.support.handlers import copying, handler, model, rule


def counting_model() -> Any:
    """A model whose rules would show a second application."""
    return model(
        handler(
            migration01__count=rule(
                {"version": {"$exists": False}}, {"$set": {"version": 1}, "$inc": {"count": 1}}
            ),
            migration02__log=rule({"log": {"$ne": "x"}}, {"$push": {"log": "x"}}),
            migration03__copy=copying("count", "copied"),
            migration04__again=rule(
                {"version": 1, "copied": {"$exists": True}},
                {"$set": {"version": 2}, "$inc": {"n": 1}},
            ),
        ),
        version=IntField(),
        count=IntField(),
        copied=IntField(),
        n=IntField(),
        log=ListField(StringField()),
    )


def values(posts: Any) -> list[list[Any]]:
    """What a loader has loaded, as a JSON value."""
    return [[p.key, p.version, p.count, p.copied, p.n, list(p.log)] for p in posts]


def main(uri: str, database: str) -> None:
    """Load every post of the database when told to."""
    mongoengine.connect(database, host=uri)
    post = counting_model()
    post._get_collection().find_one({"_id": -1})
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.write(json.dumps(values(post.objects.order_by("key"))))
    mongoengine.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
