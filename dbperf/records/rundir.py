"""The run directory: one folder, `run.json`, and one JSON file per kind of record.

Writes are atomic, so a run that was killed at any moment can still be read. Its manifest then says "running" with
the pid of a process that is gone; `RunDirectory.open` reads such a run as "partial".

A run that is replaced is set aside beside the new one (`.NAME.replaced`) until that has measured something, so that
a replacement which fails to connect costs nothing.
"""

from __future__ import annotations

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from dbperf.errors import OutputError, RecordError
from dbperf.records.base import D, Document, read_document, write_atomic
from dbperf.records.run import Manifest, RunStage

_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def default_path(root: Path, name: str, now: datetime) -> Path:
    """`root/<utc>-<name>`, with characters that do not fit a file name replaced."""
    return root / f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{_NAME.sub('-', name).strip('-') or 'run'}"


class RunDirectory:
    """A run on disk. Create one with `create`, read one with `open`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._replaced: Path | None = None

    @classmethod
    def create(cls, path: Path, manifest: Manifest, *, force: bool = False) -> RunDirectory:
        """A new run directory with its manifest.

        Raises:
            OutputError: the folder holds something already (kept unless `force`), or can't be written. With `force`
                only a folder that holds a run is replaced, once the new run writes its first document.
        """
        replaced: Path | None = None
        try:
            if path.exists():
                if not path.is_dir():
                    raise OutputError(f"{path} exists and is no folder", hint="choose another folder with --out")
                if any(path.iterdir()):
                    if not force:
                        raise OutputError(
                            f"{path} exists and is kept", hint="--force replaces it, --out chooses another folder"
                        )
                    if not (path / Manifest.file_name).is_file():
                        raise OutputError(
                            f"{path} holds no run and is kept, also with --force",
                            hint="choose another folder with --out",
                        )
                    if path.is_symlink() or Path.cwd().is_relative_to(path.resolve()):
                        path = path.resolve()  # a link, or a relative name, would lead to what is set aside
                    replaced = _set_aside(path)
            path.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise OutputError(f"{path} can't be written: {e.strerror}", hint="choose another with --out") from e
        run = cls(path, manifest)
        run._replaced = replaced
        run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run directory.

        Raises:
            RecordError: there is no run, or its manifest can't be read.
        """
        if not (path / Manifest.file_name).is_file():
            raise RecordError(f"{path} holds no run ({Manifest.file_name} is missing)")
        manifest = read_document(Manifest, path / Manifest.file_name)
        if manifest.status == "running" and not _alive(manifest):
            manifest = _as_partial(manifest)
        return cls(path, manifest)

    def save(self) -> None:
        """Writes the manifest."""
        write_atomic(self.path / Manifest.file_name, self.manifest.to_json())

    def update(self, **changes: object) -> None:
        """Changes fields of the manifest and writes it."""
        self.manifest = msgspec.structs.replace(self.manifest, **changes)
        self.save()

    def write(self, document: Document) -> Path:
        """Writes a document and enters it in the manifest."""
        path = self.path / document.file_name
        write_atomic(path, document.to_json())
        if self._replaced is not None:
            shutil.rmtree(self._replaced, ignore_errors=True)
            self._replaced = None
        if self.manifest.files.get(document.kind) != document.file_name:
            self.update(files={**self.manifest.files, document.kind: document.file_name})
        return path

    def give_back(self) -> bool:
        """Puts the run back that this one was to replace, if this one has measured nothing; whether it did."""
        if self._replaced is None:
            return False
        shutil.rmtree(self.path)
        self._replaced.rename(self.path)
        self._replaced = None
        return True

    def read(self, cls: type[D]) -> D:
        """A document of the run.

        Raises:
            RecordError: the run has none of that kind, or it can't be read.
        """
        if not self.has(cls):
            raise RecordError(f"{self.path} holds no {cls.kind} ({cls.file_name} is missing)")
        return read_document(cls, self.path / cls.file_name)

    def has(self, cls: type[Document]) -> bool:
        return (self.path / cls.file_name).is_file()

    def maybe(self, cls: type[D]) -> D | None:
        """A document of the run, or None where the run has none of that kind (a stage was skipped or cut short)."""
        return self.read(cls) if self.has(cls) else None

    def set_stage(self, stage: RunStage) -> None:
        """Adds a stage, or replaces the one of the same name."""
        stages = [s for s in self.manifest.stages if s.name != stage.name]
        at = next((i for i, s in enumerate(self.manifest.stages) if s.name == stage.name), len(stages))
        stages.insert(at, stage)
        self.update(stages=stages)


def _set_aside(path: Path) -> Path:
    """Renames a run that is to be replaced. Where one is set aside already, its replacement was killed: of the two
    the one that measured something is kept."""
    aside = path.with_name(f".{path.name}.replaced")
    if aside.exists():
        try:
            measured = bool(read_document(Manifest, path / Manifest.file_name).files)
        except RecordError:
            measured = True
        shutil.rmtree(aside if measured else path)
        if not measured:
            return aside
    path.rename(aside)
    return aside


def _alive(manifest: Manifest) -> bool:
    """Whether the process that writes the run still runs; a pid that was given to a younger process does not count."""
    try:
        return bool(psutil.Process(manifest.pid).create_time() <= manifest.started_at.timestamp())
    except psutil.Error:
        return False


def _as_partial(manifest: Manifest) -> Manifest:
    stages = [
        msgspec.structs.replace(s, status="interrupted", detail=s.detail or "dbperf ended here")
        if s.status == "running"
        else s
        for s in manifest.stages
    ]
    note = "dbperf ended before the run was complete; what is here was measured"
    return msgspec.structs.replace(manifest, status="partial", stages=stages, notes=[*manifest.notes, note])
