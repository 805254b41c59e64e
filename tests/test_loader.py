"""Batches: what an epoch holds, and that it depends on (seed, epoch) alone."""

from __future__ import annotations

import random

import numpy as np
import pandas as pd
import pytest
import torch

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import (
    AUGMENTATIONS,
    SOURCES,
    BatchLoader,
    Collected,
    ImageStore,
    MetadataEncoding,
    SpecimenSet,
    load_specimens,
)
from bionas.specimens.augmentation import FlipsCropsLightZoom

N, SIZE = 50, 16


@pytest.fixture(scope="module")
def specimens():
    generator = np.random.default_rng(0)
    records = pd.DataFrame(
        {
            "order": ["A", "B"] * 25,
            "country": [f"c{i % 7}" for i in range(N)],
            "coord-lat": np.arange(N) * 1.0,
        }
    )
    images = ImageStore(generator.integers(0, 256, (N, SIZE, SIZE, 3), dtype=np.uint8))
    return SpecimenSet(records, np.arange(N) % 2, ("A", "B"), images)


@pytest.fixture(scope="module")
def encoding(specimens):
    return MetadataEncoding.fit(specimens)


def same(one, other):
    flat = lambda batch: (batch.image, *batch.metadata, batch.label)  # noqa: E731
    one, other = list(one), list(other)
    return len(one) == len(other) and all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(flat(x), flat(y), strict=True)
    )


def rows_of(loader, epoch):
    """Which specimens an epoch shows, in order, read off their latitude (row i has i)."""
    mean, sd = np.arange(N).mean(), np.arange(N).std()
    return np.concatenate(
        [(b.metadata.numeric[:, 0] * sd + mean).round().long().numpy() for b in loader.epoch(epoch)]
    )


def test_images_metadata_and_labels_of_a_batch_belong_together(specimens, encoding):
    loader = BatchLoader(specimens, encoding, 16, shuffle=True)
    rows = rows_of(loader, 3)
    assert sorted(rows) == list(range(N))
    batches = list(loader.epoch(3))
    whole = encoding.transform(specimens)
    assert [len(b.label) for b in batches] == [16, 16, 16, 2] and len(loader) == 4
    image = torch.cat([b.image for b in batches])
    plain = torch.from_numpy(specimens.images.pixels(rows)).permute(0, 3, 1, 2).double()
    assert torch.allclose(image.double(), (plain / 255 - 0.5) / 0.25, atol=1e-6)
    assert torch.equal(torch.cat([b.label for b in batches]), torch.from_numpy(specimens.labels[rows]))
    assert torch.equal(torch.cat([b.metadata.categorical for b in batches]), whole.categorical[rows])


@pytest.mark.parametrize(
    "augment", ["none", "flips_and_shifts", "any_flips_and_shifts", "flips_crops_light_zoom"]
)
@pytest.mark.parametrize("size", [1, 7, 50])
def test_images_are_float_channels_last(specimens, encoding, augment, size):
    batch = next(BatchLoader(specimens, encoding, size, shuffle=True, augment=augment).epoch(0))
    assert batch.image.dtype == torch.float32 and batch.image.shape == (size, 3, SIZE, SIZE)
    assert batch.image.is_contiguous(memory_format=torch.channels_last)
    assert batch.label.dtype == torch.int64
    assert batch.image.min() >= -2 and batch.image.max() <= 2


@pytest.mark.parametrize("augment", ["none", "flips_and_shifts", "flips_crops_light_zoom"])
def test_an_epoch_asked_twice_is_the_same_and_the_next_is_not(specimens, encoding, augment):
    def fresh(seed=0):
        return BatchLoader(specimens, encoding, 8, shuffle=True, seed=seed, augment=augment)

    loader = fresh()
    assert same(loader.epoch(4), loader.epoch(4)) and same(loader.epoch(4), fresh().epoch(4))
    assert not same(loader.epoch(4), loader.epoch(5)) and not same(loader.epoch(4), fresh(seed=1).epoch(4))
    assert not same(fresh(1).epoch(0), fresh(0).epoch(1))


