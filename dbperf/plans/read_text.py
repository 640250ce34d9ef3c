"""EXPLAIN's text format into the data of its JSON format, which `read_json` turns into a plan."""

from __future__ import annotations

import re
from typing import Any

from dbperf.errors import PlanError
from dbperf.plans.psql_table import Line
from dbperf.plans.read_json import MAX_DEPTH, plans_from_data
from dbperf.plans.text_label import parse_label
from dbperf.plans.text_lines import ARROW, NODE, PROPERTY, SUB_PLAN, PlanLines, clean, split
from dbperf.plans.text_properties import parse_property, split_list
from dbperf.records.plans import Plan

_COSTS = re.compile(r"\(cost=(-?[\d.]+)\.\.(-?[\d.]+) rows=(-?\d+) width=(-?\d+)\)")
_ACTUAL = re.compile(r"actual (?:time=([\d.]+)\.\.([\d.]+) )?rows=([\d.]+) loops=([\d.]+)")
_TRIGGER = re.compile(
    r"\s*Trigger (?P<name>.*?)(?: for constraint (?P<constraint>.*?))?(?: on (?P<relation>.*?))?: "
    r"(?:time=(?P<ms>[\d.]+) )?calls=(?P<calls>\d+)\s*$"
)
_WORKER = re.compile(r"\s*Worker (?P<n>\d{1,9}):  (?P<rest>.*)$")
_SECTIONS = {"Planning", "JIT", "Serialization"}
_TIMES = {
    "Planning Time": "Planning Time",
    "Planning time": "Planning Time",
    "Execution Time": "Execution Time",
    "Execution time": "Execution Time",
    "Total runtime": "Execution Time",
}
_GROUPING = ("Group Key", "Hash Key", "Sort Key")
_MEMBERS = ("Append", "Merge Append", "BitmapAnd", "BitmapOr", "Custom Scan")
_JOINS = ("Nested Loop", "Hash Join", "Merge Join")


def read_text(text: str) -> list[Plan]:
    """The plans in a text as psql, a terminal or a log shows it, derived values filled in.

    Raises:
        PlanError: there is none, or one is cut off or mangled; the message has the line.
    """
    found = split(clean(text))
    if not found:
        raise PlanError(
            "no plan was found in the text", hint="give the output of EXPLAIN, in text or JSON format, all of it"
        )
    return plans_from_data([_Reader(p).data() for p in found])


