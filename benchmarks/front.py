"""Measures the CPU per hit of our nginx configuration, a plain `proxy_cache`, Varnish, and a node itself.

All of them send the same picture, which one node has rendered, to a browser. The access logs of both nginx
have the same fields; Varnish writes none. A server that is not installed is left out.
"""

from __future__ import annotations

import shutil
import sys
from argparse import ArgumentParser
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from benchmarks import photographs, proc
from benchmarks.hit import ask, settle
from benchmarks.report import Report
from benchmarks.sampling import interleave, ratios, spread
from benchmarks.servers import Running, galerly, picture
from galerly_cdn.settings.table import Settings
from tests.support import nginx, varnish

if TYPE_CHECKING:
    from collections.abc import Iterator

OVER_PLAIN = 1.3
_PLAIN = """\
worker_processes auto;
events {{ worker_connections 8192; }}
http {{
    sendfile on;
    tcp_nopush on;
    log_format json escape=json '{{"time_s":$msec,"request_id":"$request_id","client":"$remote_addr",'
        '"method":"$request_method","path":"$uri","status":$status,"bytes":$body_bytes_sent,'
        '"request_time_s":$request_time,"content_type":"$sent_http_content_type",'
        '"nginx_cache":"$upstream_cache_status","node":"$upstream_addr"}}';
    access_log {folder}/access.log json;
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=plain:64m;
    upstream nodes {{ server 127.0.0.1:{node}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache plain;
            proxy_cache_key $uri;
            proxy_ignore_headers Vary;
            proxy_cache_valid 200 10s;
        }}
    }}
}}
"""
"""What one writes first; it would show an AVIF to browsers that know none."""
_PLAIN_NAME, _OURS, _NODE = "nginx, plain proxy_cache", "nginx, ours", "a node, from memory"
_TWO = "a node of two processes"


@contextmanager
def _nginx(folder: Path, text: str, port: int) -> Iterator[Running]:
    with nginx.running(folder, text, port) as process:
        yield Running(f"http://127.0.0.1:{port}", process.pid)


@contextmanager
def _varnish(folder: Path, node: int) -> Iterator[Running]:
    (folder / "secret").write_text("secret", "ascii")
    with varnish.running(folder, varnish.configuration([node, node], folder / "secret")) as port:
        pid = int((folder / "varnish/_.pid").read_text("ascii"))
        yield Running(f"http://127.0.0.1:{port}", pid)


def _start_all(servers: ExitStack, root: Path, scratch: Path) -> dict[str, Running]:
    """Every server by its name."""
    folders = {name: scratch / name for name in ("plain", "ours", "varnish")}
    for folder in folders.values():
        folder.mkdir()
    node = servers.enter_context(
        galerly(
            root, scratch / "renditions", trusted_proxies="127.0.0.1/32", health_path="/health", workers=1
        )
    )
    at = urlsplit(node.address).port or 0
    plain_port, ours_port = nginx.free_port(), nginx.free_port()
    plain = _PLAIN.format(folder=folders["plain"], node=at, port=plain_port)
    ours = nginx.front_configuration(folders["ours"], ours_port, [at], Settings())
    started = {
        _PLAIN_NAME: servers.enter_context(_nginx(folders["plain"], plain, plain_port)),
        _OURS: servers.enter_context(_nginx(folders["ours"], ours, ours_port)),
        _NODE: node,
        _TWO: servers.enter_context(galerly(root, scratch / "two", processes=2, workers=1)),
    }
    if shutil.which("varnishd"):
        started["Varnish"] = servers.enter_context(_varnish(folders["varnish"], at))
    return started


def compare(root: Path, rounds: int, requests: int, report: Report) -> None:
    """Print the table."""
    path = picture(photographs.keys(root)[0], "800x600")
    with TemporaryDirectory() as scratch, ExitStack() as servers:
        running = _start_all(servers, root, Path(scratch))
        for name in (_NODE, _TWO):
            settle(running[name], path, requests // 10)
        for server in running.values():
            ask(server, path, {}, requests // 10)
            proc.settle(server.pid)
        asked = {name: partial(ask, server, path, {}, requests) for name, server in running.items()}
        cpu_us = interleave(asked, rounds)
    rows = []
    for name, values in cpu_us.items():
        ratio = spread(ratios(values, cpu_us[_PLAIN_NAME]))
        verdict = (
            report.at_most(f"{_OURS} ÷ {_PLAIN_NAME}", ratio.median, OVER_PLAIN) if name == _OURS else ""
        )
        rows.append([name, spread(values).show(1), ratio.show(), verdict])
    report.table(["a hit of", "CPU µs", "÷ plain proxy_cache", "target"], rows)


def main() -> int:
    """Run the command line."""
    parser = ArgumentParser(prog="python -m benchmarks.front", description=__doc__)
    photographs.add_option(parser)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of all servers [9]")
    parser.add_argument("--requests", type=int, default=8000, help="requests per measurement [8000]")
    options = parser.parse_args()
    if not shutil.which("nginx"):
        print("nginx is not installed. On Debian and Ubuntu: apt install nginx-light", file=sys.stderr)
        return 2
    report = Report(f"Fronts: {options.rounds} rounds of {options.requests} hits, access log on")
    compare(photographs.folder(options.photographs), options.rounds, options.requests, report)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
