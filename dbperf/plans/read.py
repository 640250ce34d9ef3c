"""Any EXPLAIN output into plans: finds out which format it is."""

from __future__ import annotations

import json
import re

import msgspec

from dbperf.errors import PlanError
from dbperf.plans.read_json import plans_from_data, read_json
from dbperf.plans.read_text import read_text
from dbperf.plans.text_lines import clean
from dbperf.records.plans import Plan

MAX_BYTES = 64 << 20
_LOGGED_JSON = re.compile(r"duration: [\d.]+ ms  plan:\s*\{")


def read_plans(text: str) -> list[Plan]:
    """The plans in a text: JSON or text format, from psql, a client, or a log of auto_explain.

    The same plan pasted twice counts once. Statements and parameters that a log has are in `Plan.extra`
    ("Query Text", "Query Parameters").

    Raises:
        PlanError: there is no plan, it is cut off, or in another format; the message has the position.
    """
    if len(text) > MAX_BYTES:
        raise PlanError(f"the text has {len(text):,} characters, plans of up to {MAX_BYTES:,} are read")
    body = text.lstrip("\ufeff \t\r\n")
    if not body:
        raise PlanError("the plan is empty", hint="give the output of EXPLAIN, in text or JSON format")
    _refuse_other_formats(body)
    plans = _read_any(text, body)
    # By their bytes: comparing each with each would take minutes for a log of thousands.
    return list({msgspec.json.encode(plan): plan for plan in plans}.values())


def _read_any(text: str, body: str) -> list[Plan]:
    if _LOGGED_JSON.search(text):
        return _logged_json(text)
    if body[0] in "[{":
        return _json(body)
    lines = clean(text)
    # psql's frame around JSON
    if lines and lines[0].text.strip()[:1] in ("[", "{"):
        return _json("\n".join(line.text for line in lines))
    return read_text(text)


def _json(text: str) -> list[Plan]:
    """One JSON document, or several in a row."""
    decoder = json.JSONDecoder()
    try:
        first, at = decoder.raw_decode(text)
    except ValueError:
        return read_json(text)  # which says what is wrong
    except RecursionError:
        raise PlanError("the JSON is nested too deeply to be a plan") from None
    plans = plans_from_data(first)
    while (rest := text[at:].lstrip())[:1] in ("[", "{") and rest:
        start = len(text) - len(rest)
        try:
            again, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            line = text.count("\n", 0, start) + 1
            raise PlanError(f"line {line}: a second plan starts here and is cut off") from None
        plans += plans_from_data(again)
    return plans


def _logged_json(text: str) -> list[Plan]:
    """auto_explain with log_format = json: an object after each "plan:"."""
    plans: list[Plan] = []
    text = text.replace("#011", "\t")
    for m in _LOGGED_JSON.finditer(text):
        try:
            data, _ = json.JSONDecoder().raw_decode(text, m.end() - 1)
        except (ValueError, RecursionError) as e:
            line = text.count("\n", 0, m.end()) + 1
            raise PlanError(f"line {line}: the logged plan is cut off or mangled", hint=str(e)[:80]) from None
        plans += plans_from_data(data)
    return plans


def _refuse_other_formats(body: str) -> None:
    if body.startswith("<") and re.search(r"<explain\b", body[:2000]):
        raise PlanError("this is EXPLAIN's XML format", hint="use EXPLAIN (FORMAT JSON), or the text format")
    if re.match(r"(?:.*QUERY PLAN.*\n[-+ ]*\n)?\s*- Plan:\s*\+?\s*$", body, re.MULTILINE) or re.match(
        r"\s*- Plan: *\+?\n", body
    ):
        raise PlanError("this is EXPLAIN's YAML format", hint="use EXPLAIN (FORMAT JSON), or the text format")
