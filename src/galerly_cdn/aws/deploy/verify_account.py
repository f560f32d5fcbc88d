"""What does the real CloudFront do where its documentation is silent? Each open point, expected and found.

The local checks take for granted what these ask: `docs/aws.md` lists them.
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
from galerly_cdn.links import Links
from galerly_cdn.model import Format
from galerly_cdn.render.sample_images import SPECIMENS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from galerly_cdn.aws.deploy.smoke_test import SmokeViewer
    from galerly_cdn.settings.table import Settings

NAMES = ("a b.jpg", "été.jpg", "e\u0301te\u0301.jpg", "a+b&c=d@e.jpg", "(1)'!*~.jpg", "100%.jpg")
"""What has to be escaped, what signers disagree about, and one letter in two spellings."""
_NOISE_PX = 1300
"""A side of a PNG of noise: 6.8 MB, above what the function URL answers with (6 MB in base64)."""
_MAX_UTILIZATION = 50
"""Percent of the time that CloudFront gives a function; above it AWS throttles some of them."""
_MAX_INIT_MS = 2000.0


def run_checks(guest: SmokeViewer, stack: str, settings: Settings) -> Iterator[Check]:
    """What is tried after each deployment, then the open points.

    Raises `AwsRefused`, `NotInvalidated`.
    """
    yield from smoke_test.run(guest, settings)
    yield _utilization(stack)
    yield _bare_refusal(guest)
    yield from _order(guest, settings)
    if "/" not in settings.private_prefixes:
        folder = f"galerly-verify/{uuid.uuid4().hex}"
        with smoke_test.with_test_photograph(guest, settings):
            yield from _spellings(guest, folder, settings)
            yield _tags(guest, f"{folder}/{NAMES[0]}", settings)
            yield _appears(guest, f"{folder}/late.jpg", settings)
            yield from _redirect(guest, f"{folder}/noise.png", settings)
    yield _cold_start(stack)


def _utilization(stack: str) -> Check:
    """CloudFront's own measure of the viewer function, for an ordinary address."""
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


def _bare_refusal(guest: SmokeViewer) -> Check:
    """What Lambda says to who comes past CloudFront: the local double says the same."""
    seen = guest.see(guest.deployed.function_url)
    is_met = seen.status == 403 and "Forbidden" in seen.text
    return Check(
        "the function URL, past CloudFront", '403 {"Message":"Forbidden…"}', f"{seen} {seen.text}", is_met
    )


def _order(guest: SmokeViewer, settings: Settings) -> Iterator[Check]:
    """Whether CloudFront looks at the signature before the function sees a size that is not allowed."""
    for prefix in settings.private_prefixes[:1]:
        seen = guest.see(f"{guest.deployed.address}/resize/801x600/{prefix.strip('/') or 'g'}/g/a.jpg")
        is_first = "MissingKey" in seen.text
        found = "the signature" if is_first else f"the function: {seen} {seen.text}"
        yield Check("what is looked at first", "the signature", found, is_met=is_first)


def _spellings(guest: SmokeViewer, folder: str, settings: Settings) -> Iterator[Check]:
    """Whether CloudFront's signature for the function URL holds for addresses with escapes."""
    links, size = _links(guest, settings), str(settings.size_rules[0].size)
    for name in NAMES:
        key = f"{folder}/{name}"
        guest.put(key, SPECIMENS["jpeg"])
        seen = guest.see(links.src(key, size))
        yield Check(
            f"made for the first time: {name!r}", "200 Miss", str(seen), is_met=str(seen) == "200 Miss"
        )


def _tags(guest: SmokeViewer, key: str, settings: Settings) -> Check:
    """Whether a tag is kept though the headers policy removes its header: an invalidation finds it."""
    address = _links(guest, settings).src(key, str(settings.size_rules[0].size))
    before = guest.until(address, lambda seen: seen.cache == "Hit")
    invalidation.invalidate(guest.deployed.distribution, [key], deadline_s=invalidation.DEADLINE_S)
    after = guest.see(address)
    is_hidden = "x-amz-meta-cache-tag" not in before.headers
    found = f"{before.cache}, {'hidden' if is_hidden else 'SHOWN'}, then {after.cache}"
    return Check(
        "a tag that viewers do not see", "Hit, hidden, then Miss", found, found == "Hit, hidden, then Miss"
    )


def _appears(guest: SmokeViewer, key: str, settings: Settings) -> Check:
    """Whether S3’s 404 is kept beside the group’s answer: then an upload would not appear."""
    address = _links(guest, settings).src(key, str(settings.size_rules[0].size))
    before = guest.see(address)
    guest.put(key, SPECIMENS["jpeg"])
    after = guest.until(address, lambda seen: seen.status == 200)
    found = f"{before.status}, then {after.status} within a minute"
    return Check(
        "uploaded after it was asked for", "404, then 200 within a minute", found, after.status == 200
    )


def _redirect(guest: SmokeViewer, key: str, settings: Settings) -> Iterator[Check]:
    """Whether the redirect of a picture too large for Lambda's answer leads to it, and is not kept."""
    largest = max(rule.size for rule in settings.size_rules)
    if min(largest.width_px, largest.height_px) < _NOISE_PX:
        return
    guest.put(key, noise(_NOISE_PX), "image/png")
    address = _links(guest, settings).src(key, str(largest), Format.PNG)
    first = guest.see(address)
    second = guest.see(urljoin(address, first.headers.get("location", "")))
    third = guest.see(address)
    found = f"{first.status}, {second.status}, {third.status}"
    yield Check(
        "a picture above 4.5 MB: asked, followed, again", "302, 200, 200", found, found == "302, 200, 200"
    )


def _cold_start(stack: str) -> Check:
    """What Lambda reports of its own starts."""
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
    found_ms = [float(one) for line in lines for one in re.findall(r"Init Duration: ([0-9.]+) ms", line)]
    told = f"{max(found_ms):.0f} ms, the longest of {len(found_ms)}" if found_ms else "none in the log yet"
    is_met = bool(found_ms) and max(found_ms) <= _MAX_INIT_MS
    return Check("a cold start", f"at most {_MAX_INIT_MS:.0f} ms", told, is_met)


def noise(side_px: int) -> bytes:
    """A PNG (RFC 2083) of random colours: nothing makes it smaller, and its alpha keeps it a PNG."""
    rows = b"".join(b"\0" + secrets.token_bytes(4 * side_px) for _ in range(side_px))
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 0)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _links(guest: SmokeViewer, settings: Settings) -> Links:
    return Links(guest.deployed.address, settings.sizes)
