"""SQL for an index that is missing, on an ordinary or a partitioned table."""

from __future__ import annotations

from collections.abc import Iterable

from dbperf.indexes.ddl import create_steps, parse_create_index
from dbperf.postgres.index_catalog import Partition
from dbperf.postgres.index_health import TableFacts


def partitions_of(table: TableFacts, tables: Iterable[TableFacts]) -> tuple[Partition, ...]:
    """The partitions of a table, those of partitions below them."""
    everything = list(tables)
    return tuple(
        Partition(schema=t.schema, table=t.name, partitioned=t.partitioned, children=partitions_of(t, everything))
        for t in sorted(everything, key=lambda t: (t.schema, t.name))
        if t.parent == table.oid
    )


def missing_index_sql(create: str, table: TableFacts, tables: Iterable[TableFacts]) -> list[str]:
    """The statements that build an index concurrently, partition by partition where there are any."""
    parts = partitions_of(table, tables) if table.partitioned else None
    return [f"{s};" for s in create_steps(parse_create_index(create), parts)]
