"""Every command that a page of the documentation shows does what the page says, on real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.page_commands import COMMANDS, ELSEWHERE, LOADING, RUN, TRANSLATIONS, Pages, served

pytestmark = pytest.mark.timeout(900)
"""The first page waits for the servers and a run; a busy machine takes minutes for some."""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    yield from served(tmp_path_factory)


@pytest.mark.parametrize("page", [p for p in RUN if p not in LOADING])
def test_a_pages_commands_run(pages: Pages, page: str) -> None:
    pages.check(page)


def test_what_does_not_run_here_stands_on_a_page() -> None:
    assert set(ELSEWHERE) - {line for found in COMMANDS.values() for line in found} == set()


def test_translations_have_the_same_commands() -> None:
    for name, original in TRANSLATIONS.items():
        assert COMMANDS[name] == COMMANDS[original]
