"""Rules that update the items of embedded lists: loads, queries, runs, and their definition."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from mongoengine import (
    DictField,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    MapField,
    StringField,
)
from pymongo.database import Database

from lazymig import ConvergenceWarning, UpdateQueryError, each
from lazymig.odm.plans import plan_for
from tests.support.commands import CommandLog
from tests.support.handlers import handler, model

Raw = dict[str, Any]


class Item(EmbeddedDocument):
    sku = StringField()
    n = IntField()
    cents = IntField()
    currency = StringField()
    kind = StringField()
    note = StringField()


class Order(EmbeddedDocument):
    items = EmbeddedDocumentListField(Item)


def _rule(update: Any, target: Any = None) -> Any:
    def method(self: Any) -> None:
        self.target = target
        self.update = update()

    return method


def _rename_and_price() -> Any:
    return each(
        "items",
        rename={"qty": "n"},
        unset=["price"],
        set={"cents": {"$toInt": {"$multiply": ["$$this.price", 100]}}},
        add={"currency": "EUR"},
    )


def _post(*rules: Any, **body: Any) -> Any:
    named = {f"migration{number:02}__r": one for number, one in enumerate(rules, 1)}
    fields: dict[str, Any] = {
        "items": EmbeddedDocumentListField(Item),
        "orders": EmbeddedDocumentListField(Order),
        "prices": MapField(EmbeddedDocumentField(Item)),
        "by_day": MapField(EmbeddedDocumentField(Order)),
        "lists": MapField(EmbeddedDocumentListField(Item)),
        "rows": ListField(MapField(EmbeddedDocumentField(Item))),
        "address": EmbeddedDocumentField(Order),
        "tags": ListField(StringField()),
        "any": DictField(),
        "title": StringField(),
    }
    return model(handler(**named), **{**fields, **body})


OLD: list[Raw] = [
    {
        "_id": 1,
        "title": "a",
        "items": [{"sku": "x", "qty": 2, "price": 1.5}, {"sku": "y", "qty": 1}],
    },
    {"_id": 2, "title": "b", "items": [{"sku": "x", "n": 2, "cents": 10, "currency": "USD"}]},
    {"_id": 3, "title": "c", "items": []},
    {"_id": 4, "title": "d"},
    # A new item was pushed beside an old one.
    {
        "_id": 5,
        "items": [
            {"sku": "z", "qty": 2, "price": 3},
            {"sku": "x", "n": 7, "cents": 99, "currency": "USD"},
        ],
    },
]
NEW: list[Raw] = [
    {
        "_id": 1,
        "title": "a",
        "items": [
            {"sku": "x", "n": 2, "cents": 150, "currency": "EUR"},
            {"sku": "y", "n": 1, "currency": "EUR"},
        ],
    },
    *OLD[1:4],
    {
        "_id": 5,
        "items": [
            {"sku": "z", "n": 2, "cents": 300, "currency": "EUR"},
            {"sku": "x", "n": 7, "cents": 99, "currency": "USD"},
        ],
    },
]


def test_a_load_brings_old_items_up_to_date(mongoengine_db: Database[Raw]) -> None:
    """Items of the old shape are rewritten, those beside them are left as they are."""
    mongoengine_db.post.insert_many(OLD)
    post = _post(_rule(_rename_and_price))

    loaded = {one.key: [(item.n, item.cents) for item in one.items] for one in post.objects}

    assert loaded == {1: [(2, 150), (1, None)], 2: [(2, 10)], 3: [], 4: [], 5: [(2, 300), (7, 99)]}
    stored = list(mongoengine_db.post.find(sort=[("_id", 1)]))
    assert stored == [{key: one[key] for key in sorted(one)} for one in NEW] == NEW


def test_a_run_updates_them_on_the_server(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """`migrate_pending` sends the pipeline with its target, and computes nothing here."""
    monitored_db.post.insert_many(OLD)
    post = _post(_rule(_rename_and_price))
    command_log.clear()

    report = post.migration_handler(post).migrate_pending()

    assert [(one.matched, one.modified) for one in report.rules] == [(2, 2)]
    assert list(monitored_db.post.find(sort=[("_id", 1)])) == NEW
    updates = [command for name, command in command_log.commands if name == "update"]
    sent = [
        one["u"] for command in updates for one in command["updates"] if command["update"] == "post"
    ]
    assert sent == [_rename_and_price()]
    assert post.migration_handler(post).get_deprecated()["active"] == []


@pytest.mark.parametrize(
    ("update", "new"),
    [
        (_rename_and_price, NEW[1]),
        (lambda: each("orders.items", rename={"qty": "n"}), {"orders": [{"items": [{"n": 1}]}]}),
        (lambda: each("prices.*", rename={"qty": "n"}), {"prices": {"eur": {"n": 1}}}),
        (lambda: each("by_day.*.items", rename={"qty": "n"}), {"by_day": {"mo": {"items": [{}]}}}),
    ],
)
def test_what_is_up_to_date_costs_nothing(
    monitored_db: Database[Raw], command_log: CommandLog, update: Any, new: Raw
) -> None:
    """Documents without an old item are told in memory, in lists and in maps: no round trip."""
    monitored_db.post.insert_many([{**new, "_id": key} for key in range(50)])
    post = _post(_rule(update))
    post.objects.first()
    command_log.clear()

    assert len(list(post.objects)) == 50

    assert command_log.names == ["find"]


MAPS = [
    (
        "orders.items",
        {"orders": [{"items": [{"qty": 1}]}, {}]},
        {"orders": [{"items": [{"n": 1}]}, {}]},
    ),
    ("prices.*", {"prices": {"eur": {"qty": 1}}}, {"prices": {"eur": {"n": 1}}}),
    (
        "by_day.*.items",
        {"by_day": {"mo": {"items": [{"qty": 1}]}, "tu": {}}},
        {"by_day": {"mo": {"items": [{"n": 1}]}, "tu": {}}},
    ),
    ("lists.*", {"lists": {"a": [{"qty": 1}], "b": []}}, {"lists": {"a": [{"n": 1}], "b": []}}),
    ("rows.*", {"rows": [{"a": {"qty": 1}}]}, {"rows": [{"a": {"n": 1}}]}),
]


@pytest.mark.parametrize(("path", "old", "new"), MAPS)
def test_deep_lists_and_maps(mongoengine_db: Database[Raw], path: str, old: Raw, new: Raw) -> None:
    """At any depth, in lists of lists and in maps, items are found, loaded and rewritten."""
    mongoengine_db.post.insert_many([{"_id": 1, **old}, {"_id": 2, **old}, {"_id": 3, **new}])
    post = _post(_rule(lambda: each(path, rename={"qty": "n"})))
    rules = plan_for(post.migration_handler, post).lazy

    assert [rule.converges for rule in rules] == [True]
    post.objects.get(key=1)
    assert mongoengine_db.post.find_one({"_id": 1}) == {"_id": 1, **new}
    assert mongoengine_db.post.find_one({"_id": 2}) == {"_id": 2, **old}
    (status,) = post.migration_handler(post).get_status()
    assert status.remaining == 1
    post.migration_handler(post).migrate_pending()
    assert mongoengine_db.post.count_documents(new) == 3


ASKED: list[tuple[Raw, list[int]]] = [
    ({"items__n": 2}, [1, 2, 5]),
    ({"items__n__exists": True}, [1, 2, 5]),
    ({"items__cents": 150}, [1]),
    ({"items__cents__gt": 100}, [1, 5]),
    ({"items__match": {"n": 2, "cents": 10}}, [2]),
    ({"items__match": {"n": 1, "currency": "EUR"}}, [1]),
    ({"items__n__ne": 2}, [3, 4]),
    ({"items__currency__in": ["EUR"]}, [1, 5]),
    ({"items__size": 2}, [1, 5]),
    ({"items__sku": "x", "items__n": 7}, [5]),
    ({"items__0__n": 2}, [1, 2, 5]),
]


@pytest.mark.parametrize(("asked", "keys"), ASKED, ids=str)
def test_queries_see_the_new_items(
    mongoengine_db: Database[Raw], asked: Raw, keys: list[int]
) -> None:
    """A filter on the items' new fields finds what it would find among migrated documents."""
    mongoengine_db.post.insert_many(OLD)
    post = _post(_rule(_rename_and_price))

    assert [one.key for one in post.objects(**asked).order_by("key")] == keys
    assert post.objects(**asked).count() == len(keys)


