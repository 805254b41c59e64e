"""The image cache: the pixels `decode` gives, once; it goes on after a kill, a full disk, a second builder."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import threading
import time
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from bionas.errors import BionasError, PhotographError, SpecimenError, UnknownName
from bionas.specimens import ImageStore
from bionas.specimens import image_cache as module
from bionas.specimens.decoding import FITS, decode
from bionas.specimens.image_cache import image_cache
from bionas.specimens.photographs import FolderPhotographs, ZippedPhotographs, locate

N, SIZE = 40, 16


def photograph(i, **how):
    """A JPEG of its own size and colours."""
    small = np.random.default_rng(i).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((60 + i, 50 + i % 7)).save(out, "JPEG", quality=90, **how)
    return out.getvalue()


NAMES = [f"{i % 3}/{i:03}.jpg" for i in range(N)]


@pytest.fixture
def folder(tmp_path):
    for i, name in enumerate(NAMES):
        (tmp_path / "moths" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "moths" / name).write_bytes(photograph(i))
    return tmp_path / "moths"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def built(folder, cache, names=NAMES, **options):
    return image_cache(FolderPhotographs(folder, names), SIZE, cache_dir=cache, **options)


def suffixes(cache):
    """What the cache folder holds, but for lock files, which may stay behind."""
    return sorted(path.suffix for path in cache.iterdir() if path.suffix != ".lock")


# What it holds


def plainly(path, size, fit):
    """One photograph, step by step as Pillow's manual has it."""
    image = Image.open(path)
    image.draft("RGB", (2 * size, 2 * size))
    upright = ImageOps.exif_transpose(image).convert("RGB")
    width, height = upright.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        upright = upright.crop((left, top, left + side, top + side))
    elif fit == "pad":
        side = max(width, height)
        whole = Image.new("RGB", (side, side), (128, 128, 128))
        whole.paste(upright, ((side - width) // 2, (side - height) // 2))
        upright = whole
    return np.asarray(upright.resize((size, size), Image.Resampling.LANCZOS))


@pytest.mark.parametrize("fit", sorted(FITS))
def test_pixels_are_those_of_each_photograph_alone(folder, cache, fit):
    exif = Image.Exif()
    exif[0x0112] = 6
    (folder / NAMES[3]).write_bytes(photograph(3, exif=exif))
    store, unreadable = built(folder, cache, fit=fit)
    assert unreadable == {} and len(store) == N and store.size == SIZE
    pixels = store.pixels(np.arange(N))
    for i, name in enumerate(NAMES):
        assert (pixels[i] == plainly(folder / name, SIZE, fit)).all()
        assert (pixels[i] == decode(folder / name, SIZE, fit)).all()
        assert (pixels[i] == decode((folder / name).read_bytes(), SIZE, fit)).all()


def test_the_second_opening_decodes_nothing(folder, cache, monkeypatch):
    first, _ = built(folder, cache)
    assert suffixes(cache) == [".json", ".npy"]
    monkeypatch.setattr(module, "decode", None)
    again, unreadable = built(folder, cache)
    assert again.fingerprint == first.fingerprint and unreadable == {}
    assert (again.pixels(range(N)) == first.pixels(range(N))).all()


def test_each_size_fit_and_selection_is_its_own_cache(folder, cache):
    photographs = FolderPhotographs(folder, NAMES)
    prints = [built(folder, cache)[0].fingerprint]
    prints += [image_cache(photographs, SIZE, fit, cache)[0].fingerprint for fit in ("crop", "pad")]
    prints += [image_cache(photographs, 8, cache_dir=cache)[0].fingerprint]
    prints += [image_cache(photographs.subset(np.arange(N)[::-1]), SIZE, cache_dir=cache)[0].fingerprint]
    assert len(set(prints)) == 5 and suffixes(cache) == [".json"] * 5 + [".npy"] * 5
    with pytest.raises(UnknownName, match="'stretch'"):
        image_cache(photographs, SIZE, "strech", cache)


def test_the_fingerprint_is_that_of_the_pixels(folder, cache, tmp_path):
    first = built(folder, cache)[0].fingerprint
    assert built(folder, tmp_path / "other", workers=3)[0].fingerprint == first
    os.utime(folder / NAMES[7], ns=(0, 0))  # touched, not changed: built again, the same
    assert built(folder, cache)[0].fingerprint == first and len(suffixes(cache)) == 4
    (folder / NAMES[7]).write_bytes(photograph(1007))
    assert built(folder, cache)[0].fingerprint != first


def test_blocks_depend_on_the_collection_alone_and_are_never_large():
    assert [module._block(n, 64) for n in (3, 19, 5_598, 5_150_850)] == [8, 8, 87, 256]
    assert module._block(10**6, 224) * 224 * 224 * 3 <= 8 * 2**20 and module._block(10**6, 4096) == 1


def test_archives_give_the_same_images_in_the_order_asked_for(folder, cache):
    members = [f"bioscan5m/images/cropped_256/train/{name}" for name in NAMES]
    with zipfile.ZipFile(folder.parent / "BIOSCAN_5M_cropped_256_train.zip", "w") as archive:
        for i in np.random.default_rng(1).permutation(N):
            archive.write(folder / NAMES[i], members[i])
    photographs = locate(
        folder.parent, ["BIOSCAN_5M_cropped_256_train.zip"], "bioscan5m/images/cropped_256", members
    )
    assert isinstance(photographs, ZippedPhotographs) and (photographs.order() != np.arange(N)).any()
    store, unreadable = image_cache(photographs, SIZE, cache_dir=cache)
    of_folder, _ = built(folder, cache)
    assert unreadable == {} and (store.pixels(range(N)) == of_folder.pixels(range(N))).all()
    assert (store.subset([5, 3]).pixels([1, 0]) == of_folder.pixels([3, 5])).all()
    again, _ = image_cache(photographs, SIZE, cache_dir=cache)
    assert again.fingerprint == store.fingerprint


def test_a_mixed_bag_is_black_where_nothing_can_be_read_and_says_why(folder, cache):
    whole = (folder / NAMES[5]).read_bytes()
    (folder / NAMES[5]).write_bytes(whole[: len(whole) // 2])
    (folder / NAMES[6]).write_bytes(b"")
    (folder / NAMES[9]).write_text("a note")
    (folder / NAMES[11]).unlink()
    (folder / NAMES[12]).unlink()
    (folder / NAMES[12]).mkdir()
    for _ in range(2):  # built, then from the cache
        store, unreadable = built(folder, cache)
        assert sorted(unreadable) == [5, 6, 9, 11, 12] and "truncated" in unreadable[5]
        assert [unreadable[i] for i in (6, 9, 11, 12)] == [
            "the file is empty",
            "not an image",
            "it is missing",
            "Is a directory",
        ]
        black = [i for i in range(N) if not store.pixels([i]).any()]
        assert black == sorted(unreadable)


def test_a_damaged_member_of_an_archive_is_one_black_image(folder, cache):
    path = folder.parent / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in NAMES:
            archive.write(folder / name, name)
    spoilt = bytearray(path.read_bytes())
    spoilt[spoilt.index((folder / NAMES[4]).read_bytes()) + 300] ^= 255
    path.write_bytes(spoilt)
    _, unreadable = image_cache(ZippedPhotographs([path], [*NAMES, "none.jpg"]), SIZE, cache_dir=cache)
    assert (
        list(unreadable) == [4, N]
        and "checksum in a.zip is wrong" in unreadable[4]
        and "missing" in unreadable[N]
    )


def test_missing_photographs_take_no_space(cache, folder):
    names = [*NAMES, *(f"none/{i}.jpg" for i in range(20_000))]
    store, unreadable = built(folder, cache, names)
    assert len(store) == 20_040 and len(unreadable) == 20_000
    (pixels,) = cache.glob("*.npy")
    assert pixels.stat().st_size > 15e6 and pixels.stat().st_blocks * 512 < 1e6


def test_no_photographs_at_all(cache, folder):
    store, unreadable = built(folder, cache, [])
    assert len(store) == 0 and unreadable == {} and store.take([]).shape == (0, 3, SIZE, SIZE)


def test_field_photographs(shared_data, cache):
    names = sorted(
        str(path.relative_to(shared_data)) for path in (shared_data / "field_orders").rglob("*.jpg")
    )[::100]
    names += sorted(
        str(path.relative_to(shared_data)) for path in (shared_data / "bioscan1m_specimens").rglob("*.jpg")
    )[:2]
    store, unreadable = image_cache(FolderPhotographs(shared_data, names), 32, "crop", cache)
    assert unreadable == {}
    for i, name in enumerate(names):
        assert (store.pixels([i])[0] == plainly(shared_data / name, 32, "crop")).all()


# A kill


class Builder:
    """Another process that builds the same cache, with all the time in the world; it writes down the fingerprint."""

    def __init__(self, folder, cache):
        self.cache, self.note = cache, folder.with_name("fingerprint")
        self.pid = os.fork()
        if self.pid == 0:
            try:
                module.decode = lambda *how: time.sleep(0.02) or decode(*how)
                self.note.write_text(built(folder, cache, workers=2)[0].fingerprint)
                os._exit(0)
            finally:
                os._exit(1)

    def until(self, blocks):
        """Wait until that many blocks are in the journal."""
        deadline = time.monotonic() + 600
        while lines(self.cache) < blocks:
            assert os.waitpid(self.pid, os.WNOHANG) == (0, 0) and time.monotonic() < deadline
            time.sleep(0.01)
        return self

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self):
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def lines(cache):
    return sum(path.read_bytes().count(b"\n") for path in cache.glob("*.journal"))


def test_a_killed_build_goes_on_where_it_was(folder, cache, tmp_path, monkeypatch):
    whole, _ = built(folder, tmp_path / "whole")
    process = Builder(folder, cache).until(blocks=2)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert suffixes(cache) == [".building", ".journal"]
    done = lines(cache)
    decoded = []
    monkeypatch.setattr(
        module, "decode", lambda content, *how: decoded.append(content) or decode(content, *how)
    )
    store, unreadable = built(folder, cache)  # the dead owner's lock holds nobody up
    assert len(decoded) == N - 8 * done and unreadable == {}
    assert store.fingerprint == whole.fingerprint and (store.pixels(range(N)) == whole.pixels(range(N))).all()
    assert suffixes(cache) == [".json", ".npy"]
    (one,), (other,) = cache.glob("*.npy"), (tmp_path / "whole").glob("*.npy")
    assert one.read_bytes() == other.read_bytes()


@pytest.fixture
def half_built(folder, cache, monkeypatch):
    """A build that stopped after three of five blocks; the third holds an unreadable photograph."""
    (folder / NAMES[17]).write_text("a note")

    def failing(content, *how):
        if content == photograph(24):
            raise KeyboardInterrupt
        return decode(content, *how)

    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", failing)
        with pytest.raises(KeyboardInterrupt):
            built(folder, cache, workers=1)
    assert lines(cache) == 3
    return cache


@pytest.mark.parametrize("damage", ["a torn line", "another file", "nonsense", "no file"])
def test_what_a_crash_of_the_machine_spoils_is_built_again(half_built, folder, tmp_path, damage):
    (journal,), (partial,) = half_built.glob("*.journal"), half_built.glob("*.building")
    if damage == "a torn line":
        journal.write_bytes(journal.read_bytes()[:-30])
    elif damage == "another file":
        partial.write_bytes(b"\x93NUMPY and so on")
    elif damage == "nonsense":
        journal.write_text('{"a": 1}\n[99, "00", {}]\n[1]\n17\n[0, "beef", {"x": 1}]\n[1, null, {"3": ""}]\n')
    else:
        partial.unlink()
    store, unreadable = built(folder, half_built)
    assert store.fingerprint == built(folder, tmp_path / "whole")[0].fingerprint and list(unreadable) == [17]


def test_a_finished_cache_that_was_cut_short_is_built_again(folder, cache):
    first, _ = built(folder, cache)
    (pixels,), (facts,) = cache.glob("*.npy"), cache.glob("*.json")
    pixels.write_bytes(pixels.read_bytes()[:-100])
    assert built(folder, cache)[0].fingerprint == first.fingerprint
    for text in ('{"key": ', "[]", json.dumps({"key": "other", "fingerprint": "", "unreadable": {}})):
        facts.write_text(text)
        assert built(folder, cache)[0].fingerprint == first.fingerprint


# A full disk


def test_a_full_disk_keeps_what_was_built(folder, cache, tmp_path, monkeypatch):
    write, written = module._BlockFile.write, []

    def on_a_small_disk(file, content, place):
        if place and len(written) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        if place:
            written.append(place)
        return write(file, content, place)

    with monkeypatch.context() as patch:
        patch.setattr(module._BlockFile, "write", on_a_small_disk)
        with pytest.raises(
            BionasError, match="no space left in .*cache .*moths.*free some space and run the same"
        ):
            built(folder, cache, workers=1)
    assert suffixes(cache) == [".building", ".journal"] and lines(cache) == 3
    decoded = []
    monkeypatch.setattr(module, "decode", lambda *how: decoded.append(how) or decode(*how))
    store, _ = built(folder, cache)
    assert len(decoded) == N - 3 * 8 and store.fingerprint == built(folder, tmp_path / "whole")[0].fingerprint


def test_a_disk_too_small_is_said_before_anything_is_decoded(folder, cache, monkeypatch):
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": N * SIZE * SIZE * 3 - 1})
    )
    monkeypatch.setattr(module, "decode", None)
    with pytest.raises(
        BionasError, match="40 photographs at 16 px need 0.0 GB .*another cache_dir, or .* image_size"
    ):
        built(folder, cache)


def test_what_is_done_needs_no_space_again(half_built, folder, monkeypatch):
    monkeypatch.setattr(
        module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 16 * SIZE * SIZE * 3})
    )
    assert len(built(folder, half_built)[0]) == N


