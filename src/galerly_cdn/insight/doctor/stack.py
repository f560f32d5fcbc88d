"""Decides on the facts of a stack on AWS: distribution, functions, permissions, metrics of a day. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.insight.doctor import policies
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
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_COMPLETE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}
_NUMBERED = re.compile(r":[0-9]+\Z")
_YEAR_S = 31_536_000
_MIN_REQUESTS = 1000
"""With fewer requests a day, single ones decide the rates; the alarms judge no fewer either."""
_MIN_HIT_RATIO = 95.0
_MAX_5XX = 0.1
_MAX_4XX = 5.0
"""Percent. Bots and mistyped addresses stay below it."""
_MAX_MEMORY_USED = 0.9


class Behavior(Value, frozen=True):
    """A cache behaviour of the distribution, and the ARN of its viewer-request function; empty for none."""

    pattern: str
    function: str


class Distribution(Value, frozen=True, kw_only=True):
    """The distribution, as CloudFront describes it."""

    arn: str
    status: str
    is_enabled: bool
    price_class: str
    aliases: tuple[str, ...]
    behaviors: tuple[Behavior, ...]
    resizer_attempts: int
    resizer_read_timeout_s: int


class Metrics(Value, frozen=True, kw_only=True):
    """The metrics of the last 24 hours; None where CloudWatch has no data."""

    requests: float
    hit_ratio: float | None
    """Percent, as the two rates after it."""
    rate_5xx: float | None
    rate_4xx: float | None
    function_errors: float
    throttles: float
    rendered_bytes: float
    failed_events: dict[str, float]
    """The messages in each queue of failed events."""


class VerifiedPoint(Value, frozen=True):
    """A result of `aws verify`."""

    what: str
    found: str
    is_met: bool


class StackFacts(Value, frozen=True, kw_only=True):
    """A stack of our template, as AWS describes it."""

    status: str
    domain: str
    """The parameter; empty for none."""
    growth_limit_gb: float
    """The parameter RenditionGigabytesPerDay."""
    distribution: Distribution
    functions: dict[str, str]
    """For each CloudFront function of a behaviour: `published`, `changed since` or `never published`."""
    via: str
    """The header Via of an answer at the CDN's address (RFC 9110 §7.6.3), or why there was none."""
    function_policy: str
    """The resource policy of the resizer, in JSON; empty for none."""
    bucket_policy: str
    min_ttl_s: int
    max_ttl_s: int
    timeout_s: int
    memory_mb: int
    memory_used_mb: int | None
    """The most that an invocation used in a day; None if there was none."""
    metrics: Metrics
    verified: tuple[VerifiedPoint, ...] | None = None
    """None if `aws verify` was not run."""


def _complete(facts: StackFacts) -> Result:
    return judged(f"its status is {facts.status}", is_ok=facts.status in _COMPLETE)


def _deployed(facts: StackFacts) -> Result:
    distribution = facts.distribution
    found = f"{distribution.status}, {'enabled' if distribution.is_enabled else 'DISABLED'}"
    if not distribution.is_enabled:
        return Result(Status.FAILED, found)
    return judged(found, is_ok=distribution.status == "Deployed", otherwise=Status.WARNING)


def _domain(facts: StackFacts) -> Result:
    if not facts.domain:
        return skipped("the stack has CloudFront’s own name")
    if facts.domain not in facts.distribution.aliases:
        return Result(Status.FAILED, f"{facts.domain} is no alternate domain name of the distribution")
    return judged(f"{facts.domain} answers with Via: {facts.via}", is_ok="cloudfront" in facts.via.lower())


def _published(facts: StackFacts) -> Result:
    problems = list(_unpublished(facts))
    return judged("; ".join(problems) or f"published: {some(facts.functions)}", is_ok=not problems)


def _unpublished(facts: StackFacts) -> Iterator[str]:
    for behavior in facts.distribution.behaviors:
        if not behavior.function:
            yield f"{behavior.pattern} has no viewer function"
        elif ":lambda:" in behavior.function and not _NUMBERED.search(behavior.function):
            yield f"{behavior.pattern} has no numbered version of {behavior.function}"
    yield from (f"{name}: {state}" for name, state in facts.functions.items() if state != "published")


