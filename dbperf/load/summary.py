"""A load in the forms that people and scripts read: JSON, text, Markdown, JUnit XML."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import msgspec

from dbperf.records.capacity import Capacity
from dbperf.records.load import EndpointLoad, Load, StageLoad
from dbperf.records.verdicts import GateVerdict, LevelVerdict, Verdict, Verdicts
from dbperf.units import MISSING, format_count, format_ms, format_share

MARKS: dict[Verdict, str] = {"pass": "pass", "fail": "FAIL", "cant_tell": "can't tell"}
_SHOWN = ((0.5, "p50_ms"), (0.9, "p90_ms"), (0.95, "p95_ms"), (0.99, "p99_ms"), (0.999, "p99_9_ms"))
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def as_json(load: Load, verdicts: Verdicts, capacity: Capacity | None, *, path: str) -> dict[str, Any]:
    """What `dbperf load --format json` prints."""
    return {
        "suite": load.suite,
        "url": load.url,
        "path": path,
        "complete": load.complete,
        "stages": [_stage_json(s) for s in load.stages],
        "levels": [msgspec.to_builtins(x) for x in verdicts.levels],
        "gates": [msgspec.to_builtins(g) for g in verdicts.gates],
        "generator": msgspec.to_builtins(load.generator),
        "capacity": msgspec.to_builtins(capacity) if capacity else None,
        "left_out": [msgspec.to_builtins(x) for x in load.left_out],
        "notes": load.notes,
        "verdict": verdicts.overall,
    }


def _stage_json(stage: StageLoad) -> dict[str, Any]:
    return {
        "name": stage.name,
        "model": stage.model,
        "users": stage.users,
        "arrival_rate": stage.arrival_rate_per_s,
        "start": stage.started_at.isoformat(),
        "end": stage.ended_at.isoformat(),
        "requests": stage.requests,
        "errors": stage.errors,
        "rps": stage.requests_per_s,
        "not_started": stage.not_started,
        "endpoints": [_endpoint_json(e) for e in stage.endpoints],
    }


def _endpoint_json(e: EndpointLoad) -> dict[str, Any]:
    quantiles = {q.q: q for q in e.quantiles}
    return {
        "name": e.name,
        "requests": e.requests,
        "errors": e.errors,
        "errors_by_kind": {x.kind: x.count for x in e.errors_by_kind},
        "unfinished": e.unfinished,
        "rps": e.requests_per_s,
        **{key: quantiles[q].value_ms if q in quantiles else None for q, key in _SHOWN},
        "max_ms": e.max_ms,
        "ci": {
            key: [quantiles[q].ci_low_ms, quantiles[q].ci_high_ms]
            for q, key in _SHOWN
            if q in quantiles and quantiles[q].value_ms is not None
        },
        "response_bytes": e.response_bytes,
    }


def rows(stage: StageLoad) -> list[list[str]]:
    """The table of a stage: a header and a line per endpoint."""
    table = [["endpoint", "requests", "errors", "req/s", "P50", "P95", "P99", "max"]]
    for e in stage.endpoints:
        quantiles = {q.q: q.value_ms for q in e.quantiles}
        shown = [format_ms(quantiles.get(q)) for q in (0.5, 0.95, 0.99)]
        errors = MISSING if not e.requests else format_share(e.errors / e.requests)
        table.append([e.name, format_count(e.requests), errors, f"{e.requests_per_s:.1f}", *shown, format_ms(e.max_ms)])
    return table


def title(stage: StageLoad) -> str:
    """ "50 users: 1,234 requests, 41.1/s, 0.2 % errors"."""
    share = stage.errors / stage.requests if stage.requests else 0.0
    text = f"{stage.name}: {format_count(stage.requests)} requests, {stage.requests_per_s:.1f}/s"
    text += f", {format_share(share)} errors"
    return text + (f", {format_count(stage.not_started)} not started" if stage.not_started else "")


def one_line(load: Load, verdicts: Verdicts) -> str:
    """The summary that ends a load in the terminal."""
    judged: list[LevelVerdict | GateVerdict] = [*verdicts.levels, *verdicts.gates]
    count = {v: sum(x.verdict == v for x in judged) for v in MARKS}
    requests = sum(s.requests for s in load.stages)
    errors = sum(s.errors for s in load.stages)
    text = f"{load.suite}: {MARKS[verdicts.overall]}" if judged else f"{load.suite}: nothing to judge"
    text += f" ({count['pass']} kept, {count['fail']} missed, {count['cant_tell']} can't be told)" if judged else ""
    text += f"; {format_count(requests)} requests, {format_share(errors / requests) if requests else MISSING} errors"
    return text + ("" if load.complete else "; cut short")


def capacity_lines(capacity: Capacity | None) -> list[str]:
    if capacity is None or capacity.usl is None:
        return []
    usl = capacity.usl
    lines = [
        f"capacity (Universal Scalability Law): {usl.lambda_per_s:.1f} requests/s of one user, "
        f"contention {format_share(usl.sigma)}, coherency {usl.kappa:.2g}, off by {format_share(usl.relative_error)}"
    ]
    if usl.knee is not None and usl.peak_per_s is not None:
        lines.append(f"  most throughput, {usl.peak_per_s:.1f}/s, at {usl.knee:.0f} users")
    if capacity.reason:
        lines.append(f"  {capacity.reason}")
    for b in capacity.breaking:
        where = f"breaks at {b.load:.0f} users" if b.load is not None else "does not break"
        lines.append(f"  {b.endpoint} {b.metric} {format_ms(b.limit_ms)}: {where} ({b.reason})")
    return lines


def markdown(
    load: Load, verdicts: Verdicts, capacity: Capacity | None, causes: Mapping[str, Sequence[str]] | None = None
) -> str:
    """For a pull request or a step summary. `causes`: stage to what its window shows (see `load.causes`)."""
    out = [f"## Load: {_cell(load.suite)}", "", _cell(one_line(load, verdicts)), ""]
    if verdicts.gates:
        out += ["| gate | verdict | reason |", "|---|---|---|"]
        out += [f"| `{g.expr.replace('|', '')}` | {MARKS[g.verdict]} | {_cell(g.reason)} |" for g in verdicts.gates]
        out.append("")
    if verdicts.levels:
        out += ["| stage | endpoint | limit | verdict | reason |", "|---|---|---|---|---|"]
        out += [
            f"| {_cell(v.stage)} | {_cell(v.endpoint)} | {v.metric} {v.limit:g} {v.unit} | {MARKS[v.verdict]} "
            f"| {_cell(v.reason)} |"
            for v in verdicts.levels
        ]
        out.append("")
    for name, sentences in (causes or {}).items():
        out += [f"In the window of {_cell(name)}:", "", *(f"- {_cell(text)}" for text in sentences), ""]
    for stage in load.stages:
        header, *lines = rows(stage)
        out += [f"### {_cell(title(stage))}", "", _row(header), "|---|" + "---:|" * (len(header) - 1)]
        out += [_row(line) for line in lines]
        out.append("")
    out += [f"- {_cell(line.strip())}" for line in [*capacity_lines(capacity), *load.notes]]
    if load.generator.saturated:
        out.append(f"- **The load generator was the bottleneck**: {_cell(load.generator.reason or '')}")
    return "\n".join(out).rstrip() + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _cell(text: str) -> str:
    return re.sub(r"([\\`*_<>|#])", r"\\\1", " ".join(text.split()))


def junit(load: Load, verdicts: Verdicts) -> str:
    """Each gate and service level a test case; "can't tell" is skipped, with the reason."""
    judged: list[tuple[str, str, str, Verdict]] = [("gates", g.expr, g.reason, g.verdict) for g in verdicts.gates]
    judged += [
        (f"{v.stage} {v.endpoint}", f"{v.metric} {v.limit:g} {v.unit}", v.reason, v.verdict) for v in verdicts.levels
    ]
    if not judged:
        judged = [("gates", "nothing to judge", "neither gates nor service levels are set", "cant_tell")]
    suite = ElementTree.Element(
        "testsuite",
        name=_clean(f"dbperf load {load.suite}"),
        timestamp=f"{load.started_at:%Y-%m-%dT%H:%M:%S}",
        time=f"{(load.ended_at - load.started_at).total_seconds():.3f}",
        tests=str(len(judged)),
        failures=str(sum(v == "fail" for *_, v in judged)),
        errors="0",
        skipped=str(sum(v == "cant_tell" for *_, v in judged)),
    )
    for group, name, reason, verdict in judged:
        case = ElementTree.SubElement(suite, "testcase", classname=_clean(group), name=_clean(name))
        if verdict == "fail":
            ElementTree.SubElement(case, "failure", type="gate", message=_clean(reason))
        elif verdict == "cant_tell":
            ElementTree.SubElement(case, "skipped", message=_clean(reason))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
