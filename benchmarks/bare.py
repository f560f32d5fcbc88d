"""A minimal ASGI application under this project's listener: it answers the same bytes, or 304.

`python -m benchmarks.bare FILE` prints its address and serves until it is stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from galerly_cdn.server import serve
from galerly_cdn.settings.table import Settings

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
    body = Path(sys.argv[1]).read_bytes()

    def announce(address: str) -> None:
        print(address, flush=True)

    bare = serve.Listener(application=application(body), host="127.0.0.1", port=0, on_ready=announce)
    serve.run(serve.serve(bare, settings=Settings()))


if __name__ == "__main__":
    main()
