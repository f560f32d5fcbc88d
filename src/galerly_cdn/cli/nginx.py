"""The command `nginx`: prints the configuration of a front."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from galerly_cdn.cli import terminal

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog="Example: galerly-cdn nginx --node 10.0.0.1:8000 --node 10.0.0.2:8000 > nginx.conf")
@click.option(
    "--node",
    "nodes",
    required=True,
    multiple=True,
    metavar="HOST:PORT",
    help="A node; unix:/path on this machine. Once for each.",
)
@click.option(
    "--listen",
    multiple=True,
    metavar="ADDRESS",
    help="Port or address:port of viewers. [80; with a certificate 443]",
)
@click.option("--server-name", default="_", help="Host name of the CDN. [any]")
@click.option(
    "--cache",
    nargs=2,
    default=("/var/lib/nginx/galerly-cdn", "10g"),
    metavar="FOLDER SIZE",
    help="Where pictures are cached, and how much. [/var/lib/nginx/galerly-cdn 10g]",
)
@click.option(
    "--log",
    default="/var/log/nginx/galerly-cdn.log",
    show_default=True,
    metavar="FILE",
    help="Access log, which `report` reads.",
)
@click.option("--certificate", default="", metavar="FILE", help="Certificate and chain (PEM): HTTPS, HTTP/2.")
@click.option("--certificate-key", default="", metavar="FILE", help="The certificate's key (PEM).")
@click.option(
    "--http3", is_flag=True, help="HTTP/3 too. It takes nginx 1.25 or newer with it: nginx -V shows http_v3."
)
@terminal.CONFIG
def nginx(
    cache: tuple[str, str],
    listen: tuple[str, ...],
    file: Path | None,
    **options: Any,  # noqa: ANN401 - the other fields of `Front`
) -> None:
    """Print an nginx.conf for a front: nginx that caches and balances several nodes.

    A node is `galerly-cdn serve` over a store that all nodes share. Run this with the nodes' settings: sizes
    and private folders are written into the configuration. Print it again after a change of them.

    \b
    galerly-cdn nginx --node 10.0.0.1:8000 --node 10.0.0.2:8000 > /etc/nginx/nginx.conf
    nginx -t && systemctl reload nginx

    Where the setting `fronts` names the front, `purge`, `rm` and `upload` drop a photograph from its cache
    at once. That takes the admin API's token (GALERLY_ADMIN_TOKEN, or the setting
    admin_token_file). The configuration has neither the token nor a secret, but a digest.

    Nothing is read from nodes, and no file is written. docs/nginx.md describes several machines.
    """  # noqa: D301 - \b is click's mark of a paragraph that keeps its lines
    from galerly_cdn.http import front_refresh
    from galerly_cdn.nginx.configuration import configuration
    from galerly_cdn.nginx.front import Front, check_front
    from galerly_cdn.settings import load

    settings = terminal.load_settings(file).settings
    secret_md5 = front_refresh.secret_md5(load.admin_token(settings)) if settings.fronts else ""
    front = Front(
        listen=listen or (("443",) if options["certificate"] else ("80",)),
        cache_folder=cache[0],
        cache_size=cache[1],
        secret_md5=secret_md5,
        **options,
    )
    click.echo(configuration(check_front(front, settings), settings), nl=False)
