"""`dbperf flame`: profiles a process, a command, a function or an endpoint; `flame diff` compares two profiles."""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from dbperf.errors import DbperfError, UsageError, did_you_mean

if TYPE_CHECKING:
    from dbperf.records.stacks import Stacks

FORMATS = ("html", "svg", "speedscope", "collapsed", "json")
ENGINES = ("py-spy", "sampler", "cprofile", "memray")
_COMMAND = "dbperf.flame.command"


class _Group(TyperGroup):
    """What stands after -- is the program to profile, not a subcommand."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[_COMMAND] = args[at + 1 :]
            args = args[:at]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, add_completion=False, invoke_without_command=True, rich_markup_mode=None)

EPILOG = """\b
Examples:
  dbperf flame --pid 4242 --seconds 30 --wall
  dbperf flame -- python -m shop.import orders.csv
  dbperf flame --cprofile shop.main:app --requests requests.txt -o profiles/today
  dbperf flame --memory shop.main:app --requests requests.txt
  dbperf flame --read perf.txt --format svg
"""
DIFF_EPILOG = """\b
Examples:
  dbperf flame diff before/flame.stacks.json after/flame.stacks.json
  dbperf flame diff a.collapsed b.collapsed --format json -o changes.html
"""


@app.callback(epilog=EPILOG)
def flame(
    ctx: typer.Context,
    pid: Annotated[int | None, typer.Option("--pid", min=1, help="A running Python process.")] = None,
    cprofile: Annotated[
        str | None, typer.Option("--cprofile", help='"module:function", or "module:app" with --requests.')
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option("--memory", help='Memory at the peak: "module:function", or "module:app" with --requests.'),
    ] = None,
    requests: Annotated[
        Path | None, typer.Option("--requests", help="What is sent to module:app, one per line: GET /path.")
    ] = None,
    read: Annotated[
        Path | None, typer.Option("--read", help="Draw a profile: collapsed, speedscope, pstats, perf script, ours.")
    ] = None,
    seconds: Annotated[float, typer.Option("--seconds", min=0.3, help="How long --pid is sampled.")] = 10.0,
    rate: Annotated[int, typer.Option("--rate", min=1, max=1000, help="Samples per second.")] = 100,
    wall: Annotated[bool, typer.Option("--wall", help="Waiting too, not only CPU.")] = False,
    gil: Annotated[bool, typer.Option("--gil", help="Only threads that hold the interpreter lock.")] = False,
    native: Annotated[bool, typer.Option("--native", help="Frames of C extensions too.")] = False,
    subprocesses: Annotated[bool, typer.Option("--subprocesses", help="Child processes too.")] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="For a command: py-spy, sampler, cprofile or memray (memory).")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="How often the requests are sent.")] = 1,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.", metavar="FOLDER")] = Path("flame"),
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="html, svg, speedscope, collapsed, json; may be repeated.")
    ] = None,
) -> None:
    """Profile: --pid P, -- COMMAND ..., --cprofile or --memory module:callable, or --read FILE.

    Prints the paths of the files that were written.
    """
    if ctx.invoked_subcommand is not None:
        return
    chosen = _formats(formats, ("html", "speedscope", "collapsed", "json"))
    command: list[str] = ctx.meta.get(_COMMAND, [])
    given = [
        n
        for n, v in (("--pid", pid), ("--cprofile", cprofile), ("--memory", memory), ("--read", read), ("--", command))
        if v
    ]
    if len(given) != 1:
        raise UsageError(
            "say what to profile" if not given else f"{' and '.join(given)} don't go together",
            hint="--pid P, --cprofile module:callable, --memory module:callable, --read FILE, or -- COMMAND",
        )
    options = {"rate": rate, "wall": wall, "gil": gil, "native": native, "subprocesses": subprocesses}
    out.mkdir(parents=True, exist_ok=True)
    code = 0
    if pid is not None:
        from dbperf.flame.pyspy import record

        stacks = record(pid, seconds, **options)  # type: ignore[arg-type]  # the options' names are record's
    elif cprofile is not None:
        stacks = _cprofile(cprofile, requests, rounds, wall, out)
    elif memory is not None:
        stacks = _memory(memory, requests, rounds)
    elif read is not None:
        from dbperf.flame.readers import read_profile

        stacks = read_profile(read)
    else:
        stacks, code = _command(command, engine, options, out)
    for note in stacks.notes:
        typer.echo(f"dbperf: {note}", err=True)
    for path in write_files(stacks, out, chosen):
        typer.echo(str(path))
    if code:
        typer.echo(f"dbperf: the command ended with exit code {code}", err=True)


@app.command(epilog=DIFF_EPILOG)
def diff(
    before: Annotated[Path, typer.Argument(help="A profile in any format that --read of dbperf flame knows.")],
    after: Annotated[Path, typer.Argument(help="The other one.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file, or .json, .txt.", metavar="FILE")] = Path(
        "flame-diff.html"
    ),
    output_format: Annotated[Literal["text", "json"], typer.Option("--format", help="What goes to stdout.")] = "text",
) -> None:
    """Compare two profiles: what takes more, what takes less, and what is noise."""
    import msgspec

    from dbperf.flame.difference import difference_page, text_table
    from dbperf.flame.readers import read_profile
    from dbperf.records.base import write_atomic

    a, b = read_profile(before), read_profile(after)
    page, changes = difference_page(a, b)
    encoded = msgspec.json.format(msgspec.json.encode({"changes": changes}), indent=2) + b"\n"
    table = text_table(changes, a, b)
    body = {".json": encoded, ".txt": table.encode()}.get(out.suffix, page.encode())
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, body)
    sys.stdout.write(encoded.decode() if output_format == "json" else table)
    typer.echo(f"dbperf: wrote {out}", err=True)


def _formats(given: list[str] | None, default: tuple[str, ...]) -> tuple[str, ...]:
    chosen = tuple(x for entry in given or default for x in entry.split(","))
    for name in chosen:
        if name not in FORMATS:
            raise UsageError(f"there is no format {name!r}", hint=did_you_mean(name, FORMATS))
    return chosen


def write_files(s: Stacks, folder: Path, formats: tuple[str, ...]) -> list[Path]:
    """Writes a profile in some formats, as `flame.<ending>`."""
    from dbperf.flame.drawing import figure, page
    from dbperf.flame.hotspots import hot_spots
    from dbperf.flame.ops import without_lines
    from dbperf.flame.svg import svg
    from dbperf.flame.writers import collapsed, speedscope
    from dbperf.records.base import write_atomic

    written = []
    for name in formats:
        if name == "html":
            drawn = figure(without_lines(s), figure_id="flame")
            lead = f"{s.source}, {s.duration_s:.1f} s" if s.duration_s else s.source
            body = page(s.name, [(s.name, drawn)], spots=hot_spots(s), unit=s.unit, lead=lead).encode()
        elif name == "svg":
            body = svg(without_lines(s)).encode()
        elif name == "speedscope":
            body = speedscope(s)
        elif name == "collapsed":
            body = collapsed(s).encode("utf-8", "replace")
        else:
            body = s.to_json()
        ending = {"speedscope": "speedscope.json", "collapsed": "collapsed.txt", "json": "stacks.json"}.get(name, name)
        path = folder / f"flame.{ending}"
        write_atomic(path, body)
        written.append(path)
    return written


def _cprofile(name: str, requests: Path | None, rounds: int, wall: bool, out: Path) -> Stacks:
    import msgspec

    from dbperf.flame.profiled import GREENLET_NOTE, profile_app, profile_callable, stacks_of, top_list
    from dbperf.trace.inprocess import lifespan

    sampled: Stacks | None = None
    found, sender = _named(name, requests, rounds)
    if sender is not None:
        profiler, sampled = profile_app(found, sender.calls, sender.warm, lifespan, wall=wall)
        sender.tell_errors()
    else:
        with _its_own_errors(name):
            profiler = profile_callable(found, wall=wall)
    profiler.dump_stats(out / "profile.pstats")
    typer.echo(str(out / "profile.pstats"))
    stacks = stacks_of(profiler, name=name, wall=wall)
    if sampled is not None:
        stacks = msgspec.structs.replace(sampled, name=name, notes=[GREENLET_NOTE, *sampled.notes])
    typer.echo(top_list(stacks), err=True)
    return stacks


@contextmanager
def _its_own_errors(name: str) -> Iterator[None]:
    """What a profiled function raises is shown from its own frames on: dbperf's say nothing about it."""
    try:
        yield
    except Exception as e:
        around = (str(Path(__file__).parent), str(Path(__file__).parents[1] / "flame"))
        trace = e.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename.startswith(around):
            trace = trace.tb_next
        typer.echo("".join(traceback.format_exception(type(e), e, trace)), err=True, nl=False)
        raise DbperfError(f"{name} raised {type(e).__name__}", hint="its own frames are above") from e


