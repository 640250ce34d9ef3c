"""Runs the commands of the documentation's pages, each page in a folder of its own, against the shop's servers.

What a page calls a database, an address or a process is put in its place (`Pages.real`); what takes minutes is
shortened (`SHORTER`). Nothing else of a command is changed. What can't run on one machine is in `ELSEWHERE`, with
the reason.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import dbperf, environment
from tests.support.doc_pages import PAGES, ROOT, Step, all_commands, blocks, dbperf_commands
from tests.support.pgserver import PgServer, bindir_18
from tests.support.shop import ServedShop, make_database, write_files
from tests.support.waiting import eventually

ELSEWHERE = {
    "dbperf load loadtests/api.toml --master --workers 2 --url http://staging.internal:8000 "
    "--i-know-this-is-not-production": "waits for workers on two other machines (tests/integration/test_load_fleet.py)",
    "dbperf load --worker --master-host 10.0.0.5": "works for a master on another machine",
    "dbperf load --worker --master-host 10.0.0.5 --region eu-west": "works for a master on another machine",
    "dbperf load --worker --master-host 10.0.0.5 --region asia=180ms": "works for a master on another machine",
    "dbperf issue reports/runs/after --close-fixed": "needs GitHub and a token (test_regress_issue.py has its API)",
}
"""Commands of the pages that don't run here, and why."""

TUTORIAL = "docs/tutorial.md"
"""Its commands are run on a run of the reference target, by tests/e2e/test_run.py."""

TRANSLATIONS = {"README.ko.md": "README.md", "docs/tutorial.ko.md": "docs/tutorial.md"}
"""Pages that have the same commands as another one."""

SHORTER = {
    "dbperf (run|load) (?!--worker)": "--duration 1s --warm-up 0s",
    "dbperf (run|load) (?!--worker|loadtests/shop)": "--users 2",  # the shop's has two stages
    "dbperf run .*--traces": "--duration 2s",  # a test asks for what one of its endpoints does
    r"dbperf profile (?!.*--while)": "--seconds 1",
    "dbperf flame --pid": "--seconds 1",
    "dbperf bench --url": "--budget 2s",
    "dbperf bench --save-baseline": "-k PERF-001",
    "dbperf serve": "--port 0",
}
"""Options that are added to what begins so (regular expressions): the last one given holds."""

UNUSED = "-p no:schemathesis -p no:hypothesispytest -p no:locust -p no:xdist -p no:cacheprovider"
"""Plugins of this environment that have no part in the pages' tests; loading them costs two seconds."""

COMMANDS = {p.relative_to(ROOT).as_posix(): dbperf_commands(p.read_text("utf-8")) for p in PAGES}
RUN = [name for name, found in COMMANDS.items() if found and name != TUTORIAL and name not in TRANSLATIONS]
RESULTS = {0, 1}
"""1 says that something got worse or a level was missed: an answer, not a failure."""
_FILE = re.compile(r" (?:-o|--out|--run|>) ([\w./-]+)")

_DSN = re.compile(r"postgresql://(\w+)@[\w.]+/(?:app|shop)\b")
_PLACEHOLDER = re.compile(r"(?<=--dsn )(?:…|[A-Z]+)(?= |$)")
_REST = re.compile(r" (?:\||>>?|-- ).*$")
_WRITES = re.compile(r" (?:-o|--out|--run|--sql) ")
_NAMED = re.compile(r"# (loadtests/[\w.]+)\n")
_SHELLS = re.compile(r"[|<>;&$*?~`\[\]{}()]")
"""A line with one of these needs a shell; all others are a command and its words."""
_VARIABLE = re.compile(r"export (\w+)=(\S+)")


@dataclass(frozen=True)
class Done:
    code: int
    stdout: str
    stderr: str


def _at_once(suite: str) -> str:
    """A suite whose users all come at once: no page says anything of a ramp's length."""
    return re.sub(r'^ramp = "\d+s"', 'ramp = "0s"', suite, flags=re.MULTILINE)


