"""Flame graphs as HTML: a figure for a page that brings the assets along, and a page of its own.

No inline style, no handler, no request: a page's Content-Security-Policy allows its style and its script by hash. All
text reaches the page as escaped JSON and is set as text, so a name can hold anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import msgspec

from dbperf.flame.ops import Node, module_of, tree
from dbperf.records.stacks import Frame, HotSpot, Stacks
from dbperf.units import format_bytes, format_ms, format_share

MODULE_COLOURS = 8
MAX_NODES = 200_000
"""More would make a file of tens of megabytes; the smallest branches are then joined into their parents."""
_DIFFERENCE = ("same", "up1", "up2", "up3", "down1", "down2", "down3")


@cache
def style() -> str:
    """The style sheet of figures."""
    return _asset("flame.css")


@cache
def script() -> str:
    """The script that draws every figure of a page. It goes to the page's end."""
    return _asset("flame.js")


def _asset(name: str) -> str:
    return (files("dbperf.flame") / "assets" / name).read_text(encoding="utf-8")


def figure(s: Stacks, *, figure_id: str, title: str | None = None, changes: dict[int, float] | None = None) -> str:
    """The markup of one flame graph, for a page with `style()` and `script()`.

    Args:
        figure_id: unique in the page: letters, digits and hyphens; deep links start with it.
        changes: for a difference, `layout` node number to its change as a share of the whole (see `changes`).
    """
    data = _data(s, changes)
    shown = html.escape(title or s.name, quote=True)
    notes = "".join(f'<p class="flame-note">{html.escape(n)}</p>' for n in s.notes)
    return (
        f'<figure class="flame" id="{html.escape(figure_id, quote=True)}" data-title="{shown}">'
        f'<script type="application/json">{data}</script>'
        f"<noscript><p>The flame graph needs JavaScript; the table has the same figures.</p></noscript>{notes}</figure>"
    )


def _data(s: Stacks, changes: dict[int, float] | None) -> str:
    frames: dict[Frame | None, int] = {}
    shown: list[list[object]] = []
    classes: dict[str, int] = {}
    frame: list[int] = []
    value: list[float] = []
    depth: list[int] = []
    nodes = layout(s)
    for node, level in nodes:
        f = node.frame
        at = frames.get(f)
        if at is None:
            at = frames[f] = len(shown)
            name = "all" if f is None else f.name
            shown.append([name or "?", place_of(f) if f else "", classes.setdefault(class_of(f), len(classes))])
        frame.append(at)
        value.append(round(node.value, 6))
        depth.append(level)
    body: dict[str, object] = {"unit": s.unit, "frames": shown, "frame": frame, "value": value, "depth": depth}
    if changes is not None:
        classes = {name: i for i, name in enumerate(_DIFFERENCE)}
        body["cls"] = [classes[_change_class(changes.get(i, 0.0))] for i in range(len(nodes))]
        body["text"] = [_change_text(changes.get(i)) for i in range(len(nodes))]
    body["classes"] = list(classes)
    # "<" would end the element; the other two matter to old parsers.
    return (
        msgspec.json.encode(body)
        .decode()
        .replace("<", "\\u003c")
        .replace("\u2028", "\\u2028")
        .replace("\u2029", "\\u2029")
    )


def layout(s: Stacks) -> list[tuple[Node, int]]:
    """The nodes of the call tree with their depth, parents first, larger siblings first; the root is number 0.

    Branches too small to draw at any zoom are left out where there are very many.
    """
    root = tree(s)
    smallest = 0.0
    while True:
        out = _preorder(root, smallest)
        if len(out) <= MAX_NODES:
            return out
        smallest = max(smallest * 4, root.value * 1e-6)


def _preorder(root: Node, smallest: float) -> list[tuple[Node, int]]:
    out: list[tuple[Node, int]] = []
    todo = [(root, 0)]
    while todo:
        node, level = todo.pop()
        out.append((node, level))
        if len(out) > MAX_NODES:
            break
        kids = [c for c in node.children.values() if c.value > smallest]
        kids.sort(key=lambda c: (c.value, c.frame.name if c.frame else ""))
        todo.extend((c, level + 1) for c in kids)
    return out


def class_of(f: Frame | None) -> str:
    """The CSS class that colours a frame: by module for Python, else by kind."""
    if f is None:
        return "k-other"
    if f.kind != "python":
        return f"k-{f.kind}"
    digest = hashlib.sha256(module_of(f).encode("utf-8", "replace")).digest()
    return f"m{digest[0] % MODULE_COLOURS}"


def _change_class(change: float) -> str:
    size = abs(change)
    if size < 0.002:
        return "same"
    step = 1 if size < 0.02 else 2 if size < 0.1 else 3
    return f"{'up' if change > 0 else 'down'}{step}"


def _change_text(change: float | None) -> str:
    if change is None:
        return ""
    return f"change: {'+' if change > 0 else '−' if change < 0 else '±'}{100 * abs(change):.1f} % of the whole before"


def place_of(f: Frame) -> str:
    """The file and line, or the file, or nothing."""
    if not f.file:
        return ""
    return f"{f.file}:{f.line}" if f.line else f.file


def page(
    title: str, figures: Sequence[tuple[str, str]], *, spots: Sequence[HotSpot] = (), unit: str = "ms", lead: str = ""
) -> str:
    """A page of its own: headings with figures (markup of `figure`), and a table of hot spots."""
    css = f"{_asset('page.css')}\n{style()}"
    js = script()
    policy = f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(js)}; base-uri 'none'; form-action 'none'"
    body = "".join(
        (f"<h2>{html.escape(heading)}</h2>" if len(figures) > 1 else "") + markup for heading, markup in figures
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{css}</style></head><body>"
        '<button class="theme" type="button" data-for="flame">Light or dark</button>'
        f"<h1>{html.escape(title)}</h1>{f'<p>{html.escape(lead)}</p>' if lead else ''}{body}"
        f"{_table(spots, unit)}<script>{js}</script></body></html>\n"
    )


def _table(spots: Sequence[HotSpot], unit: str) -> str:
    if not spots:
        return ""
    rows = "".join(
        f"<tr><td>{html.escape(h.name[:300])}</td><td>{html.escape(h.place or '')}</td>"
        f'<td class="n">{quantity(h.self_value, unit)}</td><td class="n">{format_share(h.share)}</td>'
        f'<td class="n">{quantity(h.total_value, unit)}</td><td>{html.escape(h.advice or "")}</td></tr>'
        for h in spots
    )
    return (
        "<h2>Hot spots</h2><table><thead><tr><th>function, statement or node</th><th>where</th>"
        '<th class="n">itself</th><th class="n">share</th><th class="n">with what it calls</th><th>what to do</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
    )


def quantity(value: float, unit: str) -> str:
    """A value in the unit of its stacks, for people."""
    if unit == "ms":
        return format_ms(value)
    return format_bytes(value) if unit == "bytes" else f"{value:,.0f}"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
