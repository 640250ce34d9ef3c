"""Suite files: what they say, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbperf.errors import ConfigError, UsageError
from dbperf.load.data import resolve_data, without_data
from dbperf.load.plan import mix, select_endpoints
from dbperf.load.suite_file import parse_suite, placeholders
from dbperf.load.suites import list_suites, load_suite, with_overrides
from dbperf.load.toml_lines import line_of

GOOD = """\
name = "shop"
timeout = "5s"
gates = ["p95 < 500ms"]

[[stages]]
users = 10
ramp = "2s"
duration = "1m30s"

[[stages]]
name = "rush"
arrival_rate = 25
arrivals = "uniform"
duration = "30s"

[[endpoints]]
path = "/items/{item}?q=1"
weight = 3

[[endpoints]]
method = "post"
path = "/orders"
json = { item = "{item}", note = "for {who.name}" }
writes = true

[[data]]
name = "item"
values = [1, 2, 3]
distribution = "zipf"

[[data]]
name = "who"
sql = "SELECT name, id FROM customers"

[think_time]
min = "100ms"
max = "1s"

[[service_levels]]
endpoint = "GET */items/*"
p95 = "300ms"
errors = "1%"
"""


def test_a_suite_says_what_its_file_says() -> None:
    suite = parse_suite(GOOD, "shop.toml")
    first, second = suite.stages
    assert (first.name, first.users, first.ramp_s, first.duration_s, first.model) == ("10 users", 10, 2, 90, "closed")
    assert (second.name, second.arrival_rate_per_s, second.arrivals, second.model) == ("rush", 25, "uniform", "open")
    get, post = suite.endpoints
    assert (get.name, get.method, get.timeout_s) == ("GET /items/{item}", "GET", 5)
    assert (post.name, post.writes, placeholders(post)) == ("POST /orders", True, ["item", "who"])
    assert (suite.think_time.min_s, suite.think_time.max_s) == (0.1, 1)
    assert (suite.service_levels[0].p95_ms, suite.service_levels[0].error_rate) == (300, 0.01)
    assert suite.gates == ["p95 < 500ms"]
    assert mix(suite) == {"GET /items/{item}": 0.75, "POST /orders": 0.25}
    assert suite.expected_s == 122


@pytest.mark.parametrize(
    ("old", "new", "message", "hint"),
    [
        ("timeout", "timeuot", "shop.toml, line 2: unknown key 'timeuot'", "did you mean 'timeout'?"),
        ('timeout = "5s"', 'duration = "5s"', "line 2: unknown key 'duration'", "duration belongs into [[stages]]"),
        ('duration = "30s"', 'durration = "30s"', "line 14: unknown key 'durration'", "did you mean 'duration'?"),
        ('"1m30s"', '"90 sheep"', "line 8: '90 sheep' is not a duration", 'write it as "30s", "5m" or "500ms"'),
        ('"1m30s"', '"0s"', "line 8: a stage of 0 s measures nothing", 'for example "30s"'),
        ("users = 10\n", "", "line 5: a stage has either users or arrival_rate", None),
        ("users = 10", "users = 0", "line 6: a stage has at least one user, not 0", None),
        ("users = 10", 'users = "10"', "line 6: users: expected `int | null`, got `str`", None),
        ("weight = 3", "weight = 0", "line 18: the weight 0 is not above 0", None),
        ('"post"', '"pots"', "line 21: 'pots' is no HTTP method", "did you mean 'POST'?"),
        ('"/orders"', '"orders"', "line 22: the path 'orders' does not start with /", None),
        ("{who.name}", "{how.name}", "line 22: {how} in POST /orders has no [[data]]", "did you mean 'who'?"),
        ("values = [1, 2, 3]", "values = []", "line 28: data 'item' holds no values", None),
        ('max = "1s"', 'max = "1ms"', "line 37: think_time's max is below its min", None),
        ('"1%"', '"lots"', "line 42: 'lots' is not a share", 'write it as "1%" or 0.01'),
        ('"300ms"', '"300mss"', "line 41: '300mss' is not a duration", 'write it as "30s", "5m" or "500ms"'),
        ('name = "shop"\n', "", "line 1: the suite lacks 'name'", None),
        ("[[stages]]\nusers", "[[stages]\nusers", "(at line 5, column 9)", None),
    ],
)
def test_a_mistake_is_named_with_its_line(old: str, new: str, message: str, hint: str | None) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        parse_suite(GOOD.replace(old, new, 1), "shop.toml")
    assert message in caught.value.message
    if hint:
        assert caught.value.hint == hint


def test_two_stages_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="two stages are called 'rush'"):
        parse_suite(GOOD.replace("users = 10", 'name = "rush"\nusers = 10'), "x")


@pytest.mark.parametrize("text", ["", "name = 'x'", "name = 'x'\n[[stages]]\nusers = 1\nduration = 1"])
def test_a_suite_without_stages_or_endpoints_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_suite(text, "x.toml")


def test_every_ready_suite_can_be_read_and_found() -> None:
    suites = list_suites()
    assert "phase3" in [s.name for s in suites]
    for suite in suites:
        assert Path(suite.source).stem == suite.name
        assert load_suite(suite.name).name == suite.name
        assert suite.description


def test_an_unknown_suite_gets_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite("phase2")
    assert caught.value.hint == "did you mean 'phase3'?"
    with pytest.raises(ConfigError, match="no suite file"):
        load_suite("./nowhere.toml")


def test_overrides_fit_one_stage_of_users() -> None:
    suite = parse_suite(GOOD, "x")
    one = parse_suite(GOOD.replace('[[stages]]\nname = "rush"', '[[data]]\nname = "rush"', 1).replace(
        'arrival_rate = 25\narrivals = "uniform"\nduration = "30s"\n', "values = [1]\n"), "x")  # fmt: skip
    changed = with_overrides(one, users=3, duration_s=5, warm_up_s=1)
    assert (changed.stages[0].name, changed.stages[0].users, changed.stages[0].total_s) == ("3 users", 3, 8)
    with pytest.raises(UsageError, match="sets its own load in 2 stages"):
        with_overrides(suite, users=3)
    assert [s.duration_s for s in with_overrides(suite, duration_s=7).stages] == [7, 7]
    with pytest.raises(UsageError):
        with_overrides(suite, duration_s=0)


def test_a_ramp_is_no_longer_than_a_shortened_stage() -> None:
    suite = parse_suite(GOOD, "x")
    assert [s.ramp_s for s in with_overrides(suite, duration_s=1).stages] == [1, 0]
    assert [s.ramp_s for s in with_overrides(suite, duration_s=20).stages] == [2, 0]


async def test_data_comes_from_values_files_and_queries(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word,n\none,1\ntwo,2\n")
    text = GOOD.replace("values = [1, 2, 3]", 'file = "words.csv"').replace("{item}", "{item.word}")
    (tmp_path / "shop.toml").write_text(text)
    suite = load_suite(tmp_path / "shop.toml")
    assert await resolve_data(suite) == {"item": [{"word": "one", "n": "1"}, {"word": "two", "n": "2"}]}

    async def query(sql: str) -> list[dict[str, object]]:
        assert sql == "SELECT name, id FROM customers"
        return [{"name": "Ann", "id": 7}]

    assert (await resolve_data(suite, query))["who"] == [{"name": "Ann", "id": 7}]
    (tmp_path / "words.csv").write_text("word,n\n")
    with pytest.raises(ConfigError, match="yields nothing"):
        await resolve_data(suite)


def test_endpoints_that_write_or_lack_data_are_left_out_with_the_reason() -> None:
    suite = parse_suite(GOOD, "x")
    data = {"item": [1, 2], "who": [{"name": "Ann"}]}
    kept, left_out = select_endpoints(suite, data, allow_writes=False)
    assert [e.name for e in kept.endpoints] == ["GET /items/{item}"]
    assert [(x.endpoint, x.reason) for x in left_out] == [
        ("POST /orders", "it writes to the target's data: --apply sends it")
    ]
    assert select_endpoints(suite, data, allow_writes=True)[1] == []
    assert without_data(suite, {"item": [1]})[0].reason == "its data (who) comes from SQL: give --dsn"
    with pytest.raises(ConfigError, match="no endpoint that may be called"):
        select_endpoints(suite, {}, allow_writes=True)
    with pytest.raises(ConfigError, match="data 'who' has no column 'name'"):
        without_data(suite, {"item": [1], "who": [{"id": 1}]})


def test_lines_of_keys_are_found_in_nested_tables() -> None:
    text = '# top\n"name" = 1\n\n[think_time]\nmin = 1\n[[stages]]\na = 1\n  [[stages]]\na = 2\n'
    assert [line_of(text, p) for p in (("name",), ("think_time", "min"), ("stages", 1, "a"), ("stages", 0))] == [
        2, 5, 9, 6,
    ]  # fmt: skip
    assert line_of(text, ("absent",)) == 1
    assert line_of(text, ("stages", 1, "absent")) == 8
