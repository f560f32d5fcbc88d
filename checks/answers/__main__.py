"""Proves that a change of the code changes no answer: `python -m checks.answers`, in two checkouts.

    python -m checks.answers record FILE             starts servers of this checkout, asks them, writes FILE
    python -m checks.answers compare BEFORE AFTER    prints each difference; exits with 1 if there is one

Run it from the checkout to be recorded, with its own Python; this folder may be copied from another one. It
imports nothing of galerly_cdn, and knows its command line, its settings and its HTTP alone.
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
    parser = argparse.ArgumentParser(prog="python -m checks.answers", description="Compare answers.")
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record", help="ask servers of this checkout")
    recording.add_argument("file", type=Path)
    comparing = commands.add_parser("compare", help="tell what two recordings answer differently")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "compare":
        differences = compare(arguments.before, arguments.after)
        print(*differences, f"{len(differences)} differences", sep="\n")
        return bool(differences)
    _check_checkout(parser)
    began_s = time.monotonic()
    print(record(arguments.file), f"{time.monotonic() - began_s:.0f} s", sep=", ")
    return 0


def _check_checkout(parser: argparse.ArgumentParser) -> None:
    """End unless this Python runs the code of this folder: another checkout's answers would prove nothing."""
    found = importlib.util.find_spec("galerly_cdn")
    here = Path.cwd().resolve()
    if found is None or not found.origin or not Path(found.origin).resolve().is_relative_to(here):
        parser.error(f"{sys.executable} runs {found and found.origin}, which is not in {here}")


sys.exit(main())
