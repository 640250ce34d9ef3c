"""What may be put under load: nothing marked as production, nothing unknown, at most 100 users unasked."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from dbperf.config import Safety
from dbperf.errors import UsageError

MAX_USERS = 100


def check_users(users: int, *, staging: bool) -> None:
    """Refuses more than 100 users without `--staging`.

    Raises:
        UsageError: see above.
    """
    if users > MAX_USERS and not staging:
        raise UsageError(f"{users} users are more than {MAX_USERS}", hint="add --staging if the target may bear it")


def check_target(place: str, host: str | None, safety: Safety, *, not_production: bool) -> None:
    """Refuses a target that is marked as production, or is neither local nor known.

    Args:
        place: the URL or DSN with its password masked.
        host: its host; None or a path for a Unix socket.

    Raises:
        UsageError: see above, unless `not_production` is given.
    """
    if not_production:
        return
    if marked_production(place, host, safety):
        raise UsageError(
            f"{place} is marked as production in the configuration",
            hint="if that is wrong, correct safety.production or add --i-know-this-is-not-production",
        )
    if is_local(host) or any(_names(mark, place, host) for mark in safety.known):
        return
    raise UsageError(
        f"{place} is not on this machine, and nothing says that it may be loaded",
        hint=f"add {host!r} to safety.known in dbperf.toml, or --i-know-this-is-not-production",
    )


def marked_production(place: str, host: str | None, safety: Safety) -> bool:
    """Whether the configuration calls a target production: by its host, URL, or DSN with the password masked."""
    return any(_names(mark, place, host) for mark in safety.production)


def is_local(host: str | None) -> bool:
    """Whether a host is this machine: a Unix socket, localhost or a loopback address.

    >>> [is_local(h) for h in (None, "/tmp", "localhost", "127.0.0.9", "::1", "db.internal")]
    [True, True, True, True, True, False]
    """
    if host is None or host.startswith(("/", "@")) or host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def url_host(url: str) -> str:
    """The host of an HTTP URL.

    Raises:
        UsageError: it is no http or https URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{url!r} is no HTTP URL", hint="write it as http://127.0.0.1:8000")
    return parts.hostname


def _names(mark: str, place: str, host: str | None) -> bool:
    return mark in (place, host) or (host is not None and mark.lower() == host.lower())
