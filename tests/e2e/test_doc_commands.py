"""Every command that a page of the documentation shows does what the page says, on real servers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.support.doc_pages import PAGES, ROOT, dbperf_commands
from tests.support.page_commands import ELSEWHERE, TRANSLATIONS, TUTORIAL, Pages

pytestmark = pytest.mark.timeout(900)
"""The first page waits for the servers and a run; a busy machine takes minutes for some."""

COMMANDS = {p.relative_to(ROOT).as_posix(): dbperf_commands(p.read_text("utf-8")) for p in PAGES}
RUN = [name for name, found in COMMANDS.items() if found and name != TUTORIAL and name not in TRANSLATIONS]
_FILE = re.compile(r" (?:-o|--out|--run|>) ([\w./-]+)")
RESULTS = {0, 1}
"""1 says that something got worse or a level was missed: an answer, not a failure."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    world = Pages(tmp_path_factory.mktemp("pages"))
    yield world
    world.close()


@pytest.mark.parametrize("page", RUN)
def test_a_pages_commands_run(pages: Pages, page: str) -> None:
    for step, done in pages.steps(ROOT / page):
        said = f"{page}: {step.command}\n{done.stdout}\n{done.stderr}"
        assert done.code in RESULTS, f"exit code {done.code}, {said}"
        assert "Traceback" not in done.stderr, said
        if written := _FILE.search(step.command):
            assert (pages.folder(ROOT / page) / written[1]).exists(), f"{written[1]} was not written, {said}"
        elif ">>" not in step.command:
            assert done.stdout.strip(), f"nothing was printed, {said}"
        if step.shape:
            assert re.search(step.shape, done.stdout, re.DOTALL), said


def test_what_does_not_run_here_stands_on_a_page() -> None:
    assert set(ELSEWHERE) - {line for found in COMMANDS.values() for line in found} == set()


def test_translations_have_the_same_commands() -> None:
    for name, original in TRANSLATIONS.items():
        assert COMMANDS[name] == COMMANDS[original]
