"""Where photographs are read from: the archives laid out as BIOSCAN-5M's, the extracted tree, both, and damaged ones."""

from __future__ import annotations

import copy
import os
import struct
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from bionas.errors import PhotographError, SpecimenError
from bionas.specimens.archives import Archive, name_hashes
from bionas.specimens.photographs import FirstFound, FolderPhotographs, ZippedPhotographs, locate, packed

TREE = "bioscan5m/images/cropped_256"
TRAIN, EVAL = "BIOSCAN_5M_cropped_256_train.zip", "BIOSCAN_5M_cropped_256_eval.zip"
ARCHIVES = (TRAIN, EVAL, "BIOSCAN_5M_cropped_256_pretrain.01.zip", "BIOSCAN_5M_cropped_256_pretrain.02.zip")
OF = {
    TRAIN: [f"train/{i % 16:x}/AACTA{i:04}-20.jpg" for i in range(30)],
    EVAL: [
        "val/AACTA161-20.jpg",
        "test/YGEN995-22.jpg",
        "key_unseen/ABOTH8801-22.jpg",
        "other_heldout/0/ABSSI16-22.jpg",
    ],
}


def content(name):
    """A few hundred bytes that no other name has."""
    return (
        np.random.default_rng(zlib.crc32(name.encode()))
        .integers(0, 256, 100 + len(name) * 7, np.uint8)
        .tobytes()
    )


def zipped(path, names, method=zipfile.ZIP_STORED, **options):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir(f"{TREE}/{names[0].split('/')[0]}")  # a folder is a member too, without bytes
        for name in names:
            with archive.open(zipfile.ZipInfo(f"{TREE}/{name}"), "w", **options) as file:
                file.write(content(name))
    return path


@pytest.fixture
def download(tmp_path):
    folder = tmp_path / "bioscan"
    folder.mkdir()
    for name, members in OF.items():
        zipped(folder / name, members)
    return folder


def extracted(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content(name))


def members(*names):
    return [f"{TREE}/{name}" for name in names]


ALL = [*OF[EVAL], *OF[TRAIN]]


def reads_right(photographs, names):
    return (
        all(photographs.read(i) == content(name) for i, name in enumerate(names))
        and photographs.present.all()
    )


# Archives


def test_members_are_read_where_they_lie(download, tmp_path):
    photographs = ZippedPhotographs([download / TRAIN, download / EVAL], members(*ALL), tmp_path / "cache")
    assert len(photographs) == 34 and reads_right(photographs, ALL)
    assert photographs.name(0) == f"{TREE}/val/AACTA161-20.jpg"
    assert photographs.label == "BIOSCAN_5M_cropped_256"
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(photographs.read, [*range(34)] * 20)) == [content(name) for name in ALL] * 20


def test_a_forked_process_reads_the_same(download):
    photographs = ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]))
    child = os.fork()
    if child == 0:
        os._exit(0 if reads_right(photographs, OF[TRAIN]) else 1)
    assert reads_right(photographs, OF[TRAIN])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (zipfile.ZIP_DEFLATED, {}),
        (zipfile.ZIP_STORED, {"force_zip64": True}),
        (zipfile.ZIP_DEFLATED, {"force_zip64": True}),
    ],
)
def test_deflated_and_zip64_members(tmp_path, method, options):
    path = zipped(tmp_path / TRAIN, OF[TRAIN], method, **options)
    assert reads_right(ZippedPhotographs([path], members(*OF[TRAIN])), OF[TRAIN])


def test_an_archive_over_four_gigabytes(
    tmp_path,
):  # BIOSCAN-5M's are of 7 to 36 GB; this one is mostly a hole
    near, far, name = "train/0/near.jpg", "train/0/far.jpg", "train/0/between.bin"
    with zipfile.ZipFile(tmp_path / TRAIN, "w") as archive:
        archive.writestr(f"{TREE}/{near}", content(near))
        archive.fp.seek(archive.start_dir + (5 << 30))
        archive.start_dir = archive.fp.tell()
        archive.writestr(f"{TREE}/{far}", content(far))
        archive.comment = b"with a comment"
    photographs = ZippedPhotographs([tmp_path / TRAIN], members(near, far, name))
    assert photographs.read(0) == content(near) and photographs.read(1) == content(far)
    assert photographs.present.tolist() == [True, True, False]


