"""The parts of the sample run that not every run has: traced requests, waits, index advice, gates. All made up."""

from __future__ import annotations

from datetime import datetime, timedelta

from dbperf.flame.hotspots import hot_spots
from dbperf.flame.ops import Builder
from dbperf.records.advice import (
    Advice,
    Recommendation,
    Rejected,
    Rewrite,
    Skipped,
    StatementCost,
    StatisticsAdvice,
)
from dbperf.records.flames import EndpointFlame, Flames
from dbperf.records.plans import Finding
from dbperf.records.profile import Collectors, ProfileSummary
from dbperf.records.stacks import Frame
from dbperf.records.statements import Statements
from dbperf.records.telemetry import (
    Blocker,
    MachineSample,
    PostgresSample,
    ProcessSample,
    Telemetry,
    TelemetrySample,
)
from dbperf.records.trace import (
    EndpointTrace,
    GcPauses,
    LoopBlock,
    RequestMeans,
    Spread,
    Trace,
    TraceFinding,
    TraceStatement,
)
from dbperf.records.verdicts import GateVerdict
from dbperf.records.waits import (
    BlockedSession,
    BlockingChain,
    IdleTransaction,
    PoolUse,
    Sampler,
    Session,
    StatementWaits,
    WaitEvent,
    Waits,
)


def trace(statements: Statements, start: datetime, bad: str) -> Trace:
    logs, cases = statements.statements[0], statements.statements[1]

    def statement(text: str, fingerprint: str, per_request: float, ms: float, source: str) -> TraceStatement:
        return TraceStatement(
            fingerprint=fingerprint,
            text=text,
            source=source,
            calls=int(180 * per_request),
            per_request=per_request,
            max_per_request=int(per_request * 1.5) + 1,
            executions=int(180 * per_request),
            total_ms=180 * per_request * ms,
            median_ms=ms,
            max_ms=ms * 8,
        )

    batch = EndpointTrace(
        route="POST /reflection/batch",
        requests=180,
        errors=0,
        total_ms=180 * 6190.0,
        duration_ms=Spread(median=6100, max=38_000),
        statements_per_request=Spread(median=402, max=431),
        sql_ms=180 * 4100.0,
        pool_wait_ms=180 * 240.0,
        python_ms=180 * 1850.0,
        per_request=RequestMeans(duration_ms=6190, sql_ms=4100, pool_wait_ms=240, python_ms=1850),
        commits_per_request=Spread(median=400, max=430),
        commit_ms=180 * 400 * 0.4,
        commit_median_ms=0.4,
        statements=[
            statement(logs.text, logs.fingerprint, 400, 9.1, f"app/reflection.py:88{bad}"),
            statement(cases.text, cases.fingerprint, 1, 66, "app/reflection.py:71"),
        ],
        findings=[
            TraceFinding(
                rule_id="n_plus_one",
                severity="critical",
                title=f"One query per case: 400 times the same statement{bad}",
                route="POST /reflection/batch",
                fingerprint=logs.fingerprint,
                text=logs.text,
                source="app/reflection.py:88",
                per_request=Spread(median=400, max=430),
                saved_ms=3600.0,
                evidence={"calls_per_request": 400, "distinct_parameters": 400, "loop": f"app/reflection.py:86{bad}"},
                advice="Fetch the logs of all cases in one statement: WHERE case_id = ANY($1).",
            )
        ],
    )
    health = EndpointTrace(
        route="GET /reflection/health",
        requests=600,
        errors=0,
        total_ms=600 * 2.1,
        duration_ms=Spread(median=2, max=11),
        statements_per_request=Spread(median=1, max=1),
        sql_ms=600 * 0.4,
        pool_wait_ms=0,
        python_ms=600 * 1.7,
        per_request=RequestMeans(duration_ms=2.1, sql_ms=0.4, pool_wait_ms=0, python_ms=1.7),
        commits_per_request=Spread(median=0, max=0),
        commit_ms=0,
        commit_median_ms=None,
        statements=[],
        findings=[],
    )
    return Trace(
        started_at=start,
        ended_at=start + timedelta(seconds=70),
        requests=780,
        processes=1,
        endpoints=[batch, health],
        loop_blocks=[
            LoopBlock(
                source="app/similarity.py:31",
                function=f"cosine{bad}",
                route="POST /consolidation/run",
                count=240,
                total_ms=91_000,
                max_ms=640,
                delayed={"GET /reflection/health": 211},
            )
        ],
        gc=GcPauses(count=214, total_ms=410, max_ms=18, by_generation={"0": 190, "1": 20, "2": 4}),
        complete=True,
    )


def waits(statements: Statements, start: datetime, bad: str) -> Waits:
    first = statements.statements[0]

    def event(kind: str, name: str, share: float) -> WaitEvent:
        return WaitEvent(
            wait_event_type=kind, wait_event=name, samples=int(5800 * share), session_ms=212_000 * share, share=share
        )

    root = Session(
        pid=4711, user="app", application_name="phase3", state="idle in transaction", text=f"UPDATE case_bank{bad}"
    )
    waiting = Session(pid=4712, user="app", application_name="phase3", state="active", text=first.text)
    return Waits(
        sampler=Sampler(
            rate_hz=20,
            samples=1180,
            missed=20,
            missed_share=0.017,
            sample_ms_mean=0.9,
            sample_ms_max=6,
            server_ms_mean=0.4,
            longest_gap_ms=110,
        ),
        active_session_ms=212_000,
        active_sessions_mean=3.5,
        active_sessions_max=10,
        idle_in_transaction_ms=9000,
        events=[event("CPU", "CPU", 0.81), event("IO", "DataFileRead", 0.09), event("LWLock", "WALWrite", 0.06),
                event("Lock", "transactionid", 0.04)],
        by_statement=[
            StatementWaits(
                queryid=first.queryid,
                text=first.text,
                session_ms=131_000,
                share=0.62,
                events=[event("CPU", "CPU", 0.93), event("IO", "DataFileRead", 0.07)],
            )
        ],
        blockers=[
            BlockingChain(
                root=root,
                first_seen_at=start,
                last_seen_at=start + timedelta(seconds=2),
                longest_wait_ms=1420,
                total_wait_ms=2100,
                sessions=3,
                depth=3,
                blocked=[
                    BlockedSession(
                        session=waiting,
                        lock_type="transactionid",
                        lock_mode="ShareLock",
                        relation="case_bank",
                        started_at=start,
                        waited_ms=1420,
                        ended=True,
                        blocked=[
                            BlockedSession(
                                session=waiting,
                                lock_type="tuple",
                                lock_mode="ExclusiveLock",
                                relation="case_bank",
                                started_at=start,
                                waited_ms=680,
                                ended=True,
                            )
                        ],
                    )
                ],
            )
        ],
        idle_transactions=[
            IdleTransaction(session=root, longest_idle_ms=1300, longest_transaction_ms=1500, samples=27)
        ],
        pools=[
            PoolUse(
                application_name="phase3",
                user="app",
                connections_mean=12,
                connections_max=20,
                active_mean=3.4,
                active_max=10,
                idle_in_transaction_max=2,
                use_mean=0.4,
            )
        ],
        connections_max=21,
        max_connections=97,
    )  # fmt: skip


def advice(statements: Statements, bad: str) -> Advice:
    first, fourth = statements.statements[0], statements.statements[3]
    return Advice(
        planner="shadow",
        source="postgresql:///phase3",
        server_version="18.1",
        what_if_calls=412,
        elapsed_s=1.9,
        budget_bytes=None,
        cost_before=100_000.0,
        cost_after=21_400.0,
        size_bytes=15 << 20,
        recommendations=[
            Recommendation(
                name="execution_log_case_id_created_at_idx",
                schema="public",
                table="execution_log",
                method="btree",
                create_sql="CREATE INDEX CONCURRENTLY execution_log_case_id_created_at_idx\n"
                f"    ON public.execution_log (case_id, created_at DESC){' --' + bad if bad else ''}",
                drop_sql="DROP INDEX CONCURRENTLY public.execution_log_case_id_created_at_idx",
                size_bytes=3_400_000,
                gain=0.69,
                gain_cost=69_000,
                write_cost=800,
                statements=[str(first.queryid)],
                reason="It finds the logs of one case, newest first, without reading and sorting the table.",
            ),
            Recommendation(
                name="case_bank_query_vector_idx",
                schema="public",
                table="case_bank",
                method="hnsw",
                create_sql="CREATE INDEX CONCURRENTLY case_bank_query_vector_idx\n"
                "    ON public.case_bank USING hnsw (query_vector vector_cosine_ops) WHERE status = 'active'",
                drop_sql="DROP INDEX CONCURRENTLY public.case_bank_query_vector_idx",
                size_bytes=12_000_000,
                gain=0.096,
                gain_cost=9600,
                statements=[str(fourth.queryid)],
                makes_redundant=["case_bank_status_idx"],
                blocks_hot_updates=True,
                reason="The nearest cases come from the index instead of from all active ones.",
            ),
        ],
        rejected=[
            Rejected(sql=f"CREATE INDEX ON case_bank (status){bad}", table="case_bank", reason="400 of 500 rows match"),
            Rejected(sql=f"SELECT '{bad}'", statement="7", reason="it reads no table of the database"),
        ],
        rewrites=[
            Rewrite(
                statement=str(first.queryid),
                rule_id="n_plus_one",
                reason=f"N+1: the same SELECT 68 times per request (POST /reflection/batch). Ask once for all '{bad}'.",
                source="/home/kim/shop/api/views.py:12",
                sql=f"CREATE INDEX ON case_bank (lower('{bad}'))",
            )
        ],
        statistics=[
            StatisticsAdvice(
                name="st_case_bank_status_version",
                schema="public",
                table="case_bank",
                create_sql=f"CREATE STATISTICS public.st_case_bank_status_version ON status, version FROM t -- {bad}",
                drop_sql="DROP STATISTICS IF EXISTS public.st_case_bank_status_version;",
                rows=400,
                rows_estimated=4,
                factor=100,
                statements=[str(fourth.queryid)],
                reason=f"status, version depend on each other: 400 rows where 4 were expected '{bad}'",
            )
        ],
        statements=[
            StatementCost(id=str(first.queryid), calls=68_400, cost_before=78_000, cost_after=9000, text=first.text),
            StatementCost(id=str(fourth.queryid), calls=840, cost_before=12_000, cost_after=2400, text=fourth.text),
        ],
        skipped=[Skipped(id="1", reason=f"could not determine data type of parameter $1{bad}")],
        redundant=[Rejected(sql="case_bank_old_idx", table="case_bank", reason="a prefix of case_bank_pkey")],
    )


