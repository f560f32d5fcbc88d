"""Reads what is asked, of which servers, in which order: the tables in `requests/`.

A server has a name, a collection of pictures (`pictures.py`), settings, groups, perhaps `store` or `admin`.
A group has a title and requests, in order; `admin` sends them to the admin side, `send` adds headers to each,
`signed` signs each. A request is a line, `METHOD path | Header: value | …`, or a table with

    ask       such a line, or several
    each      headers: the line is asked once with each of them
    body      the name of a picture; or `text`, itself; `chunked` sends it in chunks, without a length
    signed    what `galerly-cdn sign` takes: expires (2h), starts, ip, gallery, cookies; `key` is rsa, ecdsa
              which the server knows, or unknown; `of` signs another path, `url` for another host
    edit      [pattern, replacement]: changes the signed address, or the cookies, before they are sent
    raw       the bytes of a whole request, in ISO 8859-1
    fresh     on a connection of its own, while the one before stays open

or it is a step: put (a key, and the `picture` it becomes), remove (a key), do (restart, lose, rot).

In paths and headers {etag} is the ETag that was answered last, {asset:css} an address in the last page,
{long:99} so many letters, {md5}, {sha1}, {sha256}, {sha512} the body's checksum in base64, {token} the admin
side's, {other_token} nobody's.
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
    """One request as the table tells it, or one step."""

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
    def told(self) -> dict[str, Any]:
        """The request as it is recorded: before what varies is filled in."""
        said: dict[str, Any] = {
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
        return {name: value for name, value in said.items() if value}


@dataclass(frozen=True)
class Plan:
    """One server, and what it is asked."""

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
        for number, asked in enumerate(group["requests"], 1)
        for row in _rows(f"{server['name']}: {group['title']}, {number}", asked, group)
    ]
    return Plan(
        name=server["name"],
        collection=server["collection"],
        settings=server.get("settings", {}),
        is_store=server.get("store", False),
        has_admin=server.get("admin", False),
        rows=tuple(rows),
    )


def _rows(name: str, asked: str | dict[str, Any], group: dict[str, Any]) -> Iterator[Row]:
    """The requests that one entry stands for."""
    entry: dict[str, Any] = {"ask": asked} if isinstance(asked, str) else asked
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
        request, *headers = line.split(" | ")
        method, _, path = request.partition(" ")
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
            signed=None if signed is None else Signed.read(path, signed),
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
