"""Six models with 39 rules, as `lazymig status` finds them in an application."""

from __future__ import annotations

from typing import Any

from mongoengine import DynamicDocument, IntField

from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["MODELS"]

# The rules of each, one of them computed from the document.
_RULES = {"Account": 8, "Order": 7, "Product": 7, "Invoice": 6, "Address": 6, "Ticket": 5}


class _Names(DocumentMigration):
    def migration90__lower_name(self) -> None:
        self.target = {"label": {"$type": "string"}}
        self.update = {"$set": {"name": self.doc["label"].lower()}, "$unset": {"label": ""}}


def _rule(number: int) -> Any:
    def rule(self: Any) -> None:
        self.target = {f"old{number}": {"$exists": True}}
        self.update = {"$rename": {f"old{number}": f"new{number}"}}

    return rule


def _model(name: str, count: int) -> Any:
    rules = {f"migration{number:02}__rename": _rule(number) for number in range(1, count)}
    handler = type(f"{name}Migration", (_Names,), rules)
    body = {
        "__module__": __name__,
        "number": IntField(primary_key=True),
        "meta": {"collection": name.lower()},
        "migration_handler": handler,
    }
    return type(DynamicDocument)(name, (LazyMigrationMixin, DynamicDocument), body)


MODELS = [_model(name, count) for name, count in _RULES.items()]

# The program finds models as the variables of a module.
globals().update({model.__name__: model for model in MODELS})
