"""Writes nginx.conf of a front: caches, balances and limits. Pure: settings and nodes → text.

Sources: nginx.org, ngx_http_proxy_module, ngx_http_upstream_module, ngx_http_core_module; RFC 9211.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from galerly_cdn.errors import (
    BadRequest,
    HeadersTooLarge,
    MethodNotAllowed,
    NoSuchOriginal,
    Unavailable,
    UnknownPath,
    Unrenderable,
    UrlTooLong,
)
from galerly_cdn.http.lifetimes import FRONT_S, front_s
from galerly_cdn.http.urls import AllowList, is_loopback
from galerly_cdn.nginx import maps, refresh
from galerly_cdn.nginx.error_pages import error_page_lines, error_pages
from galerly_cdn.nginx.maps import private_patterns
from galerly_cdn.nginx.syntax import indented, quoted
from galerly_cdn.settings.networks import UNIX

if TYPE_CHECKING:
    from galerly_cdn.nginx.front import Front
    from galerly_cdn.settings.table import Settings

_REQUESTS_PER_S = 200
_BURST = 2000
"""Of one address. A page of a gallery asks for some hundred pictures at once; an office shares an address."""
_MARGIN_S = 5


def configuration(front: Front, settings: Settings) -> str:
    """The whole nginx.conf. `front` has passed `check_front`; the settings are those of the nodes."""
    parts = (
        (_CLIENTS, maps.client_map()),
        (_PATHS, maps.path_maps(settings)),
        (_SIZES, maps.size_maps(settings)),
        (_ACCEPT, maps.accept_maps()),
        (_CACHING, maps.cache_maps()),
        *refresh.maps(front),
    )
    http = "".join(
        (
            _limits(front, settings),
            *(f"\n{comment}{text}" for comment, text in parts),
            _nodes(front, settings),
            _log(front),
            _cache(front, settings),
            _forwarding(front, settings),
            _server(front, settings),
        )
    )
    return f"{_HEAD}\nhttp {{\n{indented(http)}}}\n"


_HEAD = """\
# A front of galerly-cdn: nginx caches, balances and limits; the nodes (`galerly-cdn serve`) answer the rest.
# Written by `galerly-cdn nginx`. Write it again after a change of the nodes' sizes, private_prefixes,
# sign_originals, browse or public_urls: a front and its nodes must agree on them.
#
# The nodes need two settings: trusted_proxies with this machine's address, so that limits count viewers, and
# max_connections_per_client well above what one front opens, because to a node the front is one client.

worker_processes auto;
pcre_jit on;
worker_rlimit_nofile 32768;
events { worker_connections 8192; }
"""
_CLIENTS = "# Whom the limits count: an IPv4 address or an IPv6 /64. This machine is exempt.\n"
_PATHS = """\
# The path as it was sent; whether it is refused (dot segments, doubled and encoded slashes, backslashes); the
# key, decoded once as a node decodes it; whether a node has to see the signature. Only then are the query
# and the cookies passed on.
"""
_SIZES = """\
# The allow-list. The name and the box of a size share their entries, and so do a format that Accept chooses
# and the same format in the URL.
"""
_ACCEPT = "# Accept, folded to the formats that a node would choose; a malformed header accepts none.\n"
_CACHING = """\
# What is kept, and what viewers are told of it. Nothing is kept that a node calls no-store, and of public
# folders nothing that it calls private.
"""


def _limits(front: Front, settings: Settings) -> str:
    client = refresh.limited_client(front)
    return f"""\
server_tokens off;
sendfile on;
tcp_nopush on;
map_hash_max_size 16384;
map_hash_bucket_size {_hash_bucket_bytes(settings)};

