"""A hit process that answers every request with an echo, except for paths that begin with `/miss`.

It counts an event for each key that it is to forget, and stops at one of them.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING

from galerly_cdn.server import serve
from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.hit_server import HitServer, RecordBatch
from galerly_cdn.telemetry import AccessRecord
from tests.support.raw_http import Echo

if TYPE_CHECKING:
    from galerly_cdn.http.exchange import HitAnswer
    from galerly_cdn.http.request import Scope
    from galerly_cdn.model import Target

NEVER = "never"
"""A key that the process stops at, before it has forgotten it."""


def main() -> None:
    end = socket.socket(fileno=int(sys.argv[-1]))
    start, _ = messages.decode(end.recv(messages.MAX_PACKET_BYTES))
    assert isinstance(start, messages.Start)
    serve.run(_serve(end, start))


async def _serve(end: socket.socket, start: messages.Start) -> None:
    batch, echo = RecordBatch(), Echo()

    def answer_hit(scope: Scope) -> HitAnswer | None:
        if scope["raw_path"].startswith(b"/miss"):
            return None
        path = scope["raw_path"].decode()
        record = AccessRecord(0.0, batch.next_request_id(), scope["client"][0], "GET", path, 200, 0, 0.0)
        batch.record(record, "hit")
        answer = echo.answer_hit(scope)
        return answer and answer._replace(lines=answer.lines + b"x-process: %d\r\n" % os.getpid())

    def forget(key: str, target: Target) -> bool:
        batch.count(f"forgotten {key}")
        if key == NEVER:
            signal.pause()
        return target.size.width_px > 50

    await HitServer(end, start.settings, answer_hit, batch, forget=forget, memory_bytes=lambda: 1000).run()
