"""Writes stacks for other tools: collapsed stacks and speedscope."""

from __future__ import annotations

from typing import Any

import msgspec

from dbperf import __version__
from dbperf.flame.ops import weighted
from dbperf.records.stacks import Frame, Stacks


def label(f: Frame) -> str:
    """A frame as one line of text: "view (/app/main.py:12)"."""
    if not f.file:
        return f.name
    return f"{f.name} ({f.file}:{f.line})" if f.line else f"{f.name} ({f.file})"


def collapsed(s: Stacks) -> str:
    """Lines of "frame;frame count". Semicolons and line breaks within a name become a colon and a blank."""
    lines = []
    for path, value, _ in weighted(s):
        names = ";".join(" ".join(label(f).replace(";", ":").split()) or "?" for f in path)
        lines.append(f"{names or '(no frame)'} {value:.17g}\n")
    return "".join(lines)


def speedscope(s: Stacks) -> bytes:
    """A speedscope file; https://www.speedscope.app opens it, in the browser, and sends it nowhere."""
    unit = {"ms": "milliseconds", "bytes": "bytes", "samples": "none"}[s.unit]
    values = [k.value for k in s.stacks]
    frames: list[dict[str, Any]] = []
    for f in s.frames:
        entry: dict[str, Any] = {"name": f.name}
        if f.file:
            entry["file"] = f.file
        if f.line:
            entry["line"] = f.line
        frames.append(entry)
    profile = {
        "type": "sampled", "name": s.name, "unit": unit, "startValue": 0, "endValue": sum(values),
        "samples": [list(k.frames) for k in s.stacks], "weights": values,
    }  # fmt: skip
    file = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "shared": {"frames": frames}, "profiles": [profile], "name": s.name, "exporter": f"dbperf {__version__}",
    }  # fmt: skip
    return msgspec.json.encode(file)
