"""up_to_date: documents migrated for code that hands the filter of a queryset to PyMongo itself."""

from __future__ import annotations

import copy

import mongoengine
import pytest
from mongoengine import BooleanField, IntField, Q, StringField
from mongoengine.errors import LookUpError
from mongoengine.queryset import QuerySet

from lazymig import SettleLimitExceeded, ShowError, as_stored, without_writing
from tests.support.doors import stored
from tests.support.handlers import ADD_ENABLED, handler, model, rule
from tests.support.server import CLIENT_OPTIONS

RENAME = rule({"cost": {"$exists": True}}, {"$rename": {"cost": "price"}})


def in_python(self):
    """A computed rule that no stage shows."""
    self.target = {"words": {"$exists": True}}
    self.update = {"$set": {"price": len(self.doc["words"].split())}, "$unset": {"words": ""}}


def double(self):
    """A rule that the server computes: the price was stored as half of it."""
    self.target = {"half": {"$exists": True}}
    self.update = {"$set": {"price": self.doc["half"] * 2}, "$unset": {"half": ""}}


RULES = {
    "migration01__rename": RENAME,
    "migration02__enable": rule(*ADD_ENABLED),
    "migration03__double": double,
    "migration04__words": in_python,
}

OLD = [
    {"_id": 1, "shop": 1, "cost": 10},
    {"_id": 2, "shop": 1, "price": 20, "enabled": True},
    {"_id": 3, "shop": 1, "half": 15, "enabled": False},
    {"_id": 4, "shop": 1, "words": "a b c", "enabled": True},
    {"_id": 5, "shop": 2, "cost": 1},
]
PRICES = {1: 10, 2: 20, 3: 30, 4: 3, 5: 1}


