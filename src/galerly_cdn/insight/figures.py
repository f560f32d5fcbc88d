"""Asks the database of requests for the figures of a report."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from galerly_cdn.insight.outcomes import CACHES, PICTURES, Outcome, Tier, hits_of
from galerly_cdn.insight.report import (
    Group,
    Growth,
    Lines,
    LowestDay,
    Percentiles,
    Photograph,
    ReasonCount,
    RefusedSize,
    Report,
    Share,
    SlowOriginal,
    StatusCount,
    Sweep,
)
from galerly_cdn.insight.targets import judge
from galerly_cdn.serialization import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence

    from galerly_cdn.insight.database import LogDatabase

TOP = 20
"""How many photographs, originals, sizes and clients are listed."""
MIN_SWEEP = 50
"""Different keys or sizes of one client that are a sweep, not a mistaken link or two."""

_GALLERY = "parse_dirpath(key, 'forward_slash')"
_IS_OUTDATED = "outcome = 'render' AND starts_with(result, 'fwd=stale')"
# One pass over all requests; the groups and totals are computed from its result.
_SUMMARY = f"""
CREATE OR REPLACE TABLE summary AS
SELECT tier, outcome, status, reason, size, format, day, {_GALLERY} AS gallery,
    {_IS_OUTDATED} AS is_outdated,
    outcome = 'render' AND NOT is_outdated AND contains(result, '; stored') AS is_new,
    count(*) AS requests, sum(bytes)::BIGINT AS bytes
FROM requests GROUP BY ALL
"""
_COUNTS = """
    coalesce(sum(requests) FILTER (tier = $tier), 0)::BIGINT,
    coalesce(sum(requests) FILTER (tier = $tier AND outcome IN (SELECT unnest($pictures))), 0)::BIGINT,
    coalesce(sum(requests) FILTER (tier = $tier AND outcome IN (SELECT unnest($hits))), 0)::BIGINT,
    coalesce(sum(bytes) FILTER (tier = $tier), 0)::BIGINT,
    coalesce(sum(requests) FILTER (tier = $tier AND outcome = 'error'), 0)::BIGINT,
    coalesce(sum(requests) FILTER (outcome = 'render'), 0)::BIGINT,
    coalesce(sum(requests) FILTER (is_outdated), 0)::BIGINT,
    coalesce(sum(requests) FILTER (is_new), 0)::BIGINT
"""
_GROUPS = f"""
SELECT {{name}} AS name, {_COUNTS} FROM summary
WHERE name IS NOT NULL GROUP BY name
-- a name that only errors have is none of the CDN's
HAVING sum(requests) FILTER (outcome NOT IN ('error', 'left')) > 0
"""
_OUTCOMES = """
SELECT outcome, sum(requests)::BIGINT, (sum(requests) FILTER (status < 300))::BIGINT
FROM summary WHERE (tier = $tier) = $is_outermost GROUP BY outcome
"""
_PERIOD = "SELECT min(time_s), max(time_s) FROM requests"
_LINES = "SELECT tier, count(*) FROM lines GROUP BY tier"
_HIT_TIME = """
SELECT quantile_disc(duration_ms, [0.5, 0.95, 0.99]) FROM requests
WHERE tier = $tier AND outcome IN (SELECT unnest($hits))
"""
_RENDER_TIME = "SELECT quantile_disc(duration_ms, [0.5, 0.95, 0.99]) FROM requests WHERE outcome = 'render'"
_IS_MISS = """
tier = $tier AND outcome IN (SELECT unnest($pictures)) AND outcome NOT IN (SELECT unnest($hits))
"""
# `{name}` is gallery, size or client; `{counted}` says which requests are its misses. The columns are
# the fields of `Share`
_MOST_MISSED = f"""
WITH minutes AS (
    SELECT coalesce({{name}}, '') AS name, floor(time_s / 60) AS minute,
        count(*) FILTER ({{counted}}) AS misses,
        count(*) FILTER ({{counted}} AND {_IS_OUTDATED}) AS outdated,
        count(*) FILTER (tier = $tier AND outcome IN (SELECT unnest($hits))) AS hits
    FROM requests WHERE day = $day GROUP BY ALL
), most AS (
    SELECT name, sum(misses)::BIGINT AS misses, sum(outdated)::BIGINT AS outdated, sum(hits)::BIGINT AS hits,
        max(misses) AS most_in_a_minute
    FROM minutes GROUP BY name HAVING sum(misses) > 0 ORDER BY 2 DESC, 1 LIMIT 1
)
SELECT most.name, misses, outdated, hits, most_in_a_minute,
    count(DISTINCT key), count(DISTINCT size), count(DISTINCT format),
    min(time_s), max(time_s)
