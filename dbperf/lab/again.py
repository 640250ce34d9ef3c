"""What the advice is worth: each index is measured, then the same load comes once more, on the same data with them.

The reference target's data are copied before the load. Indexes are proved on the copy, and those that are kept stay
there for the second load. A user's database is only touched with --apply, and then left as it was.
"""

from __future__ import annotations

import shutil
from contextlib import AsyncExitStack

import msgspec

from dbperf.errors import DbperfError, TargetError
from dbperf.indexes.verify import VerifyOptions
from dbperf.lab.context import Lab
from dbperf.lab.prove import EXECUTIONS_S, endpoint_words, proof_words, prove_on, with_endpoints
from dbperf.lab.stages import Stage
from dbperf.lab.target import reference_api
from dbperf.lab.window import DatabaseWindow
from dbperf.load import run_load
from dbperf.load.live import LiveView
from dbperf.load.others import others_share, unlike
from dbperf.load.pace import pace_of, slowdown
from dbperf.load.progress import LoadEvent
from dbperf.load.telemetry import watching
from dbperf.phase3.levels import QUERY_LEVELS
from dbperf.phase3.seed import as_seeded
from dbperf.records.advice import Advice
from dbperf.records.load import Load
from dbperf.records.proof import Proof
from dbperf.records.suite import Suite
from dbperf.records.telemetry import Telemetry

STATEMENT_S, STATEMENT_SMOKE_S = 0.4, 0.1
EXECUTIONS_SMOKE_S = 0.1
"""Enough for what matters; the smallest tables are there to be quick."""
EXECUTION_S = 3.0
"""Of one execution. The reference target's statements take milliseconds; values drawn for one may be such that it takes
minutes, and nothing is told by waiting for those."""
CHALLENGERS, CHALLENGERS_SMOKE = 2, 1
"""Plausible candidates that the advice rejected, tried as well: promise beside measurement."""
SHORT_S, WARM_UP_S, SHARE = 25.0, 5.0, 0.4
_PROOF, _LOAD = "Prove the advice by measurement", "The same load with the proved indexes"
ASK = "nothing is written to your database without --apply; the report says what would be measured"


async def proof(lab: Lab) -> None:
    """Builds each advised index, measures what it changes, and writes the proof."""
    dsn = lab.fresh_dsn if lab.options.is_reference else lab.dsn
    advised = lab.directory.maybe(Advice)
    if advised is None or not advised.recommendations:
        lab.stages.skip("proof", _PROOF, "nothing was advised")
        return
    if not lab.options.is_reference and not lab.options.writes:
        lab.stages.skip("proof", _PROOF, ASK)
        return
    if dsn is None:
        lab.stages.skip("proof", _PROOF, "there is no copy of the data to measure on")
        return
    if lab.options.is_reference and lab.api is not None and lab.api.stop is not None:
        lab.api.stop()  # it would take processor time from what is measured
    smoke = lab.options.scale == "smoke"
    options = VerifyOptions(
        keep=lab.options.is_reference,
        statement_s=STATEMENT_SMOKE_S if smoke else STATEMENT_S,
        timeout_s=EXECUTION_S if lab.options.is_reference else VerifyOptions.timeout_s,
        challengers=CHALLENGERS_SMOKE if smoke else CHALLENGERS,
        data_dir=lab.server.data_dir if lab.server is not None else None,
    )
    queries = QUERY_LEVELS if lab.options.is_reference else ()
    base_s, each_s = (3.0, 1.0) if smoke else (8.0, 3.0)
    with lab.stages.stage("proof", _PROOF, base_s + each_s * len(advised.recommendations)) as stage:
        try:
            proved = await prove_on(
                lab.directory, dsn, advised, queries=queries, options=options,
                executions_s=EXECUTIONS_SMOKE_S if smoke else EXECUTIONS_S, on_event=stage.update,
            )  # fmt: skip
        except DbperfError as e:
            # The run's figures are complete without it; why there is none belongs into the report.
            lab.stages.note(f"the index advice is not proved: {e.message}" + (f" ({e.hint})" if e.hint else ""))
            stage.detail = e.message
            return
        lab.directory.write(proved)
        stage.detail = proof_words(proved)


