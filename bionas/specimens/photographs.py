"""Where the bytes of photographs are: files of a folder, members of ZIP archives, or some here and some there.

`Photographs` is what `image_cache` decodes. BIOSCAN-5M comes as four ZIP archives of 5.15 million small files; few file
systems like so many, so `locate` takes the archives as they are, or the extracted tree, or the tree and the archives for
what the tree lacks. Names are held as one packed array: five million Python strings would be half a gigabyte.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bionas.errors import PhotographError, SpecimenError
from bionas.specimens.archives import Archive
from bionas.system.progress import progress

CHUNK = 65_536
MISSING = "it is missing"
ONE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.EIO}
"""Faults of one file; others (too many open files, say) would befall the next one too."""


class Photographs(Protocol):
    """N photographs, some of which may be missing.

    Attributes:
        label: a word or two for file names and progress bars.
        key: hex; which files these are, by names, sizes and times (of an archive's members: sizes and checksums).
        present: (N,) bool, False where the photograph is not there.
    """

    @property
    def label(self) -> str: ...

    @property
    def key(self) -> str: ...

    @property
    def present(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def name(self, i: int) -> str:
        """What a message calls photograph i."""
        ...

    def read(self, i: int) -> bytes:
        """The file of photograph i; any thread may ask.

        Raises:
            PhotographError: this one cannot be read.
            SpecimenError: none of them can be read any more.
        """
        ...

    def order(self) -> np.ndarray:
        """int64 (N,) positions in the order in which they are read best: as they lie on the disk."""
        ...

    def subset(self, positions: np.ndarray) -> Photographs:
        """The photographs at `positions`, in that order."""
        ...


class FolderPhotographs:
    """The files `folder / names[i]`.

    Args:
        folder: where they are.
        names: paths from there, with forward slashes; a list, a pandas column or an arrow array of strings.
    """

    def __init__(self, folder: str | os.PathLike, names: Sequence[str]):
        self.folder = Path(folder)
        self.label = self.folder.resolve().name
        self._names = packed(names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _found(self) -> np.ndarray:
        """int64 (N, 2): size in bytes, time of change in ns; -1 where there is no file."""
        found = np.full((len(self), 2), -1, dtype=np.int64)
        stem = os.fsencode(self.folder) + b"/"
        with progress(
            total=len(self), desc=f"looking for {self.label}", unit="image", leave=False, delay=2
        ) as bar:
            for i, name in enumerate(_each(self._names)):
                try:
                    status = os.stat(stem + name)
                except (OSError, ValueError):
                    continue
                finally:
                    if i % CHUNK == CHUNK - 1:
                        bar.update(CHUNK)
                found[i] = status.st_size, status.st_mtime_ns
        return found

    @property
    def present(self) -> np.ndarray:
        return self._found[:, 0] >= 0

    @cached_property
    def key(self) -> str:
        digest = hashlib.sha256(b"folder\0")
        _digest_names(digest, self._names)
        digest.update(np.ascontiguousarray(self._found, dtype="<i8").data)
        return digest.hexdigest()

    def name(self, i: int) -> str:
        return os.fsdecode(self._names[i].as_py())

    def read(self, i: int) -> bytes:
        try:
            with open(os.fsencode(self.folder) + b"/" + self._names[i].as_py(), "rb") as file:
                return file.read()
        except OSError as error:
            if error.errno in ONE_FILE and self.folder.is_dir():
                raise PhotographError(self.name(i), error.strerror or str(error)) from None
            raise SpecimenError(
                f"photographs in {self.folder} cannot be read any more: {error.strerror}."
            ) from None

    def order(self) -> np.ndarray:
        return np.arange(len(self))

    def subset(self, positions: np.ndarray) -> FolderPhotographs:
        positions = np.asarray(positions, dtype=np.int64)
        part = FolderPhotographs(self.folder, self._names.take(pa.array(positions)))
        if "_found" in vars(self):
            part._found = self._found[positions]
        return part


class ZippedPhotographs:
    """Members of ZIP archives; where two archives have one, the first counts.

    Args:
        archives: the files, or archives that are open already.
        members: names as they stand in the archives.
        cache_dir: where the archives' indexes are kept; None to make them anew each time.

    Raises:
        SpecimenError: an archive is missing, cut short or no ZIP.
    """

    def __init__(
        self,
        archives: Sequence[str | os.PathLike | Archive],
        members: Sequence[str],
        cache_dir: str | os.PathLike | None = None,
    ):
        self._names = packed(members)
        self._archives = [one if isinstance(one, Archive) else Archive(one, cache_dir) for one in archives]
        self.label = (
            os.path.commonprefix([archive.path.stem for archive in self._archives]).rstrip("._-")
            or "archives"
        )
        self._archive = np.full(len(self), -1, dtype=np.int8)
        self._entry = np.full(len(self), -1, dtype=np.int32)
        for number, archive in enumerate(self._archives):
            lacking = np.flatnonzero(self._archive < 0)
            names = self._names if len(lacking) == len(self) else self._names.take(pa.array(lacking))
            entries = archive.find(names)
            found = lacking[entries >= 0]
            self._archive[found], self._entry[found] = number, entries[entries >= 0]

    def __len__(self) -> int:
        return len(self._names)

    @property
    def present(self) -> np.ndarray:
        return self._archive >= 0

    @cached_property
    def key(self) -> str:
        digest = hashlib.sha256(b"zip\0")
        _digest_names(digest, self._names)
        digest.update(self._archive.data)
        for archive, positions in self._by_archive():
            entries = archive.entries(self._entry[positions])
            for field in (
                "offset",
                "size",
                "crc",
            ):  # the place too: `order`, and with it the cache's, follows it
                digest.update(np.ascontiguousarray(entries[field]).data)
        return digest.hexdigest()

    def name(self, i: int) -> str:
        return os.fsdecode(self._names[i].as_py())

    def read(self, i: int) -> bytes:
        if self._archive[i] < 0:
            raise PhotographError(self.name(i), MISSING)
        return self._archives[self._archive[i]].read(int(self._entry[i]), self._names[i].as_py())

    def order(self) -> np.ndarray:
        placed = [
            positions[np.argsort(archive.entries(self._entry[positions])["offset"], kind="stable")]
            for archive, positions in self._by_archive()
        ]
        return np.concatenate([*placed, np.flatnonzero(~self.present)])

    def subset(self, positions: np.ndarray) -> ZippedPhotographs:
        positions = np.asarray(positions, dtype=np.int64)
        part = ZippedPhotographs((), self._names.take(pa.array(positions)))
        part._archives, part.label = self._archives, self.label
        part._archive, part._entry = self._archive[positions], self._entry[positions]
        return part

    def _by_archive(self) -> Iterator[tuple[Archive, np.ndarray]]:
        for number, archive in enumerate(self._archives):
            yield archive, np.flatnonzero(self._archive == number)


class FirstFound:
    """Each photograph from the first of several places that has it.

    Args:
        places: `Photographs` of the same N photographs in the same order.
    """

    def __init__(self, places: Sequence[Photographs]):
        place = np.full(len(places[0]), -1, dtype=np.int8)
        for number, photographs in enumerate(places):
            place[(place < 0) & photographs.present] = number
        present = place >= 0
        place[~present] = len(places) - 1
        parts = [
            photographs.subset(np.flatnonzero(place == number)) for number, photographs in enumerate(places)
        ]
        self._join(places[0].label, place, present, parts)

    def _join(self, label: str, place: np.ndarray, present: np.ndarray, parts: list[Photographs]) -> None:
        self.label, self.present, self._place, self._parts = label, present, place, parts
        self._within = np.empty(len(place), dtype=np.int32)
        for number, part in enumerate(parts):
            self._within[place == number] = np.arange(len(part))

    def __len__(self) -> int:
        return len(self._place)

    @cached_property
    def key(self) -> str:
        return hashlib.sha256(
            b"".join([*(part.key.encode() for part in self._parts), self._place.tobytes()])
        ).hexdigest()

    def name(self, i: int) -> str:
        return self._parts[self._place[i]].name(int(self._within[i]))

    def read(self, i: int) -> bytes:
        return self._parts[self._place[i]].read(int(self._within[i]))

    def order(self) -> np.ndarray:
        return np.concatenate(
            [np.flatnonzero(self._place == number)[part.order()] for number, part in enumerate(self._parts)]
        )

    def subset(self, positions: np.ndarray) -> FirstFound:
        positions = np.asarray(positions, dtype=np.int64)
        place, within = self._place[positions], self._within[positions]
        parts = [own.subset(within[place == number]) for number, own in enumerate(self._parts)]
        part = FirstFound.__new__(FirstFound)
        part._join(self.label, place, self.present[positions], parts)
        return part


def locate(
    data_dir: str | os.PathLike,
    archives: Sequence[str],
    tree: str,
    members: Sequence[str],
    cache_dir: str | os.PathLike | None = None,
) -> Photographs:
    """Photographs of a download: from the extracted tree, from the packaged ZIPs, or from both.

    Args:
        data_dir: the folder of the download; what it holds may also lie in it without its top folders.
        archives: file names of the ZIPs; those that are not there are passed over.
        tree: the folder that the ZIPs make when they are extracted: "bioscan5m/images/cropped_256".
        members: N names as they stand in the ZIPs, all below `tree`.
        cache_dir: where the ZIPs' indexes are kept.

    Raises:
        SpecimenError: there is neither; or a ZIP is cut short or damaged.
    """
    data_dir, parts, names = Path(data_dir).expanduser(), PurePosixPath(tree).parts, packed(members)
    if len(names) and not pc.all(pc.starts_with(names, f"{tree}/")).as_py():
        raise SpecimenError(
            f"a photograph that is not below {tree}/ cannot be in its archives: {_stranger(names, tree)}."
        )
    starts = range(len(parts))
    trees = [data_dir.joinpath(*parts[start:]) for start in starts]
    folders = dict.fromkeys(
        data_dir.joinpath(*parts[start:stop]) for start in starts for stop in range(start, len(parts))
    )
    found = (
        next((folder / name for folder in folders if (folder / name).is_file()), None) for name in archives
    )
    zips = [path for path in found if path is not None]
    extracted = next((folder for folder in trees if folder.is_dir()), None)
    if extracted is None and not zips:
        raise SpecimenError(
            f"no photographs in {data_dir}: neither the folder {tree} nor one of {', '.join(archives)} is there. "
            "Fetch them with `bionas fetch`, or name the folder that holds them with data_dir."
        )
    if extracted is None:
        return ZippedPhotographs(zips, names, cache_dir)
    files = FolderPhotographs(extracted, pc.binary_replace_slice(names, 0, len(os.fsencode(tree)) + 1, b""))
    if not zips or files.present.all():
        return files
    zipped = ZippedPhotographs(zips, names, cache_dir)
    return FirstFound([files, zipped]) if files.present.any() else zipped


def packed(names: Sequence[str]) -> pa.LargeBinaryArray:
    """Names as one array of bytes; a missing one is empty, which no file is called."""
    if isinstance(names, pa.LargeBinaryArray):
        return names
    try:
        text = names if isinstance(names, pa.Array | pa.ChunkedArray) else pa.array(names)
        if isinstance(text, pa.ChunkedArray):
            text = text.combine_chunks()
        if pa.types.is_dictionary(text.type):
            text = text.dictionary_decode()
        return pc.fill_null(text.cast(pa.large_string()), "").cast(pa.large_binary())
    except UnicodeEncodeError:  # a file name that is no UTF-8, as Python's os module spells it
        return pa.array([os.fsencode(name) for name in names], type=pa.large_binary())


def _each(names: pa.LargeBinaryArray) -> Iterator[bytes]:
    for start in range(0, len(names), CHUNK):
        yield from names[start : start + CHUNK].to_pylist()


def _digest_names(digest: hashlib._Hash, names: pa.LargeBinaryArray) -> None:
    for start in range(0, len(names), CHUNK):
        digest.update(b"\0".join(names[start : start + CHUNK].to_pylist()) + b"\n")


def _stranger(names: pa.LargeBinaryArray, tree: str) -> str:
    return repr(
        next(os.fsdecode(name) for name in _each(names) if not name.startswith(os.fsencode(tree) + b"/"))
    )
