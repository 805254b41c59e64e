"""Photographs inside ZIP archives of millions of members, read in place.

Python's own `zipfile` keeps an object of half a kilobyte for each member. `Archive` keeps its table of contents as a
mapped array of 40 bytes a member, sorted by a hash of the name, made once and kept in the cache folder. Reads name their
place (`files.read_at`), so any number of threads may share one archive. ZIP64 (archives over 4 GB, of
more than 65,535 members), stored and deflated members are understood: APPNOTE.TXT 6.3, sections 4.3-4.5.
"""

from __future__ import annotations

import array
import contextlib
import os
import struct
import weakref
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa

from bionas.errors import PhotographError, SpecimenError
from bionas.system.files import read_at, replacing

ENTRY = np.dtype(
    [
        ("name", "<u8"),
        ("offset", "<i8"),
        ("packed", "<i8"),
        ("size", "<i8"),
        ("crc", "<u4"),
        ("method", "<u2"),
        ("flags", "<u2"),
    ]
)
"""A member: hash of its name, where its local header begins, bytes in the archive, bytes unpacked, checksum."""

INDEX = 1
"""Raised when `ENTRY` or the hash changes: indexes of older kinds are then made again."""

STORED, DEFLATED = 0, 8
ENCRYPTED = 1  # bit 0 of the flags
CHUNK = 65_536  # members handled at once while a table of contents is read

END, END_SIZE = b"PK\x05\x06", 22
END64_LOCATOR, END64_LOCATOR_SIZE = b"PK\x06\x07", 20
END64, END64_SIZE = b"PK\x06\x06", 56
LOCAL, LOCAL_SIZE = b"PK\x03\x04", 30
CENTRAL_SIGNATURE = 0x02014B50
CENTRAL = np.dtype(
    [
        ("signature", "<u4"),
        ("versions", "<u4"),
        ("flags", "<u2"),
        ("method", "<u2"),
        ("time", "<u4"),
        ("crc", "<u4"),
        ("packed", "<u4"),
        ("size", "<u4"),
        ("name_length", "<u2"),
        ("extra_length", "<u2"),
        ("comment_length", "<u2"),
        ("disk", "<u2"),
        ("internal", "<u2"),
        ("external", "<u4"),
        ("offset", "<u4"),
    ]
)
ELSEWHERE = 0xFFFFFFFF  # the value stands in the ZIP64 extra field
EXTRA_64 = 1


