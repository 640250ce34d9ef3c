"""A server that costs next to nothing per request, so that the generator is what is measured. Prints its port."""

from __future__ import annotations

import asyncio

RESPONSE = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"status":"ok"}'


class Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    served = 0

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /count "):
            body = str(Answer.served).encode()
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        requests = data.count(b"\r\n\r\n")
        Answer.served += requests
        self.transport.write(RESPONSE * requests)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
