"""Rules in ordinary Python that the server can do: loads, queries, runs and reports of them."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import bson
import pytest
from mongoengine import (
    DictField,
    Document,
    DynamicDocument,
    DynamicField,
    IntField,
    StringField,
)
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin, SettlingWarning, as_stored
from lazymig.odm.plans import plan_for
from lazymig.testing import assert_idempotent, assert_lazy_equals_bulk, assert_migrates
from tests.support.commands import CommandLog


class OrderMigration(DocumentMigration):
    """What can be done by the server for all documents, for most of them, and for none."""

    def migration01__mail(self) -> None:
        """Moves a field."""
        self.target = {"mail": {"$exists": True}}
        self.update = {"$set": {"email": self.doc["mail"]}, "$unset": {"mail": ""}}

    def migration02__place(self) -> None:
        """Nests two fields, one of which may be missing."""
        self.target = {"street": {"$exists": True}}
        place = {"street": self.doc["street"], "city": self.doc.get("city", "-")}
        self.update = {"$set": {"place": place}, "$unset": {"street": "", "city": ""}}

    def migration03__cents(self) -> None:
        """Reads numbers in texts: the server reads the plain ones, Python the others."""
        self.target = {"price": {"$exists": True}}
        self.update = {"$set": {"cents": int(self.doc["price"]) * 100}, "$unset": {"price": ""}}

    def migration04__day(self) -> None:
        """Asks for what only Python has."""
        self.target = {"name": {"$exists": True}, "initials": {"$exists": False}}
        self.update = {"$set": {"initials": self.doc["name"].title().swapcase()[:1]}}


with warnings.catch_warnings():
    warnings.simplefilter("ignore", SettlingWarning)

    class Order(LazyMigrationMixin, Document):
        """An order."""

        number = IntField(primary_key=True)
        email = StringField()
        place = DictField()
        cents = IntField()
        name = StringField()
        initials = StringField()
        migration_handler = OrderMigration
        meta: ClassVar[dict[str, Any]] = {"collection": "order"}


def _old(number: int) -> dict[str, Any]:
    """An order of the first generation; each seventh has a price that the server does not read."""
    price: Any = f" {number}_0 " if number % 7 == 0 else str(number)
    city = {"city": f"c{number}"} if number % 2 else {}
    return {
        "_id": number,
        "mail": f"u{number}@x",
        "street": f"s{number}",
        **city,
        "price": price,
        "name": "ada",
    }


def _new(number: int) -> dict[str, Any]:
    """The same, of today."""
    return {
        "_id": number,
        "email": f"u{number}@x",
        "place": {"street": f"s{number}", "city": f"c{number}" if number % 2 else "-"},
        "cents": number * (1000 if number % 7 == 0 else 100),
        "name": "ada",
        "initials": "a",
    }


def _fill(database: Database[Any], count: int = 60) -> None:
    database["order"].insert_many([_old(number) for number in range(1, count + 1)])


def _forms() -> dict[str, str]:
    plan = plan_for(OrderMigration, Order)
    return {rule.name: rule.form for rule in plan.lazy}


def test_each_rule_has_its_form() -> None:
    """Moving and nesting is translated for all documents, reading numbers for most of them."""
    assert list(_forms().values()) == ["translated", "translated", "translated", "python"]
    rules = plan_for(OrderMigration, Order).lazy
    assert [len(rule.halves()) for rule in rules] == [1, 1, 2, 1]


def test_loads_give_what_the_methods_give(mongoengine_db: Database[Any]) -> None:
    """Every document is loaded, and stored, as the methods of the rules would make it."""
    _fill(mongoengine_db)
    loaded = list(Order.objects.order_by("number"))
    expected = [_new(number) for number in range(1, 61)]
    assert [each.to_mongo().to_dict() for each in loaded] == expected
    assert list(mongoengine_db["order"].find().sort("_id", 1)) == expected


@pytest.mark.parametrize("chunk_size", [7, 1000])
def test_runs_give_what_the_methods_give(mongoengine_db: Database[Any], chunk_size: int) -> None:
    """A run stores what loads would, by whichever half, and counts each document once."""
    _fill(mongoengine_db)
    report = OrderMigration(Order).migrate_pending(chunk_size=chunk_size)
    assert [(rule.matched, rule.modified) for rule in report.rules] == [(60, 60)] * 4
    assert report.complete
    found = list(mongoengine_db["order"].find().sort("_id", 1))
    assert found == [_new(number) for number in range(1, 61)]


def test_workers_do_both_halves(mongoengine_db: Database[Any]) -> None:
    """Chunks that are given out are done in halves as they are here."""
    _fill(mongoengine_db)
    with ThreadPoolExecutor(2) as pool:
        report = OrderMigration(Order).migrate_pending(executor=pool, chunk_size=10)
    assert report.complete
    found = list(mongoengine_db["order"].find().sort("_id", 1))
    assert found == [_new(number) for number in range(1, 61)]


def test_python_computes_only_what_the_server_does_not(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Of 60 documents, a run reads for the third rule those eight that the server leaves out."""
    _fill(monitored_db)
    command_log.clear()
    OrderMigration(Order).migrate_pending(chunk_size=1000)
    # One update, whose values lie in tables by the `_id`s.
    (ids,) = (
        body["let"]["ids"]["$literal"]
        for name, body in command_log.commands
        if name == "update" and body["update"] == "order" and "let" in body
        if any("cents" in stage.get("$set", {}) for stage in body["updates"][0]["u"])
    )
    assert len(ids) == 60 // 7


