"""Automatic batch size: "the largest feasible batch (32-512) based on available memory" (section III-B.2)."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator

import psutil
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from bionas.errors import TrainingError

LARGEST, SMALLEST = 512, 32


def largest_batch_size(model: nn.Module, step_with: Callable[[int], None], device: torch.device) -> int:
    """The largest of 512, 256, ... 32 whose training step fits in memory; prints the choice and its reason.

    On CUDA each size is tried. On a CPU a size that is too large would swap or be killed by the system, so the memory
    that a step of two images keeps for the backward pass is measured and compared with half of the free memory.

    Args:
        model: buffers are restored afterwards, gradients are set to None.
        step_with: runs a forward and backward pass on the given number of images.

    Raises:
        TrainingError: not even the smallest size fits.
    """
    with _restored(model):
        size, why = _by_trying(model, step_with) if device.type == "cuda" else _by_measuring(model, step_with)
    if size < SMALLEST:
        raise TrainingError(
            f"a training step of {SMALLEST} images does not fit in the memory of {device} ({why}). Use a smaller preset "
            "or image size, or set batch_size to a smaller number."
        )
    print(f"automatic batch size: {size} ({why})", flush=True)
    return size


def _by_trying(model: nn.Module, step_with: Callable[[int], None]) -> tuple[int, str]:
    # The optimiser allocates its two moments at the first update only: reserve their memory during the trial.
    moments = [torch.empty_like(p) for p in model.parameters() for _ in range(2)]  # noqa: F841
    size = LARGEST
    refused: list[int] = []
    while size >= SMALLEST:
        try:
            torch.cuda.reset_peak_memory_stats()
            step_with(size)
            peak = torch.cuda.max_memory_allocated() / 2**30
            return size, f"a step peaks at {peak:.1f} GiB" + (f"; {refused} did not fit" if refused else "")
        except Exception as error:
            if not should_reduce_batch_size(error):
                raise
            refused.append(size)
        gc.collect()
        torch.cuda.empty_cache()
        size //= 2
    return size, f"{refused} did not fit"


def _by_measuring(model: nn.Module, step_with: Callable[[int], None]) -> tuple[int, str]:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step_with(2)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    per_image = sum(size for pointer, size in kept.items() if pointer not in weights) / 2
    free = psutil.virtual_memory().available
    size = LARGEST
    while size >= SMALLEST and size * per_image > free / 2:
        size //= 2
    return size, f"one image keeps {per_image / 2**20:.1f} MiB, {free / 2**30:.1f} GiB are free"


@contextlib.contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
        model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
