"""Finds suites by name or path, and lists the ready ones."""

from __future__ import annotations

from pathlib import Path

import msgspec

from dbperf.errors import ConfigError, UsageError, did_you_mean
from dbperf.load.suite_file import parse_suite
from dbperf.records.suite import Stage, Suite
from dbperf.resources import resource


def list_suites() -> list[Suite]:
    """The ready suites below `loadtests/suites/`, by name."""
    return [_read(path) for path in sorted(resource("loadtests/suites").glob("*.toml"))]


def load_suite(name_or_path: str | Path) -> Suite:
    """A ready suite by name, or a suite file by path.

    Raises:
        ConfigError: there is no such suite, or the file says something that dbperf does not understand.
    """
    text = str(name_or_path)
    if "/" in text or text.endswith(".toml"):
        return _read(Path(text))
    return _read(_ready(text))


def _ready(text: str) -> Path:
    """The file of a ready suite; its name may be written in lower case."""
    folder = resource("loadtests/suites")
    path = folder / f"{text}.toml"
    if not path.is_file():
        by_folded = {p.stem.casefold(): p for p in folder.glob("*.toml")}
        if (found := by_folded.get(text.casefold())) is None:
            raise ConfigError(
                f"there is no suite {text!r}", hint=did_you_mean(text, [p.stem for p in folder.glob("*.toml")])
            )
        path = found
    return path


def ci_suites() -> list[Suite]:
    """What `dbperf load ci` runs: the CI variants of all ready suites that have one."""
    return [ci_variant(s) for s in list_suites() if s.ci and s.ci.in_set]


def ci_variant(suite: Suite) -> Suite:
    """A suite at the length that it has in CI.

    Raises:
        UsageError: it has no such variant.
    """
    ci = suite.ci
    if ci is None:
        raise UsageError(f"suite {suite.name!r} has no CI variant", hint="add a [ci] table, or use --duration")
    stages = [
        msgspec.structs.replace(
            s,
            duration_s=min(s.duration_s, ci.duration_s),
            ramp_s=min(s.ramp_s, ci.ramp_s),
            warm_up_s=min(s.warm_up_s, ci.warm_up_s),
        )
        for s in suite.stages
    ]
    return msgspec.structs.replace(suite, stages=stages, description=f"{suite.description} (CI length)")


def with_overrides(
    suite: Suite, *, users: int | None = None, duration_s: float | None = None, warm_up_s: float | None = None
) -> Suite:
    """The suite with another number of users, or with stages of another length. No ramp is longer than that.

    Raises:
        UsageError: users for a suite with several stages, or with an arrival rate: it is not clear what is meant.
    """
    stages = list(suite.stages)
    if users is not None:
        if users < 1:
            raise UsageError(f"{users} users can't put load on anything", hint="--users takes 1 or more")
        if len(stages) > 1 or stages[0].users is None:
            raise UsageError(
                f"suite {suite.name!r} sets its own load in {len(stages)} stage{'s' if len(stages) > 1 else ''}",
                hint="--users fits suites with one stage of users; copy the suite file to change its stages",
            )
        named_by_users = stages[0].name == _default_name(stages[0])
        stages[0] = msgspec.structs.replace(stages[0], users=users)
        if named_by_users:
            stages[0] = msgspec.structs.replace(stages[0], name=_default_name(stages[0]))
    if duration_s is not None:
        if duration_s <= 0:
            raise UsageError("a load of 0 s measures nothing", hint="for example --duration 30s")
        # Who asks for a short load does not want to wait longer for its users than for its figures.
        stages = [msgspec.structs.replace(s, duration_s=duration_s, ramp_s=min(s.ramp_s, duration_s)) for s in stages]
    if warm_up_s is not None:
        stages = [msgspec.structs.replace(s, warm_up_s=warm_up_s) for s in stages]
    return msgspec.structs.replace(suite, stages=stages)


def _default_name(stage: Stage) -> str:
    return f"{stage.users} user{'s' if stage.users != 1 else ''}"


def _read(path: Path, *, extended: bool = False) -> Suite:
    """`extended`: the file is another suite's base, and may not have one itself."""

    def by_name(name: str) -> Suite:
        beside = path.parent / f"{name}.toml"
        return _read(beside if beside.is_file() else _ready(name), extended=True)

    base = None if extended else by_name
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"there is no suite file {path}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path} can't be read: {e}") from None
    return parse_suite(text, str(path), base)
