"""Where `sql/`, `loadtests/` and the composite action are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

from dbperf.errors import DbperfError

_PACKAGE = Path(__file__).resolve().parent


def resource(name: str) -> Path:
    """The path of one of these folders, or of a file below them, for example ``sql/phase3/schema.sql``.

    Raises:
        DbperfError: it is in neither place; the installation is broken.
    """
    # The checkout comes first: a wheel never has a sibling `sql/` (site-packages), and someone who edits sql/ in
    # a checkout must see the edit.
    for base in (_PACKAGE.parent, _PACKAGE / "_share"):
        if base == _PACKAGE.parent and not (base / "pyproject.toml").is_file():
            continue
        path = base / name
        if path.exists():
            return path
    raise DbperfError(f"{name} is missing from this installation of dbperf", hint="reinstall dbperf")


def sql(name: str) -> str:
    """The text of a file below `sql/`."""
    return resource(f"sql/{name}").read_text(encoding="utf-8")
