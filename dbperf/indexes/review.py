"""review.md: what a DBA wants to know of each index change before signing it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dbperf.indexes.ddl import qualified
from dbperf.plans.tree import label, walk
from dbperf.records.advice import Advice, Recommendation
from dbperf.records.plans import Plan
from dbperf.records.proof import IndexChange, IndexProof, StatementProof
from dbperf.units import format_bytes, format_count, format_ms, format_ratio, format_seconds, format_share

_READ_BYTES_PER_S = 100 << 20
"""Of a cautious disk; a concurrent build reads the table twice and writes the index once."""
_ALTERNATIVES = 8


def review(
    changes: Sequence[IndexChange],
    *,
    advice: Advice | None = None,
    proofs: Sequence[IndexProof] = (),
    table_bytes: dict[tuple[str, str], int] | None = None,
    notes: Sequence[str] = (),
) -> str:
    """The document in Markdown.

    Args:
        changes: in the order in which they are made.
        advice: gives costs, gains and alternatives.
        proofs: give measured times, sizes and plans.
        table_bytes: sizes of tables by schema and name, for the estimate of build times.
        notes: what was left out, and why.
    """
    recommended = {(r.schema, r.name): r for r in advice.recommendations} if advice else {}
    proved = {(p.schema, p.name): p for p in proofs}
    lines = ["# Index changes to review", "", *_summary(changes), ""]
    for n, change in enumerate(changes, 1):
        key = (change.schema, change.name)
        lines += [f"## {n}. {_title(change)}", "", f"{change.reason[:1].upper()}{change.reason[1:]}.", ""]
        lines += ["```sql", *(f"{s};" for s in change.up_sql), "```", ""]
        if change.action == "create":
            lines += _created(change, recommended.get(key), proved.get(key), advice, table_bytes or {})
        else:
            lines += _other(change)
    if left := list(_left_out(advice, proofs, notes)):
        lines += ["## Considered, and not done", "", *left, ""]
    return "\n".join(lines).rstrip() + "\n"


def _summary(changes: Sequence[IndexChange]) -> list[str]:
    lines = ["| | change | on | size | gain |", "|---:|---|---|---:|---:|"]
    for n, c in enumerate(changes, 1):
        sign = "−" if c.action == "drop" else "+"
        size = "–" if c.size_bytes is None else f"{sign}{format_bytes(c.size_bytes)}"
        gain = format_share(c.gain) if c.gain is not None else "–"
        lines.append(f"| {n} | {c.action} `{c.name}` | `{qualified(c.schema, c.table)}` | {size} | {gain} |")
    return lines


def _title(change: IndexChange) -> str:
    verb = {"create": "Create", "drop": "Drop", "set": "Change settings of"}[change.action]
    return f"{verb} `{qualified(change.schema, change.name)}`"


def _created(
    change: IndexChange,
    r: Recommendation | None,
    proof: IndexProof | None,
    advice: Advice | None,
    table_bytes: dict[tuple[str, str], int],
) -> list[str]:
    lines: list[str] = []
    served = _served(change, advice, proof)
    if served:
        lines += ["| statement | calls | share | cost before | after | measured before | after | ratio |",
                  "|---|---:|---:|---:|---:|---:|---:|---:|", *served, ""]  # fmt: skip
    for s in (proof.statements if proof else [])[:3]:
        if s.plan_before and s.plan_after and s.uses_index:
            lines += [f"Plan of `{s.id}` before:", "", "```", *_plan(s.plan_before), "```", "", "and after:", ""]
            lines += ["```", *_plan(s.plan_after), "```", ""]
    size = f"- **Size**: {format_bytes(change.size_bytes)}"
    if proof and proof.size_bytes is not None and proof.estimated_bytes is not None:
        size += f" as built; {format_bytes(proof.estimated_bytes)} was estimated"
    lines.append(size)
    lines.append(_writes(r, proof, advice))
    lines.append(_locks(change))
    lines.append(_build_time(change, proof, table_bytes))
    lines += [f"- **Risk**: {risk}" for risk in _risks(r)]
    lines += [
        f"- **Watch**: idx_scan of `{change.name}` in pg_stat_user_indexes grows; the statements' mean times in"
        " pg_stat_statements fall; `dbperf indexes` tells if nobody uses it",
        "- **Undo**: " + "; ".join(f"`{s}`" for s in change.down_sql),
        "",
    ]
    return lines


def _served(change: IndexChange, advice: Advice | None, proof: IndexProof | None) -> list[str]:
    costs = {s.id: s for s in advice.statements} if advice else {}
    total = sum(s.calls * s.cost_before for s in costs.values()) or 1.0
    measured: dict[str, StatementProof] = {s.id: s for s in proof.statements} if proof else {}
    rows = []
    for id_ in change.statements:
        c, m = costs.get(id_), measured.get(id_)
        cells = [f"`{id_}`"]
        if c:
            share = format_share(c.calls * c.cost_before / total)
            cells += [format_count(c.calls), share, format_count(c.cost_before), format_count(c.cost_after)]
        else:
            cells += ["–"] * 4
        if m and m.ratio is not None:
            interval = format_ratio(m.ratio)
            if m.ratio_low is not None:
                interval += f" ({format_ratio(m.ratio_low)} to {format_ratio(m.ratio_high)})"
            cells += [format_ms(m.before_ms), format_ms(m.after_ms), interval]
        else:
            cells += ["–"] * 3
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _plan(plan: Plan) -> list[str]:
    depth = {plan.root.node_id: 0}
    lines = []
    for node in walk(plan.root):
        for child in node.children:
            depth[child.node_id] = depth[node.node_id] + 1
        d = depth[node.node_id]
        cost = "" if node.total_cost is None else f"  (cost {node.total_cost:,.0f}, rows {node.plan_rows:,.0f}"
        if cost:
            actual = node.actual_rows is not None and node.total_ms is not None
            cost += f"; actual rows {node.actual_rows:,.0f}, {format_ms(node.total_ms)})" if actual else ")"
        lines.append(f"{'  ' * d}{'-> ' if d else ''}{label(node)}{cost}")
    return lines


def _writes(r: Recommendation | None, proof: IndexProof | None, advice: Advice | None) -> str:
    if proof and proof.write_cost_ratio is not None:
        return f"- **Write cost**: writes to the table took {proof.write_cost_ratio:.2f} times as long (measured)"
    if r and advice and advice.cost_before:
        share = format_share(r.write_cost / advice.cost_before)
        return f"- **Write cost**: {share} of the workload's cost (estimated)"
    return "- **Write cost**: not known"


def _locks(change: IndexChange) -> str:
    if any("ON ONLY" in s for s in change.up_sql):
        return (
            "- **Locks**: SHARE on the partitioned table for an instant (writes wait), then for each partition"
            " SHARE UPDATE EXCLUSIVE while its index is built (reads and writes go on), and ACCESS EXCLUSIVE on that"
            " index for an instant when it is attached"
        )
    return (
        "- **Locks**: SHARE UPDATE EXCLUSIVE on the table while it is built: reads and writes go on, VACUUM, ANALYZE"
        " and other DDL wait. Twice it waits for older transactions to end"
    )


def _build_time(change: IndexChange, proof: IndexProof | None, table_bytes: dict[tuple[str, str], int]) -> str:
    if proof and proof.build_s is not None:
        return f"- **Build time**: {format_seconds(proof.build_s)} where it was verified"
    size = table_bytes.get((change.schema, change.table))
    if size is None:
        return "- **Build time**: not estimated"
    seconds = (2 * size + 2 * (change.size_bytes or 0)) / _READ_BYTES_PER_S
    return (
        f"- **Build time**: about {format_seconds(seconds)} at 100 MB/s"
        f" (the table, {format_bytes(size)}, is read twice), plus the waits"
    )


def _risks(r: Recommendation | None) -> Iterator[str]:
    if r and r.blocks_hot_updates:
        yield "UPDATE changes one of its columns: those updates stop being HOT, and write all indexes of the table"
    if r and r.method in ("hnsw", "ivfflat"):
        yield "it is approximate: answers may lack rows that an exact search finds"
    if r and r.method == "hash":
        yield "it serves equality only"
    yield (
        "if the build fails it leaves an invalid index, which every write maintains and no query uses:"
        " `dbperf apply` removes it and tries again"
    )


def _other(change: IndexChange) -> list[str]:
    if change.action == "drop":
        partitioned = not any("CONCURRENTLY" in s for s in change.up_sql)
        locks = (
            "ACCESS EXCLUSIVE on the table and its partitions for an instant; lock_timeout bounds the wait"
            if partitioned
            else "SHARE UPDATE EXCLUSIVE on the table; it waits for transactions that may use the index"
        )
        undo = "; ".join(f"`{s}`" for s in change.down_sql) or "nothing: it was invalid"
        return [
            f"- **Frees**: {format_bytes(change.size_bytes)}",
            f"- **Locks**: {locks}",
            "- **Risk**: a statement that ran rarely, or on a replica only, may have used it",
            "- **Watch**: the mean times in pg_stat_statements of statements on the table",
            f"- **Undo**: {undo}",
            "",
        ]
    undo = "; ".join(f"`{s}`" for s in change.down_sql)
    return ["- **Locks**: SHARE UPDATE EXCLUSIVE on the table for an instant", f"- **Undo**: {undo}", ""]


def _left_out(advice: Advice | None, proofs: Sequence[IndexProof], notes: Sequence[str]) -> Iterator[str]:
    for p in proofs:
        if p.verdict != "keep":
            yield f"- `{p.create_sql}`: {p.verdict.replace('_', ' ')}, {p.reason}"
    for note in notes:
        yield f"- {note}"
    if advice:
        candidates = [x for x in advice.rejected if x.sql and x.statement is None]
        for x in candidates[:_ALTERNATIVES]:
            yield f"- `{x.sql}`: {x.reason}"
        if (more := len(candidates) - _ALTERNATIVES) > 0:
            yield f"- {more} further candidates, see advice.json"
