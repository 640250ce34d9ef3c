"""Data quality: what happened that weakens a figure, and which one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from dbperf.records.advice import NO_TABLE, Advice
from dbperf.records.load import Load
from dbperf.records.plans import Plans
from dbperf.records.profile import ProfileSummary
from dbperf.records.run import Manifest
from dbperf.records.statements import Statements
from dbperf.records.telemetry import Telemetry
from dbperf.records.trace import Trace
from dbperf.records.verdicts import Verdicts
from dbperf.records.waits import Waits
from dbperf.report.model import Note, ResourcesReport
from dbperf.units import format_count, format_ms, format_share

LOW_ATTRIBUTION = 0.9
"""Below this share of the database's active time in statements, the ranking may miss what matters."""
MISSED_SAMPLES = 0.05
BUSY_MACHINE = 0.9
STEAL = 0.05
GAP_MS = 1000.0
"""Between two samples of the sessions; what began and ended inside was not seen."""
LAG_MS = 100.0
BURSTS = 2.0
"""A design effect of so much is worth a word: half of the requests told nothing new."""


def quality_notes(
    manifest: Manifest, load: Load | None, statements: Statements | None, plans: Plans | None, verdicts: Verdicts | None
) -> list[Note]:
    """Notes from the documents that every run should have; empty where nothing weakens a figure."""
    notes = [*_manifest(manifest)]
    if load:
        notes += _load(load)
    if statements:
        notes += _statements(statements)
    if plans and (failed := [p for p in plans.plans if p.plan is None]):
        what = "statement has" if len(failed) == 1 else "statements have"
        notes.append(Note(about="plans", text=f"{len(failed)} {what} no plan; each says why"))
    if verdicts and verdicts.unchecked:
        names = ", ".join(verdicts.unchecked)
        notes.append(Note(about="service levels", text=f"no service level is set for {names}"))
    return notes


def gravest_first(notes: Iterable[Note]) -> list[Note]:
    """Critical notes, warnings, the rest; otherwise in the order given."""
    order = {"critical": 0, "warning": 1, "info": 2}
    return sorted(notes, key=lambda n: order[n.severity])


def evidence_notes(
    trace: Trace | None, waits: Waits | None, advice: Advice | None, profile: ProfileSummary | None
) -> list[Note]:
    """Notes about the parts that not every run has."""
    notes = []
    if profile:
        text = f"its own queries took {format_share(profile.collectors.share)} of one processor in the window"
        notes.append(Note(about="dbperf", text=text))
    if trace:
        if not trace.complete:
            text = "the traced process was killed or lost events; requests are missing"
            notes.append(Note(about="traced requests", text=text, severity="warning"))
        notes += [Note(about="traced requests", text=text) for text in trace.notes]
    if waits:
        if waits.sampler.missed_share > MISSED_SAMPLES:
            text = f"{format_share(waits.sampler.missed_share)} of the samples were missed: shares of waits are rough"
            notes.append(Note(about="waits", text=text, severity="warning"))
        if waits.sampler.longest_gap_ms is not None and waits.sampler.longest_gap_ms > GAP_MS:
            gap = format_ms(waits.sampler.longest_gap_ms)
            text = f"for {gap} no sample was taken: waits that began and ended in it were not seen"
            notes.append(Note(about="waits", text=text, severity="warning"))
        notes += [Note(about="waits", text=text) for text in waits.notes]
    if advice:
        if not advice.complete:
            text = "the search was ended early; the set is the best found until then"
            notes.append(Note(about="indexes", text=text))
        if skipped := sum(s.reason != NO_TABLE for s in advice.skipped):
            text = f"{format_count(skipped)} statements could not be looked at"
            notes.append(Note(about="indexes", text=text))
        notes += [Note(about="indexes", text=text) for text in advice.notes]
    return notes


def resource_notes(used: ResourcesReport | None, telemetry: Telemetry | None) -> list[Note]:
    """A machine that was busy to the brim, or taken away, measured itself."""
    notes = []
    if used and used.machine_cpu_share_mean > BUSY_MACHINE:
        text = (
            f"the machine's processors were busy {format_share(used.machine_cpu_share_mean)} of the time: latencies"
            " include waiting for a processor, whoever used it"
        )
        notes.append(Note(about="latencies", text=text, severity="warning"))
    if used and used.steal_share_max > STEAL:
        text = f"the hypervisor took up to {format_share(used.steal_share_max)} of the processors away"
        notes.append(Note(about="latencies", text=text, severity="warning"))
    return notes + [Note(about="resources", text=text) for text in (telemetry.notes if telemetry else [])]


