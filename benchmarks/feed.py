"""Images a second that batches reach the device with: the old loader, the present one, and a bare gather, in one run.

The old form is kept here as plain reference: gather, normalise to float32 and hand over, all in the training process.
The present form has two halves, which are timed apart and together:

    host          gathered as uint8 in the background, ready to be sent: what a GPU waits for
    all on a CPU  the same with normalisation and augmentation on the device; where the device is this CPU it pays for them

`waiting` is the share of a consumer's time that is spent waiting for the next batch, where the consumer sleeps 2 ms per
batch as a GPU step would leave the CPU idle: `host` for the uint8 half, `all on a CPU` for the waits of an epoch that
also normalises here (the time of normalising counts as the device's).

    python benchmarks/feed.py --repeats 5 --out data/results/feed.csv
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from bionas.specimens import BatchLoader, ImageStore, MetadataEncoding, SpecimenSet
from bionas.system import files
from bionas.training.runs import commit

CASES = ((64, 64, 8192), (64, 512, 8192), (224, 64, 2048), (224, 512, 2048))
"""Side in pixels, images a batch, images in memory."""
SLEEP = 0.002  # seconds per batch
SECONDS = 3.0  # that a measurement lasts at least


def old_epoch(loader: BatchLoader, epoch: int) -> Iterator[Tensor]:
    """The former `BatchLoader.epoch`: everything in the consumer's thread, float32 from fresh memory."""
    generator = torch.Generator().manual_seed(epoch)
    order = torch.randperm(len(loader.specimens), generator=generator)
    for start in range(0, len(order), loader.batch_size):
        pixels = loader.specimens.images.take(order[start : start + loader.batch_size])
        scaled = pixels.to(torch.float32).mul_(1 / (255 * 0.25)).sub_(0.5 / 0.25)
        yield scaled.contiguous(memory_format=torch.channels_last)


def host_epoch(loader: BatchLoader, epoch: int) -> Iterator[Tensor]:
    """The host's half of the present loader: uint8 batches, ready to be sent."""
    _, delivery, parcels = loader._under_way(epoch)
    for parcel in parcels:
        yield parcel.pixels
        delivery.release(parcel)
    loader._spare[:] = [delivery]


def whole_epoch(loader: BatchLoader, epoch: int) -> Iterator[Tensor]:
    return (batch.image for batch in loader.epoch(epoch))


BUFFER: dict[str, object] = {}
"""The one buffer of `bare_gather`, kept over its epochs."""


def bare_gather(loader: BatchLoader, epoch: int) -> Iterator[Tensor]:
    """Nothing but the copy of the images of each batch, into one buffer."""
    order = np.random.default_rng(epoch).permutation(len(loader.specimens))
    store = loader.specimens.images
    shape = (loader.batch_size, store.size, store.size, 3)
    if BUFFER.get("shape") != shape:
        BUFFER.update(shape=shape, pixels=np.empty(shape, dtype=np.uint8))
    buffer = BUFFER["pixels"]
    for start in range(0, len(order), loader.batch_size):
        rows = order[start : start + loader.batch_size]
        store.pixels(rows, out=buffer[: len(rows)])
        yield torch.from_numpy(buffer[: len(rows)])


FORMS: dict[str, Callable[[BatchLoader, int], Iterator[Tensor]]] = {
    "old": old_epoch,
    "new, host": host_epoch,
    "new, all on a CPU": whole_epoch,
    "bare gather": bare_gather,
}


def loader_of(size: int, batch_size: int, n: int) -> BatchLoader:
    pixels = np.random.default_rng(size).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    labels = np.arange(n) % 2
    records = pd.DataFrame({"order": np.where(labels, "A", "B")})
    specimens = SpecimenSet(records, labels, ("A", "B"), ImageStore(pixels))
    encoding = MetadataEncoding.fit(specimens, "none")
    return BatchLoader(specimens, encoding, batch_size, shuffle=True, drop_last=True)


