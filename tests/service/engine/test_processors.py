"""A container's CPU quota counts, not the host's cores."""

import os
from pathlib import Path

import pytest

from service.engine.processors import usable_cpus


@pytest.mark.parametrize(("limit", "expected"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("9900000 100000", None)])
def test_cgroup_v2(tmp_path: Path, limit: str, expected: int | None):
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert usable_cpus(tmp_path) == (expected or len(os.sched_getaffinity(0)))


def test_cgroup_v1(tmp_path: Path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000")
    assert usable_cpus(tmp_path) == 1
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1")
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))


def test_without_a_cgroup_affinity_counts(tmp_path: Path):
    assert usable_cpus(tmp_path) == len(os.sched_getaffinity(0))
