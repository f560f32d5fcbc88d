"""Tests of the tools of the benchmarks: order, statistics, reports and process measurements."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from benchmarks import proc
from benchmarks.load import keep_busy
from benchmarks.render import by_round
from benchmarks.report import Report
from benchmarks.sampling import interleave, percentile, ratios, spread
from benchmarks.servers import application, ask_all

ROOT = Path(__file__).parents[2]
BURN_S = 0.05
BURN = f"import time\nwhile time.process_time() < {BURN_S}: pass\n"


@pytest.mark.parametrize(
    "name",
    [
        "render",
        "warm",
        "server",
        "hit",
        "sweep",
        "memory",
        "start",
        "upload",
        "remote",
        "overload",
        "cold_start",
        "chain",
        "logs",
        "listing",
        "page",
        "dashboard",
        "audit",
        "million",
    ],
)
def test_every_benchmark_has_a_help_text(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--help"], cwd=ROOT, capture_output=True, check=True
    )
    assert f"python -m benchmarks.{name}".encode() in done.stdout
    option = {"logs": b"--lines", "audit": b"--counts", "million": b"--counts"}.get(name, b"--photographs")
    assert option in done.stdout


def test_interleave_runs_each_contestant_first_in_turn() -> None:
    order: list[str] = []

    def ran(name: str) -> int:
        order.append(name)
        return len(order)

    contestants = {name: partial(ran, name) for name in "abc"}
    assert interleave(contestants, 3) == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}
    assert "".join(order) == "abcbcacab"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3.0], (3.0, 3.0, 3.0)),
        ([4.0, 2.0], (3.0, 2.5, 3.5)),
        ([5.0, 1.0, 4.0, 2.0, 3.0], (3.0, 2.0, 4.0)),
        ([1.0, 1.0, 1.0, 100.0], (1.0, 1.0, 25.75)),
    ],
)
def test_spread_is_median_and_quartiles(values: list[float], expected: tuple[float, float, float]) -> None:
    assert spread(values) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)])
def test_percentile_is_one_of_the_values(share: float, expected: float) -> None:
    assert percentile([*range(100, 0, -1)], share) == expected


def test_ratios_are_by_round_and_averaged_over_photographs() -> None:
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    theirs, ours = [[2.0, 3.0], [8.0, 27.0]], [[1.0, 1.0], [1.0, 1.0]]
    assert by_round(theirs, ours) == pytest.approx([4.0, 9.0])


def test_ratios_of_unequal_numbers_of_rounds_raise() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios([1.0], [1.0, 2.0])


def test_missed_target_is_named_and_sets_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("title")
    assert report.at_most("kept", 1.0, 1.0) == "≤ 1 ✓"
    assert report.at_least("kept too", 1.5, 1.45) == "≥ 1.45 ✓"
    assert report.end() == 0
    assert report.at_most("too slow", 1.01, 1.0) == "≤ 1 ✗"
    assert report.at_least("too small", 1.0, 1.45) == "≥ 1.45 ✗"
    assert report.end() == 1
    output = capsys.readouterr().out
    assert "Missed: too slow: 1.01, wanted ≤ 1\n" in output
    assert "Missed: too small: 1.00, wanted ≥ 1.45\n" in output
    assert "kept" not in output


linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@linux
def test_cpu_time_of_ended_children_is_counted() -> None:
    before_s = proc.cpu_s(os.getpid())
    subprocess.run([sys.executable, "-c", BURN], check=True)
    assert (
        proc.cpu_s(os.getpid()) - before_s >= BURN_S - 0.02
    )  # the kernel counts the ended child's time in ticks


@linux
def test_cpu_time_of_running_descendants_is_counted() -> None:
    script = f"{BURN}print(flush=True)\ninput()"
    nested = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {script!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", nested], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        parent.stdout.readline()  # the grandchild has used its CPU time, and waits
        assert len(proc.tree(parent.pid)) == 2
        assert proc.cpu_s(parent.pid) >= BURN_S
        parent.communicate(b"\n")


@linux
def test_memory_peak_is_measured_during_and_after_it() -> None:
    size = 64 << 20
    script = f"print(flush=True); input(); block = bytearray(b'x') * {size}; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        with proc.watched(process.pid) as seen:
            print(file=process.stdin, flush=True)
            process.stdout.readline()
            during = proc.memory(process.pid)
        assert during.rss_bytes - seen[0].rss_bytes > size * 0.9
        assert proc.peak_bytes(process.pid) >= during.rss_bytes - (1 << 20)
        assert 0 < during.pss_bytes <= during.rss_bytes
        process.communicate("\n")


@linux
def test_bare_application_answers_its_file_to_every_request(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(os.urandom(70_000))
    with application("benchmarks.bare", str(body)) as bare:
        assert [one.body for one in ask_all(bare.address, ["/x"] * 3, 2)] == [body.read_bytes()] * 3
        keep_busy(bare.address, "/x", {}, 100, 200)
        keep_busy(bare.address, "/x", {"If-None-Match": "*"}, 100, 304)
        with pytest.raises(RuntimeError, match="wanted"):
            keep_busy(bare.address, "/x", {}, 100, 304)
