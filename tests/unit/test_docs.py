"""The documentation does not drift: commands parse, links lead somewhere, tables are complete, translations agree."""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import dbperf.config as config
import dbperf.load.suite_file as suite_file
import dbperf.records
import dbperf.report.model  # report.json is a document, too
from dbperf.bench.requests import PERF
from dbperf.cli.generated import PAGES as GENERATED
from dbperf.cli.generated import baseline_table, parts, with_parts
from dbperf.load.gate_language import METRICS, parse_gate
from dbperf.records.base import Document
from tests.support.doc_pages import PAGES, ROOT, blocks, console, dbperf_commands, parse

OTHER_PROGRAMS = {"export", "make", "git", "cd", "pip", "grep"}
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)


def ids(page: Path) -> str:
    return page.name


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_is_one_that_dbperf_understands(page: Path) -> None:
    for line in dbperf_commands(page.read_text(encoding="utf-8")):
        try:
            parse(line)
        except Exception as e:
            raise AssertionError(f"{page.name}: {line}: {e}") from e


def test_a_wrong_command_would_be_noticed() -> None:
    for wrong in ("dbperf run --no-such-option", "dbperf report", "dbperf compare A B --format nonsense"):
        with pytest.raises(Exception, match=r"no-such-option|run|nonsense"):
            parse(wrong)
    assert dbperf_commands("    dbperf up   # starts\n\n```console\n$ dbperf down\n```\n") == [
        "dbperf up",
        "dbperf down",
    ]


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_other_commands_are_few_and_make_targets_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in console(page.read_text(encoding="utf-8")):
        program, *rest = step.command.split()
        assert program == "dbperf" or program in OTHER_PROGRAMS, step.command
        if program == "make":
            assert rest[0] in targets, step.command


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_shown_output_has_the_shape_that_is_checked_on_real_runs(page: Path) -> None:
    for step in console(page.read_text(encoding="utf-8")):
        if step.shape:
            assert re.search(step.shape, step.output, re.DOTALL), f"{step.command}: {step.shape}\n{step.output}"


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower().strip()).replace(" ", "-") for h in heads}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_file(), f"{page.name}: {link}"
        assert not anchor or anchor in _anchors(target), f"{page.name}: {link}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name}" in index, f"docs/README.md does not lead to {page.name}"


def test_the_page_on_suites_has_every_key_and_metric_and_a_working_example() -> None:
    text = (ROOT / "docs" / "load.md").read_text(encoding="utf-8")
    keys = {k for table in (suite_file._Suite, *suite_file._TABLES.values()) for k in table.__struct_fields__}
    shown = {k for k in keys if f"`{k}`" in text or f"[{k}]" in text}
    assert keys - shown == set()
    assert {m for m in METRICS if f"`{m}`" not in text and f"`{m}(" not in text} == set()
    [example] = blocks(text, "toml")
    suite = suite_file.parse_suite(example, "loadtests/shop.toml")
    assert [s.name for s in suite.stages] == ["calm", "busy"]
    for gate in blocks(text, "")[0].splitlines():
        parse_gate(gate)


def test_the_translated_tutorial_has_the_same_commands_and_outputs() -> None:
    english, korean = (console((ROOT / "docs" / n).read_text("utf-8")) for n in ("tutorial.md", "tutorial.ko.md"))
    assert english == korean
    assert len(english) > 5


def test_the_configuration_page_has_every_key_and_a_working_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    keys = config.KEYS | set(config.Safety.__struct_fields__)
    keys |= config._LEVEL_KEYS | config._SERVICE_KEYS | config._CUSTOM_KEYS
    assert {k for k in keys if f"`{k}`" not in text} == set()
    example = re.search(r"```toml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    assert example[1].strip() in (config.__doc__ or ""), "the module's own example"
    monkeypatch.setenv("API_KEY", "k")
    (tmp_path / "dbperf.toml").write_text(example[1])
    read = config.load_config(None, folder=tmp_path)
    assert read.users == 10
    assert set(tomllib.loads(example[1])) <= config.KEYS


def test_the_page_of_files_lists_every_document_with_its_version() -> None:
    for module in iter_modules(dbperf.records.__path__):
        import_module(f"dbperf.records.{module.name}")
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    documents = [d for d in Document.__subclasses__() if d.__module__.startswith("dbperf.records.")]
    assert len(documents) > 20
    for d in documents:
        assert f"| `{d.file_name}` | {d.kind} | {d.version} |" in text, f"{d.kind}: docs/formats.md"


@pytest.mark.parametrize("page", GENERATED)
def test_generated_tables_are_what_the_code_and_the_baseline_say(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    made = parts(ROOT)
    assert text == with_parts(text, {n: made[n] for n in GENERATED[page]}), "run: make docs"


def test_the_baselines_table_shows_intervals_and_says_when_there_is_none(tmp_path: Path) -> None:
    assert "No baseline" in baseline_table(tmp_path / "nowhere.json")
    file = tmp_path / "performance_baseline.json"
    file.write_text(
        """{"kind": "baseline", "schema_version": 1, "entries": [{"origin": {"source": "runs/x",
        "measured_at": "2025-03-14T09:26:53Z", "git_revision": "3f1c0de5b0a94f0c", "hostname": null,
        "dbperf_version": "0.1.0"}, "measurement": {"subject": "PERF-001 a|b", "conditions": {},
        "quantiles": [{"q": 0.5, "value_ms": 12.0, "ci_low_ms": 11.0, "ci_high_ms": 13.5},
        {"q": 0.95, "value_ms": 20.0}]}}]}"""
    )
    row = "| PERF-001 a\\|b | – | 12 ms (11 ms to 13.5 ms) | 20 ms | 2025-03-14 | 3f1c0de5b0a9 |"
    assert row in baseline_table(file)


def test_the_baselines_table_names_endpoints_and_not_tests() -> None:
    table = parts(ROOT)["baseline"]
    assert "test_" not in table
    for name, endpoint, _ in PERF:
        assert f"| {endpoint}, {name} |" in table
