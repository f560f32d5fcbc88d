"""Decides on the responses of a running CDN: certificate, statuses, sizes, lifetimes, headers. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.access.authorizer import private_folders
from galerly_cdn.errors import FormatNotAllowed, SizeNotAllowed
from galerly_cdn.http import lifetimes
from galerly_cdn.http.negotiation import negotiate
from galerly_cdn.insight.doctor.checks import (
    Check,
    Result,
    Status,
    Subject,
    Symptom,
    judged,
    skipped,
    some,
)
from galerly_cdn.model import Format
from galerly_cdn.serialization import Value
from galerly_cdn.settings.table import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCEPTS = ("image/avif,image/webp,*/*", "image/webp,*/*", "image/jpeg,image/png")
"""Of browsers that show AVIF, WebP, and neither, in the order in which they are sent."""
_REFUSALS = {SizeNotAllowed.code, FormatNotAllowed.code}
_MAX_AGE = re.compile(r"(?:^|[ ,])max-age=([0-9]+)")
_CACHE_HIT = re.compile(r"(?i);\s*hit\b")
_MAX_MISSING_S = 60
"""The longest lifetime of a 404: that of an unknown path. An upload appears after it at the latest."""
_NO_PICTURE = "give the address of a picture, --url https://HOST/resize/SIZE/KEY, or a --store"
_RENEWAL_DAYS = 14
"""Programs that renew certificates do so at least this many days before the expiry."""


class Response(Value, frozen=True):
    """The status and headers of a response; `status` is 0 if there is none, and `problem` says why."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    code: str = ""
    """The code in the JSON of an error."""
    problem: str = ""

    def __str__(self) -> str:
        return self.problem or f"{self.status} {self.code}".rstrip()


class Certificate(Value, frozen=True):
    """What a client with this machine's trusted authorities thinks of a certificate."""

    days_left: float | None = None
    """Until its expiry, below 0 after it; None if it is not trusted for another reason."""
    trust_problem: str = ""
    """Why its chain is not trusted, apart from expiry and name."""
    name_problem: str = ""


class Picture(Value, frozen=True, kw_only=True):
    """The responses to requests for one picture."""

    address: str
    offered: tuple[Format, ...]
    """The formats that the settings offer for it; empty if its address names one."""
    is_signed: bool
    by_accept: tuple[Response, ...]
    """One for each of `ACCEPTS`."""
    repeated: tuple[Response, ...]
    """To the last request again, until one came from a cache."""


class UrlFacts(Value, frozen=True, kw_only=True):
    """What a viewer gets of a CDN. Requests after a failed one are not sent: their responses are None."""

    settings: Settings
    origin: str
    """Scheme, host and port."""
    addresses: tuple[str, ...]
    dns_problem: str = ""
    certificate: Certificate | None = None
    """None for http."""
    unknown_path: Response | None = None
    listed: dict[str, Response]
    """To requests for a missing photograph, by the segment of the URL, for all that the settings allow."""
    unlisted: dict[str, Response]
    """Likewise, for some that the settings do not allow."""
    shared: Response | None = None
    """To a request of another site's page; of a page of this machine on a loopback address."""
    picture: Picture | None = None

    @property
    def is_answered(self) -> bool:
        """Whether a CDN answered, and not a proxy that reaches none."""
        first = self.unknown_path
        return first is not None and not first.problem and first.status < 500


def _name(facts: UrlFacts) -> Result:
    return judged(facts.dns_problem or some(facts.addresses), is_ok=not facts.dns_problem)


def _if_answered(decide: Callable[[UrlFacts, Response], Result]) -> Callable[[UrlFacts], Result]:
    """A check of a server that answers. The second argument is the response for an unknown path."""

    def decide_if_answered(facts: UrlFacts) -> Result:
        if facts.unknown_path is None or not facts.is_answered:
            return skipped("the server does not answer")
        return decide(facts, facts.unknown_path)

    return decide_if_answered


