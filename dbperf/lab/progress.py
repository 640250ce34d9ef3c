"""How a run tells what it is doing. The command line draws it; tests and libraries may listen or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dbperf.records.run import StageStatus


class Progress(Protocol):
    """Listens to a run. Times are seconds."""

    def stage_started(self, title: str, expected_s: float | None) -> None:
        """A stage begins; `expected_s` is how long it usually takes, None where nobody knows."""

    def stage_update(self, detail: str, rows: Sequence[tuple[str, str]] = ()) -> None:
        """Something to show beside the running stage; called up to a few times a second.

        Args:
            detail: one line.
            rows: the same at more length, as names and values, for who has the room.
        """

    def stage_ended(self, title: str, status: StageStatus, elapsed_s: float, detail: str | None) -> None:
        """The stage ended."""

    def note(self, text: str) -> None:
        """A sentence that the user should read."""


class Silent:
    """Listens to nothing."""

    def stage_started(self, title: str, expected_s: float | None) -> None:
        """Says nothing."""

    def stage_update(self, detail: str, rows: Sequence[tuple[str, str]] = ()) -> None:
        """Says nothing."""

    def stage_ended(self, title: str, status: StageStatus, elapsed_s: float, detail: str | None) -> None:
        """Says nothing."""

    def note(self, text: str) -> None:
        """Says nothing."""
