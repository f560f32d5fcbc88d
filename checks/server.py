"""Checks a server against a corpus: the good photographs, the bad ones, and the upload of both."""

from __future__ import annotations

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


def run(corpus: Path, only: str | None) -> int:
    """Print each deviation; returns 1 if there is one."""
    findings: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, half, check in CHECKS:
            if only in {None, name}:
                findings += check(corpus / half, Path(scratch) / f"{name}-{half}")
    for finding in findings:
        print(finding)
    print(f"{len(findings)} deviations")
    return bool(findings)
