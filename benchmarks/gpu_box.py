"""Everything that only a GPU can tell, in one run of at most eight minutes; on a CPU a smoke run of seconds.

    steps       w and theta step of the plain supernet, ours, and the bare convolutions, in fp32, bf16 and fp16
    compiled    ours under torch.compile, and with CUDA graphs (mode reduce-overhead), where these can be used
    feed        images per second from the decoded and the streamed store to the device, normalised there
    batch size  the automatic batch size at work
    notebook    03 in mode full for two epochs by papermill, on real photographs where --photographs names some

A section that fails, or for which no time is left, is a row with the reason. On a CPU sizes are tiny and prove only that
the script runs; rows that need a GPU then say `not run`.

    python benchmarks/gpu_box.py --out data/results/gpu_box.csv
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from feed import loader_of, rate, whole_epoch
from image_pipeline import TREE, cache_loader, lay_out
from supernet_step import CLASSES, PROGRAMS, ours

from bionas.network import SearchNetwork, preset
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.streaming import StreamedImages
from bionas.system import files
from bionas.training.batch_size import largest_batch_size
from bionas.training.runs import commit

MINUTES = 8.0
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
COMPILED = {"torch.compile": "default", "torch.compile, CUDA graphs": "reduce-overhead"}
SMOKE = {"preset": "tiny", "batch_size": 2, "images": 16, "repeats": 1}
FULL = {"preset": "paper", "batch_size": 64, "images": 4096, "repeats": 9}
Row = dict[str, Any]


class Clock:
    """The time that is left of the whole run."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        return self._end - time.monotonic()


def steps(device: str, size: dict[str, Any], clock: Clock) -> Iterator[Row]:
    """Median seconds of both steps for each program and precision."""
    for precision, dtype in PRECISIONS.items():
        if device == "cpu" and precision == "fp16":
            yield {"section": "steps", "precision": precision, "note": "not run: fp16 needs a GPU"}
            continue
        for program, make in PROGRAMS.items():
            with _cast(device, dtype):
                yield {"section": "steps", "program": program, "precision": precision} | _pair(
                    make(size["preset"], size["batch_size"], device), device, size["repeats"]
                )


def compiled(device: str, size: dict[str, Any], clock: Clock) -> Iterator[Row]:
    """Ours under torch.compile."""
    for name, mode in COMPILED.items():
        row = {"section": "compiled", "program": name, "precision": "bf16"}
        if device == "cpu":
            yield row | {"note": "not run: needs a GPU"}
            continue
        with _cast(device, torch.bfloat16):
            pair = ours(
                size["preset"], size["batch_size"], device, lambda m, mode=mode: torch.compile(m, mode=mode)
            )
            start = time.perf_counter()
            _pair(pair, device, 1)
            row["first_s"] = round(time.perf_counter() - start, 1)
            yield row | _pair(pair, device, size["repeats"])


def feed(device: str, size: dict[str, Any], clock: Clock) -> Iterator[Row]:
    """Images per second to the device from both stores, at the preset's side."""
    side, batch_size = preset(size["preset"]).image_size, size["batch_size"]
    decoded = loader_of(side, batch_size, size["images"])
    decoded.device = torch.device(device)
    row = {"section": "feed", "size": side}
    yield row | {"program": "decoded store", "images_per_s": round(rate(whole_epoch, decoded), 1)}
    with tempfile.TemporaryDirectory() as work:
        names = lay_out(Path(work), size["images"], None)
        for decoder in ("exact", "fast"):
            streamed = cache_loader(
                StreamedImages(FolderPhotographs(Path(work) / TREE, names), side, decoder=decoder)
            )
            streamed.device = torch.device(device)
            yield row | {
                "program": f"stream, {decoder}",
                "images_per_s": round(rate(whole_epoch, streamed), 1),
            }


