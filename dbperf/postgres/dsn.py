"""Connection strings: libpq's two spellings, service files and `PG*` variables, brought into the form asyncpg takes.

What asyncpg 0.32 does itself: PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGPASSFILE, ~/.pgpass, PGSSL*. What it
does not, and what is done here: `keyword=value` strings, PGSERVICE (it reads it after it would have been needed), a
service that does not exist (ignored), `%` in a service file, PGSYSCONFDIR, connect_timeout, PGOPTIONS, hostaddr, and
parameters that are libpq's own business, such as keepalives (it would send them to the server as settings).
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote, urlencode

from dbperf.errors import ConnectError, DsnError, did_you_mean

_HINT = "write it as postgresql://user@host:5432/database; in a password, %40 stands for @, %2F for /, %23 for #"

_PASSED_ON = frozenset({
    "host", "port", "dbname", "user", "password", "passfile", "sslmode", "sslcert", "sslkey", "sslrootcert",
    "sslcrl", "sslpassword", "sslnegotiation", "ssl_min_protocol_version", "ssl_max_protocol_version",
    "target_session_attrs", "krbsrvname", "gsslib", "options",
})  # fmt: skip
_HANDLED_HERE = frozenset({"service", "hostaddr", "connect_timeout", "application_name"})
# They tune libpq, and leave open where the connection goes and as whom.
_LIBPQ_ONLY = frozenset({
    "fallback_application_name", "client_encoding", "keepalives", "keepalives_idle", "keepalives_interval",
    "keepalives_count", "tcp_user_timeout", "gssencmode", "gssdelegation", "channel_binding", "require_auth",
    "requiressl", "requirepeer", "sslcompression", "sslcertmode", "sslsni", "sslcrldir", "load_balance_hosts",
    "replication", "min_protocol_version", "max_protocol_version", "scram_client_key", "scram_server_key",
    "sslkeylogfile", "servicefile",
})  # fmt: skip
_KNOWN = _PASSED_ON | _HANDLED_HERE | _LIBPQ_ONLY
# SQLAlchemy's and JDBC's names for the same things.
_ALIASES = {"database": "dbname", "ssl": "sslmode", "username": "user"}

_SECRET = re.compile(r"(?i)\b((?:ssl)?password)(\s*=\s*)('(?:\\.|''|[^'])*'?|[^\s&]*)")
_URI_SECRET = re.compile(r"(://[^:/@\s]*):.*@")
_URI = re.compile(r"\s*[A-Za-z][\w+.-]*://")
_KEYWORD = re.compile(r"\s*([A-Za-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)", re.DOTALL)


def mask_dsn(dsn: str) -> str:
    """The connection string with every password replaced by ``***``; made for malformed strings too.

    >>> mask_dsn("postgresql://me:p@ss/w#rd@db/app?sslmode=require")
    'postgresql://me:***@db/app?sslmode=require'
    >>> mask_dsn("host=db password='it''s' user=me")
    'host=db password=*** user=me'
    """
    return _SECRET.sub(r"\1\2***", _URI_SECRET.sub(r"\1:***@", dsn))


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a connection goes, resolved from string, service file and environment."""

    uri: str
    """For asyncpg; contains the password where the string or the service file gave one."""
    connect_timeout_s: float
    where: str
    """For messages: ``database "app" on db:5432``, without user or password."""
    user: str | None
    has_password: bool
    """String, service file or PGPASSWORD gives one; otherwise ~/.pgpass may."""
    hosts: tuple[str, ...]
    """Names, addresses or socket folders; empty: the default socket of this machine."""


def resolve(dsn: str, environ: Mapping[str, str] | None = None) -> Address:
    """Brings a connection string into the form that asyncpg takes.

    Args:
        dsn: a URI, ``keyword=value`` pairs, or nothing (then the environment alone decides, as with psql).
        environ: os.environ by default.

    Raises:
        DsnError: the string can't be understood, or names a service that does not exist.
        ConnectError: the service file can't be read.
    """
    env = os.environ if environ is None else environ
    given = _parse_uri(dsn) if _URI.match(dsn) else _parse_keywords(dsn)
    params = {}
    for key, value in given.items():
        name = _ALIASES.get(key, key)
        if name not in _KNOWN:
            raise DsnError(f"the connection string has an unknown parameter {key!r}", hint=did_you_mean(key, _KNOWN))
        params[name] = {"true": "require", "false": "disable"}.get(value, value) if key == "ssl" else value
    if service := params.get("service") or env.get("PGSERVICE"):
        params = {**_service(service, env), **params}
    if address := params.get("hostaddr") or ("host" not in params and env.get("PGHOSTADDR")):
        params["host"] = address
    if "options" not in params and env.get("PGOPTIONS"):
        params["options"] = env["PGOPTIONS"]
    _check_ports(params.get("port") or env.get("PGPORT") or "")
    timeout = params.get("connect_timeout") or env.get("PGCONNECT_TIMEOUT") or "10"
    try:
        timeout_s = float(timeout)
    except ValueError:
        raise DsnError(f"connect_timeout {timeout!r} is not a number of seconds") from None
    passed = {k: v for k, v in params.items() if k in _PASSED_ON and v != ""}
    if "host" in passed:
        passed["host"] = ",".join(_bracketed(h) for h in passed["host"].split(","))
    user = passed.get("user") or env.get("PGUSER")
    return Address(
        uri="postgresql://" + ("?" + urlencode(passed, quote_via=quote) if passed else ""),
        connect_timeout_s=timeout_s if timeout_s > 0 else 3600,
        where=_where(passed, env, user),
        user=user,
        has_password=bool(passed.get("password") or env.get("PGPASSWORD")),
        hosts=tuple(h for h in (passed.get("host") or env.get("PGHOST") or "").split(",") if h),
    )


