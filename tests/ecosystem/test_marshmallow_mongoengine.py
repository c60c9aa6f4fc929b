"""marshmallow-mongoengine: schemas that dump, load and update documents with pending rules."""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import ADA, CID, Twins, key, needed

marshmallow = needed("marshmallow", "marshmallow")
marshmallow_mongoengine = needed("marshmallow_mongoengine", "marshmallow-mongoengine")


def _schema(model):
    meta = type("Meta", (), {"model": model})
    return type(f"{model.__name__}Schema", (marshmallow_mongoengine.ModelSchema,), {"Meta": meta})()


def test_dumps_are_equal(twins: Twins) -> None:
    """Old documents are dumped in today's shape, lists of them too."""

    def play(shop):
        schema = _schema(shop.Book)
        return (
            schema.dump(shop.Book.objects.get(title="Winter")),
            schema.dump(shop.Book.objects.order_by("-cents", "title"), many=True),
        )

    winter, every = twins.same(play)
    assert winter["reviews"] == [{"by": "x", "rating": 3}, {"by": "y", "rating": 5}]
    assert winter["author"] == str(ADA)
    assert [one["title"] for one in every][:2] == ["Summer", "Harvest"]


def test_documents_are_created_and_updated(twins: Twins) -> None:
    """What a schema loads is saved, and what it updates is the old document, brought up to date."""

    def play(shop):
        schema = _schema(shop.Book)
        schema.load(
            {"title": "Dawn", "author": str(CID), "tags": ["sun"], "reviews": [{"rating": 1}]}
        ).save()
        winter = shop.Book.objects.get(pk=key(11))
        schema.update(winter, {"title": "Deep Winter", "reviews": [{"by": "z", "rating": 4}]})
        winter.save()
        return schema.dump(shop.Book.objects.order_by("title").exclude("id"), many=True)

    titles = [one["title"] for one in twins.same(play)]
    assert titles == [
        *("Autumn", "Dawn", "Deep Winter", "Harvest"),
        *("Midwinter", "Monsoon", "Spring", "Summer"),
    ]


def test_references_are_looked_up(twins: Twins) -> None:
    """A reference that a schema loads is found, and loaded, in today's shape; none is refused."""

    def play(shop):
        schema = _schema(shop.Book)
        found = schema.load({"title": "Dawn", "author": str(CID)})
        with pytest.raises(marshmallow.ValidationError) as refused:
            schema.load({"title": "Dusk", "author": str(key(99))})
        return found.author.name, refused.value.messages

    name, messages = twins.same(play)
    assert name == "Cid"
    assert list(messages) == ["author"]
