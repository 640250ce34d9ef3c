"""From what people paste to the bare lines of plans: psql's borders and wraps, log prefixes, several plans in a row."""

from __future__ import annotations

import re
from typing import NamedTuple

from dbperf.plans.psql_table import Line, psql_table

COST = r"\(cost=-?[\d.]+\.\.-?[\d.]+ rows=-?\d+ width=-?\d+\)"
ACTUAL = r"\((?:actual (?:time=[\d.]+\.\.[\d.]+ )?rows=[\d.]+ loops=[\d.]+|never executed)\)"
NODE = re.compile(rf"(?P<label>\S.*?) {{1,2}}(?P<figures>{COST}(?: {ACTUAL})?|{ACTUAL})\s*$")
ARROW = re.compile(r"(?P<indent>\s*)->\s+(?P<rest>\S.*)$")
# EXPLAIN (COSTS OFF) prints bare node names; only these may start a plan.
BARE = re.compile(
    r"(?:Async )?(?:Parallel )?(?:Partial |Finalize )?(?:Seq Scan|Index Scan|Index Only Scan|Bitmap Heap Scan|"
    r"Nested Loop|Hash (?:\w+ )*Join|Merge (?:\w+ )*Join|Sort$|Incremental Sort$|Limit$|Aggregate$|HashAggregate$|"
    r"GroupAggregate$|MixedAggregate$|Gather$|Gather Merge$|Append$|Merge Append$|Result$|Unique$|WindowAgg$|CTE Scan|"
    r"Subquery Scan|Function Scan|Values Scan|Insert on|Update on|Delete on|Merge on|ProjectSet$|LockRows$|SetOp|"
    r"HashSetOp|Recursive Union$|Materialize$|Memoize$|Foreign Scan|Custom Scan|Tid Scan|Tid Range Scan|Sample Scan)"
)
SUB_PLAN = re.compile(r"\s*(?P<name>(?:InitPlan|SubPlan) \d+(?: \(returns [^)]*\))?|CTE \S.*?)\s*$")
PROPERTY = re.compile(r"\s*(?P<key>[A-Z][\w/'’() -]{0,60}?):(?: |$)(?P<value>.*)$")
_RULE = re.compile(r"\s*[-─═+┼|╪┌┐└┘├┤╔╗╚╝╠╣╟╢╞╡]{3,}\s*$")
_HEADER = re.compile(r"\s*[|│║]?\s*QUERY PLAN\s*[|│║]?\s*$")
_ROWS = re.compile(r"\s*\(\d+ [^()]{1,12}\)\s*$")
_CHATTER = re.compile(r"\s*(?:Time: [\d.,]+ ?m?s.*|EXPLAIN|Timing is o\w+\.|SET|BEGIN|ROLLBACK|COMMIT)\s*$")
_PROMPT = re.compile(r"\w[\w.~-]*[=(*!'-][#>] ")
_LOG = re.compile(r"^.*?\bduration: (?P<ms>[\d.]+) ms  plan:\s?(?P<rest>.*)$")
_LOG_OTHER = re.compile(r"^\S.*?\b(?:LOG|ERROR|STATEMENT|CONTEXT|DETAIL|HINT|WARNING|FATAL|NOTICE|DEBUG\d?):  ")
_QUERY_TEXT = re.compile(r"\s*Query Text: ?")
MIN_WIDTH = 40


class PlanLines(NamedTuple):
    """One plan."""

    lines: list[Line]
    query_text: str | None = None
    query_parameters: str | None = None
    duration_ms: float | None = None
    """As the log says, for auto_explain."""


