"""`bionas fetch bioscan5m` and `bioscan1m`: what is offered, and what the command does with it."""

from __future__ import annotations

import io
import shutil
import zipfile
from types import SimpleNamespace

import bad_server
import pytest
from bad_server import K, answer, drop, md5, names, noise
from bioscan_dataset import BIOSCAN1M, BIOSCAN5M

from bionas.__main__ import main
from bionas.errors import FetchError, UnknownName
from bionas.specimens.fetch import disk, transfer
from bionas.specimens.fetch.catalogue import OFFERS

site, waits = bad_server.site, bad_server.waits
pytestmark = pytest.mark.usefixtures("waits")


def test_the_catalogue_is_that_of_bioscan_dataset():
    offer = OFFERS["bioscan5m"]()
    listed = {file.urls[0]: file.md5 for parts in offer.packages.values() for file in parts.values()}
    assert listed == {f["url"]: f["md5"] for files in BIOSCAN5M.zip_files.values() for f in files.values()}
    assert (
        offer.metadata.urls == tuple(BIOSCAN5M.meta["urls"])
        and offer.metadata.md5 == BIOSCAN5M.meta["archive_md5"]
    )
    small = OFFERS["bioscan1m"]()
    assert small.metadata.name == "bioscan1m/" + BIOSCAN1M.meta["filename"]
    assert small.metadata.md5 == BIOSCAN1M.meta["csv_md5"]


@pytest.mark.parametrize(
    ("split", "parts"),
    [
        ("train+eval", ["eval", "train"]),
        ("pretrain", ["pretrain01", "pretrain02"]),
        ("pretrain02", ["pretrain02"]),
        ("val", ["eval"]),
        ("validation + test_unseen", ["eval"]),
        ("seen", ["eval", "train"]),
        ("unseen", ["eval"]),
        ("all", ["eval", "pretrain01", "pretrain02", "train"]),
    ],
)
def test_a_split_is_in_the_files_that_bioscan_dataset_fetches_for_it(split, parts, monkeypatch):
    chosen = OFFERS["bioscan5m"]().choose("cropped_256", split)
    assert [file.urls[0] for file in chosen] == [
        BIOSCAN5M.zip_files[part]["cropped_256"]["url"] for part in parts
    ]
    if split not in ("pretrain02", "train+eval"):  # words of ours: the names of the files
        asked = []
        fake = SimpleNamespace(
            split=split.replace("validation", "val").replace(" ", ""),
            image_package="cropped_256",
            _check_integrity_images=lambda *words, **more: False,
            _download_image_zip=asked.append,
        )
        BIOSCAN5M._download_images(fake, verbose=0)
        assert sorted(asked) == parts


def test_what_is_not_offered_is_said_with_what_is():
    offer = OFFERS["bioscan5m"]()
    with pytest.raises(UnknownName, match="Did you mean 'cropped_256'"):
        offer.choose("croped_256", "train")
    with pytest.raises(UnknownName, match="Did you mean 'train'.* Known: .*other_heldout"):
        offer.choose("cropped_256", "trian")
    with pytest.raises(
        FetchError,
        match=r"by hand from https://zenodo.org/records/\d+ or https://.*bioscan5m/images/original_256/",
    ):
        offer.choose("original_256", "train")
    with pytest.raises(FetchError, match="say which splits"):
        offer.choose("cropped_256")
    with pytest.raises(FetchError, match="is one file: leave out --split"):
        OFFERS["bioscan1m"]().choose("cropped_256", "train")
    assert offer.choose() == [] and offer.choose(metadata=True) == [offer.metadata]


# --- the command, BIOSCAN ---------------------------------------------------------------------------------------