FROM requests JOIN most ON coalesce({{name}}, '') = most.name
WHERE day = $day AND {{counted}} GROUP BY ALL
"""
_STATUSES = """
SELECT status, sum(requests)::BIGINT FROM summary WHERE tier = $tier AND outcome = 'error'
GROUP BY status ORDER BY 2 DESC, 1
"""
_REASONS = """
SELECT reason, sum(requests)::BIGINT FROM summary WHERE reason IS NOT NULL AND outcome = 'error'
GROUP BY reason ORDER BY 2 DESC, 1
"""
_PHOTOGRAPHS = """
SELECT key, count(*), sum(bytes)::BIGINT FROM requests
WHERE tier = $tier AND key IS NOT NULL AND outcome NOT IN ('error', 'left')
GROUP BY key ORDER BY 2 DESC, 1 LIMIT $top
"""
_REFUSED = """
SELECT refused, count(*), count(DISTINCT client) FROM requests
WHERE tier = $tier AND status = 403 AND refused IS NOT NULL GROUP BY refused ORDER BY 2 DESC, 1 LIMIT $top
"""
_SWEEPS = """
SELECT client, kind, count(DISTINCT swept), count(*) FROM (
    SELECT client, 'keys' AS kind, key AS swept FROM requests WHERE tier = $tier AND status = 404
    UNION ALL
    SELECT client, 'sizes', refused FROM requests WHERE tier = $tier AND status = 403
) WHERE swept IS NOT NULL AND client IS NOT NULL
GROUP BY client, kind HAVING count(DISTINCT swept) >= $least ORDER BY 3 DESC, 1 LIMIT $top
"""
_SLOWEST = """
SELECT key, count(*), max(duration_ms), avg(duration_ms) FROM requests
WHERE outcome = 'render' AND key IS NOT NULL GROUP BY key ORDER BY 3 DESC, 1 LIMIT $top
"""
_GROWTH = """
SELECT
    (SELECT coalesce(sum(requests) FILTER (is_new), 0)::BIGINT FROM summary),
    (SELECT coalesce(sum(bytes) FILTER (is_new), 0)::BIGINT FROM summary),
    (SELECT coalesce(sum(made), 0)::BIGINT FROM lines WHERE tier = 'prewarm')
