"""The command `bionas fetch`: reports files, sizes and free space, then downloads and checks."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import requests

from bionas.errors import FetchError, UnknownName
from bionas.specimens.fetch import archive, checksums, disk, links, transfer, web
from bionas.specimens.fetch.catalogue import OFFERS, Remote
from bionas.specimens.fetch.failures import TABLE
from bionas.specimens.notes import some

INSECTS1M = "insects1m"
SAMPLE = 8
"""Links whose size is asked for, to say how large all of them may be."""

ONLY_FILES = ("package", "split", "metadata", "extract")
ONLY_LINKS = ("records", "limit", "parallel")


def fetch(options: SimpleNamespace) -> int:
    """0: all of it is there. 1: images whose links failed are in the table.

    Raises:
        UnknownName: no such collection, package or split.
        FetchError: see `transfer.download`, `archive.extract`, `links.fetch_images`.
    """
    if options.collection not in (*OFFERS, INSECTS1M):
        raise UnknownName("collection", options.collection, [*OFFERS, INSECTS1M])
    of_links = options.collection == INSECTS1M
    if strange := [name for name in (ONLY_FILES if of_links else ONLY_LINKS) if getattr(options, name)]:
        raise FetchError(f"--{strange[0]} does not belong to {options.collection}.")
    try:
        return _images(options) if of_links else _files(options)
    except KeyboardInterrupt:
        print("\nWhat has arrived is kept: the same command resumes.", file=sys.stderr)
        raise


def _files(options: SimpleNamespace) -> int:
    """BIOSCAN-5M and BIOSCAN-1M: a few large files."""
    offer = OFFERS[options.collection]()
    chosen = offer.choose(options.package, options.split, options.metadata)
    if not chosen:
        print(offer)
        return 0
    data_dir = _data_dir(options)
    todo = _planned(chosen, data_dir, options.extract, options.dry_run)
    if options.dry_run:
        return 0
    for remote in todo:
        transfer.download(remote, data_dir)
        print(f"{remote.name}: fetched" + (", MD5 right." if remote.md5 else ". No MD5 is known for it."))
    packed = [remote for remote in chosen if remote.unpack is not None]
    for remote in packed if options.extract else ():
        written = archive.extract(data_dir / remote.name, data_dir / remote.unpack, remote.drop)
        print(
            f"{remote.name}: {written:,} files extracted"
            + (" (the others were there)." if not written else ".")
        )
    if packed and not options.extract:
        print("Nothing was extracted: images are read from the ZIPs as they are.")
        if offer.metadata in packed:
            print(
                f"The table of records is in {offer.metadata.name}: the same command with --metadata --extract "
                "and without a package unpacks that alone."
            )
    return 0


def _planned(chosen: Sequence[Remote], data_dir: Path, extract: bool, dry_run: bool) -> list[Remote]:
    """Say what there is and what it takes; the files that are to be fetched.

    In a dry run a file is not hashed: one whose MD5 is not remembered is said to be there, unchecked.

    Raises:
        FetchError: the disk has not the room; or, in a dry run, no server answered.
    """
    todo, needed, unknown, silent = [], 0, False, []
    with web.session() as asker:
        for remote in chosen:
            path = data_dir / remote.name
            if path.is_file():
                known = checksums.remembered(path) if dry_run else checksums.md5_of(path)
                if remote.md5 in (None, known) or known is None:
                    state = (
                        "MD5 not checked yet"
                        if known is None
                        else "MD5 right"
                        if remote.md5
                        else "no MD5 is known"
                    )
                    print(f"  {disk.text(path.stat().st_size):>8}  {remote.name}: here, {state}")
                    continue
                print(
                    f"{remote.name} is here, but its MD5 is {known} and should be {remote.md5}: fetched anew."
                )
            size, why, answered = _asked(asker, remote.urls)
            part = min(transfer.arrived(remote, data_dir), size or 0)
            print(
                f"  {disk.text(size):>8}  {remote.name}"
                + (f": {disk.text(part)} of it here already" if part else "")
                + ("" if size is not None else f": size unknown, {why}")
            )
            if not answered:
                silent.append(f"{remote.name} ({urlsplit(remote.urls[0]).hostname}: {why})")
            todo.append(remote)
            unknown |= size is None
            needed += (size or 0) - part + (size or 0) * (extract and remote.unpack is not None)
    if silent and dry_run:
        raise FetchError(
            f"the sizes of {len(silent)} of {len(todo)} files could not be asked: no server answered for {some(silent)}. "
            "Look at the network and run the same command again."
        )
    if todo:
        at_least = "at least " if unknown or extract else ""
        needs = f"{at_least}{disk.text(needed)} needed" if needed else "how much is needed could not be asked"
        print(f"{needs}, {disk.text(disk.free(data_dir))} free in {data_dir}.")
        disk.require(
            data_dir, needed, "what is still to be written" if extract else "what is still to be fetched"
        )
    return todo


def _asked(asker: requests.Session, urls: Sequence[str]) -> tuple[int | None, str, bool]:
    """(bytes of a file or None, why they are unknown, whether a server answered), from the first address that tells."""
    why, answered = "no address is known", False
    for url in urls:
        try:
            found = web.size(asker, url)
        except web.RequestFailed as failure:
            why = why if answered else failure.reason
            continue
        answered = True
        if isinstance(found, int):
            return found, "", True
        why = found
    return None, why, answered


def _images(options: SimpleNamespace) -> int:
    """Insect-1M: many small files, one link per file."""
    if options.records is None:
        raise FetchError(
            "say where the records of Insect-1M are: --records FILE.json, with its insect_records and their image_url. "
            "Its authors give that file; the images are fetched from the links in it."
        )
    data_dir = _data_dir(options)
    listed, repeated = links.read_links(Path(options.records), options.limit)
    todo = links.missing_images(listed, data_dir)
    print(
        f"{len(listed):,} records, {len(listed) - len(todo):,} of their images here, {len(todo):,} to fetch."
    )
    if repeated:
        print(f"{repeated:,} records repeat the id of an earlier one: the earlier one counts.")
    if not todo:
        return 0
    parallel = options.parallel or links.PARALLEL
    expected = _expected(todo, parallel)
    print(
        f"About {disk.text(expected)} needed (by the size of a few), {disk.text(disk.free(data_dir))} free in {data_dir}."
        if expected is not None
        else f"Size unknown: no server says it. {disk.text(disk.free(data_dir))} free in {data_dir}."
    )
    disk.require(data_dir, expected or 0, "all of them, by the size of a few,", "Or fetch fewer: --limit N.")
    if options.dry_run:
        return 0
    outcome = links.fetch_images(todo, data_dir, parallel)
    print(f"{outcome.fetched:,} images fetched, {len(outcome.failures):,} failed.")
    if outcome.failures:
        print(f"The failed ones are in {data_dir / TABLE}; the same command asks for them first.")
    return 1 if outcome.failures else 0


def _expected(todo: Sequence[links.Link], parallel: int) -> int | None:
    """Bytes of all images, from the sizes of a few spread over the list; None where no server says."""
    few = [link.url for link in todo[:: max(1, len(todo) // SAMPLE)][:SAMPLE] if link.url]
    with ThreadPoolExecutor(min(parallel, SAMPLE)) as pool:
        sizes = [size for size in pool.map(_size, few) if size is not None]
    return round(sum(sizes) / len(sizes) * len(todo)) if sizes else None


def _size(url: str) -> int | None:
    with web.session() as asker:
        return _asked(asker, [url])[0]


def _data_dir(options: SimpleNamespace) -> Path:
    if options.data_dir is None:
        raise FetchError("say where to put it: --data-dir DIR.")
    return Path(options.data_dir).expanduser()
