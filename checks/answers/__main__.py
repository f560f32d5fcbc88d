"""Shows whether two checkouts answer the same requests alike: `python -m checks.answers`.

    python -m checks.answers record FILE             starts servers, sends requests, writes FILE
    python -m checks.answers compare BEFORE AFTER    prints each difference; exits with 1 if there is one

Run it in the checkout to be recorded, with that checkout's Python; this folder can be copied from another
checkout. It does not import galerly_cdn: it uses only the command line, the settings and HTTP.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

from checks.answers.compare import compare
from checks.answers.record import record


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m checks.answers", description="Compare the responses of two checkouts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="record the responses of this checkout's servers")
    recording.add_argument("file", type=Path)
    comparing = commands.add_parser("compare", help="print the differences between two recordings")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        differences = compare(arguments.before, arguments.after)
        print(*differences, f"{len(differences)} differences", sep="\n")
        return bool(differences)
    _check_checkout(parser)
    started_s = time.monotonic()
    print(record(arguments.file), f"{time.monotonic() - started_s:.0f} s", sep=", ")
    return 0


def _check_checkout(parser: argparse.ArgumentParser) -> None:
    """Exit unless this Python imports galerly_cdn from the current folder, not from another checkout."""
    spec = importlib.util.find_spec("galerly_cdn")
    checkout = Path.cwd().resolve()
    if spec is None or not spec.origin or not Path(spec.origin).resolve().is_relative_to(checkout):
        parser.error(f"{sys.executable} imports {spec and spec.origin}, which is not in {checkout}")


sys.exit(main())
