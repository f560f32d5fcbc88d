"""Tells the caches in front of the CDN of changed pictures, and prints what they have done.

In CloudFront a server invalidates each key at once, a command all keys at its end. Fronts and nodes are
refreshed with each key, by the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from galerly_cdn.aws.deploy.invalidation import Invalidated
    from galerly_cdn.model import Refreshed
    from galerly_cdn.settings.table import Settings

_LATEST_S = 11
"""The lifetime of a front's entry, and `store_fresh_s`."""


def key_invalidator(settings: Settings) -> Callable[[str], Awaitable[None]]:
    """The function that a running CDN calls with every key that it has purged. Raises `AwsMissing`."""
    if settings.distribution:
        from galerly_cdn.aws.deploy import invalidation

        return invalidation.sender(settings)
    from galerly_cdn.library import no_invalidation

    return no_invalidation


def keys_invalidator(settings: Settings) -> Callable[[Sequence[str]], Awaitable[None]] | None:
    """The function that invalidates many keys and does not wait until CloudFront has finished.

    None without a distribution. Raises `AwsMissing` now rather than after the first removal.
    """
    if not settings.distribution:
        return None
    import asyncio

    from galerly_cdn.aws.deploy import boto, invalidation

    boto.client("cloudfront")

    async def send(keys: Sequence[str]) -> None:
        await asyncio.to_thread(invalidation.invalidate, settings.distribution, keys, settings.all_targets)

    return send


def refreshed_lines(refreshed: Sequence[Refreshed]) -> str:
    """What each node and front has dropped, a line each that follows the photograph's own."""
    return "".join(f"\n  {one.kind:<5}  {one.address}  {_outcome(one)}" for one in refreshed)


def refresh_warnings(key: str, refreshed: Sequence[Refreshed]) -> list[str]:
    """A line for each front and node that may show the photograph as it was for some seconds."""
    return [
        f"{click.format_filename(key)}: changed, but the {one.kind} {one.address} was not refreshed: "
        f"{one.problem}. It shows the change within {_LATEST_S} s."
        for one in refreshed
        if one.problem
    ]


def _outcome(one: Refreshed) -> str:
    if one.problem:
        return "not refreshed"
    dropped = f"dropped {', '.join(one.dropped)}" if one.dropped else "had nothing"
    return f"{dropped}; now {one.found}" if one.found else dropped


class InvalidationAtExit:
    """Collects the keys that a command purges, and invalidates all of them at its end."""

    def __init__(self) -> None:
        self._keys: dict[str, None] = {}

    async def add(self, key: str) -> None:
        self._keys[key] = None

    def invalidate(self, settings: Settings, *, as_json: bool) -> None:
        """Invalidate the collected keys in the settings' distribution, wait for it and print the result.

        Does nothing without keys or without a distribution. Raises `AwsMissing`, `NotInvalidated`.
        """
        if not (self._keys and settings.distribution):
            return
        from galerly_cdn.aws.deploy import invalidation

        keys = list(self._keys)
        targets = settings.all_targets
        result = invalidation.invalidate(
            settings.distribution, keys, targets, deadline_s=invalidation.DEADLINE_S
        )
        terminal.print_value(result, _result_line(result), as_json=as_json)
        if settings.public_urls and not settings.private_prefixes and not as_json:
            click.echo(_request_line(settings.public_urls[0], keys[0], settings))


def _result_line(result: Invalidated) -> str:
    count = f"{result.keys} photographs" if result.keys != 1 else "1 photograph"
    return f"invalidated  {count} by {result.by}, completed: {', '.join(result.ids)}"


def _request_line(public_url: str, key: str, settings: Settings) -> str:
    """Request a picture of the first key: a miss proves the invalidation, unless another viewer was first."""
    from galerly_cdn.aws.deploy import http_viewer
    from galerly_cdn.links import Links

    smallest = min(rule.size for rule in settings.size_rules)
    address = Links(public_url, settings.sizes).src(key, str(smallest))
    return f"asked again  {address}: {http_viewer.fetch(address)}"
