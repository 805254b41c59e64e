"""From the image store to the device: gathered in the background, sent as uint8, normalised on arrival.

`prefetched` computes the next few items of a sequence in one background thread. `Delivery` owns the host buffers of one
epoch and, on CUDA, the stream on which they are copied while the device computes. `normalised` is the arithmetic that
turns uint8 into what a network sees; it runs on the device that holds the pixels.
"""

from __future__ import annotations

import itertools
import queue
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from bionas.specimens.metadata import Metadata

AHEAD = 3
"""Batches that are prepared in the background while one is in use."""

MEAN, STD = 0.5, 0.25
"""Normalisation of every channel, of intensities in 0..1: the network sees -2..2."""

SCALE, SHIFT = 1 / (255 * STD), MEAN / STD
CHUNK = 1 << 20  # values normalised at once on a CPU: their three passes then stay in its cache
ALIGNMENT = 64  # bytes, as torch aligns its own memory

Item = TypeVar("Item")


def prefetched(jobs: Iterable[Callable[[], Item]], ahead: int = AHEAD) -> Generator[Item]:
    """Results of `jobs` in their order, up to `ahead` of them computed in a background thread.

    An error in a job is raised where its result would have come. When the iterator ends, is closed or is abandoned, the
    jobs that have not started are dropped and the thread ends.
    """
    jobs = iter(jobs)
    waiting: deque[Future[Item]] = deque()
    pool = ThreadPoolExecutor(1, thread_name_prefix="bionas-batches")
    try:
        for job in itertools.islice(jobs, ahead):
            waiting.append(pool.submit(job))
        while waiting:
            result = waiting.popleft().result()
            for job in itertools.islice(jobs, 1):
                waiting.append(pool.submit(job))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


class Parcel(NamedTuple):
    """A batch on its way: pixels (B, S, S, 3) or None, metadata, labels, the buffer it lies in, when it has arrived.

    `kept` is where its images stand in the batch that was asked for; None where none was left out.
    """

    pixels: Tensor | None
    metadata: Metadata
    label: Tensor
    buffer: Tensor | None
    copied: torch.cuda.Event | None
    kept: Tensor | None = None


class Delivery:
    """Host buffers for the batches of one epoch, and the way from there to the device.

    `buffer` and `send` are called in the background thread, `receive` and `release` by the consumer. There is one buffer
    more than parcels can be under way, so that the background thread never waits for the consumer's next request.

    Args:
        shape: of a full batch of pixels, (B, S, S, 3); None for batches without images.
        device: where batches are used.
        ahead: how many parcels may be under way.
        dtype: of the pixels.
    """

    def __init__(
        self,
        shape: tuple[int, ...] | None,
        device: torch.device,
        ahead: int = AHEAD,
        dtype: torch.dtype = torch.uint8,
    ):
        self.device, self._cuda = device, device.type == "cuda"
        self._stream = torch.cuda.Stream(device) if self._cuda else None
        self._free: queue.SimpleQueue[tuple[Tensor, torch.cuda.Event | None]] = queue.SimpleQueue()
        self._buffers = 0 if shape is None else ahead + 1
        for _ in range(self._buffers):
            assert shape is not None
            self._free.put((torch.empty(shape, dtype=dtype, pin_memory=self._cuda), None))

    @property
    def at_rest(self) -> bool:
        """Whether every buffer has been given back, so that another epoch may use them."""
        return self._free.qsize() == self._buffers

    def buffer(self) -> Tensor:
        """A buffer of a full batch that nothing else uses."""
        buffer, copied = self._free.get()
        if copied is not None:
            copied.synchronize()  # the copy of an earlier batch out of this buffer
        return buffer

    def send(self, buffer: Tensor | None, n: int, metadata: Metadata, label: Tensor) -> Parcel:
        """Start the way of `n` images in `buffer`, their metadata and labels; on CUDA a copy that nobody waits for."""
        pixels = None if buffer is None else buffer[:n]
        if not self._cuda:
            return Parcel(pixels, metadata, label, buffer, None)
        with torch.cuda.stream(self._stream):
            if pixels is not None:
                pixels = pixels.to(self.device, non_blocking=True)
            metadata = Metadata(*(self._pinned(part) for part in metadata))
            label = self._pinned(label)
            copied = torch.cuda.Event()
            copied.record(self._stream)
        if buffer is not None:
            self._free.put((buffer, copied))
        return Parcel(pixels, metadata, label, None, copied)

    def _pinned(self, part: Tensor) -> Tensor:
        return part.pin_memory().to(self.device, non_blocking=True)

    def receive(self, parcel: Parcel) -> Parcel:
        """The same, on the device: work that is queued from now on sees it whole."""
        if not self._cuda:
            pixels = None if parcel.pixels is None else parcel.pixels.to(self.device)
            return parcel._replace(
                pixels=pixels, metadata=parcel.metadata.to(self.device), label=parcel.label.to(self.device)
            )
        stream = torch.cuda.current_stream(self.device)
        assert parcel.copied is not None  # on CUDA `send` records it
        stream.wait_event(parcel.copied)
        for part in (parcel.pixels, *parcel.metadata, parcel.label):
            if part is not None:
                part.record_stream(stream)
        return parcel

    def release(self, parcel: Parcel) -> None:
        """Give the parcel's buffer back: its pixels have been turned into something else."""
        if parcel.buffer is not None:
            self._free.put((parcel.buffer, None))


class RecycledMemory:
    """Memory for large float batches on a CPU, used again once no tensor refers to it.

    New memory of tens of megabytes comes page by page from the system, which at 224 px takes several times as long as
    the normalisation itself. A block returns here when the storage of its tensor is freed, whoever held it last.
    """

    KEPT = 2  # blocks
    SMALLEST = 1 << 20  # bytes; below it the allocator recycles by itself

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def empty(self, n: int, size: int) -> Tensor:
        """float32 (n, 3, size, size), channels_last, values undefined."""
        count = n * 3 * size * size
        if 4 * count < self.SMALLEST:
            return torch.empty((n, 3, size, size), dtype=torch.float32, memory_format=torch.channels_last)
        block = next((self._free.pop(i) for i, block in enumerate(self._free) if len(block) >= count), None)
        if block is None:
            raw = np.empty(4 * count + ALIGNMENT, dtype=np.uint8)
            first = -raw.ctypes.data % ALIGNMENT
            block = raw[first : first + 4 * count].view(np.float32)
        lent = block[:count]
        weakref.finalize(lent, self._returned, block).atexit = False
        return torch.from_numpy(lent).view(n, size, size, 3).permute(0, 3, 1, 2)

    def _returned(self, block: np.ndarray) -> None:
        if len(self._free) < self.KEPT:
            self._free.append(block)


def normalised(pixels: Tensor, memory: RecycledMemory | None = None) -> Tensor:
    """uint8 (B, 3, S, S) -> float32 (B, 3, S, S), channels_last, (x / 255 - MEAN) / STD, on the device of `pixels`."""
    if pixels.device.type != "cpu":
        scaled = pixels.to(torch.float32).mul_(SCALE).sub_(SHIFT)
        return scaled.contiguous(memory_format=torch.channels_last)
    n, _, size, _ = pixels.shape
    scaled = (memory or RecycledMemory()).empty(n, size)
    images = max(1, CHUNK // (3 * size * size))
    for start in range(0, n, images):
        here = slice(start, start + images)
        scaled[here].copy_(pixels[here]).mul_(SCALE).sub_(SHIFT)
    return scaled
