"""A revision of the repository around the current folder, checked out for a while into a folder outside it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dbperf.errors import DbperfError, UsageError

_TIMEOUT_S = 120
_TARGET = "dbperf/phase3/__main__.py"


@dataclass(frozen=True, kw_only=True)
class Code:
    """Where one side's code lies."""

    folder: Path
    revision: str
    """A commit's full hash."""
    dirty: bool = False
    """Tracked files differ from that commit, or there are new ones that git does not ignore."""


def working_tree(folder: Path) -> Code:
    """The code as it lies around a folder, uncommitted changes included.

    Raises:
        UsageError: there is no repository with the reference target.
    """
    top = _git(folder, "rev-parse", "--show-toplevel")
    head = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") if top is not None else None
    if top is None or head is None:
        raise UsageError(
            f"{folder} is in no git repository with a commit", hint="--against GITREF needs one; --against-url does not"
        )
    code = Path(top)
    if not (code / _TARGET).is_file():
        raise UsageError(
            f"{code} does not hold dbperf's reference target, whose revisions --against compares",
            hint="serve both revisions of your API yourself and give --url and --against-url",
        )
    return Code(folder=code, revision=head, dirty=bool(_git(code, "status", "--porcelain")))


@contextmanager
def checked_out(repository: Path, name: str) -> Iterator[Code]:
    """A revision in a temporary git worktree outside the repository; it is removed with the block.

    Raises:
        UsageError: the repository has no such revision, or it has no reference target.
        DbperfError: git can't check it out.
    """
    revision = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if revision is None:
        raise UsageError(f"{repository} has no revision {name!r}", hint="a branch, a tag, a commit, or HEAD~1")
    if _git(repository, "cat-file", "-e", f"{revision}:{_TARGET}") is None:
        raise UsageError(f"revision {name} has no reference target ({_TARGET})", hint="choose a newer one")
    scratch = Path(tempfile.mkdtemp(prefix="dbperf-against-"))
    tree = scratch / "tree"
    try:
        # A repository's hooks are for people who change it.
        arguments = ("-c", "core.hooksPath=/dev/null", "worktree", "add", "--quiet", "--detach", str(tree), revision)
        _git(repository, *arguments, needed=f"{name} can't be checked out")
        yield Code(folder=tree, revision=revision)
    finally:
        _git(repository, "worktree", "remove", "--force", "--force", str(tree))
        shutil.rmtree(scratch, ignore_errors=True)
        _git(repository, "worktree", "prune")


def _git(folder: Path, *arguments: str, needed: str | None = None) -> str | None:
    """What git prints, without the last newline; None where it fails."""
    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], capture_output=True, text=True, check=False, timeout=_TIMEOUT_S,
            stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DbperfError(f"git can't be run: {e}") from e
    if done.returncode == 0:
        return done.stdout.removesuffix("\n")
    if needed is not None:
        raise DbperfError(f"{needed}: {(done.stderr.strip() or 'git failed').splitlines()[-1]}")
    return None
