"""The CPU quota that a container's control group imposes."""

from __future__ import annotations

import math
import os

# Paths are bytes, as the kernel has them: a group's name need not be UTF-8. Files are read without
# a buffer, which would be the only memory worth mentioning that few steps take and others do not.


def cpu_quota(proc: str = "/proc/self/cgroup", mount: str = "/sys/fs/cgroup") -> int | None:
    """Return the CPUs that control groups allow this process, rounded up; None without a limit.

    Versions 1 and 2 are understood. A quota may be set on any ancestor, and the tightest one
    counts. Inside a container the process's own path often does not exist under the mount; then
    the mount's root is the limit.
    """
    try:
        lines = _read(os.fsencode(proc)).splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(b":", 2)
        if controllers == b"":
            root, read = os.fsencode(mount), _quota_v2
        elif b"cpu" in controllers.split(b","):
            root, read = _mount_v1(os.fsencode(mount), controllers), _quota_v1
        else:
            continue
        parts = path.strip(b"/").split(b"/")
        for depth in range(len(parts) + 1):
            quota = read(os.path.join(root, *parts[:depth]))
            if quota is not None:
                quotas.append(quota)
    return max(1, math.ceil(min(quotas))) if quotas else None


def _read(*path: bytes) -> bytes:
    file = os.open(os.path.join(*path), os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(file, 512), b""))
    finally:
        os.close(file)


def _mount_v1(mount: bytes, controllers: bytes) -> bytes:
    named = os.path.join(mount, controllers)
    return named if os.path.isdir(named) else os.path.join(mount, b"cpu")


def _quota_v2(group: bytes) -> float | None:
    try:
        quota, period = _read(group, b"cpu.max").split()
        return None if quota == b"max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(group: bytes) -> float | None:
    try:
        quota = int(_read(group, b"cpu.cfs_quota_us"))
        period = int(_read(group, b"cpu.cfs_period_us"))
        return None if quota <= 0 else quota / period
    except (OSError, ValueError, ZeroDivisionError):
        return None