def test_a_folder_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BionasError, match="cannot write in .*file"):
        built(folder, tmp_path / "file" / "cache")


def test_photographs_that_go_away_end_the_build_and_spoil_nothing(folder, cache, monkeypatch):
    moved = folder.with_name("unplugged")

    def unplugging(content, *how):
        if content == photograph(24):
            folder.rename(moved)
        return decode(content, *how)

    photographs = FolderPhotographs(folder, NAMES)
    with monkeypatch.context() as patch:
        patch.setattr(module, "decode", unplugging)
        with pytest.raises(SpecimenError, match="cannot be read any more") as error:
            image_cache(photographs, SIZE, cache_dir=cache, workers=1)
    assert not isinstance(error.value, PhotographError) and lines(cache) == 3
    moved.rename(folder)
    assert built(folder, cache)[1] == {}


# Two at once


def test_a_second_process_waits_and_uses_what_the_first_built(folder, cache, monkeypatch):
    process = Builder(folder, cache).until(blocks=1)
    words = []
    bar = module._bar
    monkeypatch.setattr(module, "_bar", lambda text, n: words.append(text) or bar(text, n))
    monkeypatch.setattr(module, "decode", None)
    monkeypatch.setattr(module.locks, "POLL", 0.02)
    store, _ = built(folder, cache)
    assert process.wait() == 0 and process.note.read_text() == store.fingerprint
    assert len(words) == 1 and words[0].startswith("waiting for another process")
    assert suffixes(cache) == [".json", ".npy"]


