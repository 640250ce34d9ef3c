"""From a run directory to a `Report`: joins the documents, and says what is missing and why."""

from __future__ import annotations

from collections import defaultdict

from dbperf.errors import RecordError
from dbperf.records.advice import Advice
from dbperf.records.base import D, parse_document
from dbperf.records.capacity import Capacity
from dbperf.records.comparison import Comparison
from dbperf.records.flames import Flames
from dbperf.records.load import LatencyStretch, Load, LoadSecond
from dbperf.records.plans import Plans, StatementPlan
from dbperf.records.profile import ProfileSummary
from dbperf.records.proof import Proof
from dbperf.records.run import Manifest
from dbperf.records.rundir import RunDirectory
from dbperf.records.statements import Statement, Statements
from dbperf.records.telemetry import Telemetry
from dbperf.records.trace import Trace
from dbperf.records.verdicts import LevelVerdict, Verdicts
from dbperf.records.waits import Waits
from dbperf.report import distribution
from dbperf.report.changes import Against, changes
from dbperf.report.model import (
    EndpointReport,
    Environment,
    LoadReport,
    Missing,
    Report,
    StatementReport,
    StatementsReport,
)
from dbperf.report.quality import evidence_notes, gravest_first, quality_notes, resource_notes
from dbperf.report.resources import resources
from dbperf.report.words import verdict_words, worst

MAX_STATEMENTS = 1000
"""A page of more rows serves no reader; the rest is summed in one line."""

# Which stages of the main job a document comes from; the first that did not end well is the reason that it is missing.
_PARTS: dict[type, tuple[str, tuple[str, ...]]] = {
    Load: ("endpoints and latencies", ("load",)),
    Statements: ("statements", ("statements", "profile", "load")),
    Plans: ("plans", ("plans", "statements", "load")),
    Verdicts: ("service-level verdicts", ("verdicts", "load")),
    Trace: ("traced requests", ("trace",)),
    Flames: ("flame graphs", ("flames",)),
    Advice: ("index advice", ("advice", "advise", "indexes")),
    Proof: ("the proof of the index advice", ("proof",)),
    Waits: ("waits", ("waits", "profile")),
    ProfileSummary: ("the server's counters", ("profile",)),
    Telemetry: ("resources", ("telemetry",)),
    Capacity: ("capacity", ("verdicts",)),
    Comparison: ("the comparison with another run", ("compare",)),
}
_OPTIONAL = {Trace, Flames, Advice, Proof, Waits, ProfileSummary, Telemetry, Capacity, Comparison}
"""Not part of every run: their absence is worth a line only where a stage for them did not end well."""


class Documents:
    """The documents of a run that could be read, and the reasons for those that could not."""

    def __init__(self, run: RunDirectory, *, redact: bool) -> None:
        # As it reads from disk: a manifest in memory may hold 60 where the file gives 60.0, and the report's bytes must
        # not depend on who writes it.
        self.manifest = parse_document(Manifest, run.manifest.to_json(), source=Manifest.file_name)
        self.missing: list[Missing] = []
        self.load = self._read(run, Load)
        self.statements = self._read(run, Statements)
        self.plans = self._read(run, Plans)
        self.verdicts = self._read(run, Verdicts)
        self.trace = self._read(run, Trace)
        self.flames = self._read(run, Flames)
        self.advice = self._read(run, Advice)
        self.proof = self._read(run, Proof)
        self.waits = self._read(run, Waits)
        self.profile = self._read(run, ProfileSummary)
        self.telemetry = self._read(run, Telemetry)
        self.capacity = self._read(run, Capacity)
        self.comparison = self._read(run, Comparison)
        if redact:
            self._redact()

    def _redact(self) -> None:
        # The parser of PostgreSQL is loaded for those who redact only.
        from dbperf.report import redact as r
        from dbperf.report.redact_changes import redact_comparison
        from dbperf.report.redact_text import redact_prose

        self.manifest = r.redact_manifest(self.manifest)
        self.load = self.load and r.redact_load(self.load)
        self.statements = self.statements and r.redact_statements(self.statements)
        self.plans = self.plans and r.redact_plans(self.plans)
        self.trace = self.trace and r.redact_trace(self.trace)
        self.flames = self.flames and r.redact_flames(self.flames)
        self.advice = self.advice and r.redact_advice(self.advice)
        self.proof = self.proof and r.redact_proof(self.proof)
        self.waits = self.waits and r.redact_waits(self.waits)
        self.profile = self.profile and r.redact_profile(self.profile)
        self.telemetry = self.telemetry and r.redact_telemetry(self.telemetry)
        self.comparison = self.comparison and redact_comparison(self.comparison)
        self.missing = [Missing(part=m.part, reason=r.redact_url(redact_prose(m.reason))) for m in self.missing]

    def _read(self, run: RunDirectory, cls: type[D]) -> D | None:
        part, stages = _PARTS[cls]
        try:
            found = run.maybe(cls)
        except RecordError as e:
            # One damaged file must not hide what the others hold.
            # Without the folder: the report must not depend on where the run lies.
            message = e.message.replace(f"{run.path}/", "")
            self.missing.append(Missing(part=part, reason=message + (f" ({e.hint})" if e.hint else "")))
            return None
        wanted = cls not in _OPTIONAL or any(s.name in stages and s.status != "done" for s in run.manifest.stages)
        if found is None and wanted:
            self.missing.append(Missing(part=part, reason=_why_missing(run.manifest, stages)))
        return found


