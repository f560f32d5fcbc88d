"""Sends the requests of a viewer to a CDN: resolves its name, reads its certificate, fetches pictures."""

from __future__ import annotations

import json
import socket
import ssl
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import httpx

from galerly_cdn.errors import GalerlyError
from galerly_cdn.http import urls
from galerly_cdn.http.urls import AllowList, PictureRequest
from galerly_cdn.insight.doctor.url import ACCEPTS, Certificate, Picture, Response, UrlFacts, is_hit
from galerly_cdn.model import Format
from galerly_cdn.serialization import replaced
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from urllib.parse import SplitResult

_DEADLINE_S = 40.0
"""Above CloudFront's own limit for a miss: at worst 2 × 10 s of S3, then 30 s of the resizer."""
_MAX_REPEATED = 3
"""Requests for one picture again: the first may reach another cache than the one before."""
_SITE = "https://galerly-cdn-doctor.example"
"""The Origin of another site's page (RFC 2606 reserves the domain)."""
_DAY_S = 86400
_PREFIX = "galerly-cdn-doctor-"
"""Of what surely does not exist; the rest is random, so that no cache has a response."""
# OpenSSL, x509_vfy.h: X509_V_ERR_CERT_HAS_EXPIRED, …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH
_EXPIRED = 10
_OTHER_NAME = {62, 64}


def read(url: str, settings: Settings, now_s: float) -> UrlFacts:
    """The facts of the CDN at `url`, its address or that of one picture. `now_s` is the wall clock."""
    parts = urlsplit(url)
    addresses, problem = _resolve(parts)
    facts = UrlFacts(
        settings=settings,
        origin=_origin(parts),
        addresses=addresses,
        dns_problem=problem,
        listed={},
        unlisted={},
    )
    if problem:
        return facts
    # Without verification, so that one fault of the certificate does not hide all others. Nothing secret
    # is sent but the signature of an address that the operator gave.
    with httpx.Client(verify=False, timeout=_DEADLINE_S) as client:  # noqa: S501 - see above
        parts, unknown_path = _reach(client, parts)
        certificate = _certificate(parts, now_s) if parts.scheme == "https" else None
        facts = replaced(facts, origin=_origin(parts), certificate=certificate, unknown_path=unknown_path)
        return _with_pictures(client, parts, facts) if facts.is_answered else facts


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}"


def _reach(client: httpx.Client, parts: SplitResult) -> tuple[SplitResult, Response]:
    """The response for an unknown path, and the address, by https if the server redirects to that."""
    path = f"/{_PREFIX}{uuid.uuid4().hex}"
    response = _fetch(client, _origin(parts) + path)
    secure = urlsplit(response.headers.get("location", ""))
    if secure.scheme != "https" or secure.hostname != parts.hostname:
        return parts, response
    parts = parts._replace(scheme="https", netloc=secure.netloc)
    return parts, _fetch(client, _origin(parts) + path)


def _with_pictures(client: httpx.Client, parts: SplitResult, facts: UrlFacts) -> UrlFacts:
    """The facts with the responses for a missing photograph at all sizes, and for a given picture."""
    key = f"{_PREFIX}{uuid.uuid4().hex}/missing.jpg"
    listed, unlisted = (
        {one: _fetch(client, f"{facts.origin}/resize/{one}/{key}") for one in segments}
        for segments in _segments(facts.settings)
    )
    picture = _fetch_picture(client, parts, facts.settings)
    shown = picture.address if picture else f"{facts.origin}/{key}"
    # A server on loopback lets only pages of this machine read its responses
    page = facts.origin if urls.is_loopback(parts.netloc) else _SITE
    shared = _fetch(client, shown, {"origin": page})
    return replaced(facts, listed=listed, unlisted=unlisted, picture=picture, shared=shared)


