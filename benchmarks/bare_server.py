"""A bare asyncio policy server that answers DUNNO to whatever ends with an empty line: what the agent is held against.

`python -m benchmarks.bare_server HOST PORT`
"""

import asyncio
import sys
from typing import cast


class Bare(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._received = b""

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\n\n")) >= 0:
            self._received = self._received[end + 2 :]
            self._transport.write(b"action=DUNNO\n\n")


async def serve(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Bare, host, port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
