"""Says why the day with the lowest hit ratio has its misses: who, since when, and what to do. Pure."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from galerly_cdn.insight.outcomes import Tier
from galerly_cdn.insight.units import count, percent

if TYPE_CHECKING:
    from galerly_cdn.insight.report import LowestDay, Report, Share

HIT_RATIO = 0.95
MIN_MISSES = 50
"""Fewer misses are no cause that is worth a sentence."""
MIN_SHARE = 0.2
"""Of the misses of a day: what has less is no main cause."""
MOST = 0.9
"""Of the outdated renders: a gallery that has so many was replaced, if there are other galleries."""


def describe_day(day: LowestDay) -> str:
    """A sentence on the lowest day: its hit ratio, its misses, and who has most of them."""
    where = [
        f"{title} {share.name or '/'} ({count(share.misses)})"
        for title, share in (("gallery", day.gallery), ("size", day.size), ("client", day.client))
        if share
    ]
    outdated = f", {count(day.outdated)} of replaced originals or changed settings" if day.outdated else ""
    return (
        f"The lowest day is {day.day}, {percent(day.hit_ratio)}. Misses: {count(day.misses)}{outdated}; "
        f"most by {', '.join(where)}."
    )


def causes(report: Report) -> tuple[str, ...]:
    """A line for each main cause of the lowest day, and one for the other misses.

    Empty if that day met the target, or if no client and no replacement has a fifth of its misses.
    """
    day = report.lowest_day
    if day is None or day.hit_ratio > HIT_RATIO:
        return ()
    client, gallery = busy_client(day), _replaced_gallery(day)
    lines = [_client_line(client)] if client else []
    others = day.misses - (client.misses if client else 0)
    if gallery:
        outdated = day.outdated or 0
        lines.append(_outdated_line(gallery, outdated, of_several=len(report.by_gallery) > 1))
        others -= outdated - (client.outdated if client else 0)
    if lines and report.tier is Tier.SERVER:  # of two tiers, one logged the clients and another the renders
        lines.append(_other_line(others, report, day))
    return tuple(lines)


def busy_client(day: LowestDay | None) -> Share | None:
    """The client that has a fifth of the day's misses or more, and more misses than hits.

    A proxy or an address that many viewers share has more hits.
    """
    client = day.client if day else None
    return client if day and client and _is_main(client.misses, day) and client.misses > client.hits else None


def _replaced_gallery(day: LowestDay) -> Share | None:
    """The gallery with most renders of replaced originals or changed settings, if they are a main cause."""
    return day.outdated_gallery if _is_main(day.outdated or 0, day) else None


def _is_main(misses: int, day: LowestDay) -> bool:
    return misses >= max(MIN_MISSES, MIN_SHARE * day.misses)


def _client_line(client: Share) -> str:
    return (
        f"{count(client.misses)} misses are of the client {client.name}, {_period(client)}: "
        f"{count(client.photographs)} photographs in {_kinds(client)}, {count(client.hits)} hits, at most "
        f"{count(client.most_in_a_minute)} misses a minute. A browser requests one format and few sizes: "
        "several of both are a sweep. Unless the client is yours, block its address at the firewall."
    )


def _outdated_line(gallery: Share, outdated: int, *, of_several: bool) -> str:
    name = gallery.name or "/"
    found = (
        f"{count(outdated)} misses are renders of replaced originals or changed settings. The gallery {name} "
        f"has {count(gallery.misses)} of them, {_period(gallery)}: "
        f"{count(gallery.photographs)} photographs in {_kinds(gallery)}."
    )
    if of_several and gallery.misses >= MOST * outdated:
        option = f"--gallery {shlex.quote(gallery.name)}" if gallery.name else "KEYS"
        return (
            f"{found} It was replaced: a changed setting shows in all galleries. After the next replacement "
            f"run `galerly-cdn warm {option}` at once."
        )
    return (
        f"{found} Replaced originals show in their gallery, a changed setting or release in all. "
        "Warm what changed."
    )


def _other_line(others: int, report: Report, day: LowestDay) -> str:
    """The misses of no main cause, beside the other days' misses: as many are no further cause."""
    usual = sorted(one.pictures - one.hits for one in report.by_day if one.name != day.day)
    beside = f" All misses of the other days: {count(usual[0])} to {count(usual[-1])} a day." if usual else ""
    return f"{count(others)} misses are others.{beside}"


def _period(share: Share) -> str:
    """From the first miss to the last one, to the minute."""
    return f"{share.first[11:16]} – {share.last[11:16]} UTC"


def _kinds(share: Share) -> str:
    return f"{_number(share.sizes, 'size')} and {_number(share.formats, 'format')}"


def _number(of: int, name: str) -> str:
    return f"{count(of)} {name}{'' if of == 1 else 's'}"
