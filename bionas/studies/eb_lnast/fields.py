"""EB-LNAST over the metadata encoder (Eq. 10) and the head: is a far smaller one as good?

The main model embeds each field, joins them and passes them through two layers to 256 features and a head of two more
(`network.MetadataNetwork`). Here d_f, the number of layers, their neurons and the activation are searched on the
encoded metadata of any collection, with or without images. Only specimens of the training side are learned from and
only those of the validation side decide; `compared` scores both networks on the test side.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch import Tensor, nn

from bionas.network import MetadataNetwork, NetworkConfig
from bionas.specimens.collection import SpecimenSet
from bionas.specimens.metadata import Metadata, MetadataEncoding
from bionas.studies.eb_lnast.evolution import Evolution
from bionas.studies.eb_lnast.lower import start_seed
from bionas.studies.eb_lnast.population import Population, Training, train
from bionas.studies.eb_lnast.search import PENALTY, search
from bionas.studies.eb_lnast.space import Architecture, LayerSpace
from bionas.training.evaluation import majority_row

SPACE = LayerSpace(layers=3, neurons=64, embedding=16)
"""d_f up to that of the main model (16)."""

TRAINING = Training(steps=600, learning_rate=0.01, weight_decay=1e-4, batch_size=512)
EVOLUTION = Evolution(population=12, generations=10)
ROWS_AT_ONCE = 4096


class FieldPopulation(nn.Module):
    """P metadata networks: embeddings of d_f each, numeric fields with a flag, then the layers of `Population`.

    A missing number becomes a learned value, as in `network.MetadataEncoder`.

    Args:
        architectures: P of them, each with its d_f in `embedding`.
        vocabulary_sizes: V_f of each categorical field, index 0 (unknown or missing) included.
        n_numeric: numeric fields.
        n_classes: logits.
        seeds: P of them.
    """

    columns: Tensor

    def __init__(
        self,
        architectures: Sequence[Architecture],
        vocabulary_sizes: Sequence[int],
        n_numeric: int,
        n_classes: int,
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        widest = max(a.embedding for a in architectures)
        fields = len(vocabulary_sizes)
        self.starts = torch.tensor([0, *np.cumsum(vocabulary_sizes)[:-1]], dtype=torch.long)
        self.table = nn.Parameter(torch.zeros(len(architectures), sum(vocabulary_sizes), widest, dtype=dtype))
        self.missing = nn.Parameter(torch.zeros(len(architectures), 1, n_numeric, dtype=dtype))
        for i, (architecture, seed) in enumerate(zip(architectures, seeds, strict=True)):
            generator = torch.Generator().manual_seed(seed + 1)
            drawn = torch.randn(
                sum(vocabulary_sizes), architecture.embedding, generator=generator, dtype=torch.float64
            )
            self.table.data[i, :, : architecture.embedding] = drawn
        # A member's own columns come first, in the order of its fields; what it has no use for is zeros at the end.
        own = [[f * widest + d for f in range(fields) for d in range(a.embedding)] for a in architectures]
        own = [columns + list(range(fields * widest, fields * widest + 2 * n_numeric)) for columns in own]
        nowhere = fields * widest + 2 * n_numeric
        longest = max(map(len, own))
        columns = torch.tensor([c + [nowhere] * (longest - len(c)) for c in own])
        self.register_buffer("columns", columns, persistent=False)
        self.layers = Population(architectures, [len(c) for c in own], n_classes, seeds, dtype)

    def forward(self, rows: Tensor) -> Tensor:
        """rows (B, F + G): categories as numbers, then numeric fields with NaN where missing -> (P, B, n_classes)."""
        fields, members = len(self.starts), len(self.table)
        at = rows[:, :fields].long() + self.starts.to(rows.device)
        numeric = rows[:, fields:].to(self.table.dtype)
        absent = torch.isnan(numeric)
        filled = torch.where(absent, self.missing, torch.nan_to_num(numeric))
        flags = absent.to(filled.dtype).expand(members, -1, -1)
        embedded = self.table[:, at].flatten(2)
        features = torch.cat([embedded, filled, flags, filled.new_zeros(members, len(rows), 1)], dim=2)
        return self.layers(features.gather(2, self.columns[:, None].expand(-1, len(rows), -1)))


@dataclasses.dataclass(frozen=True)
class FieldLevel:
    """The lower level on records: all architectures trained on the training side at once, scored on validation.

    Attributes:
        train, val: (rows (N, F + G) float64, labels (N,)), as `as_rows` makes them.
        vocabulary_sizes, n_numeric, n_classes: as in `FieldPopulation`.
        training, seed: how, and from where.
    """

    train: tuple[Tensor, Tensor]
    val: tuple[Tensor, Tensor]
    vocabulary_sizes: tuple[int, ...]
    n_numeric: int
    n_classes: int
    training: Training = TRAINING
    seed: int = 0

    def parameters(self, architecture: Architecture) -> int:
        d = architecture.embedding
        inputs = len(self.vocabulary_sizes) * d + 2 * self.n_numeric
        return (
            sum(self.vocabulary_sizes) * d + self.n_numeric + architecture.parameters(inputs, self.n_classes)
        )

    def __call__(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """(A,) accuracy on the validation side."""
        predicted = self.predicted(self.trained(architectures), self.val[0])
        return (predicted == self.val[1]).double().mean(dim=1).numpy()

    def final(self, architecture: Architecture) -> nn.Module:
        """The architecture as it was scored: its weights come from the training side alone, as do those of the network
        it is compared with."""
        return self.trained([architecture])

    def trained(self, architectures: Sequence[Architecture]) -> FieldPopulation:
        seeds = [start_seed(self.seed, a, 0) for a in architectures]
        population = FieldPopulation(
            architectures, self.vocabulary_sizes, self.n_numeric, self.n_classes, seeds
        )
        train(population, *self.train, self.training, self.seed)
        return population

    @torch.no_grad()
    def predicted(self, population: nn.Module, rows: Tensor) -> Tensor:
        """(P, N) labels."""
        population.eval()
        return torch.cat([population(part).argmax(dim=2) for part in rows.split(ROWS_AT_ONCE)], dim=1)


class _AsPopulation(nn.Module):
    """The main model's own metadata network, as a population of one, so that both are trained by the same loop."""

    def __init__(self, network: MetadataNetwork, fields: int):
        super().__init__()
        self.network, self.fields = network, fields

    def forward(self, rows: Tensor) -> Tensor:
        metadata = Metadata(rows[:, : self.fields].long(), rows[:, self.fields :].float())
        return self.network(None, metadata).unsqueeze(0)


