"""The table of metrics in docs/monitor.md, written from `METRICS`: `python -m dbperf.monitor.reference`."""

from __future__ import annotations

import sys
from pathlib import Path

from dbperf.monitor.metrics import SECTIONS

BEGIN, END = "<!-- metrics: written by `make docs` -->", "<!-- end of metrics -->"
FILE = Path(__file__).parents[2] / "docs" / "monitor.md"


def tables() -> str:
    """A Markdown table for each section."""
    parts = []
    for title, metrics in SECTIONS.items():
        rows = [f"| `{m.name}` | {m.kind} | {', '.join(m.labels) or '–'} | {m.help} |" for m in metrics]
        parts.append("\n".join([f"### {title}\n", "| metric | type | labels | |", "|---|---|---|---|", *rows]))
    return "\n\n".join(parts)


def with_tables(text: str) -> str:
    """The page with the tables between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main() -> None:
    FILE.write_text(with_tables(FILE.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write(f"{FILE.name}\n")


if __name__ == "__main__":
    main()
