"""The lines below a node in EXPLAIN's text format ("Sort Key: a, b") into the keys of its JSON format."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_PAIR_BREAK = re.compile(r"\s{2,}(?=[A-Z][\w -]*: )")
_LISTS = frozenset({
    "Sort Key", "Presorted Key", "Group Key", "Output", "Params Evaluated", "Conflict Arbiter Indexes",
})  # fmt: skip
_BOOLEANS = {"true": True, "false": False}
_SIZE = re.compile(r"(\d+)\s*kB$")
_BUFFER_KINDS = {"shared": "Shared", "local": "Local", "temp": "Temp"}


def parse_property(key: str, value: str) -> dict[str, Any]:
    """The JSON keys for one line, key and value as they stood before and after the first colon.

    >>> parse_property("Sort Method", "external merge  Disk: 1720kB")
    {'Sort Method': 'external merge', 'Sort Space Used': 1720, 'Sort Space Type': 'Disk'}
    >>> parse_property("Buckets", "1024 (originally 512)  Batches: 1  Memory Usage: 9kB")
    {'Hash Buckets': 1024, 'Original Hash Buckets': 512, 'Hash Batches': 1, 'Original Hash Batches': 1, \
'Peak Memory Usage': 9}
    >>> parse_property("Sort Key", "lower(a), b DESC")
    {'Sort Key': ['lower(a)', 'b DESC']}
    """
    value = value.strip()
    if (special := _SPECIAL.get(key)) is not None:
        return special(key, value)
    if key in _LISTS:
        return {key: split_list(value)}
    return {key: _scalar(value)}


def split_list(text: str) -> list[str]:
    """Splits at the commas outside of parentheses and quotes.

    >>> split_list("f(a, b), 'x, y'::text, \\"c,d\\"")
    ['f(a, b)', "'x, y'::text", '"c,d"']
    """
    parts, depth, quote, start = [], 0, "", 0
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        elif c == "," and depth <= 0:
            parts.append(text[start:i].strip())
            start = i + 1
    return [*parts, text[start:].strip()]


def _scalar(value: str) -> Any:
    if value in _BOOLEANS:
        return _BOOLEANS[value]
    if re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    if re.fullmatch(r"-?\d{1,18}\.\d{1,9}", value):
        return float(value)
    return value


def _pairs(key: str, value: str) -> dict[str, str]:
    """ "1  Memory Usage: 9kB" under the key Batches: two pairs."""
    first, *rest = _PAIR_BREAK.split(value)
    return {key: first.strip()} | {k: v.strip() for k, _, v in (part.partition(": ") for part in rest)}


def _kilobytes(value: str) -> Any:
    return int(m[1]) if (m := _SIZE.match(value)) is not None and len(m[1]) < 19 else _scalar(value)


def _with_original(found: dict[str, Any], name: str, text: str) -> None:
    m = re.match(r"(\d{1,18})(?: \(originally (\d{1,18})\))?$", text)
    if m is None:
        found[name] = text
        return
    found[name] = int(m[1])
    found[f"Original {name}"] = int(m[2] or m[1])


def _hash(key: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k, v in _pairs(key, value).items():
        if k in ("Buckets", "Batches"):
            _with_original(found, f"Hash {k}", v)
        else:
            found["Peak Memory Usage" if k == "Memory Usage" else k] = _kilobytes(v)
    return found


def _hash_aggregate(key: str, value: str) -> dict[str, Any]:
    names = {"Batches": "HashAgg Batches", "Memory Usage": "Peak Memory Usage"}
    return {names.get(k, k): _kilobytes(v) for k, v in _pairs(key, value).items()}


def _memoize(key: str, value: str) -> dict[str, Any]:
    names = {k: f"Cache {k}" for k in ("Hits", "Misses", "Evictions", "Overflows")}
    names["Memory Usage"] = "Peak Memory Usage"
    return {names.get(k, k): _kilobytes(v) for k, v in _pairs(key, value).items()}


def _sort(key: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k, v in _pairs(key, value).items():
        if k in ("Memory", "Disk"):
            found |= {"Sort Space Used": _kilobytes(v), "Sort Space Type": k}
        else:
            found[k] = _scalar(v)
    return found


def _sort_groups(key: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for k, v in _pairs(key, value).items():
        if k == key:
            found["Group Count"] = _scalar(v)
        elif k in ("Sort Method", "Sort Methods"):
            found["Sort Methods Used"] = split_list(v)
        elif (m := re.fullmatch(r"(Average|Peak) (Memory|Disk)", k)) is not None:
            found.setdefault(f"Sort Space {m[2]}", {})[f"{m[1]} Sort Space Used"] = _kilobytes(v)
        else:
            found[k] = _scalar(v)
    return {key: found}


def _heap_blocks(_key: str, value: str) -> dict[str, Any]:
    names = {"exact": "Exact Heap Blocks", "lossy": "Lossy Heap Blocks"}
    return {names[k]: int(n) for k, n in re.findall(r"(exact|lossy)=(\d{1,18})", value)}


def _buffers(_key: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = {"Shared Hit Blocks": 0}
    kind = "Shared"
    for which, what, n in re.findall(r"(shared|local|temp)?\s*(hit|read|dirtied|written)=(\d{1,18})", value):
        kind = _BUFFER_KINDS.get(which, kind)
        found[f"{kind} {what.capitalize()} Blocks"] = int(n)
    return found


def _io_timings(_key: str, value: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    prefix = ""
    for which, what, ms in re.findall(r"(shared/local|shared|local|temp)?\s*(read|write)=(\d{1,15}(?:\.\d+)?)", value):
        if which:
            prefix = "" if which == "shared/local" else f"{which.capitalize()} "
        found[f"{prefix}I/O {what.capitalize()} Time"] = float(ms)
    return found


def _wal(_key: str, value: str) -> dict[str, Any]:
    names = {"records": "WAL Records", "fpi": "WAL FPI", "bytes": "WAL Bytes", "full": "WAL Buffers Full"}
    return {names[k]: int(n) for k, n in re.findall(r"(records|fpi|bytes|full)=(\d{1,18})", value)}


def _storage(key: str, value: str) -> dict[str, Any]:
    return {k: _kilobytes(v) for k, v in _pairs(key, value).items()}


_SPECIAL: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "Batches": _hash_aggregate,
    "Buckets": _hash,
    "Buffers": _buffers,
    "Disk Usage": _hash_aggregate,
    "Full-sort Groups": _sort_groups,
    "Heap Blocks": _heap_blocks,
    "Hits": _memoize,
    "I/O Timings": _io_timings,
    "Memory Usage": _hash_aggregate,
    "Planned Partitions": _hash_aggregate,
    "Pre-sorted Groups": _sort_groups,
    "Sort Method": _sort,
    "Storage": _storage,
    "WAL": _wal,
}
