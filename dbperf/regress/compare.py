"""Two sides, paired, checked for comparability, judged as one family."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec

from dbperf.errors import RecordError, UsageError, did_you_mean
from dbperf.records.comparison import (
    Accepted,
    Comparison,
    Measurement,
    MetricComparison,
    OverallVerdict,
    Side,
)
from dbperf.regress.conditions import FIELDS, differences, unknown
from dbperf.regress.judge import Question, Rules, decide, examine
from dbperf.regress.metrics import METRICS, fits, service_of


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One side, as read from a source."""

    side: Side
    measurements: list[Measurement]
    accepted: list[Accepted] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def compare(
    a: Figures, b: Figures, rules: Rules, *, ignore: Collection[str] = (), now: datetime | None = None
) -> Comparison:
    """What changed from A to B.

    Args:
        a, b: both sides.
        rules: services, tolerances, chances.
        ignore: conditions that may differ on request (see `conditions.FIELDS`); provenance is not among them.
        now: for accepted exceptions, which expire.

    Raises:
        UsageError: `ignore` names no condition.
        RecordError: a side names the same measurement twice.
    """
    for name in ignore:
        if name not in FIELDS:
            raise UsageError(f"{name!r} is no condition of a figure", hint=did_you_mean(name, FIELDS))
    now = now or datetime.now(UTC)
    notes = [*(f"A: {n}" for n in a.notes), *(f"B: {n}" for n in b.notes)]
    pairs, lonely = _paired(a, b)
    several = len({m.stage for m in b.measurements if m.stage}) > 1
    if a.side.kind == "baseline":  # it may know more stages and benchmarks than one run measures
        measured = {m.stage for m in b.measurements} | {one.stage for one, _ in pairs}
        unasked = [m for m, side in lonely if side == "A" and m.stage not in measured]
        lonely = [(m, side) for m, side in lonely if not (side == "A" and m.stage not in measured)]
        if unasked:
            stages = ", ".join(sorted({m.stage or "benchmarks" for m in unasked}))
            notes.append(f"the baseline also knows {len(unasked)} measurements that B did not make ({stages})")
    questions: list[Question] = []
    metrics: list[MetricComparison] = []
    untold: set[str] = set()
    for one, other in pairs:
        label = _label(other, several)
        found = differences(one.conditions, other.conditions)
        blocking = {k: v for k, v in found.items() if k not in ignore}
        if blocking:
            metrics += _not_comparable(one, other, label, "; ".join(blocking.values()))
            continue
        notes += [f"{label}: compared on request although conditions differ: {v}" for v in found.values()]
        untold |= set(unknown(one.conditions, other.conditions))
        service = service_of(other.subject, rules.services)
        questions += examine(one, other, label=label, service=service, rules=rules)
    for missing, side in lonely:
        reason = f"only in {side}"
        metrics.append(_single(missing, _label(missing, several), reason, on_a=side == "A"))
    if untold:
        notes.append(f"only one side tells its {', '.join(sorted(untold))}: that they agree is taken on trust")
    judged = decide(questions, rules)
    metrics = with_accepted([*judged, *metrics], [*a.accepted, *b.accepted], now, notes)
    return Comparison(
        verdict=overall(metrics),
        compared_at=now,
        a=a.side,
        b=b.side,
        family=sum(q.effect is not None and q.gate for q in questions),
        alpha=rules.alpha,
        metrics=metrics,
        notes=list(dict.fromkeys(notes)),
    )


def overall(metrics: Sequence[MetricComparison]) -> OverallVerdict:
    """Fail if any gating metric got worse; not comparable if none could be compared; can't tell if any is open."""
    gating = [m for m in metrics if m.gate and m.accepted is None]
    if any(m.verdict == "worse" for m in gating):
        return "fail"
    if all(m.verdict == "not_comparable" for m in metrics):
        return "not_comparable"
    if any(m.verdict == "cant_tell" for m in gating):
        return "cant_tell"
    return "pass"


