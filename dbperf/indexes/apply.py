"""Runs up.sql or down.sql on a live server so that nothing is half done, or the next run repairs it.

Each statement looks first at what is there (see `apply_checks`), so that running a file again continues where it
stopped. A lock is asked for in short tries with growing pauses: whoever waits for a lock holds up those behind. A
concurrent build does not: its lock lets reads and writes pass, so once the table is free it may wait for older
transactions as long as the caller allows. An invalid index that a failed build leaves is removed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from dbperf.errors import UsageError
from dbperf.indexes.apply_checks import Planned, check_server, surroundings
from dbperf.indexes.apply_steps import APPLICATION, Applier, ApplyOptions, Event, worker
from dbperf.indexes.ddl import CreateIndex
from dbperf.indexes.migration_files import sha256
from dbperf.indexes.script import Script, read_script
from dbperf.postgres.connect import connected, mask_dsn
from dbperf.postgres.dsn import resolve
from dbperf.records.base import read_document
from dbperf.records.proof import Applied, AppliedStatement, Migration

__all__ = ["ApplyOptions", "apply"]


async def apply(
    folder: Path, dsn: str, *, down: bool = False, options: ApplyOptions | None = None, on_event: Event | None = None
) -> Applied:
    """Makes (or undoes) the changes of a migration folder.

    A failure after the first change does not raise: the result is not `complete`, its `error` says what happened and
    how to go on, and the statements say how far it came.

    Raises:
        UsageError: the folder holds no such file.
        StatementError: the file holds something that is no index change.
        ServerError: something makes the changes impossible; nothing was changed.
        ConnectError: no connection.
        asyncio.CancelledError: cancelled; what was being built is removed as far as that is possible in 15 s,
            or in `wait_s` where that is less.
    """
    name = "down.sql" if down else "up.sql"
    options, say = options or ApplyOptions(), on_event or (lambda _: None)
    script, notes = _read(folder, name)
    undoing: dict[tuple[str, str], CreateIndex] = {}
    if down and (folder / "up.sql").is_file():
        up, _ = _read(folder, "up.sql")
        undoing = {(s.schema, s.name): s.create for s in up.steps if s.create is not None}
    estimates = {} if down else _estimates(folder)
    started, start = datetime.now(UTC), time.monotonic()
    async with connected(dsn, application_name=APPLICATION) as watch, worker(dsn) as work:
        data_directory = await check_server(work)
        applier = Applier(
            dsn=dsn, work=work, watch=watch, options=options, on_event=say, source=str(folder / name),
            own_names=_own_names(script, down), undoing=undoing,
        )  # fmt: skip
        await applier.settle(script)
        planned = [await applier.look(s) for s in script.steps]
        needed = sum(estimates.get((p.step.schema, p.step.name), 0) for p in planned if p.need in ("run", "repair"))
        notes += await surroundings(watch, planned, data_directory=data_directory, local=_is_local(dsn), needed=needed)
        for note in notes:
            say(f"note: {note}")
        if options.dry_run:
            done, error = [_planned(p, estimates) for p in planned], None
        else:
            done, error = await applier.run(script.steps, estimates)
            notes += applier.notes
    return Applied(
        target=mask_dsn(dsn),
        direction="down" if down else "up",
        started_at=started,
        elapsed_s=time.monotonic() - start,
        complete=error is None,
        statements=done,
        notes=notes,
        error=error,
    )


def _read(folder: Path, name: str) -> tuple[Script, list[str]]:
    file = folder / name
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"{folder} holds no {name}", hint="give a folder that dbperf advise --out or dbperf verify --out wrote"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{file} can't be read: {e}") from e
    notes = []
    if (folder / Migration.file_name).is_file():
        migration = read_document(Migration, folder / Migration.file_name)
        if sha256(text) != (migration.up_sha256 if name == "up.sql" else migration.down_sha256):
            notes.append(f"{file} was edited since dbperf wrote it; what it says now is applied")
    return read_script(text, source=str(file)), notes


def _own_names(script: Script, down: bool) -> frozenset[tuple[str, str]]:
    restored = {(s.schema, s.name) for s in script.steps if s.create is not None} if down else set()
    return frozenset(restored | {s.child for s in script.steps if s.child is not None})


def _estimates(folder: Path) -> dict[tuple[str, str], int]:
    if not (folder / Migration.file_name).is_file():
        return {}
    changes = read_document(Migration, folder / Migration.file_name).changes
    return {(c.schema, c.name): c.size_bytes for c in changes if c.action == "create" and c.size_bytes is not None}


def _is_local(dsn: str) -> bool:
    return all(h.startswith("/") or h in ("localhost", "127.0.0.1", "::1") for h in resolve(dsn).hosts)


def _planned(p: Planned, estimates: dict[tuple[str, str], int]) -> AppliedStatement:
    return AppliedStatement(
        sql=p.step.sql,
        name=p.step.where,
        outcome="already" if p.need == "already" else "planned",
        note=p.note,
        estimated_bytes=estimates.get((p.step.schema, p.step.name)),
    )
