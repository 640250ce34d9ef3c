"""The report in Debian's Chromium: nothing leaves it, nothing foreign runs in it, and it works as a page."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, Page

from dbperf.cli.report import other_side
from dbperf.report import write_report
from tests.support.chromium import chromium
from tests.support.sample_run import sample_run
from tests.support.waiting import eventually

pytestmark = pytest.mark.browser
_THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("hostile")
    before = sample_run(folder / "before", hostile=True, flames=True, endpoints=3, seed=1)
    after = sample_run(folder / "run", hostile=True, flames=True)
    return write_report(after, against=other_side(after, before.path, None)).html.as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run with every section, against another one."""
    return _report(tmp_path_factory.mktemp("browser"), statements=14)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same with no more statements than it takes to have every section."""
    return _report(tmp_path_factory.mktemp("few"), statements=6)


def _report(folder: Path, *, statements: int) -> str:
    before = sample_run(folder / "before", statements=statements, flames=True, seed=1)
    after = sample_run(folder / "run", statements=statements, flames=True, factor=1.2)
    return write_report(after, against=other_side(after, before.path, None)).html.as_uri()


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(url)
    yield page
    context.close()


def test_nothing_is_requested_and_nothing_complains(browser: Browser, url: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(url)
    page.wait_for_timeout(200)
    context.close()
    assert requests == [url]
    assert complaints == []


def test_the_policy_is_in_force(page: Page) -> None:
    """What an attacker could add does not run: the browser refuses it, not only our escaping."""
    blocked = page.evaluate(
        """() => new Promise(done => {
            const seen = [];
            document.addEventListener('securitypolicyviolation', e => {
                seen.push(e.effectiveDirective);
                if (new Set(seen).size === 3) done({seen, ran: window.ran ?? null});
            });
            const script = document.createElement('script');
            script.textContent = 'window.ran = 1';
            document.body.append(script);
            const image = new Image();
            image.src = 'http://127.0.0.1:9/x.png';
            document.body.append(image);
            document.body.setAttribute('style', 'color: red');
            setTimeout(() => done({seen, ran: window.ran ?? null}), 20000);
        })"""
    )
    assert blocked["ran"] is None
    assert {"script-src-elem", "img-src", "style-src-attr"} <= set(blocked["seen"])


@pytest.mark.parametrize("javascript", [True, False])
def test_hostile_text_does_not_run(browser: Browser, hostile: str, javascript: bool) -> None:
    context = browser.new_context(java_script_enabled=javascript)
    page = context.new_page()
    dialogs: list[str] = []
    complaints: list[str] = []
    page.on("dialog", lambda d: dialogs.append(d.message))
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(hostile)
    assert page.locator("img").count() == 0
    assert page.locator('script:not([type="application/json"])').count() == 2, "the page's and the flame graphs'"
    if javascript:
        page.fill('[data-filter="statements-table"]', "pwned")
        page.locator("figure").first.hover()
        page.locator("[data-copy]").first.click()
        assert page.evaluate("window.pwned ?? null") is None
    assert (dialogs, complaints) == ([], [])
    context.close()


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_no_horizontal_scrolling_at_any_width(browser: Browser, url: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="light")
    page = context.new_page()
    page.goto(url)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_tables_sort_by_value_not_by_text(page: Page) -> None:
    column = page.locator("#statements-table tbody td[data-l='Mean']")
    page.locator("#statements-table").get_by_role("button", name="Mean").click()
    values = [float(v or 0) for v in column.evaluate_all("cells => cells.map(c => c.dataset.v)")]
    assert values == sorted(values, reverse=True)
    page.locator("#statements-table").get_by_role("button", name="Mean").press("Enter")
    values = [float(v or 0) for v in column.evaluate_all("cells => cells.map(c => c.dataset.v)")]
    assert values == sorted(values)
    header = page.locator("#statements-table th", has_text="Mean")
    assert header.get_attribute("aria-sort") == "ascending"


def test_filtering_shows_matching_rows_and_counts_them(page: Page) -> None:
    rows = page.locator("#statements-table tbody tr")
    total = rows.count()
    box = page.locator('[data-filter="statements-table"]')
    box.fill("execution_log select")
    shown = page.locator("#statements-table tbody tr:visible")
    texts = shown.all_text_contents()
    assert 0 < len(texts) < total
    assert all("execution_log" in t for t in texts)
    assert page.locator('[data-count="statements-table"]').text_content() == f"{len(texts)} of {total}"
    box.press("Escape")
    assert shown.count() == total


def test_copying_puts_the_statement_on_the_clipboard(page: Page) -> None:
    block = page.locator(".finding .code").first
    block.locator("button").click()
    expected = block.locator("code").text_content()
    assert expected is not None
    assert eventually(lambda: page.evaluate("navigator.clipboard.readText()") == expected)
    assert expected.startswith("CREATE INDEX")


def test_the_theme_switches_and_is_kept(page: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(background)
    page.locator("[data-theme-toggle]").click()
    dark = page.evaluate(background)
    assert dark != light
    page.reload()
    assert page.evaluate(background) == dark


def test_links_lead_from_a_fact_to_the_plan_node_also_when_folded(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = false)")
    page.locator(".fact a").nth(2).click()
    node = page.locator("#statement-1-n2")
    node.wait_for(state="visible")
    assert "Seq Scan" in (node.text_content() or "")
    assert page.evaluate("document.querySelector('#statement-1').open")


def test_a_link_lands_on_its_place_though_long_sections_are_laid_out_late(browser: Browser, tmp_path: Path) -> None:
    """With hundreds of statements, whose height is far from the style sheet's guess."""
    url = write_report(sample_run(tmp_path / "run", statements=400)).html.as_uri()
    context = browser.new_context(viewport={"width": 1280, "height": 900})  # it scrolls smoothly: heights may change
    page = context.new_page()
    top = "id => Math.round(document.getElementById(id).getBoundingClientRect().top)"
    page.goto(url)
    last = page.evaluate("[...document.querySelectorAll('#statements details[id]')].at(-1).id")
    page.locator("nav a[href='#indexes']").click()
    assert eventually(lambda: page.evaluate(top, "indexes") == 64, 20), "below the bar at the top"
    page.goto("about:blank")
    page.goto(f"{url}#{last}")
    assert eventually(lambda: page.evaluate(top, last) == 64, 20), "from elsewhere"
    context.close()


