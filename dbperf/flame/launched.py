"""Profiles a program from its start to its end: py-spy from outside, or a sampler or cProfile inside of it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec

from dbperf.errors import DbperfError, UsageError
from dbperf.flame.ops import merge, on_cpu
from dbperf.flame.pyspy import PTRACE_HINT, may_trace, program
from dbperf.flame.readers import parse_speedscope, read_profile
from dbperf.flame.sampler import environment
from dbperf.masking import mask_secrets
from dbperf.processes import Child
from dbperf.records.stacks import Stacks


def profile_command(
    command: Sequence[str],
    *,
    engine: str | None,
    folder: Path,
    rate: int = 100,
    wall: bool = False,
    gil: bool = False,
    native: bool = False,
    subprocesses: bool = False,
) -> tuple[Stacks, int]:
    """Runs a program to its end and returns its stacks and its exit code. Its output passes through; Ctrl-C ends it.

    Args:
        engine: py-spy, sampler or cprofile; None: py-spy where the system lets it, else the sampler, with a note.
        folder: for temporary files; with cprofile it keeps one .pstats per process.

    Raises:
        UsageError: there is no such program.
        DbperfError: it gave no sample.
    """
    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no program {command[0]!r}", hint="name it as in the shell, after --")
    note = None
    if engine is None:
        engine = "py-spy"
        if not may_trace():
            engine = "sampler"
            note = (
                f"sampled inside the process, because the system does not allow py-spy to look into it: {PTRACE_HINT}"
            )
    if engine == "py-spy":
        flags = [("--idle", wall), ("--gil", gil), ("--native", native), ("--subprocesses", subprocesses)]
        found, code = _under_pyspy(command, folder, rate, [name for name, on in flags if on])
    else:
        env = {**os.environ, **environment(folder, engine=engine, rate=rate, wall=wall)}
        code = _run(command, env)
        files = sorted([*folder.glob("*.stacks.json"), *folder.glob("*.pstats")])
        if not files:
            raise DbperfError(
                "the command left no profile", hint="it is no Python program, was killed, or ends with os._exit"
            )
        profiles = [read_profile(f) for f in files]
        found = merge([p for p in profiles if p.stacks] or profiles)
    if not wall and engine == "py-spy":
        found = on_cpu(found)
    named = msgspec.structs.replace(found, name=mask_secrets(" ".join(command)), source=engine)
    return (msgspec.structs.replace(named, notes=[note, *named.notes]) if note else named), code


def _under_pyspy(command: Sequence[str], folder: Path, rate: int, flags: list[str]) -> tuple[Stacks, int]:
    """The program is ours and py-spy joins it: started by py-spy, its stderr would be py-spy's."""
    out, log = folder / "profile.speedscope", folder / "log"
    log.touch()
    with _started(command, None) as child:
        args = [
            program(), "record", "--pid", str(child.pid), "--rate", str(rate), "--format", "speedscope",
            "--full-filenames", "--output", str(out), *flags,
        ]  # fmt: skip
        env = {**os.environ, "RUST_BACKTRACE": "0"}
        spy = Child.start(args, env=env, log=log, name="py-spy", stop_signals=(signal.SIGINT,))
        code = _waited(child)
        spy.wait(5)  # it notices the end, and writes
        spy.stop(grace_s=20)
    if not out.exists() or not out.stat().st_size:
        said = [x for x in log.read_text(errors="replace").splitlines() if x.startswith(("Error", "Permission"))]
        if any("python version" in x or "python interpreter" in x for x in said):
            raise DbperfError(f"{command[0]} is not a Python program, or ended at once")
        why = said[0].removeprefix("Error: ") if said else "it ended before the first sample"
        raise DbperfError(f"py-spy can't profile the command: {why}", hint="--engine sampler, or a higher --rate")
    s = parse_speedscope(out.read_bytes(), source="py-spy's profile")
    return msgspec.structs.replace(s, rate_per_s=float(rate)), code


def _started(command: Sequence[str], env: dict[str, str] | None) -> subprocess.Popen[bytes]:
    """The program's stdout goes to our stderr: ours is for results."""
    try:
        return subprocess.Popen(command, env=env, stdout=2)
    except OSError as e:
        raise UsageError(f"{command[0]} can't be started: {e.strerror}") from e


def _waited(child: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            # The terminal sent it to the child too, which ends its own way and leaves its profile.
            child.send_signal(signal.SIGINT)


def _run(command: Sequence[str], env: dict[str, str]) -> int:
    with _started(command, env) as child:
        return _waited(child)
