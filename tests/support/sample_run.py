"""A realistic run directory, made up: provenance "sample". For tests of rendering, and for looking at the report.

The figures are drawn from a fixed seed, so the same call gives the same bytes. `hostile=True` puts markup, scripts
and control characters wherever a database, an API or a user could put text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from dbperf.load.heat import Heat
from dbperf.records.base import Document
from dbperf.records.load import (
    EndpointLoad,
    ErrorCount,
    Generator,
    LeftOut,
    Load,
    LoadSecond,
    Quantile,
    StageLoad,
)
from dbperf.records.plans import Buffers, Finding, Plan, PlanNode, Plans, StatementPlan
from dbperf.records.run import Extension, Host, LoadProfile, Manifest, RunStage, Server, Target
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statement, Statements, Validity, Window
from dbperf.records.verdicts import LevelVerdict, Verdict, Verdicts
from dbperf.stats.hdr import Latencies
from dbperf.units import format_count
from tests.support import sample_evidence, sample_proof

START = datetime(2025, 3, 14, 9, 26, 53, tzinfo=UTC)
HOSTILE = (
    '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=2">\'"`|{{7*7}}\u202e\x1b[31m\x000\x00'
)
"""Breaks out of scripts, attributes, Markdown tables, code spans and templates where escaping is forgotten."""


@dataclass(frozen=True)
class _Api:
    name: str
    median_ms: float
    sigma: float
    share: float
    errors: tuple[tuple[str, int | None, str, int], ...] = ()
    limits_ms: tuple[float, float, float] | None = None


_APIS = (
    _Api("POST /reflection/analyze", 41, 0.42, 0.40, limits_ms=(500, 1000, 2000)),
    _Api("POST /reflection/batch", 6100, 0.36, 0.03, limits_ms=(5000, 10_000, 15_000)),
    _Api(
        "POST /consolidation/run",
        2350,
        0.30,
        0.04,
        (("http 500", 500, "deadlock detected: process 4711 waits for ShareLock on transaction 90211", 5),),
        (1500, 3000, 5000),
    ),
    _Api("POST /consolidation/dry-run", 980, 0.34, 0.05, limits_ms=(1000, 2000, 3000)),
    _Api("GET /consolidation/summary", 24, 0.30, 0.08),
    _Api("GET /reflection/health", 2.1, 0.35, 0.10, limits_ms=(50, 100, 200)),
    _Api("GET /consolidation/health", 2.0, 0.34, 0.10, limits_ms=(50, 100, 200)),
    _Api("POST /search", 58, 0.55, 0.14, (("timeout", None, "no answer within 30 s", 1),)),
    _Api("POST /classify", 71, 0.38, 0.06),
)
_QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


def sample_run(
    path: Path,
    *,
    statements: int = 14,
    requests: int = 6000,
    endpoints: int = len(_APIS),
    seed: int = 20250314,
    start: datetime = START,
    users: int = 10,
    hostile: bool = False,
    only: set[str] | None = None,
    flames: bool = False,
    factor: float = 1.0,
) -> RunDirectory:
    """Writes a run; `only` names the documents (kinds) to write beside the manifest, None means all.

    `factor` stretches the latencies of POST /reflection/batch, its first statement and that one's plan.
    """
    bad = f" {HOSTILE}" if hostile else ""
    load = _load(requests, endpoints, bad, seed, factor)
    run = RunDirectory.create(path, _manifest(load, bad))
    profile_ = statements_of(statements, requests=requests, bad=bad, factor=factor)
    documents: list[Document] = [load, profile_, _plans(bad), _verdicts(load, bad)]
    if statements >= len(_SQL):
        documents += [sample_evidence.trace(profile_, start, bad), sample_evidence.waits(profile_, start, bad)]
        documents += [
            sample_evidence.advice(profile_, bad),
            sample_proof.proof(profile_, start, bad),
            sample_evidence.profile(bad),
            sample_evidence.telemetry(start, bad),
        ]
    if flames:
        documents.append(sample_evidence.flames(profile_, bad, scan_ms=4100 * factor))
    for document in documents:
        if only is None or document.kind in only:
            run.write(document)
    profile = run.manifest.load_profile
    assert profile is not None
    run.update(started_at=start, load_profile=msgspec.structs.replace(profile, users=users))
    if only is not None:
        run.update(status="partial", notes=[*run.manifest.notes, "dbperf ended before the run was complete"])
    return run


def _manifest(load: Load, bad: str) -> Manifest:
    def stage(name: str, title: str, at: float, elapsed: float, detail: str | None = None) -> RunStage:
        return RunStage(
            name=name,
            title=title,
            status="done",
            started_at=START + timedelta(seconds=at),
            elapsed_s=elapsed,
            detail=detail,
        )

    return Manifest(
        name=f"phase3-naive{bad}",
        status="complete",
        provenance="sample",
        started_at=START,
        ended_at=START + timedelta(seconds=98),
        dbperf_version="0.1.0",
        command=["dbperf", "run", "--duration", "60s", "--users", "10", *([bad] if bad else [])],
        git_revision="3f1c0de5b0a94f0c8a8a3b2f4f9de0a1b2c3d4e5",
        pid=1,
        host=Host(
            hostname="sample-host",
            system="Linux 6.12.0 x86_64",
            python_version="3.12.8",
            cpu_model="Sample CPU 2.6 GHz",
            cpu_count=2,
            memory_bytes=8 << 30,
        ),
        server=Server(
            version="PostgreSQL 18.1",
            version_num=180001,
            embedded=True,
            database="phase3",
            dsn="postgresql://postgres:***@/phase3?host=/tmp/sample",
            size_bytes=412 << 20,
            extensions=[
                Extension(name="pg_stat_statements", version="1.12", schema="public"),
                Extension(name="vector", version="0.8.1", schema="public"),
            ],
            settings={
                "shared_buffers": "128MB",
                "work_mem": "4MB",
                "random_page_cost": "4",
                "effective_cache_size": "4GB",
                "track_io_timing": "on",
                "jit": "off",
                "max_connections": "100",
            },
        ),
        target=Target(url="http://127.0.0.1:40123", origin="reference", scale="spec", workers=1),
        load_profile=LoadProfile(
            suite="mix",
            model="closed",
            users=10,
            duration_s=60,
            warm_up_s=10,
            mix={api.name: api.share for api in _APIS},
        ),
        stages=[
            stage("server", "Start PostgreSQL", 0, 1.2, "PostgreSQL 18.1, embedded"),
            stage("seed", "Seed the database", 1.2, 14.8, "10,000 cases, 100,000 logs"),
            stage("target", "Start the API", 16, 2.1, "http://127.0.0.1:40123"),
            stage("warm_up", "Warm up", 18.1, 10),
            stage("load", "Load", 28.1, 60, f"{load.stages[0].requests:,} requests{bad}"),
            stage("statements", "Read statement statistics", 88.1, 0.4),
            stage("plans", "Explain the top statements", 88.5, 6.2, "5 plans"),
            stage("report", "Write the report", 94.7, 1.9),
        ],
        notes=["profiling overhead was not measured in this run"],
    )


def _load(requests: int, count: int, bad: str, seed: int, factor: float) -> Load:
    rng = np.random.default_rng(seed)
    duration_s = 60
    endpoints, seconds, heat = [], [], Heat()
    for api in _APIS[:count]:
        n = max(int(requests * api.share), 8)
        ms = rng.lognormal(np.log(api.median_ms), api.sigma, n) * (factor if api.name.endswith("/batch") else 1.0)
        slow = rng.random(n) < 0.012
        ms[slow] *= rng.uniform(2, 4, int(slow.sum()))
        at = np.sort(rng.uniform(0, duration_s, n))
        # A checkpoint in the middle, so that the timeline has something to show.
        ms[(at > 33) & (at < 37)] *= 1.7
        endpoints.append(_endpoint(api, ms, duration_s, bad))
        seconds += _seconds(endpoints[-1].name, api.errors != (), at, ms, duration_s, heat)
    started = START + timedelta(seconds=28.1)
    stage = StageLoad(
        name="10 users",
        model="closed",
        users=10,
        started_at=started,
        ended_at=started + timedelta(seconds=duration_s),
        warm_up_s=10,
        requests=sum(e.requests for e in endpoints),
        errors=sum(e.errors for e in endpoints),
        requests_per_s=sum(e.requests for e in endpoints) / duration_s,
        endpoints=endpoints,
    )
    return Load(
        suite="mix",
        url="http://127.0.0.1:40123",
        started_at=started - timedelta(seconds=10),
        ended_at=stage.ended_at,
        complete=True,
        stages=[stage],
        seconds=sorted(seconds, key=lambda s: (s.at_s, s.endpoint)),
        stretches=heat.stretches(),
        generator=Generator(
            engine="locust 2.47.0",
            processes=1,
            cpu_share_max=0.31,
            loop_lag_max_ms=6.4,
            late_starts=0,
            saturated=False,
        ),
        left_out=[
            LeftOut(endpoint=f"POST /consolidation/restore/{{case_id}}{bad}", reason="needs an archived case"),
        ],
        notes=[f"1 response was larger than 1 MB{bad}"] if bad else [],
    )


def _endpoint(api: _Api, ms: Any, duration_s: float, bad: str) -> EndpointLoad:
    method, _, path = (api.name + (bad if api.errors else "")).partition(" ")
    ordered = np.sort(ms)
    n = len(ordered)
    errors = sum(e[3] for e in api.errors)
    return EndpointLoad(
        name=f"{method} {path}",
        method=method,
        path=path,
        requests=n,
        errors=errors,
        errors_by_kind=[
            ErrorCount(kind=kind, status=status, message=message + bad, count=count)
            for kind, status, message, count in api.errors
        ],
        requests_per_s=n / duration_s,
        requests_per_s_ci=(n / duration_s * 0.96, n / duration_s * 1.04),
        response_bytes=n * 420,
        latency=Latencies.of_ms(ms).encode(),
        quantiles=[_quantile(q, ordered) for q in _QUANTILES],
        mean_ms=float(ordered.mean()),
        min_ms=float(ordered[0]),
        max_ms=float(ordered[-1]),
    )


def _quantile(q: float, ordered: Any) -> Quantile:
    n = len(ordered)
    if n * (1 - q) < 1:
        return Quantile(q=q, value_ms=None, reason=f"{n} samples are too few for P{q * 100:g}")
    half = 1.96 * np.sqrt(n * q * (1 - q))
    low, high = int(max(n * q - half, 0)), int(n * q + half)
    value = float(ordered[min(int(n * q), n - 1)])
    if high >= n:
        return Quantile(q=q, value_ms=value, reason=f"{n} samples are too few for an interval of P{q * 100:g}")
    return Quantile(q=q, value_ms=value, ci_low_ms=float(ordered[low]), ci_high_ms=float(ordered[high]))


def _seconds(name: str, failing: bool, at: Any, ms: Any, duration_s: int, heat: Heat) -> list[LoadSecond]:
    rows = []
    for second in range(-10, duration_s):
        # Before 0 is the warm-up: made of the first seconds, a little slower.
        start = second if second >= 0 else -second
        here = ms[(at >= start) & (at < start + 1)] * (1.0 if second >= 0 else 1.3)
        some = len(here) > 0
        heat.add(second + 10, "10 users", name, Latencies.of_ms(here))
        rows.append(
            LoadSecond(
                at_s=float(second + 10),
                stage="10 users",
                endpoint=name,
                users=10,
                requests=len(here),
                errors=1 if failing and second in (7, 8, 31, 44, 45) else 0,
                p50_ms=float(np.quantile(here, 0.5)) if some else None,
                p95_ms=float(np.quantile(here, 0.95)) if some else None,
                max_ms=float(here.max()) if some else None,
            )
        )
    return rows


_SQL: tuple[tuple[str, float, float, float, float], ...] = (
    # text, share, calls per request, rows per call, hit ratio
    (
        "SELECT execution_log.log_id, execution_log.case_id, execution_log.success, execution_log.error_type, "
        "execution_log.execution_time_ms, execution_log.created_at FROM execution_log WHERE execution_log.case_id = "
        "$1 ORDER BY execution_log.created_at DESC LIMIT $2",
        0.61,
        11.4,
        96.2,
        0.982,
    ),
    (
        "SELECT case_bank.case_id, case_bank.query, case_bank.response_text, case_bank.query_vector FROM case_bank "
        "WHERE case_bank.status = $1 AND case_bank.query_vector IS NOT NULL",
        0.17,
        0.09,
        402.0,
        0.871,
    ),
    ("SELECT case_id, count(*) FROM execution_log GROUP BY case_id HAVING count(*) >= $1", 0.08, 0.03, 9871.0, 0.994),
    (
        "SELECT case_id, query FROM case_bank WHERE status = $1 ORDER BY query_vector <=> $2 LIMIT $3",
        0.06,
        0.14,
        10.0,
        0.93,
    ),
    ("UPDATE case_bank SET success_rate = $1, updated_at = $2 WHERE case_bank.case_id = $3", 0.04, 2.9, 1.0, 0.999),
    ("SELECT * FROM case_bank WHERE case_id = $1", 0.012, 0.44, 1.0, 0.9995),
    ("INSERT INTO case_bank_archive (case_id, query, archived_reason) VALUES ($1, $2, $3)", 0.008, 0.07, 1.0, 0.99),
    ("COMMIT", 0.006, 3.4, 0.0, 1.0),
    ("SELECT count(*) FROM case_bank WHERE status = $1", 0.004, 0.08, 1.0, 0.9998),
    ("BEGIN", 0.003, 3.4, 0.0, 1.0),
    ("DELETE FROM case_bank WHERE case_id = $1", 0.0025, 0.07, 1.0, 0.998),
    ("SELECT path, name FROM taxonomy_node WHERE version = $1", 0.002, 0.02, 3200.0, 0.9999),
    ("SELECT status, count(*), avg(success_rate) FROM case_bank GROUP BY status", 0.0015, 0.08, 3.0, 0.9999),
    ("SELECT $1", 0.001, 0.2, 1.0, 1.0),
)


def statements_of(count: int, *, requests: int, bad: str = "", factor: float = 1.0) -> Statements:
    """Made-up statistics of `count` statements; those beyond the first 14 are variants of them."""
    total_ms = 212_000.0
    rows = []
    for i in range(count):
        text, share, per_request, rows_per_call, hit = _SQL[i % len(_SQL)]
        copy = i // len(_SQL)
        calls = max(int(per_request * requests), 1)
        time = total_ms * share / (1 + copy) ** 2 * (factor if i == 0 else 1.0)
        blocks = calls * 40
        rows.append(
            Statement(
                queryid=7_000_000_000_000_000_000 - i * 977,
                fingerprint=f"{i:016x}",
                text=text + (f" /* variant {copy} */" if copy else "") + (f" /*{bad}*/" if bad else ""),
                user="postgres",
                database="phase3",
                calls=calls,
                total_ms=time,
                mean_ms=time / calls,
                min_ms=time / calls / 3,
                max_ms=time / calls * 9,
                stddev_ms=time / calls / 2,
                share=time / total_ms,
                calls_per_request=calls / requests,
                rows=int(calls * rows_per_call),
                rows_per_call=rows_per_call,
                shared_blks_hit=int(blocks * hit),
                shared_blks_read=blocks - int(blocks * hit),
                shared_blks_dirtied=0,
                shared_blks_written=0,
                temp_blks_read=0,
                temp_blks_written=220 if i == 2 else 0,
                hit_ratio=hit if blocks else None,
                blk_read_ms=time * (1 - hit),
            )
        )
    started = START + timedelta(seconds=28.1)
    return Statements(
        window=Window(started_at=started, ended_at=started + timedelta(seconds=60), seconds=60),
        validity=Validity(complete=True, evictions=0),
        extension_version="1.12",
        total_ms=sum(r.total_ms for r in rows),
        total_calls=sum(r.calls for r in rows),
        attributed_share=0.94,
        statements=sorted(rows, key=lambda r: -r.total_ms),
    )


def _plans(bad: str) -> Plans:
    scan = PlanNode(
        node_id=2,
        node_type="Seq Scan",
        parent_relationship="Outer",
        relation="execution_log",
        schema="public",
        alias="execution_log",
        startup_cost=0.0,
        total_cost=2841.0,
        plan_rows=11,
        plan_width=62,
        actual_startup_ms=0.04,
        actual_total_ms=11.83,
        actual_rows=214,
        loops=1,
        buffers=Buffers(shared_hit=1581, shared_read=10, read_ms=0.3),
        conditions={"Filter": f"((case_id)::text = 'case-000042{bad}'::text)"},
        extra={"Rows Removed by Filter": 99786},
        total_ms=11.83,
        self_ms=11.83,
        self_buffers=Buffers(shared_hit=1581, shared_read=10),
        row_error=19.45,
    )
    sort = PlanNode(
        node_id=1,
        node_type="Sort",
        parent_relationship="Outer",
        startup_cost=2841.2,
        total_cost=2841.3,
        plan_rows=11,
        plan_width=62,
        actual_startup_ms=11.98,
        actual_total_ms=12.01,
        actual_rows=100,
        loops=1,
        buffers=Buffers(shared_hit=1581, shared_read=10),
        extra={"Sort Key": ["created_at DESC"], "Sort Method": "top-N heapsort", "Sort Space Used": 48},
        total_ms=12.01,
        self_ms=0.18,
        row_error=9.1,
        children=[scan],
    )
    limit = PlanNode(
        node_id=0,
        node_type="Limit",
        startup_cost=2841.2,
        total_cost=2841.3,
        plan_rows=11,
        plan_width=62,
        actual_startup_ms=11.98,
        actual_total_ms=12.03,
        actual_rows=100,
        loops=1,
        buffers=Buffers(shared_hit=1581, shared_read=10),
        total_ms=12.03,
        self_ms=0.02,
        row_error=9.1,
        children=[sort],
    )
    cases = PlanNode(
        node_id=0,
        node_type="Seq Scan",
        relation="case_bank",
        schema="public",
        alias="case_bank",
        startup_cost=0,
        total_cost=1722.0,
        plan_rows=398,
        plan_width=6244,
        conditions={"Filter": "((query_vector IS NOT NULL) AND ((status)::text = $1))"},
    )
    nearest = PlanNode(
        node_id=0,
        node_type="Limit",
        startup_cost=1802.1,
        total_cost=1802.2,
        plan_rows=10,
        plan_width=84,
        children=[
            PlanNode(
                node_id=1,
                node_type="Sort",
                parent_relationship="Outer",
                startup_cost=1802.1,
                total_cost=1803.1,
                plan_rows=398,
                plan_width=84,
                extra={"Sort Key": ["((query_vector <=> $2))"]},
                children=[
                    PlanNode(
                        node_id=2,
                        node_type="Index Scan",
                        parent_relationship="Outer",
                        relation="case_bank",
                        schema="public",
                        alias="case_bank",
                        index_name="case_bank_pkey" + bad,
                        startup_cost=0.3,
                        total_cost=1793.5,
                        plan_rows=398,
                        plan_width=84,
                        conditions={"Index Cond": "(case_id > $1)", "Filter": "((status)::text = $1)"},
                    )
                ],
            )
        ],
    )

    def plan(i: int, root: PlanNode | None, *, analyzed: bool = False, findings: list[Finding] | None = None) -> Any:
        return StatementPlan(
            queryid=7_000_000_000_000_000_000 - i * 977,
            fingerprint=f"{i:016x}",
            text=_SQL[i][0],
            how=None if root is None else "analyze" if analyzed else "generic",
            parameters=[f"case-000042{bad}", "100"] if analyzed else [],
            plan=None
            if root is None
            else Plan(
                root=root,
                analyzed=analyzed,
                planning_ms=0.21 if analyzed else None,
                execution_ms=12.08 if analyzed else None,
            ),
            findings=findings or [],
            error=f"could not determine data type of parameter $3{bad}" if root is None else None,
        )

    return Plans(
        plans=[
            plan(
                0,
                limit,
                analyzed=True,
                findings=[
                    Finding(
                        rule_id="seq-scan-selective-filter",
                        severity="critical",
                        title=f"Reads 100,000 rows of execution_log to keep 214{bad}",
                        node_id=2,
                        node="Seq Scan on execution_log",
                        evidence={"rows_read": 100000, "rows_kept": 214, "rows_kept_share": 0.00214},
                        explains_ms=11.83,
                        share=0.979,
                        advice="An index on (case_id, created_at DESC) finds the rows, already in order.",
                        sql="CREATE INDEX CONCURRENTLY execution_log_case_id_created_at_idx\n"
                        f"    ON execution_log (case_id, created_at DESC);{bad and ' --' + bad}",
                    ),
                    Finding(
                        rule_id="row-misestimate",
                        severity="warning",
                        title="19 times more rows than estimated",
                        node_id=2,
                        node="Seq Scan on execution_log",
                        evidence={"actual_rows": 214, "plan_rows": 11, "row_error": 19.45},
                        advice="Popular cases are far more frequent than the average: raise the statistics target.",
                        sql="ALTER TABLE execution_log ALTER COLUMN case_id SET STATISTICS 1000;\n"
                        "ANALYZE execution_log;",
                    ),
                ],
            ),
            plan(
                1,
                cases,
                findings=[
                    Finding(
                        rule_id="wide-rows",
                        severity="warning",
                        title="Fetches 6 kB per row, most of it the vector",
                        node_id=0,
                        node="Seq Scan on case_bank",
                        evidence={"plan_width_bytes": 6244, "plan_rows": 398},
                        advice="Compare the vectors in the database with <=> and return ids only.",
                    )
                ],
            ),
            plan(2, None),
            plan(3, nearest),
        ]
    )


def _verdicts(load: Load, bad: str) -> Verdicts:
    levels: list[LevelVerdict] = []
    by_prefix = {api.name: api for api in _APIS}
    for e in load.stages[0].endpoints:
        api = next(a for name, a in by_prefix.items() if e.name.startswith(name))
        if api.limits_ms is None:
            continue
        for metric, q, limit in zip(("p50", "p95", "p99"), (0.5, 0.95, 0.99), api.limits_ms, strict=True):
            found = next(x for x in e.quantiles if x.q == q)
            verdict: Verdict = "cant_tell"
            reason = found.reason or "the interval spans the limit"
            if found.ci_low_ms is not None and found.ci_high_ms is not None:
                if found.ci_high_ms <= limit:
                    verdict, reason = "pass", "the whole interval is below the limit"
                elif found.ci_low_ms > limit:
                    verdict, reason = "fail", "the whole interval is above the limit"
            levels.append(
                LevelVerdict(
                    endpoint=e.name,
                    stage="10 users",
                    metric=metric,  # type: ignore[arg-type]  # zip loses the literal
                    unit="ms",
                    limit=limit,
                    observed=found.value_ms,
                    ci_low=found.ci_low_ms,
                    ci_high=found.ci_high_ms,
                    verdict=verdict,
                    reason=reason + bad,
                )
            )
        levels.append(
            LevelVerdict(
                endpoint=e.name,
                stage="10 users",
                metric="error_rate",
                unit="share",
                limit=0.001,
                observed=e.errors / e.requests,
                ci_low=max(e.errors / e.requests - 0.01, 0.0) if e.errors else 0.0,
                ci_high=e.errors / e.requests + 0.01 if e.errors else 3 / e.requests,
                verdict="fail" if e.errors else "pass" if e.requests > 3000 else "cant_tell",
                reason="5 of them failed" if e.errors else f"no error in {e.requests} requests",
            )
        )
    stage = load.stages[0]
    levels.append(
        LevelVerdict(
            endpoint="all",
            stage="10 users",
            metric="requests_per_s",
            unit="per_s",
            limit=100,
            observed=stage.requests_per_s,
            ci_low=stage.requests_per_s * 0.97,
            ci_high=stage.requests_per_s * 1.03,
            verdict="pass" if stage.requests_per_s > 103 else "fail",
            reason=f"{format_count(stage.requests_per_s)} requests/s",
        )
    )
    overall: Verdict = "fail" if any(v.verdict == "fail" for v in levels) else "cant_tell"
    checked = {v.endpoint for v in levels} | {"all"}
    return Verdicts(
        overall=overall,
        gates=sample_evidence.gates(),
        levels=levels,
        unchecked=[e.name for e in load.stages[0].endpoints if e.name not in checked],
    )