def clean(text: str) -> list[Line]:
    """Lines without psql's and the log's decoration; empty lines are left out."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\ufeff", "")
    found: list[Line] = []
    for line in psql_table(text.split("\n")):
        shown = line.text.replace("#011", "\t").rstrip()
        if not shown or any(p.match(shown) for p in (_RULE, _HEADER, _ROWS, _CHATTER, _PROMPT)):
            continue
        found.append(Line(line.number, shown))
    return _unquoted(found)


def _unquoted(lines: list[Line]) -> list[Line]:
    """pgAdmin and CSV put each line in double quotes."""
    if lines and all(re.fullmatch(r'\s*".*"', line.text) for line in lines):
        return [Line(n, text.strip()[1:-1].replace('""', '"')) for n, text in lines]
    return lines


def split(lines: list[Line]) -> list[PlanLines]:
    """One entry per plan; what stands before the first plan and between log entries is left out."""
    found: list[PlanLines] = []
    current: PlanLines | None = None
    entry: PlanLines | None = None
    query: list[str] | None = None
    for at, line in enumerate(lines):
        text = line.text
        if (m := _LOG.match(text)) is not None:
            entry, current, query = PlanLines([], duration_ms=float(m["ms"])), None, None
            text = m["rest"]
            if not text.strip():
                continue
        elif _LOG_OTHER.match(text):
            entry, current, query = None, None, None
            continue
        if text.startswith("\t"):
            text = text[1:]
        if (m := _QUERY_TEXT.match(text)) is not None:
            query, current = [text[m.end() :]], None
            continue
        is_root = ARROW.match(text) is None and (
            NODE.match(text.strip()) is not None or _starts_wrapped_root(text, lines[at + 1 : at + 9])
        )
        if is_root and current is not None and _completes(current.lines, lines[at : at + 4]):
            is_root = False
        if not is_root and current is None and ARROW.match(text) is None:
            is_root = BARE.match(text.strip()) is not None and query is None
        if is_root:
            asked, values = _parameters(query)
            # With log_verbose the prefix of the entry stands on the first line only.
            duration = entry.duration_ms if entry is not None else None
            current, query = PlanLines([Line(line.number, text)], asked, values, duration), None
            found.append(current)
        elif query is not None:
            query.append(text)
        elif current is not None:
            current.lines.append(Line(line.number, text))
    return [p._replace(lines=_unwrapped(p.lines)) for p in found]


def _starts_wrapped_root(text: str, following: list[Line]) -> bool:
    """A root whose line was broken between its name and the end of its figures."""
    if re.search(r"\S  \((?:$|c|a|n)", text) is None or PROPERTY.match(text):
        return False
    return any(_whole_node(text, True, following, width) is not None for width in (0, 1))


def _completes(before: list[Line], following: list[Line]) -> bool:
    """Whether lines that look like a root are the rest of a node's broken line."""
    at = next((i for i in range(len(before) - 1, -1, -1) if ARROW.match(before[i].text)), 0)
    rest = [*before[at + 1 :], *following]
    return any(_whole_node(before[at].text, at == 0, rest, width) is not None for width in (0, 1))


def _parameters(query: list[str] | None) -> tuple[str | None, str | None]:
    if query is None:
        return None, None
    values = None
    for i, line in enumerate(query):
        if line.lstrip().startswith("Query Parameters: "):
            values, query = line.lstrip().removeprefix("Query Parameters: "), query[:i]
            break
    return "\n".join(query).strip(), values


def _starts_element(text: str) -> bool:
    return any(p.match(text) for p in (ARROW, SUB_PLAN, PROPERTY)) or NODE.match(text.strip()) is not None


def _unwrapped(lines: list[Line]) -> list[Line]:
    """Lines that a terminal or a mail broke are put together again.

    A terminal breaks at its width, in the middle of words; a mail breaks where a space was.
    """
    width = _terminal_width(lines)
    found = lines[:1]
    last = lines[0].text
    for i, line in enumerate(lines[1:], 1):
        held = found[-1].text
        glue: str | None
        if (whole := _whole_node(held, len(found) == 1, lines[i:], width)) is not None:
            glue = whole
        elif _starts_element(line.text):
            glue = None
        elif width:
            glue = " " * (width - len(last)) if width - 2 <= len(last) <= width else None
        else:
            glue = None if _stands_alone(line.text, held) else " "
        if glue is None:
            found.append(line)
        else:
            rest = line.text if width else line.text.strip()
            found[-1] = Line(found[-1].number, held + glue + rest)
        last = line.text
    return found


def _terminal_width(lines: list[Line]) -> int:
    """The width at which a terminal broke lines, or 0."""
    width = max(len(line.text) for line in lines)
    if width < MIN_WIDTH:
        return 0
    full = [i for i, line in enumerate(lines[:-1]) if len(line.text) == width]
    broken = [i for i in full if not _starts_element(lines[i + 1].text)]
    return width if len(full) > 1 and broken else 0


def _whole_node(held: str, is_root: bool, following: list[Line], width: int) -> str | None:
    """What to put between the start of a node's line and the next lines to complete it; None: it is complete, or can't
    be completed."""
    m = ARROW.match(held)
    if m is None and not is_root:
        return None
    start = m["rest"] if m is not None else held.strip()
    if NODE.match(start):
        return None
    for glue in ("", " ") if width else (" ", ""):
        text = start
        for line in following[:8]:
            if ARROW.match(line.text):
                break
            text += glue + (line.text if width and not glue else line.text.strip())
            if NODE.match(text):
                return glue
    return None


def _stands_alone(text: str, held: str) -> bool:
    """A line of an unknown kind, rather than the rest of the one above: as far in, and that one is complete."""
    indent, above = (len(t) - len(t.lstrip()) for t in (text, held))
    return 0 < indent == above and held.count("(") == held.count(")") and held.count("'") % 2 == 0
