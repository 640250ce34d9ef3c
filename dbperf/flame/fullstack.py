"""Endpoint -> Python frames -> statement -> plan nodes, in milliseconds of wall time of a mean request.

The trace says how long a request took and what of it were statements and waits for a connection; samples say which
Python frames were on the CPU; plans say which node a statement's time went to. What none of them explains is a box of
its own. The parts add up to the request's measured time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dbperf.flame.ops import Builder, focus, rebuilt, total, weighted
from dbperf.records.plans import Plan, PlanNode, StatementPlan
from dbperf.records.stacks import Frame, Stacks
from dbperf.records.trace import EndpointTrace, TraceStatement

UNATTRIBUTED = Frame(
    name="unattributed: other awaits, the event loop, frames that were not sampled", kind="unattributed"
)
SCALED = "plan nodes are scaled: their shares are the plan's, the sum is the statement's measured time"


def full_stack(
    endpoint: EndpointTrace,
    *,
    samples: Stacks | None = None,
    alone: bool = False,
    plans: Sequence[StatementPlan] = (),
    requests: int | None = None,
) -> Stacks:
    """The full-stack profile of one endpoint's mean request.

    Args:
        samples: a CPU profile in milliseconds (py-spy without --idle, or the sampler) taken while requests ran.
        alone: only this endpoint was called meanwhile: all samples are its own. Else those are that pass its handler.
        plans: plans of its statements, found by fingerprint.
        requests: how many of its requests the samples cover; without it, samples are scaled to the time that the
            trace calls Python's, and marked so.
    """
    builder = Builder()
    root = Frame(name=endpoint.route, kind="endpoint")
    notes = [SCALED] if plans else []
    mean = endpoint.per_request
    by_fingerprint = {p.fingerprint: p.plan for p in plans if p.fingerprint and p.plan is not None}
    listed_ms = sum(s.total_ms for s in endpoint.statements) / endpoint.requests
    # COMMIT and the like are in sql_ms, statements that overlap count once in it.
    other_ms = max(0.0, mean.sql_ms - listed_ms)
    shrink = min(1.0, mean.sql_ms / listed_ms) if listed_ms else 0.0
    if shrink < 0.98:
        notes.append("statements ran at the same time: their times are scaled to the wall time that they took together")
    for s in endpoint.statements:
        _statement(builder, root, s, s.total_ms / endpoint.requests * shrink, by_fingerprint.get(s.fingerprint or ""))
    if other_ms:
        commit_ms = min(other_ms, endpoint.commit_ms / endpoint.requests)
        builder.add((root, Frame(name="COMMIT", kind="sql")), commit_ms)
        builder.add((root, Frame(name="BEGIN, ROLLBACK, prepare, reset", kind="sql")), other_ms - commit_ms)
    if mean.pool_wait_ms:
        builder.add((root, Frame(name="wait for a connection", kind="wait")), mean.pool_wait_ms)
    left = mean.python_ms
    if samples is not None:
        left -= _python(builder, root, endpoint, samples, alone, requests, mean.python_ms, notes)
    if left > 0:
        builder.add((root, UNATTRIBUTED), left)
    return builder.build(name=endpoint.route, source="fullstack", unit="ms", notes=notes)


def _statement(builder: Builder, root: Frame, s: TraceStatement, ms: float, plan: Plan | None) -> None:
    path = [root]
    if s.source:
        file, _, line = s.source.rpartition(":")
        path.append(Frame(name=s.function or file, file=file, line=int(line) if line.isdigit() else None, kind="await"))
    path.append(Frame(name=" ".join(s.text.split()), kind="sql"))
    parts = _plan_parts(plan) if plan is not None else []
    whole = sum(value for _, value in parts)
    if not whole:
        builder.add(path, ms)
        return
    # The server's share of the client's time; the rest is the network's and the driver's, at the statement itself.
    server_ms = min(ms, s.server_ms * ms / s.total_ms) if s.server_ms and s.total_ms else ms
    for nodes, value in parts:
        builder.add((*path, *nodes), value / whole * server_ms)
    if ms > server_ms:
        builder.add(path, ms - server_ms)


def _plan_parts(plan: Plan) -> list[tuple[tuple[Frame, ...], float]]:
    """Paths of nodes with their own time where it was measured, else their own cost."""
    parts: list[tuple[tuple[Frame, ...], float]] = []
    measured = plan.root.self_ms is not None

    def own(node: PlanNode) -> float:
        if measured:
            return max(0.0, node.self_ms or 0.0)
        return max(0.0, (node.total_cost or 0.0) - sum(c.total_cost or 0.0 for c in node.children))

    todo: list[tuple[PlanNode, tuple[Frame, ...]]] = [(plan.root, ())]
    while todo:
        node, above = todo.pop()
        name = node.node_type
        if node.index_name:
            name += f" using {node.index_name}"
        if node.relation:
            name += f" on {node.relation}"
        path = (*above, Frame(name=name, kind="plan"))
        parts.append((path, own(node)))
        todo.extend((c, path) for c in node.children)
    return parts


def _python(
    builder: Builder, root: Frame, endpoint: EndpointTrace, samples: Stacks, alone: bool, requests: int | None,
    python_ms: float, notes: list[str],
) -> float:  # fmt: skip
    """Adds the samples below the endpoint; returns how much of a mean request they explain."""
    own = below_the_loop(samples) if alone else focus_handler(samples, endpoint.handler)
    seen = total(own)
    if not seen:
        notes.append("no sample passed the endpoint's function: its Python time is unattributed")
        return 0.0
    per_request = seen / requests if requests else python_ms
    if requests is None:
        notes.append("Python frames are scaled to the time that the trace leaves for Python")
    elif per_request > python_ms:
        notes.append("Python frames are scaled: samples said more than the trace leaves for Python")
        per_request = python_ms
    for path, value, _ in weighted(own):
        builder.add((root, *path), value / seen * per_request)
    return per_request


def below_the_loop(samples: Stacks) -> Stacks:
    """Without the frames that start a server and run its event loop: they are the same in every stack."""

    def cut(path: tuple[Frame, ...]) -> tuple[Frame, ...]:
        at = max((i for i, f in enumerate(path) if _runs_a_callback(f)), default=-1)
        return path[at + 1 :] or path[-1:]

    return rebuilt(samples, cut)


def _runs_a_callback(f: Frame) -> bool:
    return f.name.endswith("_run") and f.file is not None and f.file.endswith("asyncio/events.py")


def focus_handler(samples: Stacks, handler: str | None) -> Stacks:
    """The stacks that pass an endpoint's function ("file:line function"), from there on."""
    if not handler:
        return focus(samples, lambda _f: False)
    place, _, function = handler.rpartition(" ")
    file = place.rpartition(":")[0]
    names = {function, function.rpartition(".")[2]}
    return focus(
        samples,
        lambda f: f.name in names and f.file is not None and (f.file == file or Path(file).match(f.file.lstrip("/"))),
    )
