"""Judges the indexes that exist: pure, over what `postgres.index_health` read.

No SQL is proposed for what carries a rule of the data: primary keys, unique indexes, constraints, replica identities.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from dbperf.indexes.ddl import concurrent_definition, drop_steps, index_name, qualified
from dbperf.indexes.health_compare import carries_rule, covers, rank, same, serves
from dbperf.indexes.health_partitions import missing_index_sql
from dbperf.postgres.index_health import ForeignKeyFacts, HealthFacts, IndexFacts, TableFacts
from dbperf.records.advice import quoted
from dbperf.records.index_health import IndexFinding, IndexHealth, ReplicaScans
from dbperf.units import format_bytes, format_count, format_share

_ORDER = ("invalid", "duplicate", "redundant", "unused", "bloated", "missing_on_foreign_key", "low_hot_share")
_UPDATES_LEAST = 1000
_HOT_SHARE_LOW = 0.5
_NEW_PAGE_SHARE = 0.2
_LEAF_TUPLE_HEADER, _LINE_POINTER, _PAGE_OVERHEAD = 8, 4, 40
"""itup.h, itemid.h; page header and B-tree special space."""
_CAUTION_UNUSED = "a new index looks unused too: PostgreSQL keeps no creation date"


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """From when on something is worth telling."""

    unused_days: float = 7.0
    """Shorter than this nobody can tell that an index is unused: it is told, without SQL."""
    bloat_share: float = 0.3
    bloat_bytes: int = 1 << 20
    foreign_key_rows: float = 1000.0
    """A referencing table with fewer rows is read as fast without an index."""


def judge_health(facts: HealthFacts, thresholds: Thresholds | None = None) -> IndexHealth:
    """All findings, by kind and then by what they free."""
    judge = _Judge(facts, thresholds or Thresholds())
    findings = judge.all()
    findings.sort(key=lambda f: (_ORDER.index(f.kind), -(f.reclaimable_bytes or 0), f.schema, f.table, f.index or ""))
    own = [i for i in facts.indexes if not i.partitioned]
    return IndexHealth(
        database=facts.database,
        server_version=facts.server_version,
        read_at=facts.now,
        stats_since=facts.counted_since,
        stats_reset_at=facts.stats_reset_at,
        stats_days=judge.days,
        replicas=sorted(facts.replica_scans),
        indexes=len(own),
        size_bytes=sum(i.size_bytes for i in own),
        findings=findings,
        notes=facts.notes,
    )


class _Judge:
    def __init__(self, facts: HealthFacts, thresholds: Thresholds) -> None:
        self.facts = facts
        self.thresholds = thresholds
        self.by_table: dict[int, list[IndexFacts]] = defaultdict(list)
        self.children: dict[int, list[IndexFacts]] = defaultdict(list)
        for i in facts.indexes:
            self.by_table[i.table_oid].append(i)
            if i.parent is not None:
                self.children[i.parent].append(i)
        since = facts.counted_since
        self.days = None if since is None else (facts.now - since).total_seconds() / 86400
        self.taken = {i.name for i in facts.indexes} | {t.name for t in facts.tables.values()}

    def all(self) -> list[IndexFinding]:
        unused = {i.oid: self._unused(i) for i in self.facts.indexes if self._is_unused(i)}
        found: list[IndexFinding] = []
        for indexes in self.by_table.values():
            found += self._superfluous(indexes, unused)
        gone = {(f.schema, f.index) for f in found}
        found += [f for f in unused.values() if (f.schema, f.index) not in gone]
        found += [self._invalid(i) for i in self.facts.indexes if not i.valid and not i.building]
        for i in self.facts.indexes:
            if (bloat := self._bloated(i)) is not None:
                found.append(bloat)
        found += [f for k in self.facts.foreign_keys if (f := self._foreign_key(k)) is not None]
        found += [f for t in self.facts.tables.values() if (f := self._hot(t)) is not None]
        return found

    # Unused

    def _total_size(self, i: IndexFacts) -> int:
        return sum(self._total_size(c) for c in self.children[i.oid]) if i.partitioned else i.size_bytes

    def _total_scans(self, i: IndexFacts) -> int | None:
        if not i.partitioned:
            return i.scans
        counts = [self._total_scans(c) for c in self.children[i.oid]]
        return None if not counts or None in counts else sum(c for c in counts if c is not None)

    def _replicas(self, i: IndexFacts) -> list[ReplicaScans]:
        return [
            ReplicaScans(replica=name, scans=scans.get((i.schema, i.name)))
            for name, scans in sorted(self.facts.replica_scans.items())
        ]

    def _is_unused(self, i: IndexFacts) -> bool:
        if not i.valid or i.parent is not None or carries_rule(i) or self._total_scans(i) != 0:
            return False
        parts = self.children[i.oid] if i.partitioned else [i]
        return not any(r.scans for p in parts for r in self._replicas(p))

    def _unused(self, i: IndexFacts) -> IndexFinding:
        since = self.facts.counted_since
        evidence = f"not used once since {_day(since)}" if since else "not used once since counting began"
        long_enough = True
        if self.days is None:
            evidence += "; no reset of the statistics is on record"
        else:
            evidence += f" ({self.days:.1f} days)"
            long_enough = self.days >= self.thresholds.unused_days
        if replicas := self._replicas(i):
            evidence += f", on {'its replica' if len(replicas) == 1 else f'{len(replicas)} replicas'} neither"
        cautions = [_CAUTION_UNUSED]
        if not replicas:
            cautions.append("replicas count for themselves (--replica)")
        if i.has_expressions:
            cautions.append("the planner takes statistics of its expression, also without using it")
        if not long_enough:
            cautions.insert(0, f"wait until {self.thresholds.unused_days:g} days are counted")
        return self._finding(
            "unused", i, evidence, caution="; ".join(cautions), replicas=replicas, drop=long_enough, reclaim=True
        )

    # Duplicate, redundant

    def _superfluous(self, indexes: list[IndexFacts], unused: dict[int, IndexFinding]) -> Iterable[IndexFinding]:
        gone: set[int] = {i.oid for i in indexes if i.oid in unused}
        # The narrowest go first, so that what covers one is never dropped for it later.
        for i in sorted(indexes, key=lambda i: (len(i.keys), rank(i), i.scans or 0, i.name)):
            if not i.valid or i.parent is not None or (i.oid in gone and i.oid not in unused):
                continue
            for other in sorted(indexes, key=lambda o: (len(o.keys), -rank(o), -(o.scans or 0), o.name)):
                if other is i or not other.valid or other.oid in gone:
                    continue
                if same(i, other):
                    gone.add(i.oid)
                    yield self._duplicate(i, other)
                    break
                if not carries_rule(i) and covers(other, i):
                    gone.add(i.oid)
                    evidence = f"{other.name} begins with the same keys, and serves whatever this one does"
                    if i.scans is not None and other.scans is not None:
                        evidence += f" ({format_count(i.scans)} and {format_count(other.scans)} scans)"
                    caution = None
                    if other.size_bytes > 2 * i.size_bytes > 0:
                        ratio = other.size_bytes / i.size_bytes
                        caution = f"{other.name} is {ratio:.1f} times as large: range scans read more pages of it"
                    yield self._finding("redundant", i, evidence, because_of=other.name, caution=caution, reclaim=True)
                    break

    def _duplicate(self, i: IndexFacts, other: IndexFacts) -> IndexFinding:
        evidence = f"{other.name} has the same keys, order, method and condition"
        if not carries_rule(i):
            return self._finding("duplicate", i, evidence, because_of=other.name, reclaim=True)
        what = f"the constraint {i.constraint}" if i.constraint else "a unique index"
        return self._finding(
            "duplicate", i, evidence, because_of=other.name, drop=False,
            caution=f"it backs {what}: drop that by hand, if nothing refers to it (ON CONFLICT, foreign keys)",
        )  # fmt: skip

    # Invalid

    def _invalid(self, i: IndexFacts) -> IndexFinding:
        if i.partitioned:
            return self._finding(
                "invalid", i, "an index of a partitioned table that lacks some partitions' indexes", drop=False,
                caution="create the missing ones concurrently and attach them (ALTER INDEX … ATTACH PARTITION)",
            )  # fmt: skip
        evidence = "left behind by a concurrent build that failed: no query uses it, every write keeps it up to date"
        if i.constraint or i.primary or i.replica_identity:
            up = [f"REINDEX INDEX CONCURRENTLY {qualified(i.schema, i.name)};"]
            return self._finding("invalid", i, evidence, up=up, caution="it backs a constraint, so it is rebuilt")
        caution = "make sure that no build is running, and build it anew if it is wanted"
        return self._finding("invalid", i, evidence, caution=caution, reclaim=True)

    # Bloat

    def _bloated(self, i: IndexFacts) -> IndexFinding | None:
        if i.method != "btree" or not i.valid or i.partitioned or i.size_bytes < self.thresholds.bloat_bytes:
            return None
        if i.density is not None:
            wasted = i.size_bytes * (1 - i.density / (i.fillfactor / 100))
            evidence = f"its leaf pages are {format_share(i.density)} full (measured), {i.fillfactor} % when built"
        else:
            needed = self._needed_bytes(i)
            if needed is None:
                return None
            wasted = i.size_bytes - needed
            evidence = f"{format_count(i.entries)} entries need at most {format_bytes(needed)} (estimated)"
        if wasted < self.thresholds.bloat_bytes or wasted < self.thresholds.bloat_share * i.size_bytes:
            return None
        up = [f"REINDEX INDEX CONCURRENTLY {qualified(i.schema, i.name)};"]
        room = format_bytes(i.size_bytes - wasted)
        caution = f"needs {room} of free space while it is rebuilt, and waits for old transactions"
        return self._finding(
            "bloated", i, evidence, up=up, caution=caution, reclaimable=round(wasted), exact=i.density is not None
        )

    def _needed_bytes(self, i: IndexFacts) -> float | None:
        """What a B-tree without merged duplicates takes: an upper bound, so that bloat is never overstated."""
        if i.entries <= 0 or i.width_bytes is None or not i.width_known:
            return None
        # Each column may be aligned, and the tuple is.
        columns = len(i.keys) + len(i.include)
        tuple_bytes = _LEAF_TUPLE_HEADER + -(-(i.width_bytes + 4 * columns) // 8) * 8 + _LINE_POINTER
        usable = (self.facts.block_bytes - _PAGE_OVERHEAD) * i.fillfactor / 100
        leaves = i.entries * tuple_bytes / usable
        return (leaves * 1.02 + 2) * self.facts.block_bytes

    # Foreign keys, HOT

    def _foreign_key(self, key: ForeignKeyFacts) -> IndexFinding | None:
        table, referenced = self.facts.tables.get(key.table_oid), self.facts.tables.get(key.referenced_oid)
        if table is None or referenced is None:
            return None
        if any(serves(i, key.columns) for i in self.by_table[table.oid]):
            return None
        rows, size = self._rows(table), self._size(table)
        if rows < self.thresholds.foreign_key_rows:
            return None
        evidence = f"no index begins with {', '.join(key.column_names)}: "
        changes = (referenced.deletes or 0) + (referenced.updates or 0)
        evidence += (
            f"each DELETE of a row of {referenced.name} reads all {format_count(rows)} rows"
            f" (deleted so far: {format_count(referenced.deletes or 0)})"
        )
        name = index_name(table.name, key.column_names, self.taken)
        columns = ", ".join(quoted(c) for c in key.column_names)
        create = f"CREATE INDEX {quoted(name)} ON {qualified(table.schema, table.name)} ({columns})"
        up = missing_index_sql(create, table, self.facts.tables.values())
        caution = None if changes else f"nothing was deleted from or changed in {referenced.name}: joins may need it"
        return IndexFinding(
            kind="missing_on_foreign_key", schema=table.schema, table=table.name, size_bytes=size,
            because_of=key.name, evidence=evidence, caution=caution, up_sql=up,
            down_sql=[f"{s};" for s in drop_steps(table.schema, name, partitioned=table.partitioned)],
        )  # fmt: skip

    def _parts(self, table: TableFacts) -> list[TableFacts]:
        if not table.partitioned:
            return [table]
        return [leaf for t in self.facts.tables.values() if t.parent == table.oid for leaf in self._parts(t)]

    def _rows(self, table: TableFacts) -> float:
        return sum(max(0.0, t.rows) for t in self._parts(table))

    def _size(self, table: TableFacts) -> int:
        return sum(t.size_bytes for t in self._parts(table))

    def _hot(self, table: TableFacts) -> IndexFinding | None:
        updates, hot = table.updates or 0, table.hot_updates or 0
        if updates < _UPDATES_LEAST or hot >= _HOT_SHARE_LOW * updates:
            return None
        evidence = f"{format_share(hot / updates)} of {format_count(updates)} updates were HOT"
        up: list[str] = []
        down: list[str] = []
        caution: str | None
        moved = table.new_page_updates
        if moved is not None and moved >= _NEW_PAGE_SHARE * updates and table.fillfactor > 90:
            evidence += f"; {format_share(moved / updates)} found no room on their page (fillfactor {table.fillfactor})"
            where = qualified(table.schema, table.name)
            up = [f"ALTER TABLE {where} SET (fillfactor = 90);"]
            down = [f"ALTER TABLE {where} RESET (fillfactor);"]
            caution = "it holds for pages written from now on; rewriting the table (VACUUM FULL) blocks it"
        else:
            names = ", ".join(i.name for i in self.by_table[table.oid] if not i.primary and i.method != "brin")
            evidence += "; the others change an indexed column" if moved is not None else ""
            caution = f"look which of these hold a column that UPDATE changes: {names or 'none but the primary key'}"
        return IndexFinding(
            kind="low_hot_share", schema=table.schema, table=table.name, size_bytes=table.size_bytes,
            evidence=evidence, caution=caution, up_sql=up, down_sql=down,
        )  # fmt: skip

    def _finding(
        self,
        kind: str,
        i: IndexFacts,
        evidence: str,
        *,
        because_of: str | None = None,
        caution: str | None = None,
        replicas: list[ReplicaScans] | None = None,
        drop: bool = True,
        reclaim: bool = False,
        reclaimable: int | None = None,
        up: list[str] | None = None,
        exact: bool = False,
    ) -> IndexFinding:
        down: list[str] = []
        if up is None:
            up = []
            if drop:
                up = [f"{s};" for s in drop_steps(i.schema, i.name, partitioned=i.partitioned)]
                down = [f"{i.definition if i.partitioned else concurrent_definition(i.definition)};"]
                if kind == "invalid":
                    down = []
                if i.partitioned:
                    extra = "a partitioned index is dropped as a whole, with a short exclusive lock on all partitions"
                    caution = f"{caution}; {extra}" if caution else extra
        size = self._total_size(i)
        return IndexFinding(
            kind=kind,  # type: ignore[arg-type] # every caller passes a literal of HealthKind
            schema=i.schema,
            table=i.table,
            index=i.name,
            size_bytes=size,
            reclaimable_bytes=reclaimable if reclaimable is not None else size if reclaim else None,
            scans=self._total_scans(i),
            last_scan_at=i.last_scan_at,
            replicas=replicas or [],
            because_of=because_of,
            exact=exact,
            evidence=evidence,
            caution=caution,
            up_sql=up,
            down_sql=down,
        )


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
