"""A minimal ASGI application under uvicorn, the floor that a hit is compared with: the same bytes, or 304.

`python -m benchmarks.bare FILE` prints its address and serves until it is stopped. It has httptools, uvloop,
no access log and none of this project's code.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    Message = MutableMapping[str, Any]


def application(body: bytes) -> Callable[..., Awaitable[None]]:
    """An application that answers 304 to requests with `If-None-Match`, else the bytes."""
    headers = [(b"content-type", b"image/jpeg"), (b"content-length", b"%d" % len(body))]

    async def answer(
        scope: Message, _receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
    ) -> None:
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            await send({"type": "http.response.start", "status": 304, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer


def main() -> None:
    """Run the command line."""
    config = uvicorn.Config(
        application(Path(sys.argv[1]).read_bytes()),
        http="httptools",
        loop="uvloop",
        interface="asgi3",
        lifespan="off",
        ws="none",
        access_log=False,
        log_level="warning",
    )
    with socket.create_server(("127.0.0.1", 0), backlog=config.backlog) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}/", flush=True)
        uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
