"""django-mongoengine: its second manager, its querysets, forms and generic views.

It changes classes of MongoEngine as it is imported, so it has a process of its own: see
`test_apart.py`.
"""

from __future__ import annotations

import pytest

from tests.ecosystem.twins import ADA, BEN, Bases, Twins, key, needed

django = needed("django", "django")
conf = needed("django.conf", "django")
TEMPLATES = {
    "list.html": "{% for book in object_list %}{{ book.title }} by {{ book.author.name }};"
    "{% endfor %} page {{ page_obj.number }} of {{ paginator.num_pages }}",
    "detail.html": "{{ object.title }} {{ object.cents }} {{ object.tags|join:',' }}"
    "{% for one in object.reviews %} {{ one.by }}{{ one.rating }}{% endfor %}",
    "form.html": "{{ form.as_p }}",
}
conf.settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={"default": {"ENGINE": "django.db.backends.dummy"}},
    INSTALLED_APPS=["django_mongoengine"],
    MONGODB_DATABASES={},
    SECRET_KEY="a key of the tests",
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"loaders": [("django.template.loaders.locmem.Loader", TEMPLATES)]},
        }
    ],
    USE_TZ=True,
)
django.setup()
package = needed("django_mongoengine", "django-mongoengine")
fields = needed("django_mongoengine.fields", "django-mongoengine")
views = needed("django_mongoengine.views", "django-mongoengine")
documents = needed("django_mongoengine.forms", "django-mongoengine")
requests = needed("django.test", "django")


@pytest.fixture
def bases() -> Bases:
    """The package's documents and fields: a field has to have a value unless it may be blank."""
    return Bases(
        document=package.Document,
        embedded=package.EmbeddedDocument,
        fields=fields,
        meta={"app_label": "shop"},
        required={},
        optional={"blank": True},
    )


def test_both_managers_answer_the_same(twins: Twins) -> None:
    """`objects` and `_default_manager` find old documents by what they will be."""

    def play(shop):
        def seen(books):
            return (
                [book.title for book in books.filter(cents__gte=900).order_by("-cents", "title")],
                books.filter(tags="ice").count(),
                books.filter(title="Winter").exists(),
                books.latest("title").title,
                books.earliest("cents").title,
                [book.title for book in books.order_by("title").iterator()],
            )

        return seen(shop.Book.objects), seen(shop.Book._default_manager)

    first, second = twins.same(play)
    assert first == second
    assert first[:3] == (["Summer", "Harvest", "Winter", "Monsoon", "Spring"], 2, True)


def test_what_is_there_is_not_created_again(twins: Twins) -> None:
    """`get_or_create` and `update_or_create` find a document that has its key by another name."""

    def play(shop):
        books = shop.Book.objects
        winter, made = books.get_or_create(title="Winter", defaults={"cents": 1})
        monsoon, anew = books.update_or_create(title="Monsoon", defaults={"cents": 2})
        dawn, created = books.get_or_create(title="Dawn", defaults={"cents": 3, "author": ADA})
        return winter.cents, made, monsoon.cents, anew, dawn.cents, created, books.count()

    assert twins.same(play) == (1250, False, 2, False, 3, True, 8)


def _view(kind, shop, method: str = "get", path: str = "/", data=None, **options):
    """The answer of one of the package's views."""
    view = type("View", (kind,), {"document": shop.Book, **options.pop("body", {})})
    request = getattr(requests.RequestFactory(), method)(path, data)
    answer = view.as_view(**options)(request, **({"pk": key(11)} if "pk" in path else {}))
    if hasattr(answer, "render"):
        answer.render()
    return answer.status_code, answer.content.decode()


def test_lists_and_details_are_equal(twins: Twins) -> None:
    """The pages of a list, and the one of a document, show today's shape."""

    def play(shop):
        body = {"queryset": shop.Book.objects.order_by("title")}
        pages = [
            _view(
                views.ListView,
                shop,
                path=f"/?page={number}",
                template_name="list.html",
                paginate_by=3,
                body=body,
            )
            for number in (1, 3)
        ]
        return *pages, _view(views.DetailView, shop, path="/pk", template_name="detail.html")

    first, last, detail = twins.same(play)
    assert first == (200, "Autumn by Ben;Harvest by Ben;Midwinter by Ben; page 1 of 3")
    assert last == (200, "Winter by Ada; page 3 of 3")
    assert detail == (200, "Winter 1250 ice,snow x3 y5")


def test_forms_are_equal(twins: Twins) -> None:
    """A form shows an old document in today's shape, and what it sends is stored likewise."""

    def play(shop):
        options = {
            "template_name": "form.html",
            "success_url": "/done",
            "body": {"fields": ["title", "author", "cents"]},
        }
        sent = {"title": "Deep Winter", "author": str(BEN), "cents": "5"}
        return (
            _view(views.UpdateView, shop, path="/pk", **options),
            _view(views.UpdateView, shop, "post", "/pk", sent, **_again(options)),
            _view(
                views.CreateView, shop, "post", "/", {**sent, "title": "Dawn"}, **_again(options)
            ),
            _view(views.DeleteView, shop, "post", "/pk", {}, success_url="/done"),
            [book.title for book in shop.Book.objects.order_by("title")],
        )

    shown, updated, created, deleted, titles = twins.same(play)
    assert "Winter</textarea>" in shown[1].replace("\n", "")
    assert (updated[0], created[0], deleted[0]) == (302, 302, 302)
    assert titles == ["Autumn", "Dawn", "Harvest", "Midwinter", "Monsoon", "Spring", "Summer"]


def _again(options):
    return {**options, "body": dict(options["body"])}
