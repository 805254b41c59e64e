"""Whole files or none: what a full disk, a broken write or a kill leaves where a file stood."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pandas as pd
import pytest

from bionas.errors import BionasError
from bionas.system import files


def held(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "deeper" / "file.bin"
    with files.replacing(path) as file:
        file.write(b"first")
        assert not path.exists()
    with files.replacing(path) as file:
        file.write(b"sec")
        assert path.read_bytes() == b"first"
        file.write(b"ond")
    assert held(path.parent) == {"file.bin": b"second"}


def test_a_reader_never_sees_half_of_a_file(
    tmp_path,
):  # the new file takes the name, the old one keeps its bytes
    files.write_text(tmp_path / "a.txt", "before")
    with (tmp_path / "a.txt").open() as reader:
        files.write_text(tmp_path / "a.txt", "after, and longer")
        assert reader.read() == "before" and (tmp_path / "a.txt").read_text() == "after, and longer"


@pytest.mark.parametrize("error", [ValueError("half-way"), KeyboardInterrupt()])
def test_what_stood_there_stays_when_writing_fails(tmp_path, error):
    files.write_text(tmp_path / "a.txt", "before")
    with pytest.raises(type(error)), files.replacing(tmp_path / "a.txt") as file:
        file.write(b"after")
        raise error
    assert held(tmp_path) == {"a.txt": b"before"}


class FullDisk:
    """A file on which nothing more fits after `room` bytes."""

    def __init__(self, file, room, number):
        self.file, self.room, self.number = file, room, number

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content):
        self.room -= len(content)
        if self.room < 0:
            raise OSError(self.number, os.strerror(self.number))
        return self.file.write(content)


def fill(monkeypatch, number):
    opened = files.Path.open
    monkeypatch.setattr(
        files.Path, "open", lambda path, mode: FullDisk(opened(path, mode), room=4, number=number)
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG], ids=errno.errorcode.get)
def test_no_space_left_says_so_and_leaves_what_was(tmp_path, monkeypatch, number):
    files.write_text(tmp_path / "a.txt", "before")
    fill(monkeypatch, number)
    with pytest.raises(BionasError, match="no space left to write .*a.txt.*intact; free some space"):
        files.write_text(tmp_path / "a.txt", "after")
    assert held(tmp_path) == {"a.txt": b"before"}


def test_another_error_of_the_disk_is_not_taken_for_a_full_one(tmp_path, monkeypatch):
    fill(monkeypatch, errno.EIO)
    with pytest.raises(OSError, match="Input/output"):
        files.write_text(tmp_path / "a.txt", "after")
    assert held(tmp_path) == {}


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a file").write_text("")
    with pytest.raises(BionasError, match="cannot write in .*a file/folder"):
        files.write_text(tmp_path / "a file" / "folder" / "b.txt", "")


def test_what_a_killed_process_left_is_swept(tmp_path):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        gone = process.pid
    (tmp_path / "checkpoint").mkdir()
    left = tmp_path / "checkpoint" / f".last.pt.{gone}-0123abcd.part"
    writing = tmp_path / f".history.csv.{os.getppid()}-0123abcd.part"  # by a process that is still there
    others = [tmp_path / "a.part", tmp_path / ".hidden", tmp_path / ".no.number-x.part"]
    for path in (left, writing, *others):
        path.write_text("half")
    files.sweep(tmp_path)
    assert not left.exists() and all(path.exists() for path in (writing, *others))


def test_tables_and_json_read_back(tmp_path):
    frame = pd.DataFrame({"epoch": [1, 2], "loss": [0.1, 1 / 3]})
    files.write_csv(tmp_path / "t.csv", frame)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "t.csv"), frame, check_exact=True)
    assert b"\r" not in (tmp_path / "t.csv").read_bytes()
    files.write_json(tmp_path / "j.json", {"ordre": "Coléoptères", "n": [1, None]})
    assert files.read_json(tmp_path / "j.json") == {"ordre": "Coléoptères", "n": [1, None]}


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(BionasError, match="nothing.json is not there"):
        files.read_json(tmp_path / "nothing.json")
    for content in (b'{"a": 1,\n "b"', b"\xff\xfe\x00"):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(BionasError, match="bad.json is not valid JSON"):
            files.read_json(tmp_path / "bad.json")
