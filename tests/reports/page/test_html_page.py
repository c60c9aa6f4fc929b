"""The HTML report in a real browser, where one is installed."""

from __future__ import annotations

import itertools
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import NAMES, Browser, chromium, find_chromium
from tests.support.reports import HOSTILE, hostile_scene, rendered, scene, six_models

WIDTHS = (400, 1280)

# Chromium itself cannot be had everywhere; what it alone can show is then not known.
pytestmark = pytest.mark.skipif(
    find_chromium() is None, reason=f"no Chromium is installed ({', '.join(NAMES)} on PATH)"
)

each_page = pytest.mark.parametrize("name", ["calm", "hostile", "six"])
each_width = pytest.mark.parametrize("width", WIDTHS)
each_scheme = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])

# What goes beyond the window; a hidden table head is drawn in a single pixel.
BEYOND = """
[...document.querySelectorAll("body *")]
    .filter(each => !each.closest("thead") && each.getBoundingClientRect().right > innerWidth + 0.5)
    .map(each => each.outerHTML.slice(0, 200))
"""

# What is hard to tell from what is behind it: text below 4.5 to 1 (WCAG 2.1, level AA), lines and
# bars below 3 to 1. How many of each there are, and those that are too pale.
PALE = r"""
(() => {
    const numbers = text => text.match(/[\d.]+/g).map(Number);
    const channel = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const contrast = (front, back) => {
        const [high, low] = [light(front), light(back)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
    };
    const behind = node => {
        const color = numbers(getComputedStyle(node).backgroundColor);
        if (color.length === 3 || color[3] === 1) return color;
        if (color[3] !== 0) throw new Error("half transparent: " + node.outerHTML);
        return behind(node.parentElement);
    };
    const told = element => element.outerHTML.slice(0, 200);
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const texts = [], shapes = [...document.querySelectorAll(".ran, .fill, .line, .dot")];
    while (walker.nextNode()) {
        const element = walker.currentNode.parentElement;
        if (walker.currentNode.data.trim() && !element.closest("title, desc")) texts.push(element);
    }
    const pale = texts.filter(each => {
        const style = getComputedStyle(each);
        const front = each.closest("svg") ? style.fill : style.color;
        return contrast(numbers(front), behind(each)) < 4.5;
    });
    const track = numbers(getComputedStyle(document.querySelector(".track")).fill);
    pale.push(...shapes.filter(each => {
        const style = getComputedStyle(each);
        return contrast(numbers(style.fill === "none" ? style.stroke : style.fill), track) < 3;
    }));
    return [texts.length, shapes.length, pale.map(told)];
})()
"""

# What is folded away.
UNFOLD = 'document.querySelectorAll("details").forEach(each => { each.open = true })'

HEADINGS = '[...document.querySelectorAll("h1, h2, h3, h4")].map(each => Number(each.tagName[1]))'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of the module."""
    path = find_chromium()
    assert path is not None
    with chromium(path) as started:
        yield started


@pytest.fixture(scope="module")
def files(server_uri: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page in the middle of a migration, one full of hostile texts, and one of six models."""
    folder = tmp_path_factory.mktemp("pages")
    pages = {
        "calm": rendered(server_uri, scene, title="Release 7"),
        "hostile": rendered(server_uri, hostile_scene, title=HOSTILE["script"]),
        "six": rendered(server_uri, six_models, title="Release 8"),
    }
    for name, page in pages.items():
        (folder / f"{name}.html").write_text(page, "utf-8")
    return {name: folder / f"{name}.html" for name in pages}


def _pixels(png: bytes) -> bytes:
    """The filtered pixels of a PNG: all but a few are 0 where nothing is drawn."""
    parts, at = [], 8
    while at < len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        if png[at + 4 : at + 8] == b"IDAT":
            parts.append(png[at + 8 : at + 8 + length])
        at += length + 12
    return zlib.decompress(b"".join(parts))


def _tree(page: Any) -> list[dict[str, Any]]:
    return list(page.send("Accessibility.getFullAXTree")["nodes"])


def _named(nodes: list[dict[str, Any]], role: str) -> list[str]:
    return [
        node.get("name", {}).get("value", "")
        for node in nodes
        if not node["ignored"] and node["role"]["value"] == role
    ]