def _answer(facts: UrlFacts) -> Result:
    first = facts.unknown_path
    if first is None:
        return skipped("the name has no address")
    return judged(f"{facts.origin} answers {first}", is_ok=facts.is_answered)


def _if_https(decide: Callable[[Certificate], Result]) -> Callable[[UrlFacts], Result]:
    """A check of a certificate."""

    def decide_if_https(facts: UrlFacts) -> Result:
        return (
            skipped("no certificate was received") if facts.certificate is None else decide(facts.certificate)
        )

    return decide_if_https


def _trust(certificate: Certificate) -> Result:
    problem = certificate.trust_problem
    return judged(problem or "its chain is trusted on this machine", is_ok=not problem)


def _expiry(certificate: Certificate) -> Result:
    days = certificate.days_left
    if days is None:
        return skipped("the chain is not trusted")
    if days < 0:
        return Result(Status.FAILED, "it has expired")
    return judged(f"it expires in {days:.0f} days", is_ok=days >= _RENEWAL_DAYS, otherwise=Status.WARNING)


def _certificate_name(certificate: Certificate) -> Result:
    if certificate.trust_problem:
        return skipped("the chain is not trusted")
    problem = certificate.name_problem
    return judged(problem or "it is for this name", is_ok=not problem)


def _statuses(facts: UrlFacts, first: Response) -> Result:
    missing, refused = next(iter(facts.listed.values())), next(iter(facts.unlisted.values()))
    found = f"unknown path {first}; missing photograph {missing}; size that is not allowed {refused}"
    statuses = (first.status, missing.status, refused.status)
    is_private = "" in private_folders(facts.settings.private_prefixes)
    return judged(found, is_ok=statuses == (404, 403 if is_private else 404, 403))


def _allow_list(facts: UrlFacts, _: Response) -> Result:
    refused = [one for one, response in facts.listed.items() if is_allowed(response) is False]
    extra = [one for one, response in facts.unlisted.items() if is_allowed(response)]
    if all(is_allowed(one) is None for one in facts.listed.values()):
        return skipped(f"the server does not say: {next(iter(facts.listed.values()))}")
    parts = [f"the server refuses {some(refused)}"] if refused else []
    parts += [f"the server offers {some(extra)}, which the settings do not"] if extra else []
    return judged(
        "; ".join(parts) or f"the server offers the {len(facts.listed)} sizes and formats of the settings",
        is_ok=not parts,
    )


def is_allowed(response: Response) -> bool | None:
    """Whether a response for a missing photograph allows its size and format; None if it does not say."""
    if response.status == 404 or response.code.startswith("signature-"):
        return True
    return False if response.code in _REFUSALS else None


def _missing_lifetime(facts: UrlFacts, _: Response) -> Result:
    missing = next(iter(facts.listed.values()))
    sent = missing.headers.get("cache-control", "")
    if missing.status != 404:
        return skipped(f"the answer is {missing}")
    if "no-store" in sent:
        return Result(Status.OK, sent)
    max_age = _MAX_AGE.search(sent)
    if max_age is None:
        return Result(Status.FAILED, f"Cache-Control is {sent or 'not sent'}: caches choose a lifetime")
    return judged(f"Cache-Control: {sent}", is_ok=int(max_age[1]) <= _MAX_MISSING_S)


def _if_shown(decide: Callable[[Picture], Result]) -> Callable[[UrlFacts], Result]:
    """A check of a picture that is shown."""

    def decide_if_shown(facts: UrlFacts) -> Result:
        if facts.picture is None:
            return skipped(_NO_PICTURE)
        if facts.picture.by_accept[0].status != 200:
            return skipped("the picture is not shown")
        return decide(facts.picture)

    return decide_if_shown


def _shown(facts: UrlFacts) -> Result:
    if facts.picture is None:
        return skipped(_NO_PICTURE)
    first = facts.picture.by_accept[0]
    return judged(f"{first} {first.headers.get('content-type', '')}", is_ok=first.status == 200)


