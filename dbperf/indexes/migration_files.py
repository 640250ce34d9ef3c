"""Writes a migration folder: up.sql, down.sql, an Alembic revision, review.md and migration.json."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from dbperf import __version__
from dbperf.errors import OutputError
from dbperf.indexes.alembic_text import alembic_revision, revision_id
from dbperf.indexes.migration import plan_changes
from dbperf.indexes.review import review
from dbperf.indexes.script_text import script
from dbperf.postgres.connect import connected
from dbperf.records.advice import Advice
from dbperf.records.base import write_atomic
from dbperf.records.proof import IndexChange, Migration, Proof

DEFAULT_ROOT = Path("sql/indexes")


def default_folder(now: datetime) -> Path:
    """`sql/indexes/<utc>`."""
    return DEFAULT_ROOT / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def write_migration(
    folder: Path,
    changes: Sequence[IndexChange],
    *,
    source: str,
    server_version: str,
    review_text: str,
    down_revision: str | None = None,
    now: datetime | None = None,
) -> Migration:
    """Writes the folder; migration.json comes last, so that a folder with it is complete.

    Args:
        folder: is made; it must not hold anything.
        changes: in the order in which they are made.
        source: the database's masked connection string.
        server_version: of that database.
        review_text: of review.md.
        down_revision: Alembic's head.
        now: the moment that the files name.

    Raises:
        OutputError: the folder holds something already, or can't be written.
    """
    now = now or datetime.now(UTC)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OutputError(f"{folder} exists and is kept", hint="choose another folder")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"{folder} can't be written: {e.strerror}", hint="choose another folder") from e
    up = script(changes, source=source, server_version=server_version, created_at=now)
    down = script(changes, source=source, server_version=server_version, created_at=now, down=True)
    migration = Migration(
        created_at=now,
        dbperf_version=__version__,
        source=source,
        server_version=server_version,
        changes=list(changes),
        up_sha256=sha256(up),
        down_sha256=sha256(down),
    )
    write_atomic(folder / "up.sql", up.encode())
    write_atomic(folder / "down.sql", down.encode())
    write_atomic(folder / "review.md", review_text.encode())
    revision = alembic_revision(changes, created_at=now, down_revision=down_revision)
    write_atomic(folder / f"{revision_id(changes)}_indexes.py", revision.encode())
    write_atomic(folder / Migration.file_name, migration.to_json())
    return migration


async def write_proved(dsn: str, advice: Advice, proof: Proof | None, folder: Path) -> list[str]:
    """Writes the migration of what advice and proof leave to create; without a proof of all that is advised.

    Returns:
        What was left out, and why.

    Raises:
        OutputError: see `write_migration`.
        ConnectError: no connection.
    """
    async with connected(dsn) as conn:
        proofs = proof.indexes if proof else []
        # What stayed after its verification has the very name that it will have in production.
        changes, notes = await plan_changes(conn, advice, proofs=proofs, in_place=bool(proof and proof.kept))
        sizes = await conn.fetch(
            "SELECT n.nspname, c.relname, pg_table_size(c.oid) FROM pg_class c JOIN pg_namespace n "
            "ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm')"
        )
    text = review(changes, advice=advice, proofs=proofs, table_bytes={(r[0], r[1]): r[2] for r in sizes}, notes=notes)
    write_migration(folder, changes, source=advice.source, server_version=advice.server_version, review_text=text)
    return notes
