"""The documents of the demonstration's database: old ones, and a few of today's shape.

They are inserted raw: today's models could not write the old shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

__all__ = ["FEWER", "THOUSANDS", "Amounts", "insert_documents"]


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many documents are stored, and how many posts one iteration reads."""

    users: int
    old_posts: int
    new_posts: int
    iterated: int


THOUSANDS = Amounts(users=2000, old_posts=3000, new_posts=200, iterated=500)
FEWER = Amounts(users=600, old_posts=900, new_posts=60, iterated=200)

_FIRST_DAY = datetime(2015, 1, 1, 9, 30)
_NAMES = ("Ada", "Barbara", "Donald", "Edsger", "Grace", "Ken", "Niklaus", "Tony")


def insert_documents(database: Database[dict[str, Any]], amounts: Amounts) -> None:
    """Insert all users, who are old, and old and new blog posts."""
    users, posts = amounts.users, amounts.old_posts
    last = posts + amounts.new_posts
    database["user"].insert_many(_old_user(number) for number in range(1, users + 1))
    database["blog_post"].insert_many(_old_post(number, users) for number in range(1, posts + 1))
    database["blog_post"].insert_many(
        _new_post(number, users) for number in range(posts + 1, last + 1)
    )


def _old_user(number: int) -> dict[str, Any]:
    return {
        "_id": number,
        "name": f"{_NAMES[number % len(_NAMES)]} {number}",
        "age": 20 + number % 60,
    }


def _old_post(number: int, users: int) -> dict[str, Any]:
    return {
        "_id": number,
        "author": number % users + 1,
        "content": {"title": f"Post {number}", "created_at": _date_of(number)},
    }


def _new_post(number: int, users: int) -> dict[str, Any]:
    return {
        "_id": number,
        "author": number % users + 1,
        "content": {
            "title": {"lang": "en", "value": f"Post {number}"},
            "tags": ["new"],
            "creation_date": _date_of(number),
        },
        "update_date": _date_of(number),
    }


def _date_of(number: int) -> datetime:
    return _FIRST_DAY + timedelta(days=number)
