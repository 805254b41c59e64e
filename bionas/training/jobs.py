"""Plain commands for a job scheduler: `bionas search` and `bionas retrain`, alone or once per GPU under torchrun.

    torchrun --nproc-per-node 4 -m bionas search -p mode=full -p source=bioscan5m ...

Every process reads the same plan. The run folder is the one that notebooks and other commands find for that plan.
"""

from __future__ import annotations

from pathlib import Path

from bionas.errors import CheckpointError
from bionas.genotype import Genotype
from bionas.training import distributed, experiments
from bionas.training.configuration import Plan
from bionas.training.runs import Run


def search(plan: Plan) -> Run:
    """Search (Algorithm 1), in this process or divided among those of the job; a finished run is returned at once.

    Raises:
        TrainingError: the search cannot go on; where another process ended, the message says how to resume.
    """
    with distributed.group(plan.device):
        _read_data(plan)
        with distributed.only_rank_0_writes():
            found = experiments.search(plan)
        distributed.wait()  # for what rank 0 still writes
    return found


def retrain(plan: Plan, genotype: str | Path | None = None) -> Run:
    """Train a genotype from scratch and evaluate it: the one of a file, else what this plan's search derived.

    Raises:
        CheckpointError: no genotype is given, and the plan's search is not finished.
        GenotypeError: the file holds none, or one of another primitive set or depth than the plan.
    """
    with distributed.group(plan.device):
        _read_data(plan)
        if genotype is None:
            searched = experiments.search_run(plan)
            if not searched.complete:
                raise CheckpointError(
                    f"{searched.path} is not a finished search. Run `bionas search` with the same choices first, or give a "
                    "genotype.json."
                )
            chosen = searched.genotype
        else:
            chosen = Genotype.load(genotype)
        with distributed.only_rank_0_writes():
            trained = experiments.retrain(plan, chosen)
        distributed.wait()
    return trained


def _read_data(plan: Plan) -> None:
    """Read the collection, decoding it where needed, and a stem's maps of it; one process does while the others wait."""
    plan.training_splits()
    plan.encoding()
    distributed.wait()
