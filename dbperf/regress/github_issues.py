"""GitHub's issues through githubkit (the extra ``dbperf[github]``): found by marker, filed, commented on, closed.

A request that may have been carried out although its answer was lost (a 502, a broken connection) is not sent again
blindly: what it would have made is looked for first.

Rate limits: docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api (Retry-After, x-ratelimit-reset,
at least a minute for secondary limits that say neither).
"""

from __future__ import annotations

import ipaddress
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

from dbperf.errors import GitHubError, UsageError
from dbperf.regress.issue import CRITICAL, HIGH, LABELS, marked
from dbperf.regress.words import visible

DEFAULT_API = "https://api.github.com"
ATTEMPTS = 6
_PER_PAGE = 100
_TIMEOUT_S = 30.0
_REPOSITORY = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Issue:
    """An issue on GitHub."""

    number: int
    url: str
    fingerprint: str
    labels: frozenset[str]


class GitHubIssues:
    """The issues of one repository.

    Args:
        repository: "owner/name".
        token: never shown: also not where GitHub's own message repeats it.
        api_url: of the API; http only on this machine.
        wait_s: how long to wait at most, all waits together.
        sleep, told: for tests, and for saying that one waits.

    Raises:
        UsageError: repository, token or address don't fit; or githubkit is not installed.
    """

    def __init__(
        self, repository: str, token: str, *, api_url: str = DEFAULT_API, wait_s: float = 600,
        sleep: Callable[[float], None] = time.sleep, told: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        if not _REPOSITORY.fullmatch(repository):
            raise UsageError(f"{repository!r} is no repository", hint="GITHUB_REPOSITORY is owner/name")
        if not token.strip() or not token.isprintable() or not token.isascii():
            raise UsageError(
                "GITHUB_TOKEN is empty or no token", hint="in a workflow: GITHUB_TOKEN: ${{ github.token }}"
            )
        _check_address(api_url)
        try:
            from githubkit import GitHub
        except ImportError as e:
            raise UsageError(
                "filing issues needs githubkit, which is not installed", hint="pip install 'dbperf[github]'"
            ) from e
        self._repository, self._token, self._host = repository, token.strip(), urlsplit(api_url).netloc
        self._client: Any = GitHub(
            self._token, base_url=api_url, auto_retry=False, http_cache=False, timeout=_TIMEOUT_S, user_agent="dbperf"
        )
        self._left_s, self._sleep, self._told = wait_s, sleep, told

    def open_issues(self) -> dict[str, Issue]:
        """The open issues that dbperf filed, by fingerprint; of several with the same the oldest.

        Raises:
            GitHubError: GitHub does not answer, or refuses.
        """
        found: dict[str, Issue] = {}
        page = 1
        while True:
            batch = self._retried(
                lambda page=page: self._send(  # type: ignore[misc]  # mypy can't infer a lambda with a default
                    "GET", "/issues",
                    params={"state": "open", "labels": ",".join(LABELS[1:]), "sort": "created", "direction": "asc",
                            "per_page": _PER_PAGE, "page": page},
                )
            )  # fmt: skip
            for entry in batch:
                fingerprint = marked(entry.get("body"))
                if fingerprint is not None and "pull_request" not in entry:
                    found.setdefault(fingerprint, _issue(entry, fingerprint))
            if len(batch) < _PER_PAGE:
                return found
            page += 1

    def file(self, fingerprint: str, title: str, body: str, labels: Sequence[str]) -> Issue:
        """Files an issue."""

        def once(again: bool) -> Issue:
            if again and (there := self.open_issues().get(fingerprint)) is not None:
                return there
            entry = self._send("POST", "/issues", json={"title": title[:250], "body": body, "labels": list(labels)})
            return _issue(entry, fingerprint)

        return self._retried_writing(once)

    def comment(self, issue: Issue, body: str, seen: str) -> bool:
        """Comments, unless a comment or the issue holds the text `seen` already; whether it did."""

        def once(again: bool) -> bool:
            del again
            if self._said(issue, seen):
                return False
            self._send("POST", f"/issues/{issue.number}/comments", json={"body": body})
            return True

        return self._retried_writing(once)

    def prioritise(self, issue: Issue, priority: str) -> None:
        """Sets the priority's label where another one or none is set; other labels stay."""
        if priority in issue.labels:
            return
        labels = sorted((issue.labels - {CRITICAL, HIGH}) | {priority})
        self._retried(lambda: self._send("PATCH", f"/issues/{issue.number}", json={"labels": labels}))

    def close(self, issue: Issue) -> None:
        """Closes an issue as completed."""
        change = {"state": "closed", "state_reason": "completed"}
        self._retried(lambda: self._send("PATCH", f"/issues/{issue.number}", json=change))

    def _said(self, issue: Issue, text: str) -> bool:
        if text in (self._send("GET", f"/issues/{issue.number}").get("body") or ""):
            return True
        page = 1
        while True:
            batch = self._send("GET", f"/issues/{issue.number}/comments", params={"per_page": _PER_PAGE, "page": page})
            if any(text in (c.get("body") or "") for c in batch):
                return True
            if len(batch) < _PER_PAGE:
                return False
            page += 1

    def _send(self, method: str, path: str, **more: Any) -> Any:
        return self._client.request(method, f"/repos/{self._repository}{path}", **more).json()

    def _retried(self, action: Callable[[], Any]) -> Any:
        return self._retried_writing(lambda _: action())

    def _retried_writing(self, action: Callable[[bool], T]) -> T:
        """Calls `action(again)` until it succeeds; waits as long as GitHub asks, or longer each time."""
        from githubkit.exception import GitHubException

        for attempt in range(ATTEMPTS):
            try:
                return action(attempt > 0)
            except (GitHubException, ValueError) as e:
                wait_s = self._wait_s(e, attempt)
                if wait_s is None or attempt == ATTEMPTS - 1 or wait_s > self._left_s:
                    raise self._explained(e, wait_s) from None  # the cause holds the request, and that the token
                self._told(f"{self._host}: {self._what(e)}; again in {wait_s:.0f} s")
                self._left_s -= wait_s
                self._sleep(wait_s)
        raise AssertionError("unreachable")

    def _wait_s(self, error: Exception, attempt: int) -> float | None:
        """Seconds to wait before the next attempt; None where another one is no use."""
        from githubkit.exception import RateLimitExceeded, RequestError, RequestFailed

        if isinstance(error, RateLimitExceeded):
            return max(0.0, float(error.retry_after.total_seconds()))
        back_off = min(60.0, 2.0**attempt) * random.uniform(1.0, 1.25)  # noqa: S311 - so that jobs don't return together
        if isinstance(error, RequestFailed):
            status = error.response.status_code
            if status == 429 or (status == 403 and "rate limit" in self._message(error).lower()):
                return 60.0 * (attempt + 1)
            return back_off if status >= 500 or status == 408 else None
        if isinstance(error, RequestError):  # no connection, or no answer in time
            return back_off
        # A Retry-After that githubkit can't read (a date), or a body that is no JSON.
        return back_off if isinstance(error, ValueError) else None

    def _explained(self, error: Exception, wait_s: float | None) -> GitHubError:
        from githubkit.exception import RateLimitExceeded, RequestFailed

        hint = None
        if isinstance(error, RequestFailed):
            hint = {
                401: "GITHUB_TOKEN is wrong or expired",
                403: "the token needs to write issues: in a workflow, permissions: issues: write",
                404: "GITHUB_REPOSITORY is wrong, or the token may not see it",
                410: "the repository has no issues: its settings turn them on",
            }.get(error.response.status_code)
        if isinstance(error, RateLimitExceeded) or (wait_s is not None and wait_s > self._left_s):
            hint = f"the limit ends in {wait_s:.0f} s, and --wait allows less"
        return GitHubError(f"{self._host}, {self._repository}: {self._what(error)}", hint=hint)

    def _what(self, error: Exception) -> str:
        from githubkit.exception import RequestFailed

        if isinstance(error, RequestFailed):
            said = self._message(error)
            text = f"{error.response.status_code}{f' ({said})' if said else ''}"
        else:
            text = f"no usable answer: {error}"
        return visible(text.replace(self._token, "***"))[:300]

    @staticmethod
    def _message(error: Any) -> str:
        try:
            content = error.response.json()
        except ValueError:
            return ""
        return str(content.get("message", "")) if isinstance(content, dict) else ""


def _issue(entry: dict[str, Any], fingerprint: str) -> Issue:
    names = (x["name"] if isinstance(x, dict) else str(x) for x in entry.get("labels", []))
    return Issue(number=entry["number"], url=entry["html_url"], fingerprint=fingerprint, labels=frozenset(names))


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname == "localhost"
    if parts.hostname and not local:
        try:
            local = ipaddress.ip_address(parts.hostname).is_loopback
        except ValueError:
            local = False
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise UsageError(f"GITHUB_API_URL {url!r} is no https address", hint="the token would be readable on its way")
