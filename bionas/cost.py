"""What a network costs (the cost columns of Table I): parameters, multiply-accumulates, weights, latency.

The paper gives GFLOPs without saying whether a multiply and its add are one or two operations. Here `macs` counts the
pair once and `flops` is twice that, both always given. Counting is PyTorch's own, on the meta device, where nothing is
computed (a supernet is run once instead): it sees convolutions and matrix products, which is what costs, and not
normalisation, activations and pooling.
"""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bionas.specimens.metadata import Metadata

MB = 2**20
"""Bytes in one MB, here and wherever a size in MB is given."""


def cost(
    model: nn.Module,
    image_size: int,
    vocabulary_sizes: tuple[int, ...] = (),
    n_numeric: int = 0,
    *,
    image_only: bool = False,
) -> dict[str, Any]:
    """The cost of one specimen through `model`, in evaluation.

    Args:
        model: called as `model(image, Metadata)`, or as `model(image)` where `image_only`; it is left as it was.
        image_size: side of the image in pixels.
        vocabulary_sizes: V_f of each categorical metadata field.
        n_numeric: number of numeric metadata fields.
        image_only: for networks that know no metadata (torchvision's).

    Returns:
        parameters; macs and flops (= 2 x MACs) of a forward pass of batch 1; weights_mb, the parameters in fp32, where
        1 MB = 2**20 bytes.
    """
    parameters = sum(p.numel() for p in model.parameters())
    looks_at_values = hasattr(model, "theta")  # a supernet reads its alphas to know what to compute
    device = next(model.parameters()).device if looks_at_values else "meta"
    twin = copy.deepcopy(model).to(device).eval()
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        twin(*_specimens(1, image_size, len(vocabulary_sizes), n_numeric, image_only, device))
    flops = int(counter.get_total_flops())
    return {
        "parameters": parameters,
        "macs": flops // 2,
        "flops": flops,
        "weights_mb": parameters * 4 / MB,
    }


def latency(
    model: nn.Module,
    image_size: int,
    vocabulary_sizes: tuple[int, ...] = (),
    n_numeric: int = 0,
    *,
    image_only: bool = False,
    batch: int = 1,
    device: str | torch.device = "cpu",
    threads: int | None = None,
    seconds: float = 1.0,
) -> dict[str, Any]:
    """How long a forward pass takes, in evaluation, measured for about `seconds` after a warm-up.

    Args:
        model, image_size, vocabulary_sizes, n_numeric, image_only: as in `cost`.
        batch: specimens a pass.
        device: where to measure; the model itself is not moved.
        threads: of the CPU; PyTorch's current number where not given.

    Returns:
        median_ms and iqr_ms of a pass (the spread between the quartiles), batch, threads, device, n (measurements).
    """
    twin = copy.deepcopy(model).to(device).eval()
    inputs = _specimens(batch, image_size, len(vocabulary_sizes), n_numeric, image_only, device)
    threads = threads or torch.get_num_threads()
    # On import the timer complains of a CUDA toolkit without a device, which it would not use: imported when asked for.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    from torch.utils import benchmark

    timer = benchmark.Timer("model(*inputs)", globals={"model": twin, "inputs": inputs}, num_threads=threads)
    with torch.inference_mode():
        timer.timeit(2)
        measured = timer.blocked_autorange(min_run_time=seconds)
    return {
        "median_ms": measured.median * 1e3,
        "iqr_ms": measured.iqr * 1e3,
        "batch": batch,
        "threads": threads,
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else "cpu",
        "n": len(measured.times),
    }


def _specimens(n: int, size: int, fields: int, n_numeric: int, image_only: bool, device: Any) -> tuple[Any, ...]:
    """Inputs of the right shapes: grey images, every field unknown, every measurement average."""
    image = torch.zeros(n, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    if image_only:
        return (image,)
    categorical = torch.zeros(n, fields, dtype=torch.long, device=device)
    return (image, Metadata(categorical, torch.zeros(n, n_numeric, device=device)))