def profile(bad: str) -> ProfileSummary:
    return ProfileSummary(
        ended="complete",
        command=f"pytest -k batch{bad}" if bad else None,
        requests=6000,
        collectors=Collectors(
            snapshots=4, snapshots_ms=15, samples=1180, samples_server_ms=472, samples_round_trip_ms=1062, share=0.0081
        ),
        findings=[
            Finding(
                rule_id="large-sequential-scans",
                severity="warning",
                title=f"execution_log was read as a whole 68,400 times, 100,000 rows each{bad}",
                evidence={"relation": f"execution_log{bad}", "seq_scans": 68_400},
                advice="An index on what its statements filter or sort by may help: dbperf advise looks for it.",
            )
        ],
    )


def telemetry(start: datetime, bad: str) -> Telemetry:
    def sample(i: int) -> TelemetrySample:
        busy = 0.5 + 0.4 * ((i * 37) % 11) / 11
        return TelemetrySample(
            at_s=float(i),
            processes=[
                ProcessSample(pid=4800, name="python", cpu_share=busy, rss_bytes=(180 + i // 4) << 20, threads=10)
            ],
            machine=MachineSample(cpu_share=busy * 0.9, steal_share=0.0, memory_available_bytes=5 << 30),
            postgres=PostgresSample(
                active_sessions=2 + (i * 13) % 7,
                idle_in_transaction=1,
                connections=14,
                max_connections=97,
                locks_waiting=1 if i in (21, 22) else 0,
                blockers=[
                    Blocker(
                        blocked_pid=1, blocking_pid=2, blocked_s=1.42, blocked_query=f"x{bad}", blocking_query=f"y{bad}"
                    )
                ]
                if i == 22
                else [],
                commits=30,
                rollbacks=2,
                deadlocks=1 if i == 22 else 0,
                temp_bytes=0,
            ),
        )

    notes = [f"disk figures are not available{bad}"] if bad else []
    return Telemetry(started_at=start, samples=[sample(i) for i in range(70)], pool_size=20, notes=notes)


def gates() -> list[GateVerdict]:
    return [
        GateVerdict(
            expr='endpoint("POST /reflection/batch").p95 < 10s',
            observed=13_468.0,
            unit="ms",
            limit=10_000.0,
            stage="10 users",
            endpoint="POST /reflection/batch",
            verdict="fail",
            reason="13.5 s (10 s to 19.2 s)",
        ),
        GateVerdict(
            expr="deadlocks == 0", observed=0.0, unit="count", limit=0.0, verdict="pass", reason="none in 60 s"
        ),
    ]


def flames(statements: Statements, bad: str, *, scan_ms: float) -> Flames:
    """The full stack of the heaviest endpoint, `scan_ms` of it in one plan node; ten stretches of time."""
    root = Frame(name="POST /reflection/batch", kind="endpoint")
    view = Frame(name=f"batch{bad}", file="/srv/app/reflection.py", line=80)
    load = Frame(name="load_logs", file="/srv/app/reflection.py", line=88)
    text = next(s.text for s in statements.statements if "execution_log.log_id" in s.text)
    sql = Frame(name=text, kind="sql")
    scan = Frame(name="Seq Scan on execution_log" if scan_ms > 1000 else "Index Scan on execution_log", kind="plan")
    parts = [
        ((root, view), 1100.0),
        ((root, view, load), 600.0),
        ((root, view, load, sql), 200.0),
        ((root, view, load, sql, scan), scan_ms),
        ((root, Frame(name="unattributed", kind="unattributed")), 150.0),
    ]
    b = Builder()
    for path, ms in parts:
        b.add(path, ms, [ms / 10 * (0.95 + 0.01 * i) for i in range(10)])
    stacks = b.build(name="POST /reflection/batch", source="fullstack", unit="ms")
    spots = hot_spots(stacks)
    whole = sum(ms for _, ms in parts)
    endpoint = EndpointFlame(route=root.name, requests=20, request_ms=whole, stacks=stacks, hot_spots=spots)
    return Flames(endpoints=[endpoint], notes=[f"one endpoint only{bad}"] if bad else [])
