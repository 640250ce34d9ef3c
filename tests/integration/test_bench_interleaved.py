"""Measuring in turns over real HTTP servers: what is kept when something goes wrong. No outcome depends on times."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbperf.bench.interleaved import Measurement
from dbperf.bench.requests import BenchRequest, chosen, read_requests, reference_requests
from dbperf.bench.revision import checked_out, working_tree
from dbperf.bench.sides import UrlSide, data_differ
from dbperf.errors import ConfigError, Interrupted, UsageError
from dbperf.records.comparison import Machine
from dbperf.records.interleaved import Interleaved, TurnsSide
from dbperf.stats.sequential import Plan
from tests.support.httpserver import FaultyServer
from tests.support.revisions import git

PLAN = Plan(run=2, quads=8, looks=(0.5, 1.0))


@pytest.fixture
def servers() -> Iterator[tuple[FaultyServer, FaultyServer]]:
    with FaultyServer() as a, FaultyServer() as b:
        yield a, b


class Judge:
    """Says what is settled at each look; keeps what it was shown."""

    def __init__(self, *settled: str, at_look: object = None) -> None:
        self.seen: list[Interleaved] = []
        self._settled = frozenset(settled)
        self._at_look = at_look

    def __call__(self, found: Interleaved) -> frozenset[str]:
        self.seen.append(found)
        if callable(self._at_look) and len(self.seen) == 1:
            self._at_look()
        return self._settled


def measure(a: str, b: str, *endpoints: str, judge: Judge | None = None, budget_s: float = 120) -> Interleaved:
    sides = (UrlSide(u, "k3y", TurnsSide(what=u)) for u in (a, b))
    requests = [BenchRequest(endpoint=e) for e in endpoints]
    return Measurement(
        *sides, requests, judge or Judge(), plan=PLAN, budget_s=budget_s, seed=4, machine=Machine()
    ).run()  # fmt: skip


def test_both_sides_get_the_same_requests_in_the_coins_order(servers: tuple[FaultyServer, FaultyServer]) -> None:
    a, b = servers
    judge = Judge()
    found = measure(a.url, b.url, "GET /ok", "GET /secret", judge=judge)
    assert found.ended == "plan"
    for e in found.endpoints:
        assert (len(e.a_ms), len(e.b_ms), e.looks) == (8, 8, [4, 8])
        assert {len(q) for q in e.a_ms + e.b_ms} == {4}
        assert (e.requests_a, e.requests_b, e.errors_a, e.errors_b) == (32, 32, 0, 0)
        assert len(set(e.a_first)) == 2
    assert [len(s.endpoints[0].a_ms) for s in judge.seen] == [4, 8]
    assert (found.endpoints[0].took_rest, found.endpoints[0].starts) == (True, [1, 1])


def test_what_is_settled_is_measured_no_further(servers: tuple[FaultyServer, FaultyServer]) -> None:
    found = measure(servers[0].url, servers[1].url, "GET /ok", "GET /secret", judge=Judge("GET /ok"))
    assert [len(e.a_ms) for e in found.endpoints] == [4, 8]
    found = measure(servers[0].url, servers[1].url, "GET /ok", judge=Judge("GET /ok"))
    assert (found.ended, len(found.endpoints[0].a_ms)) == ("settled", 4)


def test_errors_are_counted_and_their_quads_left_out(servers: tuple[FaultyServer, FaultyServer]) -> None:
    found = measure(servers[0].url, servers[1].url, "GET /status/500", "GET /reset")
    for e in found.endpoints:
        assert (e.a_ms, e.b_ms, e.requests_a, e.errors_a, e.errors_b) == ([], [], 32, 32, 32)
        assert e.first_error_a is not None
    assert "answered 500" in (found.endpoints[0].first_error_b or "")


def test_an_endpoint_that_one_side_lacks_is_said_and_left_out(servers: tuple[FaultyServer, FaultyServer]) -> None:
    found = measure(servers[0].url, f"{servers[1].url}/elsewhere", "GET /ok", "GET /nowhere")
    assert [(e.missing, e.requests_a) for e in found.endpoints] == [("B", 0), ("both", 0)]
    assert found.ended == "settled"


def test_a_side_that_dies_leaves_what_was_measured(servers: tuple[FaultyServer, FaultyServer]) -> None:
    a, b = servers

    found = measure(a.url, b.url, "GET /ok", judge=Judge(at_look=b.process.stop))
    assert found.ended == "side_died"
    assert "side B" in (found.detail or "")
    assert len(found.endpoints[0].a_ms) == len(found.endpoints[0].b_ms) == 4
    assert found.endpoints[0].took_rest


@pytest.mark.parametrize("how", [KeyboardInterrupt(), Interrupted("SIGTERM")], ids=["ctrl-c", "sigterm"])
def test_an_interruption_leaves_what_was_measured(
    servers: tuple[FaultyServer, FaultyServer], how: BaseException
) -> None:
    def interrupt() -> None:
        raise how

    found = measure(servers[0].url, servers[1].url, "GET /ok", judge=Judge(at_look=interrupt))
    assert (found.ended, len(found.endpoints[0].a_ms)) == ("interrupted", 4)


def test_no_quad_begins_after_the_budget(servers: tuple[FaultyServer, FaultyServer]) -> None:
    found = measure(servers[0].url, servers[1].url, "GET /ok", budget_s=0.0)
    assert found.ended == "budget"
    assert found.endpoints[0].a_ms == []


def test_sides_with_other_data_are_not_measured() -> None:
    small, large = (TurnsSide(what="x", rows={"t": n, "u": 3}) for n in (500, 10_000))
    assert data_differ(small, large) == "t holds 500 rows against 10,000"
    assert data_differ(small, TurnsSide(what="x", rows={"u": 3})) == "only A has the table t"
    assert data_differ(small, small) is data_differ(small, TurnsSide(what="x")) is None
    found = Measurement(
        UrlSide("http://127.0.0.1:1", None, small), UrlSide("http://127.0.0.1:1", None, large),
        [BenchRequest(endpoint="GET /ok")], Judge(), plan=PLAN, budget_s=9, seed=1, machine=Machine(),
    ).run()  # fmt: skip
    assert (found.ended, found.endpoints[0].requests_a) == ("not_comparable", 0)


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with a reference target by name, in two commits."""
    folder = tmp_path / "repo"
    (folder / "dbperf" / "phase3").mkdir(parents=True)
    git(tmp_path, "init", "--quiet", "repo")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "nothing yet")
    (folder / "dbperf" / "phase3" / "__main__.py").write_text("1\n")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "one")
    return folder


