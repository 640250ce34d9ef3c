"""Empties the caches of a server that dbperf started itself: shared buffers, then the operating system's pages.

Nothing is restarted: pg_buffercache (1.6, PostgreSQL 18) writes out and evicts a relation's buffers, and
posix_fadvise(2) with POSIX_FADV_DONTNEED lets the kernel drop a file's clean pages. The catalogs stay warm, as they are
in every server that has run for a minute.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg

from dbperf.errors import ServerError
from dbperf.postgres.collect import collector

_EVICT = """
SELECT r.o FROM unnest($1::bigint[]) AS r (o), pg_buffercache_evict_relation(r.o) AS e
WHERE e.buffers_evicted + e.buffers_skipped > 0
"""
"""Gives those that had a page in shared buffers."""
_LEFT_MOST = 0.02
_EVEN = bytes(range(0, 256, 2))
_libc = ctypes.CDLL(None, use_errno=True)


class ColdCache:
    """Ready to be used in one database, by a superuser."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self.files_too = True
        """Whether the kernel dropped the files' pages the last time, too; False where its file system keeps them."""

    @property
    def words(self) -> str:
        """What a cold execution found empty."""
        return (
            "shared buffers and the page cache" if self.files_too else "shared buffers; the page cache kept its files"
        )

    async def prepare(self, conn: asyncpg.Connection[Any]) -> None:
        """Makes ready; creates the extension pg_buffercache.

        Raises:
            ServerError: the server, the role or the files don't allow it; the message says which.
        """
        if not hasattr(os, "posix_fadvise"):
            raise ServerError("this system can't drop a file from its page cache")
        if conn.get_server_version().major < 18:
            raise ServerError("evicting a relation from shared buffers needs PostgreSQL 18")
        try:
            await conn.execute("CREATE EXTENSION IF NOT EXISTS pg_buffercache")
            await self.evict(conn)
        except asyncpg.PostgresError as e:
            raise ServerError(f"pg_buffercache can't be used: {e.message}") from e
        except OSError as e:
            raise ServerError(f"the server's files can't be opened: {e.strerror}") from e

    async def evict(self, conn: asyncpg.Connection[Any], *, only_read: bool = False) -> None:
        """Empties the caches of all tables and indexes, inside a transaction or not.

        Args:
            only_read: files only of those that had a page in shared buffers. Where all were emptied before, and only
                executions of statements came since, the others' are empty still: what is read leaves pages there.

        Raises:
            asyncpg.PostgresError, OSError: see `prepare`.
        """
        rows = await conn.fetch(collector("cold_relations", (conn.get_server_version().major,)))
        read = {r[0] for r in await conn.fetch(_EVICT, [r["oid"] for r in rows])}
        files = (self._data_dir / r["file"] for r in rows if not only_read or r["oid"] in read)
        dropped = _drop_pages(segment for file in files for segment in _segments(file))
        self.files_too = dropped and (self.files_too or not only_read)


def _segments(first: Path) -> list[Path]:
    """A relation's main fork: 1 GiB a file."""
    found, number = [first], 1
    while (more := first.with_name(f"{first.name}.{number}")).exists():
        found.append(more)
        number += 1
    return found


def _drop_pages(files: Iterable[Path]) -> bool:
    """Whether the kernel let go of (nearly) all pages of the files."""
    pages = left = 0
    for file in files:
        try:
            fd = os.open(file, os.O_RDONLY)
        except FileNotFoundError:  # an index that was dropped meanwhile
            continue
        try:
            os.fsync(fd)  # only clean pages can be dropped
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            in_file, resident = _resident(fd, os.fstat(fd).st_size)
            pages, left = pages + in_file, left + resident
        finally:
            os.close(fd)
    return left <= _LEFT_MOST * pages


def _resident(fd: int, size: int) -> tuple[int, int]:
    """Pages of a file, and how many of them are in the page cache: mincore(2). Reading any would bring it back."""
    if size == 0:
        return 0, 0
    count = (size + mmap.PAGESIZE - 1) // mmap.PAGESIZE
    states = (ctypes.c_ubyte * count)()
    # A private mapping of an unchanged file shows the page cache's pages; writable, because ctypes asks for that.
    with mmap.mmap(fd, size, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as mapped:
        start = (ctypes.c_ubyte * size).from_buffer(mapped)
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), states)
        del start  # a mapping that is referred to can't be closed
    # The lowest bit of each tells.
    return count, count if failed else len(bytes(states).translate(None, _EVEN))
