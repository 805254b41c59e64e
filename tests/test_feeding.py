"""The way of batches to the device: prefetched in order, by a thread that ends, in memory that is never shared."""

import gc
import threading
import time

import numpy as np
import pytest
import torch
from small import sides, specimens

from bionas.errors import SpecimenError
from bionas.specimens import BatchLoader, MetadataEncoding
from bionas.specimens.feeding import RecycledMemory, normalised, prefetched

PATIENCE = 300  # seconds


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def feeding_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("bionas-batches")]


def test_results_come_in_order_and_an_error_where_its_result_would_come():
    begun = []

    def job(i):
        begun.append(i)
        if i == 4:
            raise SpecimenError("the fifth")
        return i

    results = prefetched((lambda i=i: job(i)) for i in range(100))
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(SpecimenError, match="the fifth"):
        next(results)
    assert feeding_threads() == [] and max(begun) < 10  # what was not begun is dropped


def test_batches_are_prepared_while_one_is_in_use():
    third = threading.Event()
    jobs = [lambda: 0, lambda: 1, third.set, lambda: 3, lambda: 4]
    results = prefetched(jobs, ahead=2)
    assert next(results) == 0
    assert third.wait(PATIENCE)  # nobody asked for it yet


def test_an_abandoned_epoch_leaves_no_thread():
    train, _, encoding = sides()
    loader = BatchLoader(train, encoding, 4, shuffle=True)
    epoch = loader.epoch(0)
    next(epoch)
    assert len(feeding_threads()) == 1
    epoch.close()
    assert feeding_threads() == []
    for batch in loader.epoch(1):
        assert len(batch.label) == 4
        break
    gc.collect()
    until(lambda: feeding_threads() == [])
    abandoned = loader.epoch(2)  # never begun
    del abandoned
    assert feeding_threads() == []


def test_two_epochs_at_once_do_not_share_their_buffers():
    train, _, encoding = sides()
    loader = BatchLoader(train, encoding, 8, shuffle=True)
    alone = [[batch.image for batch in loader.epoch(e)] for e in (0, 1)]
    for pair, *expected in zip(zip(loader.epoch(0), loader.epoch(1), strict=True), *alone, strict=True):
        assert all(torch.equal(batch.image, image) for batch, image in zip(pair, expected, strict=True))


def test_recycled_memory_is_not_lent_twice_while_anything_refers_to_it():
    memory = RecycledMemory()
    first = memory.empty(8, 128)
    assert first.shape == (8, 3, 128, 128) and first.is_contiguous(memory_format=torch.channels_last)
    first.fill_(1)
    place, kept = first.data_ptr(), first[3:5]
    del first
    second = memory.empty(8, 128)
    assert second.data_ptr() != place  # `kept` still shows a part of the first
    second.fill_(2)
    assert bool((kept == 1).all())
    del kept
    gc.collect()
    assert memory.empty(8, 128).data_ptr() == place
    weight = torch.ones(1, 3, 1, 1, requires_grad=True)
    held = memory.empty(8, 128).fill_(3)
    place, product = held.data_ptr(), held * weight  # autograd keeps `held` for the gradient
    del held
    assert memory.empty(8, 128).data_ptr() != place
    product.sum().backward()
    assert torch.allclose(weight.grad.flatten(), torch.full((3,), 3.0 * 8 * 128 * 128))


def test_normalisation_is_the_plain_formula_at_every_size():
    for n, size in ((1, 8), (5, 64), (40, 96), (3, 224)):
        plain = torch.from_numpy(
            np.random.default_rng(n).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
        )
        pixels = plain.permute(0, 3, 1, 2)
        whole = pixels.to(torch.float32).mul_(1 / (255 * 0.25)).sub_(2.0)
        for image in (normalised(pixels), normalised(pixels, RecycledMemory())):
            assert torch.equal(image, whole) and image.is_contiguous(memory_format=torch.channels_last)


def test_ranks_draw_the_parts_of_the_batches_of_one_process():
    whole = specimens(50)
    encoding = MetadataEncoding.fit(whole)
    for augment in ("none", "flips_and_shifts"):
        for drop_last in (True, False):
            options = {"shuffle": True, "seed": 3, "augment": augment, "drop_last": drop_last}
            alone = BatchLoader(whole, encoding, 12, **options)
            ranks = [BatchLoader(whole, encoding, 12, **options, share=(r, 3)) for r in range(3)]
            assert {len(loader) for loader in ranks} == {len(alone)}
            for one, *parts in zip(alone.epoch(2), *(loader.epoch(2) for loader in ranks), strict=True):
                assert torch.equal(torch.cat([part.image for part in parts]), one.image)
                assert torch.equal(torch.cat([part.label for part in parts]), one.label)
    with pytest.raises(SpecimenError, match="multiple of 3"):
        BatchLoader(whole, encoding, 10, shuffle=True, share=(0, 3))