def test_queries_see_items_of_another_type_without_a_write(mongoengine_db: Database[Raw]) -> None:
    """A filter on what `each` gives another type, by `where`, writes nothing, as a sum does not."""
    mongoengine_db.post.insert_many(OLD)
    mongoengine_db.post.insert_one({"_id": 6, "items": [{"sku": "x", "n": "2"}, {"n": 9}]})
    old = list(mongoengine_db.post.find())
    post = _post(
        _rule(
            lambda: each(
                "items", set={"n": {"$toInt": "$$this.n"}}, where={"n": {"$type": "string"}}
            )
        )
    )

    assert post.objects(items__n=2).count() == 2
    assert sorted(post.objects.distinct("items.n")) == [2, 7, 9]
    assert list(mongoengine_db.post.find()) == old


def test_other_fields_of_the_items_are_not_touched(
    monitored_db: Database[Raw], command_log: CommandLog
) -> None:
    """A filter, an order or an update by a field that no rule writes is sent as it is."""
    monitored_db.post.insert_many(OLD)
    post = _post(_rule(_rename_and_price))
    post.objects.first()
    monitored_db.post.delete_many({})
    monitored_db.post.insert_many(OLD)
    command_log.clear()

    assert post.objects(items__sku="x").count() == 3
    assert post.objects.distinct("items.sku") == ["x", "y", "z"]
    post.objects(items__sku="y").update(title="found")

    assert command_log.names == ["aggregate", "distinct", "update"]
    assert command_log.commands[0][1]["pipeline"][0] == {"$match": {"items.sku": "x"}}
    stored = list(monitored_db.post.find(sort=[("_id", 1)]))
    assert [one["items"] for one in stored if "items" in one] == [
        one["items"] for one in OLD if "items" in one
    ]