def test_the_extra_field_of_zip64_stands_behind_others(tmp_path):  # as Info-ZIP writes it, after the times
    path = zipped(tmp_path / TRAIN, OF[TRAIN][:3])
    whole = path.read_bytes()
    first = whole.index(b"PK\x01\x02")
    directory, out = whole[first : whole.rindex(b"PK\x05\x06")], b""
    while directory:
        lengths = struct.unpack_from("<HHH", directory, 28)
        head, name = bytearray(directory[:46]), directory[46 : 46 + lengths[0]]
        packed_size, size, offset = (
            struct.unpack_from("<I", head, 20)[0],
            *struct.unpack_from("<I", head, 24),
            *struct.unpack_from("<I", head, 42),
        )
        extra = (
            struct.pack("<HHBI", 0x5455, 5, 3, 0)
            + struct.pack("<HHQQ", 1, 16, size, offset)
            + struct.pack("<HH", 7, 0)
        )
        struct.pack_into("<I", head, 24, 0xFFFFFFFF)
        struct.pack_into("<I", head, 42, 0xFFFFFFFF)
        struct.pack_into("<H", head, 30, len(extra))
        out += bytes(head) + name + extra
        assert packed_size == size
        directory = directory[46 + sum(lengths) :]
    n = whole.count(b"PK\x01\x02")
    path.write_bytes(
        whole[:first] + out + struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, n, n, len(out), first, 0)
    )
    assert reads_right(ZippedPhotographs([path], members(*OF[TRAIN][:3])), OF[TRAIN][:3])


def test_more_members_than_a_plain_zip_can_count(tmp_path):
    names = [f"{TREE}/pretrain/{i % 256:02x}/X{i:06}.jpg" for i in range(66_000)]
    with zipfile.ZipFile(tmp_path / ARCHIVES[2], "w") as archive:
        archive.writestr(zipfile.ZipInfo(names[0]), b"")
        archive.filelist.extend(copy.copy(archive.filelist[0]) for _ in names[1:])
        for member, name in zip(archive.filelist, names, strict=True):  # a table of contents is enough here
            member.filename = name
    archive = Archive(tmp_path / ARCHIVES[2])
    assert len(archive) == 66_000
    found = archive.find(packed([*names[::-1], "another"]))
    assert len(set(found[:-1].tolist())) == 66_000 and found[-1] == -1
    assert archive.read(int(found[-2]), names[0].encode()) == b""


def test_equal_names_have_equal_hashes_wherever_they_lie():
    names = [b"", b"a", b"ab", b"a" * 7, b"a" * 8, b"a" * 9, b"a" * 16, b"a" * 60, b"\0", b"\0\0", b"a\0"]
    together = name_hashes(pa.array(names, pa.large_binary()))
    assert len(set(together.tolist())) == len(names)
    for name, value in zip(names, together, strict=True):
        assert name_hashes(pa.array([name], pa.large_binary()))[0] == value
        assert name_hashes(pa.array([b"zzz", name, b"q" * 50], pa.large_binary())[1:])[0] == value


def test_the_index_is_kept_until_the_archive_changes(download, tmp_path):
    cache = tmp_path / "cache"
    ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]), cache)
    (kept,) = cache.iterdir()
    made = kept.stat().st_mtime_ns
    photographs = ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]), cache)
    assert reads_right(photographs, OF[TRAIN]) and kept.stat().st_mtime_ns == made
    kept.write_bytes(kept.read_bytes()[:100])  # an index cut short is made again
    assert reads_right(ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]), cache), OF[TRAIN])
    zipped(download / TRAIN, OF[TRAIN][:5])
    now = ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]), cache)
    assert now.present.sum() == 5 and now.key != photographs.key


# Damage


def test_an_archive_cut_short_anywhere_says_so(download):
    path = download / TRAIN
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    for kept in (
        3,
        1000,
        directory,
        directory + 30,
        (directory + len(whole)) // 2,
        len(whole) - 10,
        len(whole) - 1,
    ):
        path.write_bytes(whole[:kept])
        with pytest.raises(SpecimenError, match=rf"{TRAIN} is cut short: {kept:,} bytes.*bionas fetch"):
            Archive(path)


def test_an_archive_with_a_piece_missing_says_so(download):
    path = download / TRAIN
    whole = path.read_bytes()
    for start, stop in [(0, 500), (2000, 2700), (len(whole) - 400, len(whole) - 200)]:
        path.write_bytes(whole[:start] + whole[stop:])
        with pytest.raises(SpecimenError, match=rf"{TRAIN} is damaged.*bionas fetch"):
            Archive(path)


