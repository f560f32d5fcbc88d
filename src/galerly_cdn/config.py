"""Every setting once: name, type, unit, default, and why. The only reader of the environment.

A setting comes from, in falling order: the command line, `GALERLY_{NAME}`, the TOML file, its default.
The settings page of the docs is made from this table.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import platformdirs

from galerly_cdn.errors import SettingsError
from galerly_cdn.model import (
    Limits,
    Meta,
    SizeRule,
    ValidationError,
    Value,
    convert,
    describe,
)
from galerly_cdn.sizes import allow_list

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
PREFIX = "GALERLY_"
_MIB = 1024 * 1024
_GIB = 1024 * _MIB

_MAX_NUMBER = 2**53 - 1
"""The largest integer that JSON, and every system call a setting reaches, takes as it is."""
_WEEK_S = 7 * 24 * 3600

Positive = Annotated[int, Meta(ge=1, le=_MAX_NUMBER)]
Natural = Annotated[int, Meta(ge=0, le=_MAX_NUMBER)]
Seconds = Annotated[float, Meta(gt=0, le=_WEEK_S)]
HeaderValue = Annotated[str, Meta(pattern=r"^[ -~]*\Z")]


class Settings(Value, frozen=True, kw_only=True):
    """The settings, flat. 0 means what its line says; times are seconds, sizes bytes."""

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on. Any other than loopback is public.")
    ] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port to listen on; 0 takes any free one.")] = (
        8000
    )
    renditions: Annotated[
        str,
        Meta(
            description="Folder for the renditions. Empty: one per originals root in the user's cache folder."
        ),
    ] = ""
    renditions_bytes: Annotated[
        Positive, Meta(description="Bytes the renditions may take on disk; the least recently used go first.")
    ] = 10 * _GIB
    memory_cache_bytes: Annotated[
        Natural, Meta(description="Bytes of hot renditions kept in memory; 0 keeps none.")
    ] = 64 * _MIB
    sizes: Annotated[
        tuple[str, ...],
        Meta(
            description="The allow-list, one size a line: `name WxH format=quality …`. The name may be left "
            "out; jpeg is always offered, png always to pictures with alpha."
        ),
    ] = (
        "tiny 150x150 jpeg=85 webp=86 avif=74",
        "small 400x400 jpeg=85 webp=86 avif=74",
        "thumbnail 800x600 jpeg=85 webp=88 avif=74",
        "medium 2000x2000 jpeg=85 webp=90 avif=76",
    )
    keep_copyright: Annotated[
        bool, Meta(description="Keep copyright and creator in the renditions; all other metadata is dropped.")
    ] = False
    max_megapixels: Annotated[
        Positive,
        Meta(description="Largest original, width × height × frames, read before a pixel is decoded."),
    ] = 100
    max_original_bytes: Annotated[
        Positive, Meta(description="Largest original's file on the render path.")
    ] = 64 * _MIB
    max_frames: Annotated[Positive, Meta(description="Most frames or pages of an original.")] = 256
    max_coefficient_bytes: Annotated[
        Positive,
        Meta(
            description="Most memory for a progressive JPEG's coefficients, which no shrink factor lessens."
        ),
    ] = 512 * _MIB
    workers: Annotated[int, Meta(ge=0, le=256, description="Render worker processes; 0 is one per core.")] = 0
    worker_memory_bytes: Annotated[
        Positive, Meta(description="Address space of one worker; over it the render fails, not the machine.")
    ] = 2 * _GIB
    worker_rss_bytes: Annotated[
        Positive,
        Meta(description="A worker resident above this after a render is replaced: allocators fragment."),
    ] = 256 * _MIB
    worker_renders: Annotated[
        Positive, Meta(description="A worker is replaced after this many renders, whatever its size.")
    ] = 2000
    render_deadline_s: Annotated[
        Seconds, Meta(description="Wall time of one render; over it the worker is killed, the answer is 504.")
    ] = 10.0
    render_memory_bytes: Annotated[
        Positive,
        Meta(description="Decoding memory of all renders at once; heavy originals wait for each other."),
    ] = 768 * _MIB
    queue_renders: Annotated[
        Natural, Meta(description="Renders that may wait for a worker; one more is 503 at once.")
    ] = 256
    queue_bytes: Annotated[
        Positive, Meta(description="Bytes of the originals whose renders may wait; over it 503 at once.")
    ] = 4 * _GIB
    quarantine_s: Annotated[
        Seconds, Meta(description="How long an original that ended two workers is answered 415 untried.")
    ] = 600.0
    header_deadline_s: Annotated[
        Seconds, Meta(description="Time for a request's headers to arrive; slowloris is cut off.")
    ] = 10.0
    idle_s: Annotated[Seconds, Meta(description="How long an idle keep-alive connection stays open.")] = 60.0
    write_deadline_s: Annotated[
        Seconds, Meta(description="How long a viewer may leave an answer unread before the connection ends.")
    ] = 30.0
    max_connections: Annotated[Positive, Meta(description="Open connections in all.")] = 4096
    max_connections_per_client: Annotated[
        Positive, Meta(description="Open connections of one address; loopback is exempt.")
    ] = 256
    drain_s: Annotated[
        Seconds, Meta(description="After SIGTERM, how long answers under way may take to finish.")
    ] = 30.0
    browse: Annotated[
        bool, Meta(description="Serve the browsing page on a public address too; on loopback it always is.")
    ] = False
    private_prefixes: Annotated[
        tuple[str, ...],
        Meta(
            description="Folders whose pictures only signed requests get: `prefix/gallery/photo`, "
            "exactly two segments under it; `/` is every folder. The page is off then."
        ),
    ] = ()
    sign_originals: Annotated[
        bool,
        Meta(
            description="Originals (`/original/…`) are for signed requests alone, in public folders too; "
            "without `public_keys` for nobody."
        ),
    ] = True
    public_keys: Annotated[
        str, Meta(description="Folder of the public keys, `{id}.pem` each, that signatures are verified by.")
    ] = ""
    public_urls: Annotated[
        tuple[str, ...],
        Meta(
            description="Scheme and host that addresses are signed for; a request's Host is never believed."
        ),
    ] = ()
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(description="Networks (CIDR) of proxies whose `X-Forwarded-For` names the viewer."),
    ] = ()
    tls_certificate: Annotated[
        str,
        Meta(
            description="File of the certificate and its chain, in PEM: HTTPS instead of HTTP. A renewed "
            "file is used without a restart."
        ),
    ] = ""
    tls_key: Annotated[str, Meta(description="File of the certificate's key, in PEM, unencrypted.")] = ""
    access_log: Annotated[bool, Meta(description="One JSON line per request on stdout.")] = True
    lost_header: Annotated[
        bool, Meta(description="Say in a `Galerly-Lost` header what a rendition has lost.")
    ] = False
    allow_origin: Annotated[
        HeaderValue, Meta(description="`Access-Control-Allow-Origin` of public answers; empty leaves it out.")
    ] = "*"
    timing_allow_origin: Annotated[
        HeaderValue, Meta(description="`Timing-Allow-Origin` of public answers; empty leaves it out.")
    ] = "*"
    resource_policy: Annotated[
        str,
        Meta(
            pattern=r"^(cross-origin|same-site|same-origin)?\Z",
            description="`Cross-Origin-Resource-Policy` of public answers; empty leaves it out.",
        ),
    ] = "cross-origin"

    @property
    def limits(self) -> Limits:
        """What an original may ask of the renderer."""
        return Limits(self.max_megapixels * 1_000_000, self.max_frames, self.max_coefficient_bytes)

    @property
    def size_rules(self) -> tuple[SizeRule, ...]:
        """The allow-list's rules; `load` has checked them."""
        return allow_list(self.sizes)


