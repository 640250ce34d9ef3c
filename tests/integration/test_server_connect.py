"""Each way in which a connection fails is one line with a hint; those that succeed can't do harm."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from dbperf.errors import ConnectError
from dbperf.postgres.connect import connect, connected
from dbperf.processes import free_port
from tests.conftest import Database
from tests.support.pgserver import PgServer, bindir_18
from tests.support.waiting import eventually

HBA = """\
local   all      keeper     scram-sha-256
local   all      all        trust
hostssl all      all        127.0.0.1/32  scram-sha-256
host    open     all        127.0.0.1/32  trust
"""


@pytest.fixture(scope="module")
def guarded() -> Iterator[tuple[PgServer, int]]:
    """A server that listens on TCP and asks the role `keeper` for a password."""
    with pytest.MonkeyPatch.context() as patch:
        for attempt in range(5):
            port = free_port()
            patch.setenv("PGPORT", str(port))
            try:
                server = PgServer(bindir_18(), {"listen_addresses": "127.0.0.1"})
            except RuntimeError:  # somebody else was faster to take the port
                if attempt == 4:
                    raise
            else:
                break
        try:
            (server.data / "pg_hba.conf").write_text(HBA)
            server.psql("SELECT pg_reload_conf(); CREATE ROLE keeper LOGIN PASSWORD 's3cret'; CREATE ROLE guest LOGIN;")
            server.psql('CREATE DATABASE open; CREATE DATABASE "full" CONNECTION LIMIT 0; CREATE DATABASE closed;')
            server.psql("REVOKE CONNECT ON DATABASE closed FROM public")
            patch.undo()
            yield server, port
        finally:
            server.close()


@pytest.fixture(autouse=True)
def no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("PG")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


async def test_a_connection_is_named_read_only_and_limited(db: Database) -> None:
    async with connected(db.dsn, statement_timeout_s=1.0, lock_timeout_s=1.5) as connection:
        settings = dict(
            await connection.fetch(
                "SELECT name, setting FROM pg_settings WHERE name IN "
                "('application_name', 'default_transaction_read_only', 'statement_timeout', 'lock_timeout')"
            )
        )
        assert settings == {
            "application_name": "dbperf",
            "default_transaction_read_only": "on",
            "statement_timeout": "1000",
            "lock_timeout": "1500",
        }
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await connection.execute("CREATE TABLE t ()")
        with pytest.raises(asyncpg.QueryCanceledError):
            await connection.execute("SELECT pg_sleep(5)")
    assert connection.is_closed()


async def test_writing_and_waiting_are_asked_for(db_18: Database) -> None:
    async with connected(
        db_18.dsn, read_only=False, statement_timeout_s=None, lock_timeout_s=None, application_name="seed"
    ) as connection:
        await connection.execute("CREATE TABLE t AS SELECT current_setting('application_name') AS name")
        assert await connection.fetchval("SELECT name FROM t") == "seed"
        assert await connection.fetchval("SHOW statement_timeout") == "0"


async def fails(dsn: str, message: str, hint: str) -> None:
    with pytest.raises(ConnectError) as e:
        await connect(dsn)
    assert message in e.value.message
    assert hint in (e.value.hint or "")
    assert "\n" not in e.value.message
    for secret in ("s3cret", "wr0ng"):
        assert secret not in e.value.message + (e.value.hint or "")


async def test_what_the_server_refuses(guarded: tuple[PgServer, int]) -> None:
    server, port = guarded
    at = f"host={server.host} port={port}"
    tcp = f"host=127.0.0.1 port={port}"
    await fails(f"{at} user=keeper dbname=open password=wr0ng", "password authentication failed", "and the password")
    await fails(f"{at} user=keeper dbname=open", "password authentication failed", "PGPASSWORD")
    await fails(f"{at} user=nobody_here dbname=open", 'role "nobody_here" does not exist', "PGUSER")
    await fails(f"{at} user=guest dbname=nowhere", 'database "nowhere" does not exist', "psql -l")
    await fails(f"{at} user=guest dbname=full", 'too many connections for database "full"', "max_connections")
    await fails(f"{at} user=guest dbname=closed", 'permission denied for database "closed"', "GRANT CONNECT")
    await fails(f"{tcp} user=guest dbname=postgres", "no pg_hba.conf entry", "sslmode=require")
    await fails(f"{tcp} user=guest dbname=open sslmode=require", "the server refuses TLS", "sslmode=disable")
    await fails(f"{tcp} user=guest dbname=open sslmode=verify-full", "root certificate file", "")
    await fails(f"{tcp} user=guest dbname=open sslmode=sometimes", "`sslmode` parameter must be one of", "")
    await fails(f"{at} user=guest dbname=open options='-c nonsense=1'", "nonsense", "")


async def test_what_is_not_there(tmp_path: Path) -> None:
    await fails("postgresql://me:s3cret@no-such-host.invalid/app", "there is no such host", "host name")
    with socket.socket() as taken:  # bound, so that nobody else gets the port, but nobody listens
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        await fails(f"postgresql://me:s3cret@127.0.0.1:{port}/app", "connection refused", "port")
        await fails(f"postgresql://me:s3cret@localhost:{port}/app", "connection refused", "port")
    await fails(f"host={tmp_path} user=me password=s3cret", "no server has its socket there", "start the server")


async def test_a_silent_host_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        await fails(f"host=127.0.0.1 port={port} user=me connect_timeout=0.3", "no answer within 0.3 s", "firewall")


async def test_something_else_listens() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        for sslmode in ("disable", "prefer"):
            await fails(f"host=127.0.0.1 port={port} user=me sslmode={sslmode}", "127.0.0.1", "PostgreSQL server")


async def test_a_server_that_is_stopping() -> None:
    server = PgServer(bindir_18())
    try:
        connection = await asyncpg.connect(server.dsn())
        assert server.process is not None
        server.process.signal(signal.SIGTERM)  # waits for the session
        pid_file = server.data / "postmaster.pid"
        assert await asyncio.to_thread(eventually, lambda: "stopping" in pid_file.read_text())
        await fails(server.dsn(), "shutting down", "try again")
        connection.terminate()
    finally:
        server.close()


async def whoami(dsn: str) -> str:
    async with connected(dsn) as connection:
        return str(await connection.fetchval("SELECT current_user || '@' || current_database()"))


async def test_variables_password_files_and_services_count(
    guarded: tuple[PgServer, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server, port = guarded
    at = f"host={server.host} port={port} user=keeper dbname=open"
    assert await whoami(f"{at} password=s3cret") == "keeper@open"
    passfile = tmp_path / ".pgpass"
    passfile.write_text("*:*:open:keeper:s3cret\n")
    passfile.chmod(0o600)
    assert await whoami(at) == "keeper@open"
    elsewhere = tmp_path / "elsewhere"
    shutil.move(passfile, elsewhere)
    monkeypatch.setenv("PGPASSFILE", str(elsewhere))
    assert await whoami(at) == "keeper@open"
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("PGPASSWORD", "s3cret")
    assert await whoami(at) == "keeper@open"
    for name, value in {"HOST": server.host, "PORT": str(port), "USER": "keeper", "DATABASE": "open"}.items():
        monkeypatch.setenv(f"PG{name}", value)
    assert await whoami("") == "keeper@open"
    assert await whoami("dbname=postgres") == "keeper@postgres"
    for name in ("HOST", "PORT", "USER", "DATABASE", "PASSWORD"):
        monkeypatch.delenv(f"PG{name}")
    service = tmp_path / ".pg_service.conf"
    service.write_text(f"[shop]\nhost={server.host}\nport={port}\nuser=keeper\ndbname=open\npassword=s3cret\n")
    assert await whoami("service=shop") == "keeper@open"
    assert await whoami("postgresql://?service=shop") == "keeper@open"
    monkeypatch.setenv("PGSERVICE", "shop")
    assert await whoami("") == "keeper@open"


@pytest.mark.filterwarnings("ignore:password file:UserWarning")  # asyncpg's own word for the same thing
async def test_a_password_file_that_others_may_read_is_named(guarded: tuple[PgServer, int], tmp_path: Path) -> None:
    server, port = guarded
    passfile = tmp_path / ".pgpass"
    passfile.write_text("*:*:*:*:s3cret\n")
    passfile.chmod(0o644)
    at = f"host={server.host} port={port} user=keeper dbname=open"
    await fails(at, "password authentication failed", f"chmod 600 {passfile}")
