"""Signals and logging: what is announced for each document and for each bulk rule."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from mongoengine import BooleanField, IntField, ListField, StringField
from pymongo.database import Database

from lazymig import ConvergenceWarning, MigrationFailed, signals
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule

CHAIN = {
    "migration01__enable": rule(*ADD_ENABLED),
    "migration02__count": rule(
        {"enabled": True, "count": {"$exists": False}}, {"$set": {"count": 1}}
    ),
    "migration03__copy": copying("count", "copy"),
    "migration04__other": rule({"other": 1}, {"$unset": {"other": ""}}),
}


@contextmanager
def _heard(*names: str) -> Iterator[list[tuple[str, Any, dict[str, Any]]]]:
    """What the named signals (all of them by default) send meanwhile: name, sender, keywords."""
    heard: list[tuple[str, Any, dict[str, Any]]] = []
    receivers = []
    for name in names or ("pre_migration", "post_migration", "migration_failed"):

        def receive(sender: Any, *, _name: str = name, **keywords: Any) -> None:
            heard.append((_name, sender, keywords))

        getattr(signals, name).connect(receive)
        receivers.append((getattr(signals, name), receive))
    yield heard
    for signal, receive in receivers:
        signal.disconnect(receive)


def _post(rules: Any) -> Any:
    numbers = {name: IntField() for name in ("n", "count", "copy", "other")}
    return model(rules, enabled=BooleanField(), tags=ListField(StringField()), **numbers)


def test_a_migrated_document_is_announced_before_and_after(any_db: Any) -> None:
    """One pre_ and one post_migration per document, with model, `_id`, rules and scope."""
    any_db["post"].insert_one({"_id": 1})
    post = _post(handler(migration01__enable=CHAIN["migration01__enable"]))
    with _heard() as heard:
        post.objects.get()
    about = {"document_id": 1, "rules": ("migration01__enable",), "scope": "lazy"}
    assert heard == [("pre_migration", post, about), ("post_migration", post, about)]


def test_an_up_to_date_document_is_not_announced(mongoengine_db: Database[Any]) -> None:
    """Where nothing is to be done, nothing is said."""
    mongoengine_db["post"].insert_one({"_id": 1, "enabled": True})
    with _heard() as heard:
        _post(handler(migration01__enable=CHAIN["migration01__enable"])).objects.get()
    assert heard == []


@pytest.mark.parametrize(
    ("stored", "rules"),
    [
        ({}, ("migration01__enable", "migration02__count", "migration03__copy")),
        ({"enabled": True}, ("migration02__count", "migration03__copy")),
        ({"enabled": True, "count": 5}, ("migration03__copy",)),
        ({"enabled": False}, ()),
        ({"enabled": False, "other": 1}, ("migration04__other",)),
        ({"count": 5, "copy": 5, "other": 1}, ("migration01__enable", "migration04__other")),
    ],
)
def test_the_rules_applied_are_exact(
    any_db: Any, stored: dict[str, Any], rules: tuple[str, ...]
) -> None:
    """post_migration names the rules applied, those that only an earlier one made match too."""
    any_db["post"].insert_one({"_id": 1, **stored})
    with _heard("post_migration") as heard:
        _post(handler(**CHAIN)).objects.get()
    assert [keywords["rules"] for _, _, keywords in heard] == ([rules] if rules else [])


def test_each_document_of_a_batch_has_its_own_rules(mongoengine_db: Database[Any]) -> None:
    """In a batch post_migration tells for each document which rules were applied to it."""
    mongoengine_db["post"].insert_many(
        [{"_id": 1}, {"_id": 2, "enabled": False}, {"_id": 3, "enabled": True, "other": 1}]
    )
    with _heard("post_migration") as heard:
        list(_post(handler(**CHAIN)).objects)
    assert {keywords["document_id"]: keywords["rules"] for _, _, keywords in heard} == {
        1: ("migration01__enable", "migration02__count", "migration03__copy"),
        3: ("migration02__count", "migration03__copy", "migration04__other"),
    }


def test_a_refused_document_is_announced_as_failed(mongoengine_db: Database[Any]) -> None:
    """migration_failed carries model, `_id`, the rule, the scope and the error; no post follows."""
    mongoengine_db["post"].insert_many([{"_id": 1, "tags": []}, {"_id": 2, "tags": "x"}])
    push = rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}})
    post = _post(handler(migration01__push=push))
    with _heard("post_migration", "migration_failed") as heard, pytest.raises(MigrationFailed) as e:
        list(post.objects)
    failed = [(sender, keywords) for name, sender, keywords in heard if name == "migration_failed"]
    about = {"document_id": 2, "rules": ("migration01__push",), "scope": "lazy", "error": e.value}
    assert failed == [(post, about)]
    done = [keywords["document_id"] for name, _, keywords in heard if name == "post_migration"]
    assert done == [1]


def test_a_rescued_document_is_announced(mongoengine_db: Database[Any]) -> None:
    """After a load error post_migration names the rules that were applied, and no others."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, "lost": 1, "enabled": True})
    rules = handler(
        migration01__enable=CHAIN["migration01__enable"],
        migration02__drop=rule({"n": 1}, {"$unset": {"lost": ""}}),
        migration03__count=CHAIN["migration02__count"],
        migration04__other=rule({"n": 2}, {"$unset": {"lost": ""}}),
        validate_on_load=False,
    )
    with pytest.warns(ConvergenceWarning):
        post = _post(rules)
    mongoengine_db["post"].update_one({"_id": 1}, {"$set": {"count": 1}})
    with _heard("post_migration") as heard:
        post.objects.get()
    assert [keywords["rules"] for _, _, keywords in heard] == [("migration02__drop",)]