def test_every_figure_leads_to_its_evidence_and_back(page: Page) -> None:
    """Endpoint, statement, plan node, index; back to the statement and the endpoint; and to what changed."""

    def at() -> str:
        return str(page.evaluate("location.hash"))

    def follow(selector: str) -> None:
        page.locator(selector).first.click()

    follow('#endpoints-table a:has-text("POST /reflection/batch")')
    assert at() == "#endpoint-2"
    follow('#endpoint-2 a[href^="#change-"]')
    follow(f'{at().replace("#", "tr#")} a[href="#endpoint-2"]')
    follow('#endpoint-2 a[href="#statement-1"]')
    assert page.locator("#statement-1").evaluate("e => e.open")
    follow('#statement-1 .finding a[href="#statement-1-n2"]')
    assert "Seq Scan" in (page.locator(at()).text_content() or "")
    follow('#statement-1-n2 a[href="#index-1"]')
    assert "execution_log_case_id" in (page.locator(at()).text_content() or "")
    follow('#index-1 a[href="#statement-1"]')
    follow('#statement-1 a[href="#endpoint-2"]')
    follow('#endpoint-2 a[href="#flame-1"]')
    follow('#flame-1 a[href="#endpoint-2"]')
    follow('#endpoint-2 a[href="#waits"]')
    follow('#waits a[href="#statement-1"]')
    assert at() == "#statement-1"


