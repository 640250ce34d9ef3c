"""`dbperf bench --against`: two sides measured in turns, judged, and kept as a run."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from dbperf.errors import EXIT_ENVIRONMENT, EXIT_INTERRUPTED, EXIT_MISSED, UsageError

if TYPE_CHECKING:
    from dbperf.bench.requests import BenchRequest
    from dbperf.bench.sides import Turn
    from dbperf.records.comparison import Accepted
    from dbperf.records.interleaved import Interleaved
    from dbperf.records.rundir import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Against:
    """What was asked for."""

    revision: str | None
    url: str | None
    against_url: str | None
    api_key: str | None
    against_api_key: str | None
    dsn: str | None
    against_dsn: str | None
    indexes: Path | None
    against_indexes: Path | None
    requests: Path | None
    keyword: str | None
    writes: bool
    scale: str
    implementation: Literal["naive", "tuned"]
    budget: str
    samples: int
    thresholds: list[str]
    fail_on: str
    baseline: Path
    config: Path | None
    out: Path | None
    force: bool
    format: Literal["text", "json", "markdown", "junit"]

    def kind(self) -> Literal["revision", "url", "dsn", "indexes"] | None:
        """Which second side was asked for; None: none.

        Raises:
            UsageError: several, or one whose first side is missing.
        """
        given = {
            "--against": self.revision, "--against-url": self.against_url, "--against-dsn": self.against_dsn,
            "--against-indexes": self.against_indexes, "--indexes": self.indexes,
        }  # fmt: skip
        asked = [name for name, value in given.items() if value is not None]
        if self.against_url is not None and self.against_dsn is not None:
            asked.remove("--against-dsn")  # it only tells what data the second API has
        if set(asked) == {"--indexes", "--against-indexes"}:
            asked = ["--indexes"]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} name different second sides", hint="choose one")
        if not asked:
            return None
        if asked[0] == "--against-url" and self.url is None:
            raise UsageError("--against-url needs --url, the first side")
        if asked[0] == "--against-dsn" and (self.dsn is None or self.url is not None):
            raise UsageError("--against-dsn needs --dsn, the first side", hint="with --url it needs --against-url")
        if asked[0] not in ("--against-url", "--against-dsn") and (self.url or self.dsn):
            raise UsageError(
                f"{asked[0]} measures the reference target on databases of its own, not --url or --dsn",
                hint="serve both sides of your API and give --url and --against-url",
            )
        if self.samples < 20 or self.samples % 10:
            raise UsageError(f"--samples {self.samples} is not at least 20 and a multiple of 10")
        kinds: dict[str, Literal["revision", "url", "dsn", "indexes"]] = {
            "--against": "revision", "--against-url": "url", "--against-dsn": "dsn"
        }  # fmt: skip
        return kinds.get(asked[0], "indexes")


def bench_against(asked: Against) -> None:
    """Measures, judges, keeps and prints.

    Raises:
        typer.Exit: 1 on a regression, 3 where a side died, 130 where it was interrupted.
        DbperfError: it could not begin.
    """
    from dbperf.bench.interleaved import Measurement
    from dbperf.cli.compare import finish, override
    from dbperf.config import load_config
    from dbperf.lab import provenance
    from dbperf.regress.interleaved import judge
    from dbperf.regress.judge import Rules
    from dbperf.regress.read_run import machine_of
    from dbperf.stats.sequential import Plan
    from dbperf.units import format_seconds, parse_duration_s

    budget_s = parse_duration_s(asked.budget)
    rules = Rules(services=load_config(asked.config).services, overrides=dict(override(t) for t in asked.thresholds))
    accepted = _accepted(asked.baseline)
    plan = Plan.of(asked.samples)
    with _terminable(), ExitStack() as stack:
        run, a, b, requests = _sides(asked, stack)
        for name, side in (("A", a), ("B", b)):
            revision = side.record.git_revision
            _say(f"{name}: {side.record.what}{f' ({revision[:12]})' if revision else ''}")
        _say(f"{len(requests)} endpoints in turns, for at most {format_seconds(budget_s)}")
        host = provenance.host()
        measurement = Measurement(
            a, b, requests, lambda found: judge(found, rules, accepted=accepted).settled, plan=plan, budget_s=budget_s,
            seed=secrets.randbits(32), machine=machine_of(host), on_progress=_say,
            scale=None if asked.url or asked.dsn else asked.scale,
        )  # fmt: skip
        found = measurement.run()
    run.write(found)
    result = judge(found, rules, accepted=accepted).comparison
    whole = found.ended in ("settled", "plan", "budget", "not_comparable")
    notes = [*result.notes, *([found.detail] if found.detail and not whole else [])]
    result = _noted(result, notes, found)
    run.update(status="complete" if whole else "partial", ended_at=datetime.now(UTC))
    finish(result, asked.format, None, everything=False, github=None, keep_in=run.path)
    _say(f"run: {run.path}")
    if found.ended == "interrupted":
        raise typer.Exit(EXIT_INTERRUPTED)
    if found.ended == "side_died":
        _say(f"dbperf: {found.detail}")
        raise typer.Exit(EXIT_ENVIRONMENT)
    if result.verdict == "fail" or (asked.fail_on == "cant-tell" and result.verdict != "pass"):
        raise typer.Exit(EXIT_MISSED)


def _sides(asked: Against, stack: ExitStack) -> tuple[RunDirectory, Turn, Turn, list[BenchRequest]]:
    """The run directory, the sides (not started yet), and what to ask of them."""
    from dbperf.bench.requests import chosen, read_requests, reference_requests

    own = read_requests(asked.requests) if asked.requests else None
    kind = asked.kind()
    assert kind is not None
    writes = asked.writes or kind in ("revision", "indexes")
    chosen(own or reference_requests("a case", "a version"), asked.keyword, writes=writes)  # before anything is made
    makers = {"revision": _revisions, "url": _urls, "dsn": _databases, "indexes": _index_sets}
    run, a, b, dsn = makers[kind](asked, stack)
    return run, a, b, chosen(own or _requests(dsn), asked.keyword, writes=writes)


Made = Any
"""The run directory, both sides, and a database to find a case in, if there is one."""


def _revisions(asked: Against, stack: ExitStack) -> Made:
    from dbperf.bench.revision import checked_out, working_tree
    from dbperf.bench.sides import Template, code_record

    assert asked.revision is not None
    ours = working_tree(Path.cwd())
    theirs = stack.enter_context(checked_out(ours.folder, asked.revision))
    if ours.dirty:
        _say("note: the working tree has uncommitted changes, and is measured as it lies there")
    run = _new_run(asked)
    _say(f"seeding a database with the code of {asked.revision}, and one with that of the working tree")
    server = _server(stack)
    sides = []
    for name, code, what in (("a", theirs, asked.revision), ("b", ours, "the working tree")):
        template = Template.seeded(server, f"template_{name}", code.folder, asked.scale)
        sides.append(_reference(asked, template, name, code_record(code, what), run))
    return run, *sides, server.dsn("template_b")


def _index_sets(asked: Against, stack: ExitStack) -> Made:
    from dbperf.bench.sides import Template
    from dbperf.indexes.script import read_script
    from dbperf.records.interleaved import TurnsSide

    sets = []
    for path in (asked.against_indexes, asked.indexes):
        try:
            text = path.read_text(encoding="utf-8") if path else ""
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"{path} can't be read: {e}") from e
        sets.append([s.sql for s in read_script(text, source=str(path)).steps] if path else [])
    run = _new_run(asked)
    server = _server(stack)
    base = Template.seeded(server, "template", None, asked.scale)
    sides = []
    for name, path, statements in zip("ab", (asked.against_indexes, asked.indexes), sets, strict=True):
        what = f"with the indexes of {path}" if path else "with the primary keys only"
        template = base.with_indexes(f"template_{name}", statements)
        sides.append(_reference(asked, template, name, TurnsSide(what=what), run))
    return run, *sides, server.dsn("template")


def _urls(asked: Against, stack: ExitStack) -> Made:  # noqa: ARG001 - the signature of all of them
    import asyncio

    from dbperf.bench.sides import UrlSide, estimated_rows
    from dbperf.records.interleaved import TurnsSide

    assert asked.url is not None
    assert asked.against_url is not None
    sides = []
    for url, key, dsn in (
        (asked.against_url, asked.against_api_key or asked.api_key, asked.against_dsn),
        (asked.url, asked.api_key, asked.dsn),
    ):
        rows = asyncio.run(estimated_rows(dsn)) if dsn else None
        sides.append(UrlSide(url, key, TurnsSide(what=_without_password(url), rows=rows)))
    if any(s.record.rows is None for s in sides):
        _say("note: --dsn and --against-dsn would tell whether both sides hold the same data")
    return _new_run(asked), *sides, asked.dsn


def _databases(asked: Against, stack: ExitStack) -> Made:  # noqa: ARG001 - the signature of all of them
    import asyncio

    from dbperf.bench.sides import DatabaseSide, estimated_rows
    from dbperf.postgres.dsn import mask_dsn
    from dbperf.records.interleaved import TurnsSide

    assert asked.dsn is not None
    assert asked.against_dsn is not None
    dsns = (asked.against_dsn, asked.dsn)
    records = [TurnsSide(what=f"database {mask_dsn(d)}", rows=asyncio.run(estimated_rows(d))) for d in dsns]
    run = _new_run(asked)
    sides = [
        DatabaseSide(dsn, record, asked.implementation, log=run.path / f"side-{name}.log")
        for name, dsn, record in zip("ab", dsns, records, strict=True)
    ]
    return run, *sides, asked.dsn


def _reference(asked: Against, template: Any, name: str, record: Any, run: RunDirectory) -> Any:
    import msgspec

    from dbperf.bench.sides import ReferenceSide

    record = msgspec.structs.replace(record, rows=template.rows)
    return ReferenceSide(template, f"side_{name}", record, asked.implementation, log=run.path / f"side-{name}.log")


def _server(stack: ExitStack) -> Any:
    from dbperf.postgres import embedded

    return stack.enter_context(embedded.start(private=True))


def _requests(dsn: str | None) -> list[BenchRequest]:
    from dbperf.bench.requests import A_VERSION, MOST_USED_CASE, reference_requests
    from dbperf.bench.target import one_value

    if dsn is None:
        _say("note: endpoints that need a case or a version are left out; --dsn tells which exist")
        return reference_requests(None, None)
    case, version = one_value(dsn, MOST_USED_CASE), one_value(dsn, A_VERSION)
    return reference_requests(case and str(case), version and str(version))


def _new_run(asked: Against) -> RunDirectory:
    from dbperf.cli.bench import new_run

    return new_run(asked.out, force=asked.force)


def _accepted(path: Path) -> list[Accepted]:
    from dbperf.records.base import read_document
    from dbperf.records.baseline import Baseline

    return read_document(Baseline, path).accepted if path.is_file() else []


def _noted(result: Any, notes: list[str], found: Interleaved) -> Any:
    import msgspec

    ended = {
        "settled": "stopped early or at the plan's end: every answer was clear",
        "plan": "the whole plan was measured",
    }.get(found.ended, found.detail)
    return msgspec.structs.replace(result, notes=list(dict.fromkeys([*notes, *([ended] if ended else [])])))


def _without_password(url: str) -> str:
    from dbperf.masking import mask_secrets

    return mask_secrets(url)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, so that worktree, servers and databases go."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(text: str) -> None:
    typer.echo(text, err=True)
