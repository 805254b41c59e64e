"""A complete architecture search with a plain loop: search (Algorithm 1), derive, train from scratch, test.

    python examples/search_minimal.py                                about four minutes on one core
    python examples/search_minimal.py --limit 240 --search-epochs 2 --epochs 2      seconds: proves that it runs

No run folder, no checkpoints, no tables: for those see `bionas.training`. The photographs are the embedded synthetic ones.
"""

from __future__ import annotations

import argparse
import dataclasses

import torch

from bionas.network import DerivedNetwork, SearchNetwork, preset
from bionas.specimens import load_specimens
from bionas.specimens.loader import BatchLoader
from bionas.specimens.metadata import MetadataEncoding
from bionas.trainer import BilevelTrainer, WeightTrainer, adam, adamw, turns

BATCH = 32
THETA_RATE = 1e-2
"""Instead of the paper's 3e-4: a search of a few hundred theta steps could not decide at that rate (`theta reach`)."""


def main(words: list[str] | None = None) -> float:
    """Run the whole example; returns the accuracy of the derived network on the test split."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--limit", type=int, help="use so many specimens")
    parser.add_argument("--search-epochs", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=15, help="of training the derived network")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)

    # Data: specimens, a split, the metadata encoding (fitted on the training split only), loaders.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    sizes = preset("tiny")
    specimens = load_specimens("synthetic", image_size=sizes.image_size, limit=given.limit)
    train, val, test = specimens.split("paper", given.seed)
    encoding = MetadataEncoding.fit(train, "leak_free")

    def loader(side, shuffle: bool, seed: int = given.seed) -> BatchLoader:
        return BatchLoader(side, encoding, BATCH, shuffle=shuffle, seed=seed, drop_last=shuffle)

    def on_device(batches):
        return (batch.to(device) for batch in batches)

    inputs = {
        "n_classes": len(specimens.class_names),
        "vocabulary_sizes": encoding.vocabulary_sizes,
        "n_numeric": encoding.n_numeric,
    }

    # Search: even batches (training data) update w, odd batches (validation data) update theta.
    torch.manual_seed(given.seed)
    supernet = SearchNetwork(sizes, **inputs).to(device)
    trainer = BilevelTrainer(
        supernet, adamw(supernet.weights()), adam(supernet.architecture(), rate=THETA_RATE)
    )
    train_loader, theta_loader = loader(train, True), loader(val, True, given.seed + 1)
    for epoch in range(given.search_epochs):
        supernet.train()
        losses = {"w": [], "theta": []}
        again = repeated(theta_loader, epoch, len(train_loader))  # validation is the smaller split
        for turn, batch in turns(on_device(train_loader.epoch(epoch)), on_device(again)):
            losses[turn].append(trainer.step(batch, turn).loss)
        means = {turn: torch.stack(values).mean().item() for turn, values in losses.items()}
        leading = supernet.alpha().max(dim=-1).values.mean().item()
        print(
            f"search {epoch + 1}/{given.search_epochs}: loss {means['w']:.3f}, theta loss {means['theta']:.3f}, "
            f"mean leading alpha {leading:.3f}"
        )
    reach = THETA_RATE * given.search_epochs * len(train_loader)
    print(f"theta reach {reach:.2f}")

    # Derivation: on each edge the primitive with the highest alpha.
    genotype = supernet.genotype()
    print(genotype.describe())

    # Training from scratch, twice as wide as the search.
    torch.manual_seed(given.seed)
    wide = dataclasses.replace(sizes, channels=2 * sizes.channels)
    network = DerivedNetwork(genotype, wide, **inputs).to(device)
    optimizer = adamw(list(network.parameters()), rate=3e-3)
    steps = given.epochs * len(train_loader)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1)
    fitting = WeightTrainer(network, optimizer, w_schedule=schedule)
    for epoch in range(given.epochs):
        network.train()
        losses = [fitting.step(batch).loss for batch in on_device(train_loader.epoch(epoch))]
        print(f"fit {epoch + 1}/{given.epochs}: loss {torch.stack(losses).mean().item():.3f}")

    # The test split is read once.
    network.eval()
    right = torch.zeros((), device=device)
    with torch.no_grad():
        for batch in on_device(loader(test, False).epoch(0)):
            right += (network(batch.image, batch.metadata).argmax(1) == batch.label).sum()
    accuracy = right.item() / len(test)
    print(f"test accuracy {accuracy:.3f} on {len(test)} specimens; majority class {majority(test):.3f}")
    return accuracy


def repeated(loader: BatchLoader, epoch: int, n: int):
    """`n` batches of a loader that may have fewer, each pass in a new order."""
    passes = -(-n // len(loader))
    for i in range(passes):
        yield from loader.epoch(epoch * passes + i)


def majority(side) -> float:
    """The accuracy of always answering the most frequent class."""
    return torch.bincount(torch.as_tensor(side.labels)).max().item() / len(side)


if __name__ == "__main__":
    main()