@pytest.mark.parametrize("augment", ["flips_and_shifts", "flips_crops_light_zoom"])
def test_global_random_state_is_neither_read_nor_moved(specimens, encoding, augment):
    loader = BatchLoader(specimens, encoding, 8, shuffle=True, augment=augment)
    first = list(loader.epoch(1))
    torch.manual_seed(123), np.random.seed(123), random.seed(123)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert same(loader.epoch(1), first)
    assert torch.equal(torch.get_rng_state(), before[0]) and random.getstate() == before[2]
    assert (np.random.get_state()[1] == before[1]).all()


def test_unshuffled_epochs_follow_the_records(specimens, encoding):
    loader = BatchLoader(specimens, encoding, 8, shuffle=False)
    assert rows_of(loader, 0).tolist() == rows_of(loader, 9).tolist() == list(range(N))
    assert same(loader.epoch(0), loader.epoch(9))  # augment="none": images stay in place


def test_drop_last_leaves_full_batches_only(specimens, encoding):
    loader = BatchLoader(specimens, encoding, 16, shuffle=True, drop_last=True)
    assert len(loader) == 3 == len(list(loader.epoch(0))) and all(len(b.label) == 16 for b in loader.epoch(0))
    assert len(BatchLoader(specimens, encoding, 25, shuffle=True)) == 2


@pytest.mark.parametrize("upside_down", [False, True])
def test_every_image_is_flipped_and_shifted_by_a_draw_of_its_own(specimens, encoding, upside_down):
    augment = "any_flips_and_shifts" if upside_down else "flips_and_shifts"
    loader = BatchLoader(specimens, encoding, N, shuffle=False, augment=augment)
    plain = next(BatchLoader(specimens, encoding, N, shuffle=False).epoch(0)).image
    reach = SIZE // 8

    def found(image, original):
        """The (flips, shift) that make `image` of `original`, tried one by one with padding as numpy does it."""
        answers = []
        for up in (False, True):
            for left in (False, True):
                padded = np.pad(original.numpy(), ((0, 0), (reach, reach), (reach, reach)), mode="edge")
                for dy in range(-reach, reach + 1):
                    for dx in range(-reach, reach + 1):
                        cut = padded[:, reach + dy : reach + dy + SIZE, reach + dx : reach + dx + SIZE]
                        cut = cut[:, ::-1] if up else cut
                        cut = cut[:, :, ::-1] if left else cut
                        if np.array_equal(cut, image.numpy()):
                            answers.append((up, left, dy, dx))
        return answers

    draws = []
    for epoch in (0, 1):
        moved = next(loader.epoch(epoch)).image
        answers = [found(image, original) for image, original in zip(moved, plain, strict=True)]
        assert all(len(answer) == 1 for answer in answers)
        draws.append([answer[0] for answer in answers])
    assert len(set(draws[0])) > N / 3 and draws[0] != draws[1]
    up, left, dy, dx = np.array(draws[0] + draws[1]).T
    assert 0.3 < left.mean() < 0.7 and (0.3 < up.mean() < 0.7 if upside_down else not up.any())
    assert set(dy) == set(dx) == set(range(-reach, reach + 1))


def drawn(n, **given):
    plain = {
        "flip_rows": False,
        "flip_columns": False,
        "zoom": 1.0,
        "top": 0.5,
        "left": 0.5,
        "brightness": 1.0,
        "contrast": 1.0,
    }
    return FlipsCropsLightZoom(
        **{name: torch.as_tensor([given.get(name, value)] * n) for name, value in plain.items()}
    )


