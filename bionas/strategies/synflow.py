"""Control without training: the best of many random genotypes by synflow at initialisation.

Synaptic flow is the sum over parameters of |w dR/dw|, where R is the sum of the outputs of the network with all parameters
replaced by their absolute values, for an image of ones (Tanaka et al., NeurIPS 2020; as a score of architectures,
Abdelfattah et al., ICLR 2021).
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from bionas.genotype import Genotype
from bionas.specimens.metadata import Metadata
from bionas.strategies.evaluators import NETWORKS, Evaluator
from bionas.strategies.random_search import Uniform
from bionas.strategies.searching import SearchResult, conclude, finished, open_run, require, row, strategy
from bionas.strategies.space import Space


@strategy("synflow", needs=NETWORKS)
def synflow(
    space: Space,
    evaluate: Evaluator,
    budget: int,
    seed: int = 0,
    *,
    folder: Path | None = None,
    candidates: int = 1000,
) -> SearchResult:
    """The random genotype with the highest synflow at search width; no image is trained on.

    An interrupted search starts again: it takes seconds, and its result depends on the seed alone.

    Args:
        candidates: number of random genotypes, all of the space if it has fewer.
    """
    require("synflow", evaluate)
    run = open_run(folder, "synflow", space, evaluate, budget, seed, {"candidates": candidates})
    if (result := finished(run)) is not None:
        return result
    rows: list[dict[str, Any]] = []
    example, uniform = evaluate.example(), Uniform(space, seed)
    while len(rows) < candidates and (genotype := uniform.propose()) is not None:
        start, core_start = time.perf_counter(), time.process_time()
        genotype = space.canonical(genotype)
        score = synaptic_flow(evaluate.network(genotype, seed), *example)
        uniform.observe(genotype, score)
        measured = {"core_seconds": round(time.process_time() - core_start, 3)}
        rows.append(row(len(rows), genotype, score, 0, time.perf_counter() - start) | measured)
    best = max(range(len(rows)), key=lambda i: rows[i]["score"])
    found = Genotype.from_json(rows[best]["genotype"])
    return conclude(run, SearchResult(found, pd.DataFrame(rows), 0, "all candidates are scored"))


def synaptic_flow(network: nn.Module, image: torch.Tensor, metadata: Metadata) -> float:
    """log of the synaptic flow of an untrained network, whose parameters are overwritten.

    In inference mode an untrained batch normalisation is the identity, and dropout is off. Computed in float64.
    """
    network = network.double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    metadata = Metadata(metadata.categorical, metadata.numeric.double())
    parameters = [p for p in network.parameters() if p.requires_grad]
    flow = torch.autograd.grad(network(image.double(), metadata).sum(), parameters, allow_unused=True)
    total = sum((p * g).abs().sum().item() for p, g in zip(parameters, flow) if g is not None)
    return math.log(total) if total > 0 else -math.inf
