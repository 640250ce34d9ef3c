"""Which conditions of two figures differ, so that unlike is never compared with unlike."""

from __future__ import annotations

from dbperf.records.comparison import Conditions
from dbperf.units import format_seconds

DURATION_FACTOR = 1.2
"""Durations within 20 % of each other count as the same: a load ends when its last request does."""
_MIX_SLACK = 0.02
FIELDS = (
    "users", "arrival_rate", "duration", "target", "scale", "workers", "suite", "mix", "database", "machine"
)  # fmt: skip


def differences(a: Conditions, b: Conditions) -> dict[str, str]:
    """Each condition that both sides tell and that differs, with the difference in words: "1 user against 100"."""
    found: dict[str, str] = {}
    if a.provenance != b.provenance:
        found["provenance"] = f"{a.provenance} data against {b.provenance}"
    if (a.users is None) != (b.users is None) and (a.arrival_rate_per_s is None) != (b.arrival_rate_per_s is None):
        found["users"] = f"{_load(a)} against {_load(b)}"
    if a.users is not None and b.users is not None and a.users != b.users:
        found["users"] = f"{a.users} user{'' if a.users == 1 else 's'} against {b.users}"
    rate_a, rate_b = a.arrival_rate_per_s, b.arrival_rate_per_s
    if rate_a is not None and rate_b is not None and rate_a != rate_b:
        found["arrival_rate"] = f"{rate_a:g} arrivals/s against {rate_b:g}"
    if a.duration_s and b.duration_s and _factor(a.duration_s, b.duration_s) > DURATION_FACTOR:
        found["duration"] = f"{format_seconds(a.duration_s)} against {format_seconds(b.duration_s)}"
    for name in ("target", "scale", "workers", "suite", "database"):
        one, other = getattr(a, name), getattr(b, name)
        if one is not None and other is not None and one != other:
            found[name] = f"{name} {one} against {other}"
    if a.mix is not None and b.mix is not None and _mix_differs(a.mix, b.mix):
        found["mix"] = "another mix of requests"
    machine = [
        f"{one} against {other}"
        for name in ("system", "cpu_model", "cpu_count")
        if (one := getattr(a.machine, name)) is not None
        and (other := getattr(b.machine, name)) is not None
        and one != other
    ]
    if machine:
        found["machine"] = f"another machine: {', '.join(machine)}"
    return found


def unknown(a: Conditions, b: Conditions) -> list[str]:
    """Conditions that only one side tells, so that nobody can check whether they agree."""
    missing = []
    for label, fields in (
        ("users", ("users", "arrival_rate_per_s")),
        ("duration", ("duration_s",)),
        ("target", ("target",)),
    ):
        told = [any(getattr(side, f) is not None for f in fields) for side in (a, b)]
        if told[0] != told[1]:
            missing.append(label)
    if (a.machine.cpu_model is None) != (b.machine.cpu_model is None):
        missing.append("machine")
    return missing


def _load(c: Conditions) -> str:
    return f"{c.users} users" if c.users is not None else f"{c.arrival_rate_per_s:g} arrivals/s"


def _factor(x: float, y: float) -> float:
    return max(x, y) / min(x, y)


def _mix_differs(a: dict[str, float], b: dict[str, float]) -> bool:
    return any(abs(a.get(k, 0.0) - b.get(k, 0.0)) > _MIX_SLACK for k in {*a, *b})
