"""Builds, parses and evaluates CloudFront's policies: addresses, times and networks of viewers. Pure."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import Self
from urllib.parse import urlsplit

from galerly_cdn.errors import SignatureInvalid
from galerly_cdn.http.urls import checked_key, format_key
from galerly_cdn.serialization import ValidationError, Value, from_json
from galerly_cdn.settings.networks import parse_ip


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
    """The policy of a signature: a resource, from a time until a time, for a network of viewers.

    `*` in the resource matches any characters, `/` included, and `?` matches one. Times are seconds since
    the epoch; `expires_s` itself is already expired.
    """

    resource: str
    expires_s: int
    starts_s: int | None = None
    network: str | None = None

    @property
    def is_canned(self) -> bool:
        """Whether CloudFront's canned form suffices, which holds one address and its expiry."""
        return self.starts_s is None and self.network is None and not set("*?") & set(_path(self.resource))

    def document(self) -> bytes:
        """The JSON that is signed: without white space, its members in CloudFront's order."""
        condition: dict[str, object] = {"DateLessThan": {"AWS:EpochTime": self.expires_s}}
        if self.network is not None:
            condition["IpAddress"] = {"AWS:SourceIp": self.network}
        if self.starts_s is not None:
            condition["DateGreaterThan"] = {"AWS:EpochTime": self.starts_s}
        statement = {"Resource": self.resource, "Condition": condition}
        return json.dumps({"Statement": [statement]}, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def parse(cls, document: bytes) -> Self:
        """The inverse of `document`, for any JSON of that schema. Raises `SignatureInvalid`."""
        try:
            (statement,) = from_json(_Policy, document).statement
        except ValidationError as error:
            raise SignatureInvalid from error
        condition = statement.condition
        return cls(
            resource=statement.resource,
            expires_s=condition.before.epoch_s,
            starts_s=condition.after.epoch_s if condition.after else None,
            network=condition.client.network if condition.client else None,
        )

    def matches(self, address: str) -> bool:
        """Whether the resource matches an address."""
        return _pattern(self.resource).fullmatch(address) is not None

    def allows_client(self, client: str) -> bool:
        """Whether a viewer's address is in the network; 0.0.0.0/0 holds every address, as in CloudFront."""
        if self.network is None or self.network == "0.0.0.0/0":
            return True
        try:
            return parse_ip(client) in ipaddress.ip_network(self.network, strict=False)
        except ValueError:
            return False


def _path(resource: str) -> str:
    """A resource without its query; in an address, the `?` before the query is not a wildcard."""
    return resource.partition("?")[0]


def _pattern(resource: str) -> re.Pattern[str]:
    """The resource as a regular expression; its groups are atomic, so that no address makes it backtrack."""
    first, *rest = (re.escape(part).replace(r"\?", ".") for part in resource.split("*"))
    if not rest:
        return re.compile(first, re.DOTALL)
    *middle, last = rest
    return re.compile(first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last, re.DOTALL)


def gallery_resource(address: str, gallery: str) -> str:
    """The resource that matches every picture of a gallery at every size, on an address's scheme and host.

    Raises `MalformedKey`.
    """
    parts = urlsplit(address)
    encoded = format_key(checked_key(gallery)).replace("*", "%2A")
    return f"{parts.scheme}://{parts.netloc}/resize/*/{encoded}/*"


def parse_time(text: str, now_s: int) -> int:
    """Seconds of the epoch, from a duration from now (`2h`) or seconds of the epoch. Raises `ValueError`."""
    matched = re.fullmatch(r"([0-9]{1,12})([smhd]?)", text)
    if matched is None:
        raise ValueError(f"{text!r} is not a time: use 90s, 30m, 2h, 7d or seconds of the epoch.")
    number, unit = matched.groups()
    return now_s + int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit] if unit else int(number)


def parse_network(text: str) -> str:
    """The network in CIDR notation. Raises `ValueError`."""
    return str(ipaddress.ip_network(text))