class _Reader:
    """Builds the data of one plan line by line."""

    def __init__(self, plan: PlanLines) -> None:
        self.plan = plan
        self.top: dict[str, Any] = {}
        self.stack: list[tuple[int, dict[str, Any]]] = []
        """The path to the current node: column of its arrow, and the node."""
        self.pending: tuple[int, str] | None = None
        """A line "SubPlan 1" waits for its node."""
        self.section: dict[str, Any] | None = None
        self.worker: tuple[int, dict[str, Any]] | None = None
        self.arrows: list[int] = []
        self.groupings: dict[int, tuple[dict[str, Any], list[tuple[str, str]]]] = {}
        """Aggregates and their key lines, by the node's id()."""

    def data(self) -> dict[str, Any]:
        root, *rest = self.plan.lines
        self._node(root, -1, root.text.strip())
        for line in rest:
            self._line(line)
        indent = len(root.text) - len(root.text.lstrip())
        if len(self.arrows) > 1 and max(self.arrows) <= indent:
            raise PlanError(
                f"line {root.number}: the plan has lost its indentation", hint="paste it again, with leading spaces"
            )
        for node, lines in self.groupings.values():
            node.update(_grouping(lines))
        plan = self.top["Plan"]
        _relate(plan)
        _fill_buffers(plan)
        if self.plan.query_text is not None:
            self.top["Query Text"] = self.plan.query_text
        if self.plan.query_parameters is not None:
            self.top["Query Parameters"] = self.plan.query_parameters
        if self.plan.duration_ms is not None:
            self.top.setdefault("Duration", self.plan.duration_ms)
        return self.top

    def _line(self, line: Line) -> None:
        text = line.text
        column = len(text) - len(text.lstrip())
        if (m := ARROW.match(text)) is not None:
            self._node(line, len(m["indent"]), m["rest"].strip())
        elif (m := SUB_PLAN.match(text)) is not None and PROPERTY.match(text) is None:
            self.pending = (column, m["name"])
        elif (m := _TRIGGER.match(text)) is not None:
            self._trigger(m)
        elif (m := _WORKER.match(text)) is not None:
            self._worker(column, int(m["n"]), m["rest"])
        elif (m := PROPERTY.match(text)) is not None:
            self._property(column, m["key"], m["value"])
        else:
            self.stack[-1][1].setdefault("Lines", []).append(text.strip())

    def _node(self, line: Line, column: int, text: str) -> None:
        if len(self.stack) > MAX_DEPTH:
            raise PlanError(f"line {line.number}: the plan is nested more than {MAX_DEPTH} levels deep")
        m = NODE.match(text)
        if m is None and re.search(r"\((?:cost|actual|never)\b", text):
            raise PlanError(
                f"line {line.number}: the figures of a node are cut off or mangled: {text[-60:]!r}",
                hint="paste the whole output of EXPLAIN",
            )
        label = m["label"] if m is not None else text
        node = parse_label(label) | (_figures(m["figures"]) if m is not None else {})
        self.section, self.worker = None, None
        if column < 0:
            self.top["Plan"] = node
            self.stack = [(-1, node)]
            return
        self.arrows.append(column)
        under = column
        if self.pending is not None:
            under, name = self.pending
            node["Subplan Name"] = name
            self.pending = None
        while len(self.stack) > 1 and self.stack[-1][0] >= under:
            self.stack.pop()
        self.stack[-1][1].setdefault("Plans", []).append(node)
        self.stack.append((column, node))

    def _worker(self, column: int, number: int, rest: str) -> None:
        node = self.stack[-1][1]
        workers = node.setdefault("Workers", [])
        entry = next((w for w in workers if w["Worker Number"] == number), None)
        if entry is None:
            entry = {"Worker Number": number}
            workers.append(entry)
        self.worker = (column, entry)
        if _ACTUAL.match(rest):
            entry |= _figures(rest)
        elif (m := PROPERTY.match(rest)) is not None:
            entry |= parse_property(m["key"], m["value"])

    def _trigger(self, m: re.Match[str]) -> None:
        name = m["name"]
        constraint = m["constraint"]
        if name.startswith("for constraint "):
            name, constraint = "", name.removeprefix("for constraint ")
        found: dict[str, Any] = {"Calls": int(m["calls"][:18])}
        for key, value in (("Trigger Name", name), ("Constraint Name", constraint), ("Relation", m["relation"])):
            if value:
                found[key] = value
        if m["ms"] is not None:
            found["Time"] = _float(m["ms"])
        self.top.setdefault("Triggers", []).append(found)

    def _property(self, column: int, key: str, value: str) -> None:
        if self.worker is not None and column > self.worker[0]:
            self.worker[1].update(parse_property(key, value))
        elif key in _TIMES:
            self.top[_TIMES[key]] = _float(value.strip().partition(" ")[0])
            self.section = None
        elif key in _SECTIONS:
            self.section = self.top.setdefault(key, {})
            if value.strip():
                self.section.update(_serialization(value))
        elif key == "Settings":
            self.top["Settings"] = dict(_setting(s) for s in split_list(value.strip()))
        elif key == "Query Identifier":
            self.top[key] = int(value) if re.fullmatch(r"\s*-?\d{1,19}\s*", value) else value
        elif self.section is not None:
            _section_property(self.section, key, value)
        else:
            found = parse_property(key, value)
            node = self.stack[-1][1]
            if key in _GROUPING and node["Node Type"] == "Aggregate":
                self.groupings.setdefault(id(node), (node, []))[1].append((key, value.strip()))
            else:
                node.update(found)


