"""How many processor cores this process may use, and how many threads torch should therefore take."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may use: the smallest of affinity, cgroup quota and SLURM's allocation; at least 1.

    A container or a batch job often sees every core of its machine and may use a few of them; with a thread for each it
    spends its time waiting.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limits = [affinity, _cgroup_quota(), _slurm()]
    return max(1, min(limit for limit in limits if limit is not None))


def set_threads() -> int:
    """Give torch as many threads as there are usable cores, unless $OMP_NUM_THREADS says otherwise; returns them."""
    import torch

    if not os.environ.get("OMP_NUM_THREADS") and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())
    return torch.get_num_threads()


def _cgroup_quota() -> int | None:
    """The CPU quota of this process's control group (version 2, else 1) in whole cores, rounded up; None without one."""
    for folder in _groups():
        try:
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()[:2]
        except (OSError, ValueError):
            continue
        if quota != "max":
            return _cores(int(quota), int(period))
    try:
        microseconds = int((CGROUP / "cpu" / "cpu.cfs_quota_us").read_text(encoding="utf-8"))
        of = int((CGROUP / "cpu" / "cpu.cfs_period_us").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return _cores(microseconds, of) if microseconds > 0 else None


def _groups() -> list[Path]:
    """Folders of this process's control group and of those around it, innermost first."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    own = next((line.removeprefix("0::").strip("/") for line in lines if line.startswith("0::")), "")
    folder = CGROUP / own
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(CGROUP))]


def _cores(quota: int, period: int) -> int:
    return max(1, -(-quota // period))


def _slurm() -> int | None:
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if (text := os.environ.get(name, "")).isdigit():
            return int(text)
    return None
