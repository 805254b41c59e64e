"""The cores a process may use: affinity, a container's quota, a batch job's allocation."""

from __future__ import annotations

import os

import torch

from bionas.system import processors


def test_the_smallest_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(processors, "CGROUP", tmp_path)
    monkeypatch.setattr(processors.os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert processors.usable_cores() == 16
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert processors.usable_cores() == 16
    (tmp_path / "cpu.max").write_text("250000 100000\n")
    assert processors.usable_cores() == 3  # two and a half cores
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "8")
    assert processors.usable_cores() == 3
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "2")
    assert processors.usable_cores() == 2
    (tmp_path / "cpu.max").write_text("1000 100000\n")
    assert processors.usable_cores() == 1
    (tmp_path / "cpu.max").unlink()
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("100000")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert processors.usable_cores() == 1


def test_threads_are_reduced_to_usable_cores_and_never_raised(monkeypatch):
    before = torch.get_num_threads()
    try:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(processors, "usable_cores", lambda: 1)
        torch.set_num_threads(2)
        assert processors.set_threads() == 1
        monkeypatch.setattr(processors, "usable_cores", lambda: os.cpu_count())
        assert processors.set_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        monkeypatch.setattr(processors, "usable_cores", lambda: 1)
        torch.set_num_threads(2)
        assert processors.set_threads() == 2
    finally:
        torch.set_num_threads(before)
