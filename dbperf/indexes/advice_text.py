"""An advice for people: plain text for a terminal, Markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbperf.records.advice import OVER_LIMITS, Advice
from dbperf.units import format_bytes, format_seconds, format_share

_BARS = 40
_SKIPPED_MOST = 20


def as_text(advice: Advice) -> str:
    return "\n".join(_text(advice)) + "\n"


def _text(advice: Advice) -> Iterator[str]:
    yield _summary(advice)
    for n, r in enumerate(advice.recommendations, 1):
        yield ""
        yield f"{n}. {r.create_sql}"
        yield f"   gain {format_share(r.gain)}, {format_bytes(r.size_bytes)}; {r.reason}"
        if r.blocks_hot_updates:
            yield "   an UPDATE of the workload changes its columns: it can't be a HOT update any more"
    if not advice.recommendations:
        yield ""
        yield _none(advice)
    if len(advice.curve) > 1:
        yield ""
        yield "cost against size (each line is the best set of that size)"
        most = max(p.cost for p in advice.curve) or 1.0
        for p in advice.curve:
            bar = "#" * max(1, round(p.cost / most * _BARS))
            yield f"  {format_bytes(p.size_bytes):>9}  {format_share(p.cost / most):>6}  {bar}"
    if advice.redundant:
        yield ""
        yield "indexes that others make superfluous"
        for x in advice.redundant:
            yield f"  {x.sql}  -- {x.reason}"
    yield from _otherwise(advice)
    yield from _listed(f"skipped: {len(advice.skipped)} statements", [f"{s.id}: {s.reason}" for s in advice.skipped])


def _otherwise(advice: Advice) -> Iterator[str]:
    """What helps instead of an index, and which statements get none."""
    if advice.statistics:
        yield ""
        yield "extended statistics: a wrong estimate is the cause, not a missing index"
        for e in advice.statistics:
            yield f"  {e.create_sql}"
            yield f"    {', '.join(e.statements) or 'a plan'}: {e.reason}"
    yield from _listed("write otherwise: no index mends these", _rewrites(advice))
    unserved = _unserved(advice)
    yield from _listed(f"no index for {len(unserved)} statements", unserved)


def _none(advice: Advice) -> str:
    if any(x.reason == OVER_LIMITS for x in advice.rejected):
        return "No index that helps fits the budget or the limits: see the curve for what one needs."
    return "No index is worth its size and maintenance for this workload."


def _rewrites(advice: Advice) -> list[str]:
    return [
        f"{w.statement}{f' ({w.source})' if w.source and w.source != w.statement else ''}: {w.reason}"
        + (f": {' '.join(w.sql.split())}" if w.sql else "")
        for w in advice.rewrites
    ]


def _unserved(advice: Advice) -> list[str]:
    return [f"{x.statement}: {x.reason}" for x in advice.rejected if x.statement is not None]


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines[:_SKIPPED_MOST])
        if len(lines) > _SKIPPED_MOST:
            yield f"  and {len(lines) - _SKIPPED_MOST} more (see --format json)"


def _summary(advice: Advice) -> str:
    share = advice.cost_after / advice.cost_before if advice.cost_before else 1.0
    budget = "" if advice.budget_bytes is None else f" of {format_bytes(advice.budget_bytes)}"
    return (
        f"{len(advice.recommendations)} indexes, {format_bytes(advice.size_bytes)}{budget}: estimated cost falls to "
        f"{format_share(share)} ({len(advice.statements)} statements, {advice.what_if_calls} what-if calls, "
        f"{format_seconds(advice.elapsed_s)})"
    )


def as_markdown(advice: Advice) -> str:
    lines = [f"**{_summary(advice)}**", ""]
    if advice.recommendations:
        lines += ["| index | gain | size | why |", "|---|---:|---:|---|"]
        for r in advice.recommendations:
            cells = (f"`{r.create_sql}`", format_share(r.gain), format_bytes(r.size_bytes), r.reason)
            lines.append(f"| {' | '.join(c.replace('|', chr(92) + '|') for c in cells)} |")
    else:
        lines.append(_none(advice))
    if advice.statistics:
        lines += ["", "**Extended statistics** (a wrong estimate is the cause, not a missing index)", ""]
        lines += [f"- `{e.create_sql}` – {e.reason}" for e in advice.statistics]
    for title, found in (
        ("**Write otherwise** (no index mends these)", _rewrites(advice)),
        (f"No index for {len(_unserved(advice))} statements.", _unserved(advice)),
    ):
        if found:
            lines += ["", title, "", *(f"- {x}" for x in found[:_SKIPPED_MOST])]
    if advice.skipped:
        lines += ["", f"Skipped: {len(advice.skipped)} statements."]
        lines += [f"- {s.id}: {s.reason}" for s in advice.skipped[:_SKIPPED_MOST]]
    return "\n".join(lines) + "\n"
