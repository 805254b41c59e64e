"""One search step (a w step and a theta step of Algorithm 1) of three programs, interleaved in one run.

    (a) plain   the supernet written as anyone would: NCHW, every primitive computed, `none` too, alpha times each output,
                both steps back-propagate to everything
    (b) ours    FoldedSum, channels_last, each step pays for its own gradients
    (c) convs   the convolutions of (b) alone, forward and backward, nothing between them

Prints median seconds, the ratios a/b (higher is better for ours) and b/c (how much is left to gain), and peak memory,
each program in a process of its own. Ratios of one run are comparable between machines; seconds are not.

    python benchmarks/supernet_step.py --preset laptop --batch-size 64 --repeats 9 --out data/results/supernet_step.csv
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bionas.cells import FoldedSum, MixedEdge, Source
from bionas.network import SearchNetwork, preset
from bionas.operators import Zero, build
from bionas.system import files
from bionas.training.runs import commit

CLASSES = 12
Step = Callable[[], None]


class PlainEdge(MixedEdge):
    """sum(alpha_k * o_k(x)), `none` included, each primitive out of PyTorch's own layers as one writes it down."""

    def __init__(self, channels: int, stride: int, primitives: Sequence[str]):
        nn.Module.__init__(self)
        c, s = channels, stride
        make = {
            "sep_conv_3x3": lambda: _layers(
                nn.Conv2d(c, c, 3, s, 1, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False)
            ),
            "sep_conv_5x5": lambda: _layers(
                nn.Conv2d(c, c, 5, s, 2, groups=c, bias=False), nn.Conv2d(c, c, 1, bias=False)
            ),
            "dil_conv_3x3": lambda: _layers(nn.Conv2d(c, c, 3, s, 2, dilation=2, bias=False)),
            "dil_conv_5x5": lambda: _layers(nn.Conv2d(c, c, 5, s, 4, dilation=2, bias=False)),
            "conv_1x1": lambda: _layers(nn.Conv2d(c, c, 1, s, bias=False)),
            "squeeze_excite": lambda: build("squeeze_excite", c, s),
            "avg_pool_3x3": lambda: nn.AvgPool2d(3, s, 1),
            "max_pool_3x3": lambda: nn.MaxPool2d(3, s, 1),
            "skip_connect": lambda: nn.Identity() if s == 1 else build("skip_connect", c, s),
            "none": lambda: Zero(c, s),
        }
        self.all = nn.ModuleList(make[name]() for name in primitives)

    def forward(self, source: Source, alpha: Tensor, keep: Sequence[bool]) -> Tensor:
        return sum(weight * operation(source.x) for weight, operation in zip(alpha, self.all))


