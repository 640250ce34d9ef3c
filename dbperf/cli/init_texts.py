"""The files that `dbperf init` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from dbperf.records.load import LeftOut
from dbperf.records.suite import Suite
from dbperf.resources import resource

WORKFLOW_FILES = {"github": Path(".github/workflows/dbperf.yml"), "gitlab": Path(".gitlab/dbperf.yml")}
ACTION_FILES = ("action.yml", "comment.py")
ACTION = Path(".github/actions/dbperf")
"""The composite action: in this repository, in the wheel, and where `dbperf init --ci github` writes."""
DEFAULT_URL = "http://127.0.0.1:8000"
_LOCAL = re.compile(r"https?://(localhost|127\.\d+\.\d+\.\d+|\[::1\])(:\d+)?(/|$)")
_NO_START = "echo 'write here how your API starts' >&2; exit 1"


def config_text(*, url: str | None, suite: Path | None, dsn_variable: str | None) -> str:
    """dbperf.toml. `dsn_variable`: the environment variable with the connection; None: DBPERF_DSN, which needs no word.

    >>> 'url = "http://localhost:8000"' in config_text(url="http://localhost:8000", suite=None, dsn_variable=None)
    True
    """
    dsn = f'dsn = "env:{dsn_variable}"' if dsn_variable else '# dsn = "env:DATABASE_URL"'
    return f"""\
# Defaults of `dbperf run` and `dbperf load`; an option on the command line wins.

# The database is only read. "env:NAME" takes the value from the environment, so that no password stands here;
# $DBPERF_DSN and the PG* variables are read without a word in this file.
{dsn}

{_line("url", url, DEFAULT_URL)}
# api_key = "env:API_KEY"              # sent as X-API-Key

{_line("suite", str(suite) if suite else None, "loadtests/api.toml")}
# users = 10
# duration = "60s"
# warm_up = "5s"

# [headers]
# Authorization = "env:API_AUTHORIZATION"

[safety]
production = []                        # hosts that are never loaded, such as "db.internal"
known = []                             # not on this machine, and fine to load

# What each endpoint owes its users. A missed level ends `dbperf run` with exit code 1.
# [[service_levels]]
# endpoint = "GET /orders"             # a pattern such as "GET *" fits too
# p95 = "300ms"
# errors = "1%"
"""


def _line(key: str, value: str | None, example: str) -> str:
    return f"{key} = {_quoted(value)}" if value else f"# {key} = {_quoted(example)}"


def _quoted(text: str) -> str:
    """A basic string of TOML, which JSON's are as well, but for the DEL character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def suite_text(suite: Suite, left_out: Sequence[LeftOut], *, url: str) -> str:
    """A suite file with the endpoints of `suite`, and what was left out, with reasons, as comments."""
    lines = [
        "# Which requests a load consists of. `dbperf load` and `dbperf run` read it.",
        f"# Made from {_one_line(url)}/openapi.json by dbperf init.",
        'name = "api"',
        'description = "GET endpoints that need no parameters"',
        'gates = ["errors < 1%"]                # such as "p95 < 300ms"',
        "",
        "[[stages]]",
        'name = "steady"',
        "users = 10                             # or arrival_rate = 50 (requests a second)",
        'duration = "30s"',
        'ramp = "2s"',
        'warm_up = "3s"',
        "",
        "[think_time]                           # pause of a user between requests",
        'min = "50ms"',
        'max = "150ms"',
    ]
    for endpoint in suite.endpoints:
        lines += [
            "",
            "[[endpoints]]",
            f"method = {_quoted(endpoint.method)}",
            f"path = {_quoted(endpoint.path)}",
            "weight = 1",
        ]
    if left_out:
        lines += ["", "# Left out:"]
        lines += [f"#   {_one_line(entry.endpoint)}: {_one_line(entry.reason)}" for entry in left_out]
        lines += [
            "# An endpoint with a parameter takes its values from a list, a file or a query:",
            "#",
            "# [[endpoints]]",
            '# path = "/orders/{order_id}"',
            "#",
            "# [[data]]",
            '# name = "order_id"',
            '# sql = "SELECT id FROM orders LIMIT 1000"',
            "#",
            "# One that changes data is marked, and only sent with --apply:",
            "#",
            "# [[endpoints]]",
            '# method = "POST"',
            '# path = "/orders"',
            '# json = {item = "a"}',
            "# writes = true",
        ]
    return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    """Text from somebody's API that stays inside a comment."""
    return "".join(c if c.isprintable() else " " for c in text)


def action_texts(ci: Literal["github", "gitlab"] | None) -> dict[Path, str]:
    """The files that the workflow needs beside it: GitHub's uses the composite action, a copy of dbperf's own."""
    if ci != "github":
        return {}
    return {ACTION / name: resource(f"{ACTION}/{name}").read_text(encoding="utf-8") for name in ACTION_FILES}


def workflow_text(ci: Literal["github", "gitlab"], *, url: str | None, suite: Path | None, start: str | None) -> str:
    """A workflow that starts PostgreSQL and the API, measures, and keeps the report.

    An `url` that is not on this machine is not the one that the workflow's API will have, and is not written.
    """
    local = url if url and _LOCAL.match(url) else DEFAULT_URL
    text = files("dbperf.cli").joinpath("templates", f"{ci}.yml").read_text(encoding="utf-8")
    for name, value in {
        "@URL@": json.dumps(local),
        "@SUITE@": f" --suite {suite}" if suite else "",
        "@START@": start or _NO_START,
    }.items():
        text = text.replace(name, value)
    return text