def test_a_flame_graph_in_the_report_zooms_and_keeps_its_place(page: Page) -> None:
    graph = page.locator("figure#f1")
    graph.scroll_into_view_if_needed()
    boxes = graph.locator("svg rect")
    whole = boxes.count()
    boxes.nth(3).click()
    assert "#f1/n" in page.url
    page.reload()
    page.wait_for_selector("figure#f1 svg rect")
    assert graph.locator("svg rect.above").count() >= 2, "the address brings the zoom back"
    graph.get_by_role("button", name="Reset zoom").click()
    assert graph.locator("svg rect.above").count() == 0
    assert graph.locator("svg rect").count() == whole
    assert page.locator("figure.flame svg").count() == 3, "the endpoint's, and its difference in two pictures"
    assert page.locator("figure#d1-after rect.up3").count() >= 1


def test_charts_read_out_values_by_pointer_and_by_keyboard(page: Page) -> None:
    figure = page.locator("figure").first
    tip = figure.locator(".tip")
    figure.locator("svg.chart").hover()
    assert "requests" in (tip.text_content() or "")
    figure.focus()
    page.keyboard.press("ArrowRight")
    first = tip.text_content()
    page.keyboard.press("ArrowRight")
    assert tip.text_content() != first
    page.keyboard.press("Escape")
    assert tip.text_content() == ""


def test_everything_reads_without_javascript(browser: Browser, url: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url)
    assert page.locator("#statements-table tbody tr:visible").count() == 14
    assert page.locator("svg.chart").first.is_visible()
    assert page.locator("[data-copy]:visible, [data-filter]:visible, [data-theme-toggle]:visible").count() == 0
    page.locator("#statement-3 summary").click()
    assert page.locator("#statement-3 pre").is_visible()
    context.close()


def test_every_control_is_reached_by_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    unreachable = page.evaluate(
        """() => [...document.querySelectorAll('a[href], button, input, summary')]
            .filter(e => e.checkVisibility() && e.tabIndex < 0).map(e => e.outerHTML)"""
    )
    assert unreachable == []


@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(browser: Browser, few: str, width: int) -> None:
    """axe-core's rules (WCAG 2.2 and best practice), everything unfolded, in both themes.

    Contrast takes three quarters of the time, and is all that a theme can change. It is looked at on the wide page; the
    narrow one has the same colours.
    """
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(few)
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8"))
    contrast = "true" if width == 1280 else "false"
    found = _axe(page, f"rules: {{'color-contrast': {{enabled: {contrast}}}}}")
    assert len(found["passes"]) > 30
    page.emulate_media(color_scheme="dark")
    if width == 1280:
        [passed] = _axe(page, "runOnly: ['color-contrast']")["passes"]
        assert passed["id"] == "color-contrast"
    else:
        colours = """() => [...document.querySelectorAll('body *')].map(e => getComputedStyle(e)).map(
            s => [s.color, s.backgroundColor, s.fill, s.opacity])"""
        for theme in _THEMES:
            page.emulate_media(color_scheme=theme)
            page.set_viewport_size({"width": width, "height": 900})
            here = page.evaluate(colours)
            page.set_viewport_size({"width": 1280, "height": 900})
            assert page.evaluate(colours) == here
    context.close()


def _axe(page: Page, options: str) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate(
        f"axe.run(document, {{resultTypes: ['violations'], preload: false, {options}}})"
    )
    told = [(v["id"], v["impact"], [n["html"][:120] for n in v["nodes"][:3]]) for v in found["violations"]]
    assert told == []
    return found


@pytest.mark.parametrize("width", [980, 1047], ids=["Letter", "A4"])
def test_a_printed_page_holds_every_column_and_nothing_to_click(page: Page, width: int) -> None:
    """On its side, with margins of 10 mm, at 96 pixels an inch."""
    page.emulate_media(media="print")
    page.set_viewport_size({"width": width, "height": 700})
    wide = "e => [e.getAttribute('aria-label'), e.scrollWidth, e.clientWidth]"
    cut = page.evaluate(f"[...document.querySelectorAll('.scroll')].map({wide}).filter(x => x[1] > x[2] + 1)")
    assert cut == []
    assert page.locator("input:visible, button.js-only:visible").count() == 0


def test_printing_unfolds_everything(page: Page) -> None:
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    assert len(page.pdf(format="A4")) > 10_000