class Archive:
    """One ZIP archive.

    Args:
        path: the file.
        cache_dir: where its index is kept, by name, size and time of the archive; None to make it anew.

    Raises:
        SpecimenError: it is not there, is no ZIP, or is cut short; the message says to download it again.
        BionasError: the cache folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike, cache_dir: str | os.PathLike | None = None):
        self.path = Path(path)
        try:
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise SpecimenError(f"{self.path} cannot be opened: {error.strerror}.") from None
        weakref.finalize(self, os.close, self._file)
        self._entries = _index(self.path, self._file, None if cache_dir is None else Path(cache_dir))

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, names: pa.LargeBinaryArray) -> np.ndarray:
        """int64 (n,) the entry of each name, -1 where the archive has none of it."""
        wanted, hashes = name_hashes(names), np.ascontiguousarray(self._entries["name"])
        found = np.full(len(wanted), -1, dtype=np.int64)
        if len(hashes):
            sought = np.argsort(wanted)  # a search in order stays in the processor's cache
            entries = (
                np.searchsorted(hashes, wanted[sought], side="right") - 1
            )  # of two of one name the later one
            there = (entries >= 0) & (hashes[entries] == wanted[sought])
            found[sought[there]] = entries[there]
        return found

    def entries(self, numbers: np.ndarray) -> np.ndarray:
        """(n,) of `ENTRY`, what the table of contents says about the entries of these numbers."""
        return self._entries[numbers]

    def read(self, entry: int, name: bytes) -> bytes:
        """The content of one entry, its checksum compared.

        Raises:
            PhotographError: this member is damaged, encrypted, packed in an unknown way, or is not `name`.
            SpecimenError: the archive changed or cannot be read any more.
        """
        about = self._entries[entry]
        offset, packed, size = int(about["offset"]), int(about["packed"]), int(about["size"])
        shown = os.fsdecode(name)
        if about["flags"] & ENCRYPTED:
            raise PhotographError(shown, f"it is encrypted in {self.path.name}")
        data = self._bytes(
            offset, LOCAL_SIZE + len(name) + 64 + packed
        )  # extra fields seldom have more than 64 bytes
        if data[:4] != LOCAL:
            raise PhotographError(
                shown, f"{self.path.name} is damaged there: no member begins at byte {offset:,}"
            )
        name_length, extra_length = struct.unpack_from("<HH", data, 26)
        if data[LOCAL_SIZE : LOCAL_SIZE + name_length] != name:
            raise PhotographError(
                shown, f"{self.path.name} is damaged there: another member is at byte {offset:,}"
            )
        start = LOCAL_SIZE + name_length + extra_length
        if start + packed > len(data):
            data, start = self._bytes(offset + start, packed), 0
        data = data[start : start + packed]
        if len(data) < packed:
            raise SpecimenError(
                f"{self.path} has become shorter while it was read. Run the same command again."
            )
        content = self._unpacked(data, int(about["method"]), size, shown)
        if len(content) != size or zlib.crc32(content) != about["crc"]:
            raise PhotographError(shown, f"its checksum in {self.path.name} is wrong; `bionas fetch` again")
        return content

    def _unpacked(self, data: bytes, method: int, size: int, shown: str) -> bytes:
        if method == STORED:
            return data
        if method != DEFLATED:
            raise PhotographError(
                shown, f"{self.path.name} packs it by method {method}, which is not understood"
            )
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                data, size + 1
            )  # one byte more shows that it is wrong
        except zlib.error as error:
            raise PhotographError(
                shown, f"it is damaged in {self.path.name} ({error}); `bionas fetch` again"
            ) from None

    def _bytes(self, offset: int, n: int) -> bytes:
        try:
            return read_at(self._file, n, offset)
        except OSError as error:
            raise SpecimenError(
                f"{self.path} cannot be read any further ({error.strerror}, byte {offset:,})."
            ) from None


def name_hashes(names: pa.LargeBinaryArray) -> np.ndarray:
    """uint64 (n,), the same for the same bytes on any machine."""
    offsets = np.frombuffer(names.buffers()[1], dtype=np.int64)[names.offset : names.offset + len(names) + 1]
    flat = np.frombuffer(names.buffers()[2] or b"", dtype=np.uint8)
    return _hashes(flat, offsets[:-1], np.diff(offsets))


def _hashes(flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """uint64 (n,) of the n byte strings at `starts` of `flat`, eight bytes of each at a time (after splitmix64)."""
    if len(flat) < 8:
        flat = np.concatenate([flat, np.zeros(8, dtype=np.uint8)])
    last = len(flat) - 8
    words = np.ndarray(
        (last + 1,), dtype="<u8", buffer=flat, strides=(1,)
    )  # the word that begins at each byte
    hashes = np.empty(len(starts), dtype=np.uint64)
    for first in range(0, len(starts), CHUNK):
        start, length = starts[first : first + CHUNK], lengths[first : first + CHUNK]
        mixed = length.astype(np.uint64)
        for begin in range(0, int(length.max()), 8):
            at = start + begin
            inside = np.minimum(at, last)
            word = words[inside] >> (8 * np.minimum(at - inside, 7)).astype(np.uint64)
            rest = (length - begin).clip(0, 8)  # bytes of the name in this word
            word &= _LOW_BYTES[rest]
            more = (mixed ^ word) * np.uint64(0xBF58476D1CE4E5B9)
            more ^= more >> np.uint64(29)
            more *= np.uint64(0x94D049BB133111EB)
            more ^= more >> np.uint64(32)
            mixed = np.where(rest > 0, more, mixed)
        hashes[first : first + CHUNK] = mixed
    return hashes


_LOW_BYTES = np.array([(1 << 8 * n) - 1 for n in range(9)], dtype=np.uint64)


# The table of contents


def _index(path: Path, file: int, cache_dir: Path | None) -> np.ndarray:
    """(members,) of `ENTRY`, sorted by name: mapped from the cache where it is there, else read off the archive."""
    status = os.fstat(file)
    if cache_dir is None:
        return _table_of_contents(path, file, status.st_size)
    kept = cache_dir / f"{path.stem}-{status.st_size:x}-{status.st_mtime_ns:x}.index{INDEX}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        entries = np.load(kept, mmap_mode="r", allow_pickle=False)
        if entries.dtype == ENTRY and entries.ndim == 1:
            return entries
    entries = _table_of_contents(path, file, status.st_size)
    with replacing(kept) as out:
        np.lib.format.write_array(out, entries, allow_pickle=False)
    return np.load(kept, mmap_mode="r", allow_pickle=False)


def _table_of_contents(path: Path, file: int, size: int) -> np.ndarray:
    """(members,) of `ENTRY`, sorted by name, from the central directory at the archive's end."""
    first, length, members = _directory(path, file, size)
    if members == 0:
        return np.zeros(0, dtype=ENTRY)
    directory = np.memmap(path, dtype=np.uint8, mode="r", offset=first, shape=(length,))
    places = _places(path, directory, members)
    entries = np.empty(members, dtype=ENTRY)
    for start in range(0, members, CHUNK):
        entries[start : start + CHUNK] = _parsed(path, directory, places[start : start + CHUNK])
    if (entries["offset"] + LOCAL_SIZE + entries["packed"] > first).any() or (entries["offset"] < 0).any():
        raise _damaged(path, "its table of contents names places that are not in it")
    return entries[np.argsort(entries["name"], kind="stable")]


