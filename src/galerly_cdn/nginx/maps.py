"""Writes the maps that give a request its place in the cache, as `http.urls` and `negotiation` decide. Pure.

nginx's `$uri` is the path, decoded once. Where `$galerly_refused` is 0 it is what `urls.parse_key` decodes:
no dot segment and no doubled slash was removed, and no encoded slash was decoded.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.http.negotiation import MAX_ACCEPT_BYTES, MAX_ACCEPT_ELEMENTS
from galerly_cdn.http.urls import AllowList
from galerly_cdn.model import PREFERENCE, Format
from galerly_cdn.nginx.syntax import escaped, map_block

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.settings.table import Settings

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # noqa: S105 - RFC 9110's token, no password
_SPACE = r"[ \t]*+"
_WEIGHT = r"q=(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)(?=[ \t;,]|\z)"
_PARAMETER = rf"(?:{_WEIGHT}|(?!q=){_TOKEN}={_TOKEN})"
_ELEMENT = rf"{_SPACE}(?:{_TOKEN}/{_TOKEN}{_SPACE}(?:;{_SPACE}(?:{_PARAMETER}{_SPACE})?)*+)?"
_WELL_FORMED = (
    rf"~*^(?=.{{0,{MAX_ACCEPT_BYTES}}}\z){_ELEMENT}(?:,{_ELEMENT}){{0,{MAX_ACCEPT_ELEMENTS - 1}}}\z"
)
"""The grammar of `negotiation`. Possessive quantifiers (`++`, `*+`) keep the time linear."""
_PICTURE = r"^/(?:resize/[^/]+|original)/"
_FORWARDED = ("", "MISS", "EXPIRED", "BYPASS")
"""The values of `$upstream_cache_status` for answers that a node has just given."""


def accept_maps() -> str:
    """Whether `Accept` is well formed, and whether it names each format with q > 0."""
    blocks = [map_block("$http_accept", "galerly_accept_is_well_formed", [(_WELL_FORMED, "1")], "0")]
    for one in PREFERENCE:
        named = rf"(?:^|,){_SPACE}{escaped(one.media_type)}{_SPACE}"
        # A format that is named twice, once with q=0, is refused: this comes first
        refused = rf"~*{named}(?:;[^,;]*)*?;{_SPACE}q=0(?:\.0*)?{_SPACE}(?:[;,]|\z)"
        rows = [(refused, "0"), (rf"~*{named}(?:[;,]|\z)", "1")]
        blocks.append(map_block("$http_accept", f"galerly_names_{one.value}", rows, "0"))
    return "".join(blocks)


def size_maps(settings: Settings) -> str:
    """The size of a picture's URL, the formats it offers, and the format that `Accept` chooses of them.

    `$galerly_target` is `800x600` or `800x600.webp`, as in a stored rendition's name; it is empty if the
    allow-list has no such size. `$galerly_format` is `.avif`, `.webp` or empty: the original's own, or that
    of the URL.
    """
    allowed = AllowList(settings.size_rules)
    targets, offered = [], []
    for segment in allowed.segments():
        rule, target = allowed.find(segment.encode())
        targets.append((segment, str(target)))
        if target.format is None:
            offered.append((segment, "".join(f".{one}" for one in rule.negotiable) or "own"))
    flags = " ".join(f"$galerly_names_{one.value}" for one in PREFERENCE)
    source = f"$galerly_accept_is_well_formed {flags} $galerly_offered"
    return "".join(
        (
            map_block("$galerly_path", "galerly_segment", [(r"~^/resize/(?<s>[^/]+)/", "$s")]),
            map_block("$galerly_segment", "galerly_target", targets),
            map_block("$galerly_segment", "galerly_offered", offered),
            map_block(source, "galerly_format", list(_format_rows({text for _, text in offered}))),
            map_block("$galerly_format", "galerly_accept", list(_accept_rows()), "*/*"),
            map_block("$galerly_offered", "galerly_vary", [("", "")], "Accept"),
        )
    )


def _format_rows(offered: set[str]) -> Iterator[tuple[str, str]]:
    """The format for each set that `Accept` names and the size offers: texts, which nginx finds faster."""
    for text, named in itertools.product(sorted(offered), itertools.product("01", repeat=len(PREFERENCE))):
        formats = (f".{one.value}" for one, flag in zip(PREFERENCE, named, strict=True) if flag == "1")
        if chosen := next((one for one in formats if one in text), ""):
            yield f"1 {' '.join(named)} {text}", chosen


def _accept_rows() -> Iterator[tuple[str, str]]:
    for one in PREFERENCE:
        yield f".{one.value}", Format(one).media_type


def private_patterns(settings: Settings, beginning: str) -> list[str]:
    """Regular expressions that `$uri` matches if it begins so and its key is private, as in `Authorizer`."""
    folders = private_folders(settings.private_prefixes)
    return [
        rf"{beginning}{escaped(folder.removesuffix('/'))}(?:/|\z)" if folder else beginning
        for folder in folders
    ]


def path_maps(settings: Settings) -> str:
    """The raw path, the key that `$uri` has, and whether the path is refused or of a private picture."""
    refused = [
        (r"~*^[^?]*(?://|/(?:\.|%2e){1,2}(?:[/?]|\z)|%2f|%5c|\\)", "1"),
        ("~[^!-~]|#", "1"),  # also in the query: RFC 3986 has no such character in a request's target
    ]
    private = [(f"~{pattern}", "1") for pattern in private_patterns(settings, _PICTURE)]
    if settings.sign_originals:
        private.append(("~^/original/", "1"))
    return "".join(
        (
            map_block("$request_uri", "galerly_path", [(r"~^(?<p>[^?]*)", "$p")]),
            map_block("$request_uri", "galerly_refused", refused, "0"),
            map_block("$request_method", "galerly_method_refused", [("GET", "0"), ("HEAD", "0")], "1"),
            map_block("$uri", "galerly_photo", [(rf"~(?s){_PICTURE}(?<k>.*)", "$k")], "$uri"),
            map_block("$uri", "galerly_private", private, "0"),
            map_block("$galerly_private", "galerly_query", [("1", "$is_args$args")]),
            map_block("$galerly_private", "galerly_cookie", [("1", "$http_cookie")]),
        )
    )


def cache_maps() -> str:
    """What may be cached, and what is told of it: `Cache-Status` (RFC 9211), `Server-Timing`.

    A part (`Range`) is asked of the node: nginx's own 416 would carry the picture's `immutable`. A private
    entry's key begins with `private/`: no request that a node has not allowed finds it, whatever the
    configuration says of the folder later.
    """
    status = [
        ("HIT", "nginx; hit"),
        ("STALE", "nginx; hit; detail=stale"),
        ("REVALIDATED", "nginx; fwd=stale; fwd-status=304"),
        ("EXPIRED", "${galerly_node_status}nginx; fwd=stale"),
        ("MISS", "${galerly_node_status}nginx; fwd=uri-miss"),
    ]
    unstorable = [("~*^[01] .*no-store", "1"), ("~*^0 .*private", "1")]
    return "".join(
        (
            map_block("$http_range", "galerly_zone_of_whole", [("", "galerly")], "off"),
            map_block("$galerly_target", "galerly_zone", [("", "off")], "$galerly_zone_of_whole"),
            map_block("$galerly_private", "galerly_area", [("1", "private/")]),
            map_block("$galerly_private $upstream_http_cache_control", "galerly_unstorable", unstorable, "0"),
            map_block(
                "$upstream_http_cache_status",
                "galerly_node_status",
                [("", "")],
                "$upstream_http_cache_status, ",
            ),
            map_block(
                "$upstream_cache_status",
                "galerly_cache_status",
                status,
                "${galerly_node_status}nginx; fwd=bypass",
            ),
            map_block(
                "$upstream_cache_status",
                "galerly_timing",
                [(one, "$upstream_http_server_timing") for one in _FORWARDED],
            ),
        )
    )


def client_map() -> str:
    """Whom the limits count: an IPv4 address, an IPv6 /64 as in `client_address.rate_limit_key`.

    Loopback is exempt, as on a node. `$binary_remote_addr` has 4 or 16 bytes.
    """
    rows = [
        (r"~(?s)^\x7f...\z", ""),
        (r"~^\x00{15}\x01\z", ""),
        (r"~(?s)^\x00{10}\xff\xff(?<v4>....)\z", "$v4"),
        (r"~(?s)^(?<v6>.{8}).{8}\z", "$v6"),
    ]
    return map_block("$binary_remote_addr", "galerly_client", rows, "$binary_remote_addr")
