"""Counters per statement that only grow and whose number is bounded, from snapshots of pg_stat_statements (pure)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from dbperf.postgres.collect import is_own
from dbperf.postgres.session_text import masked_text
from dbperf.postgres.statement_difference import compare, differences, hidden_difference
from dbperf.postgres.statement_merge import Part
from dbperf.postgres.statements import Snapshot
from dbperf.records.statements import StatementKey

OTHER = "other"
TEXT_LIMIT = 200
FADE = 0.9
"""What a look keeps of the weight of earlier ones: at one look in 15 s, half after 1 min 40 s."""
LEAD = 2.0
"""A statement takes the place of a member when its weight is that many times the member's."""
FIGURES = (
    "calls", "seconds", "planning_seconds", "rows", "shared_blks_hit", "shared_blks_read", "shared_blks_written",
    "temp_blks_read", "temp_blks_written", "wal_bytes",
)  # fmt: skip


class StatementCounters:
    """The `top` statements by recent time, each with counters of its own, and one bucket for all others.

    A member stays until another statement has `LEAD` times its weight, so that two of equal weight don't take turns.
    What a statement did before it became a member was counted in the bucket and stays there; when it leaves, its
    counters end and what it does from then on goes to the bucket. Every increase is thus in exactly one place, and
    nothing ever falls: rates add up to the database's, values don't.
    """

    def __init__(self, top: int) -> None:
        self.top = top
        self.members: dict[int, Counter[str]] = {}
        """By queryid; over all users. Only statements that clients sent: what a function ran is in its caller."""
        self.other: Counter[str] = Counter()
        self.labels: dict[int, str] = {}
        """The members' texts, constants masked, on one line and cut; empty where this role may not see them."""
        self.texts: dict[StatementKey, str] = {}
        self.resets = self.restarts = self.replaced = self.lost = 0
        self.evictions: int | None = 0
        """None: the extension's version can't tell."""
        self.hidden = 0
        """Statements of other roles, active since the last look, that this role may not see."""
        self.last: Snapshot | None = None
        self._weights: dict[int, float] = {}

    def add(self, now: Snapshot) -> None:
        """The next look. The first one only says from where to count."""
        last, self.last = self.last, now
        self.texts.update(now.texts)
        self.texts = {key: text for key, text in self.texts.items() if key in now.entries}
        if last is None:
            return
        if _of_another_server(last, now):
            # What those statistics hold was not done since the last look: begin again, rather than count it as new.
            self.replaced += 1
            return
        changes = compare(last, now)
        self.resets += changes.reset
        self.restarts += changes.restarted
        known = self.evictions is not None and changes.evictions is not None
        self.evictions = (self.evictions or 0) + (changes.evictions or 0) if known else None
        if not changes.reset:
            self.lost += len(last.entries.keys() - now.entries.keys())
        done: dict[int, Counter[str]] = {}
        for key, part in differences(last, now, changes).items():
            if key.toplevel and not is_own(self.texts.get(key, "")):
                done.setdefault(key.queryid, Counter()).update(_figures(part))
        self._choose({queryid: figures["seconds"] for queryid, figures in done.items()})
        for queryid, figures in done.items():
            self.members.get(queryid, self.other).update(figures)
        texts = {key.queryid: text for key, text in self.texts.items()}
        self.labels = {q: self.labels.get(q) or _label(texts.get(q, "")) for q in self.members}
        self.hidden, ms, calls = hidden_difference(last, now)
        self.other.update({"seconds": max(0.0, ms) / 1000, "calls": max(0, calls)})

    def _choose(self, seconds: Mapping[int, float]) -> None:
        self._weights = {q: w * FADE for q, w in self._weights.items() if q in self.members or w > 1e-6}
        for queryid, s in seconds.items():
            self._weights[queryid] = self._weights.get(queryid, 0.0) + s
        waiting = sorted((q for q in seconds if q not in self.members), key=lambda q: (-self._weights[q], q))
        for queryid in waiting:
            if len(self.members) >= self.top:
                weakest = min(self.members, key=lambda q: (self._weights.get(q, 0.0), q))
                if self._weights[queryid] <= LEAD * self._weights.get(weakest, 0.0):
                    return
                del self.members[weakest]
            self.members[queryid] = Counter()


def _of_another_server(last: Snapshot, now: Snapshot) -> bool:
    """A failover, or a restored copy: statistics that began at another moment, and not since the last look."""
    if now.database_id != last.database_id:
        return True
    return now.reset_at is not None and now.reset_at != last.reset_at and now.reset_at < last.at


def _label(text: str) -> str:
    return " ".join(masked_text(text.encode()).split())[:TEXT_LIMIT]


def _figures(part: Part) -> dict[str, float]:
    return {
        "calls": part.calls,
        "seconds": part.total_ms / 1000,
        "planning_seconds": part.planning_ms / 1000,
        "rows": part.rows,
        "shared_blks_hit": part.shared_blks_hit,
        "shared_blks_read": part.shared_blks_read,
        "shared_blks_written": part.shared_blks_written,
        "temp_blks_read": part.temp_blks_read,
        "temp_blks_written": part.temp_blks_written,
        "wal_bytes": part.wal_bytes or 0,
    }
