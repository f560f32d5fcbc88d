"""Reads the tables in `requests/`: servers, and the requests to each, in order.

A server has a name, a collection of pictures (`pictures.py`), settings, groups, and optionally `store` or
`admin`. A group has a title and requests; `admin` sends them to the admin listener, `send` adds headers to
each, `signed` signs each. A request is a line, `METHOD path | Header: value | …`, or a table with

    ask       one line or several
    each      headers: the line is sent once with each of them
    body      the name of a picture; or `text`, the body itself; `chunked` sends it without a length
    signed    options of `galerly-cdn sign`: expires (2h), starts, ip, gallery, cookies; `key` is rsa or ecdsa
              (known to the server) or unknown; `of` signs another path, `url` another host
    edit      [pattern, replacement]: changes the signed address or the cookies before they are sent
    raw       the bytes of a whole request, in ISO 8859-1
    fresh     uses a new connection while the previous one stays open

or a step: put (a key, and its new `picture`), remove (a key), do (restart; lose, which deletes the stored
renditions; rot, which corrupts them).

Placeholders in paths and headers: {etag} is the last response's ETag, {asset:css} an asset's address in the
last page, {long:99} a string of that length, {md5}, {sha1}, {sha256}, {sha512} the body's checksum in base64,
{token} the admin API's token, {other_token} an unknown token.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checks.answers import pictures
from checks.answers.servers import Signed

if TYPE_CHECKING:
    from collections.abc import Iterator

_TABLES = Path(__file__).parent / "requests"


@dataclass(frozen=True)
class Row:
    """One request or step of a table."""

    name: str
    method: str = ""
    path: str = ""
    headers: tuple[str, ...] = ()
    body: bytes | None = None
    body_name: str = ""
    is_chunked: bool = False
    signed: Signed | None = None
    edit: tuple[str, str] = ("", "")
    raw: str = ""
    is_fresh: bool = False
    is_admin: bool = False
    step: dict[str, str] = field(default_factory=dict)

    @property
    def recorded(self) -> dict[str, Any]:
        """The recorded form of the request, with its placeholders."""
        values: dict[str, Any] = {
            "method": self.method,
            "path": self.path,
            "headers": list(self.headers),
            "body": self.body_name,
            "chunked": self.is_chunked,
            "signed": self.signed and self.signed._asdict(),
            "edit": self.edit[0] and list(self.edit),
            "raw": self.raw,
            "fresh": self.is_fresh,
            "admin": self.is_admin,
        }
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True)
class Plan:
    """One server and its requests."""

    name: str
    collection: str
    settings: dict[str, Any]
    is_store: bool
    has_admin: bool
    rows: tuple[Row, ...]


def plans() -> list[Plan]:
    """Every server of the tables, in order."""
    tables = [tomllib.loads(file.read_text("utf-8")) for file in sorted(_TABLES.glob("*.toml"))]
    return [_plan(server) for table in tables for server in table["server"]]


def _plan(server: dict[str, Any]) -> Plan:
    rows = [
        row
        for group in server["group"]
        for number, request in enumerate(group["requests"], 1)
        for row in _rows(f"{server['name']}: {group['title']}, {number}", request, group)
    ]
    return Plan(
        name=server["name"],
        collection=server["collection"],
        settings=server.get("settings", {}),
        is_store=server.get("store", False),
        has_admin=server.get("admin", False),
        rows=tuple(rows),
    )


def _rows(name: str, request: str | dict[str, Any], group: dict[str, Any]) -> Iterator[Row]:
    """The requests or the step of one entry."""
    entry: dict[str, Any] = {"ask": request} if isinstance(request, str) else request
    is_admin = group.get("admin", False)
    if "raw" in entry:
        yield Row(name, raw=entry["raw"], is_admin=is_admin)
        return
    if "ask" not in entry:
        yield Row(name, step=entry)
        return
    lines: list[str] = [entry["ask"]] if isinstance(entry["ask"], str) else entry["ask"]
    variants = [f"{line} | {header}" for line in lines for header in entry.get("each", ())] or lines
    for number, line in enumerate(variants, 1):
        request_line, *headers = line.split(" | ")
        method, _, path = request_line.partition(" ")
        signed = entry.get("signed", group.get("signed"))
        body, body_name = _body(entry)
        yield Row(
            name if len(variants) == 1 else f"{name}.{number}",
            method,
            path,
            (*group.get("send", ()), *headers),
            body=body,
            body_name=body_name,
            is_chunked=entry.get("chunked", False),
            signed=None if signed is None else Signed.from_table(path, signed),
            edit=tuple(entry.get("edit", ("", ""))),
            is_fresh=entry.get("fresh", False),
            is_admin=is_admin,
        )


def _body(entry: dict[str, Any]) -> tuple[bytes | None, str]:
    if "body" in entry:
        return pictures.picture(entry["body"]), f"the picture {entry['body']}"
    if "text" in entry:
        return entry["text"].encode(), entry["text"]
    return None, ""
