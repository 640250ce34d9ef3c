"""Programs whose profile is known: functions that use CPU for known seconds. `python known_profiles.py KIND`."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from typing import Any

HEAVY_S, LIGHT_S = 0.9, 0.3


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))


def heavy(seconds: float) -> None:
    spin(seconds)


def light(seconds: float) -> None:
    spin(seconds)


def in_threads() -> None:
    threads = [threading.Thread(target=heavy, args=(HEAVY_S,)), threading.Thread(target=light, args=(LIGHT_S,))]
    waiting = threading.Thread(target=time.sleep, args=(0.5,))
    for t in [*threads, waiting]:
        t.start()
    for t in [*threads, waiting]:
        t.join()


async def in_tasks() -> None:
    async def work(what: Any, seconds: float) -> None:
        for _ in range(10):
            what(seconds / 10)
            await asyncio.sleep(0.02)

    async with asyncio.TaskGroup() as group:
        group.create_task(work(heavy, HEAVY_S))
        group.create_task(work(light, LIGHT_S))
        group.create_task(asyncio.sleep(0.5))


def in_greenlets() -> None:
    import gevent

    def work(what: Any, seconds: float) -> None:
        for _ in range(10):
            what(seconds / 10)
            gevent.sleep(0.02)

    gevent.joinall([gevent.spawn(work, heavy, HEAVY_S), gevent.spawn(work, light, LIGHT_S)])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application whose one endpoint spins and waits."""
    if scope["type"] != "http":
        return
    heavy(0.03)
    await asyncio.sleep(0.05)
    light(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


def forever() -> None:
    """Argument 2 and 3: seconds of each turn."""
    heavy_s, light_s = map(float, sys.argv[2:4] or (0.03, 0.003))
    print("ready", flush=True)
    while True:
        heavy(heavy_s)
        light(light_s)


def deep() -> None:
    """Threads that wait 500 calls deep: a sample of them takes some tenths of a second, and the process stands still
    meanwhile. One more answers on a port, which is printed: its health check."""
    sys.setrecursionlimit(10_000)
    held = threading.Event()

    def down(left: int) -> None:
        if left:
            down(left - 1)
        else:
            held.wait()

    for _ in range(int(sys.argv[2])):
        threading.Thread(target=down, args=(500,), daemon=True).start()
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            client, _ = server.accept()
            with client:
                while asked := client.recv(1):
                    client.sendall(asked)


def main() -> None:
    kind = sys.argv[1]
    if kind == "asyncio":
        asyncio.run(in_tasks())
    else:
        {"threads": in_threads, "gevent": in_greenlets, "forever": forever, "deep": deep}[kind]()


if __name__ == "__main__":
    main()
