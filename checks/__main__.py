"""`python -m checks CORPUS`: every good photograph right at every size and format, every bad one refused.

And every one of them uploaded: what cannot be rendered is refused then, and is nowhere.

CORPUS holds `good/` and `bad/`, each with a SOURCES.tsv. Prints a line for each deviation and a summary;
exits with 1 if there was one that is not listed, with its reason, in `exceptions.toml`.
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
"""What `--only` says, the half of the corpus, and the check."""


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
