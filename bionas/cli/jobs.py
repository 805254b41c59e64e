"""Commands for a job scheduler: one search or one retraining, in one process or in several; and how long they will take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from bionas.cli.app import NOTEBOOKS, Json, Positive, Settings, app
from bionas.system import places
from bionas.system.output import show

BIOSCAN_5M = 5_150_850


@app.command(group=NOTEBOOKS)
def search(*, settings: Settings = ()) -> int:
    """Search once and write the run folder; once per GPU under torchrun or `accelerate launch` where there are several."""
    from bionas.training import distributed, jobs
    from bionas.training.configuration import from_settings

    run = jobs.search(from_settings(settings))
    if distributed.first():
        print(f"found: {places.shown(run.path / 'genotype.json')}")
    return 0


@app.command(group=NOTEBOOKS)
def retrain(
    *,
    settings: Settings = (),
    genotype: Annotated[
        Path | None,
        Parameter(help="a genotype.json; without it, what the search of the same choices derived"),
    ] = None,
) -> int:
    """Train a derived network from scratch and evaluate it; divided among processes as `search` is."""
    from bionas.training import distributed, jobs
    from bionas.training.configuration import from_settings

    run = jobs.retrain(from_settings(settings), genotype)
    if distributed.first():
        print(f"{places.shown(run.path)}: test accuracy {run.metrics['accuracy']:.4f}")
    return 0


@app.command(group=NOTEBOOKS)
def estimate(
    *,
    settings: Settings = (),
    photographs: Annotated[Positive, Parameter(help="in the whole collection (BIOSCAN-5M)")] = BIOSCAN_5M,
    json: Json = False,
) -> int:
    """Estimate hours of search and retraining on a large collection from a timed trial step, beside the paper's 10 h."""
    from bionas.training.configuration import from_settings
    from bionas.training.estimate import estimate as estimated

    show(estimated(from_settings(settings), photographs), json)
    return 0
