"""`bionas baselines`: any of Tables II and III on the same data, with the same budget, beside what was not run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pandas as pd
import pytest
from torch import nn

from bionas.__main__ import main
from bionas.errors import BaselineError, SpecimenError
from bionas.studies import comparison, report
from bionas.studies.backbones import BASELINES, ImageOnly
from bionas.system import places
from bionas.training import experiments

BY = ("augment", "inputs", "pretrained", "frozen", "model")


def linear(n_classes: int, image_size: int, **fields) -> nn.Module:
    return ImageOnly(nn.Sequential(nn.AvgPool2d(image_size // 4), nn.Flatten(), nn.Linear(48, n_classes)))


class Overflowing(nn.Linear):
    def forward(self, image, metadata=None):
        return super().forward(image.mean((2, 3))) / 0.0


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return experiments.plan("smoke", epochs=1, run_dir=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module", autouse=True)
def quick_ones():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BASELINES._things, "linear", linear)
        patch.setitem(BASELINES._things, "overflowing", lambda n, size: Overflowing(3, n))
        yield


@pytest.fixture(scope="module")
def rows(plan):
    return comparison.backbones(plan, ["overflowing", "linear"], seeds=[0, 1])


def test_every_run_has_a_row_and_a_failed_one_says_why(rows):
    assert rows["model"].tolist() == ["overflowing", "linear"] * 2 and rows["seed"].tolist() == [0, 0, 1, 1]
    assert (
        rows.loc[rows["model"] == "overflowing", "note"].str.startswith("failed: fit: the loss is nan").all()
    )
    trained = rows[rows["model"] == "linear"]
    assert (
        (trained["note"] == "").all()
        and trained["images_seen"].nunique() == 1
        and trained["accuracy"].notna().all()
    )


def test_the_summary_begins_with_the_majority_and_ends_with_what_was_not_run(rows, plan):
    table = report.summary(rows, plan, "bionas baselines", by=BY, notes=comparison.not_run(["VGG16"]))
    assert table["model"].tolist()[:3] == ["majority class", "overflowing", "linear"] and len(table) == 3 + 19
    assert table["n_seeds"].tolist()[:3] == [0, 0, 2] and table["accuracy_mean"].isna()[1]
    own = rows.loc[rows["model"] == "linear", "accuracy"].tolist()
    assert table["accuracy_mean"][2] == pytest.approx(100 * sum(own) / 2, abs=0.01)
    assert table["accuracy_sd"][2] == pytest.approx(100 * abs(own[0] - own[1]) / 2**0.5, abs=0.01)
    assert "seed 0 failed: " in table["note"][1] and "seed 1 failed: " in table["note"][1]
    (coatnet,) = table.loc[table["model"] == "CoAtNet-7", "note"]
    assert coatnet == "not run: not chosen (2,447.5 M parameters, 2,567.5 GMACs per image at 512 px)"
    assert "VGG16" not in table["model"].tolist()


def test_it_goes_on_where_it_stopped(rows, plan, monkeypatch):
    def no_more(*arguments, **options):
        raise AssertionError("a finished run is only read")

    monkeypatch.setitem(BASELINES._things, "linear", no_more)
    again = comparison.backbones(plan, ["linear"], seeds=[0, 1])
    before = rows[rows["model"] == "linear"][again.columns].reset_index(drop=True)
    pd.testing.assert_frame_equal(again.dropna(axis=1), before.dropna(axis=1), check_dtype=False)


def test_a_published_backbone_sees_the_metadata_where_it_is_asked_to(plan, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(places, "root", lambda: tmp_path)
    words = [
        "--names",
        "levit-128s",
        "--seeds",
        "0",
        "--inputs",
        "image",
        "image+metadata",
        "--frozen",
        "--out",
        "few",
    ]
    assert (
        main(["baselines", *words, "-p", "mode=smoke", "-p", "epochs=1", "-p", f"run_dir={plan.run_dir}"])
        == 0
    )
    told = capsys.readouterr().out
    assert "majority class" in told and "not run: not chosen" in told and "few_runs.csv" in told
    table = pd.read_csv(tmp_path / "data" / "results" / "few.csv")
    assert table["inputs"].tolist()[1:3] == ["image", "image+metadata"] and len(table) == 1 + 2 + 19
    runs = pd.read_csv(tmp_path / "data" / "results" / "few_runs.csv")
    assert (
        runs["parameters"].nunique() == 2 and (runs["model"] == "LeViT-128S").all() and runs["frozen"].all()
    )
    folder = experiments.plan("smoke", epochs=1, run_dir=plan.run_dir).folder()
    config = experiments.Run(folder / runs["run"][1]).config
    assert (config["baseline"], config["inputs"], config["pretrained"]) == (
        "LeViT-128S",
        "image+metadata",
        False,
    )
    assert runs["run"][1].startswith("levit-128s-metadata-")


def test_what_cannot_be_is_said_before_anything_is_trained(plan, capsys):
    def told(*words: str) -> str:
        assert (
            main(
                [
                    "baselines",
                    "--names",
                    "linear",
                    *words,
                    "-p",
                    "mode=smoke",
                    "-p",
                    f"run_dir={plan.run_dir}/none",
                ]
            )
            == 2
        )
        return capsys.readouterr().err

    assert "DeiT-Tiny cannot take images of 56 px. It takes every multiple of 16 px" in told(
        "deit-tiny", "-p", "image_size=56"
    )
    assert "CoAtNet-7 has no published weights" in told("coatnet-7", "--pretrained")
    assert "Did you mean 'efficientformer'" in told("efficientforme")
    assert "Did you mean 'image'" in told("--inputs", "images")
    with pytest.raises(BaselineError, match="join metadata by concatenation .*fusion='gating'"):
        comparison.backbones(dataclasses.replace(plan, fusion="gating"), ["linear"], [0], ["image+metadata"])
    with pytest.raises(SpecimenError, match="has no field to learn from"):
        comparison.backbones(dataclasses.replace(plan, metadata="none"), ["linear"], [0], ["image+metadata"])
    assert not (Path(plan.run_dir) / "none").exists()


def test_alone_it_lists_what_there_is(capsys):
    assert main(["baselines"]) == 0
    told = capsys.readouterr().out
    assert (
        "Big Transfer (BiT)" in told and "big-transfer-bit" in told and "the vision tower of BEiT-3" in told
    )
