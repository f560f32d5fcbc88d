"""The SQL that reads lines of logs, of every kind at once, into one table of requests. Pure.

A line of JSON is read with the fields of all kinds of lines; what it is shows in the fields that it has. The
fields of CloudFront are those of its standard logs, version 2, whose values are all text, `-` for none.

Sources: `telemetry.AccessRecord`; the `log_format` of `nginx.configuration`; the CloudFront Developer Guide,
"Standard logging reference"; for the names of Parquet's columns the Athena User Guide, "Create a table for
CloudFront logs … with Parquet".
"""

from __future__ import annotations

from enum import StrEnum


class FileKind(StrEnum):
    """How a log file is read."""

    PLAIN = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    PARQUET = "parquet"


_OWN = {
    "time_s": "DOUBLE",
    "client": "VARCHAR",
    "path": "VARCHAR",
    "status": "SMALLINT",
    "bytes": "BIGINT",
    "duration_ms": "DOUBLE",
    "key": "VARCHAR",
    "size": "VARCHAR",
    "format": "VARCHAR",
    "cache": "VARCHAR",
    "stages_ms": "STRUCT(render DOUBLE)",
    "reason": "VARCHAR",
}
_CLOUDFRONT = (
    "date",
    "time",
    "c-ip",
    "cs-uri-stem",
    "sc-status",
    "sc-bytes",
    "sc-content-type",
    "time-to-first-byte",
    "x-edge-result-type",
    "x-edge-response-result-type",
)
_NGINX = {
    "nginx_cache": "VARCHAR",  # $upstream_cache_status, empty for what is not cached
    "content_type": "VARCHAR",
    "request_time_s": "DOUBLE",
}
"""The fields that only nginx's lines have; the others have the names of a server's."""
_OTHERS = {
    "action": "VARCHAR",  # audit records
    "_aws": "VARCHAR",  # metrics
    "made": "INTEGER",  # prewarm
    "was_there": "INTEGER",
    "deleted": "INTEGER",  # janitor
    "invalidated": "BOOLEAN",
    "level": "VARCHAR",  # Lambda's own lines
    "type": "VARCHAR",
}

_START_LINE = "galerly-cdn (serves|is administered at) https?://[^ ]+"

COUNT_MALFORMED = "SELECT count(*) FROM lines WHERE tier = 'malformed'"
ACCEPT_START_LINES = """
UPDATE lines SET tier = 'other'
WHERE rowid IN (SELECT rowid FROM lines WHERE tier = 'malformed' LIMIT $start_lines)
"""
"""A line that is no JSON has left nothing but its row."""

TABLES = """
CREATE TABLE segments (segment VARCHAR PRIMARY KEY, size VARCHAR, format VARCHAR);
CREATE TABLE originals (key VARCHAR, length_bytes BIGINT);
CREATE TABLE lines (
    tier VARCHAR, time_s DOUBLE, client VARCHAR, status SMALLINT, bytes BIGINT, duration_ms DOUBLE,
    key VARCHAR, size VARCHAR, format VARCHAR, refused VARCHAR, result VARCHAR, response_result VARCHAR,
    is_picture BOOLEAN, has_render BOOLEAN, reason VARCHAR, made INTEGER
);
CREATE TABLE outcomes (
    tier VARCHAR, status SMALLINT, result VARCHAR, response_result VARCHAR, has_render BOOLEAN,
    is_picture BOOLEAN, outcome VARCHAR
);
CREATE VIEW requests AS
    SELECT lines.*, outcome, strftime(make_timestamp((time_s * 1e6)::BIGINT), '%Y-%m-%d') AS day
    FROM lines JOIN outcomes USING (tier, status, result, response_result, has_render, is_picture);
"""

KINDS_OF_LINES = """
SELECT DISTINCT tier, status, result, response_result, has_render, is_picture FROM lines
WHERE tier IN ('cloudfront', 'nginx', 'server', 'resizer')
"""
"""All that decides an outcome: few different rows, whatever the length of the log."""


def reader(kind: FileKind) -> str:
    """The source of raw lines, a table function with the parameter `files`."""
    if kind is FileKind.PARQUET:
        columns = ", ".join(f'{_parquet(name)}::VARCHAR AS "{name}"' for name in _CLOUDFRONT)
        absent = ", ".join(
            f'NULL::{type_} AS "{name}"' for name, type_ in {**_OWN, **_NGINX, **_OTHERS}.items()
        )
        defaults = ", ".join(f"NULL::VARCHAR AS {_parquet(name)}" for name in _CLOUDFRONT)
        # The fields of a delivery are of the operator's choice: a column that is missing is null.
        return (
            f"(SELECT {columns}, {absent} FROM (SELECT {defaults} WHERE false "
            "UNION ALL BY NAME FROM read_parquet($files, union_by_name = true)))"
        )
    types = {**_OWN, **_NGINX, **dict.fromkeys(_CLOUDFRONT, "VARCHAR"), **_OTHERS}
    columns = ", ".join(f"'{name}': '{type_}'" for name, type_ in types.items())
    return (
        f"read_json($files, format = 'newline_delimited', compression = '{kind}', ignore_errors = true, "
        f"columns = {{{columns}}})"
    )