def _memory(name: str, requests: Path | None, rounds: int) -> Stacks:
    from dbperf.flame.memory import profile_memory_of, profile_memory_of_app
    from dbperf.trace.inprocess import lifespan

    found, sender = _named(name, requests, rounds)
    with tempfile.TemporaryDirectory(prefix="dbperf-flame-") as folder:
        if sender is None:
            return profile_memory_of(found, Path(folder), name=name)
        stacks = profile_memory_of_app(found, sender.calls, sender.warm, lifespan, Path(folder), name=name)
    sender.tell_errors()
    return stacks


class _Sender:
    """Sends a file's requests to an application in this process."""

    def __init__(self, requests: Path, rounds: int) -> None:
        from dbperf.trace.inprocess import read_requests

        self._todo = read_requests(requests)
        self._rounds = rounds
        self._errors: list[str] = []

    async def calls(self, app: Any) -> None:
        from dbperf.trace.inprocess import call_all

        self._errors += [a.error for a in await call_all(app, self._todo, rounds=self._rounds) if a.error]

    async def warm(self, app: Any) -> None:
        from dbperf.trace.inprocess import call_all

        await call_all(app, self._todo)

    def tell_errors(self) -> None:
        for error in dict.fromkeys(self._errors):
            typer.echo(f"dbperf: a request failed: {error}", err=True)


