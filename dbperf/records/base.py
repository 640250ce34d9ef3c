"""Records and documents: how typed data becomes JSON and comes back.

A *record* is a frozen, keyword-only struct. A *document* is a record that is a file of its own; it carries
`kind` and `schema_version`, so that a reader knows what it holds and how old it is.

Changing a document's shape: raise `version=` in the class and register an `upgrade` from the version before. Files
of older versions are upgraded when read; a file from a newer dbperf is refused with a hint, never half-read.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from dbperf.errors import OutputError, RecordError
from dbperf.records.locate import place_at, place_of

Upgrade = Callable[[dict[str, Any]], dict[str, Any]]
D = TypeVar("D", bound="Document")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Frozen, keyword-only, typed. Missing is None, never 0. Units are in the names."""


class Document(Record, frozen=True, kw_only=True):
    """A record that is a file. Subclasses set `kind`, `version` and `file_name`."""

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    file_name: ClassVar[str]
    upgrades: ClassVar[dict[int, Upgrade]] = {}

    def to_json(self) -> bytes:
        """Human-readable JSON, keys in declaration order, the same bytes for the same data."""
        body = {"kind": self.kind, "schema_version": self.version, **msgspec.to_builtins(self)}
        return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"


def parse_document(cls: type[D], data: bytes, *, source: str) -> D:
    """A document from JSON bytes; `source` names the file in errors.

    Raises:
        RecordError: it is no JSON, another kind, from a newer dbperf, or a field has the wrong type. The message
            names source, line, column and field.
    """
    try:
        raw = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        place, detail = _syntax(data, e)
        raise RecordError(f"{source}, {place}: {detail}", hint="the file is truncated or was edited") from e
    if not isinstance(raw, dict):
        raise RecordError(f"{source}, line 1: a JSON object was expected, not {type(raw).__name__}")
    if raw.get("kind") != cls.kind:
        place = place_of(data, ("kind",))
        raise RecordError(f"{source}, {place}, field kind: {raw.get('kind')!r} was found where {cls.kind!r} belongs")
    found = raw.get("schema_version")
    if not isinstance(found, int) or isinstance(found, bool) or found < 1:
        place = place_of(data, ("schema_version",))
        raise RecordError(f"{source}, {place}, field schema_version: {found!r} is not a version")
    if found > cls.version:
        raise RecordError(
            f"{source} was written by a newer dbperf (schema_version {found}, this one reads up to {cls.version})",
            hint="upgrade dbperf",
        )
    for step in range(found, cls.version):
        raw = cls.upgrades[step](raw)
    body = {k: v for k, v in raw.items() if k not in ("kind", "schema_version")}
    try:
        return msgspec.convert(body, cls)
    except msgspec.ValidationError as e:
        path, detail = _validation(str(e))
        place = place_of(data, path)
        field = _dotted(path) or "(top level)"
        raise RecordError(f"{source}, {place}, field {field}: {detail}", hint="the file was edited") from e


def read_document(cls: type[D], path: Path) -> D:
    """The document in a file.

    Raises:
        RecordError: there is no such file, or see `parse_document`.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise RecordError(f"{path} does not exist") from None
    except OSError as e:
        raise RecordError(f"{path} can't be read: {e.strerror}") from e
    return parse_document(cls, data, source=str(path))


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces a file so that a reader sees the old bytes or the new ones, also after a crash.

    Temporary file in the same folder, fsync, rename, fsync of the folder (rename(2), fsync(2)).

    Raises:
        OutputError: the folder is not writable, or the disk is full. The old file is untouched.
    """
    temporary: str | None = None
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(fd, "wb") as f:
            os.fchmod(f.fileno(), 0o644)
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        Path(temporary).replace(path)
        temporary = None
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as e:
        raise OutputError(f"{path} can't be written: {e.strerror}", hint="choose another folder with --out") from e
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _syntax(data: bytes, error: Exception) -> tuple[str, str]:
    """Place and description of a JSON syntax error. msgspec says "... (byte 123)"; a truncated file ends at its end."""
    text = str(error)
    if "(byte " in text:
        at = int(text.rsplit("(byte ", 1)[1].rstrip(")"))
        return place_at(data, at), text.rsplit(" (byte ", 1)[0]
    if isinstance(error, UnicodeDecodeError):
        return place_at(data, error.start), "not UTF-8"
    return place_at(data, len(data)), text


def _validation(message: str) -> tuple[tuple[str | int, ...], str]:
    """Splits msgspec's "Expected `int`, got `str` - at `$.statements[3].calls`" into path and detail."""
    detail, _, where = message.partition(" - at `")
    path: list[str | int] = []
    for part in where.rstrip("`").removeprefix("$").replace("[", ".[").split("."):
        if part.startswith("[") and part[1:-1].isdigit():
            path.append(int(part[1:-1]))
        elif part and part != "[...]":
            path.append(part)
    if "missing required field `" in detail:
        return (*path,), detail
    return tuple(path), detail


def _dotted(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
