"""The proof of the index advice in the report: words, links between endpoint, statement and index, both ways."""

from __future__ import annotations

import re

import msgspec
import pytest

from dbperf.records.proof import Proof
from dbperf.records.rundir import RunDirectory
from dbperf.report.build import build_report
from dbperf.report.html import render_html
from dbperf.report.links import Links
from dbperf.report.markdown import render_markdown
from dbperf.report.model import Report
from dbperf.report.proof_view import anchors, endpoints_of_index, indexes_of_endpoint, named, proof_notes
from dbperf.report.remedy import remedy
from tests.support.sample_run import sample_run


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    path = tmp_path_factory.mktemp("proof") / "r"
    sample_run(path, requests=400)
    return build_report(RunDirectory.open(path))


@pytest.fixture(scope="module")
def html(report: Report) -> str:
    """Of three endpoints, which the indexes' statements lead to: drawing charts is what takes time."""
    return render_html(msgspec.structs.replace(report, endpoints=report.endpoints[:3]))


def proof_of(report: Report) -> Proof:
    assert report.proof is not None
    return report.proof


def test_an_endpoint_leads_to_the_indexes_of_its_statements_and_back(report: Report) -> None:
    links, (kept, rejected, tried) = Links(report), proof_of(report).indexes
    assert indexes_of_endpoint(report, links, "POST /reflection/batch") == [kept]
    assert indexes_of_endpoint(report, links, "GET /reflection/health") == []
    assert endpoints_of_index(report, links, kept) == ["POST /reflection/batch"]
    assert endpoints_of_index(report, links, rejected) == []
    found = anchors(report)
    assert [found[i.schema, i.name] for i in (kept, rejected, tried)] == ["index-1", "index-2", "index-tried-3"]


def test_every_link_of_the_section_has_its_place(html: str) -> None:
    ids = set(re.findall(r'id="([^"]+)"', html))
    section = html[html.index('<section id="indexes"') : html.index("</section>", html.index('<section id="indexes"'))]
    targets = set(re.findall(r'href="#([^"]+)"', section))
    assert targets <= ids
    assert {"index-1", "query-DB-004"} <= ids
    assert any(t.startswith("statement-") for t in targets)
    assert any(t.startswith("endpoint-") for t in targets)
    assert 'href="#proof"' in html


def test_figures_stand_in_html_and_markdown_alike(report: Report, html: str) -> None:
    text = render_markdown(report)
    for figure in ("84 ms", "19 ms", "0.23", "14.9 ms", "finds only 62 %", "9 were planned with and without it"):
        assert figure in html
        assert figure in text
    assert "statement 1 takes 61 µs" in text


def test_a_reason_calls_statements_as_the_report_does(report: Report) -> None:
    assert report.statements is not None
    first = report.statements.statements[0]
    assert named(f"{first.queryid} got slower; 123456789012 too", Links(report)) == (
        f"statement {first.rank} got slower; 123456789012 too"
    )


def test_statements_that_have_no_plan_are_one_note(report: Report) -> None:
    notes = [f"{n}: not measured, TRANSACTION is a utility statement" for n in (1, 2)] + ["warm"]
    assert proof_notes(msgspec.structs.replace(proof_of(report), notes=notes)) == [
        "warm",
        "2 statements of the workload were not measured (2 of them: TRANSACTION is a utility statement)",
    ]


def test_without_a_proof_the_report_says_what_would_be_measured(report: Report) -> None:
    html = render_html(msgspec.structs.replace(report, proof=None, endpoints=report.endpoints[:1]))
    assert "Not proved yet" in html
    assert "dbperf verify --dsn" in html
    assert "would build each of the 2 indexes" in html


def test_what_helps_stands_beside_what_is_wrong(report: Report) -> None:
    found = report.verdict.remedy
    assert found is not None
    assert (found.figure, found.status) == ("4.4 ×", "pass")
    assert (
        "faster with the 1 index proved by measurement: P95 of POST /reflection/analyze from 84 ms to 19 ms"
        in found.text
    )
    assert "2 of 3 endpoints are faster" in found.text
    assert found.text in render_html(report)
    assert "**4.4 ×** faster" in render_markdown(report)


def test_what_helps_is_not_more_than_what_was_shown(report: Report) -> None:
    proof = proof_of(report)
    batch = next(e for e in proof.endpoints if e.endpoint == "POST /reflection/batch")
    slow = msgspec.structs.replace(
        batch, verdict="worse", quantiles_before=batch.quantiles_after, quantiles_after=batch.quantiles_before
    )
    mixed = remedy(msgspec.structs.replace(proof, endpoints=[proof.endpoints[0], slow]))
    assert mixed is not None
    assert mixed.status == "cant_tell"
    assert mixed.text.endswith("1 of 2 endpoints are faster under the same load, 1 slower")
    only_slower = remedy(msgspec.structs.replace(proof, endpoints=[slow]))
    assert only_slower is not None
    assert (only_slower.figure, only_slower.status) == ("2.9 ×", "fail")
    assert only_slower.text.startswith("slower with")
    unloaded = remedy(msgspec.structs.replace(proof, endpoints=[]))
    assert unloaded is not None
    assert unloaded.figure == "1 index"
    none_kept = [msgspec.structs.replace(i, verdict="reject") for i in proof.indexes]
    nothing = remedy(msgspec.structs.replace(proof, indexes=none_kept, endpoints=[]))
    assert nothing is not None
    assert "none is shown to help" in nothing.text
    assert remedy(None) is None
