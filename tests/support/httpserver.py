"""A real HTTP server with known faults, in a process of its own: ``with FaultyServer() as s: s.url``.

Paths: /ok (200 at once), /delay?ms=50, /status/500, /reset (connection reset in the middle of the response),
/hang (never answers), /big?mb=100, /flaky?share=0.1 (that share is answered 503), /echo (POST: answers the body),
/openapi.json, /known (answers after times with a known distribution, see `known_quantile_ms`), /stall?s=2 (holds /known
back for so long), /given (when each request to /known came, and how long it really took: a timer is never
early). Responses have bodies of known size.
"""

from __future__ import annotations

import signal
import sys
from types import TracebackType

from dbperf.processes import PIPE, Child


def known_quantile_ms(q: float, *, window_s: float, stall_s: float) -> float:
    """The quantile of /known's times from the intended start, for arrivals at a constant rate and one stall.

    A share p = stall/window arrives during the stall and waits for the rest of it, uniform from 0 to stall_s, and then
    as long as everybody: 50 to 150 ms, uniform, or in 1 of 100 cases 1 s. (With the same time for all, a percentile
    would be that time, or the jitter of timers.)
    """
    p = stall_s / window_s

    def share_longer(ms: float) -> float:
        def beyond(own_ms: float) -> float:
            rest_s = (ms - own_ms) / 1e3
            stalled = 1.0 if rest_s < 0 else max(0.0, 1 - rest_s / stall_s)
            return p * stalled + (1 - p) * (1.0 if rest_s < 0 else 0.0)

        usual = sum(beyond(50.5 + own_ms) for own_ms in range(100)) / 100
        return 0.99 * usual + 0.01 * beyond(1000)

    low, high = 0.0, (stall_s + 1) * 1e3
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if share_longer(middle) > 1 - q else (low, middle)
    return high


class FaultyServer:
    def __init__(self, *args: str) -> None:
        self.process = Child.start(
            [sys.executable, "-m", "tests.support.httpserver", *args], stdout=PIPE, stop_signals=(signal.SIGKILL,)
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> FaultyServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.process.stop()


def main() -> None:
    import argparse
    import asyncio
    import json
    import random
    import socket
    import struct
    import time
    from urllib.parse import parse_qs, urlsplit

    counts: dict[str, int] = {}
    stall = {"until": 0.0}
    given: list[tuple[float, float]] = []
    rng = random.Random(7)
    openapi = {
        "openapi": "3.1.0",
        "info": {"title": "faulty", "version": "1"},
        "paths": {
            "/ok": {"get": {"responses": {}}},
            "/items/{id}": {"get": {"parameters": [{"name": "id", "in": "path", "required": True}]}},
            "/delay": {"get": {"parameters": [{"name": "ms", "in": "query", "required": False}]}},
            "/echo": {"post": {"responses": {}}},
        },
    }

    async def answer(writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        )
        writer.write(body)
        await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first = await reader.readexactly(1)
                if not first.isalpha():  # a TLS hello: this server speaks plain HTTP
                    await answer(writer, 400, b"")
                    return
                head = first + await reader.readuntil(b"\r\n\r\n")
                request_line, *header_lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in header_lines) if k}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                method, target, _ = request_line.split(" ")
                parts = urlsplit(target)
                query = {k: v[0] for k, v in parse_qs(parts.query).items()}
                counts[f"{method} {parts.path}"] = counts.get(f"{method} {parts.path}", 0) + 1
                match parts.path.split("/")[1:]:
                    case ["delay"]:
                        await asyncio.sleep(float(query.get("ms", "50")) / 1e3)
                        await answer(writer, 200, b"{}")
                    case ["known"]:
                        # 50 to 150 ms, evenly spread (by the golden ratio); every 100th request 1 s; while stalled,
                        # nothing before the stall's end.
                        counts["known"] = counts.get("known", 0) + 1
                        loop = asyncio.get_running_loop()
                        wait_s = 1.0 if counts["known"] % 100 == 0 else 0.05 + 0.1 * (counts["known"] * 0.618034 % 1)
                        came_at, came = time.time(), loop.time()
                        await asyncio.sleep(max(0.0, stall["until"] - came) + wait_s)
                        await answer(writer, 200, b"{}")
                        given.append((came_at, (loop.time() - came) * 1e3))
                    case ["given"]:
                        await answer(writer, 200, json.dumps(given).encode())
                    case ["stall"]:
                        stall["until"] = asyncio.get_running_loop().time() + float(query["s"])
                        await answer(writer, 200, b"{}")
                    case ["status", code]:
                        await answer(writer, int(code), b'{"detail": "asked for"}')
                    case ["flaky"]:
                        await answer(writer, 503 if rng.random() < float(query["share"]) else 200, b"{}")
                    case ["reset"]:
                        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
                        await writer.drain()
                        await asyncio.sleep(0.005)
                        sock: socket.socket = writer.get_extra_info("socket")
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                        return
                    case ["hang"]:
                        await asyncio.sleep(3600)
                    case ["big"]:
                        await answer(writer, 200, b"x" * (int(query["mb"]) << 20))
                    case ["echo"]:
                        await answer(writer, 200, body)
                    case ["counts"]:
                        await answer(writer, 200, json.dumps(counts).encode())
                    case ["openapi.json"]:
                        await answer(writer, 200, json.dumps(openapi).encode())
                    case ["secret"]:
                        await answer(writer, 200 if headers.get("x-api-key") == "k3y" else 403, b"{}")
                    case ["ok"] | ["items", _]:
                        await answer(writer, 200, b'{"status": "ok"}')
                    case _:
                        await answer(writer, 404, b"{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()

    async def run() -> None:
        server = await asyncio.start_server(serve, options.host, options.port, limit=1 << 20)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