# Limits: requests have no body, and their headers are bounded in size and time.
client_max_body_size 1k;
client_header_buffer_size 4k;
large_client_header_buffers 4 8k;
client_header_timeout {_seconds(settings.header_deadline_s)};
client_body_timeout {_seconds(settings.header_deadline_s)};
keepalive_timeout {_seconds(settings.idle_s)};
send_timeout {_seconds(settings.write_deadline_s)};
reset_timedout_connection on;
limit_conn_zone {client} zone=connections:10m;
limit_req_zone {client} zone=requests:10m rate={_REQUESTS_PER_S}r/s;
limit_conn connections {settings.max_connections_per_client};
limit_req zone=requests burst={_BURST} nodelay;
"""


def _hash_bucket_bytes(settings: Settings) -> int:
    """A power of 2 that holds the longest text in a map and what nginx keeps beside it."""
    longest_bytes = max(map(len, AllowList(settings.size_rules).segments()))
    return max(256, 1 << (longest_bytes + 64).bit_length())


def _nodes(front: Front, settings: Settings) -> str:
    servers, all_servers = (
        "".join(
            f"    server {node} {failures} max_conns={_max_connections(node, settings)};\n"
            for node in front.nodes
        )
        for failures in ("max_fails=2 fail_timeout=2s", "max_fails=0")
    )
    return f"""
# All pictures of a photograph go to one node: its memory is used well, and a render is made once. A node that
# refuses or breaks two connections within 2 s is left out for 2 s.
upstream galerly_nodes {{
    zone galerly_nodes 256k;
    hash $galerly_photo consistent;
{servers}    keepalive 32;
}}
# The same nodes, none of them left out: they are asked before a viewer is told that there is none.
upstream galerly_all_nodes {{
    zone galerly_all_nodes 256k;
    hash $galerly_photo consistent;
{all_servers}}}
"""


def _max_connections(node: str, settings: Settings) -> int:
    """As many as the node accepts of one address; this machine has no limit of its own."""
    is_local = is_loopback(node) or node.startswith(UNIX)
    return settings.max_connections if is_local else settings.max_connections_per_client


def _log(front: Front) -> str:
    return f"""
# One line of JSON for each request: `galerly-cdn report {front.log}` reads it.
map $status $galerly_status {{
    default $status;
    000 499;
}}
log_format galerly escape=json
    '{{"time_s":$msec,"request_id":"$request_id","client":"$remote_addr","method":"$request_method",'
    '"path":"$galerly_path","status":$galerly_status,"bytes":$body_bytes_sent,"request_time_s":$request_time,'
    '"content_type":"$sent_http_content_type","nginx_cache":"$upstream_cache_status","node":"$upstream_addr"}}';
access_log {quoted(front.log)} galerly;
"""


def _cache(front: Front, settings: Settings) -> str:
    return f"""
# The cache: one entry a rendition. An entry is used for {FRONT_S} s, then its ETag is compared with the
# node's. While no node answers, older entries are used.
proxy_cache_path {quoted(front.cache_folder)} levels=1:2 keys_zone=galerly:64m max_size={front.cache_size}
    inactive=30d use_temp_path=off;
proxy_cache_key "$galerly_area$galerly_target$galerly_format/$galerly_photo";
proxy_ignore_headers Cache-Control Expires Vary Set-Cookie X-Accel-Expires;
proxy_cache_valid 200 {FRONT_S}s;
proxy_cache_valid 404 {front_s(NoSuchOriginal.max_age_s)}s;
proxy_cache_valid 415 {front_s(Unrenderable.max_age_s)}s;
proxy_no_cache $galerly_unstorable;
proxy_cache_revalidate on;
proxy_cache_lock on;
proxy_cache_lock_timeout {_seconds(settings.queue_wait_s)};
proxy_cache_lock_age {_seconds(settings.queue_wait_s)};
# Without `updating`, and not in the background: a viewer who comes after days must not be shown the picture
# of then.
proxy_cache_background_update off;
proxy_cache_use_stale error timeout invalid_header http_500 http_502 http_503 http_504;
"""


def _forwarding(front: Front, settings: Settings) -> str:
    return f"""
