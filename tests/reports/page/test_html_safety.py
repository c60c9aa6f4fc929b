"""What the HTML report must not do: take data for markup, tell secrets, be open to others."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any

import pytest
from mongoengine import Document, IntField

from lazymig.operations.journal.collection import client_now
from lazymig.reports.drift.checks import check_documents
from lazymig.reports.drift.diff import diff
from lazymig.reports.page.page import render_report, write_report
from tests.support.reports import (
    HOSTILE,
    HTML,
    add_quarantined,
    add_run,
    body_of,
    hostile_scene,
    parsed,
    post_model,
    rendered,
    scene,
    text_of,
)


@pytest.fixture(scope="module")
def page(server_uri: str) -> str:
    """The page of a database in the middle of its migration."""
    return rendered(server_uri, scene)


@pytest.fixture(scope="module")
def hostile(server_uri: str) -> str:
    """The page of a database full of texts that want to be markup."""
    return rendered(server_uri, hostile_scene, title=HOSTILE["comment"])


def _hidden(text: str) -> str:
    """What a reader sees of a text in which something cannot be seen."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


# What is hostile stays text

# fmt: off
TAGS = {
    "html", "head", "meta", "title", "link", "style", "body", "header", "main", "section", "footer",
    "h1", "h2", "h3", "h4", "p", "table", "thead", "tbody", "tr", "th", "td", "a", "bdi", "span",
    "strong", "code", "time", "div", "details", "summary", "ol", "ul", "li",
    "svg", "desc", "line", "text", "polygon", "polyline", "circle", "rect",
}
ATTRIBUTES = {
    "lang", "charset", "http-equiv", "content", "name", "rel", "href", "id", "class", "role",
    "scope", "data-label", "aria-labelledby", "aria-hidden", "aria-label", "focusable", "datetime",
    "viewBox", "preserveAspectRatio", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "dy",
    "text-anchor", "points", "cx", "cy", "r", "open",
}
# fmt: on


@pytest.mark.parametrize("name", ["page", "hostile"])
def test_the_page_has_only_its_own_markup(name: str, request: pytest.FixtureRequest) -> None:
    """Whatever is stored, there is no element and no attribute but those of the templates."""
    tree = parsed(request.getfixturevalue(name))
    elements = [each for each in tree.iter() if isinstance(each.tag, str)]
    assert {each.tag.rpartition("}")[2] for each in elements} <= TAGS
    assert {attribute for each in elements for attribute in each.attrib} <= ATTRIBUTES
    links = {each.get("href") for each in elements if "href" in each.attrib}
    assert links == {"data:,", "#m1"}
    ids = [each.get("id") for each in elements if "id" in each.attrib]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind != "long"])
def test_a_hostile_text_is_read_as_it_is(hostile: str, kind: str) -> None:
    """Notes, errors, hosts, reasons, names, `_id`s and values are there, to the letter."""
    seen = _hidden(HOSTILE[kind])
    body = body_of(hostile)
    assert f"refused 1. {seen} {seen} Waited for" in body
    assert f"rules of {seen} for {seen} on {seen}, process" in body
    assert f"Options: throttle {seen}." in body
    assert f"{seen} {seen}: {seen} 20" in body
    written = _hidden(json.dumps(HOSTILE[kind], ensure_ascii=False))
    assert f"{written} {seen} {seen}: {seen}" in body
    field = _hidden(HOSTILE[kind].replace("\x00", "").replace(".", "_"))
    assert f"unknown_field {field} 1 document" in body
    assert f"unknown_field Post.{field} " in body


def test_nothing_invisible_is_on_the_page(hostile: str) -> None:
    """No character that cannot be seen, or that turns the text around it, reaches the page."""
    assert all(char.isprintable() or char == "\n" for char in hostile)
    assert "\\u202egnp" in hostile


def test_a_long_text_is_cut(hostile: str) -> None:
    """A name is cut at 300 characters, a note at 1,000, and both say how long they are."""
    body = body_of(hostile)
    long = HOSTILE["long"]
    assert f"rules of {long[:300]}… (2,000 characters) for" in body
    assert f"refused 1. {long[:1000]}… (2,000 characters)" in body
    assert long[:1001] not in body


