"""The steps of the demonstration, on a database that MongoEngine is connected to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mongoengine.errors import MongoEngineException
from pymongo.database import Database

from lazymig import MigrationReport, as_stored
from lazymig.demo.models import BlogPost, BlogPostMigration, User, UserMigration
from lazymig.demo.old_documents import Amounts, insert_documents

if TYPE_CHECKING:
    from lazymig.demo.page import Page

__all__ = ["show"]

_POST = 42
_MODELS = ((User, UserMigration), (BlogPost, BlogPostMigration))


def show(page: Page, database: Database[dict[str, Any]], amounts: Amounts) -> None:
    """Run every step and show what it did."""
    with page.step("Old documents"):
        _old_documents(page, database, amounts)
    with page.step("The rules"):
        _rules(page)
    with page.step("Load one document"):
        _load_one(page, database)
    with page.step(f"Iterate over {amounts.iterated} documents, twice"):
        _iterate(page, database, amounts.iterated)
    with page.step("Query by a new field"):
        _query(page, database)
    with page.step("Bring the rest up to date: migrate_pending()"):
        _migrate_pending(page, database)
    with page.step("Rules that never run on load: migrate_all()"):
        _migrate_all(page, database)
    with page.step("Which rules may be deleted? get_deprecated(), get_status()"):
        _report(page)
    with page.step("All in all"):
        _all_in_all(page, database)


def _old_documents(page: Page, database: Database[dict[str, Any]], amounts: Amounts) -> None:
    insert_documents(database, amounts)
    page.text(
        "The application has changed since its documents were stored. They are put into the "
        "database as earlier versions wrote them, with PyMongo:"
    )
    page.table(
        ("collection", "old shape", "today's shape"),
        (("user", amounts.users, 0), ("blog_post", amounts.old_posts, amounts.new_posts)),
    )
    page.text("Plain MongoEngine cannot load an old user, for the model has no `age` any more:")
    page.code("User.objects.as_stored().first()")
    try:
        User.objects.as_stored().first()
    except MongoEngineException as error:
        page.result(f"{type(error).__name__}: {error}")


def _rules(page: Page) -> None:
    page.text(
        "Each change of shape is written once, as a rule: a query for the old shape, and an "
        "update. This is one of the six:"
    )
    page.source(
        "def migration01__add_enabled(self):",
        '    self.target = {"enabled": {"$exists": False}}',
        '    self.update = {"$set": {"enabled": True}}',
    )
    statuses = [
        (model.__name__, status.name, status.scope, status.remaining)
        for model, handler in _MODELS
        for status in handler(model).get_status()
    ]
    page.table(("model", "rule", "runs", "documents left"), statuses)
    page.text(
        "`lazy` rules run while a document is loaded. `bulk` rules run only when asked to. "
        "The bulk rule copies the date that migration02 renames, so no document is ready for "
        "it yet."
    )


def _load_one(page: Page, database: Database[dict[str, Any]]) -> None:
    before = database["blog_post"].find_one({"_id": _POST}) or {}
    page.code(f"post = BlogPost.objects.get(id={_POST})", "post.content.title")
    post = BlogPost.objects.get(id=_POST)
    page.result(repr(dict(post.content.title)))
    page.code("post.author.enabled")
    page.result(repr(post.author.enabled))
    after = database["blog_post"].find_one({"_id": _POST}) or {}
    page.text("The document was rewritten in the database before MongoEngine built the object:")
    page.before_and_after(before, after)
    page.text("So was the user that the post refers to. Nothing else was touched:")
    _show_counts(page, database)


def _iterate(page: Page, database: Database[dict[str, Any]], count: int) -> None:
    page.code(f'for post in BlogPost.objects.order_by("id")[:{count}]: ...')
    for time in ("first", "second"):
        old = count_old(database, "blog_post")
        loaded = sum(1 for _ in BlogPost.objects.order_by("id")[:count])
        migrated = old - count_old(database, "blog_post")
        page.result(f"{time} time: {loaded} loaded, {migrated} of them migrated")
    page.text("What is up to date is loaded as by plain MongoEngine, and not written again.")


def _query(page: Page, database: Database[dict[str, Any]]) -> None:
    page.text("Queries see through the rules: every user is counted, though few are migrated:")
    page.code("User.objects(enabled=True).count()")
    page.result(str(User.objects(enabled=True).count()))
    page.text("PyMongo counts what is stored. The query has migrated nothing:")
    page.code('db.user.count_documents({"enabled": True})')
    page.result(str(database["user"].count_documents({"enabled": True})))
    page.text("This is what is sent:")
    page.code("User.objects(enabled=True).explain_migration()")
    for line in User.objects(enabled=True).explain_migration().splitlines():
        page.text(line)


def _migrate_pending(page: Page, database: Database[dict[str, Any]]) -> None:
    page.text("The documents that no one has loaded yet can be migrated all at once:")
    page.code(
        "UserMigration(User).migrate_pending()",
        "BlogPostMigration(BlogPost).migrate_pending()",
    )
    _show_reports(page, [handler(model).migrate_pending() for model, handler in _MODELS])
    _show_counts(page, database)
    page.text("Now PyMongo counts every user too:")
    page.code('db.user.count_documents({"enabled": True})')
    page.result(str(database["user"].count_documents({"enabled": True})))


def _migrate_all(page: Page, database: Database[dict[str, Any]]) -> None:
    before = database["blog_post"].find_one({"_id": _POST}) or {}
    page.code("BlogPostMigration(BlogPost).migrate_all()")
    _show_reports(page, [BlogPostMigration(BlogPost).migrate_all()])
    page.text("Each post got the value that was computed for it:")
    page.before_and_after(before, database["blog_post"].find_one({"_id": _POST}) or {})


def _report(page: Page) -> None:
    for model, handler in _MODELS:
        page.code(f"{handler.__name__}({model.__name__}).get_deprecated()")
        for kind, names in handler(model).get_deprecated().items():
            page.result(f"{kind}: {', '.join(names) or 'none'}")
    left = sum(
        status.remaining or 0
        for model, handler in _MODELS
        for status in handler(model).get_status()
    )
    page.text(f"Documents that a rule still matches: {left}. All six rules may be deleted.")


def _all_in_all(page: Page, database: Database[dict[str, Any]]) -> None:
    with as_stored(User, BlogPost):
        users, posts = len(User.objects), len(BlogPost.objects)
    page.text("Now plain MongoEngine loads every document, without any rule:")
    page.table(("collection", "loaded"), (("user", users), ("blog_post", posts)))
    untouched = database["blog_post"].count_documents({"content.tags": ["new"]})
    page.text(f"The {untouched} posts that were of today's shape from the start are as they were.")


def count_old(database: Database[dict[str, Any]], collection: str) -> int:
    """Count the documents that still have the old shape, past MongoEngine."""
    mark = {"user": "age", "blog_post": "content.created_at"}[collection]
    return database[collection].count_documents({mark: {"$exists": True}})


def _show_counts(page: Page, database: Database[dict[str, Any]]) -> None:
    rows = []
    for name in ("user", "blog_post"):
        old = count_old(database, name)
        rows.append((name, old, database[name].estimated_document_count() - old))
    page.table(("collection", "old shape", "today's shape"), rows)


def _show_reports(page: Page, reports: Sequence[MigrationReport]) -> None:
    page.table(
        ("model", "rule", "matched", "modified", "errors", "seconds"),
        [
            (report.model, rule.name, rule.matched, rule.modified, len(rule.errors), rule.seconds)
            for report in reports
            for rule in report.rules
        ],
    )
