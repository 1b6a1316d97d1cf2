"""The CPU quota that a container's control group imposes."""

from __future__ import annotations

import math
import os.path  # pathlib would be half of the time that `import fastmom` takes


def cpu_quota(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int | None:
    """CPUs the control groups (v1 or v2) of this process allow, rounded up; None without a limit.

    A quota may be set on any ancestor, and the tightest one counts. Inside a container the
    process's own path often does not exist under the mount; then the mount's root is the limit.
    """
    try:
        lines = _read(proc).splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = mount, _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = _mount_v1(mount, controllers), _quota_v1
        else:
            continue
        parts = path.strip("/").split("/")
        for depth in range(len(parts) + 1):
            quota = read(os.path.join(root, *parts[:depth]))
            if quota is not None:
                quotas.append(quota)
    return max(1, math.ceil(min(quotas))) if quotas else None


def _read(*path: str) -> str:
    with open(os.path.join(*path)) as file:
        return file.read()


def _mount_v1(mount: str, controllers: str) -> str:
    named = os.path.join(mount, controllers)
    return named if os.path.isdir(named) else os.path.join(mount, "cpu")


def _quota_v2(group: str) -> float | None:
    try:
        quota, period = _read(group, "cpu.max").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: str) -> float | None:
    try:
        quota = int(_read(group, "cpu.cfs_quota_us"))
        period = int(_read(group, "cpu.cfs_period_us"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
