"""Redaction: nothing of a run's data is left in any output; and JUnit XML."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.records.advice import Advice
from dbperf.records.load import Load
from dbperf.records.plans import Plans
from dbperf.records.profile import ProfileSummary
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statements
from dbperf.records.trace import Trace
from dbperf.records.verdicts import Verdicts
from dbperf.records.waits import Waits
from dbperf.report import write_report
from dbperf.report.build import build_report
from dbperf.report.html import render_html
from dbperf.report.junit import render_junit
from dbperf.report.markdown import render_markdown
from dbperf.report.model import Report
from dbperf.report.redact_text import HIDDEN, redact_sql
from tests.support.sample_run import sample_run

SECRETS = [f"s3cr3t{i:02d}" for i in range(26)]
replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with a secret in every place where data, a message or an address can stand."""
    run = sample_run(tmp_path_factory.mktemp("redact") / "run", endpoints=3)
    s = iter(SECRETS)
    m = run.manifest
    assert m.server is not None
    assert m.target is not None
    run.update(
        host=replace(m.host, hostname=next(s)),
        server=replace(m.server, dsn=f"postgresql://{next(s)}@h/db", settings={"log_directory": f"/var/{next(s)}"}),
        target=replace(m.target, url=f"http://{next(s)}:8000"),
        command=["/home/x/dbperf", "run", "--dsn", f"host={next(s)}", f"--url={next(s)}", "--users", "10"],
        stages=[replace(m.stages[0], status="failed", detail=f"no connection to {next(s)}"), *m.stages[1:]],
        notes=[f"the value '{next(s)}' was odd"],
    )
    load = run.read(Load)
    stage = load.stages[0]
    failing = stage.endpoints[2]
    errors = [replace(k, message=f"case {next(s)} is locked") for k in failing.errors_by_kind]
    endpoints = [*stage.endpoints[:2], replace(failing, errors_by_kind=errors)]
    run.write(replace(load, url=f"http://{next(s)}", stages=[replace(stage, endpoints=endpoints)]))
    statements = run.read(Statements)
    first = statements.statements[0]
    text = f"ALTER ROLE app PASSWORD '{next(s)}' /* {next(s)} */"
    run.write(replace(statements, statements=[replace(first, text=text, user=next(s)), *statements.statements[1:]]))
    plans = run.read(Plans)
    plan = plans.plans[0]
    assert plan.plan is not None
    value = next(s)
    root = replace(
        plan.plan.root,
        conditions={"Filter": f"(name = '{value}'::text)"},
        extra={"Sort Key": [f"(lower('{next(s)}'))"], "Function Call": f"f('{SECRETS[0]}')"},
    )
    finding = replace(
        plan.findings[0],
        title=f"name = '{value}' reads all",
        advice=f"An index for {value}",
        evidence={"filter": f"name = '{value}'"},
        sql=f"CREATE INDEX ON t (a) WHERE name = '{value}'",
    )
    told = replace(
        plan, parameters=[next(s)], findings=[finding], plan=replace(plan.plan, root=root), error=f"no {SECRETS[0]}"
    )
    run.write(replace(plans, plans=[told, *plans.plans[1:]]))
    trace = run.read(Trace)
    batch = trace.endpoints[0]
    traced = replace(batch.statements[0], text=f"SELECT '{next(s)}'", source=f"/home/{next(s)}/app.py:3")
    seen = replace(batch.findings[0], text=f"SELECT '{value}'", title=f"reads {value} often", source="/home/x/app.py:3")
    blocks = [replace(trace.loop_blocks[0], source=f"/opt/{next(s)}/app.py:9")]
    run.write(replace(trace, endpoints=[replace(batch, statements=[traced], findings=[seen])], loop_blocks=blocks))
    waits = run.read(Waits)
    chain = waits.blockers[0]
    root_session = replace(chain.root, user=next(s), application_name=next(s), text=f"UPDATE t SET a = '{next(s)}'")
    held = [replace(chain.blocked[0], session=replace(root_session, text=f"SELECT '{value}'"))]
    run.write(replace(waits, blockers=[replace(chain, root=root_session, blocked=held)]))
    advice = run.read(Advice)
    index = replace(
        advice.recommendations[0],
        create_sql=f"CREATE INDEX i ON t (a) WHERE b = '{value}'",
        reason=f"Only rows with {value} are read",
    )
    skipped = [replace(advice.skipped[0], reason=f"bad value {next(s)}")]
    run.write(replace(advice, source=f"host={next(s)}", recommendations=[index], skipped=skipped))
    profile = run.read(ProfileSummary)
    stands_out = replace(profile.findings[0], evidence={"value": f"'{next(s)}'"})
    run.write(replace(profile, command=f"psql -c {next(s)}", findings=[stands_out]))
    assert next(s, None) is None, "every secret has been planted"
    return run


