"""The streamed image store: the pixels of the decoded one, the same batches each time, unreadable photographs counted."""

import gc
import io
import shutil

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image, TiffImagePlugin

from bionas.errors import SpecimenError, UnknownName
from bionas.specimens import BatchLoader, MetadataEncoding, SpecimenSet, load_specimens
from bionas.specimens.decoding import decode
from bionas.specimens.image_cache import image_cache
from bionas.specimens.photographs import FolderPhotographs
from bionas.specimens.streaming import StreamedImages, open_images, require_numbers

N, SIZE = 40, 24
NAMES = [f"{'AB'[i % 2]}/{i:02}.jpg" for i in range(N)]


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        coarse = np.random.default_rng(i).integers(0, 256, (6, 7, 3), dtype=np.uint8)
        path = tmp_path / "bees" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(coarse).resize((40 + i, 50)).save(path, quality=92)
    return tmp_path / "bees"


def specimens(store, rows=None):
    n = len(store) if rows is None else len(rows)
    store = store if rows is None else store.subset(rows)
    records = pd.DataFrame({"order": np.where(np.arange(n) % 2, "A", "B"), "coord-lat": np.arange(n) * 1.0})
    return SpecimenSet(records, np.arange(n) % 2, ("A", "B"), store)


def epoch(store, number=0, **options):
    whole = specimens(store)
    options = {"shuffle": True, "seed": 5, "augment": "flips_and_shifts"} | options
    return list(BatchLoader(whole, MetadataEncoding.fit(whole), 8, **options).epoch(number))


def same(one, other):
    return all(
        torch.equal(a.image, b.image) and torch.equal(a.label, b.label)
        for a, b in zip(one, other, strict=True)
    )


def test_streamed_pixels_and_batches_are_those_of_the_decoded_store(folder, tmp_path):
    photographs = FolderPhotographs(folder, NAMES)
    decoded, _ = image_cache(photographs, SIZE, "crop", tmp_path / "cache")
    for workers in (1, 3):
        streamed = StreamedImages(photographs, SIZE, "crop", "exact", workers=workers)
        assert (streamed.pixels(np.arange(N)) == decoded.pixels(np.arange(N))).all()
        for number in (0, 3):
            assert same(epoch(streamed, number), epoch(decoded, number))
    part = streamed.subset([7, 3, 30]).subset([2, 0])
    assert (part.pixels([0, 1]) == decoded.pixels([30, 7])).all() and len(part) == 2
    assert len({streamed.fingerprint, part.fingerprint, decoded.fingerprint}) == 3
    assert (
        streamed.fingerprint
        == StreamedImages(FolderPhotographs(folder, NAMES), SIZE, "crop", "exact").fingerprint
    )
    with pytest.raises(IndexError, match="store of 2 images"):
        part.pixels([2])


def test_the_fast_decoder_differs_little_and_is_another_collection(folder):
    photographs = FolderPhotographs(folder, NAMES)
    exact, fast = (StreamedImages(photographs, SIZE, decoder=name) for name in ("exact", "fast"))
    difference = np.abs(exact.pixels(range(N)).astype(int) - fast.pixels(range(N)))
    assert 0 < difference.mean() < 6 and exact.fingerprint != fast.fingerprint
    for options in ({"decoder": "slow"}, {"fit": "strech"}):
        with pytest.raises(UnknownName):
            StreamedImages(photographs, SIZE, **options)


def test_a_corrupt_photograph_is_left_out_of_training_listed_and_counted(folder, capsys):
    (folder / NAMES[11]).write_bytes((folder / NAMES[11]).read_bytes()[:300])
    photographs = FolderPhotographs(folder, NAMES)
    store = StreamedImages(photographs, SIZE, "crop")
    whole = specimens(store)
    encoding = MetadataEncoding.fit(whole)
    loader = BatchLoader(whole, encoding, 8, shuffle=True, seed=5, augment="any_flips_and_shifts")
    batches = list(loader.epoch(0))
    assert sorted(len(batch.label) for batch in batches) == [7, 8, 8, 8, 8]
    said = capsys.readouterr().out
    assert "1 of 40 photographs cannot be read (2.5%)" in said and NAMES[11] in said and "skipped" in said
    assert same(batches, loader.epoch(0)) and capsys.readouterr().out == ""  # the same again, and said once

    kept = np.delete(np.arange(N), 11)  # the others are where the draws of the whole epoch put them
    sound = {int(b.metadata.numeric[i, 0] * 1e6): b.image[i] for b in batches for i in range(len(b.label))}
    assert len(sound) == len(kept)
    rows = list(BatchLoader(whole, encoding, 8, shuffle=False).epoch(0))  # evaluation keeps its rows
    assert sum(len(batch.label) for batch in rows) == N
    assert torch.equal(rows[1].image[3], torch.full((3, SIZE, SIZE), -2.0))

    for name in NAMES[:4]:
        (folder / name).write_bytes(b"")
    with pytest.raises(SpecimenError, match=r"max_unreadable=5.0%.*copy them again"):
        epoch(StreamedImages(FolderPhotographs(folder, NAMES), SIZE))
    assert epoch(StreamedImages(FolderPhotographs(folder, NAMES), SIZE, max_unreadable=0.5))


