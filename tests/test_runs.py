"""The run folder: claimed by one configuration, found again, and its checkpoint read only when it is whole and ours."""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys

import pytest
import small
import torch

import bionas
from bionas.errors import BionasError, CheckpointError
from bionas.training import versions
from bionas.training.fitting import Fit
from bionas.training.recipe import FitConfig
from bionas.training.runs import Run, provenance

QUICK = FitConfig(epochs=2, batch_size=12, device="cpu")


@pytest.fixture(scope="module")
def data():
    return small.sides(24, 12)


@pytest.fixture
def trained(data, tmp_path):
    """A run with two epochs behind it."""
    Fit(small.derived(data[2]), *data, QUICK, Run(tmp_path)).train()
    return Run(tmp_path)


def fit(data, path, seed=0, config=QUICK):
    return Fit(small.derived(data[2], seed), *data, config, Run(path)).prepare()


# --- the folder -----------------------------------------------------------------------------------------------------


def test_a_folder_is_claimed_by_one_configuration(tmp_path):
    run = Run(tmp_path / "run")
    assert not run.path.exists() and not run.complete
    config = {"epochs": 2, "fields": ("a", "b"), "network": {"cells": 3}}
    run.begin(config, {"seed": 0})
    run.begin(config, {"seed": 0})  # again, as when going on: a tuple is still the list that the file holds
    assert run.config == {"epochs": 2, "fields": ["a", "b"], "network": {"cells": 3}} and run.provenance == {
        "seed": 0
    }
    with pytest.raises(
        CheckpointError, match=r"configuration \(epochs: 2 there, 3 now; new: None there, 1 now\)"
    ):
        run.begin(config | {"epochs": 3, "new": 1}, {})
    with pytest.raises(CheckpointError, match=r"configuration \(cells: 3 there, 4 now\)"):
        run.begin(config | {"network": {"cells": 4}}, {})  # of a group, only what differs in it
    assert run.provenance == {"seed": 0}


def test_a_run_is_complete_when_it_says_so(tmp_path):
    run = Run(tmp_path)
    run.finish({"epochs": 2})
    assert run.complete and run.summary == {"epochs": 2} and "complete" in repr(run)


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BionasError, match="alphas.csv is not there: this run did not write it"):
        Run(tmp_path).alphas


def test_a_number_carries_its_birth(data, trained):  # DESIGN 2: provenance.json
    born = trained.provenance
    assert (
        born["bionas"] == bionas.__version__
        and born["versions"] == versions.VERSIONS
        and born["usable_cores"] >= 1
        and born["device"] == "cpu"
    )
    assert born["data_fingerprint"] == data[0].fingerprint
    assert born["packages"]["torch"] == torch.__version__.split("+")[0]
    assert born["seed"] == 0 and born["commit"]
    assert provenance(1, "cpu", "x")["seed"] == 1


# --- checkpoints ----------------------------------------------------------------------------------------------------


def test_no_checkpoint_is_no_state(tmp_path):
    assert Run(tmp_path).load_checkpoint() is None


def test_a_checkpoint_holds_what_the_next_epoch_depends_on(trained):  # section III-B.2
    state = trained.load_checkpoint()
    assert state["epoch"] == 2 and len(state["history"]) == 2 and state["batch_size"] == 12
    assert set(state) >= {"model", "optimizers", "schedulers", "scaler", "random"}
    assert set(state["random"]) == {"torch", "cuda", "numpy", "python"}


@pytest.mark.parametrize("kept", [0, 1, 0.5, -1], ids=["empty", "a byte", "half", "all but a byte"])
def test_a_truncated_checkpoint_is_refused_with_what_to_do(data, trained, kept):
    path = trained.checkpoint_path
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(
        CheckpointError, match="last.pt cannot be read .*Remove it to start this run from its first"
    ):
        fit(data, trained.path)
    path.unlink()  # what the message says
    assert fit(data, trained.path).epoch == 0


