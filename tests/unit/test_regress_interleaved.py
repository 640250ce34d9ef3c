"""Verdicts on two sides measured in turns, on known samples."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from dbperf.records.base import parse_document
from dbperf.records.comparison import Accepted, MetricComparison, Service, Tolerance
from dbperf.records.interleaved import Interleaved, TurnsEndpoint, TurnsSide
from dbperf.records.run import Host, Manifest
from dbperf.records.rundir import RunDirectory
from dbperf.regress.baseline import promote
from dbperf.regress.compare import compare
from dbperf.regress.interleaved import judge
from dbperf.regress.judge import Rules
from dbperf.regress.junit import render_junit
from dbperf.regress.render import render_markdown, render_text
from dbperf.regress.sources import read_side
from dbperf.stats.sequential import Plan

NOW = datetime(2026, 11, 21, tzinfo=UTC)
RULES = Rules(services=[], overrides={})
ANALYZE, SEARCH, TREE = "POST /reflection/analyze", "POST /search", "GET /tree"


def endpoint(name: str, factor: float = 1.0, *, quads: int = 120, seed: int = 1, **fields: Any) -> TurnsEndpoint:
    """Lognormal times around 20 ms; B's are longer by the factor."""
    rng = np.random.default_rng(seed)
    a, b = (20 * rng.lognormal(0, 0.15, (quads, 10)) * f for f in (1, factor))
    looks = [n for k in range(4) if (n := Plan().quads_at(k)) < quads] + [quads]
    known = {
        "run": 5, "quads_planned": 120, "a_first": [True] * quads, "looks": looks,
        "starts": [2 * (k + 1) for k in range(len(looks))],
        "a_ms": a.tolist(), "b_ms": b.tolist(), "requests_a": quads * 10, "requests_b": quads * 10,
    }  # fmt: skip
    return TurnsEndpoint(name=name, **{**known, **fields})


def turns(*endpoints: TurnsEndpoint, **fields: Any) -> Interleaved:
    known = {
        "a": TurnsSide(what="main", git_revision="a" * 40), "b": TurnsSide(what="the working tree"), "seed": 1,
        "budget_s": 600.0, "ended": "plan", "started_at": NOW, "ended_at": NOW,
    }  # fmt: skip
    return Interleaved(**{**known, **fields}, endpoints=list(endpoints))


def verdicts(found: Interleaved, rules: Rules = RULES) -> dict[str, str]:
    return {m.name: m.verdict for m in judge(found, rules, now=NOW).comparison.metrics}


def metric(found: Interleaved, name: str, rules: Rules = RULES) -> MetricComparison:
    return next(m for m in judge(found, rules, now=NOW).comparison.metrics if m.name == name)


def test_twelve_percent_more_fail_the_gate_and_nothing_more_passes_it() -> None:
    found = turns(endpoint(ANALYZE, 1.12), endpoint(SEARCH, seed=2))
    result = judge(found, RULES, now=NOW).comparison
    assert result.verdict == "fail"
    assert verdicts(found) == {
        f"{ANALYZE} p50": "worse", f"{ANALYZE} p95": "worse", f"{ANALYZE} errors": "unchanged",
        f"{SEARCH} p50": "unchanged", f"{SEARCH} p95": "unchanged", f"{SEARCH} errors": "unchanged",
    }  # fmt: skip
    slow = metric(found, f"{ANALYZE} p95")
    assert slow.ci_low is not None
    assert slow.ci_high is not None
    assert slow.ratio is not None
    assert 1 < slow.ci_low < slow.ratio < slow.ci_high
    assert slow.ci_low < 1.12 < slow.ci_high
    assert judge(turns(endpoint(SEARCH, seed=2)), RULES, now=NOW).comparison.verdict == "pass"


def test_the_ratio_is_that_of_blocks_so_that_drift_is_out_of_it() -> None:
    """In the second half the machine is twice as slow, and more of B's quads were kept there by no fault of its own."""
    e = endpoint(SEARCH)
    drift = np.where(np.arange(120) < 60, 1.0, 2.0)[:, None]
    drifted = msgspec.structs.replace(
        e, a_ms=(np.array(e.a_ms) * drift).tolist(), b_ms=(np.array(e.b_ms) * drift).tolist()
    )
    assert metric(turns(drifted), f"{SEARCH} p50").ratio == pytest.approx(metric(turns(e), f"{SEARCH} p50").ratio)