@pytest.fixture(scope="module")
def redacted(run: RunDirectory) -> Report:
    return build_report(run, redact=True)


@pytest.fixture(scope="module")
def redacted_html(redacted: Report) -> str:
    return render_html(redacted)


def test_every_secret_is_in_the_full_report(run: RunDirectory) -> None:
    """The other tests would pass on an empty page."""
    report = build_report(run)
    text = report.to_json().decode()
    assert [x for x in SECRETS if x not in text] == []


def test_no_output_holds_any_of_them_when_redacted(redacted: Report, redacted_html: str) -> None:
    for text in (redacted.to_json().decode(), redacted_html, render_markdown(redacted), render_junit(redacted)):
        assert [x for x in SECRETS if x in text] == []
        assert "/home/x" not in text
        assert "case-000042" not in text


def test_figures_and_names_survive(run: RunDirectory, redacted: Report, redacted_html: str) -> None:
    full = build_report(run)
    assert redacted.redacted
    assert redacted.endpoints[0].quantiles == full.endpoints[0].quantiles
    assert redacted.statements is not None
    assert full.statements is not None
    assert [s.total_ms for s in redacted.statements.statements] == [s.total_ms for s in full.statements.statements]
    assert "FROM case_bank WHERE" in redacted.statements.statements[1].text
    assert "redacted" in redacted_html


def test_share_stands_beside_the_full_report(run: RunDirectory) -> None:
    full = write_report(run)
    share = write_report(run, redact=True, share=True)
    assert share.html.parent == run.path / "share"
    assert SECRETS[0] in full.json.read_text()
    assert SECRETS[0] not in share.json.read_text()


@given(
    st.lists(
        st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=12), min_size=1, max_size=4
    ),
    st.lists(st.integers(1000, 10**9), max_size=3),
)
def test_no_literal_survives(strings: list[str], numbers: list[int]) -> None:
    marked = [f"zq{x}qz" for x in strings]
    parts = [f"c{i} = '{x.replace(chr(39), chr(39) * 2)}'" for i, x in enumerate(marked)]
    parts += [f"n{i} > {n}" for i, n in enumerate(numbers)]
    found = redact_sql(f"SELECT * FROM t WHERE {' AND '.join(parts)}")
    assert "zq" not in found
    assert all(str(n) not in found for n in numbers)
    assert found.count("'?'") == len(strings)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("E'it\\'s' || $$a$$ || $x$ $$ $x$ || U&'d' || B'01' || X'ff'", "'?' || '?' || '?' || '?' || '?' || '?'"),
        ("(hashed SubPlan 1) OR (a = 17)", "(hashed SubPlan 1) OR (a = ?)"),
        ("\"Müller\" = 'Müller' AND b = $1", "\"Müller\" = '?' AND b = $1"),
        ("((id)::text = ANY ('{a,b}'::text[]))", "((id)::text = ANY ('?'::text[]))"),
        ("SELECT 'unterminated", HIDDEN),
        ("", ""),
    ],
)
def test_literals_of_every_kind(sql: str, expected: str) -> None:
    assert redact_sql(sql) == expected


def _cases(xml: str) -> list[Any]:
    return list(ElementTree.fromstring(xml).iter("testcase"))


def test_junit_has_a_case_per_level_with_its_verdict(tmp_path: Path) -> None:
    run = sample_run(tmp_path / "run", endpoints=4)
    verdicts = run.read(Verdicts)
    levels = [*verdicts.levels, *verdicts.gates]
    xml = render_junit(build_report(run))
    cases = _cases(xml)
    assert len(cases) == len(levels)
    for case, level in zip(cases, levels, strict=True):
        children = {child.tag for child in case}
        assert children == {"pass": set(), "fail": {"failure"}, "cant_tell": {"skipped"}}[level.verdict]
    root = ElementTree.fromstring(xml)
    assert int(root.attrib["failures"]) == sum(v.verdict == "fail" for v in levels) > 0
    assert int(root.attrib["tests"]) == len(levels)


def test_junit_of_a_run_without_verdicts_is_no_success(tmp_path: Path) -> None:
    cases = _cases(render_junit(build_report(sample_run(tmp_path / "run", endpoints=1, only={"load"}))))
    assert [[child.tag for child in case] for case in cases] == [["skipped"]]


def test_junit_of_hostile_text_is_well_formed(tmp_path: Path) -> None:
    xml = render_junit(build_report(sample_run(tmp_path / "run", endpoints=4, hostile=True)))
    assert any("window.pwned" in case.get("classname", "") for case in _cases(xml))