def test_the_title_is_text(hostile: str) -> None:
    """The title that the caller gives is escaped in the head and in the body."""
    tree = parsed(hostile)
    assert tree.find(f"{HTML}head/{HTML}title").text == HOSTILE["comment"]
    assert text_of(next(tree.iter(f"{HTML}h1"))) == HOSTILE["comment"]


def test_the_page_loads_nothing(page: str) -> None:
    """The page's own policy forbids everything but its style, and it names no other address."""
    tree = parsed(page)
    (policy,) = [each.get("content") for each in tree.iter(f"{HTML}meta") if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"\w://", page)


# Secrets

ADDRESSES = (
    "mongodb://zoe:hunter2@db.example/prod",
    "mongodb+srv://zoe:hunter2@db.example",
    "MONGODB://zoe:hun%20ter2@db.example",
    "https://zoe:hunter2@db.example/x",
    "amqp://zoe:hun@ter2@db.example/x",
)


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_login_is_on_the_page(mongoengine_db: Any, address: str) -> None:
    """Names and passwords in addresses are cut out, wherever they are and however long it is."""
    post = post_model()
    far = "x" * 280 + " " + address + " and more"
    mongoengine_db.post.insert_many(
        [{"_id": address, "title": "a", "views": address, "stray": {"at": [far]}}]
    )
    run = add_run(
        mongoengine_db,
        started=client_now(),
        quarantined=1,
        state="failed",
        host=address,
        error=far,
        waited={"a": 1.0},
        options={"throttle": far},
    )
    mongoengine_db.lazymig_journal.update_one({"_id": run}, {"$set": {"note": address}})
    add_quarantined(mongoengine_db, run, [address], error=far)
    page = render_report(
        [post], checks=[check_documents(post)], drift=[diff(post)], title=f"at {address}"
    )
    assert "zoe" not in page
    assert "hun" not in page
    parsed(page)


@pytest.mark.parametrize("name", ["password", "auth_token", "apiKey", "client-secret"])
def test_the_values_of_secret_fields_are_not_shown(mongoengine_db: Any, name: str) -> None:
    """What is in a field that is named after a secret is on the page in no form, at any depth."""

    class Account(Document):
        meta = {"collection": "account"}
        secret = IntField(db_field=name, choices=(1, 2))

    mongoengine_db.account.insert_many(
        [{name: "hunter2"}, {name: {"deep": "hunter2"}}, {"stray": {"deep": [{name: "hunter2"}]}}]
    )
    page = render_report([Account], checks=[check_documents(Account)], drift=[diff(Account)])
    assert "hunter2" not in page
    assert f'[{{"{name}": "(not shown)"}}]' in body_of(page)


# The file


@pytest.mark.parametrize("before", [None, 0o644])
def test_the_file_is_its_owners_alone(tmp_path: Path, before: int | None) -> None:
    """The page is written with mode 0600, over a file that everybody could read as well."""
    target = tmp_path / "report.html"
    if before is not None:
        target.write_text("old")
        target.chmod(before)
    write_report(target, [], title="Now")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert "<h1>Now</h1>" in target.read_text("utf-8")
    assert list(tmp_path.iterdir()) == [target]


def test_a_page_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """Where the page cannot be made, the file is as it was and nothing lies beside it."""
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(TypeError):
        write_report(target, [int])
    assert target.read_text() == "old"
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "no" / "report.html", [])
    with pytest.raises(IsADirectoryError):
        write_report(tmp_path, [])
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_replaced_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the last step fails, the old file is there and the new one is not left behind."""

    def refuse(*_args: Any) -> None:
        raise PermissionError("sticky")

    target = tmp_path / "report.html"
    target.write_text("old")
    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        write_report(target, [])
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_link_leads_to_the_file(tmp_path: Path) -> None:
    """Through a symbolic link the file behind it is written, and the link stays."""
    target, link = tmp_path / "report.html", tmp_path / "latest.html"
    link.symlink_to(target)
    write_report(str(link), [])
    assert link.is_symlink()
    assert "No model was given" in target.read_text("utf-8")


def test_a_device_is_written_to(tmp_path: Path) -> None:
    """What is no regular file, such as standard output, is written to and not replaced."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_report(pipe, [])
        assert os.read(reader, 1 << 16).startswith(b"<!DOCTYPE html>")
    finally:
        os.close(reader)
    assert pipe.is_fifo()
