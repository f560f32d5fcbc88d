"""The commands people type. Exit codes: 0 done, 1 it failed, 2 it was asked for wrongly."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from galerly_cdn import __version__

if TYPE_CHECKING:
    from galerly_cdn.config import Loaded
    from galerly_cdn.model import Facts, Rendered

_CONFIG = click.option(
    "--config",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="GALERLY_CONFIG",
    help="Read settings from this TOML file (or GALERLY_CONFIG).",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class _Commands(click.Group):
    """Prints an error as one line for every problem, never a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        from galerly_cdn.errors import Forbidden, GalerlyError, SettingsError

        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _complain(*error.problems)
            sys.exit(2)
        except Forbidden as error:
            _complain(f"{error.public} `galerly-cdn config` shows the allow-list.")
            sys.exit(2)
        except GalerlyError as error:
            _complain(error.public + (f" ({error.detail})" if error.detail else ""))
            sys.exit(1)
        except OSError as error:
            if error.errno == errno.EPIPE:  # `| head`: click ends quietly
                raise
            _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error))
            sys.exit(1)


def _complain(*lines: str) -> None:
    for line in lines:
        click.echo(f"galerly-cdn: {line}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """An image CDN: photographs in a folder, the right picture in every browser.

    \b
    Try it:
      galerly-cdn serve ~/Pictures
      galerly-cdn render photo.jpg --size 800x600 -o small.jpg
      galerly-cdn inspect photo.jpg

    Every setting is listed by `galerly-cdn config`.
    """  # noqa: D301 - click's mark of a paragraph that keeps its lines is the character itself


@main.command(epilog="Example: galerly-cdn serve ~/Pictures --port 8080")
@click.argument("photographs", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--host", help="Address to listen on. [127.0.0.1]")
@click.option("--port", type=int, help="Port to listen on, 0 for any free one. [8000]")
@click.option("--renditions", help="Folder for the renditions. [one per folder, in your cache folder]")
@click.option("--workers", type=int, help="Render processes. [one per core]")
@click.option("--browse", is_flag=True, default=None, help="Serve the page on a public address too.")
@_CONFIG
def serve(photographs: Path, file: Path | None, **options: object) -> None:
    """Serve the folder PHOTOGRAPHS: its pictures at /resize/…, a page to browse them at /.

    The folder is only read. A photograph added, edited or replaced in it shows on the next request.
    Stop with Ctrl-C or SIGTERM: answers under way are finished first.
    """
    from galerly_cdn import app

    settings = _load(file, **options).settings
    is_clean = app.serve(settings, photographs, lambda address: click.echo(f"galerly-cdn serves {address}"))
    sys.exit(0 if is_clean else 1)


@main.command(epilog="Example: galerly-cdn render photo.jpg --size thumbnail --format webp -o photo.webp")
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--size", required=True, help="A size of the allow-list: 800x600, or its name.")
@click.option("--format", "image_format", help="jpeg, webp, avif or png. [png with alpha, else jpeg]")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="File to write, - for stdout.",
)
@_CONFIG
@_JSON
def render(  # noqa: PLR0913 - its options
    photograph: Path, size: str, image_format: str | None, output: Path, file: Path | None, *, as_json: bool
) -> None:
    """Render PHOTOGRAPH at a size into a file: exactly what the server would answer."""
    from galerly_cdn import app

    if output.exists() and output.samefile(photograph):
        raise click.UsageError(f"{output} is the photograph itself: it would be lost.")
    rendered, body = app.render_file(_load(file, workers=1).settings, photograph, size, image_format)
    with click.open_file(os.fspath(output), "wb", atomic=True) as out:
        out.write(body)
    is_stdout_taken = output == Path("-")
    _answer(rendered, _rendered_line(output, rendered), as_json=as_json, err=is_stdout_taken)


@main.command(epilog="Example: galerly-cdn inspect photo.jpg --json")
@click.argument("photograph", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@_CONFIG
@_JSON
def inspect(photograph: Path, file: Path | None, *, as_json: bool) -> None:
    """Tell what PHOTOGRAPH is, and what its renditions lose."""
    from galerly_cdn import app

    facts = app.inspect_file(_load(file, workers=1).settings, photograph)
    _answer(facts, _facts_lines(facts), as_json=as_json)


@main.group(epilog="Example: galerly-cdn keys new --out keys")
def keys() -> None:
    """Make the keys that addresses are signed with."""


@keys.command(epilog="Example: galerly-cdn keys new --out keys")
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for it.")
@click.option("--ecdsa", is_flag=True, help="ECDSA on P-256: shorter addresses. [RSA-2048]")
@_JSON
def new(out: Path, *, ecdsa: bool, as_json: bool) -> None:
    """Make a pair: ID.pem for the server, ID.private.pem for who signs. Prints the ID.

    The server refuses a folder that holds a private key: copy ID.pem alone to it.
    """
    from galerly_cdn import keyring

    key_id, public, private = keyring.create(out, ecdsa=ecdsa)
    made = {"id": key_id, "public": str(public), "private": str(private)}
    click.echo(json.dumps(made) if as_json else key_id)


@main.command(epilog="Example: galerly-cdn sign URL --key K1.private.pem --expires 2h")
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
@_JSON
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
    from galerly_cdn import keyring
    from galerly_cdn.grant import Grant, gallery_resource

    resource = url
    if gallery is not None:
        resource = gallery_resource(url, gallery)
    now_s = int(time.time())  # noqa: TID251 - the rim
    grant = Grant(
        resource=resource,
        expires_s=_instant(expires, now_s),
        starts_s=None if starts is None else _instant(starts, now_s),
        network=_network(ip),
    )
    if not cookies and not grant.covers(url) and not grant.is_canned:
        raise click.UsageError(f"{url} is not in the gallery {gallery}.")
    signer = keyring.signer(file)
    if not cookies:
        signed = signer.url(url, grant)
        click.echo(json.dumps({"url": signed}) if as_json else signed)
        return
    values = signer.cookies(grant)
    flags = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if url.startswith("https:") else "")
    lines = "\n".join(f"{name}={value}; {flags}" for name, value in values.items())
    click.echo(json.dumps(values) if as_json else lines)


@main.command(epilog="Example: GALERLY_WORKERS=4 galerly-cdn config")
@_CONFIG
@_JSON
def config(file: Path | None, *, as_json: bool) -> None:
    """Show every setting, its value, and where the value comes from."""
    from galerly_cdn.config import DESCRIBED

    loaded = _load(file)
    values = {setting.name: getattr(loaded.settings, setting.name) for setting in DESCRIBED}
    if as_json:
        shown = {name: {"value": value, "from": loaded.origin[name]} for name, value in values.items()}
        click.echo(json.dumps(shown, indent=2))
        return
    for setting in DESCRIBED:
        click.echo(f"\n# {setting.description}")
        click.echo(f"{setting.name} = {_toml(values[setting.name])}  # {loaded.origin[setting.name]}")


@main.command(epilog="Example: galerly-cdn version --json")
@_JSON
def version(*, as_json: bool) -> None:
    """Tell the version of galerly-cdn, of its libvips, and the formats that really decode."""
    from galerly_cdn import app

    hello = app.renderer(_load(None, workers=1).settings)
    versions = {"galerly-cdn": __version__, "libvips": hello.libvips, "decodes": " ".join(hello.formats)}
    lines = "\n".join(f"{name} {told}" for name, told in versions.items())
    click.echo(json.dumps(versions) if as_json else lines)


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


def _load(file: Path | None, **options: object) -> Loaded:
    from galerly_cdn.config import load

    return load(options, file)


def _answer(value: Facts | Rendered, text: str, *, as_json: bool, err: bool = False) -> None:
    from galerly_cdn.model import to_json

    click.echo(to_json(value).decode() if as_json else text, err=err)


def _rendered_line(output: Path, rendered: Rendered) -> str:
    lost = f"; lost: {', '.join(rendered.lost)}" if rendered.lost else ""
    sides = f"{rendered.width_px}×{rendered.height_px} px"
    return f"{output}: {rendered.format}, {sides}, {rendered.length_bytes} bytes{lost}"


def _facts_lines(facts: Facts) -> str:
    rows = {
        "format": facts.format,
        "sides": f"{facts.width_px} × {facts.height_px} px upright (orientation {facts.orientation})",
        "pixels": f"{facts.width_px * facts.height_px / 1e6:.1f} megapixels, {facts.frames} frame(s)",
        "samples": f"{facts.bands} × {facts.bits} bit{', alpha' if facts.has_alpha else ''}",
        "coding": "progressive" if facts.is_progressive else "sequential",
        "profile": facts.profile or "none (taken as sRGB)",
        "metadata": ", ".join(facts.metadata) or "none",
        "renditions lose": ", ".join(facts.loses) or "nothing",
        "memory to decode": f"about {facts.decode_bytes / 1e6:.0f} MB",
    }
    return "\n".join(f"{name:>16}  {value}" for name, value in rows.items())


def _toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + "".join(f"\n    {_toml(one)}," for one in value) + "\n]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML 1.0: no raw DEL
