"""The demonstration's project: the files and commands of the tutorial, step by step.

`docs/tutorial.md` shows the same files and commands; a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["STEPS", "DemoStep"]


@dataclass(frozen=True, kw_only=True)
class DemoStep:
    """One step: what it is about, the files that are written, the commands that are run."""

    title: str
    text: str
    files: Mapping[str, str] = field(default_factory=dict)
    commands: tuple[str, ...] = ()


_SETTINGS = """\
[tool.lazymig]
models = ["models"]
"""

_PLAIN = """\
import os

from mongoengine import BooleanField, Document, IntField, StringField, connect

connect(
    host=os.environ.get("MONGODB_URI", "mongodb://localhost/tutorial"),
    uuidRepresentation="standard",
)


class User(Document):
    id = IntField(primary_key=True)
    name = StringField(required=True)
    email = StringField()
    enabled = BooleanField(default=True)
    points = IntField()
"""

_WITH_RULES = """\
import os

from lazymig import LazyMigrationMixin
from mongoengine import BooleanField, Document, IntField, StringField, connect

from user_migration import UserMigration

connect(
    host=os.environ.get("MONGODB_URI", "mongodb://localhost/tutorial"),
    uuidRepresentation="standard",
)


class User(LazyMigrationMixin, Document):
    id = IntField(primary_key=True)
    name = StringField(required=True)
    email = StringField()
    enabled = BooleanField(default=True)
    points = IntField()
    migration_handler = UserMigration
"""

_OLD_DOCUMENTS = '''\
"""Fill the database as two versions of the application have left it."""

from mongoengine import get_db

import models  # it connects

db = get_db()
db.client.drop_database(db.name)
db.user.insert_many(
    {"_id": n, "name": f"User {n}", "mail": f"{n}@example.org", "points": str(n % 9)}
    for n in range(1, 601)
)
db.user.insert_many(
    {"_id": n, "name": f"User {n}", "email": f"{n}@example.org", "enabled": True, "points": 0}
    for n in range(601, 801)
)
print(db.user.count_documents({}), "users; the first one:")
print(db.user.find_one())
'''

_LOOK = '''\
"""Query users, load one, and look at what is stored."""

from mongoengine import get_db

from models import User

stored = get_db().user
print("enabled, says the model:", User.objects(enabled=True).count())
print("enabled, as stored:", stored.count_documents({"enabled": True}))
print("before:", stored.find_one({"_id": 42}))
user = User.objects.get(id=42)
print("loaded:", user.email, user.enabled, user.points)
print("after:", stored.find_one({"_id": 42}))
'''

STEPS: tuple[DemoStep, ...] = (
    DemoStep(
        title="The application",
        text="A project of one model, as it is today. It does not know lazymig yet.",
        files={"pyproject.toml": _SETTINGS, "models.py": _PLAIN},
    ),
    DemoStep(
        title="Documents of an earlier version",
        text=(
            "When most users were stored, `email` was called `mail`, `points` were text, and "
            "nobody could be disabled:"
        ),
        files={"old_documents.py": _OLD_DOCUMENTS},
        commands=("python old_documents.py",),
    ),
    DemoStep(
        title="What differs",
        text="The model is compared with what is stored. No rule is needed for that:",
        commands=("lazymig diff",),
    ),
    DemoStep(
        title="Rules for it",
        text=(
            "Each difference comes with a rule. One of them asks whether `mail` is the former name "
            "of `email`; it is, so --yes:"
        ),
        commands=("lazymig new --from-diff --yes",),
    ),
    DemoStep(
        title="The model gets its rules",
        text="Two imports, a base, and a last line:",
        files={"models.py": _WITH_RULES},
        commands=("lazymig status",),
    ),
    DemoStep(
        title="What a migration would do",
        text="The rules are tried on a copy of a document. Nothing is written:",
        commands=("lazymig preview --sample 1",),
    ),
    DemoStep(
        title="Query, and load one",
        text=(
            "From now on the application works as if all were migrated: queries see through the "
            "rules, and a document that is loaded is rewritten first."
        ),
        files={"look.py": _LOOK},
        commands=("python look.py",),
    ),
    DemoStep(
        title="Migrate the rest",
        text="What nobody has loaded yet is migrated in bulk, with a backup:",
        commands=("lazymig migrate --backup before", "lazymig migrate"),
    ),
    DemoStep(
        title="Check",
        text="Every document is loaded as it is stored, and validated:",
        commands=("lazymig check --all",),
    ),
    DemoStep(
        title="Keep the old shape out",
        text="MongoDB refuses from now on what an old version of the application would write:",
        commands=("lazymig seal",),
    ),
    DemoStep(
        title="Which rules can go",
        text="No document needs them any more:",
        commands=("lazymig finish",),
    ),
    DemoStep(
        title="Without rules",
        text="The model is as it was. Plain MongoEngine loads every document:",
        files={"models.py": _PLAIN},
        commands=("python look.py",),
    ),
)
