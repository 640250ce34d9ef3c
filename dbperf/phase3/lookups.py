"""The Phase 1-2 reads, which both implementations share: only the heavy endpoints are written twice."""

from __future__ import annotations

from collections.abc import Sequence

from pgvector.sqlalchemy import VECTOR
from sqlalchemy import bindparam, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from dbperf.phase3.embedding import DIMENSIONS, FloatArray
from dbperf.phase3.rules import Neighbour
from dbperf.phase3.schemas import TreeNode

_NEAREST = text("""
SELECT case_id, 1 - (query_vector <=> :vector) AS similarity, query, category_path
FROM case_bank
WHERE status = 'active' AND query_vector IS NOT NULL
ORDER BY query_vector <=> :vector, case_id
LIMIT :limit
""").bindparams(bindparam("vector", type_=VECTOR(DIMENSIONS)))

_TREE = text('SELECT path, parent, name FROM taxonomy_node WHERE version = :version ORDER BY path COLLATE "C"')


class Lookups:
    """The part of `service.Implementation` that /classify, /search and /taxonomy need."""

    def __init__(self, sessions: async_sessionmaker[AsyncSession]) -> None:
        self._sessions = sessions

    async def nearest(self, vector: FloatArray, limit: int) -> Sequence[Neighbour]:
        async with self._sessions() as session:
            rows = await session.execute(_NEAREST, {"vector": vector, "limit": limit})
            return [
                Neighbour(case_id=i, similarity=s, query=query or "", category_path=path or [])
                for i, s, query, path in rows
                if s > 0
            ]

    async def tree(self, version: str) -> list[TreeNode] | None:
        async with self._sessions() as session:
            rows = (await session.execute(_TREE, {"version": version})).all()
        nodes = {path: TreeNode(path=path, name=name, children=[]) for path, _, name in rows}
        roots: list[TreeNode] = []
        for path, parent, _ in rows:
            (roots if parent is None else nodes[parent].children).append(nodes[path])
        return roots or None
