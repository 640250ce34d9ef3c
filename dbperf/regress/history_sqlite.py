"""The history of figures in an SQLite file: the store for one checkout or one CI runner."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from dbperf import resources
from dbperf.errors import OutputError, RecordError
from dbperf.records.comparison import Conditions
from dbperf.records.history import StoredFigure, StoredRun

VERSION = 1
_APPLICATION_ID = 0x64627066  # "dbpf", so that another program's file is recognised
_WAIT_S = 30.0
"""How long to wait for another dbperf that writes."""


class SqliteHistory:
    """A history file. It is made when the first run is added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def add(self, runs: list[StoredRun]) -> int:
        """Adds runs, all or none; those that are there already are left alone. Returns how many are new.

        Raises:
            RecordError: the file is no history, or one of a newer dbperf.
            OutputError: it can't be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"{self.path} can't be written: {e.strerror}", hint="--store names another file") from e
        added = 0
        with self._open("rwc") as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._check(connection, create=True)
            for run in runs:
                new = connection.execute(
                    "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    (run.run_id, run.source, run.kind, run.measured_at.astimezone(UTC).isoformat(),
                     run.git_revision, datetime.now(UTC).isoformat()),
                ).rowcount  # fmt: skip
                if not new:
                    continue
                added += 1
                connection.executemany(
                    "INSERT INTO figure VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        (run.run_id, f.subject, f.stage or "", f.metric, f.unit, f.direction, f.value, f.ci_low,
                         f.ci_high, msgspec.json.encode(f.conditions).decode())
                        for f in run.figures
                    ],
                )  # fmt: skip
            connection.execute("COMMIT")
        return added

    def runs(self) -> list[StoredRun]:
        """All runs, oldest first.

        Raises:
            RecordError: there is no such file, it is no history, or one of a newer dbperf.
        """
        if not self.path.is_file():
            raise RecordError(f"there is no history at {self.path}", hint="dbperf history add RUN makes one")
        with self._open("ro") as connection:
            self._check(connection, create=False)
            figures: dict[str, list[StoredFigure]] = {}
            columns = "run_id, subject, stage, metric, unit, direction, value, ci_low, ci_high, conditions"
            for run_id, *values in connection.execute(f"SELECT {columns} FROM figure ORDER BY rowid"):  # noqa: S608 - a constant
                figures.setdefault(run_id, []).append(figure_from(*values))
            found = connection.execute(
                "SELECT run_id, source, kind, measured_at, git_revision FROM run ORDER BY measured_at, run_id"
            ).fetchall()
        return [
            StoredRun(
                run_id=run_id, source=source, kind=kind, measured_at=datetime.fromisoformat(at),
                git_revision=revision, figures=figures.get(run_id, []),
            )
            for run_id, source, kind, at, revision in found
        ]  # fmt: skip

    @contextmanager
    def _open(self, mode: str) -> Iterator[sqlite3.Connection]:
        uri = f"{self.path.resolve().as_uri()}?mode={mode}"
        connection: sqlite3.Connection | None = None
        try:
            connection = sqlite3.connect(uri, uri=True, timeout=_WAIT_S, isolation_level=None)
            yield connection
        except sqlite3.OperationalError as e:
            raise OutputError(f"{self.path} can't be used: {e}", hint="--store names another file") from e
        except (sqlite3.DatabaseError, msgspec.MsgspecError, ValueError) as e:
            raise RecordError(f"{self.path} is no history that can be read: {e}") from e
        finally:
            if connection is not None:
                connection.close()  # what was not committed is rolled back

    def _check(self, connection: sqlite3.Connection, *, create: bool) -> None:
        version, application = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id")
        )
        empty = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
        if empty and create:
            for statement in resources.sql("history/sqlite.sql").split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        elif application != _APPLICATION_ID:
            raise RecordError(f"{self.path} is another program's database", hint="--store names another file")
        elif version > VERSION:
            raise RecordError(
                f"{self.path} was written by a newer dbperf (version {version}, this one reads up to {VERSION})",
                hint="upgrade dbperf",
            )


def figure_from(
    subject: str, stage: str, metric: str, unit: str, direction: str, value: float, ci_low: float | None,
    ci_high: float | None, conditions: str,
) -> StoredFigure:  # fmt: skip
    """A figure from a row.

    Raises:
        msgspec.MsgspecError: the conditions or a word were edited.
    """
    return msgspec.convert(
        {
            "subject": subject, "stage": stage or None, "metric": metric, "unit": unit, "direction": direction,
            "value": value, "ci_low": ci_low, "ci_high": ci_high,
            "conditions": msgspec.json.decode(conditions, type=Conditions),
        },
        StoredFigure,
    )  # fmt: skip
