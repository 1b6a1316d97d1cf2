"""The CPU quota that a container's control group imposes."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath


def cpu_quota(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int | None:
    """CPUs the control groups (v1 or v2) of this process allow, rounded up; None without a limit.

    A quota may be set on any ancestor, and the tightest one counts. Inside a container the
    process's own path often does not exist under the mount; then the mount's root is the limit.
    """
    try:
        lines = Path(proc).read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = Path(mount), _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = _mount_v1(mount, controllers), _quota_v1
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        for level in (relative, *relative.parents):
            quota = read(root / level)
            if quota is not None:
                quotas.append(quota)
    return max(1, math.ceil(min(quotas))) if quotas else None


def _mount_v1(mount: str, controllers: str) -> Path:
    named = Path(mount, controllers)
    return named if named.is_dir() else Path(mount, "cpu")


def _quota_v2(group: Path) -> float | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: Path) -> float | None:
    try:
        quota = int((group / "cpu.cfs_quota_us").read_text())
        period = int((group / "cpu.cfs_period_us").read_text())
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
