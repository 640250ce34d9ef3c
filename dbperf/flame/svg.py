"""A flame graph as one SVG file without script: every frame has a tooltip; dark and light follow the viewer."""

from __future__ import annotations

import html
import re

from dbperf.flame.drawing import class_of, layout, place_of, quantity, style
from dbperf.records.stacks import Stacks
from dbperf.units import format_share

WIDTH = 1600
ROW = 18
_CHAR = 6.65
_CONTROL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 does not allow even escaped (section 2.2)."""


def svg(s: Stacks, *, title: str | None = None) -> str:
    """The drawing, innermost frames at the bottom. Frames narrower than half a unit are left out."""
    nodes = layout(s)
    whole = nodes[0][0].value or 1.0
    scale = WIDTH / whole
    free = [0.0]
    """By depth: where the next node of that depth starts."""
    parts: list[str] = []
    deepest = 0
    for node, depth in nodes:
        x = free[depth]
        width = node.value * scale
        del free[depth + 1 :]
        free[depth] = x + width
        free.append(x)  # its children start where it does
        if width < 0.5:
            continue
        deepest = max(deepest, depth)
        f = node.frame
        name = "all" if f is None else f.name or "?"
        kind = class_of(f)
        about = f"{name}\n{quantity(node.value, s.unit)} ({format_share(node.value / whole)})"
        if f is not None and f.file:
            about += f"\n{place_of(f)}"
        y = 40 + depth * ROW
        parts.append(
            f'<g><title>{_text(about)}</title><rect x="{x:.2f}" y="{y}" width="{width:.2f}" height="{ROW - 1}" '
            f'class="{kind}"/>'
        )
        room = int((width - 6) / _CHAR)
        if room > 2:
            shown = name if len(name) <= room else name[: room - 1] + "…"
            parts.append(f'<text x="{x + 3:.2f}" y="{y + 12.5}">{_text(shown)}</text>')
        parts.append("</g>")
    height = 40 + (deepest + 1) * ROW + 10
    heading = _text(title or s.name)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="flame" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}"><title>{heading}</title><style>{_css()}</style>'
        f'<rect class="paper" width="{WIDTH}" height="{height}"/>'
        f'<text class="heading" x="8" y="24">{heading}</text>{"".join(parts)}</svg>\n'
    )


def _css() -> str:
    base = "svg { color-scheme: light dark; } .flame .paper { fill: light-dark(#fff, #0f1318); stroke: none; } "
    head = ".flame .heading { font: 15px system-ui, sans-serif; fill: light-dark(#161b22, #eef2f7); } "
    return html.escape(base + style() + head, quote=False)


def _text(value: str) -> str:
    return html.escape(_CONTROL.sub("\ufffd", value), quote=False)
