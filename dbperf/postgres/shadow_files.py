"""Relation files without content: the planner takes page counts from file sizes and reads B-trees' first blocks.

Files are made long and stay sparse, so no disk is used. Layouts: PostgreSQL's bufpage.h, itup.h and nbtree.h.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path

BLOCK_BYTES = 8192
SEGMENT_BLOCKS = (1 << 30) // BLOCK_BYTES
_SPECIAL = BLOCK_BYTES - 16
_TUPLE_BYTES = 8
_ROOT, _LEAF = 2, 1
_ALT_TID = 0x2000


def resize(path: Path, blocks: int) -> None:
    """Makes a relation's main fork `blocks` long, in segments of 1 GiB; the first segment's content is kept.

    Raises:
        OSError: the files can't be written.
    """
    full, rest = divmod(blocks, SEGMENT_BLOCKS)
    sizes = [SEGMENT_BLOCKS] * full + ([rest] if rest or not full else [])
    # PostgreSQL creates an empty segment after a full last one only when it writes there; reading does without.
    for number, size in enumerate(sizes):
        segment = path if number == 0 else path.with_name(f"{path.name}.{number}")
        existed = segment.exists()
        with segment.open("r+b" if existed else "wb") as f:
            f.truncate(size * BLOCK_BYTES)
        if not existed:
            owner = path.stat()
            segment.chmod(0o600)
            if os.geteuid() == 0:
                os.chown(segment, owner.st_uid, owner.st_gid)
    number = len(sizes)
    while (stale := path.with_name(f"{path.name}.{number}")).exists():
        stale.unlink()
        number += 1


def write_btree(path: Path, blocks: int, height: int) -> int:
    """Turns an empty B-tree's file into a valid one of `blocks` blocks whose root is at level `height`.

    Blocks 1 to `height` hold one internal page per level with a single downlink, the next an empty leaf; the rest is
    a hole that nothing points to. An empty index (one block, no root) is left alone.

    Returns:
        The height that was written: it is lowered where the file is too short for it.
    """
    if blocks < 2:
        return 0
    height = min(height, blocks - 2)
    with path.open("r+b") as f:
        f.truncate(min(blocks, SEGMENT_BLOCKS) * BLOCK_BYTES)
        # BTMetaPageData begins after the page header: magic, version, root, level, fastroot, fastlevel.
        f.seek(24 + 8)
        f.write(struct.pack("<4I", 1, height, 1, height))
        f.seek(BLOCK_BYTES)
        for level in range(height, -1, -1):
            block = 1 + height - level
            f.write(_page(level, root=block == 1, child=block + 1 if level else None))
    if blocks > SEGMENT_BLOCKS:
        resize(path, blocks)
    return height


def _page(level: int, *, root: bool, child: int | None) -> bytes:
    """An empty leaf, or an internal page whose only tuple (no key: minus infinity) points to `child`."""
    page = bytearray(BLOCK_BYTES)
    flags = (_ROOT if root else 0) | (_LEAF if level == 0 else 0)
    lower, upper = 24, _SPECIAL
    if child is not None:
        lower, upper = 28, _SPECIAL - _TUPLE_BYTES
        line_pointer = upper | (1 << 15) | (_TUPLE_BYTES << 17)  # offset, LP_NORMAL, length
        struct.pack_into("<I", page, 24, line_pointer)
        # ItemPointerData has the block as two 16-bit halves, the higher one first.
        struct.pack_into("<4H", page, upper, child >> 16, child & 0xFFFF, 0, _TUPLE_BYTES | _ALT_TID)
    struct.pack_into("<HHHHHH", page, 8, 0, 0, lower, upper, _SPECIAL, BLOCK_BYTES | 4)
    struct.pack_into("<IIIHH", page, _SPECIAL, 0, 0, level, flags, 0)
    return bytes(page)


def write_brin(path: Path, heap_blocks: int, blocks: int) -> None:
    """Extends an empty BRIN index and sets its metapage's last range-map page as for a heap of `heap_blocks`."""
    with path.open("r+b") as f:
        # BrinMetaPageData: magic, version, pagesPerRange, lastRevmapPage.
        f.seek(24 + 8)
        (pages_per_range,) = struct.unpack("<I", f.read(4))
        items = (BLOCK_BYTES - 24 - 8) // 6
        f.write(struct.pack("<I", max(1, math.ceil(math.ceil(heap_blocks / max(1, pages_per_range)) / items))))
    resize(path, max(blocks, 2))


def btree_height(blocks: int, key_bytes: float) -> int:
    """The level of the root of a B-tree of `blocks` blocks, estimated from the width of its keys.

    Internal pages are filled to 70 % (BTREE_NONLEAF_FILLFACTOR) with downlinks: line pointer, tuple header, key.
    A tree of 2 blocks is a leaf alone (0).
    """
    tuple_bytes = 4 + 8 + 8 * math.ceil(max(key_bytes, 1) / 8)
    fanout = max(2, int((BLOCK_BYTES - 24 - 16) * 0.7 / tuple_bytes))
    pages, height = max(1.0, blocks - 1), 0
    # `blocks` counts the internal pages too, which are below one in a hundred for common widths.
    pages = max(1.0, pages - pages / fanout)
    while pages > 1:
        pages, height = math.ceil(pages / fanout), height + 1
    return height