def as_rows(specimens: SpecimenSet, encoding: MetadataEncoding) -> tuple[Tensor, Tensor]:
    """(rows (N, F + G) float64, labels (N,)) of specimens: categories as numbers, then the numeric fields."""
    metadata = encoding.transform(specimens)
    rows = torch.cat([metadata.categorical.double(), metadata.numeric.double()], dim=1)
    return rows, torch.from_numpy(specimens.labels)


def compared(
    specimens: SpecimenSet,
    *,
    metadata: str = "leak_free",
    split: str = "paper",
    seed: int = 0,
    space: LayerSpace = SPACE,
    evolution: Evolution = EVOLUTION,
    training: Training = TRAINING,
    reference_learning_rate: float = 1e-3,
    penalty: float = PENALTY,
    after: Callable[[int], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Search the metadata network of a collection and set it beside the main model's.

    Args:
        metadata, split: a preset of `METADATA_PRESETS`, a scheme of `SPLITS`.
        training: of every network, the main model's too (its rate is `reference_learning_rate`, the paper's 1e-3).
        after: called with each generation that is complete.

    Returns:
        (rows, history). Rows: majority, main model, EB-LNAST; columns model, accuracy, balanced_accuracy, f1_macro
        (test side, shares of 1), parameters, choice, candidates, seconds, seed. History as in `search.Found`.

    Raises:
        SpecimenError: the records cannot fill a field of the preset, or cannot be divided so.
    """
    specimens.require_trainable()
    sides = specimens.split(split, seed)
    encoding = MetadataEncoding.fit(sides.train, metadata)
    train_rows, val_rows, test_rows = (as_rows(side, encoding) for side in sides)
    sizes, n_numeric, n_classes = encoding.vocabulary_sizes, encoding.n_numeric, len(specimens.class_names)
    level = FieldLevel(train_rows, val_rows, sizes, n_numeric, n_classes, training, seed)
    majority = majority_row(sides.train.labels, sides.test.labels, n_classes)
    rows: list[dict[str, Any]] = [
        {
            "model": "majority",
            "accuracy": majority["accuracy"],
            "balanced_accuracy": majority["balanced_accuracy"],
            "f1_macro": majority["f1_macro"],
            "parameters": 1,
            "choice": "-",
            "candidates": 1,
            "seconds": 0.0,
        }
    ]

    def add(
        name: str, population: nn.Module, parameters: int, choice: str, candidates: int, seconds: float
    ) -> None:
        predicted, truth = level.predicted(population, test_rows[0])[0].numpy(), test_rows[1].numpy()
        rows.append(
            {
                "model": name,
                "accuracy": accuracy_score(truth, predicted),
                "balanced_accuracy": balanced_accuracy_score(truth, predicted),
                "f1_macro": f1_score(
                    truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
                ),
                "parameters": parameters,
                "choice": choice,
                "candidates": candidates,
                "seconds": round(seconds, 2),
            }
        )

    started = time.perf_counter()
    torch.manual_seed(seed)
    main = _AsPopulation(MetadataNetwork(NetworkConfig(), n_classes, sizes, n_numeric), len(sizes))
    train(main, *train_rows, dataclasses.replace(training, learning_rate=reference_learning_rate), seed)
    size = sum(p.numel() for p in main.parameters())
    add(
        "bioautoml_nas_metadata", main, size, "Eq. 10 and head as published", 1, time.perf_counter() - started
    )
    started = time.perf_counter()
    found = search(space, level, evolution, seed, penalty=penalty, after=after)
    seconds = time.perf_counter() - started
    add("eb_lnast", found.network, found.parameters, str(found.architecture), found.trained, seconds)
    return pd.DataFrame(rows).assign(seed=seed), found.history