# Another node is asked if one cannot be reached or breaks off. Statuses do not count: a node that says
# `queue-full`, or that a photograph is damaged, is well.
proxy_next_upstream error timeout invalid_header;
proxy_next_upstream_tries {min(len(front.nodes), 3)};
proxy_connect_timeout 1s;
proxy_send_timeout {_MARGIN_S}s;
proxy_read_timeout {_read_timeout_s(settings)}s;
proxy_http_version 1.1;
proxy_buffer_size 16k;
proxy_buffers 16 16k;
proxy_max_temp_file_size 0;
proxy_pass_request_body off;
proxy_set_header Host {quoted(_host(settings))};
proxy_set_header Connection "";
proxy_set_header Content-Length "";
proxy_set_header Accept $galerly_accept;
proxy_set_header Accept-Encoding "";
proxy_set_header Authorization "";
proxy_set_header Cookie $galerly_cookie;
proxy_set_header Galerly-Refresh "";
# The answer to a page of one origin is kept for the pages of all others.
proxy_set_header Origin "";
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_hide_header Cache-Status;
proxy_hide_header Server-Timing;
proxy_hide_header Vary;
proxy_hide_header CDN-Cache-Control;
"""


def _server(front: Front, settings: Settings) -> str:
    has_page = settings.browse and not settings.private_prefixes
    locations = "".join(
        (
            f"{_RESIZE}{_REFUSALS}{refresh.conditions(front)}{_pages(front, '@again')}{_PICTURES}}}\n",
            _private_locations(front, settings),
            f"{_ORIGINAL}{_REFUSALS}{_pages(front, '@again_uncached')}{_PASSED}}}\n",
            _AGAIN,
            _BROWSE if has_page else "",
            _NOTHING_ELSE,
            refresh.locations(front, settings),
            error_pages(_ERRORS, settings),
        )
    )
    return f"""
server {{
{_listen(front)}    server_name {front.server_name};
{_certificate(front)}    merge_slashes off;

{indented(_announcing_http3(locations, front))}}}
"""


def _listen(front: Front) -> str:
    """The addresses. nginx before 1.25.1 knows HTTP/2 as a word of `listen` only."""
    if not front.certificate:
        return "".join(f"    listen {one};\n" for one in front.listen)
    if not front.http3:
        return "".join(f"    listen {one} ssl http2;\n" for one in front.listen)
    lines = "".join(f"    listen {one} ssl;\n    listen {one} quic reuseport;\n" for one in front.listen)
    return f"{lines}    http2 on;\n"


def _certificate(front: Front) -> str:
    if not front.certificate:
        return ""
    return (
        f"    ssl_certificate {quoted(front.certificate)};\n"
        f"    ssl_certificate_key {quoted(front.certificate_key)};\n"
        "    ssl_protocols TLSv1.2 TLSv1.3;\n"
        "    ssl_session_cache shared:tls:10m;\n"
    )


def _announcing_http3(locations: str, front: Front) -> str:
    """The locations, which tell viewers where HTTP/3 is (RFC 7838): an address's port is the last listed."""
    if not front.http3:
        return locations
    port = front.listen[-1].rpartition(":")[2]
    return locations.replace(_VARY, f"{_VARY}    add_header Alt-Svc 'h3=\":{port}\"; ma=86400' always;\n")


