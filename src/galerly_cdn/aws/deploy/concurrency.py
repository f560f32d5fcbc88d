"""The account's limit of concurrent Lambda executions, and what a function may reserve of it.

Source: the AWS Lambda Developer Guide, "Configuring reserved concurrency for a function".
"""

from __future__ import annotations

from galerly_cdn.aws.deploy import boto
from galerly_cdn.aws.errors import AwsRefused, DeploymentFailed
from galerly_cdn.serialization import Value

KEPT = 100
"""Executions that AWS keeps for functions without a reservation."""
_SUGGESTED = 100
"""Concurrent renders, which cost at most $8.50 an hour at 1769 MB."""


class ConcurrencyLimit(Value, frozen=True):
    """The account's limit, and the part of it that no function reserves."""

    account: int
    unreserved: int

    def available(self, reserved: int) -> int:
        """What a function that reserves `reserved` now may reserve; 0 or less is nothing."""
        return self.unreserved + reserved - KEPT

    def check(self, before: int, after: int) -> None:
        """Raise `DeploymentFailed` if a function with the reservation `before` cannot reserve `after`."""
        if after and after > self.available(before):
            raise DeploymentFailed(
                f"ReservedConcurrency={after}: the account's limit is {self.account}, "
                f"{self.unreserved} are unreserved, and AWS keeps {KEPT} of them; {self.advice(before)}"
            )

    def advice(self, before: int) -> str:
        """What to set ReservedConcurrency to."""
        if self.available(before) < 1:
            return "leave ReservedConcurrency at 0: the account's limit caps the renders"
        suggested = min(_SUGGESTED, self.available(before))
        return f"--set ReservedConcurrency={suggested} caps the concurrent renders at {suggested}"


def read() -> ConcurrencyLimit | None:
    """The account's limit; None if these credentials may not read it."""
    try:
        with boto.aws_errors():
            limit = boto.client("lambda").get_account_settings()["AccountLimit"]
    except AwsRefused:
        return None
    return ConcurrencyLimit(limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"])
