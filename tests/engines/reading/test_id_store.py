"""The store of `_id`s: whatever is an `_id` comes out as it went in, from memory or from disk."""

from __future__ import annotations

import datetime as dt
import gc
import random
import uuid
from contextlib import suppress

import pytest
from bson import Binary, Decimal128, Int64, ObjectId, Timestamp
from bson.codec_options import CodecOptions
from hypothesis import given
from hypothesis import strategies as st

from lazymig.engines.reading import id_store
from lazymig.engines.reading.id_store import IdStore

OPTIONS = CodecOptions(uuid_representation=4)
IDS = [
    ObjectId(),
    "text",
    "",
    7,
    Int64(2**40),
    1.5,
    True,
    None,
    b"bytes",
    Binary(b"x", 5),
    uuid.uuid4(),
    Decimal128("1.50"),
    dt.datetime(2020, 1, 1),
    Timestamp(1, 2),
    {"b": 1, "a": {"c": None}},
    {"a": {"c": None}, "b": 1},
]


@pytest.fixture(params=[0, 40, 1 << 20], ids=["disk", "both", "memory"])
def store(request, monkeypatch):
    """A store that puts its log on disk at once, after a little, or not at all."""
    monkeypatch.setattr(id_store, "_IN_MEMORY", request.param)
    monkeypatch.setattr(id_store, "_BATCH", 3)
    made = IdStore(OPTIONS)
    yield made
    made.close()


def test_ids_of_every_type(store):
    """What is noted is known afterwards, and the queue gives back what was queued, in order."""
    store.note(IDS[:6])
    store.note(IDS[6:7])
    store.recall()

    assert store.known == 7
    assert [store.add(document_id) for document_id in IDS] == [False] * 7 + [True] * 9
    for document_id in IDS:
        store.queue(document_id)
    position, first = store.head(5)
    assert first == IDS[:5]
    assert [type(document_id) for document_id in first] == [type(each) for each in IDS[:5]]
    assert store.head(5) == (position, first)
    store.drop(position)
    assert store.head(100)[1] == IDS[5:]
    store.drop(store.head(100)[0])
    assert store.head(1) == (0, [])


def test_an_attempt_is_undone(store):
    """What was added and queued in a block that raises is not there afterwards."""
    store.note([1, 2])
    store.recall()

    with suppress(KeyError), store.attempt():
        assert store.add(3)
        store.queue(3)
        raise KeyError

    assert store.known == 2
    assert store.head(9) == (0, [])
    with store.attempt():
        assert store.add(3)


@given(seed=st.integers(0, 1000), sizes=st.lists(st.integers(0, 250), max_size=8))
def test_a_log_of_any_length_is_recalled(seed, sizes):
    """However the `_id`s are noted, all of them are known."""
    numbers = random.Random(seed).sample(range(10_000), sum(sizes))
    store = IdStore(OPTIONS)
    first = 0
    for size in sizes:
        store.note(numbers[first : first + size])
        first += size
    store.recall()

    assert store.known == len(numbers)
    assert not any(store.add(number) for number in numbers)
    store.close()


def test_closing_is_for_ever_and_may_be_repeated():
    """A store that is closed, or forgotten, leaves nothing open."""
    store = IdStore(OPTIONS)
    store.recall()
    store.close()
    store.close()
    del store
    gc.collect()
