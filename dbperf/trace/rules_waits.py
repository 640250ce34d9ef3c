"""Rules on time that is no statement's: transactions left open, pools, flushes, a blocked event loop, the collector."""

from __future__ import annotations

from statistics import fmean, median

from dbperf.records.trace import Spread, TraceFinding
from dbperf.trace.rule_base import MIN_REPEATS, MIN_SAVED_MS, Context, event_ms, severity_of, spread_of
from dbperf.units import format_ms

IDLE_MS, IDLE_SHARE = 50.0, 0.3
LONG_TRANSACTION_MS = 1000.0
POOL_WAIT_MS, POOL_WAIT_SHARE = 5.0, 0.1
MIN_WAIT_MS, MIN_WAITING = 1.0, 3
PING_SHARE = 0.02
MIN_CHECKOUTS = 10
"""A request that runs a few statements at once takes a few connections on purpose."""
GC_SHARE, GC_MS = 0.05, 10.0
BLOCK_MS = 100.0


def idle_in_transaction(c: Context) -> list[TraceFinding]:
    """A transaction that stays open while Python computes: it holds its locks, its snapshot and its connection."""
    held = [t for m in c.requests for t in m.transactions if t.idle_ns > IDLE_MS * 1e6]
    held = [t for t in held if t.idle_ns > IDLE_SHARE * t.duration_ns]
    if len(held) * 2 < len(c.requests) or not held:
        return []
    worst = max(held, key=lambda t: t.idle_ns)
    idle = median(t.idle_ns for t in held) / 1e6
    return [
        TraceFinding(
            rule_id="idle_in_transaction",
            severity="warning",
            title=f"Idle in transaction for {format_ms(idle)} while Python computes",
            route=c.endpoint.route,
            source=c.places[worst.idle_source],
            per_request=Spread(median=float(len(held)) / len(c.requests), max=float(len(held))),
            evidence={
                "idle_median_ms": idle,
                "idle_max_ms": worst.idle_ns / 1e6,
                "transaction_median_ms": median(t.duration_ns for t in held) / 1e6,
            },
            advice="Read, end the transaction, compute, and write in a short transaction; or let the database compute. "
            "The line is the statement that came after the longest pause.",
        )
    ]


def long_transaction(c: Context) -> list[TraceFinding]:
    """Transactions of a second and more."""
    times = [t.duration_ns / 1e6 for m in c.requests for t in m.transactions]
    if not times or median(times) < LONG_TRANSACTION_MS:
        return []
    return [
        TraceFinding(
            rule_id="long_transaction",
            severity="warning",
            title=f"Transactions of {format_ms(median(times))}",
            route=c.endpoint.route,
            evidence={"transaction_median_ms": median(times), "transaction_max_ms": max(times)},
            advice="A long transaction keeps VACUUM from removing dead rows and holds its row locks: shorten its "
            "statements, or commit per batch.",
        )
    ]


def pool_wait(c: Context) -> list[TraceFinding]:
    """Requests that wait for a connection. Saved: the wait.

    The first requests of a process open connections: a wait that only a few requests had is no finding.
    """
    waits = [m.pool_ns / 1e6 for m in c.requests]
    mean = fmean(waits)
    waiting = sum(w >= MIN_WAIT_MS for w in waits)
    if len(waits) < MIN_WAITING or waiting < max(MIN_WAITING, len(waits) / 5):
        return []
    if mean < POOL_WAIT_MS or mean < POOL_WAIT_SHARE * c.request_ms:
        return []
    return [
        TraceFinding(
            rule_id="pool_wait",
            severity=severity_of(mean, c.request_ms),
            title=f"{format_ms(mean)} of a request is spent waiting for a connection",
            route=c.endpoint.route,
            per_request=Spread(median=median(waits), max=max(waits)),
            saved_ms=mean,
            evidence={"wait_mean_ms": mean, "wait_max_ms": max(waits), "checkouts": c.endpoint.checkouts},
            advice="Give connections back earlier (end the transaction before slow Python), take one per request, or "
            "enlarge the pool while the server has CPU to spare.",
        )
    ]


