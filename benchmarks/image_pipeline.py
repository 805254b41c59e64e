"""Photographs to batches, three programs interleaved in one run on the same JPEGs of 256 px.

    (a) torchvision  ImageFolder, PIL, Resize to the training size, ToTensor, DataLoader of batches of 64, shuffled,
                     persistent workers; at each worker count, the best of which is what the others are compared with
    (b) building     the image cache, from the extracted tree and from a ZIP
    (c) epochs       batches of 64 from the cache, shuffled, through BatchLoader

Prints median images a second and the ratios to the best of (a), then what is resident while the cache is built and while
epochs are drawn from it, for N and 10 N photographs, each in a process of its own: `anonymous` is the process's own memory,
`mapped` are pages of the cache's file, which the system takes back when it needs them. Files are read from the system's
cache in all three. Ratios of one run are comparable between machines; images a second are not.

    python benchmarks/image_pipeline.py --images 6000 --size 64 --repeats 5 --out data/results/image_pipeline.csv
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import shutil
import statistics
import tempfile
import threading
import time
import warnings
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from bionas.specimens import BatchLoader, ImageStore, MetadataEncoding, SpecimenSet
from bionas.specimens.image_cache import image_cache
from bionas.specimens.photographs import FolderPhotographs, Photographs, ZippedPhotographs
from bionas.system import files
from bionas.training.runs import commit

TREE = "bioscan5m/images/cropped_256/train"
BATCH = 64
SIDE, QUALITY = 256, 90
LARGER = 10
"""How many times as many photographs memory is compared at."""


# The JPEGs


def texture(i: int) -> bytes:
    """A smooth texture with a little noise as a JPEG of 256 px, about as many bytes as a cropped specimen has."""
    generator = np.random.default_rng(i)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int16)
    noisy = smooth + generator.integers(-4, 5, (SIDE, SIDE, 1), dtype=np.int16)
    out = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=QUALITY)
    return out.getvalue()


def lay_out(work: Path, n: int, folder: Path | None) -> list[str]:
    """The extracted tree and a ZIP of the same files; names relative to the tree, in 16 folders as BIOSCAN-5M's train."""
    taken = (
        sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))[:n]
        if folder
        else []
    )
    if folder and not taken:
        raise SystemExit(f"no JPEGs in {folder}")
    names = [f"{i % 16:x}/BENCH{i:06}-22.jpg" for i in range(len(taken) or n)]
    for chunk in {name.split("/")[0] for name in names}:
        (work / TREE / chunk).mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        content = (path.read_bytes() for path in taken) if taken else pool.map(texture, range(n))
        with zipfile.ZipFile(work / "train.zip", "w") as archive:
            for name, jpeg in zip(names, content, strict=True):
                (work / TREE / name).write_bytes(jpeg)
                archive.writestr(f"{TREE}/{name}", jpeg)
    return names


# The programs


def torchvision_loader(work: Path, size: int, workers: int) -> DataLoader:
    transform = transforms.Compose([transforms.Resize((size, size)), transforms.ToTensor()])
    dataset = ImageFolder(str(work / TREE), transform)
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)


def cache_loader(store: ImageStore) -> BatchLoader:
    n = len(store)
    records = pd.DataFrame(
        {"processid": [f"B{i}" for i in range(n)], "order": np.where(np.arange(n) % 2, "A", "B")}
    )
    specimens = SpecimenSet(records, np.arange(n) % 2, ("A", "B"), store)
    return BatchLoader(specimens, MetadataEncoding.fit(specimens, "none"), BATCH, shuffle=True)


def build(photographs: Callable[[], Photographs], size: int, cache: Path, threads: int) -> ImageStore:
    """The cache made anew, the archive's index and the look at every file included."""
    shutil.rmtree(cache, ignore_errors=True)
    store, unreadable = image_cache(photographs(), size, cache_dir=cache, workers=threads)
    if unreadable:
        raise SystemExit(
            f"{len(unreadable)} photographs could not be read: {next(iter(unreadable.values()))}"
        )
    return store


def measure(
    work: Path, names: list[str], size: int, workers: list[int], repeats: int, threads: int
) -> pd.DataFrame:
    """Images a second of each program, all of them interleaved; one row a program."""
    folder, archive = work / TREE, work / "train.zip"
    members = [f"{TREE}/{name}" for name in names]
    store = build(lambda: FolderPhotographs(folder, names), size, work / "cache", threads)
    loaders = {count: torchvision_loader(work, size, count) for count in workers}
    from_cache = cache_loader(store)
    epochs = max(
        1, 20_000 * 64**2 // (size**2 * len(names))
    )  # an epoch from the cache is too short to be timed alone

    programs: dict[str, Callable[[int], int]] = {
        **{
            f"torchvision, {count} workers": lambda _, loader=loader: _images(image for image, _ in loader)
            for count, loader in loaders.items()
        },
        "building from the tree": lambda _: len(
            build(lambda: FolderPhotographs(folder, names), size, work / "built", threads)
        ),
        "building from a ZIP": lambda _: len(
            build(
                lambda: ZippedPhotographs([archive], members, work / "built"), size, work / "built", threads
            )
        ),
        "epochs from the cache": lambda repeat: sum(
            _images(b.image for b in from_cache.epoch(repeat * epochs + e)) for e in range(epochs)
        ),
    }
    rates: dict[str, list[float]] = {name: [] for name in programs}
    for repeat in range(
        repeats + 1
    ):  # the first warms up: worker processes start, files enter the system's cache
        for name, program in programs.items():
            start = time.perf_counter()
            images = program(repeat)
            if repeat:
                rates[name].append(images / (time.perf_counter() - start))
    loaders.clear()  # their worker processes end
    programs.clear()
    rows = [
        {
            "program": name,
            "images": len(names),
            "images_per_s": statistics.median(found),
            "min": min(found),
            "max": max(found),
        }
        for name, found in rates.items()
    ]
    return pd.DataFrame(rows)


