"""Scaling of training over processes on this machine's cores: images per second of one process and of two.

A search of preset `tiny` on random pixels, batch 64 in all, one thread per process. Efficiency is the rate of n processes
over n times the rate of one: 1 where nothing is lost to exchanging gradients, and to cores that other work occupies.

    python benchmarks/distributed.py --processes 1 2 --repeats 3 --out data/results/distributed.csv
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from bionas.network import SearchNetwork, preset
from bionas.specimens import ImageStore, MetadataEncoding, SpecimenSet
from bionas.system import files
from bionas.training import distributed
from bionas.training.fitting import Search
from bionas.training.recipe import SearchConfig
from bionas.training.runs import Run, commit

BATCH, IMAGES, CLASSES = 64, 512, 4


def collection(n: int, size: int, seed: int) -> SpecimenSet:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    names = tuple("ABCD")
    pixels = generator.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return SpecimenSet(pd.DataFrame({"order": np.array(names)[labels]}), labels, names, ImageStore(pixels))


def one_process(folder: Path) -> None:
    """Take part in a search of two epochs; rank 0 writes the seconds of the second."""
    torch.set_num_threads(1)
    config = preset("tiny")
    with distributed.group("cpu") as (rank, _), distributed.only_rank_0_writes():
        train, val = (collection(n, config.image_size, n) for n in (IMAGES, IMAGES // 2))
        torch.manual_seed(0)
        job = Search(
            SearchNetwork(config, CLASSES),
            train,
            val,
            MetadataEncoding.fit(train, "none"),
            SearchConfig(epochs=2, batch_size=BATCH, device="cpu"),
            Run(folder / "run"),
        )
        job.train()
        if rank == 0:
            row = job.history[-1]
            files.write_json(folder / "said.json", {"images": row["images"], "seconds": row["seconds"]})


def rate(processes: int) -> float:
    """Images per second of a search in so many processes."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        common = os.environ | {
            "WORLD_SIZE": str(processes),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "TQDM_DISABLE": "1",
        }
        running = [
            subprocess.Popen(
                [sys.executable, __file__, "--child", folder],
                env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.DEVNULL,
            )
            for rank in range(processes)
        ]
        if any(process.wait() for process in running):
            raise SystemExit("a process failed")
        said = json.loads((Path(folder) / "said.json").read_text(encoding="utf-8"))
    return said["images"] / said["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", help="a CSV to write")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return one_process(options.child)
    rates: dict[int, list[float]] = {n: [] for n in options.processes}
    for _ in range(options.repeats):
        for n, found in rates.items():
            found.append(rate(n))
    alone = statistics.median(rates[options.processes[0]]) / options.processes[0]
    table = pd.DataFrame(
        {
            "processes": n,
            "device": "cpu",
            "images_per_s": round(statistics.median(found), 1),
            "min": round(min(found), 1),
            "max": round(max(found), 1),
            "efficiency": round(statistics.median(found) / (n * alone), 3),
            "note": "",
        }
        for n, found in rates.items()
    )
    on_gpus = pd.DataFrame([{"processes": 2, "device": "cuda", "note": "not run"}])
    table = pd.concat([table, on_gpus], ignore_index=True).assign(
        batch_size=BATCH,
        preset="tiny",
        source="random pixels",
        repeats=options.repeats,
        cores=os.cpu_count(),
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        measured=time.strftime("%Y-%m-%d"),
        code=commit(),
        command=f"python benchmarks/distributed.py --processes {' '.join(map(str, options.processes))} "
        f"--repeats {options.repeats} --out data/results/distributed.csv",
    )
    print(table.iloc[:, :7].to_string(index=False))
    if options.out:
        files.write_csv(options.out, table)
    return None


if __name__ == "__main__":
    main()
