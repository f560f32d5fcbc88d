"""Builds the hit processes of a server, and what all serving processes have alike."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from galerly_cdn.errors import SettingsError
from galerly_cdn.render.pool.fork_server_process import worker_command
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.locations import is_remote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from galerly_cdn.app.renderer import RenderingStores
    from galerly_cdn.edge import Edge
    from galerly_cdn.library import Forget
    from galerly_cdn.model import Target
    from galerly_cdn.server.processes.hit_processes import HitProcesses
    from galerly_cdn.settings.locations import Locations
    from galerly_cdn.settings.table import Settings

_log = logging.getLogger(__name__)


def open_log(settings: Settings) -> None:
    """Log to stderr, from the settings' level on."""
    log_format = "%(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stderr, level=settings.log_level.upper(), format=log_format)


def forgetting(edge: Edge, processes: HitProcesses | None) -> Forget:
    """`forget` of a library, over the memory of all processes."""

    async def forget(key: str, targets: Iterable[Target]) -> None:
        several = tuple(targets)
        for target in several:
            edge.forget(key, target)
        if processes is not None:
            await processes.forget(key, several)

    return forget


def open_hit_processes(rendering: RenderingStores, locations: Locations) -> HitProcesses | None:
    """The hit processes that the settings ask for; None where one process answers all."""
    settings, telemetry = rendering.stores.settings, rendering.stores.telemetry
    if settings.processes == 1:
        return None
    from galerly_cdn.server.processes.hit_processes import HitProcesses  # noqa: PLC0415 - only with several processes
    from galerly_cdn.server.processes.messages import Start  # noqa: PLC0415 - likewise

    start = Start(
        settings=settings, locations=locations, libvips=rendering.libvips, formats=rendering.formats
    )
    return HitProcesses(
        worker_command("galerly_cdn.app.hit_process"),
        start,
        settings.processes - 1,
        record=telemetry.record,
        count=telemetry.counters.count,
    )


def with_possible_processes(settings: Settings, locations: Locations) -> Settings:
    """The settings with one process where more would answer nothing. Raises `SettingsError`."""
    if settings.processes == 1:
        return settings
    if sys.platform != "linux":
        raise SettingsError([f"processes = {settings.processes} needs Linux: leave it at 1"])
    reason = (
        "a connection with TLS cannot be given to another process"
        if settings.tls_certificate
        else "a connection behind the PROXY protocol cannot be given to another process"
        if settings.proxy_protocol_networks
        else "each would request the heads of originals from the remote store"
        if is_remote(locations.originals) or is_remote(locations.renditions)
        else ""
    )
    if not reason:
        return settings
    _log.warning("processes = %d: one process answers all, because %s", settings.processes, reason)
    return replaced(settings, processes=1)