def _why_missing(manifest: Manifest, stages: tuple[str, ...]) -> str:
    ill = [s for s in manifest.stages if s.status in ("failed", "interrupted", "skipped")]
    for stage in sorted(ill, key=lambda s: s.name not in stages):
        if stage.name in stages or stage.status != "skipped":
            detail = f": {stage.detail}" if stage.detail else ""
            return (
                f"the stage “{stage.title}” was {stage.status}{detail}"
                if stage.status != "failed"
                else (f"the stage “{stage.title}” failed{detail}")
            )
    if manifest.status == "complete":
        return "it was not part of this run"
    return "the run had not come to it" if manifest.status == "running" else "the run ended before it"


def build_report(run: RunDirectory, *, redact: bool = False, against: Against | None = None) -> Report:
    """Everything the outputs show. Never fails for a part that is missing or damaged: the report says so instead.

    `redact` takes out literals, parameters, messages and names of places (see `dbperf.report.redact`). `against` is the
    other side of a comparison; without it, the one that `dbperf compare` left in the run is shown.
    """
    docs = Documents(run, redact=redact)
    m = docs.manifest
    if against is None and docs.comparison is not None:
        against = Against(name=docs.comparison.a.source, comparison=docs.comparison)
    elif against is not None and redact:
        from dbperf.report.redact_changes import redact_against

        against = redact_against(against)
    endpoints = _endpoints(docs) if docs.load else []
    statements = statements_report(docs.statements, docs.plans) if docs.statements else None
    load = _load(docs.load) if docs.load else None
    # Figures only: no statement of a blocked session goes further than this.
    used = resources(docs.telemetry) if docs.telemetry else None
    return Report(
        name=m.name,
        provenance=m.provenance,
        status=m.status,
        redacted=redact,
        started_at=m.started_at,
        ended_at=m.ended_at,
        command=m.command,
        verdict=verdict_words(m, docs.verdicts, load, endpoints, statements, docs.trace, docs.proof),
        load=load,
        endpoints=endpoints,
        levels=_other_levels(docs.verdicts, endpoints),
        statements=statements,
        gates=docs.verdicts.gates if docs.verdicts else [],
        trace=docs.trace,
        flames=docs.flames,
        advice=docs.advice,
        proof=docs.proof,
        waits=docs.waits,
        changes=changes(against, docs.statements, docs.plans, docs.flames) if against else None,
        profile=docs.profile,
        resources=used,
        capacity=docs.capacity,
        stages=m.stages,
        missing=docs.missing,
        notes=gravest_first(
            [
                *quality_notes(m, docs.load, docs.statements, docs.plans, docs.verdicts),
                *evidence_notes(docs.trace, docs.waits, docs.advice, docs.profile),
                *resource_notes(used, docs.telemetry),
            ]
        ),
        environment=Environment(
            host=m.host,
            server=m.server,
            target=m.target,
            load_profile=m.load_profile,
            git_revision=m.git_revision,
            dbperf_version=m.dbperf_version,
        ),
    )


def _load(load: Load) -> LoadReport:
    seconds = sum((s.ended_at - s.started_at).total_seconds() for s in load.stages)
    requests = sum(s.requests for s in load.stages)
    return LoadReport(
        suite=load.suite,
        url=load.url,
        started_at=load.started_at,
        ended_at=load.ended_at,
        complete=load.complete,
        requests=requests,
        errors=sum(s.errors for s in load.stages),
        requests_per_s=requests / seconds if seconds > 0 else None,
        stages=[s.name for s in load.stages],
        engine=load.generator.engine,
    )


