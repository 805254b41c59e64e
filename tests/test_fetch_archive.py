"""Extraction: nothing outside its folder, nothing half-written, nothing twice."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from bad_server import noise

from bionas.errors import FetchError
from bionas.specimens.fetch import archive


def zipped(path: Path, members: dict[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = info.orig_filename = name
            info.external_attr = mode << 16
            file.writestr(info, content)
    return path


def test_an_archive_is_extracted_as_it_is_laid_out(tmp_path):
    members = {
        "bioscan5m/": b"",
        "bioscan5m/images/train/0/A.jpg": b"a" * 9000,
        "bioscan5m/images/train/f/B.jpg": b"b",
    }
    path = zipped(tmp_path / "a.zip", members)
    assert archive.extract(path, tmp_path / "out") == 2
    found = {
        str(f.relative_to(tmp_path / "out")): f.read_bytes()
        for f in (tmp_path / "out").rglob("*")
        if f.is_file()
    }
    assert found == {name: content for name, content in members.items() if content}


def test_a_second_extraction_writes_what_is_missing_or_of_another_size(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x/1": b"one", "x/2": b"two", "x/3": b"three"})
    archive.extract(path, tmp_path)
    (tmp_path / "x/1").unlink()
    (tmp_path / "x/3").write_bytes(b"")  # what a power cut may leave
    assert archive.extract(path, tmp_path) == 2
    assert [(tmp_path / f"x/{i}").read_bytes() for i in (1, 2, 3)] == [b"one", b"two", b"three"]
    assert archive.extract(path, tmp_path) == 0


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("../evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("/etc/evil", "absolute"),
        ("C:/evil", "absolute"),
        ("bioscan//etc/evil", "absolute"),
        ("bioscan/../../evil", "leads out"),
        ("..\\evil", "no name"),
        ("a\0b", "no name"),
        ("a//b", "no name"),
        ("../evil/", "leads out"),
    ],
)
def test_members_that_leave_their_folder_are_refused_before_anything_is_written(tmp_path, name, why):
    path = zipped(tmp_path / "a.zip", {"good.jpg": b"good", name: b""})
    with pytest.raises(FetchError, match=why):
        archive.extract(path, tmp_path / "deep" / "out", drop="bioscan")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]


def test_links_and_doubles_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=stat.S_IFLNK | 0o777)
    with pytest.raises(FetchError, match="is a link"):
        archive.extract(path, tmp_path / "out")
    zipped(tmp_path / "b.zip", {"x": b"1", "y": b"2"})
    (tmp_path / "b.zip").write_bytes((tmp_path / "b.zip").read_bytes().replace(b"y", b"x"))
    with pytest.raises(FetchError, match="'x' twice"):
        archive.extract(tmp_path / "b.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_is_cut_short_or_damaged_says_so(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x/1": noise(3000), "x/2": noise(3000, 1)})
    whole = path.read_bytes()
    path.write_bytes(whole[:4000])
    with pytest.raises(FetchError, match="cut short"):
        archive.extract(path, tmp_path / "out")
    path.write_bytes(whole[:3500] + bytes([whole[3500] ^ 1]) + whole[3501:])
    with pytest.raises(FetchError, match="CRC.*x/2"):
        archive.extract(path, tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out/x").iterdir()] == ["1"]  # nothing half-written


def test_extraction_asks_for_room_first(tmp_path, monkeypatch):
    path = zipped(tmp_path / "a.zip", {"x": b"1" * 5000})
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=2000))
    with pytest.raises(FetchError, match="needs 5 kB; 2 kB are free .*: 3 kB are missing"):
        archive.extract(path, tmp_path / "out")
