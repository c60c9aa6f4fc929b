"""A Celery application on one of the twins: `python -m celery -A tests.ecosystem.celery_shop ...`.

`SHOP_SIDE`, `SHOP_URI` and `SHOP_DATABASE` say which; `SHOP_FOLDER` is where its messages lie.
`python -m tests.ecosystem.celery_shop` is who calls the tasks: it prints what came of them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import mongoengine
from celery import Celery, group
from celery.signals import worker_process_init

from tests.ecosystem.twins import Bases, _models

folder = Path(os.environ["SHOP_FOLDER"])
app = Celery(
    "shop",
    broker="filesystem://",
    backend=f"file://{folder / 'results'}",
    broker_transport_options={
        "data_folder_in": str(folder / "messages"),
        "data_folder_out": str(folder / "messages"),
        "control_folder": str(folder / "control"),
    },
    task_serializer="json",
    worker_prefetch_multiplier=1,
)
Author, Book, Review = _models(Bases(), lazy=os.environ["SHOP_SIDE"] == "lazy")


@worker_process_init.connect
def connect(**_options: Any) -> None:
    """Connect in each process of the pool, after it was forked, as PyMongo wants it."""
    mongoengine.connect(
        os.environ["SHOP_DATABASE"], host=os.environ["SHOP_URI"], uuidRepresentation="standard"
    )


@app.task(name="shop.load")
def load(title: str) -> dict[str, Any]:
    """One book, and the process that has loaded it."""
    book = Book.objects.get(title=title)
    document = book.to_mongo().to_dict()
    return {**document, "_id": str(book.id), "author": book.author.name, "pid": os.getpid()}


@app.task(name="shop.titles")
def titles(**asked: Any) -> list[str]:
    """The titles of the books that a filter finds, by price."""
    return [book.title for book in Book.objects(**asked).order_by("-cents", "title")]


@app.task(name="shop.total")
def total() -> int:
    """What all books cost."""
    cents: int = Book.objects.sum("cents")
    return cents


@app.task(name="shop.reprice")
def reprice(title: str, cents: int) -> int:
    """Change the price of a book."""
    changed: int = Book.objects(title=title).update(set__cents=cents)
    return changed


def main() -> None:
    """Call the tasks, several at once, and print their results."""
    names = ["Winter", "Autumn", "Spring", "Summer", "Monsoon", "Midwinter", "Harvest"]
    wait = {"timeout": 200, "interval": 0.02}
    found: dict[str, Any] = {"repriced": reprice.delay("Spring", 951).get(**wait)}
    jobs = [load.s(name) for name in names * 3]
    jobs += [titles.s(tags="ice"), titles.s(reviews__rating=5), titles.s(cents__gte=950), total.s()]
    *books, icy, praised, dear, cents = group(jobs).apply_async().get(**wait)
    found["processes"] = len({book.pop("pid") for book in books})
    found.update(books=books, icy=icy, praised=praised, dear=dear, total=cents)
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
