"""graphene-mongo: types, nodes and connections, and the field that counts through the model."""

from __future__ import annotations

import asyncio

import pytest

from tests.ecosystem.twins import ADA, Twins, documented, key, needed

graphene = needed("graphene", "graphene")
graphene_mongo = needed("graphene_mongo", "graphene-mongo")
registries = needed("graphene_mongo.registry", "graphene-mongo")
relay = needed("graphql_relay", "graphql-relay")

# What the page gives to its readers.
Counting = documented("CountsThroughTheModel")["CountsThroughTheModel"]


class CountingConnectionField(Counting, graphene_mongo.MongoengineConnectionField):
    """A connection that counts through the model, not past it."""


class AsyncCountingConnectionField(Counting, graphene_mongo.AsyncMongoengineConnectionField):
    """The same, for asynchronous schemas."""


def _schema(shop, connection, **resolvers):
    """The shop as a schema whose connections are fields of the class `connection`."""
    registries.reset_global_registry()
    registries.reset_global_async_registry()
    is_async = issubclass(connection, graphene_mongo.AsyncMongoengineConnectionField)
    base = getattr(graphene_mongo, f"{'Async' * is_async}MongoengineObjectType")

    def node(model, **options):
        meta = {"model": model, "interfaces": (graphene.relay.Node,), **options}
        return type(f"{model.__name__}Type", (base,), {"Meta": type("Meta", (), meta)})

    review = type("ReviewType", (base,), {"Meta": type("Meta", (), {"model": shop.Review})})
    author = node(shop.Author)
    book = node(
        shop.Book,
        order_by="title",
        filter_fields={"title": ["icontains"], "cents": ["gte", "lt"]},
    )
    query = type(
        "Query",
        (graphene.ObjectType,),
        {
            "node": graphene.relay.Node.Field(),
            "books": connection(book),
            "authors": connection(author),
            **resolvers,
        },
    )
    return graphene.Schema(query=query, types=[review, author, book])


def _answer(shop, query: str, connection, **resolvers):
    done = asyncio.run(_schema(shop, connection, **resolvers).execute_async(query))
    assert done.errors is None
    return done.data


def _titles(answer) -> list[str]:
    return [edge["node"]["title"] for edge in answer["books"]["edges"]]


QUERIES = {
    "all": ("", 7),
    "by a renamed field": ('(title: "Winter")', 1),
    "by a computed field": ("(cents: 1250)", 2),
    "by a lookup": ('(title_Icontains: "winter", cents_Gte: 600)', 1),
    "by a reference": (f'(author: "{relay.to_global_id("AuthorType", str(ADA))}")', 2),
    "by an id": (f'(id: "{relay.to_global_id("BookType", str(key(11)))}")', 1),
    "none": ('(title: "Dusk")', 0),
    "first": ("(first: 3)", 3),
    "filtered, first": ("(cents_Gte: 900, first: 2)", 2),
    "filtered, last": ("(cents_Gte: 900, last: 2)", 2),
    "filtered, after": (f'(cents_Gte: 900, after: "{relay.offset_to_cursor(1)}", first: 2)', 2),
    "filtered, before": (f'(cents_Gte: 900, before: "{relay.offset_to_cursor(3)}", last: 2)', 2),
}
ASKED = """{ books%s { edges { cursor node {
    title cents tags author { name } reviews { by rating }
} } pageInfo { hasNextPage hasPreviousPage } } }"""


@pytest.mark.parametrize("name", QUERIES)
def test_connections_that_count_through_the_model(twins: Twins, name: str) -> None:
    """With the field that counts by a queryset, a connection with arguments is answered rightly."""
    arguments, number = QUERIES[name]
    answer = twins.same(lambda shop: _answer(shop, ASKED % arguments, CountingConnectionField))
    assert len(_titles(answer)) == number
    if name != "filtered, last":
        # Elsewhere the package's own field is right too, where nothing is old.
        own = graphene_mongo.MongoengineConnectionField
        with twins.shop(lazy=False) as plain:
            assert (
                answer["books"]["edges"] == _answer(plain, ASKED % arguments, own)["books"]["edges"]
            )


def test_asynchronous_connections(twins: Twins) -> None:
    """The asynchronous field is right in the same way."""
    arguments, number = QUERIES["filtered, after"]
    answer = twins.same(lambda shop: _answer(shop, ASKED % arguments, AsyncCountingConnectionField))
    assert len(_titles(answer)) == number


def test_nodes_are_equal(twins: Twins) -> None:
    """A node is loaded with the fields that were asked for, in today's shape."""
    query = """{ node(id: "%s") { ... on BookType {
        title cents tags author { name } reviews { rating } } } }"""
    answer = twins.same(
        lambda shop: _answer(
            shop,
            query % relay.to_global_id("BookType", str(key(11))),
            CountingConnectionField,
        )
    )
    assert answer["node"]["author"] == {"name": "Ada"}
    assert answer["node"]["reviews"] == [{"rating": 3}, {"rating": 5}]


def test_a_resolver_that_gives_a_queryset_is_right(twins: Twins) -> None:
    """The package's own field, with a resolver, counts what the resolver's queryset finds."""

    def play(shop):
        return _titles(
            _answer(
                shop,
                "{ books(first: 3) { edges { node { title } } } }",
                graphene_mongo.MongoengineConnectionField,
                resolve_books=lambda *_, **__: shop.Book.objects(cents__gte=900).order_by("title"),
            )
        )

    assert twins.same(play) == ["Harvest", "Monsoon", "Spring"]


def test_what_the_own_field_does_wrong(twins: Twins) -> None:
    """The package's own field counts past the model: it finds nothing where everything is old."""
    query = '{ books(title: "Winter") { edges { node { title } } } }'
    with twins.shop(lazy=True) as shop:
        own = graphene_mongo.MongoengineConnectionField
        assert _titles(_answer(shop, query, own)) == []
        assert _titles(_answer(shop, query, CountingConnectionField)) == ["Winter"]