@pytest.mark.parametrize(
    "asked",
    [
        {"email": "u3@x"},
        {"email__in": ["u3@x", "u14@x"]},
        {"place__city": "-"},
        {"place__street": "s5"},
        {"cents": 300},
        {"cents": 14_000},
        {"cents__gte": 5000},
        {"cents__exists": False},
        {"initials": "a", "email": "u9@x"},
    ],
    ids=str,
)
def test_queries_answer_as_if_all_were_migrated(
    mongoengine_db: Database[Any], asked: dict[str, Any]
) -> None:
    """A filter on what translated rules write finds what it finds once all is migrated."""
    _fill(mongoengine_db, 30)
    Order.objects(number__lte=5).first()
    found = sorted(each.number for each in Order.objects(**asked))
    counted = Order.objects(**asked).count()
    OrderMigration(Order).migrate_pending()
    with as_stored(Order):
        expected = sorted(each.number for each in Order.objects(**asked))
    assert (found, counted) == (expected, len(expected))


class ChainMigration(DocumentMigration):
    """Each rule reads what the one before it has computed."""

    def migration01__a(self) -> None:
        """Reads a number."""
        self.target = {"a": {"$exists": True}}
        self.update = {"$set": {"b": int(self.doc["a"]) + 1}, "$unset": {"a": ""}}

    def migration02__b(self) -> None:
        """Reads the number before."""
        self.target = {"b": {"$exists": True}}
        self.update = {"$set": {"c": int(self.doc["b"]) + 1}, "$unset": {"b": ""}}

    def migration03__c(self) -> None:
        """Reads the one before."""
        self.target = {"c": {"$exists": True}}
        self.update = {"$set": {"d": int(self.doc["c"]) + 1}, "$unset": {"c": ""}}

    def migration04__d(self) -> None:
        """Reads the one before."""
        self.target = {"d": {"$exists": True}}
        self.update = {"$set": {"e": int(self.doc["d"]) + 1}, "$unset": {"d": ""}}

    def migration05__e(self) -> None:
        """Reads the last one."""
        self.target = {"e": {"$exists": True}}
        self.update = {"$set": {"f": int(self.doc["e"]) + 1}, "$unset": {"e": ""}}


class Chain(LazyMigrationMixin, DynamicDocument):
    """What comes out of the chain."""

    number = IntField(primary_key=True)
    f = IntField()
    migration_handler = ChainMigration


