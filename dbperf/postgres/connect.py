"""Connections for collection: read-only, with time limits, named, and with errors that say what to do."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg

from dbperf.errors import ConnectError
from dbperf.postgres.dsn import Address, mask_dsn, resolve

__all__ = ["connect", "connected", "mask_dsn"]


async def connect(
    dsn: str,
    *,
    read_only: bool = True,
    statement_timeout_s: float | None = 60,
    lock_timeout_s: float | None = 2,
    application_name: str = "dbperf",
) -> asyncpg.Connection:
    """A connection to PostgreSQL, by default one that can't write and can't hold anybody up for long.

    `PG*` variables, ~/.pgpass and service files count as they do for psql. The limits are sent with the start of the
    connection, so they hold from the first statement on and end with it.

    Args:
        dsn: a URI, libpq's ``keyword=value`` pairs, or an empty string (the environment decides).
        read_only: transactions are read-only unless they say otherwise.
        statement_timeout_s: None leaves the server's own setting.
        lock_timeout_s: None leaves the server's own setting.
        application_name: what pg_stat_activity shows.

    Raises:
        ConnectError: no connection; the message says why and never shows a password.
    """
    address = resolve(dsn)
    settings = {"application_name": application_name}
    if read_only:
        settings["default_transaction_read_only"] = "on"
    if statement_timeout_s is not None:
        settings["statement_timeout"] = str(round(statement_timeout_s * 1000))
    if lock_timeout_s is not None:
        settings["lock_timeout"] = str(round(lock_timeout_s * 1000))
    try:
        return await asyncpg.connect(address.uri, timeout=address.connect_timeout_s, server_settings=settings)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, ValueError) as e:
        # asyncio.TimeoutError is an OSError (TimeoutError), as are socket.gaierror and ssl.SSLError.
        raise _explained(e, address) from e


@asynccontextmanager
async def connected(
    dsn: str,
    *,
    read_only: bool = True,
    statement_timeout_s: float | None = 60,
    lock_timeout_s: float | None = 2,
    application_name: str = "dbperf",
) -> AsyncIterator[asyncpg.Connection]:
    """`connect` as a context manager; the connection is closed at the end, by force where the server is silent."""
    connection = await connect(
        dsn,
        read_only=read_only,
        statement_timeout_s=statement_timeout_s,
        lock_timeout_s=lock_timeout_s,
        application_name=application_name,
    )
    try:
        yield connection
    finally:
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=5)


def _explained(error: Exception, address: Address) -> ConnectError:
    # Of asyncpg's PostgresErrors, this one is its own: nothing came from a server.
    if isinstance(error, asyncpg.PostgresError) and not isinstance(error, asyncpg.ConnectionDoesNotExistError):
        return _server_said(error, address)
    hint: str | None = None
    match error:
        case socket.gaierror():
            what, hint = "there is no such host", "check the host name in the connection string"
        case ssl.SSLError():
            what = f"the TLS connection failed: {getattr(error, 'verify_message', '') or error.reason or error}"
            hint = "give the server's root certificate with sslrootcert=FILE, or use sslmode=require to skip the check"
        case TimeoutError():
            what = f"no answer within {address.connect_timeout_s:g} s"
            hint = "check host, port and firewall; connect_timeout=SECONDS in the connection string waits longer"
        case FileNotFoundError() | NotADirectoryError():
            what, hint = "no server has its socket there", "start the server, or check host and port"
        case PermissionError():
            what = "this account may not open the server's socket"
        case ConnectionError() if "rejected SSL upgrade" in str(error):
            what = "the server refuses TLS"
            hint = "connect with sslmode=disable; or does something other than a PostgreSQL server listen there?"
        case OSError() if isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error):
            # Where a name has several addresses, asyncio joins what each of them said.
            what, hint = "connection refused", "is the server running, and is the port right?"
        case OSError() | asyncpg.InternalClientError() | asyncpg.ConnectionDoesNotExistError():
            what, hint = f"the connection broke off: {error}", "does a PostgreSQL server listen on that port?"
        case _:
            what = f"the connection string can't be used: {' '.join(str(error).split())}"
    return ConnectError(f"{address.where}: {what}", hint=hint)


def _server_said(error: asyncpg.PostgresError, address: Address) -> ConnectError:
    # str(error) has the details on lines of their own.
    said = "; ".join(part.rstrip(".") for part in (error.message or str(error), error.detail) if part)
    hint: str | None = None
    match error:
        case asyncpg.InvalidPasswordError():
            hint = _password_hint(address)
        case asyncpg.InvalidAuthorizationSpecificationError() if "no encryption" in str(error):
            hint = "the server may ask for TLS: add sslmode=require; or its pg_hba.conf lacks a line for you"
        case asyncpg.InvalidAuthorizationSpecificationError() if "pg_hba.conf" in str(error):
            hint = "the server's pg_hba.conf has no line for this host, user, database and encryption"
        case asyncpg.InvalidAuthorizationSpecificationError():
            hint = "check the user in the connection string (or PGUSER)"
        case asyncpg.InvalidCatalogNameError():
            hint = "check the name; psql -l lists the databases"
        case asyncpg.TooManyConnectionsError():
            hint = "close idle connections, or raise max_connections; a superuser_reserved_connections slot may be free"
        case asyncpg.CannotConnectNowError():
            hint = "the server is starting or stopping: try again in a moment"
        case asyncpg.ProtocolViolationError() if "startup parameter" in str(error):
            hint = "a connection pooler is in between: connect to the server itself"
        case asyncpg.InsufficientPrivilegeError():
            hint = f"GRANT CONNECT ON DATABASE … TO {address.user or 'this user'}"
        case _:
            pass
    return ConnectError(f"{address.where}: {said}", hint=hint)


def _password_hint(address: Address) -> str:
    if address.has_password:
        return "check the user and the password"
    file = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        mode = file.stat().st_mode
    except OSError:
        return f"give the password in PGPASSWORD, in {file} or in the connection string"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"{file} is ignored because others may read it: chmod 600 {file}"
    return f"check the password: connection string, PGPASSWORD, {file} (host:port:database:user:password)"
