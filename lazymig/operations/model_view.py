"""A view of MongoDB as a value. What makes it and lists it is in `views`."""

from __future__ import annotations

from dataclasses import dataclass

from lazymig.raw.json_values import JsonValue

__all__ = ["ModelView"]


@dataclass(frozen=True, slots=True)
class ModelView(JsonValue):
    """A view of MongoDB that holds the documents of a model in today's shape.

    :ivar name: its name, in the database of the collection.
    :ivar model: the name of the model.
    :ivar collection: the collection that it is made of, with the database.
    :ivar current: it shows what the rules make of the documents as they are in the code now.
    :ivar reason: why it does not, and what to do; `None` if it does.
    """

    name: str
    model: str
    collection: str
    current: bool
    reason: str | None
