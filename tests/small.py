"""A collection and networks small enough to train in a test: what the tests of training share."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd
import torch

from bionas.genotype import Genotype
from bionas.network import DerivedNetwork, NetworkConfig, SearchNetwork
from bionas.specimens import ImageStore, MetadataEncoding, SpecimenSet
from bionas.training.fitting import Search

CLASSES = ("Coleoptera", "Diptera", "Hymenoptera")
CONFIG = NetworkConfig(image_size=16, channels=4, cells=3, stem_stride=2, dropout=0.2, embedding=4)


def specimens(n: int, first: int = 0, size: int = 16) -> SpecimenSet:
    """`n` specimens whose order shows in one colour channel. `coord-lat` numbers them from `first` on."""
    generator = np.random.default_rng([n, first])
    labels = (np.arange(n) + first) % len(CLASSES)
    pixels = generator.integers(0, 180, (n, size, size, 3), dtype=np.uint8)
    pixels[np.arange(n), :, :, labels] += 60
    records = pd.DataFrame(
        {
            "order": np.array(CLASSES)[labels],
            "country": [f"country {i % 4}" for i in range(n)],
            "coord-lat": np.arange(first, first + n, dtype=float),
            "coord-lon": np.where(np.arange(n) % 3, np.arange(n) * 1.0, np.nan),
        }
    )
    return SpecimenSet(records, labels, CLASSES, ImageStore(pixels))


def sides(train: int = 48, val: int = 24) -> tuple[SpecimenSet, SpecimenSet, MetadataEncoding]:
    """(train, val, encoding); the numbers of the specimens of one do not occur in the other."""
    split = specimens(train), specimens(val, first=train)
    return *split, MetadataEncoding.fit(split[0])


def numbers(encoding: MetadataEncoding, metadata) -> list[int]:
    """Which specimens a batch holds, read off its metadata."""
    mean, sd = encoding.scales["coord-lat"]
    column = [*encoding.scales].index("coord-lat")
    return (metadata.numeric[:, column].double() * sd + mean).round().long().tolist()


def inputs(encoding: MetadataEncoding) -> dict:
    return {"vocabulary_sizes": encoding.vocabulary_sizes, "n_numeric": encoding.n_numeric}


def supernet(
    encoding: MetadataEncoding, seed: int = 0, config: NetworkConfig = CONFIG, **options
) -> SearchNetwork:
    torch.manual_seed(seed)
    return SearchNetwork(config, len(CLASSES), **inputs(encoding), **options)


def derived(encoding: MetadataEncoding, seed: int = 0, config: NetworkConfig = CONFIG) -> DerivedNetwork:
    torch.manual_seed(seed)
    genotype = Genotype.random(config.cells, config.reductions, "full", np.random.default_rng(seed))
    return DerivedNetwork(genotype, config, len(CLASSES), **inputs(encoding))


def differences(one, other, where: str = "") -> list[str]:
    """Where two nested states (dicts, lists, tensors, numbers) are not identical to the bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        alone = [f"{where}/{key}" for key in one.keys() ^ other.keys()]
        return alone + [
            d for k in one.keys() & other.keys() for d in differences(one[k], other[k], f"{where}/{k}")
        ]
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)) and len(one) == len(other):
        return [d for i, (a, b) in enumerate(zip(one, other)) for d in differences(a, b, f"{where}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if one.dtype == other.dtype and torch.equal(one, other) else [where]
    return [] if type(one) is type(other) and one == other else [where]


class Collapsing(Search):
    """A search on its way into skips: after epoch n skip_connect leads the first n edges, and no other.

    Every theta step also lifts skip_connect, on one edge more in every epoch; `begun` puts it below the others first. All
    else is the search's own.
    """

    @staticmethod
    def begun(network: SearchNetwork) -> SearchNetwork:
        with torch.no_grad():
            network.theta[..., network.primitives.index("skip_connect")] = -0.1
        return network

    def make_algorithm(self):
        algorithm = super().make_algorithm()
        algorithm.update = functools.partial(self.lifting, algorithm.update)
        return algorithm

    def lifting(self, update, turn, loss):
        update(turn, loss)
        if turn == "theta":
            skip = self.supernet.primitives.index("skip_connect")
            with torch.no_grad():
                self.supernet.theta.view(-1, len(self.supernet.primitives))[: self.epoch + 1, skip] += 0.1
