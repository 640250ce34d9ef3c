"""Who blocked whom, for how long: waits for locks over all samples, drawn as chains (pure)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dbperf.postgres.wait_totals import Names, Row, ms_between, session_of
from dbperf.records.waits import BlockedSession, BlockingChain, Session

CHAINS = 20
Wait = tuple[int, datetime | None]
"""A wait's identity: who waits, and since when (pg_locks.waitstart)."""


class _Edge:
    """One session that waits for another."""

    def __init__(self, row: Row, session: Session, blocker: int) -> None:
        self.blocker = blocker
        self.session = session
        self.lock_type: str | None = row["lock_type"]
        self.lock_mode: str | None = row["lock_mode"]
        self.relation: str | None = row["relation"]
        self.started_at: datetime | None = row["wait_started_at"]
        self.last_at: datetime = row["at"]
        self.waited_ms = 0.0
        self.ended = False


class _Chain:
    """A root and the waits seen below it."""

    def __init__(self, root: Session, at: datetime, *, cycle: bool) -> None:
        self.root = root
        self.first_at = self.last_at = at
        self.cycle = cycle
        self.edges: dict[tuple[Wait, int], _Edge] = {}


class Blocking:
    """Adds one look at the locks after the other; `chains` draws what was seen."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._chains: dict[tuple[int, datetime | None, bool], _Chain] = {}
        self._current: dict[tuple[Wait, int], list[_Edge]] = {}

    def add(self, rows: Sequence[Row]) -> None:
        """One look: rows of sql/collect/activity_locks, none where nobody waits."""
        seen: dict[tuple[Wait, int], list[_Edge]] = {}
        by_pid = {row["pid"]: row for row in rows}
        blocked_by = {
            pid: [int(b) for b in row["blocked_by"].split(",")] for pid, row in by_pid.items() if row["blocked_by"]
        }
        for root in _roots(blocked_by):
            chain = self._chain(root, by_pid, cycle=root in blocked_by)
            for waiter, blocker in _below(root, blocked_by):
                row = by_pid[waiter]
                key = ((waiter, row["wait_started_at"]), blocker)
                edge = chain.edges.get(key)
                if edge is None:
                    edge = chain.edges[key] = _Edge(row, session_of(row, self._names), blocker)
                edge.last_at = row["at"]
                edge.relation = edge.relation or row["relation"]
                edge.waited_ms = max(edge.waited_ms, ms_between(edge.started_at, row["at"]) or 0.0)
                seen.setdefault(key, []).append(edge)
        for key, edges in self._current.items():
            if key not in seen:
                for edge in edges:
                    edge.ended = True
        self._current = seen
        if len(self._chains) > 20 * CHAINS:
            kept = sorted(self._chains.items(), key=lambda i: -_longest(i[1]))[: 2 * CHAINS]
            self._chains = dict(kept)

    def _chain(self, root: int, by_pid: Mapping[int, Row], *, cycle: bool) -> _Chain:
        row = by_pid.get(root)
        at = next(iter(by_pid.values()))["at"]
        session = session_of(row, self._names) if row is not None else Session(pid=root)
        chain = self._chains.setdefault(
            (root, row["xact_start"] if row is not None else None, cycle), _Chain(session, at, cycle=cycle)
        )
        chain.root, chain.last_at = session, at
        return chain

    def chains(self) -> list[BlockingChain]:
        """Chains, the one with the longest wait first."""
        drawn = [_draw(c) for c in self._chains.values()]
        return sorted(drawn, key=lambda c: (-c.longest_wait_ms, c.root.pid))[:CHAINS]


def _roots(blocked_by: Mapping[int, list[int]]) -> list[int]:
    """Blockers that wait for nobody; of a circle nobody outside blocks, the lowest pid."""
    roots = sorted({b for blockers in blocked_by.values() for b in blockers} - blocked_by.keys())
    reached = {waiter for root in roots for waiter, _ in _below(root, blocked_by)}
    for pid in sorted(blocked_by):
        if pid not in reached:
            roots.append(pid)
            reached |= {waiter for waiter, _ in _below(pid, blocked_by)} | {pid}
    return roots


def _below(root: int, blocked_by: Mapping[int, list[int]]) -> list[tuple[int, int]]:
    """Pairs of waiter and blocker that hang below a root, blockers before those they block.

    Who waits in a queue is blocked by the holder and by everybody before it in the queue. It is drawn below the one
    that is itself furthest from the root, so that a queue looks like a queue. In a circle the nearest comes first.
    """
    distance = {root: 0}
    order = [root]
    for blocker in order:
        for waiter, blockers in blocked_by.items():
            if blocker in blockers and waiter not in distance:
                distance[waiter] = distance[blocker] + 1
                order.append(waiter)
    depth = {root: 0}
    pairs = []
    left = order[1:]
    while left:
        ready = [w for w in left if all(b in depth for b in blocked_by[w] if b in distance)]
        waiter = (ready or [w for w in left if any(b in depth for b in blocked_by[w])])[0]
        blocker = max((b for b in blocked_by[waiter] if b in depth), key=lambda b: (depth[b], -b))
        depth[waiter] = depth[blocker] + 1
        pairs.append((waiter, blocker))
        left.remove(waiter)
    return pairs


def _longest(chain: _Chain) -> float:
    return max((e.waited_ms for e in chain.edges.values()), default=0.0)


def _draw(chain: _Chain) -> BlockingChain:
    edges = list(chain.edges.values())
    drawn: set[int] = set()

    def below(pid: int, path: frozenset[int]) -> list[BlockedSession]:
        found = []
        for edge in edges:
            if edge.blocker != pid or id(edge) in drawn or edge.session.pid in path:
                continue
            drawn.add(id(edge))
            found.append(
                BlockedSession(
                    session=edge.session,
                    lock_type=edge.lock_type,
                    lock_mode=edge.lock_mode,
                    relation=edge.relation,
                    started_at=edge.started_at,
                    waited_ms=edge.waited_ms,
                    ended=edge.ended,
                    blocked=below(edge.session.pid, path | {edge.session.pid}),
                )
            )
        return sorted(found, key=lambda b: (-b.waited_ms, b.session.pid))

    blocked = below(chain.root.pid, frozenset({chain.root.pid}))
    pids = {e.session.pid for e in edges} | {chain.root.pid}
    waits: dict[Wait, float] = {}
    for (wait, _), edge in chain.edges.items():
        waits[wait] = max(waits.get(wait, 0.0), edge.waited_ms)
    return BlockingChain(
        root=chain.root,
        first_seen_at=chain.first_at,
        last_seen_at=chain.last_at,
        longest_wait_ms=_longest(chain),
        total_wait_ms=sum(waits.values()),
        sessions=len(pids),
        depth=1 + _depth(blocked),
        cycle=chain.cycle,
        blocked=blocked,
    )


def _depth(blocked: list[BlockedSession]) -> int:
    return max((1 + _depth(b.blocked) for b in blocked), default=0)
