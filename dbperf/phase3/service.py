"""What both implementations offer. Which one runs is a setting that nothing outside this package reads."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:  # the process that only starts the server reads the names from here, and needs none of these
    from dbperf.phase3.embedding import FloatArray
    from dbperf.phase3.rules import Neighbour, Plan
    from dbperf.phase3.schemas import ConsolidationRequest, Performance, SummaryResponse, TreeNode

ImplementationName = Literal["naive", "tuned"]
IMPLEMENTATIONS: tuple[ImplementationName, ...] = ("naive", "tuned")


class Implementation(Protocol):
    """The heavy part of each endpoint. Methods raise what SQLAlchemy raises."""

    async def analyze(self, case_id: str, limit: int) -> Performance | None:
        """Figures over the newest `limit` logs; None: there is no such case."""

    async def batch(self, min_logs: int) -> dict[str, Performance]:
        """Figures of each active case with at least `min_logs` logs, whose success rates are stored; in the order of
        the ids."""

    async def consolidate(self, request: ConsolidationRequest, now: datetime, *, dry_run: bool) -> Plan:
        """Finds what to archive and merge and, unless `dry_run`, does it. Returns what was done."""

    async def summary(self, now: datetime) -> SummaryResponse:
        """Counts of what a consolidation would look at."""

    async def restore(self, case_id: str) -> bool:
        """Undoes the newest archiving of a case; False: it is not archived."""

    async def nearest(self, vector: FloatArray, limit: int) -> Sequence[Neighbour]:
        """Active cases by similarity, then id; those without any similarity are left out."""

    async def tree(self, version: str) -> list[TreeNode] | None:
        """The roots of a taxonomy with all below them, by path; None: there is no such version."""