def _lifetime(picture: Picture) -> Result:
    sent = picture.by_accept[0].headers.get("cache-control", "")
    expected = (lifetimes.PRIVATE if picture.is_signed else lifetimes.IMMUTABLE).decode()
    return judged(f"Cache-Control: {sent}; expected: {expected}", is_ok=sent == expected)


def _negotiation(picture: Picture) -> Result:
    if not picture.offered:
        return skipped("the address names a format, or the settings offer no other")
    wrong = list(_wrong_formats(picture))
    if wrong:
        return Result(Status.FAILED, "; ".join(wrong))
    is_varied = "accept" in picture.by_accept[0].headers.get("vary", "").lower()
    found = "each browser gets its format" + ("" if is_varied else ", but the header Vary: Accept is missing")
    return judged(found, is_ok=is_varied, otherwise=Status.WARNING)


def _wrong_formats(picture: Picture) -> Iterator[str]:
    """A phrase for each `Accept` that was answered with another format than the settings say."""
    for accept, response in zip(ACCEPTS, picture.by_accept, strict=True):
        expected = negotiate(accept.encode(), picture.offered)
        got = response.headers.get("content-type", "")
        others = {one.media_type for one in picture.offered} - {expected.media_type if expected else ""}
        if got in others or (expected and got != expected.media_type):
            yield f"Accept: {accept} got {got or response}"


def _hits(picture: Picture) -> Result:
    names = ("cache-status", "x-cache", "age")
    last = picture.repeated[-1]
    shown = {name: last.headers[name] for name in names if name in last.headers}
    if not shown:
        return Result(Status.WARNING, "no header shows it: Cache-Status, X-Cache and Age are missing")
    found = "; ".join(f"{name}: {value}" for name, value in shown.items())
    return judged(f"request {len(picture.repeated) + 1} of one picture: {found}", is_ok=is_hit(last))


def is_hit(response: Response) -> bool:
    """Whether a response came from a cache: Cache-Status (RFC 9211 §2.1), X-Cache, Age (RFC 9111 §5.1)."""
    headers = response.headers
    return (
        _CACHE_HIT.search(headers.get("cache-status", "")) is not None
        or "hit" in headers.get("x-cache", "").lower()
        or headers.get("age", "0") != "0"
    )


def _cross_origin(facts: UrlFacts, _: Response) -> Result:
    if facts.shared is None:
        return skipped("the server did not answer")
    settings = facts.settings
    is_signed = facts.picture is not None and facts.picture.is_signed
    is_private = is_signed or facts.shared.code.startswith("signature-")
    expected = {
        "access-control-allow-origin": settings.allow_origin,
        "timing-allow-origin": settings.timing_allow_origin,
        "cross-origin-resource-policy": settings.resource_policy,
    }
    wrong = [
        f"{name} is {facts.shared.headers.get(name) or 'missing'}, expected {value or 'none'}"
        for name, value in ((name, "" if is_private else value) for name, value in expected.items())
        if facts.shared.headers.get(name, "") != value
    ]
    return judged("; ".join(wrong) or "the headers are those of the settings", is_ok=not wrong)


