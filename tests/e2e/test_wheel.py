"""The wheel works where there is no checkout: sql/ and loadtests/ come with it, and a smoke run ends in a report."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


def call(*args: str | Path, cwd: Path, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DBPERF", "PG", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(args, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, installed by pip, as most people do."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--installer", installer(), "--outdir", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    if importlib.util.find_spec("pip"):  # installing pip as well would take as long as building
        call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        pip = [sys.executable, "-m", "pip", "--python", python]
    else:  # uv makes environments without it
        call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        pip = [python, "-m", "pip"]
    # Of 4,000 modules, what follows needs some hundreds compiled.
    call(*pip, "install", "-q", "--no-compile", wheel, "-c", ROOT / "requirements" / "run.txt", cwd=folder)
    return folder / "venv"


def installer() -> str:
    return "uv" if shutil.which("uv") else "pip"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wheel_in_a_new_environment_runs_from_an_empty_folder(venv: Path, tmp_path: Path) -> None:
    empty, home = tmp_path / "empty", tmp_path / "home"
    empty.mkdir()
    home.mkdir()
    done = subprocess.run(
        [venv / "bin" / "dbperf", "run", "--quick", "--duration", "2s", "--warm-up", "0s", "--out", "r"],
        cwd=empty, env={"PATH": os.environ["PATH"], "HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    assert (empty / "r" / "report.html").stat().st_size > 10_000
    assert [p.name for p in empty.iterdir()] == ["r"]


@pytest.mark.timeout(900)
def test_a_wheel_brings_the_action_along(venv: Path, tmp_path: Path) -> None:
    call(venv / "bin" / "dbperf", "init", "--ci", "github", cwd=tmp_path)
    action = Path(".github/actions/dbperf/action.yml")
    assert (tmp_path / action).read_bytes() == (ROOT / action).read_bytes()


@pytest.mark.timeout(900)
def test_the_default_installation_stays_small(venv: Path) -> None:
    """Below 450 MB with what pip installs for dbperf, bytecode included, pip itself left out.

    Bytecode is 1.3 times as large as its source; it is counted as 1.5 times, compiled or not.
    """
    [packages] = (venv / "lib").glob("python*/site-packages")
    size = sum(
        f.stat().st_size * (2.5 if f.suffix == ".py" else 1)
        for top in packages.iterdir()
        if not top.name.startswith("pip")
        for f in (top.rglob("*") if top.is_dir() else [top])
        if f.is_file() and f.suffix != ".pyc"
    )
    assert 250 * MEGABYTE < size < 450 * MEGABYTE
