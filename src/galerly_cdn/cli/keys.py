"""Commands that make keys and sign addresses."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import click

from galerly_cdn.cli import terminal


@click.group(epilog="Example: galerly-cdn keys new --out keys")
def keys() -> None:
    """Make the keys that addresses are signed with."""


@keys.command(epilog="Example: galerly-cdn keys new --out keys")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for it.")
@click.option("--ecdsa", is_flag=True, help="ECDSA on P-256: shorter addresses. [RSA-2048]")
@terminal.JSON
def new(out: Path, *, ecdsa: bool, as_json: bool) -> None:
    """Make a pair: ID.pem for the server, ID.private.pem for who signs. Prints the ID.

    The server refuses a folder that holds a private key: copy ID.pem alone to it.
    """
    from galerly_cdn.access import keys as keyring

    key_id, public, private = keyring.create_key_pair(out, ecdsa=ecdsa)
    made = {"id": key_id, "public": str(public), "private": str(private)}
    click.echo(json.dumps(made) if as_json else key_id)


@click.command(epilog="Example: galerly-cdn sign URL --key K1.private.pem --expires 2h")
@click.argument("url")
@click.option(
    "--key",
    "file",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The private key, ID.private.pem.",
)
@click.option(
    "--expires", required=True, help="From now: 90s, 30m, 2h, 7d; or a time, in seconds of the epoch."
)
@click.option("--starts", help="Not before; as --expires.")
@click.option("--ip", help="Only for viewers of this network (CIDR).")
@click.option("--gallery", help="For every picture of the gallery at every size: clients/smith.")
@click.option("--cookies", is_flag=True, help="Print Set-Cookie values instead of a URL.")
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
    as_json: bool,
) -> None:
    """Sign URL as CloudFront does; `*` and `?` in its path are wildcards."""
    from galerly_cdn.access import keys as keyring
    from galerly_cdn.access.policy import Policy, gallery_resource

    resource = url
    if gallery is not None:
        resource = gallery_resource(url, gallery)
    now_s = int(time.time())  # noqa: TID251 - the rim
    grant = Policy(
        resource=resource,
        expires_s=_instant(expires, now_s),
        starts_s=None if starts is None else _instant(starts, now_s),
        network=_network(ip),
    )
    if not cookies and not grant.matches(url) and not grant.is_canned:
        raise click.UsageError(f"{url} is not in the gallery {gallery}.")
    signer = keyring.load_signer(file)
    if not cookies:
        signed = signer.url(url, grant)
        click.echo(json.dumps({"url": signed}) if as_json else signed)
        return
    values = signer.cookies(grant)
    flags = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if url.startswith("https:") else "")
    lines = "\n".join(f"{name}={value}; {flags}" for name, value in values.items())
    click.echo(json.dumps(values) if as_json else lines)


def _instant(told: str, now_s: int) -> int:
    """Seconds of the epoch: `told` from now (`2h`), or as they are."""
    matched = re.fullmatch(r"([0-9]{1,12})([smhd]?)", told)
    if matched is None:
        raise click.UsageError(f"{told!r} is no time: write 90s, 30m, 2h, 7d or seconds of the epoch.")
    number, unit = matched.groups()
    return now_s + int(number) * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit] if unit else int(number)


def _network(told: str | None) -> str | None:
    import ipaddress

    if told is None:
        return None
    try:
        return str(ipaddress.ip_network(told))
    except ValueError as error:
        raise click.UsageError(f"--ip: {error}") from error
