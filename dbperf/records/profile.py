"""How a profile was taken, what it cost, and what stands out in it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from dbperf.records.base import Document, Record
from dbperf.records.database import DatabaseActivity
from dbperf.records.plans import Finding
from dbperf.records.run import Server
from dbperf.records.statements import Statements
from dbperf.records.waits import Waits

Ended = Literal["complete", "interrupted", "command failed", "time limit", "server lost"]


class Collectors(Record, frozen=True, kw_only=True):
    """What dbperf's own queries took within the window; reading the statistics at its two ends is not in it."""

    snapshots: int
    """Looks at the statistics in between."""
    snapshots_ms: float
    """Round trips included."""
    samples: int
    samples_server_ms: float
    samples_round_trip_ms: float
    share: float
    """Snapshots and samples on the server, as a share of one processor over the window (0..1); an upper bound, as
    they also wait for a processor where the machine is busy."""


class ProfileSummary(Document, frozen=True, kw_only=True):
    """`profile.json`. The figures are in statements.json, waits.json and database.json."""

    kind: ClassVar[str] = "profile"
    file_name: ClassVar[str] = "profile.json"

    ended: Ended
    command: str | None = None
    """What ran in the window (--while)."""
    command_exit_code: int | None = None
    """None: no command, or it was stopped."""
    requests: int | None = None
    """HTTP requests in the window, where a load ran beside it."""
    collectors: Collectors
    findings: list[Finding]
    """Critical ones first."""


class Profile(Record, frozen=True, kw_only=True):
    """Everything about one window."""

    summary: ProfileSummary
    statements: Statements
    waits: Waits | None
    """None: sampling was off."""
    database: DatabaseActivity | None
    """None: the server was lost before its counters could be read twice."""
    server: Server | None = None

    def first(self, n: int) -> Profile:
        """The same with the first `n` statements only; sums still cover all."""
        shown = msgspec.structs.replace(self.statements, statements=self.statements.statements[:n])
        return msgspec.structs.replace(self, statements=shown)

    def documents(self) -> list[Document]:
        """What goes into a run directory."""
        found = [self.statements, self.waits, self.database, self.summary]
        return [d for d in found if d is not None]

    def contract(self) -> dict[str, Any]:
        """One JSON object for scripts: what `dbperf profile --format json` prints."""
        statements: dict[str, Any] = msgspec.to_builtins(self.statements)
        waits: dict[str, Any] = msgspec.to_builtins(self.waits) if self.waits else {}
        return {
            "kind": "profile",
            "schema_version": ProfileSummary.version,
            **{k: v for k, v in statements.items() if k != "statements"},
            "statements": statements["statements"],
            "waits": waits.pop("events", []),
            "blockers": waits.pop("blockers", []),
            "activity": waits or None,
            "database": msgspec.to_builtins(self.database) if self.database else {},
            **msgspec.to_builtins(self.summary),
        }