def _named(name: str, requests: Path | None, rounds: int) -> tuple[Any, _Sender | None]:
    """What "module:callable" names, made if it ends in (); for an ASGI application also what sends the requests."""
    from dbperf.flame.profiled import is_asgi, load_callable

    sys.path.insert(0, str(Path.cwd()))
    found = load_callable(name.removesuffix("()"))
    if name.endswith("()"):
        found = found()
    if not is_asgi(found):
        return found, None
    if requests is None:
        raise UsageError(f"{name} is an ASGI application", hint="--requests FILE says which requests to profile")
    return found, _Sender(requests, rounds)


def _command(command: list[str], engine: str | None, options: dict[str, Any], out: Path) -> tuple[Stacks, int]:
    """Runs a program and profiles it; its own output passes through."""
    from dbperf.flame import launched

    if engine is not None and engine not in ENGINES:
        raise UsageError(f"there is no engine {engine!r}", hint=did_you_mean(engine, ENGINES))
    with tempfile.TemporaryDirectory(prefix="dbperf-flame-") as folder:
        if engine == "memray":
            from dbperf.flame.memory import profile_memory

            return profile_memory(command, Path(folder))
        stacks, code = launched.profile_command(command, engine=engine, folder=Path(folder), **options)
        for pstats in Path(folder).glob("*.pstats"):
            (out / pstats.name).write_bytes(pstats.read_bytes())
    if not stacks.stacks:
        raise DbperfError("the command gave no sample", hint="it was too short, or never on the CPU: --wall, --rate")
    return stacks, code
