"""`dbperf view` as a process: what it serves, to whom, and that it changes nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from dbperf.report.view import Viewer
from tests.support.chromium import chromium
from tests.support.sample_run import START, sample_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("view")
    for day in range(2):
        sample_run(root / f"{day} ü run", endpoints=2, seed=day, start=START + timedelta(days=day))
    sample_run(root / "hostile", endpoints=3, hostile=True, start=START + timedelta(days=2))
    return root


@pytest.fixture(scope="module")
def url(root: Path) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "dbperf", "view", str(root), "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 0, "Ctrl-C is the way to end it"
    process.stdout.close()


def _files(root: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_the_list_leads_to_the_reports_and_nothing_is_written(url: str, root: Path) -> None:
    before = _files(root)
    page = httpx.get(url, timeout=300)
    assert page.status_code == 200
    assert page.text.count("/report.html") == 3
    for name in ("report.html", "summary.md", "report.json"):
        found = httpx.get(f"{url}runs/1%20%C3%BC%20run/{name}", timeout=300)
        assert found.status_code == 200
        assert found.headers["x-content-type-options"] == "nosniff"
    assert httpx.get(f"{url}runs/1%20%C3%BC%20run/report.json", timeout=300).json()["kind"] == "report"
    assert httpx.head(url, timeout=300).content == b""
    assert _files(root) == before


@pytest.mark.parametrize(
    "path",
    ["runs/../run/report.html", "runs/%2e%2e/report.html", "runs/0 ü run/run.json", "runs/x/report.html", "etc/passwd",
     "runs/0%20%C3%BC%20run/../../../../etc/passwd", "runs//report.html", "runs/0%20%C3%BC%20run/%00"],
)  # fmt: skip
def test_only_reports_of_listed_runs_are_served(url: str, path: str) -> None:
    # Not httpx: a client would tidy the path before it sends it.
    connection = HTTPConnection(url.removeprefix("http://").rstrip("/"))
    connection.request("GET", f"/{quote(path, safe='/%.')}")
    assert connection.getresponse().status == 404
    connection.close()


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", ""])
def test_other_hosts_are_refused(url: str, host: str) -> None:
    assert httpx.get(url, headers={"Host": host}, timeout=300).status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_it_only_reads(url: str, method: str) -> None:
    assert httpx.request(method, url, timeout=300).status_code == 501


def test_it_listens_on_the_loopback_only(root: Path) -> None:
    viewer = Viewer(root)
    try:
        assert viewer.address == "127.0.0.1"
    finally:
        viewer.close()


def test_a_port_in_use_is_a_clear_error(url: str, root: Path) -> None:
    port = url.rstrip("/").rsplit(":", 1)[1]
    done = subprocess.run(
        [sys.executable, "-m", "dbperf", "view", str(root), "--port", port], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert f"port {port} on 127.0.0.1 can't be used" in done.stderr
    assert "--port 0" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_folder_is_a_clear_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dbperf", "view", str(tmp_path / "nowhere")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no folder of runs" in done.stderr


@pytest.mark.browser
def test_in_the_browser(url: str) -> None:
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 390, "height": 800})
        complaints: list[str] = []
        page.on("console", lambda m: complaints.append(m.text))
        page.on("dialog", lambda d: complaints.append(d.message))
        page.goto(url)
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.locator(".trend svg.chart").count() > 2
        page.fill('[data-filter="runs-table"]', "ü")
        assert page.locator("#runs-table tbody tr:visible").count() == 2
        page.locator("#runs-table tbody tr:visible a").first.click()
        page.wait_for_selector("#verdict-title")
        page.go_back()
        assert page.evaluate("window.pwned ?? null") is None
        assert [c for c in complaints if "favicon" not in c] == []
