"""The composite action, step by step as GitHub runs it: real comparisons, and a local server that plays GitHub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from ruamel.yaml import YAML

from tests.support.cli import environment
from tests.support.comparing import lognormal, make_run
from tests.support.doc_pages import known_commands

ROOT = Path(__file__).parents[2]
ACTION = ROOT / ".github" / "actions" / "dbperf"
BIN = Path(sys.executable).parent
Comment = dict[str, Any]


class GitHub:
    """The comments of pull request 7 of owner/name."""

    def __init__(self) -> None:
        self.comments: list[Comment] = []
        self.status = 200
        github = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                content = json.loads(self.rfile.read(length)) if length else {}
                answer = github.answer(self.command, urlsplit(self.path), content)
                status = github.status if self.command != "GET" else 200
                data = json.dumps(answer if status == 200 else {"message": "no"}).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = _any

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, method: str, url: Any, content: Comment) -> Any:
        if method == "GET":
            query = parse_qs(url.query)
            size, page = int(query["per_page"][0]), int(query["page"][0])
            assert url.path == "/repos/owner/name/issues/7/comments"
            return self.comments[size * (page - 1) : size * page]
        if self.status != 200:
            return None
        if method == "POST":
            assert url.path == "/repos/owner/name/issues/7/comments"
            self.comments.append({"id": len(self.comments), "html_url": f"{self.url}/7", **content})
            return self.comments[-1]
        number = int(url.path.removeprefix("/repos/owner/name/issues/comments/"))
        self.comments[number] |= content
        return self.comments[number]


@pytest.fixture
def github() -> Iterator[GitHub]:
    one = GitHub()
    thread = threading.Thread(target=one.server.serve_forever, daemon=True)
    thread.start()
    yield one
    one.server.shutdown()
    one.server.server_close()
    thread.join()


class Runner:
    """Runs the action's steps, with expressions evaluated as far as the action uses them."""

    def __init__(self, folder: Path, github: GitHub) -> None:
        self.folder = folder
        self.action = YAML(typ="safe").load((ACTION / "action.yml").read_text())
        self.env = environment(
            folder, GITHUB_ACTIONS="true", GITHUB_REPOSITORY="owner/name", GITHUB_API_URL=github.url,
            GITHUB_ACTION_PATH=str(ACTION), GITHUB_STEP_SUMMARY=str(folder / "summary.md"),
            PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",
        )  # fmt: skip
        self.kept: list[str] = []
        self.said = ""

    def __call__(self, **inputs: str) -> int:
        """The exit code of the first step that failed, or 0."""
        given = {name: str(field.get("default", "")) for name, field in self.action["inputs"].items()}
        given |= {name.replace("_", "-"): value for name, value in {"package": "", **inputs}.items()}
        values = {f"inputs.{name}": self.text(value, {"github.token": "t0ken"}) for name, value in given.items()}
        values |= {"github.event_name": "pull_request", "github.event.pull_request.number": "7"}
        failed = 0
        for step in self.action["runs"]["steps"]:
            name = f"steps.{step.get('id')}.outputs."
            wanted = str(step.get("if", "true"))
            if (failed and "cancelled" not in wanted) or not self.holds(wanted, values):
                continue
            if "uses" in step:
                self.kept = self.text(step["with"]["path"], values).split()
                values[f"{name}artifact-url"] = "http://127.0.0.1/artifact"
                continue
            code = self.run(step, name, values)
            failed = failed or code
        return failed

    def run(self, step: dict[str, Any], name: str, values: dict[str, str]) -> int:
        outputs = self.folder / "outputs"
        outputs.write_text("")
        env = {k: self.text(v, values) for k, v in step.get("env", {}).items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={**self.env, **env, "GITHUB_OUTPUT": str(outputs)}, cwd=self.folder, capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip
        self.said += done.stdout + done.stderr
        values |= {f"{name}{key}": value for key, _, value in (x.partition("=") for x in outputs.read_text().split())}
        return done.returncode

    def text(self, text: str, values: dict[str, str]) -> str:
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda m: values.get(m[1], ""), text)

    def holds(self, condition: str, values: dict[str, str]) -> bool:
        code = condition.removeprefix("${{ ").removesuffix(" }}").replace("!cancelled()", "True").replace("&&", "and")
        code = re.sub(r"(inputs|steps|github)\.[\w.-]+", lambda m: repr(values.get(m[0], "")), code)
        return bool(eval({"true": "True"}.get(code, code)))


@pytest.fixture
def runner(tmp_path: Path, github: GitHub) -> Runner:
    make_run(tmp_path / "base", {"GET /a": lognormal(2000), "GET /b": lognormal(2000, seed=2)})
    make_run(tmp_path / "same", {"GET /a": lognormal(2000, seed=3), "GET /b": lognormal(2000, seed=4)})
    make_run(tmp_path / "slow", {"GET /a": lognormal(2000, median_ms=150), "GET /b": lognormal(2000, seed=5)})
    return Runner(tmp_path, github)


