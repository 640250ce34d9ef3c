"""Looks before anything is changed: what of a script is needed, done already, to be repaired, or impossible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from dbperf.errors import ServerError, StatementError
from dbperf.indexes.ddl import CreateIndex, qualified
from dbperf.indexes.script import Step
from dbperf.postgres.index_build import (
    LIKE_TABLE,
    NameState,
    canonical_definition,
    definition_part,
    free_bytes,
    name_state,
    old_transactions,
    table_state,
    writable,
)
from dbperf.units import format_bytes

Need = Literal["run", "already", "repair", "wait"]
_OLD_TRANSACTION_S = 60.0
_SORT_SPACE = 1.2
"""A build writes the index, and may sort it on disk before."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What a step needs at this moment."""

    step: Step
    need: Need
    note: str | None = None
    builder: int | None = None
    on: tuple[str, str] | None = None
    """The table, where its lock can be asked for beforehand: an ordinary table."""


async def check_server(conn: asyncpg.Connection[Any]) -> str | None:
    """Refuses a server on which no index can be built; returns its data folder where the role may know it.

    Raises:
        ServerError: a standby, or read-only, or temporary tables are not allowed.
    """
    found = await writable(conn)
    if found["standby"]:
        raise ServerError("this server is a replica: indexes are built on its primary", hint="give the primary's DSN")
    if found["read_only"]:
        raise ServerError(
            "this database or role is read-only (default_transaction_read_only)", hint="give a role that may write"
        )
    if not found["may_temp"]:
        raise ServerError(
            "this role may not create temporary tables, with which definitions are compared",
            hint=f"GRANT TEMPORARY ON DATABASE {found['database']} TO …",
        )
    folder: str | None = found["data_directory"]
    return folder


async def look(
    conn: asyncpg.Connection[Any],
    step: Step,
    *,
    source: str,
    own_names: Set[tuple[str, str]],
    undoing: Mapping[tuple[str, str], CreateIndex] | None = None,
) -> Planned:
    """What a step needs now.

    Args:
        source: the file, for messages.
        own_names: indexes that are needed under their own names: those that the script attaches later, and all that it
            restores. For others the same index under another name will do.
        undoing: of down.sql, what up.sql built by schema and name: only that is dropped.

    Raises:
        ServerError: it can't be done: table or column gone, name taken, not the owner.
    """
    try:
        if step.create is not None:
            return await _look_create(conn, step, step.create, own_names)
        if step.kind == "drop":
            return await _look_drop(conn, step, undoing or {})
    except (ServerError, StatementError) as e:
        raise ServerError(f"{source}, line {step.line}: {e.message}", hint=e.hint) from e
    return Planned(step=step, need="run")


async def _look_create(
    conn: asyncpg.Connection[Any], step: Step, create: CreateIndex, own_names: Set[tuple[str, str]]
) -> Planned:
    where = qualified(create.schema, create.table)
    table = await table_state(conn, create.schema, create.table)
    if table is None:
        raise ServerError(f"the table {where} is gone", hint="take the index out of the file, or ask for new advice")
    if not table.owned:
        raise ServerError(
            f"{where} belongs to {table.owner}, and {table.role} may not build indexes on it",
            hint=f"connect as {table.owner}, or SET ROLE for this user",
        )
    on = (create.schema, create.table) if table.kind == "r" else None
    definition = await _definition(conn, create)
    state = await name_state(conn, step.schema, step.name)
    if state is None:
        same = [n for n, d in table.indexes.items() if definition_part(d) == definition]
        if same and (step.schema, step.name) not in own_names and step.kind == "create":
            return Planned(step=step, need="already", note=f"{same[0]} is the same index")
        return Planned(step=step, need="run", on=on)
    _check_name(step, create, state, definition)
    if state.builder is not None:
        return Planned(step=step, need="wait", builder=state.builder, note=_builds(state.builder))
    if state.valid or step.kind == "create_parent":
        return Planned(step=step, need="already")
    return Planned(step=step, need="repair", note="an invalid index of a failed build was removed first", on=on)


def _builds(pid: int) -> str:
    return f"pid {pid} builds it right now"


def _check_name(step: Step, create: CreateIndex, state: NameState, definition: str) -> None:
    if not state.is_index:
        raise ServerError(f"{step.where} is a table or view already", hint="give the index another name in the file")
    if state.table != (create.schema, create.table):
        on = qualified(*state.table) if state.table else "something else"
        raise ServerError(f"{step.where} is an index of {on} already", hint="give the index another name in the file")
    # An invalid one of another definition is somebody's failed build, too, but not ours to remove.
    if definition_part(state.definition) != definition:
        raise ServerError(
            f"{step.where} exists with another definition: {definition_part(state.definition)}",
            hint="drop or rename it if it is not wanted, or give the index another name in the file",
        )


async def _look_drop(
    conn: asyncpg.Connection[Any], step: Step, undoing: Mapping[tuple[str, str], CreateIndex]
) -> Planned:
    state = await name_state(conn, step.schema, step.name)
    if state is None:
        return Planned(step=step, need="already", note="it is gone")
    if not state.is_index or state.table is None:
        raise ServerError(f"{step.where} is no index")
    table = await table_state(conn, *state.table)
    if table is not None and not table.owned:
        raise ServerError(f"{step.where} belongs to {table.owner}", hint=f"connect as {table.owner}")
    built = undoing.get((step.schema, step.name))
    if built is not None and state.table != (built.schema, built.table):
        raise ServerError(f"{step.where} is an index of another table than up.sql says", hint="look at it by hand")
    if built is not None and definition_part(state.definition) != await _definition(conn, built):
        raise ServerError(
            f"{step.where} is not what up.sql built: {definition_part(state.definition)}",
            hint="somebody replaced it; drop it by hand if that is wanted",
        )
    if state.builder is not None:
        return Planned(step=step, need="wait", builder=state.builder, note=_builds(state.builder))
    return Planned(step=step, need="run", on=state.table if table is not None and table.kind == "r" else None)


async def _definition(conn: asyncpg.Connection[Any], create: CreateIndex) -> str:
    sql = create.sql(name=LIKE_TABLE + "_index", on=("", LIKE_TABLE), concurrently=False)
    return await canonical_definition(conn, (create.schema, create.table), sql)


async def surroundings(
    conn: asyncpg.Connection[Any], planned: Sequence[Planned], *, data_directory: str | None, local: bool, needed: int
) -> list[str]:
    """Notes on what will make it slow.

    Args:
        needed: bytes of the indexes that will be built, as estimated.

    Raises:
        ServerError: the disk has too little space.
    """
    if not any(p.need in ("run", "repair") for p in planned):
        return []
    notes = []
    free = free_bytes(data_directory, local=local)
    if needed and free is None:
        notes.append(f"free disk space can't be seen from here; about {format_bytes(needed * _SORT_SPACE)} are needed")
    elif free is not None and free < needed * _SORT_SPACE:
        raise ServerError(
            f"the disk has {format_bytes(free)} free, and about {format_bytes(needed * _SORT_SPACE)} are needed",
            hint="make room, or take the largest index out of the file",
        )
    for one in await old_transactions(conn, _OLD_TRANSACTION_S):
        notes.append(f"{one}: a concurrent build waits for it")
    return notes
