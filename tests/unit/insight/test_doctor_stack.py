"""Tests of the checks of a stack, over the expected AWS calls of one with each fault, and of one without."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from galerly_cdn.aws.deploy import stack_facts
from galerly_cdn.aws.deploy.http_viewer import ViewerResponse
from galerly_cdn.aws.deploy.stack import Stack
from galerly_cdn.aws.errors import DeploymentFailed
from galerly_cdn.insight.doctor import policies, stack
from galerly_cdn.insight.doctor.checks import Finding, Status, run
from galerly_cdn.insight.doctor.stack import VerifiedPoint
from galerly_cdn.serialization import replaced
from tests.support.cloudformation_stubs import NOW
from tests.support.fake_aws import FakeAws, aws
from tests.support.stack_facts_stubs import DISTRIBUTION_ARN, StackResponses

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["aws"]

VIA = "1.1 abc.cloudfront.net (CloudFront)"
POINTS = (VerifiedPoint("a cold start", "700 ms, expected at most 2000 ms", is_met=True),)
UNMET = (VerifiedPoint("a cold start", "2700 ms, expected at most 2000 ms", is_met=False),)


class Fault(NamedTuple):
    """What is wrong with a stack, and the result of the check."""

    status: Status
    found: str
    """A part of the phrase that names it."""
    change: Callable[[StackResponses], Any] = lambda _: None
    via: str = VIA
    verified: tuple[VerifiedPoint, ...] | None = POINTS


def _unassociated(responses: StackResponses) -> None:
    del responses.config["CacheBehaviors"]["Items"][0]["FunctionAssociations"]


def _edge(version: str) -> Callable[[StackResponses], None]:
    """Lambda@Edge in place of the function of a behaviour."""

    def change(responses: StackResponses) -> None:
        _unassociated(responses)
        arn = f"arn:aws:lambda:us-east-1:123456789012:function:photos-viewer:{version}"
        one = {"EventType": "viewer-request", "LambdaFunctionARN": arn}
        responses.config["CacheBehaviors"]["Items"][0]["LambdaFunctionAssociations"] = {
            "Quantity": 1,
            "Items": [one],
        }

    return change


def _only_url(responses: StackResponses) -> None:
    responses.function_policy = responses.function_policy and responses.function_policy[:1]


def _metric(name: str, *values: float) -> Callable[[StackResponses], None]:
    return lambda responses: responses.metrics.update({name: list(values)})


FAULTS = {
    "stack-complete": Fault(
        Status.FAILED,
        "UPDATE_ROLLBACK_COMPLETE",
        lambda one: setattr(one, "status", "UPDATE_ROLLBACK_COMPLETE"),
    ),
    "distribution-deployed": Fault(
        Status.WARNING, "InProgress, enabled", lambda one: one.distribution.update(Status="InProgress")
    ),
    "domain": Fault(Status.FAILED, "answers with Via: 1.1 varnish", via="1.1 varnish"),
    "function-published": Fault(
        Status.FAILED, "photos-viewer: changed since", lambda one: one.codes.update(DEVELOPMENT=b"new code")
    ),
    "function-permissions": Fault(
        Status.FAILED, "not allowed to this distribution: lambda:InvokeFunction", _only_url
    ),
    "bucket-permissions": Fault(
        Status.FAILED, "not allowed to this distribution: s3:ListBucket", lambda one: one.bucket_policy.pop()
    ),
    "resizer-attempts": Fault(
        Status.FAILED,
        "asks 3 times and waits 30 s; the function may take 25 s",
        lambda one: one.config["Origins"]["Items"][1].update(ConnectionAttempts=3),
    ),
    "cache-lifetimes": Fault(
        Status.FAILED, "from 1 s to 86400 s", lambda one: one.lifetimes.update(MinTTL=1, MaxTTL=86400)
    ),
    "hit-ratio": Fault(Status.WARNING, "85 % were", _metric("ratio", 86, 80)),
    "server-errors": Fault(Status.FAILED, "0.2 % were answered with 5xx", _metric("rate5xx", 0.2, 0.2)),
    "client-errors": Fault(Status.WARNING, "12 % were answered with 4xx", _metric("rate4xx", 12, 12)),
    "resizer-errors": Fault(Status.WARNING, "0 errors and 3 throttled", _metric("throttles", 1, 2)),
    "resizer-memory": Fault(
        Status.WARNING, "1700 of 1769 MB", lambda one: setattr(one, "memory_used_mb", 1700)
    ),
    "price-class": Fault(
        Status.WARNING, "PriceClass_100", lambda one: one.config.update(PriceClass="PriceClass_100")
    ),
    "growth": Fault(Status.WARNING, "21.0 GB were rendered", _metric("rendered", 20e9, 1e9)),
    "failed-events": Fault(Status.WARNING, "2 in JanitorFailed", _metric("queue0", 1, 2)),
    "verified": Fault(Status.FAILED, "a cold start: 2700 ms", verified=UNMET),
}
OTHERS = {
    "disabled": (
        "distribution-deployed",
        Fault(Status.FAILED, "DISABLED", lambda one: one.config.update(Enabled=False)),
    ),
    "another alias": (
        "domain",
        Fault(
            Status.FAILED, "no alternate domain name", lambda one: one.config.update(Aliases={"Quantity": 0})
        ),
    ),
    "no function": (
        "function-published",
        Fault(Status.FAILED, "/resize/* has no viewer function", _unassociated),
    ),
    "never published": (
        "function-published",
        Fault(Status.FAILED, "photos-viewer: never published", lambda one: one.codes.update(LIVE=None)),
    ),
    "no permission": (
        "function-permissions",
        Fault(
            Status.FAILED,
            "lambda:InvokeFunctionUrl, lambda:InvokeFunction",
            lambda one: setattr(one, "function_policy", None),
        ),
    ),
    "a longer function": (
        "resizer-attempts",
        Fault(
            Status.FAILED,
            "waits 20 s",
            lambda one: one.config["Origins"]["Items"][1]["CustomOriginConfig"].update(OriginReadTimeout=20),
        ),
    ),
    "no numbered version": (
        "function-published",
        Fault(Status.FAILED, "/resize/* has no numbered version of arn:aws:lambda", _edge("$LATEST")),
    ),
    "a numbered version": ("function-published", Fault(Status.OK, "published", _edge("12"))),
    "no domain": (
        "domain",
        Fault(Status.NOT_APPLICABLE, "own name", lambda one: setattr(one, "domain", "")),
    ),
    "no paid metrics": ("hit-ratio", Fault(Status.NOT_APPLICABLE, "MoreMetrics", _metric("ratio"))),
    "no renders": (
        "resizer-memory",
        Fault(Status.NOT_APPLICABLE, "nothing was", lambda one: setattr(one, "memory_used_mb", None)),
    ),
    "not verified": ("verified", Fault(Status.NOT_APPLICABLE, "add --verify", verified=None)),
    "few requests": (
        "hit-ratio",
        Fault(Status.NOT_APPLICABLE, "300 requests in 24 hours are too few", _metric("requests", 100, 200)),
    ),
}
"""Further faults of a check, by what is wrong."""


def findings(aws: FakeAws, fault: Fault) -> dict[str, Finding]:
    responses = StackResponses()
    fault.change(responses)
    responses.expect(aws)
    described = Stack("photos", lambda _: None)
    state = described.state()
    assert state
    facts = stack_facts.read(
        state, described.resources(), lambda _: ViewerResponse(404, {"via": fault.via}), NOW
    )
    return {one.check: one for one in run(stack.CHECKS, replaced(facts, verified=fault.verified))}


def assert_found(fault: Fault, finding: Finding) -> None:
    assert (finding.status, fault.found in finding.found) == (fault.status, True), finding.found


@pytest.mark.parametrize("check", FAULTS)
def test_stack_with_fault_is_found(aws: FakeAws, check: str) -> None:
    assert_found(FAULTS[check], findings(aws, FAULTS[check])[check])


@pytest.mark.parametrize("name", OTHERS)
def test_stack_with_another_fault_is_found(aws: FakeAws, name: str) -> None:
    check, fault = OTHERS[name]
    assert_found(fault, findings(aws, fault)[check])


def test_stack_without_fault_is_ok(aws: FakeAws) -> None:
    found = findings(aws, Fault(Status.OK, ""))
    assert {name: one.found for name, one in found.items() if one.status is not Status.OK} == {}
    assert list(found) == list(FAULTS)


def test_stack_hit_ratio_is_weighted_by_requests(aws: FakeAws) -> None:
    assert (
        findings(aws, Fault(Status.OK, ""))["hit-ratio"].found == "95 % were answered from caches in 24 hours"
    )


def test_stack_without_resources_cannot_be_read(aws: FakeAws) -> None:
    StackResponses().expect_stack(aws)
    state = Stack("photos", lambda _: None).state()
    assert state
    with pytest.raises(DeploymentFailed, match="has no Distribution, PathOnly"):
        stack_facts.read(state, {}, lambda _: ViewerResponse(404, {}), NOW)


CLOUDFRONT = {"Service": "cloudfront.amazonaws.com"}
ALLOW = {"Effect": "Allow", "Principal": CLOUDFRONT, "Action": "a:B"}


def _from(*sources: str) -> dict[str, object]:
    return {"Condition": {"StringEquals": {"aws:sourcearn": list(sources)}}}


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([], set()),
        (ALLOW, {"a:B"}),
        ([ALLOW], {"a:B"}),
        ([{**ALLOW, "Action": ["a:B", "a:C"]}], {"a:B", "a:C"}),
        ([{**ALLOW, "Principal": {"Service": ["x.amazonaws.com", CLOUDFRONT["Service"]]}}], {"a:B"}),
        ([{**ALLOW, **_from(DISTRIBUTION_ARN, "another")}], {"a:B"}),
        ([{**ALLOW, **_from("another")}], set()),
        ([{**ALLOW, "Effect": "Deny"}], set()),
        ([{**ALLOW, "Principal": "*"}], set()),
        ([{**ALLOW, "Principal": {"AWS": "1"}}], set()),
    ],
)
def test_policy_allows_actions_to_cloudfront_for_the_distribution(
    statements: object, allowed: set[str]
) -> None:
    policy = json.dumps({"Statement": statements})
    assert policies.allowed_actions(policy, DISTRIBUTION_ARN) == allowed


@pytest.mark.parametrize("policy", ["", "[]", "no JSON"])
def test_policy_that_is_none_allows_nothing(policy: str) -> None:
    assert policies.allowed_actions(policy, DISTRIBUTION_ARN) == set()
