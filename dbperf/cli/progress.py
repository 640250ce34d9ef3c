"""Progress on stderr: a live line in a terminal, plain lines in a log.

A log has no width: each message is one line of it, however long. A stage is announced there once it has taken two
seconds, so that a short one is one line and one that hangs is still named.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from dbperf.records.run import StageStatus
from dbperf.units import format_seconds

_MARKS: dict[StageStatus, tuple[str, str]] = {
    "done": ("✓", "green"),
    "skipped": ("–", "dim"),
    "failed": ("✗", "red"),
    "interrupted": ("!", "yellow"),
}
_LOG_EVERY_S = 10.0
_ANNOUNCED_AFTER_S = 2.0


@contextmanager
def in_a_terminal(title: str, expected_s: float | None = None) -> Iterator[Callable[[str], None]]:
    """Shows that a command works, and what at, while the block runs; in a log nothing. It gives a function that takes
    what the work is at."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with TerminalProgress(console) as progress:
        progress.stage_started(title, expected_s)
        yield progress.stage_update


class TerminalProgress:
    """Draws stages. Use it as a context manager, so that the terminal is restored whatever happens."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._live: Live | None = None
        self._announcement: threading.Timer | None = None
        self._title = ""
        self._detail = ""
        self._rows: Sequence[tuple[str, str]] = ()
        self._expected_s: float | None = None
        self._start = 0.0
        self._logged = 0.0

    def __enter__(self) -> TerminalProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self._end_live()

    def stage_started(self, title: str, expected_s: float | None) -> None:
        self._title, self._detail, self._rows, self._expected_s = title, "", (), expected_s
        self._start = self._logged = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._shown, console=self.console, refresh_per_second=8, transient=True)
            self._live.start()
        else:
            usual = f" (about {format_seconds(expected_s)})" if expected_s else ""
            self._announcement = threading.Timer(_ANNOUNCED_AFTER_S, self._print, [f"… {title}{usual}"])
            self._announcement.daemon = True
            self._announcement.start()

    def stage_update(self, detail: str, rows: Sequence[tuple[str, str]] = ()) -> None:
        self._detail, self._rows = detail, rows
        now = time.monotonic()
        if not self.console.is_terminal and now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            self._print(f"  {format_seconds(now - self._start)}: {detail}")

    def stage_ended(self, title: str, status: StageStatus, elapsed_s: float, detail: str | None) -> None:
        self._end_live()
        mark, colour = _MARKS[status]
        line = Text.assemble((mark, colour), " ", title, (f"  {format_seconds(elapsed_s)}", "dim"))
        if detail:
            line.append(f"  {detail}", style="dim" if status == "done" else colour)
        self._print(line)

    def note(self, text: str) -> None:
        self._print(Text.assemble(("note: ", "yellow"), text))

    def _print(self, text: str | Text) -> None:
        """Wrapped to a terminal, as it is in a log."""
        self.console.print(text, markup=False, soft_wrap=not self.console.is_terminal)

    def _shown(self) -> Group:
        """The running stage, and below it what is told of it."""
        width = max((len(name) for name, _ in self._rows), default=0)
        below = [Text.assemble("  ", (f"{name:{width}}", "dim"), "  ", value) for name, value in self._rows]
        for text in below:
            text.truncate(max(20, self.console.width - 1), overflow="ellipsis")
        return Group(self._line(), *below)

    def _line(self) -> Spinner:
        elapsed_s = time.monotonic() - self._start
        text = Text.assemble(self._title, (f"  {format_seconds(elapsed_s)}", "dim"))
        if self._expected_s:
            text.append(f" of about {format_seconds(self._expected_s)}", style="dim")
        if self._detail and not self._rows:
            text.append(f"  {self._detail}", style="dim")
        text.truncate(max(20, self.console.width - 3), overflow="ellipsis")
        return Spinner("dots", text)

    def _end_live(self) -> None:
        if self._announcement is not None:
            self._announcement.cancel()
            self._announcement = None
        if self._live is not None:
            self._live.stop()
            self._live = None
