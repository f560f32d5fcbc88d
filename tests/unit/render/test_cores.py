"""Tests of the count of cores: the control groups of a process, and the quotas of their CPU time."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from galerly_cdn.render.pool.cores import available_cores, cores_within, quota_files

if TYPE_CHECKING:
    from pathlib import Path

V1 = "3:cpuset:/\n2:cpu,cpuacct:/docker/4f\n0::/\n"


@pytest.mark.parametrize(
    ("cgroups", "files"),
    [
        pytest.param("0::/\n", [("sys/fs/cgroup/cpu.max",)], id="version 2, a container"),
        pytest.param(
            "0::/system.slice/galerly-cdn.service\n",
            [
                ("sys/fs/cgroup/system.slice/galerly-cdn.service/cpu.max",),
                ("sys/fs/cgroup/system.slice/cpu.max",),
                ("sys/fs/cgroup/cpu.max",),
            ],
            id="version 2, a service",
        ),
        pytest.param(
            V1,
            [
                (
                    f"sys/fs/cgroup/cpu/{folder}cpu.cfs_quota_us",
                    f"sys/fs/cgroup/cpu/{folder}cpu.cfs_period_us",
                )
                for folder in ("docker/4f/", "docker/", "")
            ]
            + [("sys/fs/cgroup/cpu.max",)],
            id="version 1 beside version 2",
        ),
        pytest.param("0::/a:b\n", [("sys/fs/cgroup/a:b/cpu.max",), ("sys/fs/cgroup/cpu.max",)], id="a colon"),
        pytest.param("1:name=cpu:/\n2:cpuset:/\n", [], id="no quota"),
        pytest.param("", [], id="no control groups"),
        pytest.param("0:\n::/\n0::\n", [], id="another format"),
    ],
)
def test_quota_files_of_control_groups_are_those_of_each_group_above(
    cgroups: str, files: list[tuple[str, ...]]
) -> None:
    assert list(quota_files(cgroups)) == files


@pytest.mark.parametrize(
    ("quotas", "cores"),
    [
        ([], 8),
        (["max 100000\n"], 8),
        (["-1\n 100000\n"], 8),
        (["200000 100000\n"], 2),
        (["200000\n 100000\n"], 2),
        (["150000 100000"], 2),
        (["100 100000"], 1),
        (["6400000 100000"], 8),
        (["max 100000", "400000 100000", "300000 50000"], 4),
        (["", "two", f"{10**400} 1", "0 100000", "100000 0", "100000", "1 2 3"], 8),
    ],
)
def test_cores_with_quotas_are_the_least(quotas: list[str], cores: int) -> None:
    assert cores_within(8, quotas) == cores


@given(st.integers(1, 256), st.lists(st.text() | st.from_regex(r"-?\d+ \d+", fullmatch=True)))
def test_cores_with_any_texts_are_from_one_to_those_of_the_affinity(cores: int, quotas: list[str]) -> None:
    assert 1 <= cores_within(cores, quotas) <= cores


@pytest.mark.skipif(sys.platform != "linux", reason="control groups are Linux's")
def test_available_cores_with_a_quota_of_one_are_one(tmp_path: Path) -> None:
    assert available_cores(tmp_path) == len(os.sched_getaffinity(0))
    for file, text in {"proc/self/cgroup": V1, "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n"}.items():
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text, "utf-8")
    (tmp_path / "sys/fs/cgroup/cpu/cpu.cfs_period_us").write_text("100000\n", "utf-8")
    assert available_cores(tmp_path) == 1
