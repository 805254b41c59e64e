"""Download of one file: resumed after any interruption, checked, and renamed to its name only when it is correct.

Received bytes are in NAME.part, the server's description of them in NAME.part.json; both are removed at the end. A
download resumes if the server still has the same file (by its ETag or date of change, RFC 9110 13.1.5); where that is
unknown, the published MD5 decides in the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import requests
from filelock import FileLock, Timeout

from bionas.errors import BionasError, FetchError
from bionas.specimens.fetch import checksums, disk, web
from bionas.specimens.fetch.catalogue import Remote
from bionas.system.files import NO_SPACE, read_json, write_json
from bionas.system.progress import progress

PART = ".part"
MUCH = 1 << 20
"""Bytes that must have come before a connection that broke off counts as the first again."""


def download(remote: Remote, data_dir: Path, patience: web.Patience | None = None) -> Path:
    """Fetch one file into `data_dir`, from the first of its addresses that gives it whole and right.

    Raises:
        FetchError: no address gave it (the message says what each did, and what is kept), its MD5 is wrong (what
            arrived is removed), the disk is full (what arrived is kept), another process is fetching it.
    """
    patience = patience or web.PATIENCE
    target = data_dir / remote.name
    faults = []
    with _Part(target) as part, web.session() as asker:
        for url in remote.urls:
            try:
                _complete(asker, url, remote, part, patience)
            except web.RequestFailed as failure:
                faults.append(f"{url}: {failure.reason}")
                continue
            arrived = part.md5.hexdigest()
            if remote.md5 in (None, arrived):
                part.finish(target)
                checksums.remember(target, arrived)
                return target
            faults.append(f"{url}: its MD5 is {arrived} and should be {remote.md5}; what arrived was removed")
            part.restart()
        kept = f"\n{disk.text(part.size)} are kept in {part.path}." if part.size else ""
    raise FetchError(
        f"{remote.name} could not be fetched.\n"
        + "\n".join(faults)
        + kept
        + "\nThe same command tries again. If it "
        "stays so, the published file may have moved or changed: see whether there is a newer bioscan-dataset."
    )


def arrived(remote: Remote, data_dir: Path) -> int:
    """Bytes of this file that an earlier, interrupted download left."""
    part = (data_dir / remote.name).with_name(Path(remote.name).name + PART)
    return part.stat().st_size if part.is_file() else 0


def _complete(asker: requests.Session, url: str, remote: Remote, part: _Part, patience: web.Patience) -> None:
    """Ask `url` until everything is there, as often as patience allows without progress."""
    attempt, furthest = 0, part.size
    with progress(desc=remote.name, unit="B", unit_scale=True, leave=False, initial=part.size) as bar:
        while True:
            try:
                return _receive(asker, url, remote, part, bar)
            except web.RequestFailed as failure:
                if remote.md5 is not None and part.md5.hexdigest() == remote.md5:
                    return  # everything was there: the server had announced more than the file has
                if part.size >= furthest + MUCH:
                    attempt, furthest = 0, part.size
                attempt += 1
                wait = patience.wait(attempt, failure)
                if wait is None:
                    raise
                bar.write(f"{urlsplit(url).hostname}: {failure.reason}; again in {wait:.0f} s.")
                patience.sleep(wait)


def _receive(asker: requests.Session, url: str, remote: Remote, part: _Part, bar) -> None:
    """One request, from where the part ends; returns when the file is complete."""
    headers = part.request(url, verified=remote.md5 is not None)
    if part.size and part.size == part.about.get("total"):
        return
    with web.opened(asker, url, headers, accepted=(200, 206, 416) if headers else (200,)) as response:
        status = response.status_code
        first, total = _range(response) if status != 200 else (0, _length(response))
        if status == 416 and total == part.size:
            return
        if status == 416 or (status == 206 and not part.continued_by(url, response, first, total)):
            part.restart()
            raise web.RequestFailed("the file on the server has changed, starting again", status, again=True)
        if status == 200:
            part.restart()
        part.note(url, response, total)
        disk.require(part.path.parent, max(0, (total or 0) - part.size), f"the rest of {remote.name}")
        bar.total, bar.n = total, part.size
        bar.refresh()
        for piece in response.iter_content(web.PIECE):
            part.write(piece)
            bar.update(len(piece))
    if total is not None and part.size < total:
        raise web.RequestFailed(
            f"the connection broke off after {part.size:,} of {total:,} bytes", status, again=True
        )


class _Part:
    """NAME.part, open for appending by this process alone, its running MD5, and what is known of its origin.

    `about` is {"url", "etag", "last_modified", "total"} of the answer the bytes came from.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(target.name + PART)
        self.about_path = target.with_name(target.name + PART + ".json")
        self.lock = FileLock(target.with_name(target.name + PART + ".lock"), thread_local=False)

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab")
        except OSError as error:
            raise FetchError(f"cannot write in {self.path.parent}: {error.strerror}.") from error
        try:
            self.lock.acquire(blocking=False)
        except Timeout:
            self.file.close()
            raise FetchError(f"another process is writing {self.path}: wait for it, or end it.") from None
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.about = {}
        with contextlib.suppress(BionasError):
            if isinstance(about := read_json(self.about_path), dict):
                self.about = about
        self.size = self.path.stat().st_size
        if self.size and ("url" not in self.about or self.size > (self.about.get("total") or self.size)):
            self.restart()
        elif self.size:
            checksums.feed(self.md5, self.path)
        return self

    def __exit__(self, *exception: object) -> None:
        self.file.close()
        if self.path.exists() and self.size == 0:
            self.path.unlink()
            self.about_path.unlink(missing_ok=True)
        self.lock.release()
        with contextlib.suppress(OSError):  # another process may hold it by now
            Path(self.lock.lock_file).unlink(missing_ok=True)

    def request(self, url: str, verified: bool) -> dict[str, str]:
        """Headers that ask for the rest; none (and an empty part) where nothing assures that it is of the same file."""
        same = self.about.get("url") == url
        validator = self.about.get("etag") or ""
        if not validator.startswith('"'):  # a weak one does not promise equal bytes
            validator = self.about.get("last_modified") or ""
        if self.size and not verified and not (same and validator):
            self.restart()
        if not self.size:
            return {}
        return {"Range": f"bytes={self.size}-", **({"If-Range": validator} if same and validator else {})}

    def continued_by(
        self, url: str, response: requests.Response, first: int | None, total: int | None
    ) -> bool:
        """Whether a partial response continues exactly at the end of the part, from the same file."""
        known: list[tuple[Any, int | str | None]] = [(self.about.get("total"), total)]
        if self.about.get("url") == url:
            known += [(self.about.get(key), value) for key, value in _validators(response).items()]
        return first == self.size and all(None in pair or pair[0] == pair[1] for pair in known)

    def note(self, url: str, response: requests.Response, total: int | None) -> None:
        self.about = {"url": url, **_validators(response), "total": total}
        write_json(self.about_path, self.about)

    def write(self, piece: bytes) -> None:
        try:
            self.file.write(piece)
            self.file.flush()
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            raise FetchError(
                f"no space left to write {self.path}. What has arrived is kept: free some space and run the same "
                "command again, it resumes."
            ) from error
        self.md5.update(piece)
        self.size += len(piece)

    def restart(self) -> None:
        """Throw away what has arrived."""
        self.file.truncate(0)
        self.size, self.about = 0, {}
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.about_path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        os.replace(self.path, target)
        self.about_path.unlink(missing_ok=True)


def _validators(response: requests.Response) -> dict[str, str | None]:
    return {"etag": response.headers.get("ETag"), "last_modified": response.headers.get("Last-Modified")}


def _length(response: requests.Response) -> int | None:
    """Bytes of the whole file; None where unknown or where the body is compressed on its way."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        return None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """(first byte, bytes of the whole file) of a Content-Range; None where it does not say."""
    match = re.fullmatch(
        r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
    )
    numbers = match.groups() if match else (None, None)
    first, total = (int(number) if number and number.isdigit() else None for number in numbers)
    return first, total
