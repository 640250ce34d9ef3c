"""EXPLAIN (FORMAT JSON) into a typed plan. Keys that dbperf does not know are kept in `extra`."""

from __future__ import annotations

import json
import math
from typing import Any

from dbperf.errors import PlanError
from dbperf.plans.derive import derive
from dbperf.records.plans import Buffers, Plan, PlanNode, Trigger

MAX_DEPTH = 400
"""Nesting of nodes that the readers accept: far above real plans, far below Python's recursion limit."""

CONDITIONS = frozenset({
    "Cache Key",
    "Conflict Filter",
    "Filter",
    "Hash Cond",
    "Index Cond",
    "Join Filter",
    "Merge Cond",
    "One-Time Filter",
    "Order By",
    "Recheck Cond",
    "Run Condition",
    "TID Cond",
})  # fmt: skip

_BUFFERS = {
    "shared_hit": "Shared Hit Blocks",
    "shared_read": "Shared Read Blocks",
    "shared_dirtied": "Shared Dirtied Blocks",
    "shared_written": "Shared Written Blocks",
    "local_hit": "Local Hit Blocks",
    "local_read": "Local Read Blocks",
    "local_dirtied": "Local Dirtied Blocks",
    "local_written": "Local Written Blocks",
    "temp_read": "Temp Read Blocks",
    "temp_written": "Temp Written Blocks",
}
# Until 16 one pair of times covers shared and local blocks; 17 splits it.
_IO_TIMES = {
    "read_ms": ("I/O Read Time", "Shared I/O Read Time", "Local I/O Read Time"),
    "write_ms": ("I/O Write Time", "Shared I/O Write Time", "Local I/O Write Time"),
    "temp_read_ms": ("Temp I/O Read Time",),
    "temp_write_ms": ("Temp I/O Write Time",),
}
BUFFER_KEYS = frozenset(_BUFFERS.values()) | {k for keys in _IO_TIMES.values() for k in keys}

_STRINGS = {
    "Parent Relationship": "parent_relationship",
    "Subplan Name": "subplan_name",
    "Relation Name": "relation",
    "Schema": "schema",
    "Alias": "alias",
    "Index Name": "index_name",
    "Join Type": "join_type",
    "Strategy": "strategy",
}
_FLOATS = {
    "Startup Cost": "startup_cost",
    "Total Cost": "total_cost",
    "Plan Rows": "plan_rows",
    "Actual Startup Time": "actual_startup_ms",
    "Actual Total Time": "actual_total_ms",
    "Actual Rows": "actual_rows",
    "Actual Loops": "loops",
}
_INTEGERS = {
    "Plan Width": "plan_width",
    "Workers Planned": "workers_planned",
    "Workers Launched": "workers_launched",
}
_NODE_KEYS = {*_STRINGS, *_FLOATS, *_INTEGERS, "Node Type", "Parallel Aware", "Plans"} | BUFFER_KEYS
_PLAN_KEYS = {
    "Plan", "Planning Time", "Execution Time", "Planning", "Triggers", "JIT", "Settings", "Query Identifier",
    "Total Runtime",
}  # fmt: skip