def test_what_is_clear_is_settled_and_what_is_not_goes_on() -> None:
    slow, same, early = endpoint(ANALYZE, 2.0, quads=30), endpoint(SEARCH, quads=60), endpoint(TREE, 1.05, quads=30)
    judged = judge(turns(slow, same, early), RULES, now=NOW)
    assert SEARCH in judged.settled
    assert TREE not in judged.settled, "5 % of 10 % allowed: more samples can rule a regression out"
    assert judge(turns(slow), RULES, now=NOW).settled == {ANALYZE}


def test_too_few_blocks_are_said_to_be_too_few() -> None:
    found = turns(endpoint(SEARCH, quads=6, looks=[6], starts=[2], took_rest=True), ended="budget")
    assert metric(found, f"{SEARCH} p95").verdict == "cant_tell"
    assert "3 blocks of 20 samples" in metric(found, f"{SEARCH} p95").reason
    assert judge(found, RULES, now=NOW).comparison.verdict == "cant_tell"


def test_what_time_leaves_is_spent_at_the_last_look() -> None:
    """The same samples in the middle of the plan, and when the time is over: the interval is narrower at the end."""
    middle, over = (
        metric(turns(endpoint(SEARCH, quads=60, took_rest=rest)), f"{SEARCH} p95") for rest in (False, True)
    )
    assert middle.ci_low is not None
    assert over.ci_low is not None
    assert middle.ci_high is not None
    assert over.ci_high is not None
    assert middle.ci_low < over.ci_low < over.ci_high < middle.ci_high


def test_an_endpoint_that_fails_is_worse_and_settled() -> None:
    broken = endpoint(
        ANALYZE,
        quads=0,
        looks=[0],
        starts=[2],
        requests_a=300,
        requests_b=300,
        errors_b=300,
        first_error_b="answered 500",
    )
    judged = judge(turns(broken), RULES, now=NOW)
    assert {m.metric: m.verdict for m in judged.comparison.metrics} == {
        "p50": "cant_tell", "p95": "cant_tell", "errors": "worse"
    }  # fmt: skip
    assert judged.comparison.verdict == "fail"
    assert judged.settled == {ANALYZE}
    assert f"{ANALYZE}: B's first error: answered 500" in judged.comparison.notes


def test_an_endpoint_of_one_side_only_is_not_comparable() -> None:
    found = turns(
        endpoint(ANALYZE), endpoint(SEARCH, quads=0, looks=[], starts=[], requests_a=0, requests_b=0, missing="B"),
        endpoint(TREE, quads=0, looks=[], starts=[], requests_a=0, requests_b=0, missing="both"),
    )  # fmt: skip
    assert metric(found, f"{SEARCH} p95").reason == "only in A"
    result = judge(found, RULES, now=NOW).comparison
    assert result.verdict == "pass"
    assert f"{TREE}: neither side has it" in result.notes


def test_sides_with_different_data_are_not_comparable() -> None:
    nothing = endpoint(SEARCH, quads=0, looks=[], starts=[], requests_a=0, requests_b=0)
    why = "the sides hold different data: case_bank holds 500 rows against 10,000"
    result = judge(turns(nothing, ended="not_comparable", detail=why), RULES, now=NOW).comparison
    assert result.verdict == "not_comparable"
    assert result.metrics[0].reason == why


def test_services_thresholds_and_exceptions_hold_here_too() -> None:
    found = turns(endpoint(ANALYZE, 1.12))
    wide = Rules(
        services=[Service(name="slow", endpoints=["POST *"], tolerances={"p95": Tolerance(relative=0.5)})], overrides={}
    )
    assert metric(found, f"{ANALYZE} p95", wide).verdict == "unchanged"
    assert metric(found, f"{ANALYZE} p95", wide).service == "slow"
    lax = Rules(services=[], overrides={"p50": Tolerance(relative=0.3), "p95": Tolerance(relative=0.3)})
    assert judge(found, lax, now=NOW).comparison.verdict == "pass"
    known = Accepted(metric=f"{ANALYZE} *", until=date(2026, 12, 1), reason="fixed soon", who="me", at=NOW)
    result = judge(found, RULES, accepted=[known], now=NOW).comparison
    assert result.verdict == "pass"
    assert all(m.accepted for m in result.metrics if m.verdict == "worse")