CHECKS: tuple[Check[UrlFacts], ...] = (
    Check(
        "dns",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The host name has an address.",
        "Without one no browser reaches the CDN.",
        "Make the DNS record; on AWS it points to the output CloudFrontAddress of the stack.",
        _name,
    ),
    Check(
        "answer",
        Subject.URL,
        Symptom.NOT_LOADING,
        "A server answers at the address, with a status below 500.",
        "Without an answer, or with an answer of a proxy that reaches no CDN, no picture is shown.",
        "Start the CDN, and see that firewall and proxy pass requests to its port; read the proxy’s log.",
        _answer,
    ),
    Check(
        "certificate-trust",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The certificate’s chain leads to an authority that this machine trusts.",
        "Browsers show no picture over a connection that they do not trust.",
        "Serve the whole chain: `tls_certificate` is the certificate and the intermediate ones after it.",
        _if_https(_trust),
    ),
    Check(
        "certificate-expiry",
        Subject.URL,
        Symptom.NOT_LOADING,
        f"The certificate is valid for at least {_RENEWAL_DAYS} more days.",
        "From its expiry on browsers show no picture.",
        "Renew the certificate, and find out why it was not renewed by itself; the server reads a new file.",
        _if_https(_expiry),
    ),
    Check(
        "certificate-name",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The certificate is for this host name.",
        "Browsers show no picture under another name.",
        "Get a certificate for this name; on AWS deploy with --domain and --certificate.",
        _if_https(_certificate_name),
    ),
    Check(
        "statuses",
        Subject.URL,
        Symptom.NOT_LOADING,
        "An unknown path and a missing photograph are 404, and a size that is not allowed is 403.",
        "Another status comes from another server, from a proxy’s own page, or on AWS from a bucket that "
        "CloudFront may not list: then a missing rendition is not rendered.",
        "Let the proxy pass /resize/ and /original/ unchanged; on AWS deploy the template again.",
        _if_answered(_statuses),
    ),
    Check(
        "allow-list",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The server offers exactly the sizes and formats of the settings at hand.",
        "Pages whose links are made from other settings than the server’s request pictures that it refuses; "
        "sizes that only the server has cost renders that nobody needs.",
        "Give the server, the pages and this command the same `sizes`; on AWS deploy again after a change.",
        _if_answered(_allow_list),
    ),
    Check(
        "missing-lifetime",
        Subject.URL,
        Symptom.NOT_LOADING,
        f"Caches keep the 404 of a missing photograph for at most {_MAX_MISSING_S} seconds.",
        "A photograph that is uploaded after its first request stays missing for as long.",
        "Do not override Cache-Control of errors in the proxy or CDN in front (nginx: proxy_cache_valid).",
        _if_answered(_missing_lifetime),
    ),
    Check(
        "picture",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The given picture is shown.",
        "A picture may be missing for many reasons; the status and the code of the response name one.",
        "Look the code up in docs/errors.md, and the request in the access log.",
        _shown,
    ),
    Check(
        "picture-lifetime",
        Subject.URL,
        Symptom.COSTLY,
        "A picture’s Cache-Control reaches viewers unchanged: one year and immutable, or one hour and "
        "private for a signed request.",
        "A shorter lifetime makes browsers and caches fetch the same picture again and again.",
        "Do not override Cache-Control in the proxy or CDN in front.",
        _if_shown(_lifetime),
    ),
    Check(
        "negotiation",
        Subject.URL,
        Symptom.NOT_LOADING,
        "Browsers that show AVIF, WebP or neither each get a format that they show from one address.",
        "A cache that ignores `Vary: Accept` gives one browser the format of another, which it may not show.",
        "Let that cache respect Vary, or use addresses that name the format (`links.picture` does).",
        _if_shown(_negotiation),
    ),
    Check(
        "cache-hits",
        Subject.URL,
        Symptom.SLOW,
        "A picture that was requested before comes from a cache.",
        "Where no cache answers, each view costs a render or a request to the store.",
        "See that proxies keep the header Cache-Status, that `memory_cache_bytes` is not 0, and that the "
        "renditions can be stored (`doctor --store`).",
        _if_shown(_hits),
    ),
    Check(
        "cross-origin",
        Subject.URL,
        Symptom.NOT_LOADING,
        "The headers that let other sites’ pages use the pictures are those of the settings.",
        "Without them a page that draws pictures on a canvas, or isolates itself, shows none.",
        "Set `allow_origin`, `timing_allow_origin` and `resource_policy`, and let proxies pass the headers.",
        _if_answered(_cross_origin),
    ),
)
"""The checks of an address, in the order of the report."""
