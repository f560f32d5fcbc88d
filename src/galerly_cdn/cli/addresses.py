"""The commands `link` (builds a `<picture>`), `keys` and `sign` (sign addresses)."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click

from galerly_cdn.cli import terminal
from galerly_cdn.cli.library_options import LibraryOptions, library_options


@click.command(epilog='Example: galerly-cdn link wedding/1.jpg --alt "The first dance" --store photographs')
@click.argument("key")
@click.option("--size", default="thumbnail", show_default=True, help="Largest size shown on the page.")
@click.option("--alt", default="", help="Text alternative for people who cannot see the photograph.")
@click.option(
    "--url", help="Scheme and host of the addresses. [the first of public_urls, else without a host]"
)
@library_options
@terminal.JSON
def link(key: str, size: str, alt: str, url: str | None, *, where: LibraryOptions, as_json: bool) -> None:  # noqa: PLR0913 - its options
    """Print the HTML of a <picture> that shows the photograph KEY. Applications use galerly_cdn.links."""
    from galerly_cdn.links import Links

    settings = where.settings()
    links = Links(next(iter(settings.public_urls), "") if url is None else url, settings.sizes)
    facts = where.run_rendering(lambda library: library.inspect(key), workers=1).facts
    picture = links.picture(key, facts.width_px, facts.height_px, size, alt=alt)
    terminal.print_value(picture, str(picture), as_json=as_json)


@click.group(epilog="Example: galerly-cdn keys new --out keys")
def keys() -> None:
    """Create the keys that sign addresses."""


@keys.command(epilog="Example: galerly-cdn keys new --out keys")
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to."
)
@click.option("--ecdsa", is_flag=True, help="Use ECDSA on P-256, for shorter addresses. [RSA-2048]")
@terminal.JSON
def new(out: Path, *, ecdsa: bool, as_json: bool) -> None:
    """Create a key pair: ID.pem for the server, ID.private.pem for the signing application. Prints the ID.

    Copy only ID.pem to the server: it refuses a folder that contains a private key.
    """
    from galerly_cdn.access import keys as keyring

    key_id, public, private = keyring.create_key_pair(out, ecdsa=ecdsa)
    files = {"id": key_id, "public": str(public), "private": str(private)}
    click.echo(json.dumps(files) if as_json else key_id)


@click.command(epilog="Example: galerly-cdn sign URL --key K1.private.pem --expires 2h")
@click.argument("url")
@click.option(
    "--key",
    "file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Private key file, ID.private.pem.",
)
@click.option(
    "--expires",
    required=True,
    help="End of validity: from now as 90s, 30m, 2h, 7d, or in seconds of the epoch.",
)
@click.option("--starts", help="Start of validity, in the format of --expires.")
@click.option("--ip", help="Network that viewers must be in (CIDR).")
@click.option("--gallery", help="Sign for every picture of a gallery, at every size: clients/smith.")
@click.option("--cookies", is_flag=True, help="Print Set-Cookie values instead of a URL.")
@click.option("--domain", help="Domain of the cookies, for several hosts of it. [the URL's host only]")
@click.option("--path", help="Path of the cookies; a browser keeps one set for each domain and path. [/]")
@terminal.JSON
def sign(  # noqa: PLR0913, PLR0917 - its options
    url: str,
    file: Path,
    expires: str,
    starts: str | None,
    ip: str | None,
    gallery: str | None,
    *,
    cookies: bool,
    domain: str | None,
    path: str | None,
    as_json: bool,
) -> None:
    """Sign URL with CloudFront's scheme. `*` and `?` in its path are wildcards.

    A second set of cookies for the same domain and path replaces the first one: a browser has one set for
    each gallery only if their paths differ, else sign the galleries together (`--gallery clients`).
    """
    from galerly_cdn.access import keys as keyring
    from galerly_cdn.access.policy import Policy, gallery_resource

    resource = url if gallery is None else gallery_resource(url, gallery)
    now_s = int(time.time())  # noqa: TID251 - a command reads the clock
    policy = Policy(
        resource=resource,
        expires_s=_parse_time(expires, now_s),
        starts_s=None if starts is None else _parse_time(starts, now_s),
        network=_parse_network(ip),
    )
    if not cookies and not policy.matches(url) and not policy.is_canned:
        raise click.UsageError(f"URL {url} is not in the gallery {gallery}.")
    attributes = _cookie_attributes(url, domain, path, cookies=cookies)
    signer = keyring.load_signer(file)
    if not cookies:
        signed = signer.url(url, policy)
        click.echo(json.dumps({"url": signed}) if as_json else signed)
        return
    values = signer.cookies(policy)
    lines = (f"{name}={value}; {attributes}" for name, value in values.items())
    click.echo(json.dumps(values) if as_json else "\n".join(lines))


def _cookie_attributes(url: str, domain: str | None, path: str | None, *, cookies: bool) -> str:
    """The attributes of Set-Cookie (RFC 6265 §4.1). Raises `UsageError`."""
    from urllib.parse import urlsplit

    if not cookies and (domain or path):
        raise click.UsageError("--domain and --path are for --cookies.")
    host = urlsplit(url).hostname or ""
    if domain is not None and f".{host}" != f".{domain}" and not host.endswith(f".{domain}"):
        raise click.UsageError(f"--domain: a browser takes no cookie for {domain} from {host}.")
    if path is not None and not re.fullmatch(r"/[!-:<-~]*", path):
        raise click.UsageError(f"--path: {path!r} is no path: use / or /resize/800x600/clients/smith.")
    of_domain = f"; Domain={domain}" if domain else ""
    secure = "; Secure" if url.startswith("https:") else ""
    return f"Path={path or '/'}{of_domain}; HttpOnly; SameSite=Lax{secure}"


def _parse_time(text: str, now_s: int) -> int:
    """As `policy.parse_time`. Raises `UsageError`."""
    from galerly_cdn.access import policy

    try:
        return policy.parse_time(text, now_s)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _parse_network(text: str | None) -> str | None:
    """As `policy.parse_network`. Raises `UsageError`."""
    from galerly_cdn.access import policy

    try:
        return None if text is None else policy.parse_network(text)
    except ValueError as error:
        raise click.UsageError(f"--ip: {error}") from error