def _bracketed(host: str) -> str:
    # asyncpg splits host:port in a query, too, so that a plain IPv6 address would lose its last part.
    return f"[{host}]" if ":" in host and not host.startswith(("[", "/")) else host


def _where(params: Mapping[str, str], env: Mapping[str, str], user: str | None) -> str:
    hosts = (params.get("host") or env.get("PGHOST") or "the local socket").split(",")
    ports = (params.get("port") or env.get("PGPORT") or "5432").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    places = [h if h.startswith(("/", "the ")) else f"{h}:{p}" for h, p in zip(hosts, ports, strict=False)]
    database = params.get("dbname") or env.get("PGDATABASE") or user
    return (f'database "{database}" on ' if database else "") + ", ".join(places)


def _check_ports(ports: str) -> None:
    for port in filter(None, ports.split(",")):
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise DsnError(f"the connection string's port {_short(port)} is not a number from 1 to 65535", hint=_HINT)


def _short(text: str) -> str:
    # What stands in the port's place may be the second half of a password with an unescaped special character.
    return repr(text) if text.isascii() and text.isdigit() else "(not shown: it may be part of a password)"


def _parse_uri(dsn: str) -> dict[str, str]:
    scheme, _, rest = dsn.strip().partition("://")
    # SQLAlchemy writes the driver into the scheme.
    if scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        raise DsnError(f"{mask_dsn(dsn)!r} is not a PostgreSQL connection string", hint=_HINT)
    authority_and_path, question, query = rest.partition("?")
    # The last @, because passwords with an unescaped @ are common and host names with one do not exist.
    auth, at, place = authority_and_path.rpartition("@")
    hosts, _, database = place.partition("/")
    params: dict[str, str] = {}
    if at:
        user, _, password = auth.partition(":")
        params |= {"user": unquote(user), "password": unquote(password)}
    if hosts:
        names, ports = [], []
        for spec in hosts.split(","):
            m = re.fullmatch(r"(\[[^\]]*\]|[^:\[\]]*)(?::(.*))?", spec)
            if m is None:
                raise DsnError(f"{mask_dsn(dsn)!r} names no usable host", hint=_HINT)
            names.append(unquote(m[1]))
            ports.append(unquote(m[2] or ""))
        params["host"] = ",".join(names)
        if any(ports):
            params["port"] = ",".join(p or "5432" for p in ports)
    if database:
        if "#" in database:
            raise DsnError(f"{mask_dsn(dsn)!r} has a # in it", hint=_HINT)
        params["dbname"] = unquote(database)
    if question and query:
        try:
            pairs = parse_qsl(query, strict_parsing=True, keep_blank_values=True)
        except ValueError:
            raise DsnError(f"{mask_dsn(dsn)!r} has a parameter without a value", hint=_HINT) from None
        params |= dict(pairs)
    return {k: v for k, v in params.items() if v}


def _parse_keywords(dsn: str) -> dict[str, str]:
    params, at = {}, 0
    text = dsn.strip()
    while at < len(text):
        m = _KEYWORD.match(text, at)
        if m is None:
            raise DsnError(f"{mask_dsn(text)!r} is not a connection string", hint=_HINT)
        value = m[2][1:-1] if m[2].startswith("'") else m[2]
        params[m[1]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        at = m.end()
    return params


def _service(name: str, env: Mapping[str, str]) -> dict[str, str]:
    if named := env.get("PGSERVICEFILE"):
        files = [Path(named)]
    else:
        files = [Path(env.get("HOME") or Path.home()) / ".pg_service.conf"]
    if system := env.get("PGSYSCONFDIR"):
        files.append(Path(system) / "pg_service.conf")
    for file in files:
        # Interpolation would choke on a % in a password.
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, OSError, UnicodeDecodeError) as e:
            # The parser's message quotes the line, which may hold a password.
            raise ConnectError(f"the service file {file} can't be read ({type(e).__name__})") from None
        if parser.has_section(name):
            return dict(parser[name])
    known = ", ".join(map(str, files))
    raise DsnError(f"there is no service {name!r} in {known}", hint="services are [sections] of that file")
