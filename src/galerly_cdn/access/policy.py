"""What does a policy of CloudFront's allow: which addresses, when, to whom? Pure."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Self
from urllib.parse import urlsplit

from galerly_cdn.errors import SignatureInvalid
from galerly_cdn.http import client_address as address
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.serialization import ValidationError, Value, from_json


class _Time(Value, frozen=True, rename={"epoch_s": "AWS:EpochTime"}):
    epoch_s: int


class _Address(Value, frozen=True, rename={"network": "AWS:SourceIp"}):
    network: str


class _Condition(
    Value,
    frozen=True,
    rename={"before": "DateLessThan", "after": "DateGreaterThan", "client": "IpAddress"},
):
    before: _Time
    after: _Time | None = None
    client: _Address | None = None


class _Statement(Value, frozen=True, rename="pascal"):
    resource: str
    condition: _Condition


class _Policy(Value, frozen=True, rename="pascal"):
    statement: tuple[_Statement]


class Policy(Value, frozen=True, kw_only=True):
    """What a signature allows: a resource, from a time to a time, to a network of viewers.

    `*` in the resource stands for any characters, `/` among them, `?` for one. Times are seconds of the
    epoch; `expires_s` itself is already too late.
    """

    resource: str
    expires_s: int
    starts_s: int | None = None
    network: str | None = None

    @property
    def is_canned(self) -> bool:
        """Whether the short form says it all: one address and its end."""
        return self.starts_s is None and self.network is None and not set("*?") & set(_path(self.resource))

    def policy(self) -> bytes:
        """The JSON that is signed, without white space, in CloudFront's order."""
        condition: dict[str, object] = {"DateLessThan": {"AWS:EpochTime": self.expires_s}}
        if self.network is not None:
            condition["IpAddress"] = {"AWS:SourceIp": self.network}
        if self.starts_s is not None:
            condition["DateGreaterThan"] = {"AWS:EpochTime": self.starts_s}
        statement = {"Resource": self.resource, "Condition": condition}
        return json.dumps({"Statement": [statement]}, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def read(cls, policy: bytes) -> Self:
        """The inverse of `policy`, of any JSON of that shape. Raises `SignatureInvalid`."""
        try:
            (statement,) = from_json(_Policy, policy).statement
        except ValidationError as error:
            raise SignatureInvalid from error
        condition = statement.condition
        return cls(
            resource=statement.resource,
            expires_s=condition.before.epoch_s,
            starts_s=condition.after.epoch_s if condition.after else None,
            network=condition.client.network if condition.client else None,
        )

    def covers(self, address: str) -> bool:
        """Whether an address is what the resource names."""
        return _pattern(self.resource).fullmatch(address) is not None

    def admits(self, client: str) -> bool:
        """Whether a viewer's address lies in the network; 0.0.0.0/0 is everybody, as CloudFront reads it."""
        if self.network is None or self.network == "0.0.0.0/0":
            return True
        try:
            return address.parse_ip(client) in ipaddress.ip_network(self.network, strict=False)
        except ValueError:
            return False


def _path(resource: str) -> str:
    """A resource without its query, whose `?` is no wildcard in an address."""
    return resource.partition("?")[0]


def _pattern(resource: str) -> re.Pattern[str]:
    """`*` as any characters and `?` as one; atomic, so that no address can make matching backtrack."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in resource.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


def gallery_resource(address: str, gallery: str) -> str:
    """The resource of every picture of a gallery at every size, on the scheme and host of an address.

    Raises `MalformedKey`.
    """
    parts = urlsplit(address)
    encoded = format_key(checked_key(gallery)).replace("*", "%2A")
    return f"{parts.scheme}://{parts.netloc}/resize/*/{encoded}/*"
