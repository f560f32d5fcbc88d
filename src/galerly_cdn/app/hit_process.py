"""Runs a hit process: it answers plain hits from a folder on the connections that the server gives to it.

It has a memory of its own, and reads originals' heads and renditions from the folders. It renders nothing,
writes no rendition, and loads neither libvips nor the admin API.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import Authorizer
from galerly_cdn.app.processes import open_log
from galerly_cdn.clock import SYSTEM_CLOCK
from galerly_cdn.facts import OriginalFacts
from galerly_cdn.http.cross_origin import for_host
from galerly_cdn.http.exchange import Application
from galerly_cdn.http.urls import AllowList
from galerly_cdn.plain_hits import PlainHits
from galerly_cdn.recipe_list import RecipeList
from galerly_cdn.recipes import recipes_of
from galerly_cdn.render import recipe
from galerly_cdn.server import serve as http_server
from galerly_cdn.server.processes import messages
from galerly_cdn.server.processes.hit_server import HitServer, RecordBatch
from galerly_cdn.store import open as store_open
from galerly_cdn.stored_renditions import StoredRenditions

if TYPE_CHECKING:
    from collections.abc import Callable

    from galerly_cdn.http.exchange import Handler
    from galerly_cdn.model import Head


def main() -> None:
    """Serve on the channel whose descriptor is the last argument, until the server stops or ends."""
    end = socket.socket(fileno=int(sys.argv[-1]))
    packet = end.recv(messages.MAX_PACKET_BYTES)
    if not packet:  # the server has ended meanwhile
        return
    start, _ = messages.decode(packet)
    if not isinstance(start, messages.Start):
        raise messages.ProtocolError(f"expected Start, received {start!r}")
    open_log(start.settings)
    http_server.run(_serve(end, start))


async def _serve(end: socket.socket, start: messages.Start) -> None:
    settings, batch = start.settings, RecordBatch()
    listed, plain = _open_plain_hits(start, batch.count)
    await listed.read()
    if settings.traces:
        from galerly_cdn.tracing import Tracer  # noqa: PLC0415 - an extra, which starts slowly

        tracer = Tracer()
        application: Application = tracer.application(
            _no_handler, settings, batch, clock=SYSTEM_CLOCK, find_hit=plain.find
        )
    else:
        tracer = None
        application = Application(_no_handler, settings, batch, clock=SYSTEM_CLOCK, find_hit=plain.find)
    server = HitServer(
        end,
        settings,
        for_host(application, settings).answer_hit,
        batch,
        forget=plain.forget,
        memory_bytes=lambda: plain.memory.weight_bytes,
    )
    gc.freeze()  # collections while serving need not visit what the start has made
    await server.run()
    if tracer is not None:
        await asyncio.to_thread(tracer.close)


def _open_plain_hits(start: messages.Start, count: Callable[[str], None]) -> tuple[RecipeList, PlainHits]:
    settings = start.settings
    originals, renditions = store_open.open_folders(settings, start.locations, count, SYSTEM_CLOCK)
    facts = OriginalFacts(
        renditions,
        revision=recipe.facts_revision(start.libvips, start.formats),
        limits=settings.limits,
        count=count,
    )
    listed = RecipeList(renditions, recipes_of(settings, start.libvips), clock=SYSTEM_CLOCK, count=count)

    def known_head(key: str, _client: str, *, is_hot: bool) -> Head:  # noqa: ARG001 - a look-up costs no request
        return originals.find_head(key)

    return listed, PlainHits(
        settings,
        allowed=AllowList(settings.size_rules),
        authorizer=Authorizer(
            settings.private_prefixes,
            verifier=None,
            now=SYSTEM_CLOCK.wall,
            signs_originals=settings.sign_originals,
        ),
        stored=StoredRenditions(renditions, facts, listed),
        known_head=known_head,
        known=renditions.find,
    )


def _no_handler(_raw_path: bytes) -> Handler:
    raise AssertionError("a hit process has no handlers")
