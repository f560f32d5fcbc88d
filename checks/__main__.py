"""Checks a server against a corpus of files: `python -m checks CORPUS`.

Every good photograph must be rendered correctly at every size and format, and every bad one refused. Every
file is also uploaded: a file that cannot be rendered must be refused and leave nothing behind.

CORPUS contains `good/` and `bad/`, each with a SOURCES.tsv. Prints each deviation and a summary; exits with 1
after a deviation that `exceptions.toml` does not list with its reason.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from checks import bad, good, upload

CHECKS = (
    ("good", "good", good.check),
    ("bad", "bad", bad.check),
    ("upload", "good", upload.check),
    ("upload", "bad", upload.check),
)
"""The value of `--only`, the half of the corpus, and the check."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m checks", description="Check a server against a corpus.")
    parser.add_argument("corpus", type=Path, help="folder with good/ and bad/, each with a SOURCES.tsv")
    parser.add_argument("--only", choices=["good", "bad", "upload"], help="check one of these")
    arguments = parser.parse_args()
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, half, check in CHECKS:
            if arguments.only in {None, name}:
                findings += check(arguments.corpus / half, Path(scratch) / f"{name}-{half}")
    for finding in findings:
        print(finding)
    print(f"{len(findings)} deviations")
    return bool(findings)


sys.exit(main())
