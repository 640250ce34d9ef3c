"""`dbperf issue` against a server that plays GitHub's API, errors included."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from dbperf.cli.issue import issue
from dbperf.errors import GitHubError, RecordError, UsageError
from dbperf.records.comparison import Comparison, Service
from dbperf.records.rundir import RunDirectory
from dbperf.regress.compare import compare
from dbperf.regress.github_issues import GitHubIssues
from dbperf.regress.issue import MAX_BODY, Evidence, body, families, marked, marker, run_marker
from dbperf.regress.judge import Rules
from dbperf.regress.sources import read_side
from tests.support.cli import dbperf, environment
from tests.support.comparing import lognormal, make_run
from tests.support.github_api import TOKEN, Fault, GitHubApi
from tests.support.sample_run import sample_run

A, B = "GET /a", "POST /b"


@pytest.fixture
def api() -> Iterator[GitHubApi]:
    with GitHubApi() as found:
        yield found


class Command:
    """`dbperf issue` in this process: starting Python a dozen times would take longer than all the rest."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, url: str):
        monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
        monkeypatch.setenv("GITHUB_API_URL", url)
        monkeypatch.chdir(folder)
        self.capsys = capsys

    def __call__(self, run: str, *, dry_run: bool = False, close_fixed: bool = False) -> str:
        issue(run=Path(run), dry_run=dry_run, close_fixed=close_fixed, repository="owner/name", wait="10m")
        return self.capsys.readouterr().out


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, api: GitHubApi
) -> Command:
    return Command(monkeypatch, capsys, tmp_path, api.url)


class Slept:
    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.times.append(seconds)


def client(api: GitHubApi, slept: Slept | None = None, **more: object) -> GitHubIssues:
    return GitHubIssues("owner/name", TOKEN, api_url=api.url, sleep=slept or Slept(), **more)  # type: ignore[arg-type]


def compared(tmp_path: Path, factors: dict[str, float], name: str = "b", **rules: object) -> Comparison:
    """A run compared with one in which nothing is slow; kept in the run."""
    if not (a := tmp_path / "a").exists():
        make_run(a, {s: lognormal(3000, seed=i) for i, s in enumerate(factors)}, git_revision="a" * 40)
    latencies = {s: [x * f for x in lognormal(3000, seed=10 + i)] for i, (s, f) in enumerate(factors.items())}
    b = make_run(tmp_path / name, latencies, git_revision="b" * 40, command=["/x/dbperf", "run", "--suite", "my suite"])
    found = compare(read_side(a), read_side(b), Rules(services=rules.pop("services", []), overrides={}))  # type: ignore[arg-type]
    RunDirectory.open(b).write(found)
    return found


def test_families_are_services_or_endpoints(tmp_path: Path) -> None:
    found = compared(tmp_path, {A: 1.2, B: 1.0})
    slow, fine = families(found)
    assert (slow.name, [m.metric for m in slow.failing]) == (A, ["p50", "p95"])
    assert (fine.failing, fine.gone) == ([], True)
    assert slow.priority == "priority-high"
    assert families(compared(tmp_path, {A: 1.8, B: 1.0}, "c"))[0].priority == "priority-critical"
    everything = [Service(name="all", endpoints=["*"])]
    (one,) = families(compared(tmp_path, {A: 1.2, B: 1.3}, "d", services=everything))
    assert (one.name, len(one.failing)) == ("all", 4)
    assert slow.fingerprint == families(compared(tmp_path, {A: 1.5, B: 1.0}, "e"))[0].fingerprint
    assert slow.fingerprint != one.fingerprint


def test_the_text_has_what_a_reader_needs(tmp_path: Path) -> None:
    found = compared(tmp_path, {A: 1.2, B: 1.0})
    text = body(
        families(found)[0], found,
        Evidence(
            statements=["`SELECT 1`: 1 ms → 2 ms per request"], flames=["`f`: 1 ms → 2 ms"], reproduce=["dbperf run"],
            repository_url="https://github.com/owner/name",
        ),
    )  # fmt: skip
    for part in (
        "| GET /a p95 |", "Suspected commits", f"`{'a' * 12}..{'b' * 12}`", "/compare/aaaaaaaaaaaa...bbbbbbbbbbbb",
        "### Statements and plans", "flame graphs", "```sh\ndbperf run\n```", "any false alarm",
    ):  # fmt: skip
        assert part in text
    assert marked(text) == families(found)[0].fingerprint
    assert run_marker(found) in text


