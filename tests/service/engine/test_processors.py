"""A container's CPU quota counts, not the host's cores. The files are written as the kernel's documentation shows them."""

import os
from pathlib import Path

import pytest

from service.engine.processors import usable_cpus

V2 = "31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:29 {shown} /sys/fs/cgroup/{name} rw,relatime shared:9 - cgroup cgroup rw,{name}"
POD = "kubepods/burstable/pod1"


@pytest.fixture(autouse=True)
def sixteen_cpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def machine(root: Path, own: str, mounts: str, **limits: str) -> Path:
    """A root folder with this process's `proc` files, and the limits' files by their path below /sys/fs/cgroup."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(own + "\n")
    (root / "proc/self/mountinfo").write_text(f"22 1 8:1 / / rw - ext4 /dev/root rw\n{mounts}\n")
    for path, text in limits.items():
        file = root / "sys/fs/cgroup" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("400000 100000", 4),
        ("100000 100000", 1),
        ("250000 100000", 2),  # a fraction is the event loop's
        ("50000 100000", 1),  # never 0
        ("1000 100000", 1),
        ("max 100000", 16),
        ("9900000 100000", 16),
        ("", 16),
        ("100000 0", 16),
    ],
)
def test_v2_in_a_namespace_of_its_own(tmp_path: Path, limit: str, cpus: int):
    assert usable_cpus(machine(tmp_path, "0::/", V2, **{"cpu.max": limit})) == cpus


@pytest.mark.parametrize(
    ("own", "above", "cpus"), [("300000 100000", "max 100000", 3), ("max 100000", "200000 100000", 2), ("8 1", "5 1", 5)]
)
def test_v2_the_smallest_limit_on_the_way_to_the_top_holds(tmp_path: Path, own: str, above: str, cpus: int):
    limits = {f"{POD}/container/cpu.max": own, f"{POD}/cpu.max": above, "elsewhere/cpu.max": "1 1"}
    assert usable_cpus(machine(tmp_path, f"0::/{POD}/container", V2, **limits)) == cpus


def test_v2_a_group_that_is_not_seen_from_here_is_the_mounts_top(tmp_path: Path):
    assert usable_cpus(machine(tmp_path / "a", "0::/../other", V2, **{"cpu.max": "3 1"})) == 3
    bound = V2.replace(" / /sys", " /docker/abc /sys")
    assert usable_cpus(machine(tmp_path / "b", "0::/docker/abc", bound, **{"cpu.max": "6 1"})) == 6
    assert usable_cpus(machine(tmp_path / "c", "0::/docker/abc/inner", bound, **{"inner/cpu.max": "2 1", "cpu.max": "6 1"})) == 2


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_v1(tmp_path: Path, name: str):
    limits = {f"{name}/batch/cpu.cfs_quota_us": "350000", f"{name}/batch/cpu.cfs_period_us": "100000"}
    whole = limits | {f"{name}/cpu.cfs_quota_us": "-1", f"{name}/cpu.cfs_period_us": "100000"}
    own = f"4:memory:/batch\n3:{name}:/batch/job\n2:cpuset:/\n1:name=systemd:/init"
    assert usable_cpus(machine(tmp_path, own, V1.format(shown="/", name=name), **whole)) == 3


def test_v1_in_a_container_whose_mount_shows_its_own_group_only(tmp_path: Path):
    limits = {"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}
    assert usable_cpus(machine(tmp_path, "3:cpu:/docker/abc", V1.format(shown="/docker/abc", name="cpu"), **limits)) == 2


def test_v1_and_v2_side_by_side(tmp_path: Path):
    mounts = V1.format(shown="/", name="cpu") + "\n" + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
    limits = {"cpu/cpu.cfs_quota_us": "700000", "cpu/cpu.cfs_period_us": "100000"}
    assert usable_cpus(machine(tmp_path, "1:cpu:/\n0::/", mounts, **limits)) == 7


def test_a_mount_point_with_a_space(tmp_path: Path):
    mounts = V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/my\\040groups")
    assert usable_cpus(machine(tmp_path, "0::/", mounts, **{"my groups/cpu.max": "2 1"})) == 2


def test_without_control_groups_the_affinity_counts(tmp_path: Path):
    assert usable_cpus(tmp_path) == 16