async def load(lab: Lab) -> None:
    """The load of before, on the copy that has the kept indexes; the proof gets the endpoints' figures."""
    proved, before = lab.directory.maybe(Proof), lab.directory.maybe(Load)
    if proved is None or before is None or lab.asked is None:
        lab.stages.skip("again", _LOAD, "no index was proved" if proved is None else "there was no load to repeat")
        return
    if not proved.kept or lab.fresh_dsn is None:
        why = "your data can't be put back: apply the indexes, run again, and dbperf compare tells the difference"
        lab.stages.skip("again", _LOAD, why)
        return
    if not any(i.verdict == "keep" for i in proved.indexes):
        lab.stages.skip("again", _LOAD, "no index was kept")
        return
    if lab.api_ended is not None:
        lab.stages.skip(
            "again", _LOAD, f"the API's process ended {lab.api_ended} during the first: nothing to compare with"
        )
        return
    suite = shortened(lab.asked.suite)
    expected_s = sum(s.ramp_s + s.warm_up_s + s.duration_s for s in suite.stages) + 5.0
    with lab.stages.stage("again", _LOAD, expected_s) as stage:
        if not await as_seeded(lab.fresh_dsn, lab.options.scale, lab.options.seed):
            stage.detail = "measuring the indexes changed the data: the loads would not be alike"
            lab.stages.note(f"the endpoints were not measured again: {stage.detail}")
            return
        try:
            after, watched = await _load_copy(lab, lab.fresh_dsn, suite, stage)
        except DbperfError as e:
            lab.stages.note(f"the endpoints were not measured again: {e.message}")
            stage.detail = e.message
            return
        both = ((before, lab.directory.maybe(Telemetry)), (after, watched))
        others = [others_share(found, telemetry) if telemetry is not None else None for found, telemetry in both]
        paces = [pace_of(found, telemetry) if telemetry is not None else None for found, telemetry in both]
        proved = with_endpoints(proved, before, after, unlike=unlike(*others), slower=slowdown(*paces))
        lab.directory.write(proved)
        stage.detail = endpoint_words(proved)


def shortened(suite: Suite) -> Suite:
    """The same load in less than half the time: what takes up to 25 s stays as it is."""
    stages = [
        msgspec.structs.replace(
            s,
            duration_s=min(s.duration_s, max(SHORT_S, s.duration_s * SHARE)),
            warm_up_s=min(s.warm_up_s, max(WARM_UP_S, s.warm_up_s * SHARE)),
        )
        for s in suite.stages
    ]
    return msgspec.structs.replace(suite, stages=stages)


async def _load_copy(lab: Lab, dsn: str, suite: Suite, stage: Stage) -> tuple[Load, Telemetry]:
    """Starts the API anew on the copy, watched and traced as before, and puts the load on it.

    Raises:
        DbperfError: the API did not start, or the load failed.
    """
    assert lab.asked is not None
    folder = lab.directory.path / "after"
    folder.mkdir(exist_ok=True)
    trace_dir = folder / "trace" if lab.trace_dir is not None else None

    view = LiveView(len(suite.stages))

    def show(event: LoadEvent) -> None:
        if live := view.after(event, watch.latest):
            stage.update(live.line, live.rows)

    async with AsyncExitStack() as stack:
        api = reference_api(dsn, lab.options.implementation, lab.suite, stack, trace_dir=trace_dir)
        window = DatabaseWindow(dsn)
        stack.push_async_callback(window.close)
        await window.connect()
        watch = await stack.enter_async_context(watching(api.url, dsn=dsn, pool_size=api.pool_size, all_own=True))
        found = await run_load(
            suite,
            api.url,
            out_dir=folder,
            headers=api.headers,
            data=lab.asked.data,
            allow_writes=True,
            fleet=lab.options.fleet,
            locustfile=lab.options.locustfile,
            on_event=show,
            on_measuring=window.opened,
            on_measured=window.closed,
        )
        if api.ended_words is not None and (how := api.ended_words()) is not None:
            raise TargetError(f"the API's process ended {how}")
    if trace_dir is not None:
        # The second load is traced to cost as much as the first; what it did is told by its figures.
        shutil.rmtree(trace_dir, ignore_errors=True)
    (folder / Load.file_name).write_bytes(found.to_json())
    (folder / Telemetry.file_name).write_bytes(watch.telemetry().to_json())
    return found, watch.telemetry()