def _images(batches: object) -> int:
    return sum(len(batch) for batch in batches)


# Memory


def memory(work: Path, names: list[str], size: int, threads: int) -> pd.DataFrame:
    """Peak of resident memory while a cache is built and while an epoch is drawn from it, above what the process had."""
    rows = []
    for times in (1, LARGER):
        pool = multiprocessing.get_context("spawn").Pool(1)
        rows += pool.apply(_memory, (work, names * times, size, threads))
        pool.close()
        pool.join()
    return pd.DataFrame(rows)


def _memory(work: Path, names: list[str], size: int, threads: int) -> list[dict[str, object]]:
    torch.set_num_threads(threads)
    build(lambda: FolderPhotographs(work / TREE, names[:100]), size, work / "warm", threads)
    rows = []
    with _Peak() as peak:
        store = build(lambda: FolderPhotographs(work / TREE, names), size, work / "memory", threads)
    rows.append({"program": "building from the tree", **peak.growth()})
    loader = cache_loader(store)
    for batch in loader.epoch(0):
        del batch
        break
    with _Peak() as peak:
        _images(batch.image for batch in loader.epoch(1))
    rows.append({"program": "epochs from the cache", **peak.growth()})
    cache_mib = round(len(names) * size * size * 3 / 2**20)
    return [{**row, "images": len(names), "cache_mib": cache_mib} for row in rows]


class _Peak:
    """The most that was resident within a `with`, looked at every few milliseconds."""

    def __enter__(self) -> Self:
        self.before = self.most = np.array(_resident())
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.over.wait(0.005):
            self.most = np.maximum(self.most, _resident())

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.thread.join()
        self.most = np.maximum(self.most, _resident())

    def growth(self) -> dict[str, float]:
        anonymous, mapped = (self.most - self.before).clip(0) / 1024
        return {"anonymous_mib": round(anonymous, 1), "mapped_mib": round(mapped, 1)}


def _resident() -> tuple[int, int]:
    """KiB: anonymous memory, pages of files."""
    status = Path("/proc/self/status").read_text()
    if "RssAnon" not in status:
        raise SystemExit("resident memory is read from /proc/self/status, which this system does not have")
    return tuple(int(status.split(f"{field}:")[1].split()[0]) for field in ("RssAnon", "RssFile"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=6000)
    parser.add_argument("--folder", type=Path, help="JPEGs to take instead of drawn textures")
    parser.add_argument("--size", type=int, default=64, help="training resolution in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="DataLoader workers to try"
    )
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="of torch, and to decode with"
    )
    parser.add_argument("--work", type=Path, help="where scratch files go; a temporary folder if not given")
    parser.add_argument("--out", type=Path, help="a CSV to write")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    warnings.filterwarnings(
        "ignore", message="This DataLoader will create"
    )  # more workers than processors: that is asked
    if a.work:
        a.work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=a.work) as work:
        names = lay_out(Path(work), a.images, a.folder)
        jpeg_kb = (Path(work) / "train.zip").stat().st_size / len(names) / 1000
        speed = measure(Path(work), names, a.size, a.workers, a.repeats, a.threads)
        resident = memory(Path(work), names, a.size, a.threads)
    rate = speed.set_index("program")["images_per_s"]
    best = rate.filter(like="torchvision").idxmax()
    speed["over_best_torchvision"] = speed["images_per_s"] / rate[best]
    print(speed.round(2).to_string(index=False))
    print(
        f"epochs from the cache: {rate['epochs from the cache'] / rate[best]:.1f} x {best} (bar: at least 5)"
    )
    for source in ("the tree", "a ZIP"):
        print(
            f"building from {source}: {rate[f'building from {source}'] / rate[best]:.2f} x {best} (bar: at least 1)"
        )
    print(resident.to_string(index=False))
    small, large = resident[resident["images"] == len(names)], resident[resident["images"] != len(names)]
    for one, other in zip(small.itertuples(), large.itertuples(), strict=True):
        print(
            f"{one.program}: {one.anonymous_mib:.0f} MiB anonymous and {one.mapped_mib:.0f} mapped for {one.images:,} "
            f"photographs, {other.anonymous_mib:.0f} and {other.mapped_mib:.0f} for {other.images:,}"
        )
    if a.out:
        source = "drawn textures" if a.folder is None else f"photographs of {a.folder.name}"
        table = (
            pd.concat([speed, resident], ignore_index=True)
            .round(3)
            .assign(
                size=a.size,
                batch_size=BATCH,
                source=source,
                jpeg_kb=round(jpeg_kb, 1),
                repeats=a.repeats,
                threads=a.threads,
                torch=torch.__version__,
                torchvision=torchvision.__version__,
                code=commit(),
                command=f"python benchmarks/image_pipeline.py --images {a.images} --size {a.size} --repeats {a.repeats} "
                f"--threads {a.threads} --workers {' '.join(map(str, a.workers))}"
                + (f" --folder {a.folder.name}" if a.folder else ""),
            )
        )
        files.write_csv(a.out, table)


if __name__ == "__main__":
    main()
