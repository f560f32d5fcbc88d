"""Defines every setting once: name, type, unit, default and description. `load` reads them.

docs/settings.md is generated from this table.
"""

from __future__ import annotations

import functools
from typing import Annotated, Literal

from galerly_cdn.model import Limits, SizeRule, Target
from galerly_cdn.serialization import Meta, Value, describe_fields
from galerly_cdn.settings.expire import ExpireRule, parse_expire
from galerly_cdn.settings.networks import Networks
from galerly_cdn.settings.sizes import choose_sizes, named, parse_sizes

PREFIX = "GALERLY_"
_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_MAX_NUMBER = 2**53 - 1
"""The largest integer that JSON, and every system call that a setting reaches, represents exactly."""
_WEEK_S = 7 * 24 * 3600

Positive = Annotated[int, Meta(ge=1, le=_MAX_NUMBER)]
Natural = Annotated[int, Meta(ge=0, le=_MAX_NUMBER)]
Seconds = Annotated[float, Meta(gt=0, le=_WEEK_S)]
HeaderValue = Annotated[str, Meta(pattern=r"^[ -~]*\Z")]


class Settings(Value, frozen=True, kw_only=True, dict=True):
    """All settings. Times are in seconds, sizes in bytes; a description says what 0 means."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address to listen on, or `unix:/run/galerly-cdn/public.sock`. Any other than "
            "loopback is public.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            ge=0, le=65535, description="TCP port to listen on; 0 takes any free one. A unix socket has none."
        ),
    ] = 8000
    store: Annotated[
        str,
        Meta(
            description="Folder or address (`s3://bucket`, `gs://…`, `az://…`) with the originals in "
            "`originals/` and the renditions in `resized/`. Uploads are accepted."
        ),
    ] = ""
    admin: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^/?#@]+/?)?\Z",
            description="Address of a running CDN's admin API (`http://127.0.0.1:8001`) that the commands "
            "use instead of a store.",
        ),
    ] = ""
    writable: Annotated[
        bool,
        Meta(description="Accept uploads into a plain folder of photographs too; a `store` always does."),
    ] = False
    renditions: Annotated[
        str,
        Meta(
            description="Folder or address for the renditions. Empty: `resized/` of the store, or one folder "
            "per originals root in the user's cache folder."
        ),
    ] = ""
    store_endpoint: Annotated[
        str,
        Meta(
            description="Address of an S3-compatible server (`https://s3.example.com`). Empty: AWS. "
            "Not given: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`, which AWS's own tools read too."
        ),
    ] = ""
    store_fresh_s: Annotated[
        float,
        Meta(
            ge=0,
            le=60,
            description="How long a remote original's version is cached: a replaced photograph shows after "
            "at most this time. At most one request per original and period goes to the store.",
        ),
    ] = 1.0
    stale_if_error_s: Annotated[
        Natural, Meta(description="How old the last known pictures may be while the store cannot be reached.")
    ] = 24 * 3600
    store_deadline_s: Annotated[
        Seconds, Meta(description="Time limit of one request to a remote store, its retries included.")
    ] = 10.0
    renditions_bytes: Annotated[
        Positive,
        Meta(description="Bytes of all renditions on disk; above it, the least recently used are removed."),
    ] = 10 * _GIB
    memory_cache_bytes: Annotated[
        Natural, Meta(description="Bytes of hot renditions kept in memory; 0 keeps none.")
    ] = 64 * _MIB
    sizes: Annotated[
        tuple[str, ...],
        Meta(
            description="The allow-list, one size per line: `name WxH format=quality …`. The name is "
            "optional; jpeg is always offered, png always for pictures with alpha. A size without a name is "
            "a candidate of `srcset`: it is not warmed, and the lightbox does not use it. If no size has a "
            "name, all count as named."
        ),
    ] = (
        "tiny 150x150 jpeg=85 webp=86 avif=74",
        "small 400x400 jpeg=85 webp=86 avif=74",
        "thumbnail 800x600 jpeg=86 webp=88 avif=74",
        "medium 2000x2000 jpeg=86 webp=90 avif=76",
        "280x280 jpeg=85 webp=85 avif=74",
        "540x540 jpeg=85 webp=89 avif=75",
        "880x880 jpeg=86 webp=89 avif=75",
        "1200x1200 jpeg=86 webp=90 avif=75",
        "2560x2560 jpeg=86 webp=91 avif=76",
    )
    warm_sizes: Annotated[
        tuple[str, ...],
        Meta(
            description="Sizes of the allow-list, by name or as `WxH`, that `warm`, `warm_on_upload` and "
            "prewarm on AWS render in advance. Empty: those with a name, or all if none has one."
        ),
    ] = ()
    keep_copyright: Annotated[
        bool, Meta(description="Keep copyright and creator in the renditions; all other metadata is removed.")
    ] = False
    max_megapixels: Annotated[
        Positive,
        Meta(description="Largest original, width × height × frames; checked before a pixel is decoded."),
    ] = 100
    max_original_bytes: Annotated[
        Positive, Meta(description="Largest file of an original that is rendered or uploaded.")
    ] = 64 * _MIB
    max_frames: Annotated[Positive, Meta(description="Maximum frames or pages of an original.")] = 256
    max_coefficient_bytes: Annotated[
        Positive,
        Meta(description="Maximum memory for a progressive JPEG's coefficients, which no shrink reduces."),
    ] = 512 * _MIB
    workers: Annotated[int, Meta(ge=0, le=256, description="Render worker processes; 0 is one per core.")] = 0
    processes: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that answer viewers. The first one renders, refuses and does all else; "
            "the others answer public pictures that are stored in a folder. They share `memory_cache_bytes` "
            "and every limit. More than 1 needs Linux; with TLS or a remote store one process answers all.",
        ),
    ] = 1
    worker_memory_bytes: Annotated[
        Positive, Meta(description="Address space of one worker; a render that needs more memory fails.")
    ] = 2 * _GIB
    worker_rss_bytes: Annotated[
        Positive,
        Meta(description="Resident memory above which a worker is replaced after a render."),
    ] = 256 * _MIB
    worker_renders: Annotated[
        Positive, Meta(description="A worker is replaced after this many renders, whatever its size.")
    ] = 2000
    render_deadline_s: Annotated[
        Seconds,
        Meta(
            description="Wall time limit of one render; after it the worker is killed and the answer is 504."
        ),
    ] = 10.0
    render_memory_bytes: Annotated[
        Positive,
        Meta(description="Decoding memory of all renders together; heavy originals wait for each other."),
    ] = 768 * _MIB
    queue_wait_s: Annotated[
        Seconds,
        Meta(
            description="How long a render may wait for a worker: one that would wait longer, by the recent "
            "render times, gets 503 at once, with the expected wait as `Retry-After`."
        ),
    ] = 5.0
    queue_renders: Annotated[
        Natural,
        Meta(description="Renders that may wait for a worker, however short; further ones get 503 at once."),
    ] = 1024
    queue_bytes: Annotated[
        Positive,
        Meta(description="Bytes of the originals whose renders may wait; above it, renders get 503 at once."),
    ] = 4 * _GIB
    quarantine_s: Annotated[
        Seconds,
        Meta(
            description="How long an original that crashed two workers, or used `render_deadline_s` of CPU "
            "time twice, is answered 415 without another render."
        ),
    ] = 60.0
    header_deadline_s: Annotated[
        Seconds,
        Meta(description="Time limit for a request's headers to arrive; protects against slowloris attacks."),
    ] = 10.0
    idle_s: Annotated[Seconds, Meta(description="How long an idle keep-alive connection stays open.")] = 60.0
    write_deadline_s: Annotated[
        Seconds,
        Meta(description="How long a viewer may leave an answer unread before the connection is closed."),
    ] = 30.0
    max_connections: Annotated[Positive, Meta(description="Open connections in total.")] = 4096
    max_connections_per_client: Annotated[
        Positive, Meta(description="Open connections of one address; loopback is exempt.")
    ] = 256
    misses_per_minute_per_client: Annotated[
        Natural,
        Meta(
            description="Pictures that one address (in IPv6 one /64) may have rendered in a minute, and "
            "missing originals that it may request; further requests get 503. 0 is no limit; loopback has "
            "none."
        ),
    ] = 3000
    misses_per_minute: Annotated[
        Natural,
        Meta(
            description="Pictures that all addresses together may have rendered in a minute; 0 is no limit."
        ),
    ] = 60_000
    drain_delay_s: Annotated[
        float,
        Meta(
            ge=0,
            le=3600,
            description="How long requests are still answered after SIGTERM, while `readyz` says `draining` "
            "and every answer has `Connection: close`. It should be longer than a load balancer takes to "
            "notice: in Kubernetes 15. 0 is for a server that nothing balances.",
        ),
    ] = 0.0
    drain_s: Annotated[
        Seconds,
        Meta(
            description="How long answers in progress may take to finish after SIGTERM and `drain_delay_s`."
        ),
    ] = 30.0
    expire: Annotated[
        tuple[str, ...],
        Meta(
            description="What `store clean --expired` removes, one line each: `gallery days`, such as "
            "`clients/* 90`; the first line that matches counts. `*` stands for any part of a name, `**` for "
            "any galleries. It removes renditions that were stored (in a folder: last read) so many days "
            "ago; with the word `originals` after the days also photographs that were uploaded then (in a "
            "folder: the file's modification time). The server removes nothing by it."
        ),
    ] = ()
    browse: Annotated[
        bool,
        Meta(
            description="Serve the gallery page on a public address too. On loopback it is served unless "
            "`private_prefixes` is set."
        ),
    ] = False
    private_prefixes: Annotated[
        tuple[str, ...],
        Meta(
            description="Folders whose pictures need a signed request. Keys are `prefix/gallery/photo`, "
            "exactly two segments under it; `/` is every folder. The gallery page is off then."
        ),
    ] = ()
    sign_originals: Annotated[
        bool,
        Meta(
            description="Originals (`/original/…`) need a signed request, in public folders too; without "
            "`public_keys` they are not served. If false, every picture in a public folder can be "
            "downloaded (on AWS every file), and no file of another kind (415)."
        ),
    ] = True
    public_keys: Annotated[
        str,
        Meta(description="Folder of the public keys, `{id}.pem` each, that signatures are verified with."),
    ] = ""
    signing_key: Annotated[
        str,
        Meta(
            description="File of a private key, `{id}.private.pem`, with which the dashboard signs links to "
            "private galleries; its public key is in `public_keys`. Empty: the dashboard signs none."
        ),
    ] = ""
    public_urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Scheme and host that URLs are signed for; a request's Host header is never trusted."
        ),
    ] = ()
    distribution: Annotated[
        str,
        Meta(
            pattern=r"^([A-Z0-9]{8,32})?\Z",
            description="ID of the CloudFront distribution in front of the `s3://` store: purged, replaced "
            "and deleted photographs are invalidated there too. `galerly-cdn aws deploy` prints it.",
        ),
    ] = ""
    fronts: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of the fronts (`http://10.0.0.8`) from whose caches a changed photograph "
            "is dropped at once. It takes the admin API's token, here and where `galerly-cdn nginx` prints "
            "their configuration."
        ),
    ] = ()
    nodes: Annotated[
        tuple[str, ...],
        Meta(
            description="Addresses of the admin APIs of all nodes (`http://10.0.0.1:8001`): each forgets a "
            "changed photograph at once. This process's own may be among them."
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR) of proxies whose `X-Forwarded-For` names the viewer; `unix:` stands "
            "for those on a unix socket."
        ),
    ] = ()
    proxy_protocol: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks (CIDR), or `unix:`, of proxies that begin each connection to the public "
            "port with a PROXY protocol header (version 1 or 2): the client is the one that it names. A "
            "connection of theirs without one is closed; a header of any other client is a bad request."
        ),
    ] = ()
    tls_certificate: Annotated[
        str,
        Meta(
            description="File of the certificate and its chain, in PEM; with it, HTTPS replaces HTTP. A "
            "renewed file is used without a restart."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="File of the certificate's key, in PEM, unencrypted.")] = ""
    health_path: Annotated[
        str,
        Meta(
            pattern=r"^((?!/(?:-|authorize|resize|original)(?:/|\Z))(/[A-Za-z0-9_-]+)+)?\Z",
            description="Path on the public port below which `livez` and `readyz` are, for load balancers: "
            "`/health` gives `/health/readyz`. Empty: only the admin API has them.",
        ),
    ] = ""
    admin_port: Annotated[
        int,
        Meta(
            ge=-1,
            le=65535,
            description="TCP port of the admin API: uploads, purge, health, metrics. -1 is none, "
            "0 takes any free one; on a unix socket any port from 0 on means that there is one.",
        ),
    ] = -1
    admin_host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address of the admin API, or `unix:/run/galerly-cdn/admin.sock`. Any other than "
            "loopback needs `admin_token_file`.",
        ),
    ] = "127.0.0.1"
    admin_token_file: Annotated[
        str,
        Meta(
            description="File with the admin API's bearer tokens, one per line. If empty, an admin API on "
            "loopback accepts every user of this machine."
        ),
    ] = ""
    warm_on_upload: Annotated[
        bool,
        Meta(
            description="Render an upload at once, in the sizes of `warm_sizes` and every format that "
            "`Accept` may choose; viewers' renders go first."
        ),
    ] = False
    access_log: Annotated[
        bool,
        Meta(description="One line per request on stdout: JSON, or readable text if stdout is a terminal."),
    ] = True
    traces: Annotated[
        bool,
        Meta(
            description="Send OpenTelemetry traces of viewers' requests. It needs `galerly-cdn[otel]`; the "
            "variables `OTEL_…` say where and how many (docs/logs.md)."
        ),
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least severe messages that are logged on stderr."),
    ] = "warning"
    lost_header: Annotated[
        bool, Meta(description="List the losses of a rendition in the header `Galerly-Lost`.")
    ] = False
    allow_origin: Annotated[
        HeaderValue,
        Meta(description="`Access-Control-Allow-Origin` of public answers; if empty, it is not sent."),
    ] = "*"
    timing_allow_origin: Annotated[
        HeaderValue, Meta(description="`Timing-Allow-Origin` of public answers; if empty, it is not sent.")
    ] = "*"
    resource_policy: Annotated[
        str,
        Meta(
            pattern=r"^(cross-origin|same-site|same-origin)?\Z",
            description="`Cross-Origin-Resource-Policy` of public answers; if empty, it is not sent.",
        ),
    ] = "cross-origin"

    # Parsed on first use, once: `load` has checked every value, so none of these raises.

    @functools.cached_property
    def limits(self) -> Limits:
        """The limits that an original's header is checked against."""
        return Limits(self.max_megapixels * 1_000_000, self.max_frames, self.max_coefficient_bytes)

    @functools.cached_property
    def size_rules(self) -> tuple[SizeRule, ...]:
        """The allow-list: one rule a line of `sizes`."""
        return parse_sizes(self.sizes)

    @functools.cached_property
    def expire_rules(self) -> tuple[ExpireRule, ...]:
        """What expires: one rule a line of `expire`."""
        return parse_expire(self.expire)

    @functools.cached_property
    def all_targets(self) -> tuple[Target, ...]:
        """Every target of the allow-list: all that may be stored of an original."""
        return tuple(target for rule in self.size_rules for target in rule.all_targets)

    @functools.cached_property
    def warm_targets(self) -> tuple[Target, ...]:
        """What is warmed: `warm_sizes` in the original's own format and those that `Accept` may choose."""
        rules = choose_sizes(self.size_rules, self.warm_sizes) if self.warm_sizes else named(self.size_rules)
        return tuple(sorted((target for rule in rules for target in rule.targets), key=str))

    @functools.cached_property
    def trusted_networks(self) -> Networks:
        """The clients of `trusted_proxies`."""
        return Networks(self.trusted_proxies)

    @functools.cached_property
    def proxy_protocol_networks(self) -> Networks:
        """The clients of `proxy_protocol`."""
        return Networks(self.proxy_protocol)


DESCRIBED = describe_fields(Settings)
