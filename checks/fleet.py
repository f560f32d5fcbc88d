"""Runs a fleet on this machine: two fronts (nginx), two nodes and an S3 server.

    script/fleet                   start it, print its addresses, and serve until Ctrl+C
    script/fleet faults            break each of its parts under load, and print what viewers got

The fronts have the configuration that `galerly-cdn nginx` prints. The S3 server is versitygw (script/s3
builds it) or SeaweedFS (script/setup test installs it). `script/fleet COMMAND --help` says more.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support import pictures, s3_servers, seaweedfs
from tests.support.faulty_proxy import StoreProxy
from tests.support.fleet import Fleet
from tests.support.fleet_faults import FAULTS, STORE_FAULTS, Stage
from tests.support.fleet_load import UNLIMITED, Load, cold_pictures, put_photographs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.fleet_faults import Fault
    from tests.support.fleet_load import Summary
    from tests.support.s3_servers import S3Server

_STORES = ["versitygw", "seaweedfs"]
_RECOVERY_S = 5
_SHORT = {"proxy_cache_valid 200 10s": "proxy_cache_valid 200 1s"}
_HEADER = ("fault", "hits", "failed", "slowest, s", "misses", "failed", "wrong", "recovery, s", "")
_UP = """
The store has one photograph. The store and the logs are in a folder that is deleted at the end.
"""
_FAULTS = """
Four viewers request pictures through the fronts: hot ones, which every front has, and cold ones, which
nobody has requested. They ask the other front if a connection fails, as a browser does with two addresses.
The MD5 of every body must be its ETag, its length the Content-Length, its sides those of the photograph.
Entries of the fronts live 1 s instead of 10 s, so that hot pictures are compared with a node's again and
again.

