"""A server that asks who one is, for tests of rights: its fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from mongoengine import connect, disconnect
from pymongo import MongoClient

from tests.support.server import CLIENT_OPTIONS, quick_server

__all__ = ["as_user", "guarded"]


def _on(collection: str, *actions: str) -> dict[str, Any]:
    return {"resource": {"db": "rights", "collection": collection}, "actions": actions}


ROLES = {
    "read_one": [_on("post", "find", "update")],
    "read_some": [_on("post", "find"), _on("lazymig_journal", "find")],
    "read_view": [_on("today", "find")],
}


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that asks who one is; the administrator is admin/admin."""
    key = tmp_path_factory.mktemp("server") / "key"
    key.write_text("bGF6eW1pZw==" * 4)
    key.chmod(0o600)
    with quick_server("--auth", "--keyFile", str(key)) as server:
        with MongoClient[Any](server.uri) as local:
            local.admin.command("createUser", "admin", pwd="admin", roles=["root"])
            with MongoClient[Any](server.uri, username="admin", password="admin") as root:
                for name, privileges in ROLES.items():
                    root["rights"].command("createRole", name, privileges=privileges, roles=[])
        yield server.uri


@pytest.fixture
def as_user(guarded: str) -> Iterator[Any]:
    """Connect MongoEngine as a user with roles in the database `rights`; gives root's database."""
    with MongoClient[Any](guarded, username="admin", password="admin") as root:

        def log_in(*roles: str) -> Any:
            root["rights"].command("createUser", "user", pwd="user", roles=list(roles))
            root["rights"].create_collection("post")
            connect(
                "rights",
                host=guarded,
                username="user",
                password="user",
                authentication_source="rights",
                **CLIENT_OPTIONS,
            )
            return root["rights"]

        yield log_in
        disconnect()
        root["rights"].command("dropUser", "user")
        for name in ("today", "post"):
            root["rights"].drop_collection(name)
