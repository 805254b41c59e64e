"""From a metadata table of BIOSCAN-5M's full size to the first batch: seconds and peak memory of each stage.

A table is drawn (`full_size_table.py`), with a sparse file of as many images: it has the size of the real cache and takes
no room. Two fresh processes then do what a run does: `load_specimens`, a `bin_disjoint` split over BINs and barcodes,
the metadata encoding, the first shuffled batch; then the fingerprint and every split scheme side by side. The first
process parses the CSV, the second finds its columns in the cache. Peak is the most that was resident during a stage,
pages of mapped files included; the first row is what the imports alone take.

    python benchmarks/full_collection.py --out data/results/full_collection.csv      # 5,150,850 rows, 6 GB of disk
    python benchmarks/full_collection.py --rows 515085
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from full_size_table import ROWS, write_table

from bionas import files
from bionas.runs import commit
from bionas.specimens import SOURCES, BatchLoader, Collected, ImageStore, MetadataEncoding, load_specimens
from bionas.specimens.barcodes import barcode_keys
from bionas.specimens.collection import compare_splits
from bionas.specimens.columnar import read_columns
from bionas.specimens.csv_stream import CsvStream
from bionas.specimens.schema import COLUMNS

BAR = 4.0
"""GB of resident memory, at any moment of either process."""
GB = 1e9


@SOURCES.register("full_size")
def full_size(data_dir: Path, *, image_size: int, cache_dir: Path, seed: int) -> Collected:
    """`metadata.csv` and `images.npy` of a folder, without a photograph to decode."""
    found = read_columns(data_dir / "metadata.csv", [c for c in COLUMNS if c != "dna_barcode"], cache_dir=cache_dir)
    images = ImageStore.open(data_dir / "images.npy", fingerprint="sparse")
    records = found.frame.assign(dna_barcode=_barcodes(data_dir / "metadata.csv", cache_dir / "barcodes.npy"))
    return Collected(records, images, found.notes, synthetic=True, default_min_records=500)


def _barcodes(table: Path, kept: Path) -> np.ndarray:
    if not kept.exists():
        blocks = CsvStream(table).blocks({"dna_barcode": pa.large_string()})
        np.save(kept, np.concatenate([barcode_keys(block.table.column("dna_barcode")) for block in blocks]))
    return np.load(kept)


class Stages:
    """Rows of (stage, seconds, peak_gb, resident_gb), one each time `stage` is left."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float | str]] = []
        self._add("imports", float("nan"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        start = time.perf_counter()
        yield
        self._add(name, time.perf_counter() - start)

    def _add(self, name: str, seconds: float) -> None:
        peak, resident = _memory("VmHWM"), _memory("VmRSS")
        self.rows.append({"stage": name, "seconds": seconds, "peak_gb": peak, "resident_gb": resident})


def _memory(which: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) * 1024 / GB
    raise SystemExit("memory is read from /proc/self/status, which this system does not have")


def measure(
    folder: Path, preset: str, batch_size: int, threads: int
) -> tuple[list[dict[str, float | str]], pd.DataFrame]:
    """All stages in this process, and what the splits came to."""
    torch.set_num_threads(threads)
    stages = Stages()
    with stages.stage("load_specimens"):
        specimens = load_specimens("full_size", folder, cache_dir=folder / "cache")
    with stages.stage("split bin_disjoint"):
        train, _, _ = specimens.split("bin_disjoint")
    with stages.stage(f"encoding {preset}"):
        encoding = MetadataEncoding.fit(train, preset)
    with stages.stage("loader"):
        loader = BatchLoader(train, encoding, batch_size, shuffle=True)
    with stages.stage("first batch"):
        batch = next(loader.epoch(0))
    assert len(batch.label) == batch_size and batch.image is not None
    with stages.stage("fingerprint"):
        print(f"{len(specimens):,} specimens of {len(specimens.class_names)} classes: {specimens.fingerprint}")
    with stages.stage("all splits side by side"):
        splits = compare_splits(specimens)
    return stages.rows, splits


def prepare(folder: Path, rows: int, image_size: int) -> None:
    """The table and the sparse images, unless they are there."""
    if not (folder / "metadata.csv").exists():
        write_table(folder / "metadata.csv", rows)
    shape = (rows, image_size, image_size, 3)
    np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    (folder / "cache").mkdir(exist_ok=True)


def _alone(function, *arguments):
    """In a fresh process, so that nothing of one measurement is in the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--preset", default="leak_free", help="metadata preset")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--folder", type=Path, help="where table, images and cache are made; a temporary one by default"
    )
    parser.add_argument("--out", type=Path, help="a CSV to write")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = a.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        _alone(prepare, folder, a.rows, a.image_size)
        tables = []
        for opening in ("from the CSV", "from the cache"):
            stages, splits = _alone(measure, folder, a.preset, a.batch_size, a.threads)
            tables.append(pd.DataFrame(stages).assign(columns=opening))
    table = pd.concat(tables).round(3)
    table = table[["columns", "stage", "seconds", "peak_gb", "resident_gb"]]
    print(splits.round(3).to_string(index=False), table.to_string(index=False), sep="\n\n")
    peak = table["peak_gb"].max()
    print(f"peak {peak:.2f} GB (bar: under {BAR:g})")
    if a.out:
        command = (
            f"python benchmarks/full_collection.py --rows {a.rows} --image-size {a.image_size} --preset {a.preset}"
        )
        command += f" --batch-size {a.batch_size} --threads {a.threads}"
        table = table.assign(rows=a.rows, source="a drawn table", threads=a.threads, code=commit(), command=command)
        files.write_csv(a.out, table)


if __name__ == "__main__":
    main()