DESCRIBED = describe(Settings)


class Loaded(Value, frozen=True):
    """The settings, and where each came from: `default`, the file's name, a variable, `--option`."""

    settings: Settings
    origin: dict[str, str]


def load(
    options: Mapping[str, Any] | None = None,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Settings from options (None: not given) over environment over file over defaults.

    Raises `SettingsError` with one line for every unknown or impossible setting.
    """
    variables = os.environ if environment is None else environment
    layers: list[tuple[str, dict[str, Any]]] = []
    problems: list[str] = []
    if file is not None:
        layers.append((str(file), _read_file(file)))
    layers.append((PREFIX, _read_variables(variables)))
    layers.append(("--", {name: value for name, value in (options or {}).items() if value is not None}))
    values: dict[str, Any] = {}
    origin = {setting.name: "default" for setting in DESCRIBED}
    for place, layer in layers:
        for name, raw in layer.items():
            try:
                values[name] = _checked(name, raw)
                origin[name] = _spelt(place, name)
            except (KeyError, ValueError) as problem:
                problems.append(_sentence(place, name, raw, problem))
    problems.extend(_contradictions(values))
    if problems:
        raise SettingsError(problems)
    return Loaded(Settings(**values), origin)


def renditions_folder(settings: Settings, photographs: Path) -> Path:
    """Where the renditions of a folder of photographs live: one folder per originals root."""
    if settings.renditions:
        return Path(settings.renditions).absolute()
    root = hashlib.sha256(os.fsencode(photographs.resolve())).hexdigest()[:16]
    return Path(platformdirs.user_cache_path("galerly-cdn", appauthor=False)) / root


def _check_prefixes(prefixes: tuple[str, ...]) -> None:
    """Raises `ValueError`; `*/a/smith/*` would match in `b/a/smith/…` too, were `b/a` private as `a` is."""
    for one in prefixes:
        if one != "/" and (not one.strip("/") or one != one.strip("/") or "//" in one):
            raise ValueError(f"{one!r} is no folder: write `clients` or `clients/2026`, `/` for all")
        if any(other != one and (other == "/" or f"/{other}/" in f"/{one}/") for other in prefixes):
            raise ValueError(f"{one!r} holds another prefix: a policy of one would open the other")


def _check_public_urls(public_urls: tuple[str, ...]) -> None:
    for one in public_urls:
        if not _PUBLIC_URL.fullmatch(one):
            raise ValueError(f"{one!r} is no scheme and host in lower case: write `https://cdn.example.com`")


def _check_networks(networks: tuple[str, ...]) -> None:
    for one in networks:
        ipaddress.ip_network(one)


_PUBLIC_URL = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_LISTS: dict[str, Callable[[tuple[str, ...]], object]] = {
    "sizes": allow_list,
    "private_prefixes": _check_prefixes,
    "public_urls": _check_public_urls,
    "trusted_proxies": _check_networks,
}
_TYPES = {setting.name: setting.type for setting in DESCRIBED}


def _checked(name: str, raw: object) -> object:
    """`raw` as the setting's type. Raises `KeyError` (unknown) or `ValueError` (impossible)."""
    kind = _TYPES[name]
    check = _LISTS.get(name)
    if check is not None:
        lines = [line for line in raw.split(";") if line.strip()] if isinstance(raw, str) else raw
        listed: tuple[str, ...] = convert(tuple[str, ...], lines)
        check(listed)
        return listed
    return convert(kind, raw)


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """Settings that are possible alone and not together."""
    defaults = {setting.name: setting.default for setting in DESCRIBED}
    together = {**defaults, **values}
    problems = []
    if together["worker_rss_bytes"] >= together["worker_memory_bytes"]:
        problems.append(
            "worker_rss_bytes must be below worker_memory_bytes: no worker would ever be replaced"
        )
    if together["max_coefficient_bytes"] >= together["worker_memory_bytes"]:
        problems.append(
            "max_coefficient_bytes must be below worker_memory_bytes: allowed originals would fail"
        )
    if bool(together["tls_certificate"]) != bool(together["tls_key"]):
        problems.append("tls_certificate and tls_key: one is of no use without the other")
    if together["queue_bytes"] < together["max_original_bytes"]:
        problems.append("queue_bytes must be at least max_original_bytes: allowed originals could never wait")
    if together["private_prefixes"]:
        problems += [
            f"private_prefixes needs {name}: no signature could be verified"
            for name in ("public_keys", "public_urls")
            if not together[name]
        ]
        if together["browse"]:
            problems.append("browse and private_prefixes: the page would show what is private")
    elif together["public_keys"] and not together["public_urls"]:
        problems.append("public_keys needs public_urls: no signature could be verified")
    return problems


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SettingsError([f"{file}: {error.strerror}"]) from error
    except ValueError as error:  # not UTF-8, or not TOML
        raise SettingsError([f"{file}: {error}"]) from error


def _read_variables(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(PREFIX).lower(): value
        for name, value in variables.items()
        if name.startswith(PREFIX) and name != _CONFIG
    }


_CONFIG = PREFIX + "CONFIG"
"""Names the TOML file, so it is no setting."""


def _spelt(place: str, name: str) -> str:
    if place == PREFIX:
        return PREFIX + name.upper()
    if place == "--":
        return "--" + name.replace("_", "-")
    return place


def _sentence(place: str, name: str, raw: object, problem: Exception) -> str:
    """Where, what was expected, what was got: one line."""
    where = _spelt(place, name) if place in {PREFIX, "--"} else f"{place}: {name}"
    if isinstance(problem, KeyError):
        return f"{where}: there is no setting {name!r}; `galerly-cdn config` lists them all"
    if isinstance(problem, ValidationError):
        expected = str(problem).partition(", got ")[0]
        return f"{where}: {expected[:1].lower()}{expected[1:]}, got {raw!r}"
    return f"{where}: {problem}"
