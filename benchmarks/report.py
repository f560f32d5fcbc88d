"""Prints results as Markdown: machine and versions, the command, tables, and missed targets."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_PACKAGES = ("galerly-cdn", "pyvips-binary", "pillow", "uvicorn", "uvloop", "httptools", "msgspec")


class Report:
    """A report, printed incrementally. `missed` lists the values that miss their targets."""

    def __init__(self, title: str) -> None:
        self.missed: list[str] = []
        module = Path(sys.argv[0]).stem
        print(f"## {title}\n\n    python -m benchmarks.{module} {' '.join(sys.argv[1:])}".rstrip())
        print(f"\n{_machine()}; load at the start {os.getloadavg()[0]:.1f}.\n", flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table; all columns but the first are right-aligned."""
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)
        print(flush=True)

    def at_most(self, name: str, value: float, limit: float, digits: int = 2) -> str:
        """The target's cell: the limit, and whether the value meets it."""
        return self._check(name, value, f"≤ {limit:g}", digits, is_met=value <= limit)

    def at_least(self, name: str, value: float, limit: float, digits: int = 2) -> str:
        """As `at_most`, with a lower limit."""
        return self._check(name, value, f"≥ {limit:g}", digits, is_met=value >= limit)

    def _check(self, name: str, value: float, target: str, digits: int, *, is_met: bool) -> str:
        if not is_met:
            self.missed.append(f"{name}: {value:.{digits}f}, wanted {target}")
        return f"{target} {'✓' if is_met else '✗'}"

    def end(self) -> int:
        """Print the missed targets; returns the exit code."""
        for line in self.missed:
            print(f"Missed: {line}")
        print(f"{len(self.missed)} target(s) missed; load at the end {os.getloadavg()[0]:.1f}.\n", flush=True)
        return 1 if self.missed else 0


def _machine() -> str:
    processor = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(":")[2]
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    model = processor.partition("\n")[0].strip() or platform.machine()
    system = f"Linux {platform.release()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} × {model}, {system}; {versions}"
