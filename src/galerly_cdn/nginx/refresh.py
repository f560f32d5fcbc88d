"""Writes what lets the nodes drop a photograph from a front's cache, as `front_refresh` defines. Pure.

nginx removes no entry without a module, and Debian's module for it crashes. An entry is replaced instead: by
an answer of this nginx itself, which bypasses the cache and is stored as one that has expired. The next
request asks a node. While none answers, the entry says 503, not what was deleted.
Sources: nginx.org, ngx_http_secure_link_module, ngx_http_proxy_module (X-Accel-Expires, proxy_cache_bypass).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from galerly_cdn.errors import Unavailable
from galerly_cdn.http.front_refresh import HEADER, Entry
from galerly_cdn.nginx.error_pages import answer
from galerly_cdn.nginx.syntax import map_block

if TYPE_CHECKING:
    from galerly_cdn.nginx.front import Front
    from galerly_cdn.settings.table import Settings

_VARIABLE = f"$http_{HEADER.lower().replace('-', '_')}"
_DROPPED, _ABSENT = "/-galerly/dropped", "/-galerly/absent"
STATUS = "418"
"""Within nginx, a request with the secret; it is sent to nobody."""
NAMED = "@refresh"


def limited_client(front: Front) -> str:
    """The variable that limits count by; it is empty, so without limit, for a request with the secret."""
    return "$galerly_limited" if front.secret_md5 else "$galerly_client"


def maps(front: Front) -> list[tuple[str, str]]:
    """A comment and the maps for it; none without a secret."""
    if not front.secret_md5:
        return []
    entries = [
        ("HIT 200", Entry.FRESH),
        ("HIT 404", Entry.FRESH),
        ("HIT 415", Entry.FRESH),
        ("STALE 200", Entry.STALE),
        ("STALE 404", Entry.STALE),
        ("STALE 415", Entry.STALE),
        ("BYPASS 503", Entry.DROPPED),
    ]
    text = "".join(
        (
            f"secure_link {front.secret_md5};\nsecure_link_md5 {_VARIABLE};\n",
            map_block("$secure_link", "galerly_secret", [("1", "right")], "wrong"),
            map_block(_VARIABLE, "galerly_refresh", [("", "")], "$galerly_secret"),
            map_block("$galerly_refresh", "galerly_limited", [("right", "")], "$galerly_client"),
            map_block("$request_method", "galerly_drops", [("GET", "1")]),
            map_block("$request_method", "galerly_self_path", [("GET", _DROPPED)], _ABSENT),
            map_block(
                "$server_addr",
                "galerly_self",
                [("~:", "[$server_addr]:$server_port")],
                "$server_addr:$server_port",
            ),
            map_block("$upstream_cache_status $status", "galerly_entry", entries, Entry.ABSENT),
        )
    )
    return [(_COMMENT, text)]


def conditions(front: Front) -> str:
    """What a location of pictures does with a request that has the header; empty without a secret."""
    if not front.secret_md5:
        return ""
    return (
        "    if ($galerly_refresh = wrong) { return 400; }\n"
        f"    if ($galerly_refresh = right) {{ return {STATUS}; }}\n"
    )


def locations(front: Front, settings: Settings) -> str:
    """The locations that look for an entry and drop it; empty without a secret."""
    if not front.secret_md5:
        return ""
    scheme = "https" if front.certificate else "http"
    gone = answer(Unavailable(), settings)
    return f"""\
# Entries are looked for (HEAD) and replaced by expired ones (GET); this nginx is its own node here.
error_page {STATUS} = {NAMED};
location {NAMED} {{
    access_log off;
    proxy_pass {scheme}://$galerly_self$galerly_self_path;
    proxy_cache $galerly_zone;
    proxy_cache_lock off;
    proxy_cache_bypass $galerly_drops;
    proxy_no_cache 0;
    proxy_ignore_headers Cache-Control Expires Vary Set-Cookie;
    proxy_set_header Host localhost;
    proxy_set_header Connection "";
    proxy_set_header {HEADER} {_VARIABLE};
    add_header {HEADER} $galerly_entry always;
}}
{_self_location(_DROPPED, f"    add_header X-Accel-Expires @1 always;{chr(10)}{gone}")}\
{_self_location(_ABSENT, gone)}
"""


def _self_location(path: str, lines: str) -> str:
    return (
        f"location = {path} {{\n    access_log off;\n"
        f"    if ($galerly_refresh != right) {{ return 404; }}\n{lines}}}\n"
    )


_COMMENT = f"""\
# Requests that drop entries have a secret in the header {HEADER}; here is its digest.
"""