def _function_permissions(facts: StackFacts) -> Result:
    return _permissions(facts, facts.function_policy, ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction"))


def _bucket_permissions(facts: StackFacts) -> Result:
    return _permissions(facts, facts.bucket_policy, ("s3:GetObject", "s3:ListBucket"))


def _permissions(facts: StackFacts, policy: str, actions: tuple[str, ...]) -> Result:
    """Whether a resource's policy allows the actions to CloudFront for this distribution."""
    allowed = policies.allowed_actions(policy, facts.distribution.arn)
    missing = [one for one in actions if one not in allowed]
    found = (
        f"not allowed to this distribution: {', '.join(missing)}"
        if missing
        else f"allowed: {', '.join(actions)}"
    )
    return judged(found, is_ok=not missing)


def _attempts(facts: StackFacts) -> Result:
    distribution = facts.distribution
    found = (
        f"CloudFront asks {distribution.resizer_attempts} times and waits "
        f"{distribution.resizer_read_timeout_s} s; the function may take {facts.timeout_s} s"
    )
    is_longer = distribution.resizer_read_timeout_s > facts.timeout_s
    return judged(found, is_ok=distribution.resizer_attempts == 1 and is_longer)


def _lifetimes(facts: StackFacts) -> Result:
    found = f"from {facts.min_ttl_s} s to {facts.max_ttl_s} s"
    return judged(found, is_ok=facts.min_ttl_s == 0 and facts.max_ttl_s >= _YEAR_S)


def _with_traffic(decide: Callable[[Metrics], Result]) -> Callable[[StackFacts], Result]:
    """A check of the rates of a day with enough requests."""

    def decide_with_traffic(facts: StackFacts) -> Result:
        requests = facts.metrics.requests
        if requests < _MIN_REQUESTS:
            return skipped(f"{requests:,.0f} requests in 24 hours are too few to judge")
        return decide(facts.metrics)

    return decide_with_traffic


def _rate(value: float | None, found: str, *, is_ok: bool, otherwise: Status) -> Result:
    if value is None:
        return skipped("CloudWatch has no data; the stack’s MoreMetrics pays for them")
    return judged(f"{value:.3g} % {found} in 24 hours", is_ok=is_ok, otherwise=otherwise)


def _hit_ratio(metrics: Metrics) -> Result:
    ratio = metrics.hit_ratio
    is_ok = ratio is not None and ratio >= _MIN_HIT_RATIO
    return _rate(ratio, "were answered from caches", is_ok=is_ok, otherwise=Status.WARNING)


def _server_errors(metrics: Metrics) -> Result:
    rate = metrics.rate_5xx
    is_ok = rate is not None and rate < _MAX_5XX
    return _rate(rate, "were answered with 5xx", is_ok=is_ok, otherwise=Status.FAILED)


def _client_errors(metrics: Metrics) -> Result:
    rate = metrics.rate_4xx
    is_ok = rate is not None and rate < _MAX_4XX
    return _rate(rate, "were answered with 4xx", is_ok=is_ok, otherwise=Status.WARNING)


def _function_errors(facts: StackFacts) -> Result:
    errors, throttles = facts.metrics.function_errors, facts.metrics.throttles
    found = f"{errors:,.0f} errors and {throttles:,.0f} throttled invocations in 24 hours"
    return judged(found, is_ok=not errors and not throttles, otherwise=Status.WARNING)


def _memory(facts: StackFacts) -> Result:
    if facts.memory_used_mb is None:
        return skipped("nothing was rendered in 24 hours")
    found = f"at most {facts.memory_used_mb} of {facts.memory_mb} MB were used in 24 hours"
    is_ok = facts.memory_used_mb <= _MAX_MEMORY_USED * facts.memory_mb
    return judged(found, is_ok=is_ok, otherwise=Status.WARNING)


def _price_class(facts: StackFacts) -> Result:
    name = facts.distribution.price_class
    return judged(name, is_ok=name == "PriceClass_All", otherwise=Status.WARNING)


def _growth(facts: StackFacts) -> Result:
    rendered_gb = facts.metrics.rendered_bytes / 1e9
    found = f"{rendered_gb:.1f} GB were rendered in 24 hours; the limit is {facts.growth_limit_gb:g} GB"
    return judged(found, is_ok=rendered_gb <= facts.growth_limit_gb, otherwise=Status.WARNING)


def _failed_events(facts: StackFacts) -> Result:
    failed = {name: count for name, count in facts.metrics.failed_events.items() if count}
    found = "; ".join(f"{count:.0f} in {name}" for name, count in failed.items()) or "none"
    return judged(found, is_ok=not failed, otherwise=Status.WARNING)


def _verified(facts: StackFacts) -> Result:
    if facts.verified is None:
        return skipped("add --verify, which takes minutes and costs a few cents")
    unmet = [f"{one.what}: {one.found}" for one in facts.verified if not one.is_met]
    return judged("; ".join(unmet) or f"{len(facts.verified)} results are as expected", is_ok=not unmet)


CHECKS: tuple[Check[StackFacts], ...] = (
    Check(
        "stack-complete",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "CloudFormation finished the last deployment.",
        "A stack that was rolled back runs an older state, or nothing.",
        "Read the first failed event of the stack, correct its cause, and deploy again.",
        _complete,
    ),
    Check(
        "distribution-deployed",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "The distribution is enabled, and its state is Deployed.",
        "Until then some edge locations answer as before the last change.",
        "Wait some minutes; enable a distribution that was disabled.",
        _deployed,
    ),
    Check(
        "domain",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "The CDN’s own host name leads to CloudFront, and the distribution answers to it.",
        "A name that leads elsewhere has no pictures; CloudFront answers 403 to names it does not know.",
        "Point the DNS record to the output CloudFrontAddress, and deploy with --domain and --certificate.",
        _domain,
    ),
    Check(
        "function-published",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "Each cache behaviour has a viewer function that is published; of Lambda@Edge a numbered version.",
        "CloudFront runs only what is published: an older function refuses sizes that the settings have.",
        "Deploy again; the template publishes the function itself.",
        _published,
    ),
    Check(
        "function-permissions",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "The distribution may call the resizer: lambda:InvokeFunctionUrl and lambda:InvokeFunction.",
        "With only one of the two every missing rendition is 403, and nothing is logged.",
        "Deploy again; the resources AllowUrl and AllowInvoke of the template grant both.",
        _function_permissions,
    ),
    Check(
        "bucket-permissions",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "The distribution may read and list the bucket: s3:GetObject and s3:ListBucket.",
        "Without reading each request is rendered anew; without listing a missing object looks refused.",
        "Deploy again; the resource BucketPolicy of the template grants both.",
        _bucket_permissions,
    ),
    Check(
        "resizer-attempts",
        Subject.STACK,
        Symptom.COSTLY,
        "CloudFront asks the resizer once, and waits longer than the function may run.",
        "It repeats a request that times out: a slow render would run, and be paid, several times.",
        "Deploy again; the template has one attempt, and a read timeout above the function’s.",
        _attempts,
    ),
    Check(
        "cache-lifetimes",
        Subject.STACK,
        Symptom.COSTLY,
        "The cache policy allows lifetimes from 0 s to one year.",
        "A shorter maximum makes CloudFront ask again and again; a minimum above 0 caches redirects to "
        "the same address, which loop.",
        "Deploy again; the cache policy PathOnly of the template has both.",
        _lifetimes,
    ),
    Check(
        "hit-ratio",
        Subject.STACK,
        Symptom.SLOW,
        f"At least {_MIN_HIT_RATIO:g} % of the requests of a day are answered from CloudFront’s caches.",
        "A miss takes up to two seconds, and each costs requests to S3 and perhaps a render.",
        "Run `galerly-cdn report` on the access logs: it names the client and the gallery with most misses, "
        "and their times (docs/report.md). Look also for addresses with changing paths.",
        _with_traffic(_hit_ratio),
    ),
    Check(
        "server-errors",
        Subject.STACK,
        Symptom.NOT_LOADING,
        f"Fewer than {_MAX_5XX:g} % of the answers of a day are 5xx.",
        "Each is a picture that a viewer did not see; its repetition may be rendered again.",
        "Look for errors in the log group of the stack’s resource ResizerLogs.",
        _with_traffic(_server_errors),
    ),
    Check(
        "client-errors",
        Subject.STACK,
        Symptom.COSTLY,
        f"Fewer than {_MAX_4XX:g} % of the answers of a day are 4xx.",
        "Unusual dimensions and guessed names are signs of abuse, or of pages with wrong links.",
        "See in the access logs which addresses are refused, and from where; correct the pages’ links.",
        _with_traffic(_client_errors),
    ),
    Check(
        "resizer-errors",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "No invocation of the resizer failed or was throttled in a day.",
        "Each is a missing rendition that was not rendered.",
        "Read its log; against throttling raise ReservedConcurrency, or the account’s limit.",
        _function_errors,
    ),
    Check(
        "resizer-memory",
        Subject.STACK,
        Symptom.SLOW,
        f"The resizer uses at most {_MAX_MEMORY_USED:.0%} of its memory.",
        "An original that needs more ends the function; and CPU grows with memory.",
        "Raise the parameter Memory: `aws deploy --set Memory=3008`.",
        _memory,
    ),
    Check(
        "price-class",
        Subject.STACK,
        Symptom.SLOW,
        "The distribution uses all of CloudFront’s edge locations.",
        "Viewers on continents without an edge location wait longer for each picture.",
        "Set the parameter PriceClass to PriceClass_All, unless your viewers are near.",
        _price_class,
    ),
    Check(
        "growth",
        Subject.STACK,
        Symptom.COSTLY,
        "In a day no more is rendered than the parameter RenditionGigabytesPerDay.",
        "Stored renditions cost storage until they expire, and rendering them costs more.",
        "Run `galerly-cdn report`, which names sweeps; shorten the allow-list, or lower RenditionDays.",
        _growth,
    ),
    Check(
        "failed-events",
        Subject.STACK,
        Symptom.UNSAFE,
        "No event of an upload or a deletion failed three times.",
        "The janitor’s failures leave renditions of deleted photographs, which are still shown.",
        "Read the function’s log, correct the cause, and redrive the queue.",
        _failed_events,
    ),
    Check(
        "verified",
        Subject.STACK,
        Symptom.NOT_LOADING,
        "A viewer gets what `aws verify` expects of a miss, a hit, refusals, redirects and invalidations.",
        "Only requests to the real CloudFront show it.",
        "Run `aws verify`, which prints each expected and actual result.",
        _verified,
    ),
)
"""The checks of a stack, in the order of the report."""
