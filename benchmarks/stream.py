"""Photographs decoded per batch: the streamed store against torchvision's ImageFolder and DataLoader, per core.

JPEGs of 256 px are decoded and resized to 224 px in batches of 64, shuffled, until the network's input is ready. A rate
is images per second of processor time of the whole process, so that threads that work side by side are all counted: per
core, whatever else runs on the machine. `exact` gives the pixels of the decoded store (Pillow's Lanczos), `fast` resizes
bilinearly as torchvision's `Resize` does. Then what is resident for a listing of 10,000 and of 1,000,000 photographs.

    python benchmarks/stream.py --images 1500 --repeats 5 --out data/results/stream.csv
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from image_pipeline import BATCH, TREE, cache_loader, lay_out
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.streaming import StreamedImages
from bionas.system import files
from bionas.training.runs import commit

SIZE = 224
BAR = 1.5
LISTED = (10_000, 1_000_000)
DRAWN = 20  # batches that are drawn from a listing


def torchvision_epoch(work: Path) -> Callable[[int], int]:
    transform = transforms.Compose(
        [transforms.Resize((SIZE, SIZE)), transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)]
    )
    loader = DataLoader(ImageFolder(str(work / TREE), transform), BATCH, shuffle=True, num_workers=0)
    return lambda epoch: sum(len(image) for image, _ in loader)


def streamed_epoch(work: Path, names: list[str], decoder: str) -> Callable[[int], int]:
    store = StreamedImages(FolderPhotographs(work / TREE, names), SIZE, decoder=decoder, workers=1)
    loader = cache_loader(store)
    return lambda epoch: sum(len(batch.label) for batch in loader.epoch(epoch))


def measured(work: Path, names: list[str], repeats: int) -> pd.DataFrame:
    """Images per second of processor time, the programs interleaved."""
    programs = {
        "torchvision ImageFolder and DataLoader": torchvision_epoch(work),
        "stream, exact": streamed_epoch(work, names, "exact"),
        "stream, fast": streamed_epoch(work, names, "fast"),
    }
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for repeat in range(repeats + 1):  # the first fills the system's cache of the files
        for name, program in programs.items():
            start = time.process_time()
            images = program(repeat)
            if repeat:
                rates[name].append(images / (time.process_time() - start))
    base = statistics.median(next(iter(rates.values())))
    return pd.DataFrame(
        {
            "program": name,
            "device": "cpu",
            "images_per_core_s": round(statistics.median(found), 1),
            "min": round(min(found), 1),
            "max": round(max(found), 1),
            "over_torchvision": round(statistics.median(found) / base, 2),
            "note": "",
        }
        for name, found in rates.items()
    )


def resident(work: Path, names: list[str], listed: int) -> float:
    """MiB by which the process grows while batches are drawn from a listing of so many photographs."""
    torch.set_num_threads(1)
    names = [names[i % len(names)] for i in range(listed)]
    loader_store = StreamedImages(FolderPhotographs(work / TREE, names), SIZE, workers=2)
    generator = np.random.default_rng(0)
    loader_store.pixels(generator.integers(0, listed, BATCH))
    before = most = psutil.Process().memory_info().rss
    for _ in range(DRAWN):
        loader_store.pixels(generator.integers(0, listed, BATCH))
        most = max(most, psutil.Process().memory_info().rss)
    return (most - before) / 2**20


def memory(work: Path, names: list[str]) -> pd.DataFrame:
    rows = []
    for listed in LISTED:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            grown = pool.apply(resident, (work, names, listed))
        rows.append({"program": "stream, fast", "listed": listed, "grown_mib": round(grown, 1), "note": ""})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="a CSV to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", module="torch.utils.data")
    with tempfile.TemporaryDirectory() as work:
        names = lay_out(Path(work), options.images, None)
        speed = measured(Path(work), names, options.repeats)
        grown = memory(Path(work), names)
    on_gpu = pd.DataFrame([{"program": "stream, decoded on the device", "device": "cuda", "note": "not run"}])
    table = pd.concat([speed, on_gpu, grown], ignore_index=True).assign(
        size=SIZE,
        batch_size=BATCH,
        images=options.images,
        source="drawn textures, JPEG of 256 px",
        repeats=options.repeats,
        threads=1,
        torch=torch.__version__,
        code=commit(),
        command=f"python benchmarks/stream.py --images {options.images} --repeats {options.repeats} --out data/results/stream.csv",
    )
    print(table.iloc[:, :9].to_string(index=False))
    print(f"bar: {BAR} x torchvision per core")
    if options.out:
        files.write_csv(options.out, table)


if __name__ == "__main__":
    main()