def checkout_chatter(c: Context) -> list[TraceFinding]:
    """Round trips that are no statement of the application: pre-pings, and one checkout per item of a loop."""
    found = []
    n = len(c.requests)
    ping_ms = c.endpoint.ping_ms / n
    if ping_ms >= MIN_SAVED_MS and ping_ms >= PING_SHARE * c.request_ms:
        found.append(
            TraceFinding(
                rule_id="pool_pre_ping",
                severity=severity_of(ping_ms, c.request_ms),
                title=f"Pool pre-ping costs {format_ms(ping_ms)} per request",
                route=c.endpoint.route,
                per_request=spread_of([len(m.pings) for m in c.requests]),
                saved_ms=ping_ms,
                evidence={"pings": c.endpoint.pings, "ping_ms": c.endpoint.ping_ms},
                advice="Use pool_recycle below the server's or proxy's idle timeout instead of pool_pre_ping.",
            )
        )
    checkouts = [len(m.checkouts) for m in c.requests]
    if median(checkouts) >= MIN_CHECKOUTS:
        found.append(
            TraceFinding(
                rule_id="checkout_per_row",
                severity="info",
                title=f"{median(checkouts):g} pool checkouts per request",
                route=c.endpoint.route,
                per_request=spread_of(checkouts),
                evidence={"checkouts": sum(checkouts)},
                advice="Take one connection (one session) for the request and use it for all its statements.",
            )
        )
    return found


def autoflush_storm(c: Context) -> list[TraceFinding]:
    """A session that writes pending changes before every query of a loop. Saved: the flushes less one."""
    many = [m.autoflushes for m in c.requests if len(m.autoflushes) >= MIN_REPEATS]
    if len(many) * 2 < len(c.requests) or not many:
        return []
    saved = fmean(sum(event_ms(e) for e in flushes) * (1 - 1 / len(flushes)) for flushes in many)
    return [
        TraceFinding(
            rule_id="autoflush_storm",
            severity=severity_of(saved, c.request_ms),
            title=f"{median(len(x) for x in many):g} autoflushes per request",
            route=c.endpoint.route,
            source=c.places[many[0][0].source_id],
            per_request=spread_of([len(x) for x in many]),
            saved_ms=saved,
            evidence={"autoflush_ms_per_request": fmean(sum(event_ms(e) for e in x) for x in many)},
            advice="Query first and change afterwards, or loop inside `with session.no_autoflush`.",
        )
    ]


def blocked_loop(c: Context) -> list[TraceFinding]:
    """A synchronous call that keeps the event loop from serving other requests."""
    found = []
    for b in c.blocks:
        if b.route != c.endpoint.route or b.max_ms < BLOCK_MS:
            continue
        others = sum(b.delayed.values())
        found.append(
            TraceFinding(
                rule_id="blocked_loop",
                severity="critical" if others else "warning",
                title=f"{b.function or b.source} blocks the event loop for up to {format_ms(b.max_ms)}",
                route=c.endpoint.route,
                source=b.source,
                evidence={
                    "blocks": b.count,
                    "total_ms": b.total_ms,
                    "max_ms": b.max_ms,
                    "delayed_requests": others,
                    "delayed_endpoints": ", ".join(f"{r} ({k})" for r, k in b.delayed.items()) or None,
                },
                advice="No request of this process is served meanwhile. Let the database do it, or run it in a thread "
                "(asyncio.to_thread) or a process.",
            )
        )
    return found


def garbage_collection(c: Context) -> list[TraceFinding]:
    """Python's garbage collector as a cause of its own of slow requests: its time in the process while they ran.

    It stops all that run, whoever made the objects: `findings.once_per_process` leaves one finding of it.
    """
    pauses = [m.request.gc_ns / 1e6 for m in c.requests]
    if max(pauses) < GC_MS or c.endpoint.gc_ms < GC_SHARE * c.endpoint.total_ms:
        return []
    return [
        TraceFinding(
            rule_id="garbage_collection",
            severity="warning",
            title=f"The garbage collector stops a request for up to {format_ms(max(pauses))}",
            route=c.endpoint.route,
            per_request=spread_of(pauses),
            saved_ms=fmean(pauses),
            evidence={"gc_ms": c.endpoint.gc_ms, "gc_max_ms": max(pauses)},
            advice="Make fewer objects (rows as tuples, no ORM objects for bulk reads); after start-up gc.freeze(), "
            "and a higher gc.set_threshold.",
        )
    ]