def test_every_format_tells_it() -> None:
    result = judge(turns(endpoint(ANALYZE, 1.12)), RULES, now=NOW).comparison
    text = render_text(result)
    assert "A: main, interleaved, revision aaaaaaaaaaaa" in text
    assert "FAIL: a regression" in text
    assert "60 blocks of 20 samples a side in turns" in render_markdown(result)
    root = ElementTree.fromstring(render_junit(result))
    assert root.get("failures") == "2"


def test_a_family_needs_more_evidence_than_one_endpoint() -> None:
    """What is shown of one endpoint is not shown among eleven."""
    narrow = Rules(services=[], overrides={"p50": Tolerance(relative=0.02)}, run_to_run=0.0)
    one = endpoint(ANALYZE, 1.02, seed=29)
    alone = metric(turns(one), f"{ANALYZE} p50", narrow)
    assert alone.verdict == "worse"
    many = turns(one, *(endpoint(f"GET /{i}", seed=10 + i) for i in range(10)))
    among = metric(many, f"{ANALYZE} p50", narrow)
    assert (among.p_value, among.verdict) == (alone.p_value, "cant_tell")
    assert "by chance in so many comparisons" in among.reason
    assert judge(many, narrow, now=NOW).comparison.family == 11 * 3


def test_processes_that_differ_for_their_whole_life_are_allowed_for() -> None:
    """The more often both sides were started anew, the less of the difference between processes is left."""
    wide, narrow = (metric(turns(endpoint(SEARCH, starts=[n] * 4)), f"{SEARCH} p50") for n in (1, 16))
    none = metric(turns(endpoint(SEARCH)), f"{SEARCH} p50", Rules(services=[], overrides={}, run_to_run=0.0))
    widths = [(m.ci_high or 9) - (m.ci_low or 0) for m in (wide, narrow, none)]
    assert widths == sorted(widths, reverse=True)
    slow = metric(turns(endpoint(ANALYZE, 1.12, starts=[1] * 4)), f"{ANALYZE} p50")
    again = metric(turns(endpoint(ANALYZE, 1.12, starts=[16] * 4)), f"{ANALYZE} p50")
    assert (slow.p_value or 0) > (again.p_value or 0)


def run_with(path: Path, factor: float, seed: int) -> Path:
    """A run directory whose side B has such times."""
    manifest = Manifest(
        name="bench", status="complete", provenance="measured", started_at=NOW, dbperf_version="1", command=["bench"],
        pid=1, host=Host(hostname="h", system="Linux 6 x86_64", python_version="3", cpu_count=2, memory_bytes=1),
    )  # fmt: skip
    run = RunDirectory.create(path, manifest)
    run.write(turns(endpoint(ANALYZE, factor, seed=seed), scale="smoke"))
    return run.path


def test_twelve_percent_are_caught_by_the_stored_baseline_with_samples(tmp_path: Path) -> None:
    """Known samples: side B of a run in turns becomes the baseline; a later run is judged by it."""
    promote(tmp_path / "baseline.json", run_with(tmp_path / "base", 1.0, 1), reason="first", who="me")
    baseline = read_side(tmp_path / "baseline.json")
    same = compare(baseline, read_side(run_with(tmp_path / "same", 1.0, 2)), RULES, now=NOW)
    assert same.verdict in ("pass", "cant_tell")
    assert "worse" not in {m.verdict for m in same.metrics}
    slow = compare(baseline, read_side(run_with(tmp_path / "slow", 1.12, 2)), RULES, now=NOW)
    assert slow.verdict == "fail"
    assert {m.metric for m in slow.metrics if m.gate and m.verdict == "worse"} == {"p50", "p95"}


def test_the_record_survives_a_round_trip() -> None:
    found = turns(endpoint(SEARCH, quads=2, looks=[2], starts=[2]))
    assert parse_document(Interleaved, found.to_json(), source="x") == found
    assert math.isfinite(found.endpoints[0].a_ms[0][0])
