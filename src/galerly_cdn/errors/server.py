"""We are at fault, or what we stand on: 5xx."""

from __future__ import annotations

from galerly_cdn.errors.root import GalerlyError


class StoreRefused(GalerlyError):
    status = 502
    code = "store-refused"
    public = "The store refused access to the photograph."


class StoreCorrupt(StoreRefused):
    """What came is short, or not what was stored, at the second try too."""

    code = "store-corrupt"
    public = "The store handed out a damaged photograph."


class NotInvalidated(GalerlyError):
    """What was removed from the store may still be handed out by CloudFront."""

    status = 502
    code = "not-invalidated"
    public = "The store has changed, but CloudFront could not be told to forget what it holds; purge again."


class Unavailable(GalerlyError):
    status = 503
    code = "unavailable"
    public = "Try again in a moment."
    retry_after_s = 1


class QueueFull(Unavailable):
    code = "queue-full"
    public = "Too many pictures are being made; try again in a moment."


class Draining(Unavailable):
    code = "draining"
    public = "The server is stopping; try again in a moment."


class Unsettled(Unavailable):
    """The original changed under every attempt to render it."""

    code = "unsettled"
    public = "The photograph is being replaced; try again in a moment."


class StoreUnreachable(Unavailable):
    code = "store-unreachable"
    public = "The store cannot be reached; try again in a moment."


class TooManyMisses(Unavailable):
    """One address, or all together, asked for more new pictures than `misses_per_minute…` allows."""

    code = "too-many-misses"
    public = "Too many new pictures are being asked for; try again in a moment."


class TooManyConnections(Unavailable):
    code = "too-many-connections"
    public = "Too many connections are open; try again in a moment."


class RenderFailed(GalerlyError):
    status = 504
    code = "render-failed"
    public = "The picture could not be made in time."


class RenderTimeout(RenderFailed):
    code = "render-timeout"


class WorkerDied(RenderFailed):
    code = "worker-died"
    public = "The picture could not be made."