def test_a_chain_of_rules_makes_no_long_filter(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """What rules compute from one another is asked in a filter of bounded length, or settled."""
    monitored_db.chain.insert_many(
        [{"_id": n, "abcdef"[n % 6]: str(n) if n % 6 in (1, 3) else n} for n in range(24)]
    )
    command_log.clear()
    found = sorted(each.number for each in Chain.objects(f__lt=9))
    lengths = [
        len(bson.encode({name: body["filter"]}))
        for name, body in command_log.commands
        if "filter" in body
    ]
    assert lengths
    assert max(lengths) < 100_000
    assert found == [n for n in range(24) if n + 5 - n % 6 < 9]


def test_writes_meet_migrated_documents(mongoengine_db: Database[Any]) -> None:
    """An update by a field that a translated rule writes hits the right documents, once."""
    _fill(mongoengine_db, 10)
    assert Order.objects(cents__gte=500).update(inc__cents=1) == 6
    assert Order.objects(email="u2@x").delete() == 1
    OrderMigration(Order).migrate_pending()
    with as_stored(Order):
        found = {each.number: each.cents for each in Order.objects}
    assert found == {1: 100, 3: 300, 4: 400, 5: 501, 6: 601, 7: 7001, 8: 801, 9: 901, 10: 1001}


def test_reports_say_what_is_translated(mongoengine_db: Database[Any]) -> None:
    """Status and preview say which of the three each rule is, and why one is left to Python."""
    _fill(mongoengine_db)
    statuses = OrderMigration(Order).get_status()
    assert {each.name: each.form for each in statuses} == _forms()
    left = statuses[3].left_to_python
    assert left is not None
    assert "title" in left.expression
    assert left.line is not None
    previewed = OrderMigration(Order).preview(sample=5)
    assert [rule.in_python for rule in previewed.rules] == [0, 0, 60 // 7, None]
    assert not any(sample.problem for sample in previewed.samples)


def test_explain_names_the_rules_that_are_still_at_work(mongoengine_db: Database[Any]) -> None:
    """explain_migration() gives the plan, and for each rule concerned its form and documents."""
    _fill(mongoengine_db)
    text = Order.objects(initials="a").explain_migration()
    assert "Plan: " in text
    assert "migration04__day (Python): 60 documents are still old." in text
    assert "computed in Python, because it" in text
    assert "migration03__cents" not in text.partition("\n")[2]
    assert mongoengine_db["order"].count_documents({"mail": {"$exists": True}}) == 60


@pytest.mark.usefixtures("mongoengine_db")
def test_the_testing_kit_holds_for_both_halves() -> None:
    """The assertions of the kit hold for documents that the server migrates and for others."""
    for number in (1, 7):
        assert_migrates(Order, _old(number), _new(number))
        assert_idempotent(Order, _old(number))
    assert_lazy_equals_bulk(Order, [_old(number) for number in range(1, 15)])


def test_a_guarded_bulk_rule_is_done_in_halves(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """Rules of migrate_all() are translated as well, where their updates end the match."""

    class Rules(DocumentMigration):
        def allmigration01__n(self) -> None:
            self.target = {"n": {"$type": "string"}}
            self.update = {"$set": {"n": int(self.doc["n"])}}

    class Item(LazyMigrationMixin, DynamicDocument):
        n = DynamicField()
        migration_handler = Rules

    values = ["1", "22", " 3 ", "4_4"]
    monitored_db["item"].insert_many([{"_id": n, "n": value} for n, value in enumerate(values)])
    command_log.clear()
    report = Rules(Item).migrate_all()
    assert (report.matched, report.modified, report.errors) == (4, 4, ())
    assert [each["n"] for each in monitored_db["item"].find().sort("_id", 1)] == [1, 22, 3, 44]
    assert any(
        isinstance(each["u"], list)
        for name, body in command_log.commands
        if name == "update" and body["update"] == "item"
        for each in body["updates"]
    )