def _resolve(parts: SplitResult) -> tuple[tuple[str, ...], str]:
    """The addresses of a host, or why it has none."""
    try:
        found = socket.getaddrinfo(parts.hostname, _port(parts), type=socket.SOCK_STREAM)
    except OSError as error:
        return (), f"{parts.hostname}: {error.strerror}"
    except UnicodeError:  # a label is empty, or longer than 63 bytes (RFC 1035 §2.3.4)
        return (), f"{parts.hostname} is no host name"
    return tuple(dict.fromkeys(str(address[0]) for *_, address in found)), ""


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _certificate(parts: SplitResult, now_s: float) -> Certificate | None:
    """What this machine thinks of a server's certificate; None if there was no connection.

    OpenSSL reports the first fault: of the chain, then of the name, then of the time. A connection that does
    not check the name therefore shows the time also under another name.
    """
    try:
        expires_s, problem = _handshake(parts, checks_name=False)
        _, named_problem = _handshake(parts, checks_name=True)
    except OSError:
        return None
    is_expired = problem is not None and problem.verify_code == _EXPIRED
    has_other_name = named_problem is not None and named_problem.verify_code in _OTHER_NAME
    return Certificate(
        days_left=-1.0 if is_expired else None if problem else (expires_s - now_s) / _DAY_S,
        trust_problem="" if problem is None or is_expired else problem.verify_message,
        name_problem=named_problem.verify_message if named_problem is not None and has_other_name else "",
    )


def _handshake(parts: SplitResult, *, checks_name: bool) -> tuple[float, ssl.SSLCertVerificationError | None]:
    """When the certificate expires, in seconds of the epoch, or why it is not trusted. Raises `OSError`."""
    context = ssl.create_default_context()
    context.check_hostname = checks_name
    host = parts.hostname or ""
    try:
        with (
            socket.create_connection((host, _port(parts)), _DEADLINE_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as wrapped,
        ):
            certificate = wrapped.getpeercert() or {}
    except ssl.SSLCertVerificationError as error:
        return 0.0, error
    return float(ssl.cert_time_to_seconds(str(certificate["notAfter"]))), None


def _segments(settings: Settings) -> tuple[list[str], list[str]]:
    """The sizes' segments of URLs that the settings allow, and others that a server may allow.

    The others are sizes beside the listed ones, those of the default settings, and formats that a listed
    size is not offered in.
    """
    rules = settings.size_rules
    allowed = [str(target) for rule in rules for target in rule.all_targets]
    allowed += [rule.name for rule in rules if rule.name]
    first = rules[0].size
    others = [f"{first.width_px + 1}x{first.height_px}"]
    others += [str(rule.size) for rule in Settings().size_rules]
    others += [f"{rule.size}.{form}" for rule in rules for form in Format]
    return list(dict.fromkeys(allowed)), [one for one in dict.fromkeys(others) if one not in allowed]


def _fetch_picture(client: httpx.Client, parts: SplitResult, settings: Settings) -> Picture | None:
    """The responses for one picture; None if the address is not a picture's."""
    if not parts.path.startswith("/resize/"):
        return None
    try:
        request = urls.parse(parts.path.encode("ascii", "replace"), AllowList(settings.size_rules))
    except GalerlyError:
        request = None
    is_negotiated = isinstance(request, PictureRequest) and request.target.format is None
    offered = request.offered if isinstance(request, PictureRequest) and is_negotiated else ()
    address = parts._replace(fragment="").geturl()
    by_accept = tuple(_fetch(client, address, {"accept": accept}) for accept in ACCEPTS)
    return Picture(
        address=address,
        offered=offered,
        is_signed="Signature" in parse_qs(parts.query),
        by_accept=by_accept,
        repeated=tuple(_repeat(client, address)),
    )


def _repeat(client: httpx.Client, address: str) -> Iterator[Response]:
    """Responses to the last request again, until one came from a cache."""
    for _ in range(_MAX_REPEATED):
        response = _fetch(client, address, {"accept": ACCEPTS[-1]})
        yield response
        if is_hit(response):
            return


def _fetch(client: httpx.Client, url: str, headers: dict[str, str] | None = None) -> Response:
    """The response to a GET. Raises nothing.

    A redirect to a stored picture (AWS, above 4.5 MB) is followed: it leads to the same path.
    """
    try:
        response = client.get(url, headers={"accept": "*/*", **(headers or {})})
        location = response.headers.get("location", "")
        if response.status_code == 302 and "stored=1" in location:
            response = client.get(response.url.join(location), headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return Response(0, {}, problem=str(error) or type(error).__name__)
    received = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, received, _code(response))


def _code(response: httpx.Response) -> str:
    """The code in the JSON of an error; empty for any other body."""
    if response.headers.get("content-type") != "application/json":
        return ""
    try:
        return str(json.loads(response.content)["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return ""
