"""`python -m checks CORPUS`: every good photograph right at every size and format, every bad one refused.

CORPUS holds `good/` and `bad/`, each with a SOURCES.tsv. Prints a line for each deviation and a summary;
exits with 1 if there was one that is not listed, with its reason, in `exceptions.toml`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from checks import bad, good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description="Check a server against a corpus.")
    parser.add_argument("corpus", type=Path, help="folder with good/ and bad/, each with a SOURCES.tsv")
    parser.add_argument("--only", choices=["good", "bad"], help="check one half")
    arguments = parser.parse_args()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for half, check in (("good", good.check), ("bad", bad.check)):
            if arguments.only in {None, half}:
                findings += check(arguments.corpus / half, Path(scratch) / half)
    for finding in findings:
        print(finding)
    print(f"{len(findings)} deviations")
    return bool(findings)


sys.exit(main())
