"""mongoengine-plus: querysets and documents that are awaited, each call in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

import mongoengine
import pytest

from lazymig import ShowError, as_stored, without_writing
from tests.ecosystem.twins import OLD, Bases, Shop, Twins, key, needed
from tests.support.sessions import needs_bound_sessions

AsyncDocument = needed("mongoengine_plus.aio", "mongoengine-plus").AsyncDocument

T = TypeVar("T")


@pytest.fixture
def bases() -> Bases:
    """Books and authors that can be awaited."""
    return Bases(
        document=AsyncDocument, meta={"queryset_class": AsyncDocument._meta["queryset_class"]}
    )


class ContextExecutor(ThreadPoolExecutor):
    """The user's way: what is done in a thread is done in the context of who asked for it."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


def _run(main: Coroutine[Any, Any, T], executor: ThreadPoolExecutor | None = None) -> T:
    async def started() -> T:
        if executor is not None:
            asyncio.get_running_loop().set_default_executor(executor)
        return await main

    return asyncio.run(started())


def _document(book: Any) -> Any:
    return None if book is None else book.to_mongo().to_dict()


def test_reads_that_are_awaited(twins: Twins) -> None:
    """first, get, count and lists give migrated documents, whatever thread they are read in."""

    def play(shop: Shop) -> Any:
        async def main() -> Any:
            books = shop.Book.objects.order_by("title")
            lists = await asyncio.gather(
                *(books(tags=tag).async_to_list() for tag in ("ice", "rain", "sun", "leaves"))
            )
            return (
                [[_document(book) for book in found] for found in lists],
                _document(await books.async_first()),
                _document(await books(cents__gt=99_999).async_first()),
                _document(await shop.Book.objects.async_get(title="Winter")),
                await books(cents__gte=950).async_count(),
                await books.limit(2).async_count(with_limit_and_skip=True),
            )

        return _run(main())

    assert twins.same(play)[4] == 5


def test_writes_that_are_awaited(twins: Twins) -> None:
    """Updates, inserts, deletes, saves and reloads leave what they leave on migrated documents."""

    def play(shop: Shop) -> Any:
        async def main() -> Any:
            books = shop.Book.objects
            counts = [
                await books(title="Winter").async_update(inc__cents=5),
                await books(reviews__rating=5).async_update(push__tags="good"),
                await books(cents=800).async_delete(),
            ]
            changed = await books(title="Monsoon").async_modify(new=True, set__cents=1)
            (added,) = await books.async_insert([shop.Book(title="Yule", cents=3)])
            book = await books.async_get(title="Spring")
            book.title = "Prague Spring"
            await book.async_save()
            again = await books.async_get(id=key(16))
            await books(id=key(16)).async_update(set__title="Solstice")
            await again.async_reload()
            gone = await books.async_get(title="Summer")
            await gone.async_delete()
            return counts, _document(changed), added.title, again.title, again.cents

        return _run(main())

    counts, changed, *_ = twins.same(play)
    assert counts == [1, 3, 1]
    assert changed["cents"] == 1


BLOCKS = {"as_stored": as_stored, "without_writing": without_writing}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_block_does_not_reach_its_threads(twins: Twins, block: Any) -> None:
    """Within a block the package's threads know nothing of it: they migrate what they load."""
    with twins.shop(lazy=True) as shop:
        with block(shop.Author):
            names = _run(_names(shop))
        assert names == ["Ada", "Ben", "Cid"]
        assert shop.database.author.count_documents({"fullname": {"$exists": True}}) == 0


async def _names(shop: Shop) -> list[Any]:
    return [one.name for one in await shop.Author.objects.order_by("id").async_to_list()]


def test_an_executor_that_hands_on_the_context_carries_blocks(twins: Twins) -> None:
    """With one as the loop's own, both blocks hold in the threads as they do in the task."""
    with twins.shop(lazy=True) as shop:
        with without_writing(shop.Author, shop.Book):
            assert _run(_names(shop), ContextExecutor()) == ["Ada", "Ben", "Cid"]
            with pytest.raises(ShowError):
                _run(_awaited(shop.Book.objects.where("true").async_to_list), ContextExecutor())
        with as_stored(shop.Author), pytest.raises(mongoengine.errors.FieldDoesNotExist):
            _run(_names(shop), ContextExecutor())
        assert list(shop.database.author.find()) == OLD["author"]


async def _awaited(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return await call()


def test_the_method_as_stored_goes_with_the_queryset(twins: Twins) -> None:
    """A queryset that shows what is stored does so in the package's threads, too."""
    with twins.shop(lazy=True) as shop:
        stored = shop.Author.objects(__raw__={"fullname": {"$exists": True}}).as_stored()
        assert _run(stored.async_count()) == 2
        assert list(shop.database.author.find()) == OLD["author"]


@needs_bound_sessions
def test_a_bound_session_reaches_threads_by_the_same_executor(twins: Twins) -> None:
    """A migration in a thread is part of the transaction that the task has begun, and undone so."""

    def play(shop: Shop) -> Any:
        # No index can be made in a transaction.
        shop.Book.ensure_indexes()

        async def main() -> Any:
            client = mongoengine.get_connection()
            with client.start_session() as session, session.bind():
                session.start_transaction()
                inside = await _names(shop)
                await shop.Book.objects(title="Winter").async_update(set__cents=1)
                seen = (await shop.Book.objects.async_get(title="Winter")).cents
                session.abort_transaction()
            return inside, seen, (await shop.Book.objects.async_get(title="Winter")).cents

        return _run(main(), ContextExecutor())

    assert twins.same(play)[1:] == (1, 1250)
    with twins.shop(lazy=True) as shop:

        async def aborted() -> None:
            client = mongoengine.get_connection()
            with client.start_session() as session, session.bind(), session.start_transaction():
                assert await _names(shop) == ["Ada", "Ben", "Cid"]
                session.abort_transaction()

        _run(aborted(), ContextExecutor())
        assert list(shop.database.author.find()) == OLD["author"]
