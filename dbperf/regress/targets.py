"""What a target is called, so that two figures of the same target can be told to be of the same target."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def target_name(url: str, *, reference: bool = False) -> str:
    """ "reference target", "this machine", or host and port. Ports on this machine change from run to run.

    >>> target_name("http://127.0.0.1:41234"), target_name("https://api.example.org/v1")
    ('this machine', 'api.example.org')
    """
    if reference:
        return "reference target"
    parts = urlsplit(url)
    host = parts.hostname or url
    if host == "localhost" or _is_loopback(host):
        return "this machine"
    return f"{host}:{parts.port}" if parts.port else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
