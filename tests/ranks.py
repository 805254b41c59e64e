"""One process of a job of several, for the tests of `training.distributed`: `python ranks.py FOLDER WHAT`.

WHAT: `fit` or `search`, with `-sync` for synchronised batch normalisation, with `-killed` for a job whose last process is
gone after one epoch.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from pathlib import Path

import small
import torch

from bionas.errors import BionasError
from bionas.network import MetadataNetwork
from bionas.training import distributed
from bionas.training.fitting import Fit, Search
from bionas.training.recipe import FitConfig, SearchConfig
from bionas.training.runs import Run

BATCH = 16
EPOCHS = 3
PLAIN = dataclasses.replace(small.CONFIG, dropout=0.0)  # masks of dropout differ from rank to rank


def trainer(run: Run, what: str) -> Fit | Search:
    """The training that each process of the job, or one process alone, takes part in."""
    train, val, encoding = small.sides()
    options = {"epochs": EPOCHS, "batch_size": BATCH, "device": "cpu", "sync_batch_norm": "sync" in what}
    if what.startswith("fit"):
        torch.manual_seed(0)
        network = MetadataNetwork(PLAIN, len(small.CLASSES), **small.inputs(encoding))
        return Fit(network, train, val, encoding, FitConfig(**options), run)
    config = SearchConfig(**options, theta_learning_rate=0.02)
    return Search(small.supernet(encoding, config=PLAIN), train, val, encoding, config, run)


def main(folder: Path, what: str) -> None:
    torch.set_num_threads(1)
    with distributed.group("cpu") as (rank, ranks), distributed.only_rank_0_writes():
        job = trainer(Run(folder), what)
        if "killed" in what and rank == ranks - 1:
            save = job.save

            def last() -> None:
                save()
                os.kill(os.getpid(), signal.SIGKILL)

            job.save = last
        job.train()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except BionasError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
