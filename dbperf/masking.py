"""Hides passwords, keys and tokens in command lines before they are kept or shown. Imports nothing of dbperf."""

from __future__ import annotations

import re

_QUOTED = r"""(?:'[^']*'|"[^"]*"|[^\s'";&|)]*)"""
_NAME = r"[\w-]*(?:password|passwd|secret|token|api[_-]?key|apikey)"
_URI = re.compile(r"(://[^:/@\s'\"]*):[^\s'\"]*@")
_OPTION = re.compile(rf"(?i)((?:^|(?<=\s))--?{_NAME}\s+)(?!-){_QUOTED}")
_ASSIGNMENT = re.compile(rf"(?i)(\b{_NAME}\s*=\s*){_QUOTED}")
_HEADER = re.compile(r"(?i)(\b(?:(?:proxy-)?authorization|(?:set-)?cookie|[\w-]*(?:token|key|secret))\s*:\s)[^'\"\n]*")


def mask_secrets(text: str) -> str:
    """A shell command, or one argument, with what looks like a secret replaced by ``***``. Rather too much than too
    little: the result is for reading, not for running.

    >>> mask_secrets("PGPASSWORD=hush psql postgresql://me:hush@db/app -c 'SELECT 1'")
    "PGPASSWORD=*** psql postgresql://me:***@db/app -c 'SELECT 1'"
    >>> mask_secrets("curl -H 'X-API-Key: hush' -H 'Authorization: Bearer hush' http://127.0.0.1/ --api-key hush -v")
    "curl -H 'X-API-Key: ***' -H 'Authorization: ***' http://127.0.0.1/ --api-key *** -v"
    """
    text = _HEADER.sub(r"\1***", _URI.sub(r"\1:***@", text))
    return _ASSIGNMENT.sub(r"\1***", _OPTION.sub(r"\1***", text))