def rate(form: Callable, loader: BatchLoader) -> float:
    """Images a second over whole epochs."""
    images, start, epoch = 0, time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < SECONDS:
        images += sum(len(batch) for batch in form(loader, epoch))
        epoch += 1
    return images / spent


def waiting(form: Callable, loader: BatchLoader) -> float:
    """Share of a consumer's time that goes into asking for the next batch, beside `SLEEP` per batch."""
    waited, start, epoch = 0.0, time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        asked = time.perf_counter()
        for _ in form(loader, epoch):
            waited += time.perf_counter() - asked
            time.sleep(SLEEP)
            asked = time.perf_counter()
        epoch += 1
    return waited / (time.perf_counter() - start)


def waiting_for_host(loader: BatchLoader) -> float:
    """As `waiting`, for an epoch that also normalises on this CPU: only the wait for uint8 batches counts."""
    waited, start, epoch = 0.0, time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        under_way = loader._under_way

        def timed(epoch: int, under_way: Callable = under_way):
            drawn, delivery, parcels = under_way(epoch)

            def watched():
                nonlocal waited
                asked = time.perf_counter()
                for parcel in parcels:
                    waited += time.perf_counter() - asked
                    yield parcel
                    asked = time.perf_counter()

            return drawn, delivery, watched()

        loader._under_way = timed
        try:
            for _ in loader.epoch(epoch):
                time.sleep(SLEEP)
        finally:
            del loader._under_way
        epoch += 1
    return waited / (time.perf_counter() - start)


def measured(repeats: int) -> pd.DataFrame:
    """One row per case and form; the forms of a case are interleaved."""
    rows = []
    for size, batch_size, n in CASES:
        loader = loader_of(size, batch_size, n)
        rates: dict[str, list[float]] = {name: [] for name in FORMS}
        for _ in range(repeats):
            for name, form in FORMS.items():
                rates[name].append(rate(form, loader))
        shares = {
            "old": statistics.median(waiting(old_epoch, loader) for _ in range(repeats)),
            "new, host": statistics.median(waiting(host_epoch, loader) for _ in range(repeats)),
            "new, all on a CPU": statistics.median(waiting_for_host(loader) for _ in range(repeats)),
        }
        old = statistics.median(rates["old"])
        rows += [
            {
                "size": size,
                "batch_size": batch_size,
                "form": name,
                "device": "cpu",
                "images_per_s": round(statistics.median(found), 1),
                "min": round(min(found), 1),
                "max": round(max(found), 1),
                "over_old": round(statistics.median(found) / old, 2),
                "waiting": round(shares[name], 3) if name in shares else None,
                "note": "",
            }
            for name, found in rates.items()
        ]
        if not torch.cuda.is_available():
            rows.append(
                {"size": size, "batch_size": batch_size, "form": "new", "device": "cuda", "note": "not run"}
            )
        else:
            rows.append(on_cuda(loader, repeats) | {"size": size, "batch_size": batch_size})
    return pd.DataFrame(rows)


def on_cuda(loader: BatchLoader, repeats: int) -> dict[str, object]:
    """The present loader on a GPU, normalisation there included."""
    loader.device = torch.device("cuda")
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        found.append(rate(whole_epoch, loader))
    return {
        "form": "new",
        "device": "cuda",
        "images_per_s": round(statistics.median(found), 1),
        "min": round(min(found), 1),
        "max": round(max(found), 1),
        "note": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", help="a CSV to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = measured(options.repeats).assign(
        repeats=options.repeats,
        threads=1,
        source="random pixels in memory",
        torch=torch.__version__,
        code=commit(),
        command=f"python benchmarks/feed.py --repeats {options.repeats} --out data/results/feed.csv",
    )
    print(table.iloc[:, :10].to_string(index=False))
    if options.out:
        files.write_csv(options.out, table)


if __name__ == "__main__":
    main()