class Pages:
    """The servers that the pages' commands speak to, and a folder for each page."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.chmod(0o711)
        self._known: dict[str, Done] = {}
        self.env = environment(root / "home", COLUMNS="80", API_KEY="k", GITHUB_ACTOR="Kim", PYTEST_ADDOPTS=UNUSED)
        self.env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{self.env['PATH']}"
        self._project = root / "project"
        write_files(self._project)
        self._traces = root / "traces"
        self._traces.mkdir()
        (self._project / "traces").symlink_to(self._traces)  # each page's is that of the APIs that run
        self._open = ExitStack()
        with self._open:
            self._server = PgServer(bindir_18())
            self._open.callback(self._server.close)
            make_database(self._server)
            self.dsn = self._server.dsn("app", "me")
            self._shops = [self._serve()]
            self.env |= {"DATABASE_URL": self.dsn, "SHOP_URL": self._shops[0].url}
            self.env["GITHUB_STEP_SUMMARY"] = str(root / "step-summary.md")
            self._prepare()
            self._open = self._open.pop_all()

    def _serve(self) -> ServedShop:
        shop = ServedShop(self._project, self._traces, self.dsn)
        self._open.callback(shop.close)
        shop.wait()
        return shop

    def close(self) -> None:
        self._open.close()

    def _prepare(self) -> None:
        """What pages presume: a suite, a run with names that they use, plans, and the requests of docs/bench.md."""
        project = self._project
        page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
        (project / "requests.json").write_text(re.findall(r"^    (\[\{.*?\}\])$", page, re.MULTILINE | re.DOTALL)[0])
        for command in (
            "dbperf init --url http://127.0.0.1:8000",
            "dbperf run --url http://127.0.0.1:8000 --dsn postgresql://me@localhost/app",
            "dbperf flame --read before.stacks.txt --format json --out before",
            "dbperf flame --read after.stacks.txt --format json --out after",
        ):
            done = self.run(command, project)
            assert done.code == 0, done.stderr
        suite = project / "loadtests" / "api.toml"
        suite.write_text(_at_once(suite.read_text()))
        shutil.copy(suite, project / "loadtests" / "checkout.toml")
        (project / "dbperf.toml").unlink()
        (run,) = (p for p in (project / "reports" / "runs").iterdir() if p.is_dir())
        for name in ("after", "20250314T092653Z-naive", "20250314T092653Z-app"):
            shutil.copytree(run, run.parent / name)
        shutil.rmtree(run)
        query = "SELECT * FROM orders WHERE customer_id = 7"
        index = "CREATE INDEX orders_customer_id_idx ON orders (customer_id);"
        server = self._server
        (project / "before.json").write_text(server.psql(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", "app"))
        (project / "after.json").write_text(
            server.psql(f"BEGIN; {index} EXPLAIN (ANALYZE, FORMAT JSON) {query}; ROLLBACK", "app")
        )
        (project / "plan.txt").write_text(server.run_psql([], f"EXPLAIN ANALYZE {query}", "app"))

    def folder(self, page: Path) -> Path:
        """A page's folder: the project's files, less those that the page has written, and the dbperf.toml, the suite
        and the role that the page shows. Where it stops the embedded server, one runs."""
        folder = self._root / page.stem
        if not folder.exists():
            shutil.copytree(self._project, folder, symlinks=True)
            text = page.read_text(encoding="utf-8")
            if any(s.command.startswith("dbperf run --quick") or "--config" in s.command for s in all_commands(text)):
                shown = self.real("".join(blocks(text, "toml")))
                own = "" if "\nurl = " in shown else f'url = "{self._shops[0].url}"\ndsn = "{self.dsn}"\n'
                (folder / "dbperf.toml").write_text(own + shown)
            for suite in blocks(text, "toml"):
                if named := _NAMED.match(suite):
                    (folder / named[1]).write_text(_at_once(suite))
            if any(s.command.startswith("dbperf init") for s in all_commands(text)):
                shutil.rmtree(folder / "loadtests")
            if any(s.command.startswith("dbperf down") for s in all_commands(text)):
                assert self.run("dbperf up", folder).code == 0
            for sql in blocks(text, "sql"):
                if "CREATE ROLE" in sql:
                    self._server.psql(sql, "app")
        return folder

    def real(self, text: str) -> str:
        """A command, or a file's text, with this machine's databases, addresses and numbers."""
        server = self._server
        text = _DSN.sub(lambda m: server.dsn("app", m[1]), text)
        text = _PLACEHOLDER.sub(self.dsn, text)
        second = "http://127.0.0.1:8001"
        if second in text and len(self._shops) == 1:  # few pages compare two
            self._shops.append(self._serve())
        for url, shop in zip(("http://127.0.0.1:8000", second), self._shops, strict=False):
            text = text.replace(url, shop.url)
        text = text.replace("--pid 4711", f"--pid {self._shops[0].pid}")
        if "123456" in text:
            ask = "SELECT queryid FROM pg_stat_statements WHERE query LIKE 'SELECT name FROM items%' LIMIT 1"
            text = text.replace("--queryid 123456", f"--queryid {server.psql(ask, 'app')}")
        return text

    def shortened(self, command: str) -> str:
        """The command with what `SHORTER` adds, before a pipe, a redirection or the program that it starts."""
        for head, options in SHORTER.items():
            if re.match(head, command):
                rest = _REST.search(command)
                at = rest.start() if rest else len(command)
                command = f"{command[:at]} {options}{command[at:]}"
        return command

    def run(self, command: str, folder: Path) -> Done:
        """Runs it in a folder, or gives what it did before, where the folder can't make a difference."""
        line = self.shortened(self.real(command))
        anywhere = not _WRITES.search(line) and not any((folder / w).exists() for w in re.split(r"[ ']", line) if w)
        if anywhere and line in self._known:
            return self._known[line]
        run = self._served if line.startswith("dbperf serve") else self._finished
        with self._shops[0].visited() if "--pid" in line else nullcontext():
            done = run(line, folder)
        if anywhere:
            self._known[line] = done
        return done

    def check(self, name: str) -> None:
        """Runs a page's commands, and compares what they did with what the page shows."""
        for step, done in self.steps(ROOT / name):
            said = f"{name}: {step.command}\n{done.stdout}\n{done.stderr}"
            assert done.code in RESULTS, f"exit code {done.code}, {said}"
            assert "Traceback" not in done.stderr, said
            if written := _FILE.search(step.command):
                assert (self.folder(ROOT / name) / written[1]).exists(), f"{written[1]} was not written, {said}"
            elif ">>" not in step.command:
                assert done.stdout.strip(), f"nothing was printed, {said}"
            if step.shape:
                assert re.search(step.shape, done.stdout, re.DOTALL), said
        if any(command.startswith("dbperf apply") for command in COMMANDS[name]):
            # The other pages' advice has something left to find.
            self._server.psql(
                "SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_stat_user_indexes JOIN pg_index USING"
                " (indexrelid) WHERE NOT indisprimary \\gexec",
                "app",
            )

    def steps(self, page: Path) -> list[tuple[Step, Done]]:
        """Runs a page's commands in their order."""
        folder = self.folder(page)
        found = []
        kept = dict(self.env)
        for step in all_commands(page.read_text(encoding="utf-8")):
            if variable := _VARIABLE.fullmatch(step.command):
                self.env[variable[1]] = self.real(variable[2])
            elif step.command.startswith("dbperf ") and step.command not in ELSEWHERE:
                found.append((step, self.run(step.command, folder)))
        self.env = kept
        return found

    def _finished(self, line: str, folder: Path) -> Done:
        done = (
            subprocess.run(
                ["bash", "-o", "pipefail", "-c", line], cwd=folder, env=self.env, capture_output=True, text=True,
                timeout=300, check=False,
            )
            if _SHELLS.search(line)
            else dbperf(*shlex.split(line)[1:], env=self.env, cwd=folder, timeout=300)
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def _served(self, line: str, folder: Path) -> Done:
        """The exporter runs until Ctrl-C: that is given once it has been scraped and has seen the database."""
        with subprocess.Popen(
            ["bash", "-c", f"exec {line}"], cwd=folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            try:
                first = process.stdout.readline()

                def up() -> bool:
                    with urllib.request.urlopen(first.strip(), timeout=60) as answer:
                        return b"\ndbperf_up 1.0\n" in answer.read()

                assert eventually(up), first
                process.send_signal(signal.SIGINT)
                rest, stderr = process.communicate(timeout=60)
            finally:
                process.kill()  # one that does not end must not be waited for
        return Done(process.returncode, first + rest, stderr)
