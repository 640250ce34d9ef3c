"""After the load: what its records mean. Each stage reads the run directory and adds to it."""

from __future__ import annotations

import time

from dbperf.errors import DbperfError
from dbperf.lab.advice import advice_words, advise_on
from dbperf.lab.context import Lab
from dbperf.lab.flames import ENDPOINTS, heaviest, seconds_of
from dbperf.lab.prove import advise_with_queries
from dbperf.load import judge
from dbperf.load.capacity import capacity
from dbperf.load.gates import judge_gates, with_gates
from dbperf.postgres.explain import explain_statement
from dbperf.records.load import Load
from dbperf.records.plans import Plans, StatementPlan
from dbperf.records.statements import Statements
from dbperf.records.telemetry import Telemetry
from dbperf.records.verdicts import Verdicts
from dbperf.trace.collect import collect, join
from dbperf.trace.stream import FLUSH_S
from dbperf.units import format_count


async def flames(lab: Lab) -> None:
    title = "Draw flame graphs of the heaviest endpoints"
    if lab.trace_dir is None or lab.api is None or lab.api.pid is None:
        lab.stages.skip("flames", title, "only the reference target is profiled, under trace")
        return
    with lab.stages.stage("flames", title, ENDPOINTS * (seconds_of(lab.options.scale) + 1.0)) as stage:
        found = lab.directory.maybe(Plans)
        measured = lab.directory.read(Load).stages
        traced = collect(lab.trace_dir, since=measured[0].started_at, until=measured[-1].ended_at)
        try:
            drawn = await heaviest(lab, traced, found.plans if found else [], stage.update)
        except DbperfError as e:
            # The run's figures are complete without them; why there are none belongs into the report.
            lab.stages.note(f"no flame graphs: {e.message}" + (f" ({e.hint})" if e.hint else ""))
            stage.detail = e.message
            return
        lab.directory.write(drawn)
        stage.detail = ", ".join(f.route for f in drawn.endpoints)


def trace(lab: Lab) -> None:
    title = "Join requests with their statements"
    folder = lab.trace_dir or lab.options.traces
    if folder is None:
        why = "--traces does not say where the API writes its trace" if lab.api else "no API"
        lab.stages.skip("trace", title, why)
        return
    with lab.stages.stage("trace", title, 2.0) as stage:
        if lab.api is not None and lab.api.stop is not None:
            lab.api.stop()  # a traced process writes its last lines when it ends
        else:
            time.sleep(2 * FLUSH_S)  # one that goes on, twice a second
        stages = lab.directory.read(Load).stages
        try:
            found = collect(folder, since=stages[0].started_at, until=stages[-1].ended_at)
        except DbperfError as e:
            lab.stages.note(f"no requests are joined with their statements: {e.message}")
            stage.detail = e.message
            return
        if not found.requests:
            stage.detail = f"{folder} has no request of the load"
            lab.stages.note(f"no requests are joined with their statements: {stage.detail}")
            return
        if (statements := lab.directory.maybe(Statements)) is not None:
            found = join(found, statements)
        lab.directory.write(found)
        count = sum(len(e.findings) for e in found.endpoints)
        stage.detail = f"{format_count(found.requests)} requests, {count} findings"


async def plans(lab: Lab) -> None:
    title = "Plan the top statements"
    if lab.conn is None:
        lab.stages.skip("plans", title, "no --dsn")
        return
    top = lab.directory.read(Statements).statements[: lab.options.top]
    with lab.stages.stage("plans", title, 2.0) as stage:
        found: list[StatementPlan] = []
        for statement in top:
            stage.update(f"{len(found) + 1} of {len(top)}")
            found.append(
                await explain_statement(
                    lab.conn, statement.text, queryid=statement.queryid, fingerprint=statement.fingerprint
                )
            )
        lab.directory.write(Plans(plans=found))
        failed = sum(p.plan is None for p in found)
        stage.detail = f"{len(found) - failed} plans" + (f"; {failed} statements have none" if failed else "")


async def advice(lab: Lab) -> None:
    title = "Advise on indexes"
    if lab.dsn is None or not lab.directory.has(Statements):
        lab.stages.skip("advice", title, "no --dsn")
        return
    if not lab.options.is_reference and not lab.directory.read(Statements).statements:
        lab.stages.skip("advice", title, "no statement ran")  # and no server need be started to plan none
        return
    with lab.stages.stage("advice", title, 3.0) as stage:
        try:
            # The reference tables' queries with limits count as well, and are planned where they will be measured.
            found = await (
                advise_with_queries(lab.directory, lab.fresh_dsn or lab.dsn)
                if lab.options.is_reference
                else advise_on(lab.directory, lab.dsn)
            )
        except DbperfError as e:
            # The run's figures are complete without advice; why there is none belongs into the report.
            lab.stages.note(f"no index advice: {e.message}" + (f" ({e.hint})" if e.hint else ""))
            stage.detail = e.message
            return
        lab.directory.write(found)
        stage.detail = advice_words(found)


def verdicts(lab: Lab) -> None:
    title = "Judge the service levels"
    if lab.api is None:
        lab.stages.skip("verdicts", title, "no load")
        return
    with lab.stages.stage("verdicts", title, 0.1) as stage:
        levels = [*lab.options.service_levels, *lab.api.suite.service_levels]
        load = lab.directory.read(Load)
        gates = judge_gates(load, [*lab.api.suite.gates, *lab.options.gates], lab.directory.maybe(Telemetry))
        judged = with_gates(judge(load, levels), gates)
        lab.directory.write(judged)
        if (found := capacity(load, levels)) is not None:
            lab.directory.write(found)
        stage.detail = verdict_words(judged)


def verdict_words(verdicts: Verdicts) -> str:
    count = {v: sum(level.verdict == v for level in verdicts.levels) for v in ("pass", "fail", "cant_tell")}
    for gate in verdicts.gates:
        count[gate.verdict] += 1
    if not verdicts.levels and not verdicts.gates:
        return "no service level is set"
    return f"{count['pass']} met, {count['fail']} missed, {count['cant_tell']} can't be told"