def test_a_revision_is_there_for_a_while(repo: Path) -> None:
    (repo / "dbperf" / "phase3" / "__main__.py").write_text("2\n")
    (repo / ".git" / "hooks" / "post-checkout").write_text("#!/bin/sh\ntouch hook-ran\n")
    (repo / ".git" / "hooks" / "post-checkout").chmod(0o755)
    ours = working_tree(repo / "dbperf")
    assert (ours.folder.resolve(), ours.dirty) == (repo.resolve(), True)

    def use() -> None:
        with checked_out(ours.folder, "HEAD") as code:
            assert (code.folder / "dbperf" / "phase3" / "__main__.py").read_text() == "1\n"
            assert not code.folder.resolve().is_relative_to(repo.resolve())
            assert not list(code.folder.rglob("hook-ran"))
            assert code.revision == git(repo, "rev-parse", "HEAD")
            seen.append(code.folder)
            raise KeyboardInterrupt

    seen: list[Path] = []
    with pytest.raises(KeyboardInterrupt):
        use()
    assert not seen[0].parent.exists()
    assert git(repo, "worktree", "list", "--porcelain").count("worktree ") == 1
    assert git(repo, "status", "--porcelain") == "M dbperf/phase3/__main__.py"


@pytest.mark.parametrize("name", ["nowhere", "--help", "HEAD:dbperf", ""])
def test_an_unknown_revision_is_an_error(repo: Path, name: str) -> None:
    with pytest.raises(UsageError, match="no revision"), checked_out(repo, name):
        pass


def test_code_without_the_reference_target_is_an_error(repo: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="HEAD~1 has no reference target"), checked_out(repo, "HEAD~1"):
        pass
    with pytest.raises(UsageError, match="no git repository"):
        working_tree(tmp_path)
    subprocess.run(["git", "-C", repo, "checkout", "--quiet", "HEAD~1"], check=True, timeout=300)
    with pytest.raises(UsageError, match="does not hold dbperf's reference target"):
        working_tree(repo)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[]", "no request"),
        ("[{", "truncated"),
        ('{"endpoint": "GET /a"}', "Expected `array`"),
        ('[{"endpoint": "/a"}]', "no method and path"),
        ('[{"endpoint": "GET /a"}, {"endpoint": "GET /a"}]', "twice"),
        ('[{"endpoint": "GET /a", "path": "b"}]', "does not begin"),
        ('[{"path": "/b"}]', "endpoint"),
    ],
)
def test_a_bad_file_of_requests_is_an_error(tmp_path: Path, content: str, said: str) -> None:
    file = tmp_path / "requests.json"
    file.write_text(content)
    with pytest.raises(ConfigError, match=said) as e:
        read_requests(file)
    assert "requests.json" in e.value.message


def test_requests_are_chosen_by_name_and_by_what_they_do() -> None:
    known = reference_requests("case-000001", "v1")
    assert len(known) == 7
    assert [r.endpoint for r in chosen(known, "Search", writes=False)] == ["POST /search"]
    assert not any(r.writes for r in chosen(known, None, writes=False))
    assert len(reference_requests(None, None)) == 5
    with pytest.raises(UsageError, match="no endpoint holds 'nowhere'"):
        chosen(known, "nowhere", writes=True)
    with pytest.raises(UsageError, match="writes to your API"):
        chosen(known, "batch", writes=False)
