"""The command line's frame: unknown commands, errors as one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dbperf.cli.main import main
from tests.support.cli import dbperf_here, environment


def test_an_unknown_command_names_the_nearest(tmp_path: Path) -> None:
    done = dbperf_here("rnu", env=environment(tmp_path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "dbperf: there is no command 'rnu'\n  hint: did you mean 'run'?\n"


@pytest.mark.parametrize(
    ("args", "said", "hint"),
    [
        (("run", "--quik"), "dbperf run has no option --quik", "did you mean --quick or --suite?"),
        (("doctor", "--zzz"), "dbperf doctor has no option --zzz", "dbperf doctor --help lists its options"),
        (("--zzz",), "dbperf has no option --zzz", "dbperf --help lists its options"),
        (("profile", "--order-by", "x"), "invalid value for '--order-by': 'x' is not one of", "dbperf profile --help"),
        (("profile", "--top", "0"), "invalid value for '--top'", "dbperf profile --help"),
        (("profile", "--seconds", "0"), "--seconds must be more than 0", "for example --seconds 10"),
        (("report",), "missing argument 'RUN'", "dbperf report --help"),
        (("target", "upp"), "no such command 'upp'", "dbperf target --help"),
    ],
)
def test_options_that_do_not_fit_are_one_line_and_a_hint(
    args: tuple[str, ...], said: str, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["dbperf", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    line, second = err.splitlines()
    assert line.startswith(f"dbperf: {said}")
    assert second.startswith(f"  hint: {hint}")


def test_no_command_shows_the_help(tmp_path: Path) -> None:
    for args in ((), ("target",)):
        done = dbperf_here(*args, env=environment(tmp_path), cwd=tmp_path)
        assert done.returncode == 2
        assert "Commands:" in done.stderr
        assert "dbperf: " not in done.stderr