def _grouping(lines: list[tuple[str, str]]) -> dict[str, Any]:
    """The keys of an aggregate: a plain list, or grouping sets, which the text format spreads over lines."""
    if len(lines) == 1 and lines[0][0] == "Group Key" and lines[0][1] != "()":
        return {"Group Key": split_list(lines[0][1])}
    sets: list[dict[str, Any]] = []
    for key, value in lines:
        keys = [] if value == "()" else split_list(value)
        if key == "Sort Key":
            sets.append({key: keys})
        elif sets and (f"{key}s" in sets[-1] or (key == "Group Key" and "Sort Key" in sets[-1])) and key != "Hash Key":
            sets[-1].setdefault(f"{key}s", []).append(keys)
        else:
            sets.append({f"{key}s": [keys]})
    return {"Grouping Sets": sets}


def _figures(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if (m := _COSTS.search(text)) is not None:
        found |= {"Startup Cost": _float(m[1]), "Total Cost": _float(m[2])}
        found |= {"Plan Rows": _float(m[3]), "Plan Width": _float(m[4])}
    if (m := _ACTUAL.search(text)) is not None:
        if m[1] is not None:
            found |= {"Actual Startup Time": _float(m[1]), "Actual Total Time": _float(m[2])}
        found |= {"Actual Rows": _float(m[3]), "Actual Loops": _float(m[4])}
    elif "never executed" in text:
        found["Actual Loops"] = 0
    return found


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PlanError(f"a number was expected, not {text[:20]!r}") from None


def _setting(text: str) -> tuple[str, str]:
    name, _, value = text.partition(" = ")
    return name.strip(), value.strip().strip("'").replace("''", "'")


def _serialization(value: str) -> dict[str, Any]:
    """ "time=0.1 ms  output=5kB  format=text" """
    found: dict[str, Any] = {}
    for key, text in re.findall(r"(time|output|format)=([\w.]+)", value):
        name = {"time": "Time", "output": "Output Volume", "format": "Format"}[key]
        m = re.match(r"\d{1,15}(?:\.\d+)?", text)
        found[name] = text if key == "format" or m is None else float(m[0]) if key == "time" else int(float(m[0]))
    return found


def _section_property(section: dict[str, Any], key: str, value: str) -> None:
    if key == "Options":  # of JIT: "Inlining false, Optimization false, ..."
        section[key] = {k: v == "true" for k, _, v in (s.rpartition(" ") for s in split_list(value.strip()))}
    elif key == "Timing":
        section[key] = {k: float(ms) for k, ms in re.findall(r"([A-Z]\w+) (\d{1,15}(?:\.\d+)?) ms", value)}
        # Until 16 JSON had a plain number for Generation, since 17 an object.
    elif key == "Memory":
        found = re.findall(r"(used|allocated)=(\d{1,18})kB", value)
        section.update({f"Memory {k.capitalize()}": int(n) for k, n in found})
    else:
        section.update(parse_property(key, value))


def _relate(node: dict[str, Any], relation: str | None = None) -> None:
    """Fills in what the JSON format says and the text format leaves to the reader."""
    stack = [(node, relation)]
    while stack:
        one, how = stack.pop()
        if how is not None:
            one["Parent Relationship"] = how
        if one["Node Type"] == "Aggregate":
            one.setdefault("Partial Mode", "Simple")
        position = 0
        for child in one.get("Plans", ()):
            name = child.get("Subplan Name", "")
            if name.startswith(("InitPlan", "CTE ")):
                stack.append((child, "InitPlan"))
            elif name:
                stack.append((child, "SubPlan"))
            else:
                if one["Node Type"] in _MEMBERS:
                    how = "Member"
                elif one["Node Type"] == "Subquery Scan":
                    how = "Subquery"
                else:
                    how = "Inner" if position == 1 else "Outer"
                stack.append((child, how))
                position += 1


def _fill_buffers(root: dict[str, Any]) -> None:
    """The text format leaves out the line of a node that touched no block, where others did."""
    nodes, stack = [], [root]
    while stack:
        node = stack.pop()
        nodes.append(node)
        stack.extend(node.get("Plans", ()))
    if any("Shared Hit Blocks" in n for n in nodes):
        for node in nodes:
            node.setdefault("Shared Hit Blocks", 0)
