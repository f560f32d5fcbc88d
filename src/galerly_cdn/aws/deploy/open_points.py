"""Lists what AWS's documentation leaves open: the decision that falls if it is false, and what avoids it.

`verify_account` checks each on a real account. `docs/aws.md` shows the same list.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn import __version__
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.aws.deploy.smoke_test import Check


class OpenPoint(Value, frozen=True):
    """A point by the beginning of its check's name."""

    check: str
    decision: str
    switch: str


OPEN_POINTS = (
    OpenPoint(
        "the viewer function’s share of its time",
        "the viewer function runs as a CloudFront Function",
        "`--lambda-edge on`",
    ),
    OpenPoint(
        "the function URL, past CloudFront",
        "AWS_IAM keeps viewers away from the resizer",
        "`--set ReservedConcurrency=…` bounds what direct requests cost",
    ),
    OpenPoint(
        "the settings of",
        "taking over a bucket gives it the template's settings",
        "apply them by hand, or copy the originals into a new bucket",
    ),
    OpenPoint(
        "checked first",
        "an unsigned request of a private folder costs no function",
        "none is needed: the function then refuses the size, and CloudFront the signature",
    ),
    OpenPoint(
        "first request of",
        "the resizer is asked by paths with percent-encoding",
        "keys of letters, digits and `._-`; `--prewarm on` makes renditions without the function URL",
    ),
    OpenPoint(
        "a key of 900 bytes",
        "the viewer function passes a key of any length in a header",
        "keys of at most 590 bytes, whose header has at most 1,783",
    ),
    OpenPoint(
        "a cache tag hidden from viewers",
        "photographs and galleries are invalidated by tags, which viewers do not see",
        "remove x-amz-meta-cache-tag from RemoveHeadersConfig in the template",
    ),
    OpenPoint(
        "an upload after a 404",
        "S3's 404 is not cached beside the origin group's response",
        "`--prewarm on`, and upload before pages link to the photograph",
    ),
    OpenPoint(
        "a picture above 4.5 MB",
        "such a picture is stored, and the viewer is redirected to it",
        "smaller `sizes`, or JPEG in place of PNG",
    ),
    OpenPoint("a cold start", "the functions load libvips from a zip", "`--set Memory=…`, `--prewarm on`"),
)


class CheckedPoint(Value, frozen=True):
    """The result of one check, with its open point's decision and switch; empty for the smoke test's."""

    what: str
    expected: str
    found: str
    is_met: bool
    decision: str = ""
    switch: str = ""


class VerificationReport(Value, frozen=True, kw_only=True):
    """What a verification of a real account has found; to be sent to the project. It contains no names.

    Times are in seconds; `failure` is an error that ended it.
    """

    release: str = __version__
    at: str
    checks: tuple[CheckedPoint, ...]
    duration_s: float
    failure: str = ""


def checked(check: Check, stack: str) -> CheckedPoint:
    """A check with its open point, without the names of the account and the stack."""
    point = next((one for one in OPEN_POINTS if check.what.startswith(one.check)), None)
    return CheckedPoint(
        what=anonymous(check.what, stack),
        expected=anonymous(check.expected, stack),
        found=anonymous(check.found, stack),
        is_met=check.is_met,
        decision=point.decision if point else "",
        switch=point.switch if point else "",
    )


def anonymous(text: str, stack: str) -> str:
    """A text in which host names, account IDs and the stack's name are replaced."""
    without_hosts = re.sub(r"(https?)://[^/\s]+", r"\1://HOST", text)
    return re.sub(r"\b[0-9]{12}\b", "ACCOUNT", without_hosts).replace(stack, "STACK")