"""
_SAVED = """
SELECT sum(length_bytes - bytes)::BIGINT FROM requests JOIN originals USING (key)
WHERE tier = $tier AND status = 200 AND bytes > 0 AND outcome IN (SELECT unnest($pictures))
"""


class _Totals(NamedTuple):
    """A row of `_COUNTS`."""

    requests: int
    pictures: int
    hits: int
    bytes: int
    errors: int
    renders: int
    outdated: int
    renditions: int


def read_report(database: LogDatabase, tier: Tier | None, *, with_originals: bool = False) -> Report:
    """The report on a loaded database. `tier` is the outermost; `with_originals`: their lengths are loaded.

    Raises `UnreadableLog` if the disk is full.
    """
    report = _Questions(database, tier or Tier.SERVER).report(tier, with_originals=with_originals)
    return replaced(report, targets=judge(report))


class _Questions:
    def __init__(self, database: LogDatabase, tier: Tier) -> None:
        self._database = database
        self._tier = tier
        self._values = {
            "tier": tier.value,
            "pictures": sorted(PICTURES),
            "hits": sorted(hits_of(tier)),
            "top": TOP,
            "least": MIN_SWEEP,
        }
        database.rows(_SUMMARY)
        self._lines = dict(database.rows(_LINES))
        self._has_renders = tier not in CACHES or bool({Tier.SERVER, Tier.RESIZER} & self._lines.keys())

    def _ask(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        """The rows of a query with those of the parameters that it names."""
        named = {**self._values, **values}
        used = {name: value for name, value in named.items() if f"${name}" in query}
        return self._database.rows(query, used)

    def report(self, tier: Tier | None, *, with_originals: bool) -> Report:
        totals = _Totals(*self._one(f"SELECT {_COUNTS} FROM summary"))
        cache_hits, store_hits, shared, left = self._count_outcomes()
        first_s, last_s = self._one(_PERIOD)
        days = tuple(sorted(self._groups("day"), key=lambda group: group.name))
        return Report(
            tier=tier,
            first=_time(first_s),
            last=_time(last_s),
            days=round(((last_s or 0.0) - (first_s or 0.0)) / 86_400, 4),
            lines=self._count_lines(),
            requests=totals.requests,
            pictures=totals.pictures,
            hits=totals.hits,
            hit_ratio=_ratio(totals.hits, totals.pictures),
            cache_hits=cache_hits,
            store_hits=store_hits if self._has_renders else None,
            shared_renders=shared if self._has_renders else None,
            renders=totals.renders if self._has_renders else None,
            bytes=totals.bytes,
            saved_bytes=self._one(_SAVED)[0] if with_originals else None,
            errors=totals.errors,
            error_ratio=_ratio(totals.errors, totals.requests),
            left=left,
            hit_time=self._percentiles(_HIT_TIME),
            render_time=self._percentiles(_RENDER_TIME),
            by_size=self._groups("size"),
            by_format=self._groups("format"),
            by_gallery=self._groups("gallery"),
            by_day=days,
            lowest_day=self._lowest_day(days),
            by_status=tuple(StatusCount(*row) for row in self._ask(_STATUSES)),
            by_reason=tuple(ReasonCount(*row) for row in self._ask(_REASONS)),
            top_photographs=self._photographs(),
            refused_sizes=self._refused_sizes(),
            sweeps=self._sweeps(),
            slowest_originals=self._slowest_originals(),
            growth=self._growth() if self._has_renders else None,
            targets=(),
        )

    def _one(self, query: str) -> tuple[Any, ...]:
        return self._ask(query)[0]

    def _count_outcomes(self) -> tuple[int, int, int, int]:
        """Cache hits, store hits, shared renders, and viewers that left."""
        outermost, inner = self._outcomes(is_outermost=True), self._outcomes(is_outermost=False)
        none = (0, 0)
        cache_hits, left = (outermost.get(outcome, none)[0] for outcome in (Outcome.CACHE_HIT, Outcome.LEFT))
        shared = sum(of.get(Outcome.SHARED_RENDER, none)[0] for of in (outermost, inner))
        store_hits = outermost.get(Outcome.STORE_HIT, none)[0]
        if self._tier in CACHES:
            waited = sum(inner.get(outcome, none)[1] for outcome in (Outcome.RENDER, Outcome.SHARED_RENDER))
            # Not below 0: the logs of the tiers may begin and end at different times
            store_hits = max(0, outermost.get(Outcome.MISS, none)[0] - waited)
        return cache_hits, store_hits, shared, left

    def _outcomes(self, *, is_outermost: bool) -> dict[str, tuple[int, int]]:
        """By outcome: how many requests, and how many of them had a status below 300."""
        rows = self._ask(_OUTCOMES, is_outermost=is_outermost)
        return {outcome: (requests, answered or 0) for outcome, requests, answered in rows}

    def _count_lines(self) -> Lines:
        tiers = {tier: self._lines.get(tier, 0) for tier in Tier}
        counted = tiers.pop(self._tier)
        return Lines(
            read=sum(self._lines.values()),
            counted=counted,
            inner=sum(tiers.values()),
            left_out=self._lines.get("left out", 0),
            other=self._lines.get("other", 0) + self._lines.get("prewarm", 0),
            malformed=self._lines.get("malformed", 0),
        )

    def _groups(self, name: str) -> tuple[Group, ...]:
        """The groups by a column of `summary`, the largest first."""
        groups = []
        for group, *counts in self._ask(_GROUPS.format(name=name)):
            totals = _Totals(*counts)
            known = self._has_renders
            groups.append(
                Group(
                    name=group,
                    requests=totals.requests,
                    pictures=totals.pictures,
                    hits=totals.hits,
                    hit_ratio=_ratio(totals.hits, totals.pictures),
                    bytes=totals.bytes,
                    errors=totals.errors,
                    renders=totals.renders if known else None,
                    outdated=totals.outdated if known else None,
                    renditions=totals.renditions if known else None,
                )
            )
        return tuple(sorted(groups, key=lambda group: (-group.requests, group.name)))

    def _lowest_day(self, days: Sequence[Group]) -> LowestDay | None:
        """None if no day has a miss."""
        missed = [day for day in days if day.pictures > day.hits and day.hit_ratio is not None]
        lowest = min(missed, key=lambda day: day.hit_ratio or 0.0, default=None)
        if lowest is None:
            return None
        client = self._most_missed("client", lowest.name)
        return LowestDay(
            day=lowest.name,
            hit_ratio=lowest.hit_ratio or 0.0,
            misses=lowest.pictures - lowest.hits,
            outdated=lowest.outdated,
            gallery=self._most_missed(_GALLERY, lowest.name),
            size=self._most_missed("size", lowest.name),
            client=client if client and client.name else None,
            outdated_gallery=self._most_missed(_GALLERY, lowest.name, _IS_OUTDATED),
        )

    def _most_missed(self, name: str, day: str, counted: str = _IS_MISS) -> Share | None:
        rows = self._ask(_MOST_MISSED.format(name=name, counted=counted), day=day)
        return next((Share(*row[:-2], *map(_time, row[-2:])) for row in rows), None)

    def _percentiles(self, query: str) -> Percentiles | None:
        found = self._one(query)[0]
        if found is None or None in found:
            return None
        p50_ms, p95_ms, p99_ms = found
        return Percentiles(p50_ms=p50_ms, p95_ms=p95_ms, p99_ms=p99_ms)

    def _photographs(self) -> tuple[Photograph, ...]:
        rows = self._ask(_PHOTOGRAPHS)
        return tuple(Photograph(key=key, requests=requests, bytes=sent) for key, requests, sent in rows)

    def _refused_sizes(self) -> tuple[RefusedSize, ...]:
        rows = self._ask(_REFUSED)
        return tuple(
            RefusedSize(size=size, requests=requests, clients=clients) for size, requests, clients in rows
        )

    def _sweeps(self) -> tuple[Sweep, ...]:
        rows = self._ask(_SWEEPS)
        return tuple(
            Sweep(client=client, kind=kind, different=different, requests=requests)
            for client, kind, different, requests in rows
        )

    def _slowest_originals(self) -> tuple[SlowOriginal, ...]:
        rows = self._ask(_SLOWEST)
        return tuple(
            SlowOriginal(key=key, renders=renders, max_ms=max_ms, mean_ms=round(mean_ms, 3))
            for key, renders, max_ms, mean_ms in rows
        )

    def _growth(self) -> Growth:
        sent, sent_bytes, prewarmed = self._one(_GROWTH)
        return Growth(renditions=sent + prewarmed, bytes=sent_bytes, prewarmed=prewarmed)


def _ratio(part: int, of: int) -> float | None:
    return part / of if of else None


def _time(time_s: float | None) -> str:
    """ISO 8601 in UTC, to the second; empty for none."""
    if time_s is None:
        return ""
    return dt.datetime.fromtimestamp(int(time_s), dt.UTC).isoformat().replace("+00:00", "Z")