def _directory(path: Path, file: int, size: int) -> tuple[int, int, int]:
    """Where the central directory begins, its bytes, its members."""
    tail = read_at(file, END_SIZE + 0xFFFF, max(0, size - END_SIZE - 0xFFFF))
    at = tail.rfind(END)
    if at < 0 or len(tail) - at < END_SIZE:
        begin = read_at(file, 4, 0)
        if size and begin != LOCAL[: len(begin)]:
            raise SpecimenError(
                f"{path} is no ZIP archive (it begins with {begin!r}). Fetch it again: `bionas fetch`."
            )
        raise SpecimenError(
            f"{path} is cut short: {size:,} bytes, and the table of contents that ends a ZIP is not there. "
            "Fetch the rest of it: `bionas fetch`."
        )
    members, length, first, comment = struct.unpack_from("<HLLH", tail, at + 10)
    end = size - len(tail) + at
    if end + END_SIZE + comment > size:
        raise _damaged(path, "its last bytes are missing")
    if members == 0xFFFF or ELSEWHERE in (length, first):
        locator = read_at(file, END64_LOCATOR_SIZE, max(0, end - END64_LOCATOR_SIZE))
        if locator[:4] == END64_LOCATOR:
            end = struct.unpack_from("<Q", locator, 8)[0]
            record = read_at(file, END64_SIZE, end) if end < size else b""
            if record[:4] != END64 or len(record) < END64_SIZE:
                raise _damaged(path, "its table of contents is not where it says")
            members, length, first = struct.unpack_from("<QQQ", record, 32)
    if first + length != end:
        raise _damaged(
            path, f"its table of contents should begin at byte {first:,}, and {end - length:,} is where it is"
        )
    return first, length, members


def _places(path: Path, directory: np.ndarray, members: int) -> np.ndarray:
    """int64 (members,) where each record of the central directory begins; one has to be read to find the next."""
    places, at, lengths = array.array("q"), 0, struct.Struct("<HHH").unpack_from
    view = directory.data
    try:
        for _ in range(members):
            places.append(at)
            name, extra, comment = lengths(view, at + 28)
            at += 46 + name + extra + comment
    except struct.error:
        at = -1
    if at != len(directory):
        raise _damaged(path, f"its table of contents ends amid {members:,} members")
    return np.frombuffer(places, dtype=np.int64)


def _parsed(path: Path, directory: np.ndarray, places: np.ndarray) -> np.ndarray:
    """(n,) of `ENTRY` for the records of the central directory at `places`."""
    heads = np.ascontiguousarray(directory[places[:, None] + np.arange(CENTRAL.itemsize)]).view(CENTRAL)[:, 0]
    if (heads["signature"] != CENTRAL_SIGNATURE).any():
        raise _damaged(path, "its table of contents has a record that is none")
    entries = np.empty(len(places), dtype=ENTRY)
    for field in ("offset", "packed", "size", "crc", "method", "flags"):
        entries[field] = heads[field]
    names, name_lengths = places + CENTRAL.itemsize, heads["name_length"].astype(np.int64)
    entries["name"] = _hashes(directory, names, name_lengths)

    # ZIP64: a value that does not fit is in an extra field of kind 1, in the order size, packed, offset.
    wide = np.flatnonzero(
        (heads["size"] == ELSEWHERE) | (heads["packed"] == ELSEWHERE) | (heads["offset"] == ELSEWHERE)
    )
    at = names[wide] + name_lengths[wide]
    end = at + heads["extra_length"][wide]
    while len(wide):
        if (at + 4 > end).any():
            raise _damaged(path, "its table of contents lacks the place of a member")
        kind, length = _little(directory, at, 2), _little(directory, at + 2, 2)
        found = kind == EXTRA_64
        here, value_at = wide[found], at[found] + 4
        for field in ("size", "packed", "offset"):
            given = heads[field][here] == ELSEWHERE
            if (value_at[given] + 8 > end[found][given]).any():
                raise _damaged(path, "its table of contents lacks the place of a member")
            entries[field][here[given]] = _little(directory, value_at[given], 8)
            value_at = value_at + 8 * given
        wide, at, end = wide[~found], (at + 4 + length)[~found], end[~found]
    return entries


def _little(flat: np.ndarray, at: np.ndarray, width: int) -> np.ndarray:
    """int64 (n,) little-endian numbers of `width` bytes at the places `at`."""
    padded = np.zeros((len(at), 8), dtype=np.uint8)
    padded[:, :width] = flat[at[:, None] + np.arange(width)]
    return padded.view("<i8")[:, 0]


def _damaged(path: Path, how: str) -> SpecimenError:
    return SpecimenError(f"{path} is damaged: {how}. Delete it and fetch it again: `bionas fetch`.")
