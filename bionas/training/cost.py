"""Cost of a network (the cost columns of Table I): parameters, multiply-accumulates, weights, memory, latency.

The paper gives GFLOPs without saying whether a multiply and its add are one or two operations. Here `macs` counts the
pair once and `flops` is twice that, both always given. Counting is PyTorch's own, on the meta device, where nothing is
computed (a supernet is run once instead): it sees convolutions and matrix products, attention's among them, which is what
costs, and not normalisation, activations and pooling. The paper's "Memory (MB)" is not explained either: the weights in
fp32 and the peak of one inference are two readings of it, both given. Latency is measured, on a CPU or a GPU.
"""

from __future__ import annotations

import copy
import logging
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bionas.errors import BionasError
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
        parameters; macs and flops (= 2 x MACs) of a forward pass of batch 1; weights_mb, the parameters in fp32; peak_mb,
        what that pass needs at most at once: weights, running statistics, the image, and the largest sum of feature
        maps that are alive together. It leaves out what kernels allocate for themselves, and counts attention as it is
        written, with its table of weights. 1 MB = 2**20 bytes.
    """
    parameters = sum(p.numel() for p in model.parameters())
    looks_at_values = hasattr(model, "theta")  # a supernet reads its alphas to know what to compute
    device = next(model.parameters()).device if looks_at_values else "meta"
    twin, inputs = _prepared(model, 1, image_size, len(vocabulary_sizes), n_numeric, image_only, device)
    held = [*twin.parameters(), *twin.buffers(), *tree_leaves(inputs)]
    counter, memory = FlopCounterMode(display=False), LiveTensors(held)
    # A fused kernel is not counted by every version of PyTorch, and keeps its memory to itself: written out, it is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), memory, counter:
        twin(*inputs)
    flops = int(counter.get_total_flops())
    return {
        "parameters": parameters,
        "macs": flops // 2,
        "flops": flops,
        "weights_mb": parameters * 4 / MB,
        "peak_mb": memory.peak / MB,
    }


class LiveTensors(TorchDispatchMode):
    """Counts memory while operations run: the bytes of all live tensors, and their peak.

    It works on the meta device, where tensors have sizes but no memory. Two tensors that share memory (a view, a result in
    place) count once.

    Attributes:
        now, peak: bytes, those of `held` included.

    Args:
        held: tensors that are there from the beginning and stay.
    """

    def __init__(self, held: Iterable[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()
        for tensor in held:
            self._count(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._alive:
            self._alive.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def peak_memory(
    model: nn.Module,
    image_size: int,
    vocabulary_sizes: tuple[int, ...] = (),
    n_numeric: int = 0,
    *,
    image_only: bool = False,
    batch: int = 1,
    device: str | torch.device = "cuda",
) -> float:
    """MB that an inference needs at most on a GPU, weights included, as its allocator saw it; kernels' own included.

    What else is on that device at the time does not count.

    Args:
        model, image_size, vocabulary_sizes, n_numeric, image_only: as in `cost`, whose `peak_mb` needs no GPU.
        batch: specimens per pass.

    Raises:
        BionasError: `device` is no CUDA device: only there is an allocator that keeps account.
    """
    device = torch.device(device)
    if device.type != "cuda" or not torch.cuda.is_available():
        raise BionasError(
            f"peak memory cannot be measured on {device}, only on CUDA; cost(...)['peak_mb'] counts it."
        )
    before = torch.cuda.memory_allocated(device)
    twin, inputs = _prepared(model, batch, image_size, len(vocabulary_sizes), n_numeric, image_only, device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        twin(*inputs)
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MB


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
        batch: specimens per pass.
        device: where to measure; the model itself is not moved.
        threads: of the CPU; PyTorch's current number where not given.

    Returns:
        median_ms and iqr_ms of a pass (the spread between the quartiles), batch, threads, device, n (measurements).
    """
    twin, inputs = _prepared(model, batch, image_size, len(vocabulary_sizes), n_numeric, image_only, device)
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


def _prepared(
    model: nn.Module, n: int, size: int, fields: int, n_numeric: int, image_only: bool, device: Any
) -> tuple[nn.Module, tuple[Any, ...]]:
    """A copy of the model in evaluation on `device`, and n inputs: grey images, every field unknown, measurements average."""
    twin = copy.deepcopy(model).to(device).eval()
    image = torch.zeros(n, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    if image_only:
        return twin, (image,)
    categorical = torch.zeros(n, fields, dtype=torch.long, device=device)
    return twin, (image, Metadata(categorical, torch.zeros(n, n_numeric, device=device)))
