"""What takes the time, by self time, and what to do where a rule knows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import dataclass

import msgspec

from dbperf.flame.drawing import place_of
from dbperf.flame.ops import module_of, total, weighted
from dbperf.records.stacks import Frame, FrameKind, HotSpot, Stacks

_NOT_APPLICATION = {"stdlib", "<python>", "<native>"}


@dataclass(frozen=True)
class _Rule:
    rule_id: str
    name: str
    pattern: re.Pattern[str]
    """Matched with "file:function" of a Python or native frame, or with the name of a statement or node."""
    kinds: frozenset[str]
    advice: str


def _rule(rule_id: str, name: str, pattern: str, advice: str, *kinds: FrameKind) -> _Rule:
    return _Rule(rule_id, name, re.compile(pattern, re.IGNORECASE), frozenset(kinds or ("python", "native")), advice)


RULES = (
    _rule("seq_scan", "Seq Scan", r"^(Parallel )?Seq Scan",
          "Index the filter's columns if few rows pass it: dbperf advise.", "plan"),
    _rule("sort_node", "Sort", r"^(Incremental )?Sort\b", "An index in the sort's order makes it unnecessary.", "plan"),
    _rule("similarity_loop", "Similarity computed in Python", r":(\w+\.)*\w*(cosine|similar|distance|euclid)\w*$",
          "Let pgvector compute it: ORDER BY vector <=> $1 LIMIT n, with an HNSW index, or a self-join on <=>."),
    _rule("vector_decoding", "Decoding vectors", r"/pgvector/",
          "Leave the vector column out of the SELECT (load_only, deferred)."),
    _rule("json_encoding", "JSON encoding", r"/json/(encoder|__init__)\.py:|fastapi/encoders\.py:"
          r"|:(jsonable_encoder|serialize_response|model_dump\w*)$",
          "Return a Response of msgspec or orjson for large answers, and answer with less."),
    _rule("orm_hydration", "ORM objects made from rows", r"sqlalchemy/orm/"
          r"(loading|state|identity|attributes|strategies|instrumentation|base|context)\.py:",
          "Select columns instead of entities (select(T.a, T.b)), or compute in SQL: bulk reads need no identity map."),
    _rule("orm_compile", "SQLAlchemy compiles statements", r"sqlalchemy/sql/"
          r"(compiler|cache_key|elements|selectable|traversals|visitors)\.py:",
          "Build the statement once, at module level; keep values out of its structure so that the cache hits."),
    _rule("password_hash", "Password hashing", r"bcrypt|argon2|scrypt|pbkdf2|:hashpw|:checkpw",
          "Run it in a thread (asyncio.to_thread): it is slow on purpose. Or check a session token instead."),
    _rule("logging", "Logging in the hot path", r"/logging/(__init__|handlers)\.py:",
          "Log less per request, guard with isEnabledFor, or hand records to a QueueHandler."),
    _rule("validation", "Validation", r"/pydantic/|/pydantic_core/",
          "Skip response validation for what the server made itself, or validate less per item."),
)  # fmt: skip


def hot_spots(s: Stacks, *, limit: int = 10, per_function: bool = True) -> list[HotSpot]:
    """The largest self times, largest first; what a rule recognises counts together, under the rule's name.

    A frame's place is the application's line that led to it most often. Waiting is not a hot spot.

    Args:
        per_function: samples of a function's different lines are one entry.
    """
    own: defaultdict[tuple[str, str | None], float] = defaultdict(float)
    whole_of: defaultdict[tuple[str, str | None], float] = defaultdict(float)
    places: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
    about: dict[tuple[str, str | None], tuple[Frame, _Rule | None]] = {}
    for path, value, _ in weighted(s):
        if not path or path[-1].kind in ("unattributed", "wait", "await"):
            continue
        leaf = path[-1]
        rule = _recognised(path)
        key = (rule.rule_id, None) if rule else _key(leaf, per_function)
        own[key] += value
        about.setdefault(key, (leaf, rule))
        if place := _application_place(path):
            places[key][place] += max(1, round(value * 1000))
        for frame in {_key(f, per_function) for f in path}:
            whole_of[frame] += value
    whole = total(s) or 1.0
    found = []
    for key, value in sorted(own.items(), key=lambda kv: -kv[1])[:limit]:
        leaf, rule = about[key]
        best = places[key].most_common(1)
        found.append(
            HotSpot(
                name=rule.name if rule else leaf.name,
                kind=leaf.kind,
                place=best[0][0] if best else place_of(leaf) or None,
                self_value=value,
                total_value=value if rule else whole_of[key],
                share=value / whole,
                rule_id=rule.rule_id if rule else None,
                advice=rule.advice if rule else None,
            )
        )
    return found


def _key(f: Frame, per_function: bool) -> tuple[str, str | None]:
    bare = msgspec.structs.replace(f, line=None) if per_function else f
    return f"{bare.kind}:{bare.name}:{bare.line or ''}", bare.file


def _recognised(path: tuple[Frame, ...]) -> _Rule | None:
    """The rule of the innermost frame that one knows, up to the application's own innermost frame."""
    for f in reversed(path):
        text = f.name if f.kind in ("sql", "plan") else f"{(f.file or '')}:{f.name}"
        for rule in RULES:
            if f.kind in rule.kinds and rule.pattern.search(text):
                return rule
        if is_application(f):
            return None
    return None


def is_application(f: Frame) -> bool:
    """Whether a frame is the application's own: Python, and neither library nor standard library."""
    if f.kind != "python" or not f.file or f.file.startswith("<"):
        return False
    if "site-packages" in f.file or "dbperf/trace/" in f.file or "dbperf/flame/" in f.file:
        return False
    return module_of(f) not in _NOT_APPLICATION


def _application_place(path: tuple[Frame, ...]) -> str | None:
    return next((place_of(f) for f in reversed(path) if is_application(f) or (f.kind == "await" and f.file)), None)