def batch_size(device: str, size: dict[str, Any], clock: Clock) -> Iterator[Row]:
    """The automatic batch size of the supernet."""
    config = preset(size["preset"])
    model = SearchNetwork(config, CLASSES).to(device)

    def step_with(images: int) -> None:
        pixels = torch.randn(images, 3, config.image_size, config.image_size, device=device)
        labels = torch.randint(0, CLASSES, (images,), device=device)
        F.cross_entropy(model(pixels), labels).backward()
        model.zero_grad(set_to_none=True)

    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        chosen = largest_batch_size(model, step_with, torch.device(device))
    yield {"section": "batch size", "batch_size": chosen, "note": said.getvalue().strip()}


def notebook(
    device: str, size: dict[str, Any], clock: Clock, photographs: Path | None = None
) -> Iterator[Row]:
    """Notebook 03 in mode full, two epochs."""
    row = {"section": "notebook", "program": "03_search, mode full, 2 epochs"}
    if device == "cpu":
        yield row | {"note": "not run: needs a GPU"}
        return
    with tempfile.TemporaryDirectory() as runs:
        settings = ["mode=full", "search_epochs=2", f"limit={size['images']}"]
        if photographs is not None:
            settings += ["source=folder", f"data_dir={photographs}"]
        words = [word for setting in settings for word in ("-p", setting)]
        start = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "bionas", "run", "03_search", *words, "--run-dir", runs],
            capture_output=True,
            text=True,
            timeout=max(1.0, clock.left),
        )
        note = "" if done.returncode == 0 else f"failed: {done.stderr.strip().splitlines()[-1][:200]}"
        yield row | {"seconds": round(time.perf_counter() - start, 1), "note": note}


SECTIONS: dict[str, Callable[..., Iterator[Row]]] = {
    "steps": steps,
    "feed": feed,
    "batch size": batch_size,
    "compiled": compiled,
    "notebook": notebook,
}


def measured(device: str, photographs: Path | None = None, minutes: float = MINUTES) -> pd.DataFrame:
    """One row per measurement; a section that cannot be measured is a row with the reason."""
    clock, size = Clock(minutes), FULL if device == "cuda" else SMOKE
    rows: list[Row] = []
    for name, section in SECTIONS.items():
        if clock.left <= 0:
            rows.append({"section": name, "note": f"not run: the {minutes:g} minutes were over"})
            continue
        more = {"photographs": photographs} if section is notebook else {}
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        try:
            for row in section(device, size, clock, **more):
                peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else np.nan
                rows.append({"note": ""} | row | {"peak_gib": peak})
                if clock.left <= 0:
                    rows.append({"section": name, "note": "the rest was not run: the time was over"})
                    break
        except Exception as error:  # one section must not take the others with it
            rows.append({"section": name, "note": f"failed: {type(error).__name__}: {str(error)[:200]}"})
    shown = torch.cuda.get_device_name() if device == "cuda" else "CPU, smoke sizes"
    rows += (
        []
        if device == "cuda"
        else [{"section": name, "device": "cuda", "note": "not run"} for name in SECTIONS]
    )
    return pd.DataFrame([{"device": shown} | row for row in rows])


def _pair(pair: tuple[Callable[[], None], Callable[[], None]], device: str, repeats: int) -> Row:
    """Median seconds of the w and the theta step, after one warm-up of each."""
    found: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for times, step in zip(found, pair, strict=True):
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if repeat:
                times.append(time.perf_counter() - start)
    return {
        "w_step_s": round(statistics.median(found[0]), 5),
        "theta_step_s": round(statistics.median(found[1]), 5),
    }


def _cast(device: str, dtype: torch.dtype | None) -> contextlib.AbstractContextManager:
    return contextlib.nullcontext() if dtype is None else torch.autocast(device, dtype)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--photographs", type=Path, help="a folder with labels.csv for the notebook")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--out", type=Path, help="a CSV to write")
    options = parser.parse_args()
    table = measured(options.device, options.photographs, options.minutes).assign(
        torch=torch.__version__,
        code=commit(),
        command="python benchmarks/gpu_box.py --out data/results/gpu_box.csv",
    )
    print(table.drop(columns=["torch", "code", "command"]).to_string(index=False, na_rep=""))
    if options.out:
        files.write_csv(options.out, table)


if __name__ == "__main__":
    main()