def test_a_refused_item_is_refused_as_ever(mongoengine_db: Database[Raw]) -> None:
    """An expression that raises for a document leaves it as it is, and its neighbours are done."""
    mongoengine_db.post.insert_many(
        [{"_id": 1, "items": [{"price": "1.5"}]}, {"_id": 2, "items": [{"price": 2}]}]
    )
    post = _post(_rule(_rename_and_price))

    report = post.migration_handler(post).migrate_pending()

    (rule,) = report.rules
    assert [error.document_id for error in rule.errors] == [1]
    assert mongoengine_db.post.find_one({"_id": 1}) == {"_id": 1, "items": [{"price": "1.5"}]}
    assert mongoengine_db.post.find_one({"_id": 2, "items.cents": 200})


def test_a_target_of_its_own_is_kept() -> None:
    """A rule's own target stays; where it is not proved to end, a warning names the remedy."""
    target = {"items": {"$elemMatch": {"qty": {"$exists": True}}}, "title": "a"}
    post = _post(_rule(lambda: each("items", rename={"qty": "n"}), target))
    (rule,) = plan_for(post.migration_handler, post).lazy
    assert (rule.target, rule.converges) == (target, True)

    loose = {"items.qty": {"$exists": True}}
    with pytest.warns(ConvergenceWarning, match=r"set no self\.target, as each\(\) brings its own"):
        _post(_rule(lambda: each("items", rename={"qty": "n"}), loose))


@pytest.mark.parametrize(
    ("update", "problem"),
    [
        (lambda: each("items", rename={"qty": "number"}), "writes 'items.number', which the model"),
        (lambda: each("prices.*", rename={"qty": "number"}), r"writes 'prices.\*.number'"),
        (lambda: each("by_day.*.items", add={"z": 1}), r"writes 'by_day.\*.items.z'"),
        (lambda: each("orders.items", add={"z": 1}), "writes 'orders.items.z'"),
        (lambda: each("title", unset=["x"]), "each\\('title'\\): the model has no list"),
        (lambda: each("tags", unset=["x"]), "the model has no list of embedded documents there"),
        (lambda: each("address", unset=["x"]), "in a single embedded document use operators"),
        (lambda: each("prices", unset=["x"]), r"with \* for the keys of a map"),
        (lambda: each("prices.eur", unset=["x"]), r"with \* for the keys of a map"),
        (lambda: each("items.*", unset=["x"]), "the model has no list"),
        (lambda: each("items", unset=[]), r"Post.migration01__r: each\('items'\): changes nothing"),
    ],
)
def test_what_the_model_does_not_have_is_refused(update: Any, problem: str) -> None:
    """A field or a list that the model does not know is an error when the class is defined."""
    with pytest.raises(UpdateQueryError, match=problem):
        _post(_rule(update))


@pytest.mark.parametrize(
    "path", ["items", "orders.items", "address.items", "prices.*", "lists.*", "rows.*", "any.x"]
)
def test_what_the_model_has_is_taken(path: str) -> None:
    """The lists and maps of embedded documents, and what is declared as anything, are fine."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _post(_rule(lambda: each(path, unset=["former"])))


def test_a_list_that_a_later_rule_changes_may_be_anything(mongoengine_db: Database[Raw]) -> None:
    """What was a list when the rule was written may be none in the model of today."""
    mongoengine_db.post.insert_one({"_id": 1, "title": [{"qty": 1, "name": "x"}]})
    wide = ({"title": {"$type": "array"}}, [{"$set": {"title": {"$first": "$title.name"}}}])

    def later(self: Any) -> None:
        self.target, self.update = wide

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        post = _post(_rule(lambda: each("title", unset=["qty"])), later)

    post.migration_handler(post).migrate_pending()
    assert mongoengine_db.post.find_one() == {"_id": 1, "title": "x"}


def test_an_argument_that_is_unknown_names_the_rule() -> None:
    """A misspelled argument is an error of the rule."""
    with pytest.raises(ValueError, match=r"Post.migration01__r: .*unexpected keyword.*renames"):
        _post(_rule(lambda: each("items", renames={"a": "b"})))  # type: ignore[call-arg]