def test_a_damaged_checkpoint_is_refused(data, trained):
    path = trained.checkpoint_path
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = bytes(4096)
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="last.pt"):
        fit(data, trained.path)


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["MALICIOUS"],)


@pytest.mark.parametrize("how", ["torch.save", "pickle"])
def test_a_checkpoint_cannot_run_code(tmp_path, monkeypatch, how):  # weights_only
    monkeypatch.setenv("MALICIOUS", str(tmp_path / "made"))
    run = Run(tmp_path)
    run.checkpoint_path.parent.mkdir()
    content = {"epoch": 1, "model": Malicious()}
    if how == "torch.save":
        torch.save(content, run.checkpoint_path)
    else:
        run.checkpoint_path.write_bytes(pickle.dumps(content))
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        run.load_checkpoint()
    assert not (tmp_path / "made").exists()


def test_a_file_that_is_no_checkpoint_of_ours_is_refused(data, trained):
    torch.save({"state_dict": {}}, trained.checkpoint_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(data, trained.path)
    torch.save([1, 2], trained.checkpoint_path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        fit(data, trained.path)


def test_a_checkpoint_of_another_network_is_refused(data, trained):
    with pytest.raises(CheckpointError, match="last.pt is of another network .*Choose another run_dir"):
        fit(data, trained.path, seed=1)  # the same choices, another genotype
    state = trained.load_checkpoint()
    for part in ("optimizers", "schedulers", "random"):
        trained.save_checkpoint({k: v for k, v in state.items() if k != part})
        with pytest.raises(CheckpointError, match="last.pt"):
            fit(data, trained.path)


def test_no_space_for_a_checkpoint_keeps_the_previous_one(data, trained, monkeypatch):
    before = trained.checkpoint_path.read_bytes()
    state = trained.load_checkpoint()

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BionasError, match="no space left to write .*last.pt.*resumes from the last complete"):
        trained.save_checkpoint(state | {"epoch": 3})
    monkeypatch.undo()
    assert trained.checkpoint_path.read_bytes() == before and fit(data, trained.path).epoch == 2
    assert [path.name for path in trained.checkpoint_path.parent.iterdir()] == ["last.pt"]


LIMITED = """
import resource, signal, sys
sys.path.insert(0, {tests!r})
import small
from bionas.errors import BionasError
from bionas.training.runs import Run
from bionas.training.recipe import FitConfig
from bionas.training.fitting import Fit

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
data = small.sides(24, 12)
trainer = Fit(small.derived(data[2]), *data, FitConfig(epochs=2, batch_size=12, device="cpu"), Run({path!r})).prepare()
save, epochs = trainer.save, iter([None, ({limit}, -1)])
def limited_save():
    limit = next(epochs)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    save()
trainer.save = limited_save
try:
    trainer.train()
except BionasError as error:
    print("refused:", error)
"""


@pytest.mark.slow
def test_a_disk_that_fills_during_training_loses_one_epoch(data, tmp_path):
    """The operating system itself refuses the second checkpoint; what a run started again makes of it is the same."""
    script = LIMITED.format(tests=os.path.dirname(__file__), path=str(tmp_path / "full"), limit=20_000)
    # As many threads as here: sums are taken in another order by another number of them.
    threads = str(torch.get_num_threads())
    environment = os.environ | {"OMP_NUM_THREADS": threads, "CUDA_VISIBLE_DEVICES": "", "TQDM_DISABLE": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert "refused: no space left to write" in done.stdout, done.stdout + done.stderr
    assert Run(tmp_path / "full").load_checkpoint()["epoch"] == 1
    fit(data, tmp_path / "full").train()
    fit(data, tmp_path / "other").train()
    states = [Run(tmp_path / name).load_checkpoint() for name in ("full", "other")]
    assert not small.differences(states[0]["model"], states[1]["model"])