def _endpoints(docs: Documents) -> list[EndpointReport]:
    assert docs.load is not None
    levels: dict[tuple[str, str], list[LevelVerdict]] = defaultdict(list)
    for level in docs.verdicts.levels if docs.verdicts else []:
        levels[level.endpoint, level.stage].append(level)
    seconds: dict[tuple[str, str], list[LoadSecond]] = defaultdict(list)
    for second in docs.load.seconds:
        seconds[second.endpoint, second.stage].append(second)
    stretches: dict[tuple[str, str], list[LatencyStretch]] = defaultdict(list)
    for stretch in docs.load.stretches:
        stretches[stretch.endpoint, stretch.stage].append(stretch)
    found: list[EndpointReport] = []
    for stage in docs.load.stages:
        for e in stage.endpoints:
            key = (e.name, stage.name)
            try:
                shape = distribution.bins(e.latency)
            except RecordError as error:
                docs.missing.append(Missing(part=f"latency distribution of {e.name}", reason=error.message))
                shape = []
            points, step = distribution.timeline(seconds[key])
            found.append(
                EndpointReport(
                    anchor=f"endpoint-{len(found) + 1}",
                    name=e.name,
                    stage=stage.name,
                    verdict=worst(v.verdict for v in levels[key]),
                    requests=e.requests,
                    requests_share=e.requests / stage.requests if stage.requests else 0.0,
                    requests_per_s=e.requests_per_s,
                    requests_per_s_ci=e.requests_per_s_ci,
                    unfinished=e.unfinished,
                    errors=e.errors,
                    error_rate=e.errors / e.requests if e.requests else None,
                    errors_by_kind=sorted(e.errors_by_kind, key=lambda k: (-k.count, k.kind)),
                    mean_ms=e.mean_ms,
                    min_ms=e.min_ms,
                    max_ms=e.max_ms,
                    quantiles=e.quantiles,
                    levels=levels[key],
                    distribution=shape,
                    timeline=points,
                    heat=distribution.heat(stretches[key]),
                    measured_from_s=(stage.started_at - docs.load.started_at).total_seconds(),
                    measured_to_s=(stage.ended_at - docs.load.started_at).total_seconds(),
                    timeline_step_s=step,
                )
            )
    return found


def _other_levels(verdicts: Verdicts | None, endpoints: list[EndpointReport]) -> list[LevelVerdict]:
    shown = {(e.name, e.stage) for e in endpoints}
    return [v for v in verdicts.levels if (v.endpoint, v.stage) not in shown] if verdicts else []


def statements_report(document: Statements, plans: Plans | None) -> StatementsReport:
    """The heaviest statements with their plans; those beyond `MAX_STATEMENTS` as a sum."""
    by_id: dict[int, StatementPlan] = {}
    by_fingerprint: dict[str, StatementPlan] = {}
    for p in plans.plans if plans else []:
        if p.queryid is not None:
            by_id.setdefault(p.queryid, p)
        if p.fingerprint:
            by_fingerprint.setdefault(p.fingerprint, p)
    ordered = sorted(document.statements, key=lambda s: (-s.total_ms, s.queryid))
    rest = ordered[MAX_STATEMENTS:]
    return StatementsReport(
        started_at=document.window.started_at,
        ended_at=document.window.ended_at,
        window_s=document.window.seconds,
        total_ms=document.total_ms,
        total_calls=document.total_calls,
        attributed_share=document.attributed_share,
        statements=[
            _statement(rank, s, by_id.get(s.queryid) or by_fingerprint.get(s.fingerprint))
            for rank, s in enumerate(ordered[:MAX_STATEMENTS], 1)
        ],
        left_out=len(rest),
        left_out_ms=sum(s.total_ms for s in rest),
    )


def _statement(rank: int, s: Statement, plan: StatementPlan | None) -> StatementReport:
    return StatementReport(
        anchor=f"statement-{rank}",
        rank=rank,
        queryid=str(s.queryid),
        fingerprint=s.fingerprint,
        text=s.text,
        user=s.user,
        database=s.database,
        calls=s.calls,
        calls_per_request=s.calls_per_request,
        total_ms=s.total_ms,
        share=s.share,
        planning_ms=s.planning_ms,
        mean_ms=s.mean_ms,
        max_ms=s.max_ms if s.min_max_of == "window" else None,
        stddev_ms=s.stddev_ms,
        rows_per_call=s.rows_per_call,
        hit_ratio=s.hit_ratio,
        shared_blks_hit=s.shared_blks_hit,
        shared_blks_read=s.shared_blks_read,
        temp_blks_written=s.temp_blks_written,
        blk_read_ms=s.blk_read_ms,
        wal_bytes=s.wal_bytes,
        merged=s.merged,
        note=s.validity_note,
        how=plan.how if plan else None,
        parameters=plan.parameters if plan else [],
        plan=plan.plan if plan else None,
        plan_error=plan.error if plan else None,
        findings=plan.findings if plan else [],
    )
