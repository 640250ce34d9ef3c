"""What may be put under load."""

from __future__ import annotations

import pytest

from dbperf.config import Safety
from dbperf.errors import UsageError
from dbperf.lab.safety import check_target, check_users, url_host


def test_more_than_100_users_need_a_flag() -> None:
    check_users(100, staging=False)
    check_users(500, staging=True)
    with pytest.raises(UsageError, match="101 users") as e:
        check_users(101, staging=False)
    assert "--staging" in (e.value.hint or "")


@pytest.mark.parametrize("host", [None, "/run/postgresql", "localhost", "127.0.0.1", "::1", "[::1]"])
def test_this_machine_may_be_loaded(host: str | None) -> None:
    check_target("x", host, Safety(), not_production=False)


def test_an_unknown_host_needs_a_word() -> None:
    with pytest.raises(UsageError, match="not on this machine"):
        check_target("http://api.test", "api.test", Safety(), not_production=False)
    check_target("http://api.test", "api.test", Safety(known=["api.test"]), not_production=False)
    check_target("http://api.test", "api.test", Safety(), not_production=True)


@pytest.mark.parametrize("mark", ["localhost", "LOCALHOST", "http://localhost:8000"])
def test_production_is_refused_even_here(mark: str) -> None:
    safety = Safety(production=[mark], known=["localhost"])
    with pytest.raises(UsageError, match="marked as production"):
        check_target("http://localhost:8000", "localhost", safety, not_production=False)
    check_target("http://localhost:8000", "localhost", safety, not_production=True)


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://", ""])
def test_a_url_must_be_http(url: str) -> None:
    with pytest.raises(UsageError, match="no HTTP URL"):
        url_host(url)
