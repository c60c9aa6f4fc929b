"""django-rest-framework-mongoengine: serializers, unique validators and viewsets."""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import ADA, BEN, Twins, key, needed

django = needed("django", "django")
conf = needed("django.conf", "django")
needed("rest_framework", "djangorestframework")
if not conf.settings.configured:
    conf.settings.configure(
        ALLOWED_HOSTS=["testserver"],
        DATABASES={},
        INSTALLED_APPS=["rest_framework", "rest_framework_mongoengine"],
        REST_FRAMEWORK={"UNAUTHENTICATED_USER": None, "DEFAULT_AUTHENTICATION_CLASSES": []},
        ROOT_URLCONF=(),
        SECRET_KEY="a key of the tests",
        USE_TZ=True,
    )
    django.setup()
fields = needed("rest_framework_mongoengine.fields", "django-rest-framework-mongoengine")
serializers = needed("rest_framework_mongoengine.serializers", "django-rest-framework-mongoengine")
viewsets = needed("rest_framework_mongoengine.viewsets", "django-rest-framework-mongoengine")
pagination = needed("rest_framework.pagination", "djangorestframework")
requests = needed("rest_framework.test", "djangorestframework")


class Pages(pagination.LimitOffsetPagination):
    """Three documents to a page."""

    default_limit = 3


def _serializer(model, depth: int = 0):
    meta = type("Meta", (), {"model": model, "fields": "__all__", "depth": depth})
    return type(f"{model.__name__}Serializer", (serializers.DocumentSerializer,), {"Meta": meta})


def _views(shop, depth: int = 0):
    """The viewset of the books, filtered by what the query names."""

    class Books(viewsets.ModelViewSet):
        serializer_class = _serializer(shop.Book, depth)
        queryset = shop.Book.objects
        pagination_class = Pages

        def get_queryset(self):
            filters = {
                name: value
                for name, value in self.request.query_params.items()
                if name not in {"limit", "offset", "order"}
            }
            order = self.request.query_params.get("order", "title")
            return super().get_queryset().filter(**filters).order_by(order)

    return Books


def _ask(shop, method: str, path: str = "/", pk=None, data=None, depth: int = 0):
    """The status and the data of the answer to one request."""
    request = getattr(requests.APIRequestFactory(), method)(
        path, data, format="json" if data else None
    )
    actions = {
        "get": "list" if pk is None else "retrieve",
        "post": "create",
        "put": "update",
        "patch": "partial_update",
        "delete": "destroy",
    }
    view = _views(shop, depth).as_view({method: actions[method]})
    answer = view(request) if pk is None else view(request, id=str(pk))
    answer.render() if hasattr(answer, "render") and answer.accepted_renderer else None
    return answer.status_code, answer.data


def _plain(data):
    """What a client is sent, without the id of a new document."""
    import json

    from rest_framework.utils.encoders import JSONEncoder

    return json.loads(json.dumps(data, cls=JSONEncoder))


LISTS = {
    "?": ["Autumn", "Harvest", "Midwinter"],
    "?offset=6": ["Winter"],
    "?order=-cents&limit=1": ["Summer"],
    "?title__icontains=winter": ["Midwinter", "Winter"],
    "?cents__gte=900&order=cents&limit=2": ["Spring", "Monsoon"],
    "?tags=rain": ["Monsoon", "Spring"],
    "?reviews__rating=5": ["Harvest", "Monsoon", "Winter"],
}


@pytest.mark.parametrize("query", LISTS)
def test_lists_are_equal(twins: Twins, query: str) -> None:
    """A page of the list, with its count, is the same, however it is filtered and sorted."""
    status, data = twins.same(lambda shop: _plain(_ask(shop, "get", f"/{query}")))
    assert status == 200
    assert [one["title"] for one in data["results"]][:3] == LISTS[query]


@pytest.mark.parametrize("depth", [0, 1])
def test_details_are_equal(twins: Twins, depth: int) -> None:
    """A document is shown in today's shape, and so is what it refers to, where that is nested."""
    status, data = twins.same(lambda shop: _plain(_ask(shop, "get", pk=key(11), depth=depth)))
    assert (status, data["cents"], data["tags"]) == (200, 1250, ["ice", "snow"])
    assert depth == 0 or data["author"]["name"] == "Ada"


def test_unique_validators_see_old_documents(twins: Twins) -> None:
    """A value that an old document has under its former name is taken, for others than itself."""

    def play(shop):
        return _plain(
            [
                _ask(shop, "post", data={"title": "Winter", "author": str(BEN)}),
                _ask(shop, "patch", pk=key(12), data={"title": "Spring"}),
                _ask(shop, "patch", pk=key(13), data={"title": "Spring", "cents": 5}),
            ]
        )

    taken, patched, kept = twins.same(play)
    assert (taken[0], patched[0], kept[0]) == (400, 400, 200)
    assert list(taken[1]) == list(patched[1]) == ["title"]
    assert kept[1]["cents"] == 5


def test_writes_are_equal(twins: Twins) -> None:
    """What is created, replaced, patched and deleted is the same on both sides."""

    def play(shop):
        whole = {
            "title": "Deep Winter",
            "author": str(BEN),
            "cents": 1,
            "tags": ["snow"],
            "reviews": [{"by": "x", "rating": 1}],
        }
        created, data = _ask(shop, "post", data={**whole, "title": "Dawn"})
        data = {name: value for name, value in _plain(data).items() if name != "id"}
        return (
            created,
            data,
            _plain(_ask(shop, "put", pk=key(11), data=whole)),
            _plain(_ask(shop, "patch", pk=key(16), data={"tags": ["dark"]})),
            _ask(shop, "delete", pk=key(14))[0],
            _ask(shop, "get", pk=key(14))[0],
            [one["title"] for one in _plain(_ask(shop, "get", "/?limit=20"))[1]["results"]],
        )

    created, _data, put, patched, deleted, gone, titles = twins.same(play)
    assert (created, put[0], patched[0], deleted, gone) == (201, 200, 200, 204, 404)
    assert titles == [
        *("Autumn", "Dawn", "Deep Winter", "Harvest", "Midwinter", "Monsoon", "Spring"),
    ]


def _with_authors(books, shop):
    """Books with their authors, by the field that reads what was left a reference by itself."""
    author = fields.ComboReferenceField(serializer=_serializer(shop.Author))
    meta = type("Meta", (), {"model": shop.Book, "fields": ["title", "author"], "depth": 1})
    serializer = type(
        "WithAuthors", (serializers.DocumentSerializer,), {"author": author, "Meta": meta}
    )
    return _plain(serializer(books.order_by("title"), many=True).data)


def test_combined_references_are_loaded(twins: Twins) -> None:
    """A `ComboReferenceField` shows what a document refers to in today's shape."""
    found = twins.same(lambda shop: _with_authors(shop.Book.objects, shop))
    assert found[-1]["author"] == {"id": str(ADA), "name": "Ada"}


def test_combined_references_that_are_read_past_the_model(twins: Twins) -> None:
    """Of a queryset that leaves references alone, it shows what is stored: an old name is lost."""
    with twins.shop(lazy=False) as plain:
        assert _with_authors(plain.Book.objects.no_dereference(), plain)[-1]["author"]["name"]
    with twins.shop(lazy=True) as shop, pytest.raises(KeyError, match="name"):
        _with_authors(shop.Book.objects.no_dereference(), shop)
