"""Puts a Markdown file into one comment on a pull request: the one from last time is changed, not a second one made.

Reads GITHUB_TOKEN, GITHUB_REPOSITORY and GITHUB_API_URL, as GitHub Actions sets them. Standard library only: it runs
before, and whether or not, anything is installed. A token that may not write (a pull request from a fork) is a warning.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

LIMIT = 65_000
"""Characters. GitHub takes 65,536 of a comment."""
PER_PAGE = 100
TIMEOUT_S = 30


def body_of(text: str, marker: str, report: str) -> str:
    """The comment: the marker that finds it again, the text as far as it fits, and where the report is."""
    link = f"\n\n[The report]({report}) has everything.\n" if report else "\n"
    room = LIMIT - len(marker) - len(link) - 200
    if len(text) > room:
        kept = text[:room].rpartition("\n")[0]
        left_out = text[len(kept) :].strip("\n").count("\n") + 1
        text = f"{kept}\n\n*{left_out} more lines did not fit here.*"
    return f"{marker}\n{text.rstrip()}{link}"


def call(method: str, path: str, content: dict[str, str] | None = None) -> Any:
    api = os.environ.get("GITHUB_API_URL") or "https://api.github.com"
    request = urllib.request.Request(  # noqa: S310 - the address is GitHub's, or that of its enterprise server
        f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}{path}",
        data=None if content is None else json.dumps(content).encode(),
        method=method,
        headers={
            "Authorization": f"Bearer {os.environ['GITHUB_TOKEN']}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:  # noqa: S310 - as above
        return json.load(response)


def comments(number: int) -> Any:
    """The comments of the pull request, oldest first."""
    page = 1
    while True:
        found = call("GET", f"/issues/{number}/comments?per_page={PER_PAGE}&page={page}")
        yield from found
        if len(found) < PER_PAGE:
            return
        page += 1


def post(number: int, body: str, marker: str) -> str:
    """Changes the comment with the marker, or makes one; returns its address."""
    # Whoever quotes the comment has the marker further down, not at its beginning.
    mine = next((c for c in comments(number) if (c.get("body") or "").startswith(marker)), None)
    if mine is None:
        made = call("POST", f"/issues/{number}/comments", {"body": body})
    else:
        made = call("PATCH", f"/issues/comments/{mine['id']}", {"body": body})
    return str(made["html_url"])


def main() -> int:
    parser = argparse.ArgumentParser(description="Comments on a pull request, once.")
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--name", default="dbperf", help="tells the comments of several jobs apart")
    parser.add_argument("--report", default="", help="address of the report")
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    if not given.file.is_file():
        print(f"::warning::{given.file} is not there: nothing to comment")
        return 0
    marker = f"<!-- dbperf: {given.name.replace('--', '- -')} -->"
    try:
        print(post(given.number, body_of(given.file.read_text(encoding="utf-8"), marker, given.report), marker))
    except urllib.error.HTTPError as e:
        if e.code not in (401, 403):
            print(f"::warning::no comment was written: GitHub answered {e.code}")
        else:
            print(f"::warning::no comment was written: the token may not ({e.code}; permissions: pull-requests: write)")
    except OSError as e:
        print(f"::warning::no comment was written: {type(e).__name__}: {e}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
