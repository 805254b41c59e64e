"""Time of `bionas train` on 600 photographs of six classes with frozen weights, from JPEG files to the model folder.

    python benchmarks/lab_train.py ../shared/data/field_pests --column class_as_given --out data/results/lab_train.csv

Nothing is decoded or computed before. Seconds of the processor are those of all threads together: on idle cores the clock shows
about as many with one thread.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch

from bionas import lab
from bionas.system import files, places
from bionas.training.runs import commit

CLASSES, PER_CLASS = 6, 100


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("photographs", type=Path, help="a folder with labels.csv")
    parser.add_argument("--column", default="order", help="of the classes")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    labels = pd.read_csv(options.photographs / "labels.csv", dtype=str)
    commonest = labels[options.column].value_counts().index[:CLASSES]
    drawn = (
        labels[labels[options.column].isin(commonest)]
        .groupby(options.column)
        .sample(PER_CLASS, random_state=0)
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "photographs"
        for file, name in zip(drawn["file"], drawn[options.column]):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / Path(file).name).symlink_to((options.photographs / file).resolve())
        cache = Path(place) / "cache"
        places.cache = lambda: cache  # so that nothing from an earlier training is found
        clock, processor = time.time(), time.process_time()
        model = lab.train(folder, Path(place) / "model", model_kind="pretrained", workers=options.threads)
        seconds, used = time.time() - clock, time.process_time() - processor
    row = {
        "photographs": len(drawn),
        "classes": len(model.classes),
        "accuracy": round(model.description["test"]["accuracy"], 4),
        "processor_seconds": round(used, 1),
        "seconds": round(seconds, 1),
        "threads": options.threads,
        "source": "real photographs, verification only, not redistributed",
        "code": commit(),
        "command": "python benchmarks/lab_train.py " + shlex.join(sys.argv[1:]),
    }
    print(f"{row['processor_seconds']} s of processor, {row['seconds']} s by the clock")
    if options.out:
        files.write_csv(options.out, pd.DataFrame([row]))


if __name__ == "__main__":
    main()