def test_streaming_is_chosen_where_the_decoded_images_would_not_fit(folder, tmp_path, capsys, monkeypatch):
    photographs, cache = FolderPhotographs(folder, NAMES), tmp_path / "cache"
    needed = N * SIZE * SIZE * 3
    usage = type("Usage", (), {"free": needed})
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    store, _ = open_images(photographs, SIZE, cache_dir=cache)
    assert isinstance(store, StreamedImages) and not cache.exists()
    said = capsys.readouterr().out
    assert "0.0 GB are free" in said and "image_store=stream" in said
    usage.free = 2 * needed
    decoded, _ = open_images(photographs, SIZE, cache_dir=cache)
    assert not isinstance(decoded, StreamedImages) and capsys.readouterr().out == ""
    usage.free = 0
    assert not isinstance(
        open_images(photographs, SIZE, cache_dir=cache)[0], StreamedImages
    )  # it is there already
    assert isinstance(
        open_images(photographs, SIZE, cache_dir=cache, image_store="stream:exact")[0], StreamedImages
    )
    with pytest.raises(UnknownName, match="decoded"):
        open_images(photographs, SIZE, image_store="strem")
    missing = FolderPhotographs(folder, [*NAMES, "A/none.jpg"])
    assert list(open_images(missing, SIZE, image_store="stream")[1]) == [N]


def test_a_source_streams_by_option(folder, tmp_path):
    options = {"image_size": SIZE, "cache_dir": tmp_path / "cache"}
    streamed = load_specimens("folder", folder, image_store="stream:exact", **options)
    decoded = load_specimens("folder", folder, **options)
    assert isinstance(streamed.images, StreamedImages)
    assert (streamed.images.pixels(range(N)) == decoded.images.pixels(range(N))).all()


def test_numbers_that_are_none_are_refused_by_name():
    for numbers, name in (
        ((-5, None, 0.1), "image_size=-5"),
        ((8, -1, 0.1), "workers=-1"),
        ((8, 0, 0.1), "workers=0"),
    ):
        with pytest.raises(SpecimenError, match=name):
            require_numbers(*numbers)
    for share in ("0,5", 5, -0.1, None):
        with pytest.raises(SpecimenError, match=r"max_unreadable=.*0\.05"):
            require_numbers(8, None, share)
    require_numbers(8, None, "0.5")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_photographs(folder):
    """A listing of a million photographs (the same few over and over): a batch of it takes no more than of 10,000."""

    def growth(n):
        store = StreamedImages(FolderPhotographs(folder, [NAMES[i % N] for i in range(n)]), SIZE, workers=2)
        store.pixels(np.arange(64))
        gc.collect()
        before = psutil.Process().memory_info().rss
        for start in range(0, 20 * 64, 64):
            store.pixels(np.random.default_rng(start).integers(0, n, 64))
        return psutil.Process().memory_info().rss - before

    small, large = growth(10_000), growth(1_000_000)
    assert large < small + 16 * 2**20


# More than 8 bits per value


def saved(values, kind, **tags):
    out, given = io.BytesIO(), TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        given[{"largest": 281, "largest_fraction": 341}[name]] = value
    options = {"tiffinfo": given} if kind == "TIFF" else {}
    Image.fromarray(values).save(out, kind, **options)
    return out.getvalue()


def grey(content):
    image = decode(content, 4)
    assert not hasattr(image, "reason"), image
    return int(image[0, 0, 0])


def test_scale_follows_type_and_tag_never_the_values_of_one_photograph():
    def flat(value, kind):
        return np.full((8, 8), value, kind)

    for kind in ("PNG", "TIFF"):
        assert [grey(saved(flat(v, np.uint16), kind)) for v in (250, 260, 77 * 256, 65535)] == [0, 1, 77, 255]
    twelve_bits = [saved(flat(v, np.uint16), "TIFF", largest=4095) for v in (250, 260, 4095)]
    assert [grey(content) for content in twelve_bits] == [15, 16, 255]
    assert [grey(saved(flat(v, np.float32), "TIFF")) for v in (0, 0.5, 1)] == [0, 127, 255]
    assert grey(saved(flat(200, np.float32), "TIFF", largest_fraction=255.0)) == 200
    assert "fractions up to 200" in decode(saved(flat(200, np.float32), "TIFF"), 4).reason


def test_a_photograph_of_too_many_pixels_says_so(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)
    reason = decode(saved(np.zeros((2000, 1500), np.uint8), "PNG"), 8).reason
    assert reason.startswith("it has 3 million pixels, and more than 2 million are not read")