def test_a_regression_fails_is_commented_and_kept(runner: Runner, github: GitHub) -> None:
    assert runner(before="base", after="slow") == 1, runner.said
    (comment,) = github.comments
    assert comment["body"].startswith("<!-- dbperf: dbperf -->\n# Regression analysis")
    assert "GET /a p95" in comment["body"]
    assert "[The report](http://127.0.0.1/artifact)" in comment["body"]
    assert runner.kept == ["slow/report.html", "slow/regression-analysis.md", "slow/comparison.json"]
    assert all((runner.folder / path).is_file() for path in runner.kept)
    assert "GET /a p95" in (runner.folder / "summary.md").read_text()
    # The next push mends it: the same comment says so. Those of other people and jobs stay as they are.
    github.comments.insert(0, {"id": 0, "body": "> <!-- dbperf: dbperf -->"})
    github.comments[1]["id"] = 1
    github.comments.append({"id": 2, "body": "<!-- dbperf: nightly -->\n"})
    assert runner(before="base", after="same", options="--run-to-run 10%") == 0, runner.said
    assert [c["body"].partition("\n")[0] for c in github.comments] == [
        "> <!-- dbperf: dbperf -->", "<!-- dbperf: dbperf -->", "<!-- dbperf: nightly -->",
    ]  # fmt: skip
    assert "## Failures" not in github.comments[1]["body"]


def test_a_token_that_may_not_write_and_a_run_that_is_not_there(runner: Runner, github: GitHub) -> None:
    github.status = 403
    assert runner(before="base", after="same", options="--run-to-run 10%") == 0
    assert (
        "::warning::no comment was written: the token may not (403; permissions: pull-requests: write)" in runner.said
    )
    assert github.comments == []
    assert runner(before="base", after="nowhere") == 3
    assert runner(before="base") == 2
    assert "::error::give before and after, url and against-url, or against" in runner.said


def test_a_comment_is_found_on_a_later_page_and_cut_where_it_is_too_long(github: GitHub, tmp_path: Path) -> None:
    github.comments = [{"id": i, "body": "x", "html_url": ""} for i in range(230)]
    github.comments[205]["body"] = "<!-- dbperf: dbperf -->\nold"
    (tmp_path / "long.md").write_text("a line of the table\n" * 10_000)
    done = subprocess.run(
        [sys.executable, ACTION / "comment.py", "--number", "7", tmp_path / "long.md"],
        env=environment(tmp_path, GITHUB_REPOSITORY="owner/name", GITHUB_API_URL=github.url, GITHUB_TOKEN="t"),
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, len(github.comments)) == (0, 230), done.stderr
    body = github.comments[205]["body"]
    assert 60_000 < len(body) < 65_536
    shown = body.count("a line of the table\n")
    assert f"*{10_000 - shown} more lines did not fit here.*" in body


def test_the_commands_and_options_of_the_action_exist() -> None:
    known = {path: {o for p in command.params for o in p.opts} for path, command in known_commands().items()}
    text = (ACTION / "action.yml").read_text()
    found = re.findall(r"command=\((\w+) ?([^)]*)\)", text) + re.findall(r'"\$DBPERF" (report) (.*)', text)
    assert {name for name, _ in found} == {"compare", "bench", "report"}
    for name, arguments in found:
        assert set(re.findall(r"--[\w-]+", arguments)) <= known[f"dbperf {name}"], name


@pytest.mark.parametrize("before", ["slow", "fast", None])
def test_the_weekly_load_is_compared_with_the_last_one(tmp_path: Path, before: str | None) -> None:
    """The step of load.yml, with a `gh` that has the artifact of the second to last run only."""
    workflow = YAML(typ="safe").load((ROOT / ".github" / "workflows" / "load.yml").read_text())
    step = next(s for s in workflow["jobs"]["load"]["steps"] if s.get("id") == "compare")
    make_run(tmp_path / "reports" / "load", {"GET /a": lognormal(2000)})
    if before:
        make_run(tmp_path / "kept", {"GET /a": lognormal(2000, median_ms=150 if before == "slow" else 20, seed=2)})
    bin_ = tmp_path / ".venv" / "bin"
    bin_.mkdir(parents=True)
    (bin_ / "dbperf").symlink_to(BIN / "dbperf")
    (bin_ / "gh").write_text(
        "#!/bin/sh\n"
        'if [ "$2" = list ]; then echo 12; echo 11; exit; fi\n'
        '[ "$3" = 11 ] && [ "$5" = load-LOAD-001 ] && [ -d kept ] && cp -r kept "$7"\n'
    )
    (bin_ / "gh").chmod(0o755)
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env=environment(
            tmp_path, PATH=f"{bin_}{os.pathsep}{os.environ['PATH']}", NAME="load-LOAD-001", SUITE="LOAD-001",
            GITHUB_REF_NAME="main", GITHUB_OUTPUT=str(tmp_path / "out"), GITHUB_STEP_SUMMARY=str(tmp_path / "summary"),
        ),
        cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == (1 if before == "fast" else 0), done.stdout + done.stderr
    said = (tmp_path / "out").read_text() if (tmp_path / "out").exists() else ""
    assert said == ("regression=true\n" if before == "fast" else "")
    assert (tmp_path / "reports" / "load" / "comparison.json").exists() == (before is not None)


def test_the_page_tells_every_input_and_no_other() -> None:
    page = (ROOT / "docs" / "action.md").read_text(encoding="utf-8")
    table = page.partition("| input | |")[2].partition("\n\n")[0]
    inputs = YAML(typ="safe").load((ACTION / "action.yml").read_text())["inputs"].keys()
    told = {name for row in table.splitlines() for name in re.findall(r"`([\w-]+)`", row.split("|")[1] if row else "")}
    assert told | {"dbperf", "run"} == set(inputs), "dbperf and run are for special cases"
    example = page.partition("```yaml")[2].partition("```")[0]
    assert set(YAML(typ="safe").load(example)["jobs"]["performance"]["steps"][0]["with"]) <= inputs