@pytest.mark.parametrize(
    "text", ["<html>404</html>", "version https://git-lfs.github.com/spec/v1\noid sha256:4d\n"]
)
def test_what_is_no_archive_says_so(tmp_path, text):
    (tmp_path / EVAL).write_text(text)
    with pytest.raises(SpecimenError, match=rf"{EVAL} is no ZIP archive.*{text[:4]}.*bionas fetch"):
        Archive(tmp_path / EVAL)
    (tmp_path / EVAL).write_text("")
    with pytest.raises(SpecimenError, match="cut short: 0 bytes"):
        Archive(tmp_path / EVAL)
    with pytest.raises(SpecimenError, match="cannot be opened: No such file"):
        Archive(tmp_path / TRAIN)


def spoilt(download, at, with_bytes):
    whole = bytearray((download / TRAIN).read_bytes())
    whole[at : at + len(with_bytes)] = with_bytes
    (download / TRAIN).write_bytes(whole)
    return ZippedPhotographs([download / TRAIN], members(*OF[TRAIN]))


def test_one_damaged_member_leaves_the_others_readable(download):
    whole = (download / TRAIN).read_bytes()
    at = whole.index(content(OF[TRAIN][4]))
    photographs = spoilt(download, at + 50, b"\0\0\0\0")
    with pytest.raises(PhotographError, match=rf"{OF[TRAIN][4]}: its checksum in {TRAIN} is wrong"):
        photographs.read(4)
    assert photographs.read(3) == content(OF[TRAIN][3]) and photographs.read(5) == content(OF[TRAIN][5])


def test_a_hole_where_a_member_should_begin(download):
    whole = (download / TRAIN).read_bytes()
    at = whole.index(f"{TREE}/{OF[TRAIN][4]}".encode())
    with pytest.raises(PhotographError, match="no member begins at byte"):
        spoilt(download, at - 30, bytes(30)).read(4)
    (download / TRAIN).write_bytes(whole)
    with pytest.raises(PhotographError, match="another member is at byte"):
        spoilt(download, at, b"BIOSCAN").read(4)