def _paired(a: Figures, b: Figures) -> tuple[list[tuple[Measurement, Measurement]], list[tuple[Measurement, str]]]:
    """Measurements of the same endpoint in the same stage; stages pair by name, else by load, else if only one is
    left on each side."""
    stages = _stage_pairs(a.measurements, b.measurements)
    ours, theirs = _by_key(a), _by_key(b)
    pairs, used = [], set()
    lonely: list[tuple[Measurement, str]] = []
    for (stage, subject), one in ours.items():
        key = (stages.get(stage, stage), subject)
        if key in theirs:
            pairs.append((one, theirs[key]))
            used.add(key)
        else:
            lonely.append((one, "A"))
    lonely += [(m, "B") for key, m in theirs.items() if key not in used]
    return pairs, lonely


def _by_key(figures: Figures) -> dict[tuple[str | None, str], Measurement]:
    found: dict[tuple[str | None, str], Measurement] = {}
    for m in figures.measurements:
        key = (m.stage, m.subject)
        if key in found:
            where = f" in stage {m.stage!r}" if m.stage else ""
            raise RecordError(f"{figures.side.source} names {m.subject!r} twice{where}")
        found[key] = m
    return found


def _stage_pairs(a: Sequence[Measurement], b: Sequence[Measurement]) -> dict[str | None, str | None]:
    def stages(measurements: Sequence[Measurement]) -> dict[str | None, tuple[int | None, float | None]]:
        return {m.stage: (m.conditions.users, m.conditions.arrival_rate_per_s) for m in measurements}

    ours, theirs = stages(a), stages(b)
    pairs: dict[str | None, str | None] = {s: s for s in ours if s in theirs}
    for same_load in (True, False):
        left = [s for s in ours if s not in pairs]
        right = [s for s in theirs if s not in pairs.values()]
        if same_load:
            for s in left:
                same = [t for t in right if theirs[t] == ours[s] and t not in pairs.values()]
                if len(same) == 1:
                    pairs[s] = same[0]
        elif len(left) == len(right) == 1:
            pairs[left[0]] = right[0]
    return pairs


def _label(m: Measurement, several: bool) -> str:
    return f"{m.subject} [{m.stage}]" if several and m.stage else m.subject


def _not_comparable(a: Measurement, b: Measurement, label: str, reason: str) -> list[MetricComparison]:
    """The figures of both sides, shown beside each other without a ratio."""
    found = []
    for name in ("p50", "p95", "p99", "errors", "requests_per_s"):
        metric = METRICS[name]
        va, vb = _shown(a, name), _shown(b, name)
        if va is None and vb is None:
            continue
        found.append(
            MetricComparison(
                name=f"{label} {name}",
                subject=b.subject,
                stage=b.stage,
                metric=name,
                kind=metric.kind,
                unit=metric.unit,
                direction=metric.direction,
                a=va,
                b=vb,
                tolerance="–",
                evidence="summary",
                verdict="not_comparable",
                gate=False,
                reason=reason,
            )
        )
    return found or [_single(b, label, reason, on_a=False)]


def _single(m: Measurement, label: str, reason: str, *, on_a: bool) -> MetricComparison:
    value = _shown(m, "p95")
    return MetricComparison(
        name=f"{label} p95", subject=m.subject, stage=m.stage, metric="p95", kind="latency", unit="ms",
        direction="lower", a=value if on_a else None, b=None if on_a else value, tolerance="–", evidence="summary",
        verdict="not_comparable", gate=False, reason=reason,
    )  # fmt: skip


def _shown(m: Measurement, name: str) -> float | None:
    if name == "errors":
        return m.errors / m.requests if m.errors is not None and m.requests else None
    if name == "requests_per_s":
        return m.requests_per_s
    q = METRICS[name].q
    return next((x.value_ms for x in m.quantiles if q is not None and abs(x.q - q) < 1e-9), None)


def with_accepted(
    metrics: Sequence[MetricComparison], accepted: Sequence[Accepted], now: datetime, notes: list[str]
) -> list[MetricComparison]:
    """Marks what a person accepted; what has expired is noted and gates again."""
    valid = [x for x in accepted if x.until >= now.date()]
    notes += [f"the exception for {x.metric} expired on {x.until}" for x in accepted if x not in valid]
    marked = []
    for m in metrics:
        exception = next((x for x in valid if fits(m.name, x.metric)), None)
        marked.append(msgspec.structs.replace(m, accepted=exception) if exception and m.verdict == "worse" else m)
    return marked