@pytest.fixture
def bioscan(site, monkeypatch):
    """bioscan-dataset's catalogues, with addresses on loopback."""
    content = {}

    def packed(name, members):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as opened:
            for member, value in members.items():
                opened.writestr(member, value)
        content[name] = file.getvalue()
        return {"url": site.put("/files/" + name, file.getvalue()), "md5": md5(file.getvalue())}

    parts = {"eval": "eval", "pretrain01": "pretrain.01", "pretrain02": "pretrain.02", "train": "train"}
    monkeypatch.setattr(
        BIOSCAN5M,
        "zip_files",
        {
            part: {
                "cropped_256": packed(
                    f"BIOSCAN_5M_cropped_256_{end}.zip",
                    {f"bioscan5m/images/cropped_256/{part}/A.jpg": noise(3 * K, seed=i)},
                )
            }
            for i, (part, end) in enumerate(parts.items())
        },
    )
    table = packed(
        "metadata.zip", {"bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv": b"processid\nA\n"}
    )
    monkeypatch.setattr(
        BIOSCAN5M,
        "meta",
        {
            **BIOSCAN5M.meta,
            "urls": [site.url + "/gone/metadata.zip", table["url"]],
            "archive_md5": table["md5"],
        },
    )
    monkeypatch.setattr(
        BIOSCAN1M, "zip_files", {"cropped_256": packed("cropped_256.zip", {"bioscan/images/1.jpg": b"j"})}
    )
    tsv = b"sampleid\tprocessid\n"
    monkeypatch.setattr(
        BIOSCAN1M, "meta", {**BIOSCAN1M.meta, "urls": [site.put("/files/m.tsv", tsv)], "csv_md5": md5(tsv)}
    )
    return content


def test_fetching_two_parts_and_the_table(bioscan, site, tmp_path, capsys):
    words = ["fetch", "bioscan5m", "--package", "cropped_256", "--split", "train+eval", "--metadata"]
    assert main([*words, "--data-dir", str(tmp_path)]) == 0
    expected = {"metadata.zip", "BIOSCAN_5M_cropped_256_train.zip", "BIOSCAN_5M_cropped_256_eval.zip"}
    assert names(tmp_path) == expected  # nothing extracted unasked
    assert all((tmp_path / name).read_bytes() == bioscan[name] for name in expected)
    said = capsys.readouterr().out
    assert said.index("needed, ") < said.index("fetched, MD5 right") and "Nothing was extracted" in said

    asked = len([entry for entry in site.log if entry[0] == "GET"])
    assert main([*words, "--data-dir", str(tmp_path), "--extract"]) == 0
    assert len([entry for entry in site.log if entry[0] == "GET"]) == asked  # what is there and right stays
    assert names(tmp_path) - expected == {
        "bioscan5m/images/cropped_256/train/A.jpg",
        "bioscan5m/images/cropped_256/eval/A.jpg",
        "bioscan5m/metadata/csv/BIOSCAN_5M_Insect_Dataset_metadata.csv",
    }


def test_bioscan1m_lies_where_bioscan_dataset_looks_for_it(bioscan, tmp_path):
    words = ["--package", "cropped_256", "--metadata", "--extract", "--data-dir", str(tmp_path)]
    assert main(["fetch", "bioscan1m", *words]) == 0
    assert names(tmp_path) == {
        "BIOSCAN_1M_cropped_256.zip",
        "bioscan1m/BIOSCAN_Insect_Dataset_metadata.tsv",
        "bioscan1m/images/1.jpg",
    }


def test_a_wrong_file_that_is_already_there_is_replaced(bioscan, tmp_path, capsys):
    path = tmp_path / "BIOSCAN_5M_cropped_256_train.zip"
    path.write_bytes(b"half of it")
    assert main(["fetch", "bioscan5m", "--split", "train", "--data-dir", str(tmp_path)]) == 0
    assert path.read_bytes() == bioscan[path.name] and "but its MD5 is" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(bioscan, site, tmp_path, capsys):
    site.heads = False
    there = tmp_path / "new"
    assert main(["fetch", "bioscan5m", "--split", "all", "--data-dir", str(there), "--dry-run"]) == 0
    assert not there.exists() and all(method == "HEAD" for method, _, _ in site.log)
    said = capsys.readouterr().out
    assert "unknown  BIOSCAN_5M_cropped_256_pretrain.01.zip: size unknown, the server answered 4" in said


