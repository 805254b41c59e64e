"""One file from a server that drops connections, lies about lengths, and changes its mind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from email.utils import formatdate
from types import SimpleNamespace

import bad_server
import pytest
from bad_server import K, announce, answer, drop, ignore_range, instead, md5, noise

from bionas.errors import FetchError
from bionas.specimens.fetch import checksums, disk, transfer, web
from bionas.specimens.fetch.catalogue import Remote

site, waits = bad_server.site, bad_server.waits
pytestmark = pytest.mark.usefixtures("waits")


def remote(content: bytes, *urls: str, known: bool = True) -> Remote:
    return Remote("images.zip", urls, md5(content) if known else None)


# --- one file ---------------------------------------------------------------------------------------------------


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(site, tmp_path):
    content = noise(700_000)
    path = transfer.download(remote(content, site.put("/a", content)), tmp_path)
    assert path.read_bytes() == content
    assert {entry.name for entry in tmp_path.iterdir()} == {"images.zip", ".md5.json"}


def test_a_dropped_connection_is_taken_up_where_it_broke(site, tmp_path, waits):
    content = noise(900_000)
    url = site.put(
        "/a",
        content,
        drop(9 * K),
        lambda h, c: h.reply(
            c[9 * K :], 206, {"Content-Range": f"bytes {9 * K}-899999/900000"}, cut=8 * K, whole=c
        ),
    )
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert site.gets("/a") == [None, f"bytes={9 * K}-", f"bytes={17 * K}-"]
    assert waits == [1.0, 2.0]  # doubled; jitter is 1 in these tests


def test_an_interrupted_download_goes_on_in_the_next_process(site, tmp_path):
    content = noise(900_000)
    url = site.put("/a", content, drop(12 * K), *[answer(503)] * 3)
    with pytest.raises(FetchError, match=r"503 .*\n393 kB are kept in .*images\.zip\.part") as caught:
        transfer.download(remote(content, url), tmp_path)
    assert "\nThe same command" in str(caught.value)
    assert (tmp_path / "images.zip.part").read_bytes() == content[: 12 * K]
    assert transfer.arrived(remote(content, url), tmp_path) == 12 * K
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert site.gets("/a")[-1] == f"bytes={12 * K}-"


@pytest.mark.parametrize("known", [True, False])
def test_a_file_that_changed_in_between_is_begun_anew(site, tmp_path, known):
    old, new = noise(500_000), noise(500_000, seed=1)
    url = site.put("/a", old, drop(6 * K), *[answer(500)] * 3)
    with pytest.raises(FetchError):
        transfer.download(remote(old, url, known=known), tmp_path)
    site.put("/a", new)
    assert transfer.download(remote(new, url, known=known), tmp_path).read_bytes() == new


def test_a_server_that_answers_if_range_wrongly_is_not_believed(site, tmp_path):  # 206 of another file
    old, new = noise(500_000), noise(500_000, seed=1)
    url = site.put("/a", old, drop(6 * K), *[answer(500)] * 3)
    with pytest.raises(FetchError):
        transfer.download(remote(old, url, known=False), tmp_path)
    site.put(
        "/a",
        new,
        lambda h, c: h.reply(c[6 * K :], 206, {"Content-Range": f"bytes {6 * K}-499999/500000"}, whole=c),
    )
    assert transfer.download(remote(new, url, known=False), tmp_path).read_bytes() == new
    assert site.gets("/a")[-2:] == [f"bytes={6 * K}-", None]


def test_a_server_without_ranges_sends_all_of_it_again(site, tmp_path):
    content = noise(500_000)
    url = site.put("/a", content, drop(6 * K), ignore_range)
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert len(site.gets("/a")) == 2


def test_without_validators_only_a_known_md5_allows_to_go_on(site, tmp_path):
    site.validators = False
    content = noise(500_000)
    for known, expected in ((True, f"bytes={6 * K}-"), (False, None)):
        url = site.put(f"/{known}", content, drop(6 * K))
        folder = tmp_path / str(known)
        assert transfer.download(remote(content, url, known=known), folder).read_bytes() == content
        assert site.gets(f"/{known}")[-1] == expected


def test_a_length_that_is_too_long_does_not_matter_once_the_md5_is_right(site, tmp_path):
    content = noise(300_000)
    url = site.put("/a", content, announce(400_000))
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content


def test_a_length_that_is_too_short_is_a_wrong_md5(site, tmp_path):
    content = noise(300_000)
    url = site.put("/a", content, announce(200_000))
    with pytest.raises(FetchError, match=f"its MD5 is {md5(content[:200_000])} and should be {md5(content)}"):
        transfer.download(remote(content, url), tmp_path)


def test_wrong_bytes_are_removed_and_named(site, tmp_path):
    content, wrong = noise(1000), noise(1000, seed=1)
    url = site.put("/a", content, instead(wrong))
    with pytest.raises(
        FetchError, match=f"its MD5 is {md5(wrong)} and should be {md5(content)}; what arrived was removed"
    ):
        transfer.download(remote(content, url), tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content


def test_the_second_address_is_asked_when_the_first_fails(site, tmp_path):
    content = noise(500_000)
    gone, wrong, good = site.url + "/gone", site.put("/w", content, instead(b"x")), site.put("/a", content)
    assert transfer.download(remote(content, gone, wrong, good), tmp_path).read_bytes() == content
    assert site.gets("/gone") == [None]  # 404 is not asked again


def test_the_second_address_goes_on_where_the_first_stopped(site, tmp_path):
    content = noise(500_000)
    first, second = site.put("/1", content, drop(6 * K), *[answer(502)] * 3), site.put("/2", content)
    assert transfer.download(remote(content, first, second), tmp_path).read_bytes() == content
    assert site.gets("/2") == [f"bytes={6 * K}-"]


def test_retry_after_is_kept_to(site, tmp_path, waits):
    content = noise(1000)
    url = site.put("/a", content, answer(429, Retry_After="7"), answer(500), answer(503, Retry_After="soon"))
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert waits == [7.0, 2.0, 4.0]


def test_a_server_that_asks_for_hours_is_not_waited_for(site, tmp_path, waits):
    url = site.put("/a", b"x", answer(503, Retry_After="7200"))
    with pytest.raises(FetchError, match="asked to wait 7200 s"):
        transfer.download(remote(b"x", url), tmp_path)
    assert waits == []


def test_a_date_in_retry_after_is_understood():
    late = web._refused(
        SimpleNamespace(status_code=429, reason="", headers={"Retry-After": formatdate(usegmt=True)})
    )
    assert late.asked == pytest.approx(0, abs=2) and late.again


def test_nobody_at_home_is_said_in_words(tmp_path, waits):
    with pytest.raises(FetchError, match="the server refused the connection"):
        transfer.download(remote(b"x", "http://127.0.0.1:9/a"), tmp_path)
    assert waits == [1.0, 2.0, 4.0] and list(tmp_path.iterdir()) == []


def test_progress_makes_patience_new(
    site, tmp_path, waits
):  # a long file over a line that breaks every 1.3 MB
    content = noise(9_000_000)

    def breaks(handler, content):
        first = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        area = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        handler.reply(
            content[first:], 206 if first else 200, area if first else {}, cut=40 * K, whole=content
        )

    url = site.put("/a", content, *[breaks] * 6)
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert waits == [1.0] * 6


def test_interrupting_keeps_the_part(site, tmp_path, monkeypatch):
    content = noise(900_000)
    url = site.put("/a", content)
    write = transfer._Part.write

    def interrupted(part, piece):
        write(part, piece)
        if part.size >= 300_000:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer._Part, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            transfer.download(remote(content, url), tmp_path)
    kept = (tmp_path / "images.zip.part").read_bytes()
    assert 300_000 <= len(kept) < 900_000 and content.startswith(kept)
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert site.gets("/a")[-1] == f"bytes={len(kept)}-"


def test_a_part_without_its_origin_is_not_trusted(site, tmp_path):
    content = noise(1000)
    (tmp_path / "images.zip.part").write_bytes(b"of another file")
    (tmp_path / "images.zip.part.json").write_text("{half")
    assert transfer.download(remote(content, site.put("/a", content)), tmp_path).read_bytes() == content
    assert site.gets("/a") == [None]


def test_a_part_that_was_complete_is_only_checked(site, tmp_path):
    content = noise(1000)
    url = site.put("/a", content)
    (tmp_path / "images.zip.part").write_bytes(content)
    (tmp_path / "images.zip.part.json").write_text(json.dumps({"url": url, "total": 1000}))
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content
    assert site.gets("/a") == []


def test_two_processes_do_not_write_one_part(site, tmp_path):
    content = noise(1000)
    with transfer._Part(tmp_path / "images.zip"), pytest.raises(FetchError, match="another process"):
        transfer.download(remote(content, site.put("/a", content)), tmp_path)


def test_a_disk_that_fills_up_keeps_what_arrived(site, tmp_path, monkeypatch):
    content = noise(900_000)
    url = site.put("/a", content)
    enter = transfer._Part.__enter__

    def small_disk(part):
        enter(part)
        written, write = [0], part.file.write

        def limited(piece):
            written[0] += len(piece)
            if written[0] > 500_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(piece)

        part.file = SimpleNamespace(
            write=limited, flush=part.file.flush, close=part.file.close, truncate=part.file.truncate
        )
        return part

    with monkeypatch.context() as patch:
        patch.setattr(transfer._Part, "__enter__", small_disk)
        with pytest.raises(
            FetchError, match="no space left to write .*images.zip.part. What has arrived is kept"
        ):
            transfer.download(remote(content, url), tmp_path)
    assert content.startswith((tmp_path / "images.zip.part").read_bytes())
    assert transfer.download(remote(content, url), tmp_path).read_bytes() == content


def test_an_md5_is_computed_once(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    path.write_bytes(b"one")
    assert checksums.md5_of(path) == md5(b"one")
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "feed", None)
        assert checksums.md5_of(path) == md5(b"one")
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert checksums.remembered(path) is None and checksums.md5_of(path) == md5(b"two")
    (tmp_path / ".md5.json").write_text('{"a.zip": 3}')
    assert checksums.md5_of(path) == md5(b"two")


def test_a_waiting_time_is_doubled_scattered_and_bounded():
    patience = web.Patience(attempts=9, longest=10, chance=lambda: 0.0)
    passing = web.RequestFailed("", 500, again=True)
    assert [patience.wait(k, passing) for k in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 4, 5]
    assert patience.wait(9, passing) is None and patience.wait(1, web.RequestFailed("", 404)) is None
    assert dataclasses.replace(patience, chance=lambda: 1.0).wait(3, passing) == 4


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (999, "999 bytes"), (2.219e9, "2.2 GB"), (35.4e9, "35.4 GB"), (412e6, "412 MB")],
)
def test_sizes_are_said_as_one_says_them(size, words):
    assert disk.text(size) == words
