"""Readers, writers and operations on stacks, and the drawing's arithmetic. No profiler, no browser."""

from __future__ import annotations

import cProfile
import json
import marshal
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dbperf.errors import RecordError, UsageError
from dbperf.flame.changes import compare, node_changes
from dbperf.flame.drawing import figure, layout, page
from dbperf.flame.hotspots import hot_spots
from dbperf.flame.ops import (
    Builder,
    below,
    costs,
    focus,
    fold_libraries,
    fold_recursion,
    keep,
    merge,
    module_of,
    on_cpu,
    total,
    tree,
    weighted,
    without_lines,
)
from dbperf.flame.readers import parse_collapsed, parse_perf, parse_speedscope, read_profile
from dbperf.flame.svg import svg
from dbperf.flame.writers import collapsed, speedscope
from dbperf.records.base import parse_document
from dbperf.records.stacks import Frame, Stacks

NAMES = st.text(st.characters(codec="utf-8", exclude_characters=" "), min_size=1, max_size=8)
NASTY = "<script>alert(1)</script>&\"'😀\u202e\x00;</svg>"


def stacks(text: str, **more: Any) -> Stacks:
    return parse_collapsed(text, source="test", **more)


def names(s: Stacks) -> dict[str, float]:
    return {";".join(f.name for f in path): value for path, value, _ in weighted(s)}


def test_operations() -> None:
    s = stacks("main;view;query 3\nmain;view;render 2\nmain;other 5\n")
    assert total(s) == 10
    assert names(keep(s, lambda f: f.name == "view")) == {"main;view;query": 3, "main;view;render": 2}
    assert names(focus(s, lambda f: f.name == "view")) == {"view;query": 3, "view;render": 2}
    assert names(below(s, [Frame(name="root")]))["root;main;other"] == 5
    assert names(merge([s, s]))["main;other"] == 10
    assert costs(s)[Frame(name="view")].total_value == 5
    assert costs(s)[Frame(name="other")].self_value == 5
    assert tree(s).children[Frame(name="main")].value == 10
    lines = stacks("a (x.py:1) 1\na (x.py:2) 2\n")
    assert names(without_lines(lines)) == {"a": 3}


def test_folding() -> None:
    assert names(fold_recursion(stacks("f;g;f;g;h 1\nf;f;f 2\n"))) == {"f;g;h": 1, "f": 2}
    s = stacks("main (/app/m.py:1);a (/x/site-packages/lib/a.py:1);b (/x/site-packages/lib/b.py:1);c (/app/c.py:1) 4\n")
    folded = fold_libraries(s, lambda f: "site-packages" in (f.file or ""))
    assert names(folded) == {"main;a;c": 4}


@st.composite
def paths(draw: st.DrawFn) -> list[tuple[list[str], int]]:
    """Stacks of a few names, as real ones are: the same frames again in other places."""
    known = st.sampled_from(draw(st.lists(NAMES, min_size=1, max_size=8)))
    return draw(
        st.lists(st.tuples(st.lists(known, min_size=1, max_size=6), st.integers(1, 1000)), min_size=1, max_size=20)
    )


@settings(max_examples=40)
@given(paths())
def test_speedscope_round_trip_keeps_everything(given: list[tuple[list[str], int]]) -> None:
    builder = Builder()
    for path, value in given:
        builder.add([Frame(name=n, file="/a b.py", line=3) for n in path], value)
    s = builder.build(name="x", source="test", unit="samples")
    back = parse_speedscope(speedscope(s), source="x")
    assert names(back) == names(s)
    assert set(back.frames) == set(s.frames)
    assert names(parse_document(Stacks, s.to_json(), source="x")) == names(s)
    assert total(parse_collapsed(collapsed(s), source="x")) == total(s)


def test_evented_speedscope() -> None:
    events = [("O", 0, 0), ("O", 1, 2), ("C", 1, 5), ("C", 0, 6)]
    file = {
        "shared": {"frames": [{"name": "a"}, {"name": "b"}]},
        "profiles": [
            {"type": "evented", "unit": "seconds", "endValue": 6,
             "events": [{"type": t, "frame": f, "at": at} for t, f, at in events]}
        ],
    }  # fmt: skip
    assert names(parse_speedscope(json.dumps(file).encode(), source="x")) == {"a": 3000, "a;b": 3000}


PERF = """python 123/123 4.5: 1 cpu-clock:
\t    7f01 _PyEval_EvalFrameDefault+0x10 (/usr/bin/python3.12)
\t    7f02 py::view:/app/main.py (/tmp/perf-123.map)

python 123 4.6: 1 cpu-clock:
\t    7f03 [unknown] (/usr/lib/libc.so.6)
\t    7f02 py::view:/app/main.py (/tmp/perf-123.map)
"""


def test_perf_script() -> None:
    s = parse_perf(PERF, source="x")
    assert names(s) == {"view;_PyEval_EvalFrameDefault": 1, "view;[unknown]": 1}
    assert s.frames[0].file == "/app/main.py"


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def heavy() -> None:
    spin(0.06)


def light() -> None:
    spin(0.02)


