"""graphene-mongo: types, nodes and connections, and the field that counts through the model."""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import ADA, Twins, key, needed

graphene = needed("graphene", "graphene")
graphene_mongo = needed("graphene_mongo", "graphene-mongo")
registries = needed("graphene_mongo.registry", "graphene-mongo")
relay = needed("graphql_relay", "graphql-relay")

PAGING = ("first", "last", "before", "after")


class CountingConnectionField(graphene_mongo.MongoengineConnectionField):
    """The field of `docs/other-libraries.md`: it counts through the model, not past it."""

    def default_resolver(self, _root, info, required_fields=None, resolved=None, **args):
        """Answer a connection from a queryset of the model."""
        if resolved is None and _root is None:
            filters = {
                name: value
                for name, value in args.items()
                if name not in PAGING and value is not None
            }
            resolved = self.get_queryset(self.model, info, required_fields, **filters)
            args = {name: args[name] for name in PAGING if name in args}
        return super().default_resolver(_root, info, required_fields, resolved, **args)


def _schema(shop, connection):
    """The shop as a schema whose connections are fields of the class `connection`."""
    registries.reset_global_registry()

    def node(model, **options):
        meta = {"model": model, "interfaces": (graphene.relay.Node,), **options}
        return type(
            f"{model.__name__}Type",
            (graphene_mongo.MongoengineObjectType,),
            {"Meta": type("Meta", (), meta)},
        )

    review = type(
        "ReviewType",
        (graphene_mongo.MongoengineObjectType,),
        {"Meta": type("Meta", (), {"model": shop.Review})},
    )
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
        },
    )
    return graphene.Schema(query=query, types=[review, author, book])


def _answer(shop, query: str, connection):
    done = _schema(shop, connection).execute(query)
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
    with twins.shop(lazy=False) as plain:
        # Its edges are those of the package's own field, where nothing is old.
        own = _answer(plain, ASKED % arguments, graphene_mongo.MongoengineConnectionField)
    assert answer["books"]["edges"] == own["books"]["edges"]


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
        schema = _schema(shop, graphene_mongo.MongoengineConnectionField)
        root = {"books": shop.Book.objects(cents__gte=900).order_by("title")}
        done = schema.execute("{ books(first: 3) { edges { node { title } } } }", root=root)
        assert done.errors is None
        return _titles(done.data)

    assert twins.same(play) == ["Harvest", "Monsoon", "Spring"]


def test_what_the_own_field_does_wrong(twins: Twins) -> None:
    """The package's own field counts past the model: it finds nothing where everything is old."""
    query = "{ books(title: \"Winter\") { edges { node { title } } } }"
    with twins.shop(lazy=True) as shop:
        own = graphene_mongo.MongoengineConnectionField
        assert _titles(_answer(shop, query, own)) == []
        assert _titles(_answer(shop, query, CountingConnectionField)) == ["Winter"]