class Raw(QuerySet):
    """A class of the application that reads by itself, in the ways that are seen in the wild."""

    def median(self, field):
        name = self._fields_to_dbfields([field])[0]
        stages = [
            {"$match": self._query},
            {"$sort": {name: 1}},
            {"$group": {"_id": None, "values": {"$push": f"${name}"}}},
        ]
        (found,) = self._document._get_collection().aggregate(stages)
        return found["values"][len(found["values"]) // 2]

    def found(self):
        return {one["_id"]: one.get("price") for one in self._collection.find(self._query)}

    def found_unseen(self):
        query = self._query_obj.to_query(self._document)
        return {one["_id"]: one.get("price") for one in self._collection.find(query)}

    def counted(self, query):
        return self._collection.count_documents({"$and": [self._query, query]})

    def ordered(self):
        cursor = self._collection.find(self._query).sort(self._ordering)
        return [one["_id"] for one in cursor]

    def as_raw(self):
        return {one["_id"]: one.get("price") for one in self.as_pymongo()}


def items(rules=RULES, queryset_class=Raw, **attributes):
    """Today's model: a price, of a shop, enabled or not."""
    return model(
        handler(**rules, **attributes),
        meta={"queryset_class": queryset_class},
        shop=IntField(),
        price=IntField(),
        enabled=BooleanField(),
        note=StringField(),
    )


@pytest.fixture
def old(mongoengine_db):
    """The collection with old documents."""
    mongoengine_db["post"].insert_many(copy.deepcopy(OLD))
    return mongoengine_db["post"]


READERS = {
    "median": (lambda o: o(shop=1).up_to_date("price").median("price"), 20),
    "find": (lambda o: o(shop=1).up_to_date("price").found(), {1: 10, 2: 20, 3: 30, 4: 3}),
    "count": (lambda o: o(shop=1).up_to_date("price").counted({"price": {"$gt": 5}}), 3),
    "all": (lambda o: o.up_to_date("price").found(), PRICES),
    "every field": (lambda o: o.up_to_date().counted({"enabled": True}), 4),
    "as_pymongo": (lambda o: o(price__gt=5).up_to_date("price").as_raw(), {1: 10, 2: 20, 3: 30}),
    "after as_pymongo": (
        lambda o: {one["_id"]: one["price"] for one in o.as_pymongo().up_to_date("price")},
        PRICES,
    ),
    "filtered by a rule": (lambda o: o(price__lt=10).up_to_date("price").found(), {4: 3, 5: 1}),
    "filtered by another": (
        lambda o: o(enabled=True).up_to_date("price").found(),
        {1: 10, 2: 20, 4: 3, 5: 1},
    ),
    "without the rewritten filter": (
        lambda o: o(enabled=True, price__lt=10).up_to_date("price").found_unseen(),
        {4: 3, 5: 1},
    ),
    "filtered afterwards": (
        lambda o: o(shop=1).up_to_date("price").filter(enabled=True).found(),
        {1: 10, 2: 20, 4: 3},
    ),
    "where": (lambda o: o.where("this.price > 5").up_to_date("shop").counted({"price": 30}), 1),
    "ordered": (lambda o: o.order_by("-price").up_to_date("shop").ordered(), [3, 2, 1, 4, 5]),
}


@pytest.mark.parametrize("reader", READERS)
def test_code_that_reads_by_itself_reads_migrated_documents(old, reader):
    """Whatever hands the filter to PyMongo finds, and reads, what migrated documents would give."""
    ask, expected = READERS[reader]
    assert ask(items().objects) == expected


def test_without_it_such_code_is_wrong(old):
    """Documents are read as they are stored: the tests above would notice."""
    objects = items().objects
    assert objects(shop=1).found() == {1: None, 2: 20, 3: None, 4: None}
    assert objects(shop=1).counted({"price": {"$gt": 5}}) == 1


def test_what_matches_no_more_is_not_found_by_the_plain_filter(mongoengine_db):
    """The filter as it was written finds no document that fits it only as it is stored."""
    mongoengine_db["post"].insert_many([{"_id": 1, "price": 5, "cost": 7}, {"_id": 2, "price": 5}])
    objects = items().objects(price=5).up_to_date("shop")
    assert objects.found_unseen() == {2: 5}


def test_only_what_is_read_is_migrated(old):
    """Documents that the filter does not find, and rules of other fields, are left alone."""
    items().objects(shop=1).up_to_date("price")
    assert stored(old) == [
        {"_id": 1, "shop": 1, "price": 10},
        {"_id": 2, "shop": 1, "price": 20, "enabled": True},
        {"_id": 3, "shop": 1, "price": 30, "enabled": False},
        {"_id": 4, "shop": 1, "price": 3, "enabled": True},
        OLD[4],
    ]


def test_a_limit_is_none_of_it(old):
    """What the filter finds is migrated, whatever part of it the queryset would hand out."""
    items().objects(shop=1).limit(1).up_to_date("price")
    assert old.count_documents({"shop": 1, "price": {"$exists": True}}) == 4


def test_it_costs_one_look(monitored_db, command_log):
    """Nothing old is one command, a field that no rule writes none."""
    monitored_db["post"].insert_one({"_id": 1, "price": 3, "enabled": True})
    objects = items().objects
    command_log.clear()
    objects.up_to_date("shop", "note")
    assert command_log.names == []
    objects(shop=1).up_to_date("price")
    assert command_log.names == ["find"]


def test_an_application_without_the_right_field_is_told(old):
    """A name that the model does not know is MongoEngine's own error, and nothing is written."""
    with pytest.raises(LookUpError, match="prize"):
        items().objects.up_to_date("prize")
    with pytest.raises(LookUpError, match="prize"):
        items(rules={}).objects.up_to_date("prize")
    assert stored(old) == OLD


def test_above_the_limit_nothing_is_written(old):
    """SettleLimitExceeded names the call, the rules and the remedy."""
    objects = items(settle_limit=2).objects(shop=1)
    with pytest.raises(SettleLimitExceeded, match="migrate_pending") as caught:
        objects.up_to_date("price")
    assert caught.value.operation == "up_to_date('price')"
    assert set(caught.value.rules) == {
        "migration01__rename",
        "migration03__double",
        "migration04__words",
    }
    assert stored(old) == OLD


def test_it_writes_nothing_where_reads_may_not(old):
    """Where reads write nothing it raises ShowError if it finds something old, and only then."""
    post = items()
    with without_writing(post):
        with pytest.raises(ShowError, match=r"up_to_date\('price'\)"):
            post.objects.up_to_date("price")
        assert stored(old) == OLD
        assert post.objects(key=2).up_to_date("price").found() == {2: 20}
        # What shows documents writes nothing.
        shown = post.objects(shop=2).aggregate([{"$group": {"_id": None, "n": {"$sum": "$price"}}}])
        assert [one["n"] for one in shown] == [1]
    post = items(write_on_load=False)
    with pytest.raises(ShowError, match=r"up_to_date\('price', 'enabled'\)"):
        post.objects.up_to_date("price", "enabled")
    assert stored(old) == OLD


def test_nothing_is_migrated_where_documents_are_shown_as_stored(old):
    """as_stored, by the queryset and by the block, and see_through = False switch it off."""
    post = items()
    post.objects.as_stored().up_to_date("price")
    with as_stored(post):
        post.objects.up_to_date("price")
    items(see_through=False).objects.up_to_date("price")
    assert stored(old) == OLD


def test_a_model_without_rules_has_it_too(monitored_db, command_log):
    """A queryset class can call it whether or not rules are pending: nothing is sent."""
    monitored_db["post"].insert_one({"_id": 1, "shop": 1, "price": 3})
    objects = items(rules={}).objects(shop=1)
    command_log.clear()
    objects = objects.up_to_date("price")
    assert command_log.names == []
    assert objects.found() == {1: 3}


@pytest.mark.parametrize("rules", [RULES, {}], ids=["rules", "none"])
def test_a_method_of_the_application_keeps_its_name(old, rules):
    """A queryset class with a method of such a name has its own, with rules and without."""

    class Own(Raw):
        def up_to_date(self):
            return self.filter(price__gte=10)

        def as_stored(self):
            return "stored in the attic"

    objects = items(rules, Own).objects(key=2)
    assert [document.key for document in objects.up_to_date()] == [2]
    assert objects.as_stored() == "stored in the attic"
    assert stored(old) == OLD


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_is_refused_stays_as_it_is(old, on_error):
    """A document that cannot be migrated is read as it is stored; its neighbours are migrated."""
    old.insert_one({"_id": 6, "shop": 1, "words": 7})
    objects = items(on_error=on_error).objects(shop=1).up_to_date("price")
    assert objects.found() == {1: 10, 2: 20, 3: 30, 4: 3, 6: None}
    assert old.find_one(6) == {"_id": 6, "shop": 1, "words": 7}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_is_refused_is_found_as_it_is_stored(old, on_error):
    """A document that was refused is not found by what it would have become, on clones neither."""
    old.create_index("price", unique=True, sparse=True)
    old.insert_one({"_id": 6, "shop": 1, "cost": 20})
    objects = items(on_error=on_error).objects(price=20).up_to_date("price")
    assert objects.found() == objects.filter(shop=1).found() == {2: 20}
    assert old.find_one(6) == {"_id": 6, "shop": 1, "cost": 20}


def test_the_collection_of_the_queryset_is_meant(old, mongoengine_db, server_uri):
    """using(), switch_db() and their like lead to the collection that is migrated."""
    other = mongoengine_db.client[f"{mongoengine_db.name}_other"]
    other["post"].insert_one({"_id": 1, "shop": 1, "cost": 4})
    mongoengine.register_connection("other", other.name, host=server_uri, **CLIENT_OPTIONS)
    try:
        assert items().objects.using("other").up_to_date("price").found() == {1: 4}
        assert stored(old) == OLD
    finally:
        mongoengine.disconnect("other")
        other.client.drop_database(other.name)


def test_on_mongomock(mock_db):
    """It settles on mongomock as on a server."""
    mock_db["post"].insert_many(copy.deepcopy(OLD))
    assert items().objects(shop=1).up_to_date("price").found() == {1: 10, 2: 20, 3: 30, 4: 3}


class Searching(Raw):
    """A class whose filter is what a search of its own has found, as for Atlas Search."""

    _hits = None

    @property
    def _cursor(self):
        if self._hits is None:
            self._hits = [one["_id"] for one in self._collection.find({"shop": 1})]
        return super()._cursor

    @property
    def _query(self):
        if self._hits is None:
            return None
        self._query_obj = Q(key__in=self._hits)
        return super()._query


def test_a_class_that_searches_by_itself_loads_and_sorts_migrated_documents(old):
    """What its search finds is its filter: nothing is asked of rules before it has searched."""
    objects = items(queryset_class=Searching).objects
    assert [one.key for one in objects.order_by("-price")] == [3, 2, 1, 4]
    assert {one.key: one.price for one in objects} == {1: 10, 2: 20, 3: 30, 4: 3}
    assert objects.order_by("price").first().key == 4
    assert old.find_one(5) == OLD[4]


def test_a_class_that_searches_by_itself_settles_the_whole_collection(old):
    """Before it has searched nobody knows what it is going to find."""
    items(queryset_class=Searching).objects.up_to_date("price")
    assert {one["_id"]: one["price"] for one in old.find()} == PRICES
