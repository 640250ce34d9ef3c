"""Counters and sizes of the tables that do the most and the largest indexes; one bucket each for all others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import asyncpg
from prometheus_client.metrics_core import Metric

from dbperf.monitor.metrics import counter, gauge
from dbperf.monitor.top import OTHER, TopCounters
from dbperf.postgres.collect import collector
from dbperf.records.base import Record

BLOCK_BYTES = 8192
_TABLE_COUNTERS = (
    "seq_scans", "seq_rows_read", "index_scans", "index_rows_fetched", "rows_inserted", "rows_updated", "rows_deleted",
    "rows_hot_updated", "blks_hit", "blks_read", "vacuums", "analyzes",
)  # fmt: skip
_TABLE_GAUGES = ("size_bytes", "live_rows", "dead_rows")
_INDEX_COUNTERS = ("scans", "rows_read")
_INDEX_GAUGES = ("size_bytes",)


class Relation(Record, frozen=True, kw_only=True):
    """A table or an index at one moment."""

    name: tuple[str, ...]
    """Schema and table; of an index also its own name."""
    figures: dict[str, float]


class RelationsLook(Record, frozen=True, kw_only=True):
    """All tables and indexes by OID."""

    tables: dict[int, Relation]
    indexes: dict[int, Relation]


async def look_at_relations(conn: asyncpg.Connection) -> RelationsLook:
    """Reads the statistics of the database's own tables and indexes.

    Raises:
        asyncpg.PostgresError, OSError: the connection broke, or it took too long.
    """
    version = (conn.get_server_version().major,)
    tables = await conn.fetch(collector("tables", version))
    indexes = await conn.fetch(collector("indexes", version))
    return RelationsLook(
        tables={r["relid"]: _relation(r, ("schema", "relation"), _TABLE_COUNTERS + _TABLE_GAUGES) for r in tables},
        indexes={
            r["indexrelid"]: _relation(r, ("schema", "relation", "index"), _INDEX_COUNTERS + _INDEX_GAUGES)
            for r in indexes
        },
    )


def _relation(row: asyncpg.Record, name: tuple[str, ...], figures: tuple[str, ...]) -> Relation:
    return Relation(name=tuple(row[n] for n in name), figures={f: float(row[f] or 0) for f in figures})


class _Kind:
    """Tables, or indexes."""

    def __init__(self, prefix: str, top: int, counters: tuple[str, ...], gauges: tuple[str, ...], labels: int) -> None:
        self.prefix, self.counters, self.gauges, self.labels = prefix, counters, gauges, labels
        self.top: TopCounters[int] = TopCounters(top)
        self.last: dict[int, Relation] | None = None

    def add(self, now: dict[int, Relation], *, counting: bool) -> None:
        last, self.last = self.last, now
        # An empty look is one: what appears behind it is counted from its beginning.
        done = {} if last is None or not counting else {oid: self._done(last.get(oid), r) for oid, r in now.items()}
        self.top.keep(now)
        self.top.choose(self._weights(now, done, first=last is None))
        self.top.count(done)

    def _done(self, before: Relation | None, after: Relation) -> dict[str, float]:
        done = {c: after.figures[c] - (before.figures[c] if before else 0.0) for c in self.counters}
        # Lower values without a reset of the database's statistics are of this relation's own: it began again.
        return {c: after.figures[c] for c in self.counters} if min(done.values()) < 0 else done

    def _weights(
        self, now: dict[int, Relation], done: Mapping[int, Mapping[str, float]], *, first: bool
    ) -> dict[int, float]:
        """Tables by the blocks that they were asked for, until then by size; indexes by size."""
        if self.prefix == "index":
            return {oid: r.figures["size_bytes"] / BLOCK_BYTES for oid, r in now.items()}
        weights = {oid: d["blks_hit"] + d["blks_read"] for oid, d in done.items()}
        small = 1e-3 / BLOCK_BYTES
        return {
            oid: weights.get(oid, 0.0) + (r.figures["size_bytes"] * small if first else 0.0) for oid, r in now.items()
        }

    def families(self, database: str) -> Iterator[Metric]:
        now = self.last or {}
        bucket = [database, *[""] * (self.labels - 1), OTHER]
        for name in self.counters:
            family = counter(f"{self.prefix}_{name}")
            for oid, figures in self.top.members.items():
                family.add_metric([database, *now[oid].name], figures[name])
            family.add_metric(bucket, self.top.other[name])
            yield family
        for name in self.gauges:
            values = gauge(f"{self.prefix}_{name}")
            for oid in self.top.members:
                values.add_metric([database, *now[oid].name], now[oid].figures[name])
            rest = sum(r.figures[name] for oid, r in now.items() if oid not in self.top.members)
            values.add_metric(bucket, rest)
            yield values


class RelationCounters:
    """The `top` tables by blocks asked for and the `top` indexes by size have series of their own."""

    def __init__(self, top: int) -> None:
        self.tables = _Kind("table", top, _TABLE_COUNTERS, _TABLE_GAUGES, 2)
        self.indexes = _Kind("index", top, _INDEX_COUNTERS, _INDEX_GAUGES, 3)

    def add(self, now: RelationsLook, *, counting: bool = True) -> None:
        """The next look. `counting`: whether the statistics are those of the last look, gone on: neither reset nor
        another server's. The first look only says from where to count."""
        self.tables.add(now.tables, counting=counting)
        self.indexes.add(now.indexes, counting=counting)

    def families(self, database: str) -> Iterator[Metric]:
        """Metrics as of the last look; none before the first."""
        if self.tables.last is not None:
            yield from self.tables.families(database)
            yield from self.indexes.families(database)
