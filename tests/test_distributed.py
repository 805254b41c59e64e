"""Training divided among two processes on a CPU: the steps of one process, a lost process, another number of them."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import laboratory
import numpy as np
import pytest
import ranks
import torch
from torch import nn

from bionas.errors import CheckpointError
from bionas.training import distributed, jobs
from bionas.training.runs import Run

TESTS = Path(__file__).parent
WAIT = 600  # seconds


def together(folder: Path, what: str, n: int = 2) -> list[subprocess.CompletedProcess]:
    """`ranks.py` in n processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = os.environ | {
        "WORLD_SIZE": str(n),
        "LOCAL_WORLD_SIZE": str(n),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
        "TQDM_DISABLE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, TESTS / "ranks.py", folder, what],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    done = []
    for process in processes:
        out, error = process.communicate(timeout=WAIT)
        done.append(subprocess.CompletedProcess(process.args, process.returncode, out, error))
    return done


def losses(folder: Path) -> np.ndarray:
    return Run(folder).history[["train_loss", "val_loss"]].to_numpy()


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one_with_the_same_batch(tmp_path):
    # Without dropout, and without batch normalisation (fit) or with a synchronised one, only the order of sums differs.
    for what, tolerance in (("fit", 1e-5), ("search-sync", 5e-3), ("search", 0.25)):
        done = together(tmp_path / what, what)
        assert [process.returncode for process in done] == [0, 0], done
        ranks.main(tmp_path / f"{what}-alone", what)
        one, two = losses(tmp_path / f"{what}-alone"), losses(tmp_path / what)
        assert one.shape == two.shape == (ranks.EPOCHS, 2)
        assert np.abs(one - two).max() < tolerance, (what, one, two)
        assert (
            Run(tmp_path / what).history["images"].equals(Run(tmp_path / f"{what}-alone").history["images"])
        )


@pytest.mark.slow
def test_a_lost_process_ends_the_job_with_a_checkpoint_that_any_number_resumes(tmp_path):
    first, second = together(tmp_path / "run", "fit-killed")
    assert second.returncode == -signal.SIGKILL
    assert first.returncode == 2 and "another process of this job has ended" in first.stderr, first.stderr
    assert "any number of processes" in first.stderr
    assert len(losses(tmp_path / "run")) == 1
    ranks.main(tmp_path / "run", "fit")  # one process resumes the run of two
    ranks.main(tmp_path / "alone", "fit")
    assert np.abs(losses(tmp_path / "run") - losses(tmp_path / "alone")).max() < 1e-5


def test_search_and_retrain_are_one_run_each_for_their_choices(tmp_path):
    plan = laboratory.plan(
        laboratory.photographs(tmp_path / "photographs"), tmp_path / "runs", search_epochs=1
    )
    with pytest.raises(CheckpointError, match="bionas search"):
        jobs.retrain(plan)
    searched = jobs.search(plan)
    assert searched.complete and jobs.search(plan).path == searched.path
    trained = jobs.retrain(plan)
    assert trained.complete and trained.config["genotype"] == json.loads(searched.genotype.to_json())
    assert jobs.retrain(plan, searched.path / "genotype.json").path == trained.path


def test_outside_a_group_nothing_is_changed():
    layer = nn.Linear(2, 2)
    layer(torch.ones(3, 2)).sum().backward()
    before = layer.weight.grad.clone()
    distributed.average_gradients(layer.parameters())
    distributed.require_identical(layer.weight, "weight")
    assert torch.equal(layer.weight.grad, before) and distributed.world() == (0, 1)
    assert distributed.summed([1.5, 2.0], torch.device("cpu")) == [1.5, 2.0] and distributed.of_rank_0(7) == 7
    assert distributed.divisible(64, 50) == 50
    with distributed.group() as (rank, n):
        assert (rank, n) == (0, 1)
    plain, synced = nn.Sequential(nn.BatchNorm2d(3)), nn.Sequential(nn.BatchNorm2d(3))
    distributed.synchronise_batch_norm(synced)
    x = torch.randn(4, 3, 5, 5)
    assert torch.equal(plain(x), synced(x)) and plain.state_dict().keys() == synced.state_dict().keys()
    assert all(torch.equal(a, b) for a, b in zip(plain.buffers(), synced.buffers(), strict=True))
