"""All commands explain themselves alike, and docs/cli.md is what they say."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from dbperf.cli.commands import COMMANDS
from dbperf.cli.reference import reference
from tests.support.doc_pages import known_commands

ALL = known_commands().items()
RUNNABLE = [(path, c) for path, c in ALL if not getattr(c, "commands", {}) or c.invoke_without_command]


@pytest.fixture(scope="module")
def text() -> str:
    return reference()


def test_the_reference_is_what_the_commands_say(text: str) -> None:
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == text, "run: make docs"


def test_every_command_has_its_section(text: str) -> None:
    for path, _ in ALL:
        assert f"`{path}`\n" in text


@pytest.mark.parametrize(("path", "command"), RUNNABLE, ids=[p for p, _ in RUNNABLE])
def test_a_command_shows_examples_of_itself(path: str, command: Any) -> None:
    assert command.epilog, f"{path} has no examples"
    assert "Example" in command.epilog
    assert path in command.epilog


@pytest.mark.parametrize(("path", "command"), ALL, ids=[p for p, _ in ALL])
def test_options_are_explained_and_named_alike(path: str, command: Any) -> None:
    assert command.help, f"{path} does not say what it does"
    for option in command.params:
        if "--install-completion" in option.opts or "--show-completion" in option.opts:
            raise AssertionError(f"{path} sets up completion, which is the main command's")
        if option.param_type_name == "option":
            assert option.help, f"{path} {option.opts} is not explained"
        if "-o" in option.opts or "--out" in option.opts:
            assert set(option.opts) == {"--out", "-o"}, f"{path} {option.opts}"
        if "--dsn" in option.opts:
            assert option.envvar == "DBPERF_DSN", f"{path} does not read DBPERF_DSN"
        assert "--output" not in option.opts, path


@pytest.mark.parametrize("name", COMMANDS)
def test_the_settings_are_the_same(name: str) -> None:
    app = import_module(COMMANDS[name].module).app
    assert not app._add_completion
    assert app.rich_markup_mode is None
