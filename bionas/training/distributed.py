"""Training divided among processes: one per GPU, or several on a CPU, started by torchrun or `accelerate launch`.

The order of samples is that of one process. Each batch is cut into one part per rank (`BatchLoader.share`), and gradients
are averaged before they are clipped: W processes take the steps that one process takes with the same batch size. Three
things differ: sums are added in another order, dropout draws other masks, and batch normalisation sees the part of a
rank alone, unless it is synchronised (`synchronise_batch_norm`). Rank 0 writes; the others compute and write nothing.

Outside a process group every function here does what one process needs, which is mostly nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from bionas.errors import TrainingError
from bionas.system import files

WAIT = timedelta(minutes=30)
"""How long a rank waits for the others: decoding a collection, which only one of them does, may take that long."""

ENDED = (
    "another process of this job has ended, so this one cannot go on. The last complete epoch is in the run folder: start "
    "the same command again and it resumes, with any number of processes."
)


def world() -> tuple[int, int]:
    """(rank, ranks) of this process; (0, 1) outside a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def first() -> bool:
    """Whether this process is the one that reports, by the environment: also before and after the group."""
    return os.environ.get("RANK", "0") == "0"


@contextlib.contextmanager
def group(device: str = "auto") -> Iterator[tuple[int, int]]:
    """Join the process group that torchrun announced in the environment; without one, a group of this process alone.

    Yields (rank, ranks). Backend: NCCL where CUDA is used, else gloo.

    Raises:
        TrainingError: another process ended; the message says how to resume.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1 or dist.is_initialized():
        yield world()
        return
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))

    def ended(number: int, frame: Any) -> None:
        raise TrainingError(ENDED)  # torchrun ends the other processes with SIGTERM when one is gone

    before = signal.signal(signal.SIGTERM, ended)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=WAIT)
    try:
        yield world()
    except (dist.DistBackendError, dist.DistNetworkError, RuntimeError) as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower() or "Connection" in str(error):
            raise TrainingError(ENDED) from error
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        with contextlib.suppress(RuntimeError):
            dist.destroy_process_group()


@contextlib.contextmanager
def only_rank_0_writes() -> Iterator[None]:
    """On other ranks everything that goes through `files.replacing`, and everything that is printed, is dropped."""
    if world()[0] == 0:
        yield
        return
    with (
        files.writing_nothing(),
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        yield


def wait() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def divisible(batch_size: int, images: int) -> int:
    """The largest batch size up to both numbers that the ranks can divide evenly.

    Raises:
        TrainingError: fewer images than ranks.
    """
    _, ranks = world()
    size = min(batch_size, images) // ranks * ranks
    if size == 0:
        raise TrainingError(
            f"a batch of {min(batch_size, images)} cannot be divided among {ranks} processes. Use fewer processes."
        )
    return size


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the ranks, in one exchange per type; one that is missing counts as zero."""
    parameters = [p for p in parameters if p.requires_grad]
    _, ranks = world()
    if ranks == 1:
        return
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    every = [p.grad for p in parameters if p.grad is not None]  # none is None any more
    for dtype in {grad.dtype for grad in every}:
        grads = [grad for grad in every if grad.dtype == dtype]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        dist.all_reduce(flat)
        flat /= ranks
        parts = flat.split([grad.numel() for grad in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))


@torch.no_grad()
def average_buffers(model: nn.Module) -> None:
    """Replace running statistics by their mean over the ranks, so that all of them validate the same network."""
    if world()[1] == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer /= world()[1]


@torch.no_grad()
def share_weights(model: nn.Module) -> None:
    """Give every rank the weights and statistics of rank 0."""
    if world()[1] > 1:
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.data, 0)


def require_identical(tensor: Tensor, name: str) -> None:
    """
    Raises:
        TrainingError: the tensor is not the same to the bit on every rank.
    """
    if world()[1] == 1:
        return
    first = tensor.detach().clone()
    dist.broadcast(first, 0)
    different = (first != tensor.detach()).any().to(torch.int32)
    dist.all_reduce(different, dist.ReduceOp.MAX)
    if different.item():
        raise TrainingError(
            f"{name} is not the same on all processes: this run cannot be trusted. Please report it."
        )


def summed(values: list[float], device: torch.device) -> list[float]:
    """Each value summed over the ranks."""
    if world()[1] == 1:
        return values
    total = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def gathered(part: Tensor) -> Tensor:
    """The parts (n_r, ...) of all ranks, one after the other in the order of the ranks."""
    _, ranks = world()
    if ranks == 1:
        return part
    sizes = [torch.zeros(1, dtype=torch.int64, device=part.device) for _ in range(ranks)]
    dist.all_gather(sizes, torch.tensor([len(part)], device=part.device))
    counts = [int(size) for size in sizes]
    padded = part.new_zeros((max(counts), *part.shape[1:]))
    padded[: len(part)] = part
    parts = [torch.empty_like(padded) for _ in range(ranks)]
    dist.all_gather(parts, padded)
    return torch.cat([found[:count] for found, count in zip(parts, counts, strict=True)])


def of_rank_0(value: int) -> int:
    """The value that rank 0 has."""
    if world()[1] == 1:
        return value
    on = torch.device("cuda") if dist.get_backend() == "nccl" else torch.device("cpu")
    shared = torch.tensor([value], device=on)
    dist.broadcast(shared, 0)
    return int(shared)


def own_random_state(seed: int, epoch: int) -> None:
    """Give every rank but the first random numbers of its own; they follow from seed, epoch and rank alone."""
    rank, _ = world()
    if rank:
        torch.manual_seed(
            int(np.random.SeedSequence([seed, epoch, rank]).generate_state(1, np.uint64)[0] >> 1)
        )


# --- batch normalisation over all ranks ------------------------------------------------------------------------------


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all ranks' images; on a CPU too, which torch's own does not offer."""

    def normalise(self, x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
        """(B, C, H, W) normalised in training with the mean and variance over all ranks, scaled and shifted."""
        assert self.momentum is not None and self.running_mean is not None and self.running_var is not None
        if not self.training or world()[1] == 1:
            return F.batch_norm(
                x, self.running_mean, self.running_var, weight, bias, self.training, self.momentum, self.eps
            )
        values = x.float()
        count = x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float32)
        sums = all_reduce(torch.cat([values.sum((0, 2, 3)), values.square().sum((0, 2, 3)), count]))
        total, squares, n = sums.split([x.shape[1], x.shape[1], 1])
        mean = total / n
        variance = squares / n - mean.square()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = torch.rsqrt(variance + self.eps) * (1 if weight is None else weight)
        shift = (0 if bias is None else bias) - mean * scale
        return (values * scale[:, None, None] + shift[:, None, None]).to(x.dtype)

    def forward(self, x: Tensor) -> Tensor:
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += self.training
        return self.normalise(x, self.weight, self.bias)


def synchronise_batch_norm(model: nn.Module) -> None:
    """Let every batch normalisation of a model use the statistics of all ranks; parameters and names stay."""
    for module in model.modules():
        if isinstance(module, _BatchNorm) and type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm
