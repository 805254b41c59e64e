"""Download of the images of Insect-1M: one link per image.

`read_links` reads the links from the published JSON. `fetch_images` requests them, a few at a time and fewer from one
server, repeats requests where that may help, and keeps a table of links without an image.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from bionas.errors import FetchError, SpecimenError
from bionas.specimens.fetch import web
from bionas.specimens.fetch.failures import Failure, read_failures, write_failures
from bionas.specimens.fetch.hosts import Hosts, Link, Task
from bionas.specimens.fetch.names import SUFFIX_OF_FORMAT, image_stem, images_here, insect_image_name
from bionas.specimens.streamed_json import stream_items
from bionas.system.files import replacing
from bionas.system.progress import progress

PARALLEL = 8
LARGEST = 64 << 20
"""Bytes; larger responses are refused."""

SAVE_EVERY = 60.0
ABANDON_AFTER = 25
"""Unanswered requests in a row after which a server is not asked again in this run."""


class Links(NamedTuple):
    """The links of a file of records, and how many records repeat the id of an earlier one (the earlier one counts)."""

    links: list[Link]
    repeated: int


class Outcome(NamedTuple):
    """How many images were fetched in this run, and what failed: all that the table now holds."""

    fetched: int
    failures: dict[str, Failure]


def read_links(records: Path, limit: int | None = None) -> Links:
    """Id and `image_url` of the first `limit` of the `insect_records` (a list, or a mapping by id) in a JSON file.

    A record without a link has an empty one.

    Raises:
        SpecimenError: not such a JSON file, a record without an id, no record with a link.
    """
    urls: dict[str, str] = {}
    keys: set[str] = set()
    sections: list[str] = []
    repeated = 0
    for position, (key, record) in enumerate(islice(_records(records, sections), limit), 1):
        if not isinstance(record, dict) or (number := record.get("id", key)) is None:
            raise SpecimenError(f"{records.name}, record {position} of insect_records: no key 'id'.")
        keys.update(record)
        image_stem(number)
        repeated += str(number) in urls
        urls.setdefault(str(number), str(record.get("image_url") or "").strip())
    if not urls:
        raise SpecimenError(
            f"{records.name} has no 'insect_records'. Its keys: {', '.join(sections) or 'none'}."
        )
    if not any(urls.values()):
        near = get_close_matches("image_url", keys, n=1)
        hint = f" Did the file rename it to {near[0]!r}?" if near else ""
        raise SpecimenError(
            f"{records.name}: no record has an 'image_url'.{hint} Keys: {', '.join(sorted(keys))}."
        )
    return Links([Link(*row) for row in urls.items()], repeated)


def _records(path: Path, sections: list[str]) -> Iterator[tuple[str | None, Any]]:
    """(key, record) of `insect_records`; the key is None in a list. `sections` collects the keys of the file."""
    for section, item in stream_items(path):
        if section not in sections:
            sections.append(section)
        if section != "insect_records":
            continue
        if isinstance(item, dict) and item and all(isinstance(record, dict) for record in item.values()):
            yield from item.items()
        elif item != ():
            yield None, item


def missing_images(links: Iterable[Link], data_dir: Path) -> list[Link]:
    """The links whose image is not there yet, those first that failed in an earlier run."""
    here, failed = images_here(data_dir), read_failures(data_dir)
    return sorted(
        (link for link in links if image_stem(link.id) not in here), key=lambda link: link.id not in failed
    )


def fetch_images(
    links: Iterable[Link],
    data_dir: Path,
    parallel: int = PARALLEL,
    per_host: int | None = None,
    patience: web.Patience | None = None,
) -> Outcome:
    """Fetch the image of each link to `insect_image_name(id)` under `data_dir`.

    Args:
        links: what is not there yet (`missing_images`).
        parallel: requests at one time.
        per_host: at most so many of them at one server; None: half of them. A server that asks to slow down (429, 503)
            is left alone for as long as it says.

    The table of failures is written each minute and at the end, also when interrupted.

    Raises:
        FetchError: no server answers any more, or one asks for a longer wait than patience has.
        BionasError: the disk is full.
    """
    links = list(links)
    failures = read_failures(data_dir)
    if failures:
        here = images_here(data_dir)
        failures = {number: row for number, row in failures.items() if image_stem(number) not in here}
    run = _Run(data_dir, patience or web.PATIENCE, failures, len(links))
    try:
        run.all(Hosts(links, per_host or (parallel + 1) // 2), parallel)
    finally:
        run.bar.close()
        write_failures(data_dir, run.failures)
    return Outcome(run.fetched, run.failures)


class _Run:
    """One run of `fetch_images`. Only `one` runs in other threads than the caller's."""

    def __init__(self, data_dir: Path, patience: web.Patience, failures: dict[str, Failure], total: int):
        self.data_dir, self.patience, self.failures = data_dir, patience, failures
        self.fetched, self.saved = 0, patience.clock()
        self.stopped = threading.Event()
        self.local = threading.local()
        self.bar = progress(total=total, desc="images", unit="image")

    def all(self, hosts: Hosts, parallel: int) -> None:
        running: dict[Future, Task] = {}
        with ThreadPoolExecutor(parallel) as pool:
            try:
                while hosts.waiting or running:
                    now = self.patience.clock()
                    while len(running) < parallel and (task := hosts.next(now)):
                        running[pool.submit(self.one, task.link)] = task
                    if running:
                        seconds = hosts.seconds_to_next(now) if len(running) < parallel else None
                        done, _ = wait(running, timeout=seconds, return_when=FIRST_COMPLETED)
                        for future in done:
                            self.settle(future, running.pop(future), hosts)
                    elif (seconds := hosts.seconds_to_next(now)) is not None:
                        self.patience.sleep(seconds)
            except BaseException:
                self.stopped.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def settle(self, future: Future, task: Task, hosts: Hosts) -> None:
        try:
            future.result()
        except web.RequestFailed as failure:
            silent = hosts.note(task.host, answered=failure.status is not None or not failure.again)
            seconds = self.patience.wait(task.attempts, failure)
            if silent >= ABANDON_AFTER:
                self.abandon(task, silent, hosts)
            elif (failure.asked or 0) > self.patience.longest_asked:
                raise FetchError(
                    f"{task.host}: {failure.reason}. Run the same command again then."
                ) from failure
            elif seconds is None:
                self.fail(task, failure)
            else:
                hosts.later(task, self.patience.clock() + seconds, whole_host=failure.status in web.SLOW_DOWN)
        else:
            hosts.note(task.host, answered=True)
            self.fetched += 1
            self.failures.pop(task.link.id, None)
            self.bar.update()
        finally:
            hosts.finished(task)
        if self.patience.clock() - self.saved > SAVE_EVERY:
            write_failures(self.data_dir, self.failures)
            self.saved = self.patience.clock()

    def abandon(self, task: Task, silent: int, hosts: Hosts) -> None:
        """Give up a server. One that never answered has dead links; one that stopped answering, or all of them, means that the
        network is down."""
        lost = [task, *hosts.abandon(task.host)]
        reason = f"{task.host} left {silent} requests in a row unanswered"
        if task.host in hosts.answered or not (hosts.answered or hosts.waiting):
            raise FetchError(
                f"{reason}. Is there a network? The same command resumes with the {len(lost):,} left there."
            )
        for link in lost:
            self.fail(link, web.RequestFailed(reason))

    def fail(self, task: Task, failure: web.RequestFailed) -> None:
        before = self.failures.get(task.link.id)
        self.failures[task.link.id] = Failure(
            *task.link,
            str(failure.status or ""),
            failure.reason,
            task.attempts + (before.attempts if before else 0),
        )
        self.bar.update()

    def one(self, link: Link) -> None:
        """Fetch, check and write one image, in a thread of the pool."""
        if not link.url.lower().startswith(("http://", "https://")):
            raise web.RequestFailed("no link in the record" if not link.url else "the link is no web address")
        if not hasattr(self.local, "session"):
            self.local.session = web.session()
        content = bytearray()
        with web.opened(self.local.session, link.url) as response:
            status, announced = response.status_code, response.headers.get("Content-Type", "no type given")
            for piece in response.iter_content(web.PIECE):
                content += piece
                if len(content) > LARGEST:
                    raise web.RequestFailed(f"larger than {LARGEST >> 20} MiB", status)
                if self.stopped.is_set():
                    raise web.RequestFailed("interrupted", status, again=True)
        try:
            suffix = image_suffix(bytes(content))
        except ValueError as error:
            raise web.RequestFailed(f"{error} ({announced}, {len(content):,} bytes)", status) from None
        with replacing(self.data_dir / insect_image_name(link.id, suffix)) as file:
            file.write(content)


def image_suffix(content: bytes) -> str:
    """The suffix for these bytes, once they have been decoded to the end (JPEGs at an eighth of their size).

    Raises:
        ValueError: they are no image, one that is cut short or damaged, or one of a kind that is not read.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.verify()
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (1, 1))
            image.load()
            kind = str(image.format)
    except Exception as error:
        raise ValueError(
            "not an image" if not content or "identify" in str(error) else f"damaged image: {error}"
        ) from None
    if kind not in SUFFIX_OF_FORMAT:
        raise ValueError(f"an image of the kind {kind}, which is not read")
    return SUFFIX_OF_FORMAT[kind]
