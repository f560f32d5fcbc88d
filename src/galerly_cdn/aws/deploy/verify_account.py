"""Checks what the AWS documentation leaves open against the real CloudFront, S3 and Lambda of an account.

The local AWS assumes the expected results; `docs/aws.md` lists them.
"""

from __future__ import annotations

import json
import re
import secrets
import struct
import uuid
import zlib
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from galerly_cdn.aws.deploy import boto, invalidation, smoke_test
from galerly_cdn.aws.deploy.smoke_test import Check
from galerly_cdn.aws.deploy.stack import Stack
from galerly_cdn.links import Links
from galerly_cdn.model import Format
from galerly_cdn.render.sample_images import SPECIMENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.aws.deploy.smoke_test import SmokeViewer
    from galerly_cdn.settings.table import Settings

NAMES = ("a b.jpg", "été.jpg", "e\u0301te\u0301.jpg", "a+b&c=d@e.jpg", "(1)'!*~.jpg", "100%.jpg")
"""Characters that must be escaped, characters that signers treat differently, and é in NFC and NFD."""
_LONG_KEY_BYTES = 900
"""The longest key (`http.urls`). In a header of the viewer function, a byte that is no letter has three."""
_NOISE_PX = 1300
"""Side of a PNG of noise: 6.8 MB, above the function URL's maximum of 6 MB in base64."""
_MAX_UTILIZATION = 50
"""Percent of the time that CloudFront allows a function; above it AWS may throttle the function."""
_MAX_INIT_MS = 2000.0


def run_checks(viewer: SmokeViewer, stack: str, settings: Settings) -> Iterator[Check]:
    """The smoke test, then the points that the documentation leaves open.

    Raises `AwsRefused`, `NotInvalidated`.
    """
    yield from smoke_test.run(viewer, settings)
    yield _check_utilization(stack)
    yield from check_settings(Stack(stack, lambda _: None))
    yield _check_function_url(viewer)
    yield from _check_signature_first(viewer, settings)
    if "/" not in settings.private_prefixes:
        folder = f"galerly-verify/{uuid.uuid4().hex}"
        with smoke_test.temporary_uploads(viewer, settings):
            yield from _check_escapes(viewer, folder, settings)
            yield _check_long_key(viewer, folder, settings)
            yield _check_tag(viewer, f"{folder}/{NAMES[0]}", settings)
            yield _check_late_upload(viewer, f"{folder}/late.jpg", settings)
            yield from _check_redirect(viewer, f"{folder}/noise.png", settings)
    yield _check_cold_start(stack)


def _check_utilization(stack: str) -> Check:
    """CloudFront's measure of the viewer function's time, for an ordinary request."""
    event = {
        "version": "1.0",
        "context": {"eventType": "viewer-request"},
        "viewer": {"ip": "192.0.2.1"},
        "request": {
            "method": "GET",
            "uri": "/resize/800x600/wedding/the%20first%20dance.jpg",
            "querystring": {},
            "headers": {"accept": {"value": "image/avif,image/webp,*/*"}},
            "cookies": {},
        },
    }
    cloudfront, name = boto.client("cloudfront"), f"{stack}-viewer"
    with boto.aws_errors():
        etag = cloudfront.describe_function(Name=name, Stage="LIVE")["ETag"]
        result = cloudfront.test_function(
            Name=name, IfMatch=etag, Stage="LIVE", EventObject=json.dumps(event).encode()
        )["TestResult"]
    used, problem = result["ComputeUtilization"], result.get("FunctionErrorMessage", "")
    return Check(
        "the viewer function’s share of its time",
        f"below {_MAX_UTILIZATION} %",
        problem or f"{used} %",
        is_met=not problem and int(used) < _MAX_UTILIZATION,
    )


def check_settings(stack: Stack) -> Iterator[Check]:
    """CloudFormation's comparison of the buckets with the template. An import leaves settings as they were.

    Raises `AwsRefused`, `DeploymentFailed`.
    """
    for bucket in ("Bucket", "AccessLogs"):
        differing = stack.differences(bucket)
        found = ", ".join(differing) or "no difference"
        yield Check(f"the settings of {bucket}", "no difference", found, is_met=not differing)


def _check_function_url(viewer: SmokeViewer) -> Check:
    """Lambda's refusal of requests that do not come through CloudFront; the local AWS sends the same."""
    response = viewer.fetch(viewer.deployed.function_url)
    is_met = response.status == 403 and "Forbidden" in response.text
    return Check(
        "the function URL, past CloudFront",
        '403 {"Message":"Forbidden…"}',
        f"{response} {response.text}",
        is_met,
    )


def _check_signature_first(viewer: SmokeViewer, settings: Settings) -> Iterator[Check]:
    """Whether CloudFront checks the signature before the function checks the size."""
    for prefix in settings.private_prefixes[:1]:
        folder = prefix.strip("/") or "g"
        response = viewer.fetch(f"{viewer.deployed.address}/resize/801x600/{folder}/g/a.jpg")
        is_first = "MissingKey" in response.text
        found = "the signature" if is_first else f"the function: {response} {response.text}"
        yield Check("checked first", "the signature", found, is_met=is_first)


