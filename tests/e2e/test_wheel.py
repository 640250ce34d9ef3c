"""The wheel works where there is no checkout: sql/ and loadtests/ come with it, and a smoke run ends in a report."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from email import message_from_bytes
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
MEGABYTE = 1 << 20


def call(*args: str | Path, cwd: Path, **env: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DBPERF", "PG", "PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(args, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new environment with the wheel in it, installed by pip, as most people do.

    What the wheel depends on is there before, linked from the environment of the tests: 350 MB need not be
    fetched and compiled again. Nothing else is, and pip may fetch nothing: it refuses where something is missing, or is
    of another version than the wheel asks for or requirements/run.txt pins.
    """
    folder = tmp_path_factory.mktemp("wheel")
    # What builds it is here as well.
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    if importlib.util.find_spec("pip"):  # installing pip as well would take as long as building
        call(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        pip = [sys.executable, "-m", "pip", "--python", python]
    else:  # uv makes environments without it
        call(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        pip = [python, "-m", "pip"]
    for dependency in dependencies(wheel):
        link(dependency, folder / "venv")
    # Of the wheel's own modules, what follows needs some compiled.
    options = ("-q", "--no-index", "--no-compile", "-c", ROOT / "requirements" / "run.txt")
    call(*pip, "install", *options, wheel, cwd=folder)
    return folder / "venv"


def dependencies(wheel: Path) -> list[Distribution]:
    """What pip would install along with a wheel, as it is installed here: no extra but those that are asked for."""
    with ZipFile(wheel) as packed:
        [name] = (n for n in packed.namelist() if n.endswith(".dist-info/METADATA"))
        asked = message_from_bytes(packed.read(name)).get_all("Requires-Dist", [])
    found: dict[str, Distribution] = {}
    wanted = [(requirement, "") for requirement in asked]
    seen = set(wanted)
    while wanted:
        text, extra = wanted.pop()
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = distribution(requirement.name)
        found[canonicalize_name(requirement.name)] = installed
        more = {(r, e) for r in installed.requires or [] for e in ("", *requirement.extras)} - seen
        wanted += more
        seen |= more
    return list(found.values())


def link(installed: Distribution, venv: Path) -> None:
    """Puts a distribution's files into another environment, with their bytecode; commands start with its Python."""
    [packages] = (venv / "lib").glob("python*/site-packages")
    here = Path(str(installed.locate_file("")))
    made = set[Path]()
    for file in installed.files or []:
        if file.suffix == ".pyc":  # comes with its source, listed or not
            continue
        # A command's path leads out of the packages' folder.
        source, target = (Path(os.path.normpath(p / file)) for p in (here, packages))
        assert target.is_relative_to(venv), f"{file} of {installed.name} lies outside"
        pairs = [(source, target)]
        if file.suffix == ".py" and (compiled := Path(importlib.util.cache_from_source(source))).exists():
            pairs.append((compiled, Path(importlib.util.cache_from_source(target))))
        for one, its in pairs:
            if its.parent not in made:
                its.parent.mkdir(parents=True, exist_ok=True)
                made.add(its.parent)
            if its.parent == venv / "bin":
                command(one, its)
                continue
            try:
                os.link(one, its)
            except OSError:  # another file system
                shutil.copy2(one, its)


def command(source: Path, target: Path) -> None:
    """A copy of a command that starts with the Python beside it."""
    text = source.read_bytes()
    if text.startswith(b"#!"):
        text = text.replace(bytes(Path(sys.executable).parent), bytes(target.parent), 1)
    target.write_bytes(text)
    shutil.copymode(source, target)


@pytest.fixture
def cache() -> Iterator[Path]:
    """An empty cache folder that the server's account can enter: what is made for one that it can't would stay."""
    folder = Path(tempfile.mkdtemp(prefix="dbperf-cache-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_wheel_in_a_new_environment_runs_from_an_empty_folder(venv: Path, tmp_path: Path, cache: Path) -> None:
    empty, home = tmp_path / "empty", tmp_path / "home"
    empty.mkdir()
    home.mkdir()
    done = subprocess.run(
        [venv / "bin" / "dbperf", "run", "--quick", "--suite", "smoke", "--duration", "1s", "--warm-up", "0s",
         "--out", "r"],
        cwd=empty, env={"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CACHE_HOME": str(cache)},
        capture_output=True, text=True, check=False,
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