def test_crops_flips_and_light_against_numpy(specimens):  # SERAN's section 4.1
    pixels = specimens.images.take(range(4))
    images = pixels.numpy().transpose(0, 2, 3, 1)
    assert torch.equal(drawn(4).applied(pixels), pixels)  # the middle of what was padded is the image itself
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    moved = drawn(4, top=1.0, left=0.25, flip_rows=True).applied(pixels).numpy().transpose(0, 2, 3, 1)
    assert np.array_equal(moved, padded[:, 4:20, 1:17][:, ::-1])
    moved = drawn(4, flip_columns=True, brightness=1.2).applied(pixels).numpy().transpose(0, 2, 3, 1)
    assert np.abs(moved - np.clip(images[:, :, ::-1] * 1.2, 0, 255)).max() <= 1
    grey = (images @ [0.2989, 0.587, 0.114]).mean(axis=(1, 2))[:, None, None, None]
    moved = drawn(4, contrast=0.8).applied(pixels).numpy().transpose(0, 2, 3, 1)
    assert np.abs(moved - (0.8 * images + 0.2 * grey)).max() <= 2


def test_zoom_enlarges_a_part_and_keeps_the_size():
    white_spot = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    white_spot[:, :, 16:48, 16:48] = 255
    zoomed = drawn(1, zoom=1.1).applied(white_spot)
    assert zoomed.shape == white_spot.shape
    assert (zoomed > 127).sum() / (white_spot > 127).sum() == pytest.approx((64 / 58) ** 2, abs=0.06)


def test_how_often_and_how_strongly_an_epoch_is_augmented():
    n = 4000
    draws = AUGMENTATIONS["flips_crops_light_zoom"](n, 64, torch.Generator().manual_seed(0))
    assert all(part.shape == (n,) for part in draws)
    for flips in (draws.flip_rows, draws.flip_columns):
        assert flips.double().mean() == pytest.approx(0.5, abs=0.03)
    for part, low, high in ((draws.zoom, 1.0, 1.1), (draws.brightness, 0.8, 1.2), (draws.contrast, 0.8, 1.2)):
        assert (
            part.min() >= low
            and part.max() <= high
            and (part != 1).double().mean() == pytest.approx(0.75, abs=0.03)
        )


def test_records_alone_make_batches_without_images(specimens, encoding):
    alone = SpecimenSet(specimens.records, specimens.labels, specimens.class_names)
    batch = next(BatchLoader(alone, encoding, 5, shuffle=False, augment="flips_and_shifts").epoch(0))
    assert batch.image is None and batch.metadata.categorical.shape == (5, 1)
    assert batch.to("cpu").image is None


def test_records_alone_go_from_the_source_to_the_batch(monkeypatch):
    records = pd.DataFrame(
        {
            "order": pd.Categorical([None, *"AAB" * 20]),
            "country": pd.Series([f"c{i % 7}" for i in range(61)], dtype="str"),
            "dna_bin": pd.Categorical([f"b{i % 20}" for i in range(61)]),
            "coord-lat": np.arange(61, dtype=np.float32),
        }
    )
    monkeypatch.setitem(
        SOURCES._things, "made", lambda data_dir, *, image_size, cache_dir, seed: Collected(records, None)
    )
    train, val, _ = load_specimens("made").split("bin_disjoint")
    encoding = MetadataEncoding.fit(train, "leak_free")
    for side in (train, val):
        batches = list(BatchLoader(side, encoding, 7, shuffle=True).epoch(0))
        assert all(
            batch.image is None and batch.metadata.categorical.dtype == torch.int64 for batch in batches
        )
        assert sum(len(batch.label) for batch in batches) == len(side)


def test_what_cannot_be_drawn_is_refused(specimens, encoding):
    with pytest.raises(SpecimenError, match="0 specimens"):
        BatchLoader(specimens.subset([]), encoding, 8, shuffle=True)
    with pytest.raises(SpecimenError, match="batch of 0"):
        BatchLoader(specimens, encoding, 0, shuffle=True)
    with pytest.raises(UnknownName, match="flips_and_shifts"):
        BatchLoader(specimens, encoding, 8, shuffle=True, augment="flip_and_shift")