def test_pstats_shares_time_among_callers(tmp_path: Path) -> None:
    profiler = cProfile.Profile(time.thread_time)
    profiler.runcall(lambda: (heavy(), light()))
    profiler.dump_stats(tmp_path / "x.pstats")
    s = read_profile(tmp_path / "x.pstats")
    inclusive = {f.name: c.total_value for f, c in costs(s).items()}
    assert inclusive["heavy"] == pytest.approx(60, rel=0.1)
    assert inclusive["light"] == pytest.approx(20, rel=0.1)
    assert total(s) == pytest.approx(80, rel=0.1)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.speedscope", b'{"shared": {"frames": [{"name": "a"}]}, "profiles": [{"type": "sam', "speedscope"),
        ("a.json", b'{"shared": {"frames": []}, "profiles": [{"type": "sampled", "samples": [[4]], "weights": [1]}]}',
         "contradicts itself"),
        ("a.txt", b"main;view\n", "no count"),
        ("a.txt", b"main;view -3\n", "no count"),
        ("a.txt", b"main;view nan\n", "no count"),
        ("a.txt", b"", "is empty"),
        ("a.pstats", b"\x00\x01\x02 not marshal", "this Python reads"),
        ("a.pstats", marshal.dumps([1, 2]), "no profile"),
        ("a.pstats", marshal.dumps({("f", 1, "g"): (1, 2)}), "no profile"),
        ("a.pstats", marshal.dumps({("f", 1, "g"): (1, 1, 0.1, 0.1, {})})[:-9], "this Python reads"),
    ],
)  # fmt: skip
def test_files_that_are_none(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordError, match=message):
        read_profile(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="does not exist"):
        read_profile(tmp_path / "nowhere")


def test_ten_thousand_deep_and_nasty_names() -> None:
    builder = Builder()
    builder.add([Frame(name=f"f{i}") for i in range(10_000)], 3)
    builder.add([Frame(name=NASTY, file=NASTY), Frame(name="x" * 100_000)], 2)
    builder.add([Frame(name="GET /x", kind="endpoint"), Frame(name="SELECT 1", kind="sql")], 1)
    s = builder.build(name=NASTY, source="test", unit="ms")
    assert len(layout(s)) == 10_005
    drawn = page(NASTY, [("one", figure(s, figure_id="a"))], spots=hot_spots(s))
    assert "<script>alert" not in drawn
    assert drawn.count("</script>") == 2
    assert " style=" not in drawn
    assert " onclick" not in drawn
    ElementTree.fromstring(svg(s))
    assert total(parse_speedscope(speedscope(s), source="x")) == total(s)
    assert len(collapsed(s).splitlines()) == 3
    fold_recursion(s)
    hot_spots(s)


def test_a_profile_without_a_sample_can_be_drawn() -> None:
    s = Builder().build(name="empty", source="test", unit="ms")
    assert "empty" in page("empty", [("empty", figure(s, figure_id="a"))])
    ElementTree.fromstring(svg(s))
    with pytest.raises(UsageError, match="without a sample"):
        compare(s, s)


def test_modules() -> None:
    assert module_of(Frame(name="x", file="/usr/lib/python3.11/asyncio/events.py")) == "stdlib"
    assert module_of(Frame(name="x", kind="sql")) == "<sql>"


def blocks(**by_name: list[float]) -> Stacks:
    builder = Builder()
    for name, values in by_name.items():
        for i, v in enumerate(values):
            builder.add([Frame(name="main"), Frame(name=name)], v, block=i)
    return builder.build(name="x", source="test", unit="ms")


def test_a_change_beyond_noise_and_one_within() -> None:
    before = blocks(query=[50, 52, 49, 51, 50, 48, 52, 50], render=[50, 30, 70, 45, 55, 20, 80, 50])
    after = blocks(query=[20, 21, 19, 22, 20, 18, 21, 20], render=[55, 33, 66, 40, 60, 25, 75, 54])
    found = {c.name: c for c in compare(before, after)}
    assert found["query"].verdict == "less"
    assert found["main"].verdict == "cant_tell"
    same = {c.name: c for c in compare(before, before)}
    assert {c.verdict for c in same.values()} == {"cant_tell"}
    no_blocks = compare(stacks("a 1\nb 9\n"), stacks("a 9\nb 1\n"))
    assert {c.verdict for c in no_blocks} == {"cant_tell"}
    with pytest.raises(UsageError, match="can't be compared"):
        compare(before, stacks("a 1\n"))
    changed = node_changes(before, after)
    assert changed[0] == pytest.approx(0)
    assert min(changed.values()) < -0.1


def test_hot_spots_name_what_a_rule_knows() -> None:
    app = "view (/app/views.py:7)"
    s = stacks(
        f"{app};cosine_similarity (/app/math.py:3) 50\n"
        f"{app};load (/v/site-packages/sqlalchemy/orm/loading.py:1);row (/v/site-packages/sqlalchemy/util.py:2) 20\n"
        f"{app};instances (/v/site-packages/sqlalchemy/orm/loading.py:9) 10\n"
        f"{app};info (/usr/lib/python3.11/logging/__init__.py:9) 5\n"
        f"{app} 15\n"
    )
    found = hot_spots(s)
    assert [(h.rule_id, h.self_value) for h in found] == [
        ("similarity_loop", 50), ("orm_hydration", 30), (None, 15), ("logging", 5)
    ]  # fmt: skip
    assert found[1].place == "/app/views.py:7"
    assert found[0].advice
    assert "pgvector" in found[0].advice


def test_waiting_threads_and_our_own_are_not_on_the_cpu() -> None:
    s = stacks(
        "run (/usr/lib/python3.11/threading.py:1);Condition.wait (/usr/lib/python3.11/threading.py:2) 5\n"
        "main (/app/m.py:1);EpollSelector.select (/usr/lib/python3.11/selectors.py:2) 5\n"
        "run (/usr/lib/python3.11/threading.py:1);write (/x/dbperf/trace/stream.py:2);encode 5\n"
        "main (/app/m.py:1);wait (/app/m.py:2) 7\n"
    )
    assert names(on_cpu(s)) == {"main;wait": 7}
