"""What a GitHub workflow shows of a comparison: annotations (workflow commands) and the step summary."""

from __future__ import annotations

from dbperf.records.comparison import Comparison
from dbperf.regress.words import change, groups, visible

_MOST = 10
"""GitHub shows ten errors and ten warnings of a step and drops the rest."""


def workflow_commands(comparison: Comparison) -> list[str]:
    """Workflow commands: an error for each failure, a warning for each thing that can't be told or was accepted."""
    by_group = groups(comparison)
    lines = []
    for level, titles in (("error", ("Failures",)), ("warning", ("Accepted exceptions", "Warnings", "Not comparable"))):
        metrics = [
            m for t in titles for m in by_group[t] if m.gate or level == "error" or m.verdict == "not_comparable"
        ]
        for m in metrics[: _MOST - 1] if len(metrics) > _MOST else metrics:
            lines.append(f"::{level} title={_property(m.name)}::{_data(f'{change(m)}: {m.reason}')}")
        if len(metrics) > _MOST:
            lines.append(f"::{level} title=dbperf::and {len(metrics) - _MOST + 1} more, see the step summary")
    return lines


def _data(text: str) -> str:
    """Escaped as actions/toolkit does (packages/core/src/command.ts)."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