def start_lines(kind: FileKind) -> str:
    """Counts the lines that `galerly-cdn serve` prints at its start, until there are `at_most` so many.

    They are the only lines of its standard output that are not JSON. The files are the parameter `files`.
    """
    lines = (
        f"read_csv($files, columns = {{'line': 'VARCHAR'}}, auto_detect = false, header = false, "
        f"delim = '\x1f', quote = '', escape = '', strict_mode = false, ignore_errors = true, "
        f"compression = '{kind}')"
    )
    found = f"SELECT 1 FROM {lines} WHERE regexp_full_match(line, '{_START_LINE} *') LIMIT $at_most"
    return f"SELECT count(*) FROM ({found})"


def _parquet(name: str) -> str:
    return name.replace("-", "_")


def insert(raw_lines: str) -> str:
    """Inserts the lines of a reader. Parameters: `files`, `since_s` (null for all), `folder` (`gallery/`)."""
    return _INSERT.replace("{raw}", raw_lines)


_INSERT = """
WITH raw AS (FROM {raw}),
named AS (
    SELECT *,
        CASE
            WHEN "sc-status" IS NOT NULL AND "cs-uri-stem" IS NOT NULL AND date IS NOT NULL THEN 'cloudfront'
            WHEN status IS NULL OR path IS NULL OR time_s IS NULL OR action IS NOT NULL THEN
                CASE
                    WHEN made IS NOT NULL AND was_there IS NOT NULL THEN 'prewarm'
                    WHEN coalesce(action, _aws, level, type) IS NOT NULL OR deleted IS NOT NULL THEN 'other'
                    ELSE 'malformed'
                END
            WHEN nginx_cache IS NOT NULL THEN 'nginx'
            -- A server has no such path; its reason then is the first that `http.urls` finds
            WHEN (starts_with(path, '/resized/') OR starts_with(path, '/originals/'))
                AND reason IS DISTINCT FROM 'unknown-path' THEN 'resizer'
            ELSE 'server'
        END AS raw_tier
    FROM raw
),
shared AS (
    SELECT *,
        CASE raw_tier WHEN 'cloudfront' THEN "cs-uri-stem" ELSE path END AS request_path,
        CASE raw_tier
            WHEN 'cloudfront' THEN epoch(try_cast(date || ' ' || time AS TIMESTAMP)) ELSE time_s
        END AS request_s,
        CASE raw_tier WHEN 'cloudfront' THEN try_cast("sc-status" AS SMALLINT) ELSE status END AS code,
        CASE raw_tier WHEN 'cloudfront' THEN "sc-content-type" ELSE content_type END AS media_type,
        starts_with(request_path, '/resize/') OR starts_with(request_path, '/resized/') AS of_picture,
        CASE WHEN of_picture AND size IS NULL THEN split_part(request_path, '/', 3) END AS segment,
        coalesce(
            key,
            CASE
                WHEN of_picture THEN url_decode(substr(request_path, length(split_part(request_path, '/', 2))
                    + length(segment) + 4))
                WHEN starts_with(request_path, '/original/') THEN url_decode(substr(request_path, 11))
            END
        ) AS request_key
    FROM named
),
selected AS (
    SELECT
        CASE
            WHEN raw_tier IN ('cloudfront', 'nginx', 'server', 'resizer')
                AND (code IS NULL OR request_s IS NULL) THEN 'malformed'
            WHEN raw_tier IN ('cloudfront', 'nginx', 'server', 'resizer') AND NOT (
                ($since_s::DOUBLE IS NULL OR request_s >= $since_s::DOUBLE)
                AND ($folder = '' OR coalesce(starts_with(request_key, $folder), false))
            ) THEN 'left out'
            ELSE raw_tier
        END AS tier,
        *
    FROM shared
)
INSERT INTO lines
SELECT tier, request_s, coalesce(client, "c-ip"), code,
    coalesce(bytes, try_cast("sc-bytes" AS BIGINT), 0),
    coalesce(duration_ms, request_time_s * 1000, try_cast("time-to-first-byte" AS DOUBLE) * 1000),
    request_key,
    coalesce(selected.size, segments.size),
    coalesce(
        selected.format, nullif(segments.format, ''),
        CASE
            WHEN raw_tier NOT IN ('cloudfront', 'nginx') OR segments.segment IS NULL THEN NULL
            WHEN media_type IN ('image/avif', 'image/webp') THEN substr(media_type, 7)
            ELSE 'own'
        END
    ),
    CASE WHEN segments.segment IS NULL THEN selected.segment END,
    coalesce(cache, nginx_cache, CASE raw_tier WHEN 'cloudfront' THEN "x-edge-result-type" END, ''),
    coalesce("x-edge-response-result-type", "x-edge-result-type", ''),
    of_picture,
    coalesce(stages_ms.render IS NOT NULL, false),
    reason,
    made
FROM selected LEFT JOIN segments ON segments.segment = selected.segment
"""
