"""How many CPUs this process may really use: a container's quota counts, not the host's cores.

Control groups as the kernel's `cgroup-v2.rst` (`cpu.max`) and `sched-bwc.rst` (v1, `cpu.cfs_*`) describe them, found as
`cgroups(7)` says: the group's path in `/proc/self/cgroup`, the hierarchy's mount in `/proc/self/mountinfo`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where a hierarchy with CPU limits is seen: `shown`, the group at the mount's top; `point`, the folder it is at."""

    kind: str
    shown: PurePosixPath
    point: PurePosixPath


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs by affinity, lowered to the smallest quota of this process's control group and those above it, at least 1.

    A fraction is rounded down: with more threads than the quota a run uses the period's time up, and then the kernel stops the
    whole process, the event loop too, until the next period. What is left of the fraction is the event loop's.
    `root` is where `proc` and `sys` lie.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, that hold for this process."""
    groups = _groups(_lines(root / "proc/self/cgroup"))
    for mount in _mounts(_lines(root / "proc/self/mountinfo")):
        if mount.kind not in groups:
            continue
        top = root / mount.point.relative_to("/")
        folder = top / _below(groups[mount.kind], mount.shown)
        for group in (folder, *folder.parents):
            quota = _quota_v2(group) if mount.kind == "cgroup2" else _quota_v1(group)
            if quota is not None:
                yield quota
            if group == top:
                break


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:  # no Linux, or no /proc
        return []


def _groups(lines: list[str]) -> dict[str, PurePosixPath]:
    """This process's group in the v2 hierarchy and in v1's of the controller `cpu`, by the file system's type."""
    found = {}
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            found["cgroup2"] = PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            found["cgroup"] = PurePosixPath(path)
    return found


def _mounts(lines: list[str]) -> Iterator[_Mount]:
    """Mounts of hierarchies that may limit CPUs. A line: id, parent, device, root, mount point, .. - type, source, options."""
    for line in lines:
        about, _, file_system = line.partition(" - ")
        kind, _, options = file_system.split(" ", 2)
        if kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(",")):
            shown, point = (PurePosixPath(_unescaped(text)) for text in about.split(" ")[3:5])
            yield _Mount(kind, shown, point)


def _unescaped(text: str) -> str:
    """mountinfo writes spaces and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _below(group: PurePosixPath, shown: PurePosixPath) -> PurePosixPath:
    """The group's path below the mount; the mount's top where the group isn't seen from here, as in a container without a
    namespace of its own, whose mount shows no more than its own group."""
    if ".." in group.parts or not group.is_relative_to(shown):
        return PurePosixPath()
    return group.relative_to(shown)


def _quota_v2(group: Path) -> float | None:
    """CPUs of time a period; None where this group sets no limit."""
    try:
        limit, period = (group / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):  # the root group has no such file
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        limit, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return limit / period if limit > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
