"""Index proof in a run: verifies the advice on a database that may be written to, and asks the queries with limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

import msgspec

from dbperf.errors import DbperfError
from dbperf.indexes.advise import Request, advise
from dbperf.indexes.sessions import read_source, shadow_planner
from dbperf.indexes.verify import VerifyOptions, verify
from dbperf.indexes.verify_endpoints import compare_loads, measured_s
from dbperf.indexes.workload import Workload, checked
from dbperf.indexes.workload_files import read_workload
from dbperf.load.pace import UNKNOWN, Slowdown, slowdown_words
from dbperf.phase3.levels import QUERY_LEVELS, QueryLevel
from dbperf.postgres.query_times import index_of, query_times
from dbperf.records.advice import Advice
from dbperf.records.load import Load, Quantile
from dbperf.records.plans import Plan
from dbperf.records.proof import Proof, QueryProof
from dbperf.records.rundir import RunDirectory
from dbperf.records.shadow import WorkloadStatement
from dbperf.resources import sql
from dbperf.stats.hdr import Latencies
from dbperf.stats.quantiles import quantile
from dbperf.units import format_ms, format_seconds

EXECUTIONS, EXECUTIONS_LEAST, EXECUTIONS_S = 120, 80, 2.0
"""Of each query with a limit: enough for an interval of P95; the least where they take longer than those seconds."""
CHALLENGERS = 2
STATEMENT_S = 2.0
ADVICE_S = 20.0


async def advise_with_queries(
    directory: RunDirectory, dsn: str, queries: Sequence[QueryLevel] = QUERY_LEVELS
) -> Advice:
    """The advice for a run's statements together with queries that have limits of their own.

    Raises:
        DbperfError: the catalog can't be read, or the shadow can't be made.
    """
    catalog, _ = await read_source(dsn, None, directory.path)
    workload = workload_with(read_workload(directory.path), queries)
    async with shadow_planner(catalog) as planner:
        request = Request(time_limit_s=ADVICE_S, must_use_index=asking_for_an_index(queries))
        return await advise(catalog, workload, planner, request)


def asking_for_an_index(queries: Sequence[QueryLevel]) -> frozenset[str]:
    """Ids of the queries whose level says that their plan must use an index."""
    return frozenset(q.id for q in queries if q.plan is not None)


def workload_with(workload: Workload, queries: Sequence[QueryLevel]) -> Workload:
    """A workload with queries of the specification; those that are in it already count once more."""
    added = checked([WorkloadStatement(id=q.id, text=sql(q.file), calls=1.0) for q in queries])
    both = checked([*workload.statements, *added.statements])
    return Workload(statements=both.statements, skipped=[*workload.skipped, *added.skipped])


async def prove_on(
    directory: RunDirectory,
    dsn: str,
    advice: Advice,
    *,
    queries: Sequence[QueryLevel] = (),
    options: VerifyOptions | None = None,
    executions_s: float = EXECUTIONS_S,
    on_event: Callable[[str], None] | None = None,
) -> Proof:
    """Proves advice on a run's own statements and leaves what helps in place.

    Args:
        directory: has the statements.
        dsn: a database that may be written to: the embedded one, or the caller has asked (`dbperf.lab.safety`).
        advice: see `advise_with_queries`.
        queries: with limits; they are timed before the first index is built and after the last.
        options: of the verification; by default what helps stays, and two candidates that the advice rejected are
            tried as well.
        executions_s: after which a query with a limit is executed no more often than its P95 asks for.
        on_event: is told what happens.

    Raises:
        DbperfError: see `dbperf.indexes.verify.verify`.
    """
    say = on_event or (lambda _: None)
    workload = workload_with(read_workload(directory.path), queries)
    before = [await _timed(dsn, q, executions_s, say) for q in queries]
    options = options or VerifyOptions(keep=True, challengers=CHALLENGERS, statement_s=STATEMENT_S)
    options = replace(options, must_use_index=options.must_use_index | asking_for_an_index(queries))
    proof = await verify(dsn, workload, advice, options=options, on_event=say)
    after = [await _timed(dsn, q, executions_s, say) for q in queries]
    judged = [_judged(q, b, a) for q, b, a in zip(queries, before, after, strict=True)]
    return msgspec.structs.replace(proof, queries=judged)


def with_endpoints(
    proof: Proof, before: Load, after: Load, *, unlike: str | None = None, slower: Slowdown = UNKNOWN
) -> Proof:
    """The proof with what the same load says of each endpoint before and after; unlike windows are noted.

    Args:
        unlike: why the loads can't be compared: their figures are shown, and nothing is concluded from them.
        slower: how much slower the machine was in the second: what that may explain is no change.
    """
    first_s, second_s = measured_s(before), measured_s(after)
    notes = list(proof.notes)
    if not 0.9 < second_s / first_s < 1.1:
        notes.append(
            f"the load was measured for {format_seconds(first_s)} before and for {format_seconds(second_s)} after: the "
            "intervals of the shorter one are wider, and what builds up over time had less of it"
        )
    endpoints = compare_loads(before, after, sorted({*slower} - {1.0}))
    if words := slowdown_words(slower):
        notes.append(words)
    if unlike is not None:
        notes.append(f"the endpoints before and after can't be compared: {unlike}")
        endpoints = [msgspec.structs.replace(e, verdict="cant_tell") for e in endpoints]
    return msgspec.structs.replace(
        proof, endpoints=endpoints, load_before_s=first_s, load_after_s=second_s, notes=notes
    )


Timed = tuple[Latencies, Plan] | DbperfError


async def _timed(dsn: str, query: QueryLevel, seconds: float, say: Callable[[str], None]) -> Timed:
    try:
        times, plan = await query_times(
            dsn,
            sql(query.file),
            executions=EXECUTIONS,
            least=EXECUTIONS_LEAST,
            seconds=seconds,
            draw=query.draw_parameters,
        )
    except DbperfError as e:
        return e
    latencies = Latencies.of_ms(times)
    say(f"{query.id}: P95 {format_ms(quantile(latencies, 0.95).value_ms)}")
    return latencies, plan


def _judged(query: QueryLevel, before: Timed, after: Timed) -> QueryProof:
    if isinstance(before, DbperfError) or isinstance(after, DbperfError):
        failed = after if isinstance(after, DbperfError) else before
        assert isinstance(failed, DbperfError)
        return QueryProof(
            id=query.id, title=query.title, limit_ms=query.p95_ms, wanted_plan=query.plan, executions=0,
            p95_before_ms=None, p95_after_ms=None, p95_after_low_ms=None, p95_after_high_ms=None, index=None,
            verdict="cant_tell", reason=failed.message,
        )  # fmt: skip
    first, p95 = quantile(before[0], 0.95), quantile(after[0], 0.95)
    index = index_of(after[1])
    verdict, reason = _against(query, p95, index)
    return QueryProof(
        id=query.id,
        title=query.title,
        limit_ms=query.p95_ms,
        wanted_plan=query.plan,
        executions=after[0].count,
        executions_before=before[0].count,
        p95_before_ms=first.value_ms,
        p95_before_low_ms=first.ci_low_ms,
        p95_before_high_ms=first.ci_high_ms,
        p95_after_ms=p95.value_ms,
        p95_after_low_ms=p95.ci_low_ms,
        p95_after_high_ms=p95.ci_high_ms,
        index_before=index_of(before[1]),
        index=index,
        verdict=verdict,
        reason=reason,
    )


def _against(query: QueryLevel, p95: Quantile, index: str | None) -> tuple[Literal["pass", "fail", "cant_tell"], str]:
    words = f"P95 {format_ms(p95.value_ms)} of at most {format_ms(query.p95_ms)}"
    if query.plan is not None and index is None:
        return "fail", f"{words}; its plan uses no index"
    if p95.ci_low_ms is not None and p95.ci_low_ms > query.p95_ms:
        return "fail", words
    if p95.ci_high_ms is not None and p95.ci_high_ms <= query.p95_ms:
        return "pass", words
    return "cant_tell", f"{words}, with an interval of {format_ms(p95.ci_low_ms)} to {format_ms(p95.ci_high_ms)}"


def proof_words(proof: Proof) -> str:
    """One line: how many of the indexes are worth keeping, and how many queries meet their limits with them."""
    count = {v: sum(i.verdict == v for i in proof.indexes) for v in ("keep", "reject", "cant_tell")}
    words = f"{count['keep']} to keep, {count['reject']} rejected, {count['cant_tell']} can't be told"
    met = sum(q.verdict == "pass" for q in proof.queries)
    return f"{words}; {met} of {len(proof.queries)} queries meet their limits" if proof.queries else words


def endpoint_words(proof: Proof) -> str:
    """One line: how many endpoints got faster."""
    count = {v: sum(e.verdict == v for e in proof.endpoints) for v in ("better", "worse", "unchanged", "cant_tell")}
    words = [f"{count['better']} endpoints faster", f"{count['worse']} slower", f"{count['unchanged']} the same"]
    return ", ".join([*words, f"{count['cant_tell']} can't be told"])
