"""A folder of sixty photographs with a table of records, and the smallest grid over it: what the tests of grids share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from bionas.studies.table1 import grid as ablations
from bionas.training import experiments

CHOICES = {"source": "folder", "preset": "tiny", "image_size": 16, "batch_size": 16, "device": "cpu"}


def photographs(folder: Path, n: int = 60) -> Path:
    """`n` photographs whose order shows in one colour channel, with a place in their records."""
    generator = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(n):
        pixels = generator.integers(0, 180, (20, 20, 3), dtype=np.uint8)
        pixels[:, :, i % 3] += 70
        Image.fromarray(pixels).save(folder / f"{i:03d}.png")
    table = pd.DataFrame(
        {
            "file": [f"{i:03d}.png" for i in range(n)],
            "order": [("Coleoptera", "Diptera", "Odonata")[i % 3] for i in range(n)],
            "country": [("Kenya", "Peru")[i % 2] for i in range(n)],
            "coord-lat": np.linspace(-30, 30, n).round(3),
        }
    )
    table.to_csv(folder / "labels.csv", index=False)
    return folder


def plan(folder: Path, run_dir: Path, **choices) -> experiments.Plan:
    epochs = {"search_epochs": 2, "epochs": 1}
    return experiments.plan(
        "smoke", **{**CHOICES, **epochs, "data_dir": folder, "run_dir": run_dir, **choices}
    )


def own_plan(folder: Path) -> experiments.Plan:
    """A plan on photographs drawn for it, with its runs beside them."""
    return plan(photographs(folder / "photographs"), folder / "runs")


def grid(folder: Path, run_dir: Path, rows: str, seeds: int = 1, **choices) -> ablations.Grid:
    return ablations.prepare(plan(folder, run_dir, **choices), ablations.chosen_rows(rows), range(seeds))
