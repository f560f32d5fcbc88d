"""How does whoever changes a store tell CloudFront in front of it? A command all at once, at its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from galerly_cdn.aws.deploy.invalidation import Invalidated
    from galerly_cdn.settings.table import Settings


def sender(settings: Settings) -> Callable[[str], Awaitable[None]]:
    """What a CDN that runs calls for each key that it purged. Raises `AwsMissing`."""
    if settings.distribution:
        from galerly_cdn.aws.deploy import invalidation

        return invalidation.sender(settings)
    from galerly_cdn.library import no_invalidation

    return no_invalidation


class InvalidationAtExit:
    """The keys that a command purged, whose pictures CloudFront may still hold."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    async def add(self, key: str) -> None:
        self._keys[key] = None

    def invalidate(self, settings: Settings, *, as_json: bool) -> None:
        """Have the settings' distribution forget them, wait for it, and tell what was proved.

        Raises `AwsMissing`, `NotInvalidated`.
        """
        if not (self._keys and settings.distribution):
            return
        from galerly_cdn.aws.deploy import invalidation

        keys = list(self._keys)
        targets = settings.all_targets
        done = invalidation.invalidate(
            settings.distribution, keys, targets, deadline_s=invalidation.DEADLINE_S
        )
        terminal.print_value(done, _line(done), as_json=as_json)
        if settings.public_urls and not settings.private_prefixes and not as_json:
            click.echo(_asked_again(settings.public_urls[0], keys[0], settings))


def _line(done: Invalidated) -> str:
    what = f"{done.keys} photographs" if done.keys != 1 else "1 photograph"
    return f"invalidated  {what} by {done.by}, completed: {', '.join(done.ids)}"


def _asked_again(public_url: str, key: str, settings: Settings) -> str:
    """What a viewer gets of the first of them: a miss, unless another one was faster."""
    from galerly_cdn.aws.deploy import http_viewer
    from galerly_cdn.links import Links

    smallest = min(rule.size for rule in settings.size_rules)
    address = Links(public_url, settings.sizes).src(key, str(smallest))
    return f"asked again  {address}: {http_viewer.fetch(address)}"