_ERRORS = (
    (("400", "413", "497"), BadRequest()),
    (("404",), UnknownPath()),
    (("405",), MethodNotAllowed()),
    (("414",), UrlTooLong()),
    (("494",), HeadersTooLarge()),
    (("500", "502", "503", "504"), Unavailable()),
)
"""The statuses that nginx itself answers with, and the error that a viewer is told. A node's own errors are
passed on as they are."""
_REFUSALS = """\
    if ($galerly_refused) { return 400; }
    if ($galerly_method_refused) { return 405; }
"""
_VARY = "    add_header Vary $galerly_vary always;\n"
_PASSED = f"""\
    proxy_pass http://galerly_nodes$galerly_path$galerly_query;
    add_header Cache-Status $galerly_cache_status always;
    add_header Server-Timing $galerly_timing always;
{_VARY}"""
_PICTURES = f"""    proxy_cache $galerly_zone;
{_PASSED}"""
_RESIZE = """\
# Pictures. Parts (Range) are not cached: the node answers each request.
location /resize/ {
"""
_PRIVATE = """
# Private pictures: cached too, but each request is checked by a node, which answers 204 or 403. A request
# that is refused or cannot be checked is passed on, so that the viewer is told the node's reason.
"""
_PRIVATE_CHECKS = """\
    # A subrequest has another $uri: the maps of this one are read before it.
    if ($galerly_private = 0) { return 404; }
    if ($galerly_photo = "") { return 404; }
    auth_request /-galerly/authorize;
"""
_NO_NODE = "502"
"""What nginx answers if all nodes are left out, or have refused or broken the connection."""
_NOT_CHECKED = "500"
"""What nginx makes of other statuses than 2xx, 401 and 403 of the check, such as 414 for a long address."""
_ASK_NODE = f"""\
location = /-galerly/authorize {{
    internal;
    proxy_pass http://galerly_nodes/authorize$request_uri;
}}
location @node {{
{_PASSED}}}
"""
_ORIGINAL = """
# Originals are not cached; they are sent as they are read.
location /original/ {
"""
_AGAIN = f"""
# A request for which there was no node. A private one is not looked for in the cache, so a node checks it.
location @again {{
{_PICTURES}}}
location @again_uncached {{
{_PASSED}}}
""".replace("//galerly_nodes", "//galerly_all_nodes")
_BROWSE_BODY = f"""{_REFUSALS}    proxy_pass http://galerly_nodes$request_uri;
    proxy_pass_header Vary;
    proxy_set_header Host $http_host;
    proxy_set_header Connection "";
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
"""
_NOTHING_ELSE = """
# Nothing else is passed on; the admin side is not reached through a front.
location / { return 404; }

"""
_BROWSE = f"""
# The gallery page and its files.
location = / {{
{_BROWSE_BODY}}}
location /-/ {{
{_BROWSE_BODY}}}
"""


def _private_locations(front: Front, settings: Settings) -> str:
    """The locations of private pictures, and what they ask the node; empty without private folders."""
    patterns = private_patterns(settings, "^/resize/[^/]+/")
    if not patterns:
        return ""
    pages = _pages(front, "@again_uncached", _NOT_CHECKED) + "    error_page 403 = @node;\n"
    body = f"{_REFUSALS}{refresh.conditions(front)}{_PRIVATE_CHECKS}{pages}{_PICTURES}"
    locations = "".join(f"location ~ {quoted(pattern)} {{\n{body}}}\n" for pattern in patterns)
    return f"{_PRIVATE}{locations}{_ASK_NODE}"


def _pages(front: Front, again: str, *also: str) -> str:
    """The error pages of a location, which asks the nodes once more at `again` for `_NO_NODE` and `also`."""
    asked = (_NO_NODE, *also)
    own = [([status for status in statuses if status not in asked], error) for statuses, error in _ERRORS]
    refreshed = [((refresh.STATUS,), refresh.NAMED)] if front.secret_md5 else []
    return f"    recursive_error_pages on;\n{indented(error_page_lines([*own, *refreshed, (asked, again)]))}"


def _host(settings: Settings) -> str:
    """The Host header for the nodes: one by which they let pages of every site read pictures (CORS)."""
    return next((urlsplit(url).netloc for url in settings.public_urls), "localhost")


def _read_timeout_s(settings: Settings) -> int:
    """Longer than a node takes for any answer: a slow photograph must not look like a broken node."""
    stores_s = 2 * settings.store_deadline_s
    return math.ceil(settings.queue_wait_s + settings.render_deadline_s + stores_s) + _MARGIN_S


def _seconds(duration_s: float) -> str:
    return f"{max(1, math.ceil(duration_s))}s"
