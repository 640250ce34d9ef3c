"""The proof of the sample run's index advice, made up."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from dbperf.records.load import Quantile
from dbperf.records.proof import (
    ColdProof,
    EndpointProof,
    IndexProof,
    Proof,
    QueryProof,
    StatementProof,
    WriteProof,
)
from dbperf.records.statements import Statement, Statements


def _quantiles(*times: tuple[float, float, float] | None) -> list[Quantile]:
    return [
        Quantile(q=q, value_ms=t and t[0], ci_low_ms=t and t[1], ci_high_ms=t and t[2])
        for q, t in zip((0.5, 0.95, 0.99), times, strict=True)
    ]


def _statement(s: Statement, before: float, after: float, bad: str, *, cold: bool = False) -> StatementProof:
    ratio = after / before
    return StatementProof(
        id=str(s.queryid), text=s.text + bad, calls=s.calls, values="drawn", pairs=17, before_ms=before,
        after_ms=after, ratio=ratio, ratio_low=ratio * 0.9, ratio_high=ratio * 1.2, cost_before=1200,
        cost_after=14, buffers_before=2104, buffers_after=9, uses_index=True, verdict="better",
        cold=ColdProof(pairs=6, before_ms=before * 4, after_ms=after * 6, ratio=ratio * 1.5, ratio_low=ratio,
                       ratio_high=ratio * 2) if cold else None,
    )  # fmt: skip


def _query(number: int, title: str, limit: float, before: float, after: float, index: str | None) -> QueryProof:
    verdict: Literal["pass", "fail", "cant_tell"] = "pass" if after < limit else "fail"
    return QueryProof(
        id=f"DB-00{number}", title=title, limit_ms=limit, wanted_plan="index scan" if index else None, executions=120,
        p95_before_ms=before, p95_before_low_ms=before * 0.9, p95_before_high_ms=before * 1.2, p95_after_ms=after,
        p95_after_low_ms=after * 0.9, p95_after_high_ms=after * 1.2, index=index, verdict=verdict,
        reason=f"P95 {after} ms of at most {limit} ms",
    )  # fmt: skip


def proof(statements: Statements, start: datetime, bad: str) -> Proof:
    first, fourth = statements.statements[0], statements.statements[3]
    logs, vectors = "execution_log_case_id_created_at_idx", "case_bank_query_vector_idx"
    return Proof(
        target=f"postgresql:///phase3{bad}",
        server_version="18.1",
        started_at=start,
        elapsed_s=24.0,
        indexes=[
            IndexProof(
                name=logs, schema="public", table="execution_log",
                create_sql=f"CREATE INDEX CONCURRENTLY {logs} ON public.execution_log (case_id, created_at DESC)",
                verdict="keep",
                reason=f"{first.queryid} takes 61 µs instead of 9.2 ms (ratio 0.0066, 0.0059 to 0.0080)",
                size_bytes=3_610_000, estimated_bytes=3_400_000, build_s=0.21, saved_ms=620_000, write_cost_ratio=1.06,
                statements=[_statement(first, 9.2, 0.061, bad, cold=True)],
                writes=[
                    WriteProof(
                        id=f"insert{bad}", text=f"INSERT INTO execution_log VALUES ($1){bad}", calls=900, pairs=9,
                        before_ms=0.11, after_ms=0.117, ratio=1.06, ratio_low=0.97, ratio_high=1.15,
                        verdict="cant_tell",
                    )
                ],
            ),
            IndexProof(
                name=vectors, schema="public", table="case_bank",
                create_sql=f"CREATE INDEX CONCURRENTLY {vectors} ON public.case_bank USING hnsw "
                f"(query_vector vector_cosine_ops) WHERE status = 'active'{bad}",
                verdict="reject",
                reason=f"{fourth.queryid} finds only 62 % of the rows that an exact search finds{bad}",
                size_bytes=12_400_000, estimated_bytes=12_000_000, build_s=6.4, write_cost_ratio=3.1,
                statements=[_statement(fourth, 61, 4, bad)],
            ),
            IndexProof(
                name="case_bank_status_idx", schema="public", table="case_bank",
                create_sql="CREATE INDEX CONCURRENTLY case_bank_status_idx ON public.case_bank (status)",
                verdict="reject", reason="no statement's plan uses it (9 were planned with and without it)",
                size_bytes=90_112, estimated_bytes=None, build_s=0.02, write_cost_ratio=1.02,
            ),
        ],
        endpoints=[
            EndpointProof(
                endpoint="POST /reflection/analyze", requests_before=2400, requests_after=1310,
                quantiles_before=_quantiles((41, 39, 43), (84, 80, 91), (112, 101, 140)),
                quantiles_after=_quantiles((8, 7.6, 8.3), (19, 17, 22), (31, 26, 44)),
                p50_ratio=0.195, p50_ratio_low=0.18, p50_ratio_high=0.21, p95_ratio=0.23, p95_ratio_low=0.20,
                p95_ratio_high=0.27, verdict="better",
            ),
            EndpointProof(
                endpoint="POST /reflection/batch", requests_before=180, requests_after=64,
                quantiles_before=_quantiles((6100, 5800, 6500), (11_000, 9900, 13_000), None),
                quantiles_after=_quantiles((2100, 1900, 2400), None, None),
                p50_ratio=0.34, p50_ratio_low=0.30, p50_ratio_high=0.41, p95_ratio=None, p95_ratio_low=None,
                p95_ratio_high=None, verdict="better",
            ),
            EndpointProof(
                endpoint="GET /reflection/health", requests_before=600, requests_after=310,
                quantiles_before=_quantiles((2.1, 2.0, 2.2), (3.6, 3.3, 4.0), None),
                quantiles_after=_quantiles((2.0, 1.9, 2.2), (3.5, 3.0, 4.3), None),
                p50_ratio=0.96, p50_ratio_low=0.9, p50_ratio_high=1.04, p95_ratio=0.97, p95_ratio_low=0.8,
                p95_ratio_high=1.2, verdict="cant_tell",
            ),
        ],
        queries=[
            _query(1, "active cases with success_rate < 30, by usage_count, first 100", 50, 8.2, 0.4, "by_usage"),
            _query(4, "newest 100 logs of one case", 20, 14.9, 0.3, logs),
            _query(5, "logs counted per case", 100, 142, 108, None),
        ],
        kept=True,
        cold="shared buffers and the page cache",
        load_before_s=60.0,
        load_after_s=30.0,
        notes=[f"the load was measured for 60 s before and for 30 s after{bad}"],
    )  # fmt: skip
