"""The list of runs and its trends: only what is comparable is joined."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from dbperf.errors import RecordError
from dbperf.records.load import Load
from dbperf.report.history import Trend, profile_of, read_history
from dbperf.report.index import render_index
from dbperf.report.trend_charts import trend_spec
from tests.support.comparing import lognormal, make_run
from tests.support.sample_run import START, sample_run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for day in range(3):
        sample_run(root / f"{day}-ten", endpoints=2, requests=2000, seed=day, start=START + timedelta(days=day))
    sample_run(root / "3-fifty", endpoints=2, requests=2000, users=50, start=START + timedelta(days=3))
    cut = sample_run(root / "4-cut", endpoints=2, requests=2000, start=START + timedelta(days=4))
    cut.write(msgspec.structs.replace(cut.read(Load), complete=False))
    sample_run(root / "5-partial", endpoints=1, only=set(), start=START + timedelta(days=5))
    (root / "6-broken").mkdir()
    (root / "6-broken" / "run.json").write_text('{"kind":')
    (root / "no-run").mkdir()
    (root / "link").symlink_to(root / "0-ten")
    return root


def test_every_run_is_listed_newest_first_and_broken_ones_say_why(root: Path) -> None:
    runs = read_history(root).runs
    assert [r.folder for r in runs] == ["5-partial", "4-cut", "3-fifty", "2-ten", "1-ten", "0-ten", "6-broken"]
    assert runs[-1].problem == "run.json, line 1, column 9: Input data was truncated"
    assert runs[0].status == "partial"
    assert runs[0].verdict is None
    assert runs[3].verdict == "fail"


def test_only_runs_that_measured_the_same_share_a_trend(root: Path) -> None:
    (group,) = read_history(root).groups
    assert group.runs == 3
    assert "10 users" in group.profile
    assert "sample" in group.profile
    for trend in [*group.endpoints, *group.statements]:
        assert [p.folder for p in trend.points] == ["0-ten", "1-ten", "2-ten"]


def check_chart(trend: Trend) -> None:
    import altair  # 0.3 s, which each worker would spend while it collects

    altair.LayerChart.from_dict(trend_spec(trend), validate=True)


def test_a_trend_holds_the_records_figures(root: Path) -> None:
    (group,) = read_history(root).groups
    loads = [msgspec.json.decode((root / f"{i}-ten" / "load.json").read_bytes()) for i in range(3)]
    endpoint = loads[0]["stages"][0]["endpoints"][0]
    expected = [
        next(q["value_ms"] for q in x["stages"][0]["endpoints"][0]["quantiles"] if q["q"] == 0.95) for x in loads
    ]
    trend = next(t for t in group.endpoints if t.title == endpoint["name"])
    assert [p.value_ms for p in trend.points] == expected
    check_chart(trend)


def test_other_targets_scales_and_versions_are_other_profiles(root: Path) -> None:
    manifest = sample_run(root.parent / f"{root.name}-p", endpoints=1).manifest
    assert manifest.target is not None
    assert manifest.server is not None
    others = [
        msgspec.structs.replace(manifest, target=msgspec.structs.replace(manifest.target, scale="large")),
        msgspec.structs.replace(manifest, target=msgspec.structs.replace(manifest.target, workers=4)),
        msgspec.structs.replace(manifest, server=msgspec.structs.replace(manifest.server, version_num=170004)),
        msgspec.structs.replace(manifest, provenance="measured"),
    ]
    assert len({profile_of(m) for m in [manifest, *others]}) == 5
    shutil.rmtree(root.parent / f"{root.name}-p")


def test_an_empty_folder_is_a_page_and_a_missing_one_an_error(tmp_path: Path) -> None:
    assert "No run yet" in render_index(read_history(tmp_path), tmp_path)
    with pytest.raises(RecordError, match="no folder of runs"):
        read_history(tmp_path / "nowhere")


def test_a_step_is_marked_in_the_trend_with_its_commits(tmp_path: Path) -> None:
    slow = {n: lognormal(400, median_ms=80 if n >= 7 else 50, seed=n) for n in range(13)}
    for n, latencies in slow.items():
        make_run(tmp_path / f"{n:02}", {"GET /a": latencies, "GET /b": lognormal(400, seed=100 + n)},
                 started_at=START + timedelta(days=n), git_revision=("b" if n >= 7 else "a") * 40)  # fmt: skip
    (group,) = read_history(tmp_path).groups
    stepped, level = group.endpoints
    [step] = stepped.steps
    assert (step.at, step.verdict, step.revision_before, step.revision_after) == (7, "worse", "a" * 40, "b" * 40)
    assert level.steps == []
    check_chart(stepped)
    page = render_index(read_history(tmp_path), tmp_path)
    assert page.count('<p class="step">') == 1
    assert f"{'a' * 12}..{'b' * 12}" in page
