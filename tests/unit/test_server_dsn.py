"""Connection strings in every spelling, and none of them ever shown with its password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbperf.errors import ConnectError
from dbperf.postgres.dsn import mask_dsn, resolve


def params(dsn: str, **env: str) -> dict[str, str]:
    return dict(parse_qsl(resolve(dsn, env).uri.removeprefix("postgresql://?")))


@pytest.mark.parametrize(
    ("dsn", "expected"),
    [
        ("postgresql://me@db:6543/app", {"host": "db", "port": "6543", "dbname": "app", "user": "me"}),
        ("postgres://me:a%40b%2Fc@db/app", {"host": "db", "dbname": "app", "user": "me", "password": "a@b/c"}),
        ("postgresql+asyncpg://db/app?ssl=require", {"host": "db", "dbname": "app", "sslmode": "require"}),
        ("postgresql:///app?host=/run/x&port=5433", {"dbname": "app", "host": "/run/x", "port": "5433"}),
        ("postgresql://%2Frun%2Fx/app", {"host": "/run/x", "dbname": "app"}),
        ("postgresql://a,b:6000/app", {"host": "a,b", "port": "5432,6000", "dbname": "app"}),
        ("postgresql://[::1]:5433/app", {"host": "[::1]", "port": "5433", "dbname": "app"}),
        ("postgresql:///app?host=::1", {"host": "[::1]", "dbname": "app"}),
        ("host=db port = 5433 dbname='my app'", {"host": "db", "port": "5433", "dbname": "my app"}),
        ("user=m\\'e", {"user": "m'e"}),
        ("postgresql://db/app?channel_binding=require&keepalives=1", {"host": "db", "dbname": "app"}),
        ("host=db hostaddr=10.0.0.1", {"host": "10.0.0.1"}),
        ("", {}),
    ],
)  # fmt: skip
def test_each_spelling(dsn: str, expected: dict[str, str]) -> None:
    assert params(dsn) == expected


def test_an_unescaped_at_sign_in_a_password_is_understood() -> None:
    assert params("postgresql://me:p@ss@db/app")["password"] == "p@ss"


@pytest.mark.parametrize(
    ("dsn", "message"),
    [
        ("mysql://db/app", "not a PostgreSQL connection string"),
        ("app", "not a connection string"),
        ("host=db dbname", "not a connection string"),
        ("postgresql://db:port/app", "port"),
        ("postgresql://db:70000/app", "port '70000' is not a number from 1 to 65535"),
        ("postgresql://db/app?sslmod=require", "unknown parameter 'sslmod'"),
        ("postgresql://db/app?sslmode", "parameter without a value"),
        ("postgresql://db/app?connect_timeout=soon", "connect_timeout 'soon'"),
        ("postgresql://me:se#cret@db/app#x", "has a # in it"),
    ],
)
def test_a_broken_string_is_one_clear_line(dsn: str, message: str) -> None:
    with pytest.raises(ConnectError, match=message) as e:
        resolve(dsn, {})
    assert e.value.exit_code == 2
    assert "\n" not in e.value.message
    assert "cret" not in e.value.message


def test_a_typing_error_gets_the_nearest_parameter() -> None:
    with pytest.raises(ConnectError) as e:
        resolve("host=db sslmod=require", {})
    assert e.value.hint == "did you mean 'sslmode'?"


def test_the_second_half_of_a_password_is_not_shown_as_a_port() -> None:
    with pytest.raises(ConnectError) as e:
        resolve("postgresql://me:hun/ter2", {})
    assert "ter2" not in e.value.message + str(e.value.hint)
    assert "hun" not in e.value.message + str(e.value.hint)


def test_services_come_from_the_file_and_the_string_wins(tmp_path: Path) -> None:
    file = tmp_path / ".pg_service.conf"
    file.write_text("# ours\n[shop]\nhost=db\nport=6000\ndbname=shop\nuser=reader\npassword=100%sure\n")
    home = {"HOME": str(tmp_path)}
    expected = {"host": "db", "port": "6000", "dbname": "shop", "user": "reader", "password": "100%sure"}
    assert params("service=shop", **home) == expected
    assert params("postgresql://?service=shop", **home) == expected
    assert params("", PGSERVICE="shop", PGSERVICEFILE=str(file), HOME="/nowhere") == expected
    assert params("postgresql://other/?service=shop", **home) == {**expected, "host": "other"}
    with pytest.raises(ConnectError, match="there is no service 'shp'"):
        resolve("service=shp", home)


def test_a_broken_service_file_does_not_show_its_lines(tmp_path: Path) -> None:
    (tmp_path / ".pg_service.conf").write_text("password=hunter2\n")
    with pytest.raises(ConnectError, match="can't be read") as e:
        resolve("service=shop", {"HOME": str(tmp_path)})
    assert "hunter2" not in e.value.message


def test_the_environment_fills_what_asyncpg_leaves_out() -> None:
    address = resolve("", {"PGCONNECT_TIMEOUT": "3", "PGOPTIONS": "-c geqo=off", "PGHOST": "db", "PGUSER": "me"})
    assert address.connect_timeout_s == 3
    assert address.uri == "postgresql://?options=-c%20geqo%3Doff"
    assert address.where == 'database "me" on db:5432'
    assert resolve("host=db connect_timeout=0", {}).connect_timeout_s == 3600


word = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=4).filter(
    lambda s: s not in "postgresql://me:***@db/app?x=1 host=db user=me password=***"
)


@given(word)
def test_no_password_survives_masking(secret: str) -> None:
    from urllib.parse import quote

    quoted = quote(secret, safe="")
    assert quoted not in mask_dsn(f"postgresql://me:{quoted}@db/app").replace("me:***@db/app", "")
    assert mask_dsn(f"postgresql://me:{quoted}@db/app") == "postgresql://me:***@db/app"
    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    assert mask_dsn(f"host=db password='{escaped}' user=me") == "host=db password=*** user=me"


@given(word)
def test_a_password_comes_through_both_spellings(secret: str) -> None:
    from urllib.parse import quote

    escaped = secret.replace("\\", "\\\\").replace("'", "\\'")
    assert params(f"postgresql://me:{quote(secret, safe='')}@db/app")["password"] == secret
    assert params(f"host=db password='{escaped}'")["password"] == secret
