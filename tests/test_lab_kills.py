"""`predict` and `train` killed by SIGKILL at random points and started again; disks that are full or read-only.

Run as a program with a folder as argument, this file does what the tests look at: it trains one model, then kills
processes that use it.
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from killing import forked, needs_fork, run_as_program
from lab_small import photographs, train

from bionas import lab
from bionas.errors import BionasError, SpecimenError
from bionas.lab import commands, predicting, writing
from bionas.lab.model import Model
from bionas.lab.photographs import AHEAD

NEW = 60


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("lab")
    train(place)
    photographs(place / "new", NEW, seed=1)
    (place / "new" / "damaged.jpg").write_bytes(b"")
    return place


# --- kills --------------------------------------------------------------------------------------------------------------


def killed_after(action, seconds: float, log: Path) -> int:
    """`action` in a process of its own that is killed after so many seconds: its exit status, or -9."""

    def with_alarm():
        signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-4))
        action()

    return forked(with_alarm, log)


def predict_killed(place: Path, kills: int) -> dict[str, int]:
    """Predict, killed `kills` times at random points of the writing and at random times; then to the end."""
    model = lab.load(place / "model")
    model.predict(
        sorted((place / "new").rglob("*.png"))[:2]
    )  # what is computed once is computed before the forks
    generator, counts = random.Random(0), {"kills": 0, "finished": 0}
    writing.SAVE_ROWS = 1
    Model.scored.__defaults__ = (None, 8)  # batches of eight, so that there are many points to die at
    photos, table = place / "new", place / "ids.csv"

    def predict() -> None:
        predicting.identify(model, photos, table, workers=1)

    def dying_within(writes: int) -> None:
        """Die half-way through the write number `writes` of the table or its journal."""
        passed = 0
        real = writing._text

        def counted(rows):
            nonlocal passed
            passed += 1
            text = real(rows)
            if passed == writes:
                with table.open("r+b") as file:  # half of the rows reach the disk
                    file.seek(0, os.SEEK_END)
                    file.write(text[: len(text) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return text

        writing._text = counted
        predict()

    started = time.monotonic()
    forked(predict, place / "log.txt")
    whole = time.monotonic() - started
    reference, status = table.read_bytes(), 0
    for kill in range(kills):
        if status == 0:  # the table is finished: begin a new one
            table.unlink(missing_ok=True)
            (place / ".ids.csv.progress.json").unlink(missing_ok=True)
        if kill % 2:
            status = forked(lambda: dying_within(generator.randint(1, 3)), place / "log.txt")
        else:
            status = killed_after(predict, generator.uniform(0, whole), place / "log.txt")
        counts["kills" if status == -signal.SIGKILL else "finished"] += 1
        assert status in (0, -signal.SIGKILL), (place / "log.txt").read_text()
    assert forked(predict, place / "log.txt") == 0, (place / "log.txt").read_text()
    counts["same"] = int(table.read_bytes() == reference)
    return counts


@pytest.mark.slow
@needs_fork
def test_predict_killed_five_times_has_every_row_once(tmp_path):
    counts = _counts(tmp_path, "predict", 5)
    assert counts["kills"] >= 2
    assert counts["same"] == 1


@needs_fork
@pytest.mark.slow
def test_predict_killed_a_hundred_times_has_every_row_once(tmp_path):
    counts = _counts(tmp_path, "predict", 100)
    assert counts["kills"] >= 50
    assert counts["same"] == 1


@needs_fork
@pytest.mark.slow
def test_train_killed_a_hundred_times_ends_in_the_same_model(tmp_path):
    counts = _counts(tmp_path, "train", 100)
    assert counts["kills"] >= 50
    assert counts["same"] == 1


def train_killed(place: Path, kills: int) -> dict[str, int]:
    """Train with fine-tuning, killed `kills` times at random steps and at either side of random writes; then to the end."""
    generator, counts, events = random.Random(0), {"kills": 0, "finished": 0}, place / "events.txt"

    def dying_at(fatal: int) -> None:
        passed, real = 0, os.replace

        def passing(*_) -> None:
            nonlocal passed
            passed += 1
            if passed == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        def replace(source, target) -> None:
            passing()
            real(source, target)
            passing()

        os.replace = replace  # of a process of its own
        train(place, epochs=3, overwrite=True, progress=passing)
        events.write_text(str(passed))

    assert forked(lambda: dying_at(0), place / "log.txt") == 0, (place / "log.txt").read_text()
    reference = (place / "model" / "model.safetensors").read_bytes()
    whole = int(events.read_text())
    for _ in range(kills):
        status = forked(lambda: dying_at(generator.randint(1, whole // 2)), place / "log.txt")
        counts["kills" if status == -signal.SIGKILL else "finished"] += 1
        assert status in (0, -signal.SIGKILL), (place / "log.txt").read_text()
    assert forked(lambda: dying_at(0), place / "log.txt") == 0, (place / "log.txt").read_text()
    counts["same"] = int((place / "model" / "model.safetensors").read_bytes() == reference)
    lab.load(place / "model")
    return counts


def _counts(folder: Path, what: str, kills: int) -> dict[str, int]:
    (folder / "asked.json").write_text(json.dumps([what, kills]))
    run_as_program(__file__, folder)
    return json.loads((folder / "counts.json").read_text())


# --- what else goes wrong -----------------------------------------------------------------------------------------------


def test_predict_counts_what_it_could_not_read_and_exits_with_zero(folder, tmp_path, capsys):
    log = tmp_path / "log.json"
    assert commands.predict(folder / "model", [folder / "new"], to=tmp_path / "ids.csv", log=log) == 0
    said = capsys.readouterr().out
    assert "unreadable: 1" in said
    assert "photographs per second" in said
    table = pd.read_csv(tmp_path / "ids.csv", keep_default_na=False)
    assert len(table) == NEW + 1 == table["file"].nunique()
    assert table.loc[table["file"] == "damaged.jpg", "reason"].item() == "cannot be read: the file is empty"
    record = json.loads(log.read_text())
    assert record["total"] == NEW + 1
    assert sum(record["counts"].values()) == NEW + 1
    assert record["model"]["sha256"] == json.loads((folder / "model" / "model.json").read_text())["sha256"]


def test_photographs_of_a_kind_that_is_not_read_are_rows_and_named(folder, tmp_path, capsys):
    photographs(tmp_path / "new", 3)
    for name in ("IMG_1.HEIC", "IMG_2.heic", "IMG_3.NEF"):
        (tmp_path / "new" / name).write_bytes(b"as a camera wrote it")
    assert commands.predict(folder / "model", [tmp_path / "new"], to=tmp_path / "ids.csv") == 0
    assert "2 .heic, 1 .nef: this kind is not read" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "ids.csv", keep_default_na=False).set_index("file")
    assert len(table) == 6 and table.loc["IMG_1.HEIC", "decision"] == "unreadable"
    assert table.loc["IMG_1.HEIC", "reason"] == "cannot be read: .heic cannot be read: convert it to JPEG"


def test_a_finished_table_has_no_lock_beside_it(folder, tmp_path):
    photographs(tmp_path / "new", 2)
    lab.identify(lab.load(folder / "model"), tmp_path / "new", tmp_path / "ids.csv")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "ids.csv", ".ids.csv.progress.json"}


def test_predict_fails_only_where_nothing_can_be_read(folder, tmp_path):
    (tmp_path / "photographs").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "photographs" / name).write_bytes(b"no image")
    assert commands.predict(folder / "model", [tmp_path / "photographs"], to=tmp_path / "ids.csv") == 1


def test_a_table_cut_short_within_its_header_is_begun_again(folder, tmp_path, monkeypatch):
    model, to = lab.load(folder / "model"), tmp_path / "ids.csv"

    def cut_short(table):
        table._file.truncate(20)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, pytest.raises(BionasError):
        patch.setattr(writing.GrowingTable, "_save", cut_short)
        lab.identify(model, folder / "new", to)
    assert to.stat().st_size <= 20
    found = lab.identify(model, folder / "new", to)
    assert (found.before, found.total) == (0, NEW + 1)
    assert pd.read_csv(to)["file"].nunique() == NEW + 1


def test_memory_does_not_grow_with_the_number_of_photographs(folder):
    class Counted(list):
        """Photographs that know how far they were read."""

        read = 0

        def __getitem__(self, place):
            self.read = max(self.read, place.stop)
            return super().__getitem__(place)

    many = Counted(sorted((folder / "new").rglob("*.png")) * 20)
    stream = lab.load(folder / "model").scored(many, workers=1, batch=4)
    for done in range(1, 30):
        next(stream)
        assert many.read <= 4 * (done + AHEAD)  # a few batches ahead, however many follow
    stream.close()


def test_new_photographs_are_added_to_a_finished_table(folder, tmp_path):
    photographs(tmp_path / "new", 4)
    model = lab.load(folder / "model")
    lab.identify(model, tmp_path / "new", tmp_path / "ids.csv")
    photographs(tmp_path / "new" / "later", 2)
    found = lab.identify(model, tmp_path / "new", tmp_path / "ids.csv")
    assert (found.before, found.total) == (4, 6)
    assert pd.read_csv(tmp_path / "ids.csv")["file"].is_unique


def test_tables_that_cannot_be_continued_are_left_alone(folder, tmp_path):
    model, to = lab.load(folder / "model"), tmp_path / "ids.csv"
    to.write_text("file,order\na.jpg,Diptera\n")
    with pytest.raises(BionasError, match="--overwrite"):
        lab.identify(model, folder / "new", to)
    assert to.read_text() == "file,order\na.jpg,Diptera\n"
    lab.identify(model, folder / "new", to, overwrite=True)
    with pytest.raises(BionasError, match="error_rate: 0.2 there, 0.3 now"):
        lab.identify(model, folder / "new", to, error_rate=0.3)
    to.write_text("")
    with pytest.raises(BionasError, match="shorter"):
        lab.identify(model, folder / "new", to)
    with pytest.raises(BionasError, match="is a folder"):
        lab.identify(model, folder / "new", tmp_path)


def test_places_without_photographs_are_refused(folder, tmp_path):
    model = lab.load(folder / "model")
    for place, match in ((tmp_path, "no photographs in"), (tmp_path / "missing", "is not there")):
        with pytest.raises(SpecimenError, match=match):
            lab.identify(model, place, tmp_path / "ids.csv")
    assert not (tmp_path / "ids.csv").exists()


def test_a_full_disk_is_said_and_the_table_continues_afterwards(folder, tmp_path, monkeypatch):
    model, to = lab.load(folder / "model"), tmp_path / "ids.csv"
    real, saves = os.fsync, []

    def full(descriptor):
        if to.exists() and os.path.samestat(os.fstat(descriptor), to.stat()):
            saves.append(descriptor)
            if len(saves) == 3:  # the header, the first batch, and here the second
                raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(writing, "SAVE_ROWS", 1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BionasError, match=r"(?i)no space left"):
        lab.identify(model, folder / "new", to)
    monkeypatch.setattr(os, "fsync", real)
    found = lab.identify(model, folder / "new", to)
    assert 0 < found.before < found.total == NEW + 1
    assert pd.read_csv(to)["file"].nunique() == NEW + 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(folder, tmp_path):
    place = tmp_path / "locked"
    place.mkdir()
    place.chmod(0o500)
    with pytest.raises(BionasError, match="may write"):
        lab.identify(lab.load(folder / "model"), folder / "new", place / "ids.csv")
    with pytest.raises(BionasError, match="may write"):
        lab.train(folder / "photographs", place / "model", model_kind="searched")


def test_a_folder_that_refuses_files_is_said(folder, tmp_path, monkeypatch):
    def refused(self, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    model = lab.load(folder / "model")
    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(BionasError, match="Permission denied"):
        lab.identify(model, folder / "new", tmp_path / "ids.csv")


if __name__ == "__main__":
    place = Path(sys.argv[1])
    what, kills = json.loads((place / "asked.json").read_text())
    photographs(place / "photographs", 90)
    photographs(place / "new", NEW, seed=1)
    if what == "predict":
        train(place)
    counts = predict_killed(place, kills) if what == "predict" else train_killed(place, kills)
    (place / "counts.json").write_text(json.dumps(counts))