def read_json(text: str) -> list[Plan]:
    """The plans in the JSON that EXPLAIN printed (one per statement), derived values filled in.

    Raises:
        PlanError: it is no JSON, or not a plan; the message has line and column, or the path of the field.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as e:
        hint = "the plan is cut off" if e.pos >= len(text.rstrip()) - 1 else None
        raise PlanError(f"line {e.lineno}, column {e.colno}: {e.msg}", hint=hint) from None
    except RecursionError:
        raise PlanError("the JSON is nested too deeply to be a plan") from None
    except ValueError as e:  # a number of more than 4,300 digits
        raise PlanError(f"the JSON can't be read: {e}") from None
    return plans_from_data(data)


def plans_from_data(data: Any) -> list[Plan]:
    """The same from decoded JSON: a list of {"Plan": ...}, one such object, or a bare node.

    Raises:
        PlanError: see `read_json`.
    """
    items = data if isinstance(data, list) else [data]
    if not items:
        raise PlanError("the JSON holds no plan: the list is empty")
    return [derive(_plan(item, f"[{i}]" if isinstance(data, list) else "")) for i, item in enumerate(items)]


def _plan(data: Any, where: str) -> Plan:
    if not isinstance(data, dict):
        raise PlanError(f"{where or 'top level'}: an object with the key Plan was expected, not {_kind(data)}")
    if "Plan" not in data and "Node Type" in data:
        data = {"Plan": data}
    if "Plan" not in data:
        raise PlanError(f"{where or 'top level'}: the key Plan is missing", hint="EXPLAIN (FORMAT JSON) prints it")
    at = f"{where}.Plan".lstrip(".")
    planning = _optional_object(data.get("Planning"), f"{where}.Planning")
    settings = _optional_object(data.get("Settings"), f"{where}.Settings")
    triggers = data.get("Triggers") or []
    if not isinstance(triggers, list):
        raise PlanError(f"{where}.Triggers: a list was expected, not {_kind(triggers)}".lstrip("."))
    root = _node(data["Plan"], at, [0], 0)
    extra = {k: v for k, v in data.items() if k not in _PLAN_KEYS}
    if rest := {k: v for k, v in planning.items() if k not in BUFFER_KEYS}:
        extra["Planning"] = rest
    return Plan(
        root=root,
        analyzed=root.loops is not None,
        planning_ms=_number(data, "Planning Time", where),
        # 9.3 and older called it Total Runtime.
        execution_ms=_number(data, "Execution Time" if "Execution Time" in data else "Total Runtime", where),
        planning_buffers=_buffers(planning, f"{where}.Planning"),
        triggers=[_trigger(t, f"{where}.Triggers[{i}]".lstrip(".")) for i, t in enumerate(triggers)],
        jit=_optional_object(data.get("JIT"), f"{where}.JIT") or None,
        settings={k: str(v) for k, v in settings.items()},
        query_id=_integer(data, "Query Identifier", where),
        extra=extra,
    )


def _node(data: Any, where: str, counter: list[int], depth: int) -> PlanNode:
    if not isinstance(data, dict):
        raise PlanError(f"{where}: a plan node was expected, not {_kind(data)}")
    if depth > MAX_DEPTH:
        raise PlanError(f"{where[:60]}...: the plan is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(data.get("Node Type"), str):
        raise PlanError(f"{where}: the key Node Type is missing")
    node_id, counter[0] = counter[0], counter[0] + 1
    fields: dict[str, Any] = {name: _string(data, key, where) for key, name in _STRINGS.items()}
    fields |= {name: _number(data, key, where) for key, name in _FLOATS.items()}
    fields |= {name: _integer(data, key, where) for key, name in _INTEGERS.items()}
    if fields["loops"] == 0:  # never executed: EXPLAIN prints zeros that were not measured
        fields |= {"actual_startup_ms": None, "actual_total_ms": None, "actual_rows": None}
    plans = data.get("Plans") or []
    if not isinstance(plans, list):
        raise PlanError(f"{where}.Plans: a list was expected, not {_kind(plans)}")
    return PlanNode(
        node_id=node_id,
        node_type=data["Node Type"],
        parallel_aware=data.get("Parallel Aware") is True,
        buffers=_buffers(data, where),
        conditions={k: v for k, v in data.items() if k in CONDITIONS and isinstance(v, str)},
        extra={k: v for k, v in data.items() if k not in _NODE_KEYS and not (k in CONDITIONS and isinstance(v, str))},
        children=[_node(p, f"{where}.Plans[{i}]", counter, depth + 1) for i, p in enumerate(plans)],
        **fields,
    )


def _buffers(data: dict[str, Any], where: str) -> Buffers | None:
    found: dict[str, Any] = {}
    for name, key in _BUFFERS.items():
        if (count := _integer(data, key, where)) is not None:
            found[name] = count
    for name, keys in _IO_TIMES.items():
        if times := [t for key in keys if (t := _number(data, key, where)) is not None]:
            found[name] = sum(times)
    return Buffers(**found) if found else None


def _trigger(data: Any, where: str) -> Trigger:
    if not isinstance(data, dict):
        raise PlanError(f"{where}: a trigger was expected, not {_kind(data)}")
    constraint = _string(data, "Constraint Name", where)
    return Trigger(
        name=_string(data, "Trigger Name", where) or constraint or "?",
        relation=_string(data, "Relation", where),
        constraint=constraint,
        total_ms=_number(data, "Time", where),
        calls=_integer(data, "Calls", where) or 0,
    )


def _number(data: dict[str, Any], key: str, where: str) -> float | None:
    value = data.get(key)
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise PlanError(f"{where}.{key}: a number was expected, not {_shown(value)}".lstrip("."))


def _integer(data: dict[str, Any], key: str, where: str) -> int | None:
    value = data.get(key)
    if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63:
        return value
    if (number := _number(data, key, where)) is None:
        return None
    if not -(2**63) <= number < 2**63:
        raise PlanError(f"{where}.{key}: {_shown(value)} is out of range".lstrip("."))
    return round(number)


def _string(data: dict[str, Any], key: str, where: str) -> str | None:
    value = data.get(key)
    if value is None or isinstance(value, str):
        return value
    raise PlanError(f"{where}.{key}: a text was expected, not {_kind(value)}".lstrip("."))


def _optional_object(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise PlanError(f"{where}: an object was expected, not {_kind(value)}".lstrip("."))
    return value


def _shown(value: Any) -> str:
    return f"{str(value)[:20]!r}" if isinstance(value, str | int | float) else _kind(value)


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