@each_page
@pytest.mark.parametrize("width", [*WIDTHS, 900])
def test_nothing_is_wider_than_the_window(
    browser: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    """Whatever is stored, there is nothing to scroll sideways for, on a phone or on a desk."""
    with browser.page(files[name], width=width) as page:
        assert page.evaluate("innerWidth") == width
        for _folded_and_unfolded in range(2):
            assert page.evaluate("document.scrollingElement.scrollWidth") == width
            assert page.evaluate(BEYOND) == []
            page.evaluate(UNFOLD)


def test_six_models_are_read_at_a_glance(browser: Browser, files: dict[str, Path]) -> None:
    """Six models with 39 rules take at most 4,000 pixels of height, and open with the headline."""
    with browser.page(files["six"], width=1280) as page:
        assert page.evaluate("document.documentElement.scrollHeight") <= 4000
        headline = page.evaluate('document.querySelector(".headline").textContent')
        assert headline == "2 of 6 models done, 3 documents in quarantine"
        top = page.evaluate('document.querySelector(".headline").getBoundingClientRect().bottom')
        assert top < 150
        folded = page.evaluate(
            '[...document.querySelectorAll("section")].map(each => each.offsetHeight < 70)'
        )
        assert folded == [False, True, False, False, True, False]


def test_a_link_unfolds_the_model(browser: Browser, files: dict[str, Path]) -> None:
    """Whoever follows the overview's link to a finished model sees what is said of it."""
    with browser.page(files["six"], width=1280) as page:
        is_open = "document.getElementById('m2').closest('details').open"
        assert page.evaluate(is_open) is False
        page.evaluate("document.querySelector('a[href=\"#m2\"]').click()")
        assert page.evaluate(is_open) is True


def test_paper_hides_nothing(browser: Browser, files: dict[str, Path]) -> None:
    """What is folded on the screen is printed: paper does not unfold."""
    rows = '[...document.querySelectorAll("tbody tr, .findings p, .runs p")]'
    unseen = (
        f"{rows}.filter(each => !each.getClientRects().length || !each.checkVisibility()).length"
    )
    for media, hidden in (("screen", True), ("print", False)):
        with browser.page(files["six"], width=1000, media=media) as page:
            assert (page.evaluate(unseen) > 0) is hidden


@each_page
@each_width
def test_something_is_drawn_in_both_schemes(
    browser: Browser, files: dict[str, Path], name: str, width: int
) -> None:
    """The page is not blank, and looks different to those who prefer it dark."""
    shots = []
    for dark in (False, True):
        with browser.page(files[name], width=width, dark=dark) as page:
            shots.append(page.screenshot())
            pixels = _pixels(shots[-1])
            drawn = len(pixels) - pixels.count(0)
            assert drawn > len(pixels) // 100
            light = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (int(light.split("(")[1].split(",")[0]) > 128) is not dark
    assert shots[0] != shots[1]


@each_page
@each_scheme
def test_the_console_is_empty_and_nothing_is_loaded(
    browser: Browser, files: dict[str, Path], name: str, dark: bool
) -> None:
    """The browser has nothing to complain about, and asks for the file itself alone."""
    with browser.page(files[name], width=1280, dark=dark) as page:
        page.screenshot()
        assert page.complaints() == []
        assert page.requests() == [files[name].as_uri()]
        assert page.evaluate('document.querySelectorAll("script, img, iframe, object").length') == 0


def test_the_policy_of_the_page_holds(
    browser: Browser, files: dict[str, Path], tmp_path: Path
) -> None:
    """Had a script or an image come in after all, the browser would refuse both, and say so."""
    file = tmp_path / "broken.html"
    foreign = '<script>document.title = "ran"</script><img alt="" src="https://example.invalid/x">'
    file.write_text(files["calm"].read_text("utf-8").replace("</main>", f"{foreign}</main>"))
    with browser.page(file, width=1280) as page:
        assert page.evaluate("document.title") == "Release 7"
        told = " ".join(page.complaints())
        assert "script-src" in told or "inline script" in told
        assert "img-src" in told or "load the image" in told
        assert page.evaluate("document.images[0].naturalWidth") == 0


@each_page
@each_scheme
def test_every_text_can_be_read(
    browser: Browser, files: dict[str, Path], name: str, dark: bool
) -> None:
    """Text has a contrast of 4.5 to 1, lines and bars one of 3 to 1, in both schemes."""
    with browser.page(files[name], width=1280, dark=dark) as page:
        texts, shapes, pale = page.evaluate(PALE)
        assert texts > 100
        assert shapes > 5
        assert pale == []


def test_it_is_printed_on_white_paper(browser: Browser, files: dict[str, Path]) -> None:
    """On paper the page is black on white, even for those who prefer it dark, and it fits."""
    with browser.page(files["calm"], width=700, dark=True, media="print") as page:
        colors = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('section')).backgroundColor,"
            " getComputedStyle(document.body).color]"
        )
        assert colors == ["rgb(255, 255, 255)", "rgb(255, 255, 255)", "rgb(0, 0, 0)"]
        assert page.evaluate(PALE)[2] == []
        assert page.evaluate("document.scrollingElement.scrollWidth") == 700
        assert page.pdf().startswith(b"%PDF-")


@each_width
def test_a_screen_reader_finds_its_way(
    browser: Browser, files: dict[str, Path], width: int
) -> None:
    """Headings skip no level, tables have names and headers, charts say what they show."""
    with browser.page(files["calm"], width=width) as page:
        page.evaluate(UNFOLD)
        levels = page.evaluate(HEADINGS)
        assert levels[:2] == [1, 2]
        assert all(below <= above + 1 for above, below in itertools.pairwise(levels))
        assert page.evaluate("document.documentElement.lang") == "en"
        nodes = _tree(page)
        tables = _named(nodes, "table")
        assert len(tables) > 4
        assert all(tables)
        assert {"Rule", "Left", "Done"} <= set(_named(nodes, "columnheader"))
        assert "migration01__add_enabled" in " ".join(_named(nodes, "rowheader"))
        assert "400" in " ".join(_named(nodes, "cell"))
        images = [*_named(nodes, "image"), *_named(nodes, "img")]
        pattern = "Documents left for migration01__add_enabled over time 400 at .* UTC, 100 at .*"
        assert [each for each in images if re.match(pattern, each)]
        assert all(images)