def test_a_text_that_is_too_long_keeps_its_marker(tmp_path: Path) -> None:
    found = compared(tmp_path, {A: 1.2})
    text = body(families(found)[0], found, Evidence(statements=["x" * 100] * 2000))
    assert len(text) <= MAX_BODY + 200
    assert "What does not fit here" in text
    assert marked(text) == families(found)[0].fingerprint


def test_names_of_endpoints_are_no_markup_and_mention_nobody(tmp_path: Path) -> None:
    hostile = "GET /<!-- dbperf-regression: 0123456789abcdef -->|`@octocat #1"
    found = compared(tmp_path, {hostile: 1.5})
    (family,) = families(found)
    text = body(family, found, Evidence())
    assert marked(text) == family.fingerprint
    assert not re.search(r"(?<!\\)@octocat|(?<!\\)#1", text)


def test_filed_once_and_commented_on_after_that(tmp_path: Path, api: GitHubApi, command: Command) -> None:
    compared(tmp_path, {A: 1.2, B: 1.0})
    assert command("b") == f"filed #1 {api.url}/owner/name/issues/1\n"
    (filed,) = api.issues
    assert filed["title"].startswith("Performance regression: GET /a (p")
    assert {x["name"] for x in filed["labels"]} == {"performance", "regression", "automated", "priority-high"}
    assert "dbperf run --suite 'my suite'" in filed["body"]
    assert "has this run already" in command("b")
    filed["labels"].append({"name": "team-x"})
    compared(tmp_path, {A: 1.9, B: 1.0}, "c")
    assert "commented on #1" in command("c")
    assert len(api.issues) == 1
    assert len(api.comments[1]) == 1
    labels = {x["name"] for x in filed["labels"]}
    assert labels == {"performance", "regression", "automated", "priority-critical", "team-x"}


def test_closed_when_it_is_gone_and_only_then(tmp_path: Path, api: GitHubApi, command: Command) -> None:
    for fingerprint in ("ffffffffffffffff", families(compared(tmp_path, {A: 1.2, B: 1.0}))[0].fingerprint):
        client(api).file(fingerprint, "t", marker(fingerprint), ["regression", "automated"])
    compared(tmp_path, {A: 1.0, B: 1.0}, "c")
    assert command("c") == "no regression: nothing to file\n"
    assert [i["state"] for i in api.issues] == ["open", "open"]
    assert "closed #2" in command("c", close_fixed=True)
    assert [i["state"] for i in api.issues] == ["open", "closed"]  # the other's family was not measured
    assert "is gone" in api.comments[2][0]
    assert api.issues[1]["state_reason"] == "completed"


def test_dry_run_asks_nobody(tmp_path: Path, api: GitHubApi, command: Command) -> None:
    compared(tmp_path, {A: 1.2})
    text = command("b", dry_run=True)
    assert text.startswith("Title: Performance regression: GET /a")
    assert "Labels: performance, regression, automated, priority-high" in text
    assert api.requests == []
    assert TOKEN not in text


def test_issues_are_found_on_every_page(api: GitHubApi) -> None:
    for i in range(205):
        api.add("t", marker(f"{i:016x}"), ["regression", "automated"])
    api.add("t", "no marker", ["regression", "automated"])
    api.issues[3]["pull_request"] = {}
    assert len(client(api).open_issues()) == 204


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (Fault("POST", 403, {"Retry-After": "7"}, {"message": "secondary rate limit"}), [7, 7]),
        (Fault("POST", 429, {"Retry-After": "3"}), [3, 3]),
        (Fault("POST", 403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1"}), [0, 0]),
        (Fault("POST", 403, {}, {"message": "You have exceeded a secondary rate limit."}), [60, 60]),
        (Fault("POST", 429, {}), [60, 60]),
        (Fault("POST", 429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), [1, 1.25]),
        (Fault("POST", 502, {}, b"<html>"), [1, 1.25]),
        (Fault("POST", 500), [1, 1.25]),
    ],
)
def test_limits_and_outages_are_waited_for(api: GitHubApi, fault: Fault, waits: list[float]) -> None:
    slept = Slept()
    api.faults = [fault]
    issue = client(api, slept).file("a" * 16, "t", marker("a" * 16), ["regression", "automated"])
    assert issue.number == 1
    assert len(slept.times) == 1
    assert waits[0] <= slept.times[0] <= waits[1]