def test_a_bulk_rule_is_announced_once(any_db: Any) -> None:
    """A bulk rule sends one pre_ and one post_migration, without `_id`, with counts."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(5)])
    rules = handler(
        allmigration01__enable=rule(*ADD_ENABLED), allmigration02__copy=copying("n", "copy")
    )
    post = _post(rules)
    with _heard() as heard:
        rules(post).migrate_all()
    expected = []
    for name in ("allmigration01__enable", "allmigration02__copy"):
        about = {"document_id": None, "rules": (name,), "scope": "bulk"}
        expected.append(("pre_migration", post, about))
        expected.append(("post_migration", post, {**about, "matched": 5, "modified": 5}))
    assert heard == expected


def test_a_document_refused_in_bulk_is_announced(mongoengine_db: Database[Any]) -> None:
    """In bulk each refused document sends migration_failed with its `_id` and error."""
    mongoengine_db["post"].insert_many([{"_id": 1, "tags": []}, {"_id": 2, "tags": "x"}])
    push = rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}})
    rules = handler(allmigration01__push=push)
    with _heard("migration_failed") as heard:
        report = rules(_post(rules)).migrate_all()
    ((_, _, keywords),) = heard
    assert keywords == {
        "document_id": 2,
        "rules": ("allmigration01__push",),
        "scope": "bulk",
        "error": report.errors[0],
    }


def test_one_debug_line_for_each_migrated_document(
    any_db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Under the logger `lazymig` each migrated document has one DEBUG line: model, `_id`, rules."""
    any_db["post"].insert_many([{"_id": n} for n in range(3)])
    any_db["post"].insert_one({"_id": 3, "enabled": True})
    post = _post(handler(migration01__enable=CHAIN["migration01__enable"]))
    with caplog.at_level(logging.DEBUG, "lazymig"):
        list(post.objects)
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("lazymig")]
    assert sorted(lines) == [f"Post {n}: migration01__enable" for n in range(3)]
    assert {r.levelname for r in caplog.records if r.name.startswith("lazymig")} == {"DEBUG"}


def test_one_info_line_for_each_bulk_rule(any_db: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Each bulk rule has one INFO line with the rule and its counts."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(5)])
    rules = handler(
        allmigration01__enable=rule(*ADD_ENABLED), allmigration02__copy=copying("n", "copy")
    )
    with caplog.at_level(logging.INFO, "lazymig"):
        rules(_post(rules)).migrate_all()
    lines = [r.getMessage() for r in caplog.records if r.name.startswith("lazymig")]
    assert [line.split(" on ")[0] for line in lines] == [
        "Post.allmigration01__enable",
        "Post.allmigration02__copy",
    ]
    assert all("5 matched, 5 modified" in line for line in lines)


def test_nothing_is_printed(any_db: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """Loads, bulk runs and reports leave standard output and error empty."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(5)])
    rules = handler(**CHAIN, allmigration01__copy=copying("n", "copy"))
    post = _post(rules)
    list(post.objects)
    rules(post).migrate_all()
    rules(post).migrate_pending()
    rules(post).get_deprecated()
    rules(post).get_status()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["pre_migration", "post_migration", "migration_failed"])
@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_a_receiver_that_raises_stops_nothing(
    mongoengine_db: Database[Any], caplog: pytest.LogCaptureFixture, name: str, scope: str
) -> None:
    """What a receiver raises is logged, with its traceback; documents and other receivers go on."""
    mongoengine_db["post"].insert_many([{"_id": 1, "tags": []}, {"_id": 2, "tags": "x"}])
    push = rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}})
    number = "migration01__push" if scope == "lazy" else "allmigration01__push"
    rules = handler(**{number: push})
    post = _post(rules)

    def raising(_sender: Any, **_keywords: Any) -> None:
        raise ZeroDivisionError("in a receiver")

    signal = getattr(signals, name)
    signal.connect(raising)
    try:
        with _heard(name) as heard, caplog.at_level(logging.ERROR, "lazymig.signals"):
            if scope == "lazy":
                assert post.objects.get(key=1).tags == ["new"]
                with pytest.raises(MigrationFailed):
                    post.objects.get(key=2)
            else:
                rules(post).migrate_all()
    finally:
        signal.disconnect(raising)
    assert heard
    assert mongoengine_db["post"].find_one({"_id": 1})["tags"] == ["new"]
    lines = [record for record in caplog.records if record.name == "lazymig.signals"]
    assert lines
    assert all(line.exc_info and line.exc_info[0] is ZeroDivisionError for line in lines)


def test_a_muted_signal_is_not_sent(mongoengine_db: Database[Any]) -> None:
    """`muted()` of a signal holds for lazymig's own signals."""
    mongoengine_db["post"].insert_one({"_id": 1})
    post = _post(handler(migration01__enable=CHAIN["migration01__enable"]))
    with _heard() as heard, signals.post_migration.muted():
        post.objects.get()
    assert [name for name, _, _ in heard] == ["pre_migration"]
