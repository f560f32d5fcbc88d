"""How is a result told? Markdown: machine and versions, the command, a table, and what missed its target."""

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
    """Prints as it goes. `missed` holds every figure that is not what the target asks."""

    def __init__(self, title: str) -> None:
        self.missed: list[str] = []
        module = Path(sys.argv[0]).stem
        print(f"## {title}\n\n    python -m benchmarks.{module} {' '.join(sys.argv[1:])}".rstrip())
        print(f"\n{_machine()}; load at the start {os.getloadavg()[0]:.1f}.\n", flush=True)

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table; numbers to the right."""
        lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines), flush=True)
        print(flush=True)

    def at_most(self, what: str, value: float, limit: float, digits: int = 2) -> str:
        """The target's cell: the limit, and whether the value keeps to it."""
        return self._judge(what, value, f"≤ {limit:g}", digits, kept=value <= limit)

    def at_least(self, what: str, value: float, limit: float, digits: int = 2) -> str:
        """As `at_most`, the other way round."""
        return self._judge(what, value, f"≥ {limit:g}", digits, kept=value >= limit)

    def _judge(self, what: str, value: float, target: str, digits: int, *, kept: bool) -> str:
        if not kept:
            self.missed.append(f"{what}: {value:.{digits}f}, wanted {target}")
        return f"{target} {'✓' if kept else '✗'}"

    def end(self) -> int:
        """Name what was missed; the exit code."""
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
