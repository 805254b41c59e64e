"""BIOSCAN-5M at its full size, from the download to the first batch: seconds and peak memory of each stage.

A table of 5,150,850 rows is drawn (`full_size_table.py`) and laid where the download has it; a sparse file of as many
images has the size of the real cache and takes no room. Fresh processes then do what a run does: `load_specimens`, a
`bin_disjoint` split over BINs and barcodes, the metadata encoding, the first shuffled batch; then the fingerprint and
every split scheme side by side. One parses the CSV, one finds its columns in the cache, and one takes its photographs
from a ZIP that holds a few of them, each looked up by the record's place in the archive. Peak is the most that was
resident during a stage, pages of mapped files included; the first row is what the imports alone take.

    python benchmarks/full_collection.py --out data/results/full_collection.csv      # 5,150,850 rows, 6 GB of disk
    python benchmarks/full_collection.py --rows 515085
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import multiprocessing
import tempfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from full_size_table import ROWS, write_table
from PIL import Image

from bionas.specimens import BatchLoader, ImageStore, MetadataEncoding, load_specimens
from bionas.specimens.collection import compare_splits
from bionas.specimens.sources.bioscan5m import FOLDER, METADATA
from bionas.system import files
from bionas.training.runs import commit

BAR = 4.0
"""GB of resident memory, at any moment of either process."""
GB = 1e9


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
    folder: Path, zipped: bool, preset: str, batch_size: int, threads: int
) -> tuple[list[dict[str, float | str]], pd.DataFrame | None]:
    """All stages in this process, and what the splits came to.

    Args:
        zipped: only the records that have a photograph in the ZIP, with it; otherwise all of them, with sparse images.
    """
    torch.set_num_threads(threads)
    stages = Stages()
    with stages.stage("load_specimens"):
        specimens = load_specimens(
            "bioscan5m",
            folder,
            images=zipped,
            missing_images="skip",
            min_records=1 if zipped else None,
            cache_dir=folder / "cache",
        )
        if not zipped:
            sparse = ImageStore.open(folder / "images.npy", fingerprint="sparse")
            specimens = dataclasses.replace(specimens, images=sparse.subset(np.arange(len(specimens))))
    with stages.stage("split bin_disjoint"):
        train, _, _ = specimens.split("bin_disjoint")
    with stages.stage(f"encoding {preset}"):
        encoding = MetadataEncoding.fit(train, preset)
    with stages.stage("loader"):
        loader = BatchLoader(train, encoding, batch_size, shuffle=True)
    with stages.stage("first batch"):
        batch = next(loader.epoch(0))
    assert len(batch.label) == batch_size and batch.image is not None
    if zipped:
        print(f"{len(specimens):,} specimens have a photograph in the ZIP")
        return stages.rows, None
    with stages.stage("fingerprint"):
        print(
            f"{len(specimens):,} specimens of {len(specimens.class_names)} classes: {specimens.fingerprint}"
        )
    with stages.stage("all splits side by side"):
        splits = compare_splits(specimens)
    return stages.rows, splits


def prepare(folder: Path, rows: int, image_size: int, photographs: int) -> None:
    """The table, the sparse images and a ZIP of a few photographs, as the download has them."""
    table = folder / FOLDER / METADATA
    if not table.exists():
        table.parent.mkdir(parents=True, exist_ok=True)
        write_table(table, rows)
    shape = (rows, image_size, image_size, 3)
    np.lib.format.open_memmap(folder / "images.npy", mode="w+", dtype=np.uint8, shape=shape)
    (folder / "cache").mkdir(exist_ok=True)
    records = pd.read_csv(table, usecols=["processid", "split", "chunk"], dtype=str)
    drawn = records[records["split"] == "train"].sample(photographs, random_state=0)
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(folder / "BIOSCAN_5M_cropped_256_train.zip", "w") as archive:
        for row in drawn.itertuples():
            pixels = np.kron(
                generator.integers(0, 255, (16, 16, 3), dtype=np.uint8), np.ones((16, 16, 1), np.uint8)
            )
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "JPEG", quality=90)
            member = f"{FOLDER}/images/cropped_256/{row.split}/{row.chunk}/{row.processid}.jpg"
            archive.writestr(member, content.getvalue())


def _alone(function, *arguments):
    """In a fresh process, so that nothing of one measurement is in the next."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--photographs", type=int, default=2_000, help="in the ZIP")
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
        _alone(prepare, folder, a.rows, a.image_size, a.photographs)
        tables, splits = [], None
        for opening in ("CSV, sparse images", "cache, sparse images", "cache, photographs from a ZIP"):
            stages, found = _alone(measure, folder, "ZIP" in opening, a.preset, a.batch_size, a.threads)
            splits = splits if found is None else found
            tables.append(pd.DataFrame(stages).assign(opened=opening))
    table = pd.concat(tables).round(3)
    table = table[["opened", "stage", "seconds", "peak_gb", "resident_gb"]]
    print(splits.round(3).to_string(index=False), table.to_string(index=False), sep="\n\n")
    peak = table["peak_gb"].max()
    print(f"peak {peak:.2f} GB (bar: under {BAR:g})")
    if a.out:
        command = (
            f"python benchmarks/full_collection.py --rows {a.rows} --photographs {a.photographs} --image-size "
            f"{a.image_size} --preset {a.preset} --batch-size {a.batch_size} --threads {a.threads}"
        )
        table = table.assign(
            rows=a.rows, source="a drawn table", threads=a.threads, code=commit(), command=command
        )
        files.write_csv(a.out, table)


if __name__ == "__main__":
    main()
