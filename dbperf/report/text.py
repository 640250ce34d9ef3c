"""Foreign text made safe to look at, whatever the output."""

from __future__ import annotations

import unicodedata

_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def visible(text: str) -> str:
    """Text with control characters, direction overrides and unpaired surrogates shown; newlines and tabs stay.

    A terminal escape or a reversed run of text misleads the reader without being markup.

    >>> visible("a\\x1b[31m\\u202eb")
    'a␛[31m‹U+202E›b'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in "\n\t" or unicodedata.category(c) not in _UNSEEN else _shown(c) for c in text)


def _shown(c: str) -> str:
    return chr(0x2400 + ord(c)) if ord(c) < 0x20 else f"‹U+{ord(c):04X}›"