def _layers(*convolutions: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(*convolutions, nn.BatchNorm2d(convolutions[-1].out_channels), nn.ReLU())


def plain(size: str, batch: int, device: str) -> tuple[Step, Step]:
    """(w step, theta step) of the plain supernet."""
    torch.manual_seed(0)
    model = (
        SearchNetwork(preset(size), CLASSES, edge=PlainEdge)
        .to(device)
        .to(memory_format=torch.contiguous_format)
    )
    w = torch.optim.AdamW(model.weights(), lr=1e-3, weight_decay=1e-4)
    theta = torch.optim.Adam(model.architecture(), lr=3e-4, weight_decay=1e-3)
    image, label = _batch(size, batch, device)

    def step(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
        model.zero_grad()
        F.cross_entropy(model(image), label).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return lambda: step(w, model.weights()), lambda: step(theta, model.architecture())


def ours(
    size: str, batch: int, device: str, wrap: Callable[[nn.Module], Callable] = lambda model: model
) -> tuple[Step, Step]:
    """(w step, theta step) as `BilevelTrainer` does them; `wrap` makes what computes the logits, as `torch.compile`."""
    torch.manual_seed(0)
    model = SearchNetwork(preset(size), CLASSES, edge=FoldedSum).to(device)
    forward = wrap(model)
    w = torch.optim.AdamW(model.weights(), lr=1e-3, weight_decay=1e-4, fused=True)
    theta = torch.optim.Adam(model.architecture(), lr=3e-4, weight_decay=1e-3)
    image, label = _batch(size, batch, device)
    image = image.contiguous(memory_format=torch.channels_last)

    def step(optimizer: torch.optim.Optimizer, own: list[nn.Parameter], other: list[nn.Parameter]) -> None:
        for p in other:
            p.requires_grad_(False)
        for p in own:
            p.requires_grad_(True)
        F.cross_entropy(forward(image), label).backward()
        nn.utils.clip_grad_norm_(own, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    weights, architecture = model.weights(), model.architecture()
    return lambda: step(w, weights, architecture), lambda: step(theta, architecture, weights)


def convolutions(size: str, batch: int, device: str) -> tuple[Step, Step]:
    """(w step, theta step) of the convolutions of `ours`, each on an input of its shape: forward, then the gradients
    of input and weights (w step) or of the input alone (theta step)."""
    torch.manual_seed(0)
    model = SearchNetwork(preset(size), CLASSES, edge=FoldedSum).to(device)
    image, _ = _batch(size, batch, device)
    shapes: list[tuple[nn.Conv2d, torch.Size]] = []
    handles = [
        m.register_forward_hook(lambda m, inputs, _: shapes.append((m, inputs[0].shape)))
        for m in model.modules()
        if isinstance(m, nn.Conv2d)
    ]
    with torch.no_grad():
        model(image.contiguous(memory_format=torch.channels_last))
    for handle in handles:
        handle.remove()
    # One input a shape is enough to read from; the image itself needs no gradient.
    inputs = {
        s: torch.randn(s, device=device).contiguous(memory_format=torch.channels_last) for _, s in set(shapes)
    }

    def step(weights_too: bool) -> None:
        for convolution, shape in shapes:
            x = inputs[shape].detach().requires_grad_(shape != image.shape)
            convolution.weight.requires_grad_(weights_too)
            wanted = ([x] if x.requires_grad else []) + ([convolution.weight] if weights_too else [])
            y = convolution(x)
            if wanted:
                torch.autograd.grad(y, wanted, grad_outputs=y.detach())

    return lambda: step(True), lambda: step(False)


PROGRAMS = {"plain": plain, "ours": ours, "convolutions": convolutions}


def measure(size: str, batch: int, repeats: int, device: str) -> pd.DataFrame:
    """Median seconds of each step of each program, the three interleaved; one row a program."""
    steps = {name: make(size, batch, device) for name, make in PROGRAMS.items()}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in steps}
    for repeat in range(repeats + 2):  # the first two warm up
        for name, pair in steps.items():
            for i, step in enumerate(pair):
                seconds = _timed(step, device)
                if repeat >= 2:
                    times[name][i].append(seconds)
    rows = []
    for name, (w, theta) in times.items():
        pairs = [a + b for a, b in zip(w, theta)]
        rows.append(
            {
                "program": name,
                "w_step_s": statistics.median(w),
                "theta_step_s": statistics.median(theta),
                "pair_s": statistics.median(pairs),
                "pair_min_s": min(pairs),
                "pair_max_s": max(pairs),
            }
        )
    return pd.DataFrame(rows)


def peak_memory(name: str, size: str, batch: int, device: str) -> float:
    """Peak of two pairs of steps in GiB: device memory on CUDA, else what the process grew by."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (name, size, batch, device))


def _peak(name: str, size: str, batch: int, device: str) -> float:
    w, theta = PROGRAMS[name](size, batch, device)
    before = _high_water()
    for _ in range(2):
        w(), theta()
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    return (_high_water() - before) / 2**20


def _high_water() -> int:
    """KiB. Linux's VmHWM, since ru_maxrss of a fresh process still counts what its parent had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1])
    raise SystemExit("peak memory is read from /proc/self/status, which this system does not have")


def _timed(step: Step, device: str) -> float:
    start = time.perf_counter()
    step()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _batch(size: str, batch: int, device: str) -> tuple[Tensor, Tensor]:
    side = preset(size).image_size
    return torch.randn(batch, 3, side, side, device=device), torch.randint(
        0, CLASSES, (batch,), device=device
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="laptop")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, help="a CSV to write")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    table = measure(a.preset, a.batch_size, a.repeats, a.device)
    table["peak_gib"] = [peak_memory(name, a.preset, a.batch_size, a.device) for name in table["program"]]
    pair = table.set_index("program")["pair_s"]
    table["plain_over_this"] = [pair["plain"] / seconds for seconds in pair]
    table["this_over_convolutions"] = [seconds / pair["convolutions"] for seconds in pair]
    table = table.round(4).assign(
        preset=a.preset,
        batch_size=a.batch_size,
        repeats=a.repeats,
        device=a.device,
        threads=a.threads,
        torch=torch.__version__,
        code=commit(),
        command=f"python benchmarks/supernet_step.py --preset {a.preset} --batch-size {a.batch_size} "
        f"--repeats {a.repeats} --threads {a.threads}",
    )
    print(table.iloc[:, :9].to_string(index=False))
    print(f"ours against plain: {pair['plain'] / pair['ours']:.2f} x faster (bar: at least 2)")
    print(
        f"ours against its bare convolutions: {pair['ours'] / pair['convolutions']:.2f} x the time (bar: at most 1.8)"
    )
    if a.out:
        files.write_csv(a.out, table)


if __name__ == "__main__":
    main()