def _check_escapes(viewer: SmokeViewer, folder: str, settings: Settings) -> Iterator[Check]:
    """Whether CloudFront's signature for the function URL is valid for paths with escapes."""
    links, size = _links(viewer, settings), str(settings.size_rules[0].size)
    for name in NAMES:
        key = f"{folder}/{name}"
        viewer.upload(key, SPECIMENS["jpeg"])
        found = str(viewer.fetch(links.src(key, size)))
        yield Check(f"first request of {name!r}", "200 Miss", found, is_met=found == "200 Miss")


def _check_long_key(viewer: SmokeViewer, folder: str, settings: Settings) -> Check:
    """Whether CloudFront sends a header of about 2,700 bytes, which the function adds, to the resizer."""
    key = f"{folder}/" + "写" * ((_LONG_KEY_BYTES - len(folder) - 1) // 3)
    viewer.upload(key, SPECIMENS["jpeg"])
    found = str(viewer.fetch(_links(viewer, settings).src(key, str(settings.size_rules[0].size))))
    return Check("a key of 900 bytes without a letter", "200 Miss", found, is_met=found == "200 Miss")


def _check_tag(viewer: SmokeViewer, key: str, settings: Settings) -> Check:
    """Whether CloudFront keeps the cache tag of a response whose headers policy removes the tag's header."""
    address = _links(viewer, settings).src(key, str(settings.size_rules[0].size))
    before = viewer.fetch_until(address, lambda response: response.cache == "Hit")
    invalidation.invalidate(viewer.deployed.distribution, [key], deadline_s=invalidation.DEADLINE_S)
    after = viewer.fetch(address)
    is_hidden = "x-amz-meta-cache-tag" not in before.headers
    found = f"{before.cache}, {'hidden' if is_hidden else 'SHOWN'}, then {after.cache}"
    return Check(
        "a cache tag hidden from viewers", "Hit, hidden, then Miss", found, found == "Hit, hidden, then Miss"
    )


def _check_late_upload(viewer: SmokeViewer, key: str, settings: Settings) -> Check:
    """Whether CloudFront caches S3's 404 by itself: then an upload would not appear."""
    address = _links(viewer, settings).src(key, str(settings.size_rules[0].size))
    before = viewer.fetch(address)
    viewer.upload(key, SPECIMENS["jpeg"])
    after = viewer.fetch_until(address, lambda response: response.status == 200)
    found = f"{before.status}, then {after.status} within a minute"
    return Check("an upload after a 404", "404, then 200 within a minute", found, after.status == 200)


def _check_redirect(viewer: SmokeViewer, key: str, settings: Settings) -> Iterator[Check]:
    """Whether the redirect of a picture too large for Lambda's response works, and is not cached."""
    largest = max(rule.size for rule in settings.size_rules)
    if min(largest.width_px, largest.height_px) < _NOISE_PX:
        return
    viewer.upload(key, noise(_NOISE_PX), "image/png")
    address = _links(viewer, settings).src(key, str(largest), Format.PNG)
    first = viewer.fetch(address)
    second = viewer.fetch(urljoin(address, first.headers.get("location", "")))
    third = viewer.fetch(address)
    found = f"{first.status}, {second.status}, {third.status}"
    yield Check(
        "a picture above 4.5 MB: first, redirected and second request",
        "302, 200, 200",
        found,
        found == "302, 200, 200",
    )


def _check_cold_start(stack: str) -> Check:
    """The longest cold start that Lambda's log reports."""
    with boto.aws_errors():
        group = boto.client("cloudformation").describe_stack_resource(
            StackName=stack, LogicalResourceId="ResizerLogs"
        )["StackResourceDetail"]["PhysicalResourceId"]
        pages = boto.client("logs").get_paginator("filter_log_events")
        lines = [
            event["message"]
            for page in pages.paginate(logGroupName=group, filterPattern='"Init Duration"')
            for event in page["events"]
        ]
    starts_ms = [float(one) for line in lines for one in re.findall(r"Init Duration: ([0-9.]+) ms", line)]
    found = (
        f"{max(starts_ms):.0f} ms, the longest of {len(starts_ms)}" if starts_ms else "none in the log yet"
    )
    is_met = bool(starts_ms) and max(starts_ms) <= _MAX_INIT_MS
    return Check("a cold start", f"at most {_MAX_INIT_MS:.0f} ms", found, is_met)


def noise(side_px: int) -> bytes:
    """A square PNG (RFC 2083) of random colours. It cannot be compressed, and its alpha keeps it a PNG."""
    rows = b"".join(b"\0" + secrets.token_bytes(4 * side_px) for _ in range(side_px))
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _links(viewer: SmokeViewer, settings: Settings) -> Links:
    return Links(viewer.deployed.address, settings.sizes)
