"""The one place that reads and prints quantities. Times are milliseconds unless a name says otherwise."""

from __future__ import annotations

import re

from dbperf.errors import UsageError

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(us|ms|s|m|h|d))", re.ASCII)
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?i?b?)", re.ASCII | re.IGNORECASE)
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_TOLERANCE = re.compile(
    r"[+\-\u2212]?\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|points?)"
    r"|(?:max|min)\s+(?P<limit>\d+(?:\.\d+)?)\s*(?P<limit_unit>us|ms|s|m|h|%)?",
    re.ASCII,
)
MISSING = "–"


def parse_duration_s(text: str | float) -> float:
    """Seconds from ``"20s"``, ``"5m"``, ``"1m30s"``, ``"500ms"`` or a plain number of seconds.

    Raises:
        UsageError: the text is no duration, or is negative.

    >>> parse_duration_s("1m30s"), parse_duration_s("250ms"), parse_duration_s("20")
    (90.0, 0.25, 20.0)
    """
    if isinstance(text, int | float):
        seconds = float(text)
    else:
        given = text.strip()
        parts = _DURATION.findall(given)
        if parts and "".join(n + u for n, u in parts) == given:
            seconds = sum(float(n) * _SECONDS[u] for n, u in parts)
        else:
            try:
                seconds = float(given)
            except ValueError:
                raise UsageError(f"{text!r} is not a duration", hint='write it as "30s", "5m" or "500ms"') from None
    if not 0 <= seconds < float("inf"):
        raise UsageError(f"{text!r} is not a duration", hint="a duration is finite and not negative")
    return seconds


def parse_size_bytes(text: str | int) -> int:
    """Bytes from ``"500MB"``, ``"1.5 GiB"`` or a plain number; units are powers of 1024, as in PostgreSQL.

    Raises:
        UsageError: the text is no size.

    >>> parse_size_bytes("500MB"), parse_size_bytes("8kB")
    (524288000, 8192)
    """
    if isinstance(text, int):
        return text
    if (m := _SIZE.fullmatch(text.strip())) is None:
        raise UsageError(f"{text!r} is not a size", hint='write it as "500MB" or "1GB"')
    return int(float(m[1]) * _BYTES[m[2].lower().rstrip("b").rstrip("i")])


def parse_tolerance(text: str | float) -> dict[str, float]:
    """How much worse a metric may get: `relative`, `absolute` (a share) and `limit`, those that the text sets.

    ``"+50%"`` and ``"-30%"`` (relative), ``"+0.5 points"`` (of a share), ``"max 0"``, ``"max 500ms"``, ``"min 100"``
    (hard limits, times in ms), joined by commas; a plain number is a hard limit.

    Raises:
        UsageError: the text is no tolerance.

    >>> parse_tolerance("+50%, max 2s"), parse_tolerance("+0.5 points"), parse_tolerance(0)
    ({'relative': 0.5, 'limit': 2000.0}, {'absolute': 0.005}, {'limit': 0.0})
    """
    if isinstance(text, int | float):
        return {"limit": float(text)}
    found: dict[str, float] = {}
    for part in text.split(","):
        m = _TOLERANCE.fullmatch(part.strip())
        if m is None:
            hint = 'write it as "+50%", "+0.5 points", "max 0" or "+10%, max 500ms"'
            raise UsageError(f"{text!r} is not a tolerance", hint=hint)
        if m["limit"] is not None:
            unit = m["limit_unit"]
            factor = 0.01 if unit == "%" else _SECONDS[unit] * 1e3 if unit else 1.0
            key, value = "limit", float(m["limit"]) * factor
        else:
            key, value = ("relative" if m["unit"] == "%" else "absolute"), float(m["number"]) / 100
        if key in found:
            raise UsageError(f"{text!r} sets the {key} tolerance twice")
        found[key] = value
    if found.get("relative", 0.5) <= 0 or found.get("absolute", 0.5) <= 0:
        raise UsageError(f"{text!r} tolerates nothing", hint='noise alone would break it; a hard limit is "max 0"')
    return found


def format_ms(ms: float | None) -> str:
    """A time with three significant digits and the unit a person would pick.

    >>> [format_ms(x) for x in (0.00123, 0.5, 12.345, 1234.5, 75_000, None)]
    ['1.23 µs', '500 µs', '12.3 ms', '1.23 s', '75 s', '–']
    """
    if ms is None:
        return MISSING
    if ms == 0:
        return "0 ms"
    size = abs(ms)
    for limit, factor, unit in ((0.9995, 1e3, "µs"), (999.5, 1.0, "ms")):
        if size < limit:
            return f"{_three_digits(ms * factor)} {unit}"
    return f"{_three_digits(ms / 1e3)} s"


def _three_digits(x: float) -> str:
    digits = f"{x:.3g}"
    if "e" in digits:
        digits = f"{x:.0f}"
    return digits


def format_seconds(seconds: float) -> str:
    """A stretch of time for progress lines.

    >>> [format_seconds(x) for x in (0.42, 9.6, 75, 3700)]
    ['0.4 s', '9.6 s', '1 min 15 s', '1 h 01 min']
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_bytes(size: float | None) -> str:
    """A size in powers of 1024 with PostgreSQL's unit names.

    >>> [format_bytes(x) for x in (512, 8192, 1_610_612_736, None)]
    ['512 B', '8 kB', '1.5 GB', '–']
    """
    if size is None:
        return MISSING
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if abs(value) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{_three_digits(value)} {unit}"


def format_count(n: float | None) -> str:
    """A count with thousands separated; fractions below 100 keep up to two digits.

    >>> [format_count(x) for x in (1234567, 0.125, 100.4, 3.0, None)]
    ['1,234,567', '0.12', '100', '3', '–']
    """
    if n is None:
        return MISSING
    if abs(n) >= 100 or n == int(n):
        return f"{n:,.0f}"
    return f"{n:.2f}".rstrip("0").rstrip(".")


def format_share(share: float | None) -> str:
    """A share (0..1) in percent.

    >>> [format_share(x) for x in (0.5, 0.0123, 0.00001, 0, 1.0, None)]
    ['50 %', '1.2 %', '<0.1 %', '0 %', '100 %', '–']
    """
    if share is None:
        return MISSING
    percent = share * 100
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= 10 or percent == 0 else f"{percent:.1f} %"


def format_ratio(ratio: float | None) -> str:
    """A ratio of two times with two decimals, small ones with two digits.

    >>> [format_ratio(x) for x in (1.234, 0.5, 0.00481, None)]
    ['1.23', '0.50', '0.0048', '–']
    """
    if ratio is None:
        return MISSING
    return f"{ratio:.2f}" if ratio >= 0.1 or ratio == 0 else f"{ratio:.2g}"
