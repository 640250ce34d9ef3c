"""Whether anything answers at a URL, before a load is started there."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from dbperf.errors import TargetError, UsageError


def checked_url(url: str) -> str:
    """The base URL without a trailing slash.

    Raises:
        UsageError: it is no http or https URL with a host.
    """
    try:
        parts = urlsplit(url)
        port_fits = parts.port is None or parts.port > 0
    except ValueError as e:
        raise UsageError(f"{url!r} is not a URL: {e}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_fits:
        raise UsageError(f"{url!r} is not a URL of an API", hint="for example http://127.0.0.1:8000")
    return url.rstrip("/")


def probe(
    url: str,
    path: str = "/",
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
    verify_tls: bool = True,
) -> int:
    """Asks once and returns the status; any status will do. Blocks up to `timeout_s`, twice.

    Raises:
        TargetError: unknown host, refused connection, TLS failure, no answer in time, or no HTTP.
        UsageError: no URL.
    """
    parts = urlsplit(checked_url(url))
    host = parts.hostname or ""
    place = f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}"
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # A user who passes --insecure wants exactly this.
        context = ssl.create_default_context() if verify_tls else ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(host, parts.port, timeout=timeout_s, context=context)
    else:
        connection = http.client.HTTPConnection(host, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=dict(headers or {}))
        return connection.getresponse().status
    except socket.gaierror as e:
        raise TargetError(f"the host {host!r} of {url} is unknown ({e.strerror})", hint="check the URL") from e
    except ssl.SSLCertVerificationError as e:
        raise TargetError(
            f"the certificate of {place} is not trusted: {e.verify_message}",
            hint="SSL_CERT_FILE names a CA of your own; --insecure accepts any certificate",
        ) from e
    except ssl.SSLError as e:
        raise TargetError(f"no TLS connection to {place}: {e.reason or e}", hint="is it http:// there?") from e
    except ConnectionRefusedError as e:
        raise TargetError(f"{place} refuses connections", hint="is the API running, and on that port?") from e
    except TimeoutError as e:
        raise TargetError(
            f"{url} did not answer within {timeout_s:g} s", hint="is the API hanging, or behind a firewall?"
        ) from e
    except (http.client.HTTPException, ConnectionError) as e:
        what = "closed the connection" if isinstance(e, ConnectionError | http.client.RemoteDisconnected) else "no HTTP"
        raise TargetError(f"{place} answered with {what} ({type(e).__name__})", hint="is it https:// there?") from e
    except OSError as e:
        raise TargetError(f"{place} can't be reached: {e.strerror or e}") from e
    finally:
        connection.close()