Required, else the exit status is 1: no hit fails, no bytes are wrong, no answer fails or takes longer than
1 s later than 5 s after the fault, and no miss fails unless the fault is one of the store's or of the
workers.
"""


def main() -> int:
    arguments = _parser().parse_args()
    with s3_servers.credentials(), tempfile.TemporaryDirectory(prefix="galerly-fleet-") as temporary:
        folder = Path(temporary)
        problem = _missing(arguments.store)
        if problem:
            print(f"galerly-cdn: {problem}", file=sys.stderr)
            return 2
        print(f"galerly-cdn: starting {arguments.store}, two nodes and two fronts", file=sys.stderr)
        with _store(arguments.store, folder) as server:
            if arguments.command == "faults":
                return _break_all(server, folder, arguments.only, arguments.frozen_s)
            return _serve(server, folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="script/fleet", description=__doc__, formatter_class=_Help)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    up = commands.add_parser("up", help="start it (the default)", description=_UP, formatter_class=_Help)
    faults = commands.add_parser(
        "faults", help="break its parts under load", description=_FAULTS, formatter_class=_Help
    )
    faults.add_argument("--only", metavar="WORD", default="", help="faults whose name has this word")
    faults.add_argument(
        "--frozen-s", type=float, default=30, metavar="S", help="how long the store is frozen [30]"
    )
    for one, default in ((parser, "versitygw"), (up, argparse.SUPPRESS), (faults, argparse.SUPPRESS)):
        one.add_argument("--store", choices=_STORES, default=default, help="the S3 server [versitygw]")
    parser.set_defaults(command="up")
    return parser


def _missing(store: str) -> str:
    """What has to be installed first; empty if everything is."""
    if not shutil.which("nginx"):
        return "nginx is not installed. On Debian and Ubuntu: apt install nginx-light"
    if store == "versitygw" and not s3_servers.versitygw_program():
        return "versitygw is not installed: script/s3 builds it (it needs Go), or use --store seaweedfs"
    if store == "seaweedfs" and not seaweedfs.program():
        return "SeaweedFS is not installed: script/setup test installs it"
    return ""


@contextlib.contextmanager
def _store(name: str, folder: Path) -> Iterator[S3Server]:
    root = folder / "store"
    root.mkdir(exist_ok=True)
    with seaweedfs.running(root) if name == "seaweedfs" else s3_servers.versitygw(root) as server:
        yield server


def _serve(server: S3Server, folder: Path) -> int:
    """Serve until SIGINT or SIGTERM."""
    bucket = server.bucket()
    bucket.put("originals/gallery/photograph.jpg", pictures.jpeg(1200, 800))
    fleet = Fleet(folder, bucket, UNLIMITED)
    with contextlib.closing(fleet):
        fleet.start()
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        _print_addresses(fleet)
        signal.sigwait(_ENDS)
    return 0


_ENDS = {signal.SIGINT, signal.SIGTERM}


def _print_addresses(fleet: Fleet) -> None:
    for number, front in enumerate(fleet.fronts, 1):
        print(f"front {number}  http://127.0.0.1:{front.port}/resize/small/gallery/photograph.jpg")
    for number, node in enumerate(fleet.nodes, 1):
        print(
            f"node {number}   http://127.0.0.1:{node.port}, administered at http://127.0.0.1:{node.admin_port}"
        )
    secrets = " ".join(f"{name}='{value}'" for name, value in s3_servers.CREDENTIALS.items())
    print(f"store    {fleet.settings['store']} at {fleet.settings['store_endpoint']}, {secrets}")
    print(f"logs     {fleet.root}/front-*/*.log, {fleet.root}/node-*/*.log")
    print("Ctrl+C ends it.", flush=True)


def _break_all(server: S3Server, folder: Path, only: str, frozen_s: float) -> int:
    """Print a row for each fault; returns 1 if one did what it must not."""
    faults = {name: fault for name, fault in {**FAULTS, **STORE_FAULTS}.items() if only in name}
    photographs = 60 * len(faults)
    bucket = server.bucket()
    put_photographs(bucket, photographs)
    proxy = StoreProxy(urlsplit(server.endpoint).port or 0)
    proxy.start()
    fleet = Fleet(folder, bucket, {**UNLIMITED, "store_endpoint": proxy.address}, _SHORT)
    cold, failed = cold_pictures(photographs), []
    _print_row(_HEADER)
    _print_row(["---", *["---:"] * (len(_HEADER) - 2), "---"])
    try:
        with contextlib.closing(fleet):
            fleet.start()
            for name, fault in faults.items():
                with Load(fleet, cold) as load:
                    fault.apply(Stage(fleet, load, 200, frozen_s=frozen_s, proxy=proxy))
                    load.healed()
                    load.wait_s(2 * _RECOVERY_S)
                summary = load.summary()
                problems = list(problems_of(summary, fault))
                failed += [f"{name}: {problem}" for problem in problems]
                _print_row(_row(name, summary, is_right=not problems))
    finally:
        proxy.stop()
    print(*failed, f"{len(failed)} deviations", sep="\n")
    return bool(failed)


def problems_of(summary: Summary, fault: Fault) -> Iterator[str]:
    """What viewers got that they must not."""
    if summary.failed_hits:
        yield f"hits failed: {_counted(summary.failed_hits)}"
    if summary.failed_misses and not fault.misses_may_fail:
        yield f"misses failed: {_counted(summary.failed_misses)}"
    if summary.wrong:
        yield f"wrong: {', '.join(summary.wrong[:3])}"
    if summary.recovery_s >= _RECOVERY_S:
        yield f"recovery took {summary.recovery_s:.1f} s"


def _row(name: str, summary: Summary, *, is_right: bool) -> list[str]:
    return [
        name,
        f"{summary.hits:,}",
        _counted(summary.failed_hits),
        f"{summary.slowest_hit_s:.1f}",
        f"{summary.misses:,}",
        _counted(summary.failed_misses),
        str(len(summary.wrong)),
        f"{summary.recovery_s:.1f}",
        "✓" if is_right else "✗",
    ]


def _counted(problems: Iterable[str]) -> str:
    return ", ".join(f"{number} × {problem}" for problem, number in Counter(problems).most_common()) or "0"


def _print_row(cells: Iterable[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the descriptions."""


if __name__ == "__main__":
    sys.exit(main())