def test_damaged_deflated_data_and_methods_nobody_knows(tmp_path):
    path = zipped(tmp_path / TRAIN, OF[TRAIN], zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    at = whole.index(f"{TREE}/{OF[TRAIN][4]}".encode()) + len(f"{TREE}/{OF[TRAIN][4]}")
    with pytest.raises(PhotographError, match="damaged|checksum"):
        spoilt(tmp_path, at, b"\xff" * 20).read(4)
    record = whole.rindex(f"{TREE}/{OF[TRAIN][4]}".encode()) - 46
    path.write_bytes(whole)
    with pytest.raises(PhotographError, match="method 14"):
        spoilt(tmp_path, record + 10, struct.pack("<H", 14)).read(4)
    path.write_bytes(whole)
    with pytest.raises(PhotographError, match="encrypted"):
        spoilt(tmp_path, record + 8, struct.pack("<H", 1)).read(4)


# The tree, and both


def test_a_folder_reads_what_is_there_and_says_what_is_not(tmp_path):
    extracted(tmp_path / "moths", OF[EVAL])
    photographs = FolderPhotographs(tmp_path / "moths", [*OF[EVAL], "val/none.jpg"])
    assert photographs.present.tolist() == [True] * 4 + [False] and photographs.label == "moths"
    assert reads_right(photographs.subset(np.arange(4)), OF[EVAL])
    with pytest.raises(PhotographError, match=r"val/none.jpg: No such file"):
        photographs.read(4)
    (tmp_path / "moths").rename(tmp_path / "gone")
    with pytest.raises(SpecimenError, match="cannot be read any more") as error:
        photographs.read(0)
    assert not isinstance(error.value, PhotographError)


def test_names_may_be_any_bytes_and_any_kind_of_column(tmp_path):
    odd = os.fsdecode(b"caf\xe9.jpg")
    extracted(tmp_path, ["a.jpg"])
    (tmp_path / odd).write_bytes(b"odd")
    photographs = FolderPhotographs(tmp_path, ["a.jpg", odd])
    assert photographs.present.all() and photographs.read(1) == b"odd" and photographs.name(1) == odd
    names = ["a.jpg", "b.jpg", "a.jpg"]
    for column in (
        pd.Series(names),
        pd.Series(names, dtype="category"),
        pd.Series(names, dtype="string[pyarrow]"),
        pa.chunked_array([names[:1], names[1:]]),
        tuple(names),
        np.array(names, dtype=object),
    ):
        assert packed(column).to_pylist() == [b"a.jpg", b"b.jpg", b"a.jpg"]
    assert packed([]).to_pylist() == [] and packed(["a", None]).to_pylist() == [b"a", b""]


def test_the_key_follows_names_sizes_and_times(tmp_path):
    extracted(tmp_path, OF[EVAL])
    key = FolderPhotographs(tmp_path, OF[EVAL]).key
    assert FolderPhotographs(tmp_path, OF[EVAL]).key == key != FolderPhotographs(tmp_path, OF[EVAL][::-1]).key
    file = tmp_path / OF[EVAL][0]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert FolderPhotographs(tmp_path, OF[EVAL]).key != key


def test_the_key_of_an_archive_follows_its_content_not_its_time(download):
    names = members(*OF[TRAIN])
    key = ZippedPhotographs([download / TRAIN], names).key
    os.utime(download / TRAIN, ns=(0, 0))
    assert ZippedPhotographs([download / TRAIN], names).key == key
    (download / TRAIN).unlink()
    zipped(download / TRAIN, OF[TRAIN][::-1])
    assert ZippedPhotographs([download / TRAIN], names).key != key  # they lie in another order


def test_the_order_is_that_of_the_archives(download):
    shuffled = np.random.default_rng(0).permutation(34)
    names = members(*np.array(ALL)[shuffled], "val/none.jpg")
    photographs = ZippedPhotographs([download / TRAIN, download / EVAL], names)
    order = photographs.order()
    expected = [*members(*OF[TRAIN]), *members(*OF[EVAL]), f"{TREE}/val/none.jpg"]
    assert [photographs.name(i) for i in order] == expected


@pytest.mark.parametrize("place", ["", "bioscan5m", "bioscan5m/images", "images"])
def test_archives_are_found_where_people_put_them(download, place):
    for name in OF:
        (download / place).mkdir(parents=True, exist_ok=True)
        (download / name).rename(download / place / name)
    photographs = locate(download, ARCHIVES, TREE, members(*ALL))
    assert isinstance(photographs, ZippedPhotographs) and reads_right(photographs, ALL)


@pytest.mark.parametrize("place", [TREE, "images/cropped_256", "cropped_256"])
def test_the_extracted_tree_is_preferred(download, place):
    extracted(download / place, ALL)
    (download / TRAIN).write_bytes(b"not even opened")
    photographs = locate(download, ARCHIVES, TREE, members(*ALL))
    assert isinstance(photographs, FolderPhotographs) and reads_right(photographs, ALL)


def test_what_the_tree_lacks_comes_from_the_archives(download):
    extracted(download / TREE, ALL[::3])
    (download / TREE / ALL[3]).write_bytes(b"the tree's")
    names = [*ALL, "val/none.jpg"]
    photographs = locate(download, ARCHIVES, TREE, members(*names))
    assert isinstance(photographs, FirstFound)
    assert photographs.read(3) == b"the tree's" and photographs.read(1) == content(ALL[1])
    assert photographs.present.tolist() == [True] * 34 + [False]
    with pytest.raises(PhotographError, match="none.jpg: it is missing"):
        photographs.read(34)
    assert sorted(photographs.order()) == [*range(35)]
    backwards = photographs.subset(np.arange(35)[::-1])
    assert not backwards.present[0] and all(backwards.read(34 - i) == photographs.read(i) for i in range(34))
    assert len({photographs.key, backwards.key, photographs.subset(np.arange(34)).key}) == 3
    only_archives = locate(download, ARCHIVES, TREE, members(*ALL[1::3]))
    assert isinstance(only_archives, ZippedPhotographs) and reads_right(only_archives, ALL[1::3])


def test_nothing_there(tmp_path):
    with pytest.raises(SpecimenError, match=rf"neither the folder {TREE} nor one of {TRAIN}.*bionas fetch"):
        locate(tmp_path, ARCHIVES, TREE, members(*ALL))
    with pytest.raises(SpecimenError, match="not below.*'elsewhere/a.jpg'"):
        locate(tmp_path, ARCHIVES, TREE, ["elsewhere/a.jpg"])
