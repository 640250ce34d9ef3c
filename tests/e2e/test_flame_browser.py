"""The flame graph in a real Chromium: draws, zooms, searches, follows links, keeps its policy, stays fast."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from dbperf.flame.difference import difference_page
from dbperf.flame.drawing import figure, page
from dbperf.flame.ops import Builder
from dbperf.records.stacks import Frame, Stacks
from tests.support.chromium import chromium

pytestmark = pytest.mark.browser
NASTY = "<img src=x onerror=alert(1)></script>😀\u202e"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    tab = context.new_page()
    problems: list[str] = []
    tab.on("console", lambda m: problems.append(m.text))
    tab.on("pageerror", lambda e: problems.append(str(e)))
    yield tab
    context.close()
    assert problems == []


def small() -> Stacks:
    b = Builder()
    main, view = Frame(name="main", file="/app/main.py", line=1), Frame(name="view", file="/app/views.py", line=9)
    b.add([main, view, Frame(name="SELECT 1", kind="sql")], 60)
    b.add([main, view], 20)
    b.add([main, Frame(name=NASTY)], 20)
    return b.build(name="small", source="test", unit="ms")


def shown(tab: Page, tmp_path: Path, s: Stacks, fragment: str = "") -> None:
    file = tmp_path / "page.html"
    file.write_text(page(s.name, [(s.name, figure(s, figure_id="f"))]))
    tab.goto(f"{file.as_uri()}{fragment}")
    tab.wait_for_selector("svg rect")


def texts(tab: Page) -> list[str]:
    return [t.text_content() or "" for t in tab.locator("svg text").all()]


def test_draws_zooms_searches_and_links(tab: Page, tmp_path: Path) -> None:
    shown(tab, tmp_path, small())
    assert tab.locator("svg rect").count() == 5
    assert any(t.startswith("<img src=x") for t in texts(tab))
    view = tab.locator("svg rect").nth(2)
    assert abs((view.bounding_box() or {})["width"] / (tab.locator("svg").bounding_box() or {})["width"] - 0.8) < 0.01
    view.hover()
    assert "80 ms (80 %), itself 20 ms (20 %)" in tab.inner_text(".flame-tip")
    assert "/app/views.py:9" in tab.inner_text(".flame-tip")
    view.click()
    assert tab.url.endswith("#f/n2")
    assert not any(t.startswith("<img") for t in texts(tab))
    tab.get_by_role("button", name="Reset zoom").click()
    tab.keyboard.press("/")
    tab.keyboard.type("select")
    assert tab.inner_text(".flame-found") == "60 % of the whole (60 ms)"
    assert tab.locator("rect.hit").count() == 1
    tab.get_by_role("button", name="Flame", exact=True).click()
    assert tab.url.endswith("#f/s=select/flame")
    shown(tab, tmp_path, small(), "#f/n2/s=select")
    tab.reload()
    assert tab.locator("rect.hit").count() == 1
    assert "view" in tab.inner_text(".flame-status")


def test_keyboard_theme_and_print(tab: Page, tmp_path: Path) -> None:
    shown(tab, tmp_path, small())
    tab.locator("svg").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        tab.keyboard.press(key)
    assert NASTY in tab.inner_text(".flame-status")
    tab.keyboard.press("ArrowLeft")
    tab.keyboard.press("Enter")
    assert tab.url.endswith("#f/n2")
    tab.keyboard.press("Escape")
    assert "#" not in tab.url
    before = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.get_by_role("button", name="Light or dark").click()
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") != before
    tab.emulate_media(media="print")
    assert not tab.locator(".flame-bar").is_visible()
    assert tab.locator("svg").is_visible()


def test_hundreds_of_thousands_of_frames(tab: Page, tmp_path: Path) -> None:
    r = random.Random(1)
    b = Builder()
    frames = 0
    while frames < 200_000:
        path = [Frame(name=f"f{r.randrange(30)}", file=f"/app/{r.randrange(9)}.py") for _ in range(r.randrange(4, 30))]
        frames += len(path)
        b.add(path, r.random())
    tab.set_default_timeout(120_000)
    shown(tab, tmp_path, b.build(name="large", source="test", unit="ms"))
    # Fast because what is too narrow to be seen is not drawn.
    assert tab.locator("svg rect").count() < 15_000
    tab.locator("svg rect").nth(3).click()
    tab.wait_for_function("location.hash.startsWith('#f/n')")


def test_difference(tab: Page, tmp_path: Path) -> None:
    after = Builder()
    main = Frame(name="main", file="/app/main.py", line=1)
    after.add([main, Frame(name="view", file="/app/views.py", line=9)], 20)
    after.add([main, Frame(name="other")], 80)
    body, _ = difference_page(small(), after.build(name="after", source="test", unit="ms"))
    file = tmp_path / "diff.html"
    file.write_text(body)
    tab.goto(file.as_uri())
    tab.wait_for_selector("rect.up3")
    assert tab.locator("rect.down3").count() >= 1
    assert "can't tell" in tab.inner_text("table")
