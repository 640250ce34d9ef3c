"""Every command that a page of the documentation shows does what the page says, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dbperf.records.load import Load
from dbperf.records.rundir import RunDirectory
from dbperf.records.trace import Trace
from tests.support.doc_pages import ROOT
from tests.support.page_commands import COMMANDS, ELSEWHERE, RUN, TRANSLATIONS, Pages
from tests.support.shop import API

pytestmark = pytest.mark.timeout(900)
"""The first page waits for the servers and a run; a busy machine takes minutes for some."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    """One for all pages: what stands on several of them runs once."""
    world = Pages(tmp_path_factory.mktemp("pages"))
    yield world
    world.close()


@pytest.mark.parametrize("page", RUN)
def test_a_pages_commands_run(pages: Pages, page: str) -> None:
    pages.check(page)


def test_a_run_of_ones_own_api_joins_its_requests_with_their_statements(pages: Pages) -> None:
    page = ROOT / "docs" / "own-api.md"
    [command] = [c for c in COMMANDS["docs/own-api.md"] if "--traces" in c]
    run = pages.folder(page) / "runs" / "traced"
    if not run.exists():
        assert pages.run(command, pages.folder(page)).code == 0
    trace, load = RunDirectory.open(run).read(Trace), RunDirectory.open(run).read(Load)
    assert trace.complete, trace.notes
    # The client counts from when it sent a request, the trace from when it arrived.
    assert trace.requests == pytest.approx(sum(s.requests for s in load.stages), abs=10)
    orders = next(e for e in trace.endpoints if e.route == "GET /orders")
    line = next(n for n, text in enumerate(API.splitlines(), 1) if "for r in found]" in text)
    [looped] = [s for s in orders.statements if "FROM items" in s.text]
    assert looped.per_request == 20
    assert (looped.source or "").endswith(f"app/main.py:{line}")
    assert all(s.queryid for s in orders.statements)


def test_what_does_not_run_here_stands_on_a_page() -> None:
    assert set(ELSEWHERE) - {line for found in COMMANDS.values() for line in found} == set()


def test_translations_have_the_same_commands() -> None:
    for name, original in TRANSLATIONS.items():
        assert COMMANDS[name] == COMMANDS[original]
