"""Photographs per second of `bionas predict`, of its bare network with decoding, and of ViT-B/16 (the kind pybioclip runs).

    python benchmarks/lab_predict.py MODEL PHOTOGRAPHS --out data/results/lab_predict.csv

Every program reads the same JPEG files in one process on one thread, in turn, `--repeats` times. The transformer is the
image half of open_clip's ViT-B/16 with random weights: only its time is measured. Times are of the processor, which a busy
machine changes less than the clock's.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch

from bionas import lab
from bionas.lab.photographs import decoded_batches, find
from bionas.system import files
from bionas.training.runs import commit

VIT, VIT_PHOTOGRAPHS = "vit_base_patch16_clip_224", 8


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--limit", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [one.path for one in find(options.photographs)][: options.limit]
    model = lab.load(options.model)
    vit = timm.create_model(VIT, num_classes=0).eval()

    def end_to_end() -> int:
        with tempfile.TemporaryDirectory() as place:
            lab.identify(model, paths, Path(place) / "ids.csv", workers=1)
        return len(paths)

    def bare() -> int:
        for batch in decoded_batches(paths, model.size, model.fit, 1):
            model.features(torch.from_numpy(batch.pixels).permute(0, 3, 1, 2))
        return len(paths)

    @torch.inference_mode()
    def transformer() -> int:
        for batch in decoded_batches(paths[:VIT_PHOTOGRAPHS], 224, model.fit, 1):
            vit(torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
        return min(VIT_PHOTOGRAPHS, len(paths))

    programs: dict[str, Callable[[], int]] = {
        "bionas predict, file to table": end_to_end,
        "its network and decoding alone": bare,
        f"{VIT} and decoding": transformer,
    }
    model.predict(paths[:32], workers=1)
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(options.repeats):
        for name, program in programs.items():
            before = time.process_time()
            n = program()
            times[name].append((time.process_time() - before) / n)
    rows = [
        {
            "program": name,
            "photographs_per_second": 1 / np.median(found),
            "milliseconds": 1000 * np.median(found),
        }
        for name, found in times.items()
    ]
    table = pd.DataFrame(rows).round(2)
    table["times_vit"] = (table["photographs_per_second"] / table["photographs_per_second"].iloc[-1]).round(1)
    table = table.assign(
        threads=1,
        repeats=options.repeats,
        code=commit(),
        command="python benchmarks/lab_predict.py " + " ".join(sys.argv[1:]),
    )
    print(table.iloc[:, :4].to_string(index=False))
    if options.out:
        files.write_csv(options.out, table)


if __name__ == "__main__":
    main()
