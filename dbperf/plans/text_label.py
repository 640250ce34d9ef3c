"""The name of a node in EXPLAIN's text format ("Parallel Hash Left Join") into the fields of its JSON format."""

from __future__ import annotations

import re
from typing import Any

_NAME = r'(?:"(?:[^"]|"")+"|[^\s."]+)'
_TARGET = re.compile(rf"^(?:(?P<schema>{_NAME})\.)?(?P<name>{_NAME})(?: (?P<alias>{_NAME}))?$")
_JOIN = re.compile(
    r"(?P<kind>Hash|Merge|Nested Loop)(?: (?P<type>Left|Full|Right|Semi|Anti|Right Semi|Right Anti|Unique|Inner))? Join"
)
_AGGREGATES = {
    "HashAggregate": "Hashed", "GroupAggregate": "Sorted", "MixedAggregate": "Mixed", "Aggregate": "Plain",
}  # fmt: skip
_SET_OP = re.compile(r"(?P<hash>Hash)?SetOp(?: (?P<command>.+))?$")
_WRITE = re.compile(r"(?P<foreign>Foreign )?(?P<operation>Insert|Update|Delete|Merge)$")
_CUSTOM = re.compile(r"Custom Scan \((?P<provider>[^)]*)\)$")
_MODES = ("Partial ", "Finalize ")


def parse_label(label: str) -> dict[str, Any]:
    """The keys that EXPLAIN's JSON has for a node.

    >>> parse_label('Index Scan Backward using "t Pkey" on public.t x')
    {'Scan Direction': 'Backward', 'Index Name': 't Pkey', 'Schema': 'public', 'Relation Name': 't', 'Alias': 'x', \
'Node Type': 'Index Scan'}
    >>> parse_label("Finalize HashAggregate")
    {'Partial Mode': 'Finalize', 'Strategy': 'Hashed', 'Node Type': 'Aggregate'}
    """
    found: dict[str, Any] = {}
    name = " ".join(label.split())
    if name.startswith("Async "):
        found["Async Capable"], name = True, name.removeprefix("Async ")
    if name.startswith("Parallel "):
        found["Parallel Aware"], name = True, name.removeprefix("Parallel ")
    for mode in _MODES:
        if name.startswith(mode):
            found["Partial Mode"], name = mode.strip(), name.removeprefix(mode)
    name, _, target = name.partition(" on ")
    name, _, index = name.partition(" using ")
    if name.endswith(" Backward"):
        found["Scan Direction"], name = "Backward", name.removesuffix(" Backward")
    elif name in ("Index Scan", "Index Only Scan"):
        found["Scan Direction"] = "Forward"
    if index:
        found["Index Name"] = _plain(index)
    if target:
        found |= _target(name, target)
    return found | _kind(name)


def _kind(name: str) -> dict[str, Any]:
    return _join(name) or _other(name) or {"Node Type": name}


def _join(name: str) -> dict[str, Any]:
    if (m := _JOIN.fullmatch(name)) is not None:
        kind = m["kind"] if m["kind"] == "Nested Loop" else f"{m['kind']} Join"
        return {"Join Type": m["type"] or "Inner", "Node Type": kind}
    if name == "Nested Loop":
        return {"Join Type": "Inner", "Node Type": name}
    return {}


def _other(name: str) -> dict[str, Any]:
    if name in _AGGREGATES:
        return {"Strategy": _AGGREGATES[name], "Node Type": "Aggregate"}
    if (m := _SET_OP.fullmatch(name)) is not None:
        return {
            "Strategy": "Hashed" if m["hash"] else "Sorted",
            **({"Command": m["command"]} if m["command"] else {}),
            "Node Type": "SetOp",
        }
    if (m := _WRITE.fullmatch(name)) is not None:
        return {"Operation": m["operation"], "Node Type": "Foreign Scan" if m["foreign"] else "ModifyTable"}
    if name == "Foreign Scan":
        return {"Operation": "Select", "Node Type": name}
    if (m := _CUSTOM.fullmatch(name)) is not None:
        return {"Custom Plan Provider": m["provider"], "Node Type": "Custom Scan"}
    return {}


def _target(kind: str, target: str) -> dict[str, Any]:
    if kind == "Bitmap Index Scan":
        return {"Index Name": _plain(target)}
    if (m := _TARGET.match(target)) is None:
        return {"Alias": target}
    name, found = _plain(m["name"]), {}
    if m["schema"]:
        found["Schema"] = _plain(m["schema"])
    if kind in ("Subquery Scan", "Values Scan"):
        return {"Alias": name}
    keys = {
        "CTE Scan": "CTE Name",
        "WorkTable Scan": "CTE Name",
        "Function Scan": "Function Name",
        "Table Function Scan": "Table Function Name",
        "Named Tuplestore Scan": "Tuplestore Name",
    }
    found[keys.get(kind, "Relation Name")] = name
    return found | {"Alias": _plain(m["alias"]) if m["alias"] else name}


def _plain(name: str) -> str:
    """An identifier without its quotes."""
    return name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') and len(name) > 1 else name
