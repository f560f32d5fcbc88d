"""Describes a front: where nginx listens, which nodes answer, where the cache and the log are. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from galerly_cdn.errors import SettingsError
from galerly_cdn.serialization import Value

if TYPE_CHECKING:
    from galerly_cdn.settings.table import Settings

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})|\[[0-9A-Fa-f:.]+\])"
_NODE = re.compile(rf"{_HOST}:([0-9]{{1,5}})")
_LISTEN = re.compile(rf"(?:(?:{_HOST}|\*):)?([0-9]{{1,5}})")
_SERVER_NAME = re.compile(r"_|(?:\*\.)?[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})")
_CACHE_SIZE = re.compile(r"[1-9][0-9]{0,8}[kKmMgG]")
_FILE = re.compile(r"/[^\x00-\x1f\x7f\"'\\$;{}]+")
"""An absolute path without what nginx would take for a variable or for the end of a word."""


class Front(Value, frozen=True, kw_only=True):
    """The options of `galerly-cdn nginx`. Each node is `HOST:PORT` of its public side."""

    nodes: tuple[str, ...]
    listen: tuple[str, ...] = ("80",)
    server_name: str = "_"
    cache_folder: str = "/var/lib/nginx/galerly-cdn"
    cache_size: str = "10g"
    log: str = "/var/log/nginx/galerly-cdn.log"
    certificate: str = ""
    certificate_key: str = ""
    http3: bool = False
    secret_md5: str = ""
    """Of the secret that refreshes this front, as `front_refresh.secret_md5`; empty: nothing does."""


def check_front(front: Front, settings: Settings) -> Front:
    """The front itself. Raises `SettingsError` with a line for each option that nginx could not use."""
    problems = [*_address_problems(front, settings), *_file_problems(front)]
    if not _SERVER_NAME.fullmatch(front.server_name):
        problems.append(f"--server-name: {front.server_name!r} is no host name: write cdn.example.com")
    if not _CACHE_SIZE.fullmatch(front.cache_size):
        problems.append(f"--cache: {front.cache_size!r} is no size: write 500m or 10g")
    if bool(front.certificate) != bool(front.certificate_key):
        problems.append("--certificate and --certificate-key belong together: give both")
    if front.http3 and not front.certificate:
        problems.append("--http3: HTTP/3 is always encrypted: give --certificate and --certificate-key too")
    if settings.tls_certificate:
        problems.append(
            "tls_certificate is set: nginx speaks HTTP to its nodes. Leave it out of the nodes' settings, "
            "and give nginx the certificate: --certificate FILE --certificate-key FILE"
        )
    problems.extend(
        f"{name}: nginx takes `$` for the beginning of a variable: leave it out"
        for name in ("allow_origin", "timing_allow_origin")
        if "$" in getattr(settings, name)
    )
    if problems:
        raise SettingsError(problems)
    return front


def _address_problems(front: Front, settings: Settings) -> list[str]:
    problems = []
    for node in front.nodes:
        if not _has_port(_NODE, node):
            problems.append(f"--node: {node!r} is no address: write 192.0.2.1:8000 or [2001:db8::1]:8000")
        elif settings.admin_port > 0 and node.endswith(f":{settings.admin_port}"):
            problems.append(f"--node: {node} is the admin API: give the port of pictures, {settings.port}")
    problems.extend(
        f"--node: {node} is given twice" for node in sorted(set(front.nodes)) if front.nodes.count(node) > 1
    )
    problems.extend(
        f"--listen: {one!r} is no address: write 443, 192.0.2.1:80 or [::]:80"
        for one in front.listen
        if not _has_port(_LISTEN, one)
    )
    return problems


def _has_port(pattern: re.Pattern[str], address: str) -> bool:
    found = pattern.fullmatch(address)
    return found is not None and 1 <= int(found[1]) <= 65535


def _file_problems(front: Front) -> list[str]:
    files = {
        "--cache": front.cache_folder,
        "--log": front.log,
        "--certificate": front.certificate,
        "--certificate-key": front.certificate_key,
    }
    return [
        f"{option}: {path!r} is no absolute path that nginx can read: begin it with /, without quotes, "
        "$, ; and braces"
        for option, path in files.items()
        if path and not _FILE.fullmatch(path)
    ]
