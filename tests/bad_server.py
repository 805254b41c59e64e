"""A server on loopback that behaves as badly as real ones do: a test says how, request by request.

Two fixtures, which a test module takes by `site, waits = bad_server.site, bad_server.waits`: the server, and what was
waited for (in no time).
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections import defaultdict, deque
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bionas.specimens.fetch import web


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


K = web.PIECE
"""Where connections break here: at the end of a piece, so that all that was sent is kept."""


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def picture(kind: str = "JPEG", size: int = 48, seed: int = 0) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


class Site:
    """Files under paths, and for each path a queue of misdeeds, one for each GET; after those it behaves."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.changed: dict[str, str] = defaultdict(lambda: formatdate(0, usegmt=True))
        self.misdeeds: dict[str, deque] = defaultdict(deque)
        self.log: list[tuple[str, str, str | None]] = []
        self.validators, self.heads = True, True
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.url = ""

    def put(self, path: str, content: bytes, *misdeeds) -> str:
        self.files[path] = content
        self.misdeeds[path].extend(misdeeds)
        return self.url + path

    def gets(self, path: str) -> list[str | None]:
        """The Range of each GET."""
        return [wanted for method, asked, wanted in self.log if method == "GET" and asked == path]


def drop(after: int):
    """Send so many bytes of what was announced, then hang up."""
    return lambda handler, content: handler.reply(content, cut=after)


def answer(status: int, **headers: str):
    return lambda handler, content: handler.reply(
        b"no", status, {key.replace("_", "-"): value for key, value in headers.items()}
    )


def announce(length: int):
    """Announce another length than the body has."""
    return lambda handler, content: handler.reply(content, headers={"Content-Length": str(length)})


def instead(other: bytes):
    return lambda handler, content: handler.reply(other)


def ignore_range(handler, content):
    handler.reply(content)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        site = self.server.site
        with site.lock:
            site.now += 1
            site.most = max(site.most, site.now)
        try:
            self.answer()
        finally:
            with site.lock:
                site.now -= 1

    def answer(self):
        site = self.server.site
        site.log.append((self.command, self.path, self.headers.get("Range")))
        content = site.files.get(self.path)
        if content is None or (self.command == "HEAD" and not site.heads):
            self.reply(b"not here", 404 if content is None else 405)
        elif self.command == "GET" and site.misdeeds[self.path]:
            site.misdeeds[self.path].popleft()(self, content)
        else:
            self.behave(content)

    def behave(self, content):
        wanted = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        if not wanted or (condition and condition not in self.validators(content).values()):
            self.reply(content)
            return
        first = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1])
        if first >= len(content):
            self.reply(b"", 416, {"Content-Range": f"bytes */{len(content)}"})
        else:
            area = f"bytes {first}-{len(content) - 1}/{len(content)}"
            self.reply(content[first:], 206, {"Content-Range": area}, whole=content)

    def validators(self, content):
        if not self.server.site.validators:
            return {}
        return {"ETag": f'"{md5(content)[:8]}"', "Last-Modified": self.server.site.changed[self.path]}

    def reply(self, body, status=200, headers=None, cut=None, whole=None):
        self.send_response(status)
        sent = {"Content-Length": str(len(body)), **(headers or {})}
        if status in (200, 206):
            sent.update(self.validators(body if whole is None else whole))
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])
        if cut is not None or int(sent["Content-Length"]) != len(body):
            self.wfile.flush()
            self.close_connection = True

    def log_message(self, *words):
        pass


@pytest.fixture
def site(monkeypatch, waits):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.site = Site()
    server.site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.site
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def waits(monkeypatch):
    """Waits take no time: they are collected, and a clock of their own goes on by them."""
    waited: list[float] = []

    def clock() -> float:
        return sum(waited)

    patience = web.Patience(attempts=4, sleep=waited.append, clock=clock, chance=lambda: 1.0)
    monkeypatch.setattr(web, "PATIENCE", patience)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return waited


def names(folder: Path) -> set[str]:
    """Every file under a folder, but the memory of MD5 sums."""
    return {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file() and f.name != ".md5.json"}