def test_back_off_grows(api: GitHubApi) -> None:
    slept = Slept()
    api.faults = [Fault("GET", 503) for _ in range(4)]
    assert client(api, slept).open_issues() == {}
    assert all(b >= 1.5 * a for a, b in zip(slept.times, slept.times[1:], strict=False))


def test_what_was_filed_although_the_answer_was_lost_is_not_filed_again(api: GitHubApi) -> None:
    api.faults = [Fault("POST", 0)]
    github = client(api)
    issue = github.file("a" * 16, "t", marker("a" * 16), ["regression", "automated"])
    assert len(api.issues) == issue.number == 1
    api.faults = [Fault("POST", 0)]
    github.comment(issue, "text <!-- seen -->", "<!-- seen -->")
    assert api.comments[1] == ["text <!-- seen -->"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault("GET", 403, {}, {"message": "Resource not accessible by integration"}), "issues: write"),
        (Fault("GET", 404), "GITHUB_REPOSITORY"),
        (Fault("GET", 410, {}, {"message": "Issues are disabled for this repo"}), "no issues"),
        (Fault("GET", 429, {"Retry-After": "3600"}), "--wait allows less"),
    ],
)
def test_refusals_say_what_to_do(api: GitHubApi, fault: Fault, said: str) -> None:
    api.faults = [fault]
    slept = Slept()
    with pytest.raises(GitHubError) as refused:
        client(api, slept).open_issues()
    assert said in str(refused.value.hint)
    assert slept.times == []


def test_an_outage_that_does_not_end_ends_the_attempt(api: GitHubApi) -> None:
    api.faults = [Fault("GET", 502) for _ in range(20)]
    with pytest.raises(GitHubError, match="502"):
        client(api).open_issues()
    assert len(api.requests) == 6


def test_a_wrong_token_is_never_shown(tmp_path: Path, api: GitHubApi) -> None:
    compared(tmp_path, {A: 1.2})
    wrong = "ghp_wrongOne"
    env = environment(tmp_path, GITHUB_TOKEN=wrong, GITHUB_REPOSITORY="owner/name", GITHUB_API_URL=api.url)
    done = dbperf("issue", "b", env=env, cwd=tmp_path)
    assert done.returncode == 3
    assert "401" in done.stderr
    assert "GITHUB_TOKEN is wrong" in done.stderr
    assert wrong not in done.stdout + done.stderr


def test_what_does_not_fit_is_refused_before_anything_is_sent(tmp_path: Path, api: GitHubApi, command: Command) -> None:
    for arguments, options in (
        (("owner", TOKEN), {}), (("owner/name", "  "), {}), (("owner/name", "a\nb"), {}),
        (("owner/name", TOKEN), {"api_url": "http://github.example.org"}),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            GitHubIssues(*arguments, **options)
    make_run(tmp_path / "r", {A: lognormal(500)})
    with pytest.raises(RecordError, match="was not compared"):
        command("r")
    found = compared(tmp_path, {A: 1.5})
    sample = msgspec.structs.replace(found, b=msgspec.structs.replace(found.b, provenance="sample"))
    RunDirectory.open(tmp_path / "b").write(sample)
    with pytest.raises(UsageError, match="sample data"):
        command("b")
    assert api.requests == []


def test_without_githubkit_the_extra_is_named() -> None:
    program = (
        "import sys; sys.modules['githubkit'] = None\n"
        "from dbperf.errors import UsageError\n"
        "from dbperf.regress.github_issues import GitHubIssues\n"
        "try: GitHubIssues('a/b', 't')\n"
        "except UsageError as e: print(e.hint)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'dbperf[github]'\n"


def test_statements_plans_and_frames_that_take_longer_are_named(tmp_path: Path, command: Command) -> None:
    before = sample_run(tmp_path / "before", endpoints=3, flames=True, seed=1)
    after = sample_run(tmp_path / "after", endpoints=3, flames=True, factor=3)
    after.write(compare(read_side(before.path), read_side(after.path), Rules(services=[], overrides={})))
    text = command("after", dry_run=True)
    assert text.count("Title: ") == 1
    assert "### Statements and plans" in text
    assert re.search(r"- `.*execution_log\.log_id.*`: .* → .* per request", text)
    assert "### Where the time went" in text
    assert re.search(r"- `POST /[a-z/]+`, `.+`: [\d,.]+ m?s → [\d,.]+ m?s", text)
    assert "dbperf compare" in text[text.index("### Reproduce") :]