def test_the_one_who_waited_goes_on_when_the_first_is_killed(folder, cache, tmp_path, monkeypatch):
    process = Builder(folder, cache).until(blocks=1)
    monkeypatch.setattr(module.locks, "POLL", 0.02)
    threading.Timer(0.1, process.kill).start()
    store, _ = built(folder, cache)
    assert process.wait() == -signal.SIGKILL
    assert store.fingerprint == built(folder, tmp_path / "whole")[0].fingerprint


def test_many_threads_of_one_process_build_it_once(folder, cache, monkeypatch):
    decoded, stores = [], []
    monkeypatch.setattr(module, "decode", lambda *how: decoded.append(how) or decode(*how))
    monkeypatch.setattr(module.locks, "POLL", 0.01)
    threads = [
        threading.Thread(target=lambda: stores.append(built(folder, cache, workers=2)[0])) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decoded) == N and len({store.fingerprint for store in stores}) == 1 and len(stores) == 5


# Drawing by index


def mapped(tmp_path, n=300):
    pixels = np.random.default_rng(0).integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    return pixels, ImageStore.open(tmp_path / "images.npy")


def test_any_images_in_any_order_from_a_map(tmp_path):
    pixels, store = mapped(tmp_path)
    generator = np.random.default_rng(1)
    for rows in (
        [],
        [0],
        [299],
        [5, 5, 5],
        generator.permutation(300),
        generator.integers(0, 300, 64),
        np.arange(10, 20),
    ):
        rows = np.asarray(rows, dtype=np.int64)
        assert (store.pixels(rows) == pixels[rows]).all()
        assert (store.take(rows).numpy() == pixels[rows].transpose(0, 3, 1, 2)).all()
    part = store.subset([7, 3, 250]).subset([2, 0])
    assert (part.pixels([0, 1]) == pixels[[250, 7]]).all()
    taken = store.take(np.arange(4))
    assert taken.is_contiguous(memory_format=torch.channels_last)
    taken += 1  # a copy: the map itself is read only
    assert (store.pixels([0, 1]) == pixels[:2]).all()


@pytest.mark.parametrize("positions", [[-1], [300], [5, 1000]])
def test_a_position_outside_is_no_other_image(tmp_path, positions):
    _, store = mapped(tmp_path)
    with pytest.raises(IndexError, match="in a store of 300 images"):
        store.pixels(positions)
    with pytest.raises(IndexError):
        store.subset(positions)