def _manifest(manifest: Manifest) -> list[Note]:
    notes = []
    if manifest.provenance != "measured":
        notes.append(
            Note(about="all figures", text=f"the data is {manifest.provenance}, not measured", severity="critical")
        )
    return notes + [Note(about="run", text=text, severity="warning") for text in manifest.notes]


def _load(load: Load) -> list[Note]:
    notes = []
    if not load.complete:
        text = "the load was cut short; latencies are of the requests that ended until then"
        notes.append(Note(about="load", text=text, severity="warning"))
    g = load.generator
    if g.saturated:
        text = f"the load generator was saturated, so latencies include its own delays{_because(g.reason)}"
        notes.append(Note(about="latencies", text=text, severity="critical"))
    if g.loop_lag_max_ms is not None and g.loop_lag_max_ms > LAG_MS:
        text = (
            f"the load generator was up to {format_ms(g.loop_lag_max_ms)} late: that much may be its own in the slowest"
        )
        notes.append(Note(about="latencies", text=text, severity="warning"))
    if g.late_starts:
        text = f"{format_count(g.late_starts)} requests started later than scheduled"
        notes.append(Note(about="latencies", text=text, severity="warning"))
    for stage in load.stages:
        for e in stage.endpoints:
            if (effect := max((q.design_effect for q in e.quantiles), default=1.0)) >= BURSTS:
                text = f"slow requests came in bursts: intervals are as wide as with {effect:.2g} times fewer requests"
                notes.append(Note(about=e.name, text=text))
            if e.unfinished:
                text = (
                    f"{format_count(e.unfinished)} requests had not ended when the load did; they count as the slowest"
                )
                notes.append(Note(about=e.name, text=text))
    notes += [Note(about="load", text=text) for text in load.notes]
    notes += [Note(about=x.endpoint, text=f"was not called: {x.reason}") for x in load.left_out]
    return notes + _too_few(load)


def _too_few(load: Load) -> list[Note]:
    """One note per percentile, not one per endpoint: with ten endpoints they would bury the rest."""
    where: dict[float, list[str]] = defaultdict(list)
    for stage in load.stages:
        for e in stage.endpoints:
            for q in e.quantiles:
                if e.requests and (q.value_ms is None or q.ci_low_ms is None or q.ci_high_ms is None):
                    where[q.q].append(e.name if len(load.stages) == 1 else f"{e.name} ({stage.name})")
    notes = []
    for share, names in sorted(where.items()):
        some = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        notes.append(Note(about=f"P{share * 100:g}", text=f"too few requests for a value or an interval of {some}"))
    return notes


def _because(reason: str | None) -> str:
    return f" ({reason})" if reason else ""


def _statements(statements: Statements) -> list[Note]:
    v = statements.validity
    notes = []
    if v.reset:
        text = "pg_stat_statements was reset in the window; times before the reset are lost"
        notes.append(Note(about="statements", text=text, severity="critical"))
    if v.restarted:
        text = "the server restarted in the window"
        notes.append(Note(about="statements", text=text, severity="critical"))
    if v.evictions:
        times = f"entries were evicted {format_count(v.evictions)} times"
        text = f"{times}; rare statements may be missing (raise pg_stat_statements.max)"
        notes.append(Note(about="statements", text=text, severity="warning"))
    if v.lost_statements:
        text = f"{format_count(v.lost_statements)} statements were thrown out in the window; what they did is unknown"
        notes.append(Note(about="statements", text=text, severity="warning"))
    if v.invalid_statements:
        text = f"the figures of {format_count(v.invalid_statements)} statements cover only a part of the window"
        notes.append(Note(about="statements", text=text, severity="warning"))
    if v.clock_change_s is not None:
        text = f"the server's clock was set by {v.clock_change_s:.1f} s in the window"
        notes.append(Note(about="statements", text=text, severity="warning"))
    if v.hidden_statements:
        hidden = f"{format_count(v.hidden_statements)} statements of other roles are hidden"
        text = f"{hidden} ({format_ms(v.hidden_ms)}; grant pg_read_all_stats)"
        notes.append(Note(about="statements", text=text, severity="warning"))
    if (share := statements.attributed_share) is not None and share < LOW_ATTRIBUTION:
        text = f"the statements account for {format_share(share)} of the database's active time"
        notes.append(Note(about="statements", text=text, severity="warning"))
    return notes + [Note(about="statements", text=text) for text in v.notes]