def test_a_dry_run_without_a_network_says_so_and_fails(bioscan, tmp_path, capsys):
    for sizes in BIOSCAN5M.zip_files.values():
        sizes["cropped_256"]["url"] = "http://127.0.0.1:1/" + sizes["cropped_256"]["url"].rpartition("/")[2]
    words = ["fetch", "bioscan5m", "--split", "train", "--data-dir", str(tmp_path), "--dry-run"]
    assert main(words) == 2
    said = capsys.readouterr()
    assert "unknown  BIOSCAN_5M_cropped_256_train.zip: size unknown, " in said.out
    assert "sizes of 1 of 1 files could not be asked" in said.err and "Look at the network" in said.err


def test_what_does_not_fit_is_refused_before_it_is_begun(bioscan, site, tmp_path, monkeypatch, capsys):
    train = len(bioscan["BIOSCAN_5M_cropped_256_train.zip"])
    words = ["fetch", "bioscan5m", "--split", "train", "--data-dir", str(tmp_path)]
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=train + 10))
    assert main([*words, "--extract"]) == 2  # the archive would fit, but not what is in it
    assert f"{disk.text(train - 10)} are missing" in capsys.readouterr().err
    assert names(tmp_path) == set() and main(words) == 0
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=10))
    site.heads = False  # sizes unknown beforehand: the first answer tells
    assert main(["fetch", "bioscan5m", "--split", "eval", "--data-dir", str(tmp_path)]) == 2
    assert "the rest of BIOSCAN_5M_cropped_256_eval.zip needs" in capsys.readouterr().err


def test_the_rest_of_a_part_is_all_that_has_to_fit(bioscan, site, tmp_path, monkeypatch):
    name = "BIOSCAN_5M_cropped_256_train.zip"
    site.misdeeds["/files/" + name].extend([drop(K), *[answer(500)] * 3])
    words = ["fetch", "bioscan5m", "--split", "train", "--data-dir", str(tmp_path)]
    assert main(words) == 2 and (tmp_path / (name + ".part")).stat().st_size == K
    monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=len(bioscan[name]) - K))
    assert main(words) == 0 and (tmp_path / name).read_bytes() == bioscan[name]


def test_interrupting_the_command_keeps_the_part_and_says_so(bioscan, tmp_path, monkeypatch, capsys):
    write = transfer._Part.write

    def interrupted(part, piece):
        write(part, piece)
        raise KeyboardInterrupt

    monkeypatch.setattr(transfer._Part, "write", interrupted)
    assert main(["fetch", "bioscan5m", "--split", "train", "--data-dir", str(tmp_path)]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert (tmp_path / "BIOSCAN_5M_cropped_256_train.zip.part").stat().st_size > 0


def test_what_was_typed_wrongly_is_answered_in_a_sentence(bioscan, site, tmp_path, capsys):
    there = ["--data-dir", str(tmp_path)]
    for words, why in (
        (["bioscan5"], "Did you mean 'bioscan5m'"),
        (["bioscan5m", "--split", "train"], "--data-dir DIR"),
        (["bioscan5m", "--limit", "3", *there], "--limit does not belong to bioscan5m"),
        (["insects1m", "--extract", *there], "--extract does not belong to insects1m"),
        (["insects1m", *there], "--records FILE.json"),
        (["bioscan1m", "--package", "cropped", *there], "by hand"),
    ):
        assert main(["fetch", *words]) == 2
        assert why in capsys.readouterr().err
    assert main(["fetch", "bioscan5m"]) == 0 and "pretrain02" in capsys.readouterr().out
    assert site.log == []
